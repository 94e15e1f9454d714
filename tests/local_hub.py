"""A Hugging Face Hub on this machine with one data set: uploads, commits, tags and reading, for the real clients.

They talk to it where `HF_ENDPOINT` names it, with `HF_HUB_DISABLE_XET=1`: large files then go by the protocol of git-lfs.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_local"
_REGULAR = (".md", ".json", ".gitattributes")  # what git itself keeps; the rest is large


class Hub:
    """One data set.

    Attributes:
        url: for `HF_ENDPOINT`.
        commits: commit → path → content, in their order.
        refs: branch or tag → commit.
        large: content by its SHA-256, as uploaded, committed or not.
        asked: "METHOD path" of each request.
        uploads_left: after so many uploads of large files the connection is cut, each time; None for never.
        silent: a pattern of requests ("METHOD path") that are taken and never answered; "" for none.
        closed: set in the end, when those who wait for an answer are let go.
    """

    def __init__(self, url: str, repo: str):
        self.url, self.repo = url, repo
        self.commits: dict[str, dict[str, bytes]] = {}
        self.refs: dict[str, str] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.uploads_left: int | None = None
        self.silent = ""
        self.closed = threading.Event()
        self.lock = threading.Lock()

    def files(self, revision: str) -> dict[str, bytes] | None:
        """Of a branch, a tag or a commit; None if there is no such."""
        return self.commits.get(self.refs.get(revision, revision))

    def commit(self, files: dict[str, bytes]) -> str:
        """Make it the newest."""
        known = json.dumps([len(self.commits), {path: hashlib.sha1(data).hexdigest() for path, data in files.items()}])
        name = hashlib.sha1(known.encode()).hexdigest()
        self.commits[name] = files
        self.refs["main"] = name
        return name


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    def _any(self) -> None:
        self.route, self.query = unquote(urlsplit(self.path).path), parse_qs(urlsplit(self.path).query)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.hub.lock:
            self.hub.asked.append(f"{self.command} {self.route}")
        if self.hub.silent and re.match(self.hub.silent, f"{self.command} {self.route}"):
            self.close_connection = True
            self.hub.closed.wait()
            return None
        for pattern, answer in _ROUTES:
            if found := re.fullmatch(pattern.replace("REPO", re.escape(self.hub.repo)), f"{self.command} {self.route}"):
                return answer(self, *found.groups())
        self._json({"error": "Not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    do_GET = do_HEAD = do_POST = do_PUT = _any

    def _json(self, value, status: int = 200, headers=None) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def _send(self, status: int, content: bytes, headers) -> None:
        self.send_response(status)
        for key, text in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(key, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def create(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._json({"error": "Invalid credentials"}, 401)
        if self.hub.commits:
            return self._json({"url": f"{self.hub.url}/datasets/{self.hub.repo}"}, 409)
        self.hub.commit({".gitattributes": b""})
        self._json({"url": f"{self.hub.url}/datasets/{self.hub.repo}"})

    def preupload(self, revision: str) -> None:
        def known(path: str):
            content = (self.hub.files(revision) or {}).get(path)
            return None if content is None else _oid(path, content)

        files = [file["path"] for file in json.loads(self.body)["files"]]
        modes = {path: "regular" if path.endswith(_REGULAR) else "lfs" for path in files}
        self._json(
            {"files": [{"path": p, "uploadMode": m, "shouldIgnore": False, "oid": known(p)} for p, m in modes.items()]}
        )

    def batch(self) -> None:
        objects = [(one["oid"], one["size"]) for one in json.loads(self.body)["objects"]]
        upload = lambda oid: {"upload": {"href": f"{self.hub.url}/large/{oid}"}}  # noqa: E731
        self._json({
            "transfer": "basic",
            "objects": [{"oid": o, "size": n} | ({} if o in self.hub.large else {"actions": upload(o)}) for o, n in objects],
        })  # fmt: skip

    def upload(self, oid: str) -> None:
        with self.hub.lock:
            cut = self.hub.uploads_left == 0
            if not cut and self.hub.uploads_left is not None:
                self.hub.uploads_left -= 1
        if cut:
            self.close_connection = True
            return
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._json({"error": "other bytes"}, 400)
        self.hub.large[oid] = self.body
        self._send(200, b"", {})

    def commit(self, revision: str) -> None:
        files = dict(self.hub.files(revision) or {})
        for line in self.body.splitlines():
            key, value = (entry := json.loads(line))["key"], entry["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        name = self.hub.commit(files)
        self._json({"commitUrl": f"{self.hub.url}/datasets/{self.hub.repo}/commit/{name}", "commitOid": name})

    def info(self, revision: str = "main") -> None:
        files = self.hub.files(revision)
        if files is None:
            return self._json({"error": "No such revision"}, 404, {"X-Error-Code": "RevisionNotFound"})
        self._json({
            "_id": "0", "id": self.hub.repo, "sha": self.hub.refs.get(revision, revision), "private": False, "tags": [],
            "downloads": 0, "likes": 0, "lastModified": "2026-01-01T00:00:00.000Z",
            "siblings": [{"rfilename": path} for path in files],
        })  # fmt: skip

    def tree(self, revision: str, below: str | None = None) -> None:
        files, recursive = self.hub.files(revision) or {}, self.query.get("recursive") in (["true"], ["True"], ["1"])
        found, folders, root = [], set(), f"{below}/" if below else ""
        for path, content in sorted(files.items()):
            if not path.startswith(root):
                continue
            parts = path.removeprefix(root).split("/")
            folders |= {root + "/".join(parts[:n]) for n in range(1, len(parts) if recursive else min(2, len(parts)))}
            if recursive or len(parts) == 1:
                found.append(_described(path, content))
        if below and not found and not folders:
            return self._json({"error": "Not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        self._json(
            [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)] + found
        )

    def paths_info(self, revision: str) -> None:
        files = self.hub.files(revision) or {}
        if self.headers.get("Content-Type", "").startswith("application/json"):
            paths = json.loads(self.body)["paths"]
        else:
            paths = parse_qs(self.body.decode()).get("paths", [])
        folder = lambda path: any(name.startswith(f"{path}/") for name in files)  # noqa: E731
        self._json(
            [_described(path, files[path]) for path in paths if path in files]
            + [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in paths if folder(path)]
        )

    def resolve(self, revision: str, path: str) -> None:
        files, commit = self.hub.files(revision), self.hub.refs.get(revision, revision)
        if files is None:
            return self._json({}, 404, {"X-Error-Code": "RevisionNotFound"})
        if path not in files:
            return self._json({}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        content = files[path]
        headers = {"ETag": f'"{_oid(path, content)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            begin, end = int(found[1]), min(int(found[2] or len(content)) + 1, len(content))
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
            return self._send(206, content[begin:end], headers)
        self._send(200, content, headers)


def _oid(path: str, content: bytes) -> str:
    """As the Hub names contents: large ones by SHA-256, others as git does."""
    if not path.endswith(_REGULAR):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _described(path: str, content: bytes) -> dict:
    oid = _oid(path, content)
    large = {} if path.endswith(_REGULAR) else {"lfs": {"oid": oid, "size": len(content), "pointerSize": 130}}
    return {"type": "file", "path": path, "size": len(content), "oid": oid[:40]} | large


_ROUTES = (
    (r"POST /api/repos/create", _Handler.create),
    (r"POST /api/datasets/REPO/preupload/([^/]+)", _Handler.preupload),
    (r"POST /datasets/REPO\.git/info/lfs/objects/batch", _Handler.batch),
    (r"PUT /large/([0-9a-f]{64})", _Handler.upload),
    (r"POST /api/datasets/REPO/commit/([^/]+)", _Handler.commit),
    (r"POST /api/validate-yaml", lambda self: self._json({"errors": [], "warnings": []})),
    (r"GET /api/datasets/REPO", _Handler.info),
    (r"GET /api/datasets/REPO/revision/([^/]+)", _Handler.info),
    (r"GET /api/datasets/REPO/tree/([^/]+)(?:/(.+))?", _Handler.tree),
    (r"POST /api/datasets/REPO/paths-info/([^/]+)", _Handler.paths_info),
    (r"(?:GET|HEAD) /datasets/REPO/resolve/([^/]+)/(.+)", _Handler.resolve),
)


@contextmanager
def serving(repo: str = "user/name") -> Iterator[tuple[Hub, dict[str, str]]]:
    """The Hub, on a free port; and the environment of a process that takes it for the real one, and is logged in."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.hub = hub = Hub(f"http://127.0.0.1:{server.server_port}", repo)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    environment = {
        "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_DATASETS_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip
    try:
        yield hub, environment
    finally:
        hub.closed.set()
        server.shutdown()
        server.server_close()
