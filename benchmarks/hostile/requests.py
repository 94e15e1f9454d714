"""Requests that no browser makes: addresses, files that were never offered, routes with what they do not expect."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from benchmarks.hostile.page import PREFIX
from benchmarks.hostile.values import MARKUP, MODELS, TEXTS


@dataclass(frozen=True)
class Ask:
    """One request; `kind` says what it is an example of."""

    kind: str
    method: str
    path: str
    content: bytes = b""
    headers: dict = field(default_factory=dict)


def requests(secret: str, session: str) -> Iterator[Ask]:
    """All of them.

    Args:
        secret: the path of a file that nobody is offered.
        session: of a visitor.
    """
    texts = [*TEXTS[:5], "x" * 4000, *TEXTS[6:], *MODELS]
    for text in texts:
        shown = quote(text.encode("utf-8", "surrogatepass"), safe="")
        for query in (f"u={shown}", f"tab={shown}", f"tab=saliency&model={shown}&set={shown}"):
            yield Ask("query strings", "GET", f"/?{query}")
        yield Ask("the gallery's pictures", "GET", f"/gallery-picture?u={shown}")
    for query in (
        "u=%",
        "u=%zz",
        "u=%ff%fe",
        "&&&===",
        "?" * 50,
        "u[]=1&u[$ne]=2",
        "__theme=" + MARKUP,
        "view=" + "a" * 50,
    ):
        yield Ask("query strings", "GET", f"/?{quote(query, safe='%&=?')}")
        yield Ask("the gallery's pictures", "GET", f"/gallery-picture?{quote(query, safe='%&=?')}")
    up = "../" * 12
    for path in (
        secret, "/etc/passwd", f"{up}etc/passwd", quote(f"{up}etc/passwd", safe=""), "..%5c..%5cetc", "/proc/self/environ",
        "app.py", "lsd/public.py", "./.git/config", ".env", "/dev/zero", "http://127.0.0.1:1/", "file:///etc/passwd", "\u202e",
        "%00", "~root",
    ):  # fmt: skip
        for route in (
            f"/{PREFIX}/file=",
            f"/{PREFIX}/file/",
            "/file=",
            f"/{PREFIX}/proxy=",
            "/static/",
            "/assets/",
            "/svelte/",
        ):
            yield Ask("files", "GET", route + quote(path, safe="%/:"))
    for name in (
        "custom_component/1/client/component/style.css",
        "custom_component/../../x/y",
        "stream/a/b/c/playlist.m3u8",
    ):
        yield Ask("files", "GET", f"/{PREFIX}/{name}")
    yield from _routes(session)
    yield from _uploads()


def _routes(session: str) -> Iterator[Ask]:
    bodies: list = [
        {}, [], None, "x", {"data": None}, {"data": []}, {"data": [], "fn_index": -1, "session_hash": session},
        {"data": [], "fn_index": 10**6, "session_hash": session}, {"data": [1] * 10_000, "fn_index": 0, "session_hash": session},
        {"data": [], "fn_index": "0", "session_hash": {"a": 1}}, {"data": {}, "fn_index": None, "session_hash": "../x"},
        {"component_id": 10**6, "fn_name": "__class__", "data": None, "session_hash": session},
        {"component_id": 1, "fn_name": "postprocess", "data": None, "session_hash": session},
        {"event_id": "x", "session_hash": session, "fn_index": 0}, {"data": [], "api_name": "predict", "trigger_id": "a"},
    ]  # fmt: skip
    raw = [json.dumps(body).encode() for body in bodies] + [
        b"{",
        b"\xff\xfe",
        b'{"data": ' + b"[" * 5000,
        b'{"data":[NaN], "fn_index": 1e999}',
    ]
    posts = (
        "queue/join", "run/predict", "run/nothing", "api/predict", "call/predict", "call/nothing", "call/v2/predict", "cancel",
        "reset", "component_server", "stream/x", "stream/x/close", "process_recording", "upload", "run-history/connect", "mcp/",
        "vibe-edit",
    )  # fmt: skip
    for route in posts:
        for body in raw:
            yield Ask("routes", "POST", f"/{PREFIX}/{route}", body, {"Content-Type": "application/json"})
    for route in (
        "deep_link?session_hash=../x", f"deep_link?session_hash={session}", "upload_progress?upload_id=x", "call/predict/nothing",
        "run-history/records", "queue/status", "info?all_endpoints=true", "openapi.json", "startup-events", "profiling/traces",
    ):  # fmt: skip
        yield Ask("routes", "GET", f"/{PREFIX}/{route}" if not route.startswith("deep") else f"/gradio_api/{route}")
    for route in (
        "/monitoring",
        "/monitoring/summary",
        "/monitoring/x",
        "/config?deep_link=../../x",
        "/?deep_link=..%2f..%2fx",
        "/pwa_icon/x",
    ):
        yield Ask("routes", "GET", route)
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"):
        yield Ask("routes", method, "/")
        yield Ask("routes", method, f"/{PREFIX}/upload")


def _uploads() -> Iterator[Ask]:
    names = (
        "../../../x.png", "/etc/cron.d/x", "..\\..\\x", "a/b/c.png", ".", "..", "", "x" * 5000 + ".png", "\u202egnp.exe",
        "a\0b.png", "con.png", "-rf", "x.svg", "x.html", MARKUP + ".png",
    )  # fmt: skip
    for name in names:
        yield multipart(name, b"not a picture")
    head = {"Content-Type": "multipart/form-data"}
    yield Ask("uploads", "POST", f"/{PREFIX}/upload", b"no boundary", head)
    yield Ask(
        "uploads",
        "POST",
        f"/{PREFIX}/upload?upload_id=../x",
        b"",
        head | {"Content-Type": "multipart/form-data; boundary=a"},
    )
    yield Ask(
        "uploads", "POST", f"/{PREFIX}/upload", b"--a\r\n\r\n", {"Content-Type": "multipart/form-data; boundary=a"}
    )
    yield multipart("large.png", bytes(26 * 2**20))


def multipart(name: str, content: bytes) -> Ask:
    """An upload of a file of any name."""
    shown = name.encode("utf-8", "surrogatepass").replace(b'"', b"%22").replace(b"\r", b"").replace(b"\n", b"")
    head = (
        b'--a\r\nContent-Disposition: form-data; name="files"; filename="'
        + shown
        + b'"\r\nContent-Type: image/png\r\n\r\n'
    )
    body = head + content + b"\r\n--a--\r\n"
    return Ask("uploads", "POST", f"/{PREFIX}/upload", body, {"Content-Type": "multipart/form-data; boundary=a"})
