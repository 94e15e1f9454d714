"""A bucket on this machine that speaks S3 over HTTP (moto's server), and that is busy, slow, or hangs up when told to."""

import itertools
import json
import logging
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

FAULTS = ("busy", "slow", "dropped", "unheard", "cut")
_BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
_SLOW = 0.2  # seconds


class Shaky:
    """An application of which each request may meet a fault: "" is none; "busy" a 503; "slow" a late answer; "dropped" hangs up
    in place of it; "unheard" does as it was asked, and then hangs up; "cut" hangs up in the middle of the answer.

    Attributes:
        faults: of the next requests, in turn.
        asked: method and path of each request so far.
        met: its fault.
    """

    def __init__(self, app):
        self.app, self.faults = app, itertools.repeat("")
        self.asked: list[str] = []
        self.met: list[str] = []
        self._lock = threading.Lock()

    def calm(self) -> None:
        """No faults from now on, and nothing is remembered."""
        with self._lock:
            self.faults, self.asked, self.met = itertools.repeat(""), [], []

    def shake(self, share: float, seed: int, kinds: tuple[str, ...] = FAULTS) -> None:
        """From now on such a share of the requests meets faults of these kinds, by chance."""
        chance = random.Random(seed)
        with self._lock:
            self.faults = (chance.choice(kinds) if chance.random() < share else "" for _ in itertools.count())

    def __call__(self, environ, start_response):
        with self._lock:
            fault = next(self.faults)
            self.met.append(fault)
            self.asked.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        if fault == "busy":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(_BUSY)))])
            return [_BUSY]
        if fault == "dropped":
            return _hang_up(environ)
        if fault == "slow":
            time.sleep(_SLOW)
        if fault not in ("unheard", "cut"):
            return self.app(environ, start_response)
        said = []
        answer = b"".join(self.app(environ, lambda status, headers, *_: said.append((status, headers))))
        if fault == "unheard" or not answer:
            return _hang_up(environ)
        start_response(*said[0])
        return _half(environ, answer)


def _hang_up(environ) -> list[bytes]:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError


def _half(environ, answer: bytes) -> Iterator[bytes]:
    yield answer[: len(answer) // 2]
    _hang_up(environ)


@contextmanager
def serving() -> Iterator[tuple[Shaky, dict[str, str]]]:
    """The server, in a thread, on a free port, with a bucket called “bucket”; and the environment in which fsspec finds it."""
    import s3fs
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    shaky = Shaky(DomainDispatcherApplication(create_backend_app))
    http = make_server("127.0.0.1", 0, shaky, threaded=True)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    # A failed request is asked again by s3fs, and then by the storage, but not by the library below both as well.
    settings = {
        "endpoint_url": f"http://127.0.0.1:{http.server_port}", "key": "a", "secret": "b",
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }  # fmt: skip
    try:
        s3fs.S3FileSystem(**settings, skip_instance_cache=True).mkdir("bucket")
        shaky.calm()
        yield shaky, {"FSSPEC_S3": json.dumps(settings)}
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
