"""A run in a bucket that speaks S3 over HTTP (moto's server, here), and one that is busy, slow, or hangs up.

The client is s3fs, as anybody has it who writes `--output s3://…`.
"""

import itertools
import random
import socket
import threading
import time
import uuid
from pathlib import Path

import pytest

from benchmarks.precompute_kill import TINY, rows_of
from precompute import engines
from precompute import storage as storing
from precompute.run import run
from precompute.status import status
from precompute.storage import BusyError, Storage

for _package in ("s3fs", "moto", "werkzeug"):
    pytest.importorskip(_package, reason="buckets are not tested: pip install s3fs 'moto[server]'")
pytestmark = pytest.mark.cluster

BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


class Shaky:
    """An application of which each request may meet a fault first: "busy" (503), "slow", "dropped", or "" for none."""

    def __init__(self, app):
        self.app, self.faults, self.met = app, itertools.repeat(""), []
        self._lock = threading.Lock()

    def __call__(self, environ, start_response):
        with self._lock:
            fault = next(self.faults)
            self.met.append(fault)
        if fault == "busy":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(BUSY)))])
            return [BUSY]
        if fault == "dropped":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError
        if fault == "slow":
            time.sleep(0.2)
        return self.app(environ, start_response)


@pytest.fixture(scope="module")
def server():
    """moto's server on a free port of this machine, in a thread; `FSSPEC_S3_…` lead everybody there."""
    import fsspec.config
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    shaky = Shaky(DomainDispatcherApplication(create_backend_app))
    http = make_server("127.0.0.1", 0, shaky, threaded=True)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    # A failed request is asked again by s3fs, and then by the storage, but not by the library below both as well.
    once = {"config_kwargs": {"retries": {"max_attempts": 0}}}
    settings = {"endpoint_url": f"http://127.0.0.1:{http.server_port}", "key": "a", "secret": "b"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fsspec.config.conf, "s3", settings | once)
        for name, value in settings.items():
            patch.setenv(f"FSSPEC_S3_{name.upper()}", value)
        patch.setattr(storing, "_PAUSES", (0.05, 0.1, 0.2))
        patch.setattr(engines, "_PAUSES", (0, 0))
        fsspec.filesystem("s3").mkdir("bucket")
        yield shaky
    http.shutdown()


@pytest.fixture
def url(server) -> str:
    server.faults, server.met = itertools.repeat(""), []
    return f"s3://bucket/{uuid.uuid4().hex}/run"


@pytest.fixture(scope="module")
def plan():
    from precompute import plan as planning
    from precompute.settings import read

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "UNITS", TINY)
        return planning.make_plan(read({"models": ["demo:resnet"], "units": ["class:0-3"], "steps": 2}))


@pytest.fixture(scope="module")
def expected(plan, tmp_path_factory):
    """The rows of an undisturbed run on a disk."""
    folder = tmp_path_factory.mktemp("disk") / "run"
    assert run(plan, str(folder)).failures == []
    return rows_of(folder)


def copied(storage: Storage, folder: Path) -> Path:
    """What is in a bucket, on a disk."""
    for path in (*storage.sizes("data"), *storage.sizes("done"), *storage.sizes("plans")):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(storage.get(path))
    return folder


def test_files_are_whole_listed_and_gone(url):
    storage, other = Storage(url), Storage(url)
    assert other.sizes("data") == {} and other.get("data/m/a") is None and other.size("data/m/a") is None
    storage.put("data/m/a", b"one")
    storage.put("data/m/a", b"other")
    storage.put("data/m/.hidden", b"")
    assert other.get("data/m/a") == b"other" and other.size("data/m/a") == 5 and other.sizes("data") == {"data/m/a": 5}
    assert other.get_all(["data/m/a", "data/m/b"]) == {"data/m/a": b"other"} and other.names("data/m", "a") == [
        "data/m/a"
    ]
    other.delete("data/m/a")
    other.delete("data/m/a")
    assert storage.get("data/m/a") is None and storage.clean() == 0


@pytest.mark.parametrize("fault", ["busy", "dropped", "slow"])
def test_a_run_in_a_bucket_that_is_shaky_has_the_rows_of_one_on_a_disk(server, url, fault, expected, tmp_path, plan):
    dice = random.Random(0)
    server.faults = (fault if dice.random() < 0.2 else "" for _ in itertools.count())
    report = run(plan, url)
    assert report.failures == [] and report.pictures == 4 and server.met.count(fault) > 3
    assert status(Storage(url), deep=True).damaged == ()
    server.faults = itertools.repeat("")
    assert rows_of(copied(Storage(url), tmp_path / "copy")) == expected


def test_a_bucket_that_is_busy_for_good_is_told_and_the_same_run_goes_on(server, url, plan):
    import s3fs

    storage = Storage(url)
    server.faults = itertools.repeat("busy")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(BusyError, match="cannot be used"):
        patch.setattr(s3fs.S3FileSystem, "retries", 1)  # it pauses for minutes
        storage.put("a", b"")
    server.faults = itertools.repeat("")
    assert run(plan, url).pictures == 4
