"""A Hugging Face Hub on this machine, as far as downloads go: the real client talks to it where `HF_ENDPOINT` names it."""

import hashlib
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c" * 40
_FILE = re.compile(r"/(?:datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/([^?]+)")


class Hub:
    """What it has, what is wrong with it, and what it was asked.

    Attributes:
        url: for `HF_ENDPOINT`.
        files: repository → name → content.
        fault: "" for none, a status ("429", "503"), "slow" (each answer takes `delay` seconds), "cut" (the connection ends in the
            middle of a file), or "drips" (each byte of a file takes `delay` seconds, until the fault is mended).
        asked: (method, path, headers) of each request.
    """

    def __init__(self, url: str, files: Mapping[str, Mapping[str, bytes]]):
        self.url, self.files, self.fault, self.delay = (
            url,
            {repo: dict(named) for repo, named in files.items()},
            "",
            1.0,
        )
        self.asked: list[tuple[str, str, dict]] = []


@contextmanager
def serving(files: Mapping[str, Mapping[str, bytes]]) -> Iterator[Hub]:
    """A Hub with these repositories, models and data sets alike, on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self._answer()

        def do_GET(self):
            self._answer()

        def log_message(self, *_):
            pass

        def _answer(self) -> None:
            hub.asked.append((self.command, self.path, dict(self.headers)))
            if hub.fault == "slow":
                time.sleep(hub.delay)
            if hub.fault.isdecimal():
                return self._send(int(hub.fault), b"", {"Retry-After": "0"})
            found = _FILE.match(self.path)
            repo, name = (found[1], found[3]) if found else ("", "")
            if repo not in hub.files:
                return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
            if name not in hub.files[repo]:
                return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            content = hub.files[repo][name]
            etag = hashlib.sha256(content).hexdigest()
            self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"})

        def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
            begin = int(re.findall(r"\d+", self.headers.get("Range", "bytes=0-"))[0]) if status == 200 else 0
            self.send_response(206 if begin else status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            if self.command == "HEAD":
                return
            if hub.fault == "cut":
                self.wfile.write(content[begin : begin + (len(content) - begin) // 2])
                self.close_connection = True
                return
            while hub.fault == "drips" and begin < len(content):
                self.wfile.write(content[begin : begin + 1])
                begin += 1
                time.sleep(hub.delay)
            self.wfile.write(content[begin:])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_port}", files)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
