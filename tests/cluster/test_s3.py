"""A run in a bucket that speaks S3 over HTTP (moto's server, here), and one that is busy, slow, or hangs up.

The client is s3fs, as anybody has it who writes `--output s3://…`.
"""

import itertools
import json
import multiprocessing
import os
import re
import sys
import uuid
from collections import Counter

import pytest

from benchmarks import precompute_kill as core
from benchmarks.bucket import FAULTS, serving
from benchmarks.precompute_kill import TINY, rows_of
from gallery.bucket import open_bucket
from gallery.filters import Filters
from gallery.index import NAME, build, covered
from gallery.queries import Gallery
from gallery.schema import ROW_GROUP
from lsd.errors import LSDError
from precompute import engines, work
from precompute import storage as storing
from precompute.__main__ import main
from precompute.compact import compact
from precompute.run import run
from precompute.status import status
from precompute.storage import BusyError, Storage

for _package in ("s3fs", "moto", "werkzeug"):
    pytest.importorskip(_package, reason="buckets are not tested: pip install s3fs 'moto[server]'")
pytestmark = pytest.mark.cluster
FORKS = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module")
def server():
    """moto's server on a free port of this machine, in a thread; fsspec finds it."""
    import fsspec.config

    with serving() as (shaky, environment), pytest.MonkeyPatch.context() as patch:
        patch.setitem(fsspec.config.conf, "s3", json.loads(environment["FSSPEC_S3"]))
        patch.setattr(storing, "_PAUSES", (0.05, 0.1, 0.2))
        patch.setattr(engines, "_PAUSES", (0, 0))
        yield shaky


@pytest.fixture
def url(server) -> str:
    server.calm()
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


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_in_a_bucket_that_is_shaky_has_the_rows_of_one_on_a_disk(server, url, fault, expected, tmp_path, plan):
    server.faults = itertools.cycle(("", fault, ""))
    report = run(plan, url)
    assert report.failures == [] and report.pictures == 4 and server.met.count(fault) > 2
    assert compact(Storage(url)).after == 1 and status(Storage(url), deep=True).damaged == ()
    server.calm()
    assert rows_of(url) == expected


def test_a_bucket_that_is_busy_for_good_is_told_and_the_same_run_goes_on(server, url, plan):
    import s3fs

    storage = Storage(url)
    server.shake(1, 0, ("busy",))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(BusyError, match="cannot be used"):
        patch.setattr(s3fs.S3FileSystem, "retries", 1)  # it pauses for minutes
        storage.put("a", b"")
    server.calm()
    assert run(plan, url).pictures == 4


def asked(server, url: str) -> Counter:
    """What was asked for since the last time, by what it was."""
    below = url.removeprefix("s3:/")
    kinds = [re.sub(r"[0-9a-f]{16}", "*", request.replace(below, "")) for request in server.asked]
    server.asked.clear()
    return Counter(kinds)


def test_a_task_takes_three_requests_and_its_run_one_listing(server, url, plan, monkeypatch):
    """Of an empty folder the client asks two things more, to be sure of that."""
    before = []
    make_rows = work.make_rows
    monkeypatch.setattr(work, "make_rows", lambda task: (before.append(len(server.asked)), make_rows(task))[1])
    run(plan, url)
    assert before[0] <= 5  # the listing, the plan, the card
    assert asked(server, url) == {
        "GET /bucket": 2, "HEAD ": 1, "PUT /plans/*.json": 1, "PUT /README.md": 1,
        "PUT /data/demo_resnet/*.parquet": 2, "PUT /done/*.json": 2, "GET /data/demo_resnet/*.parquet": 2,
    }  # fmt: skip
    assert run(plan, url).reused == 4
    assert asked(server, url) == {"GET /bucket": 1, "GET /done/*.json": 2}


def test_compacting_takes_four_requests_a_task(server, url, plan):
    run(plan, url)
    asked(server, url)
    assert compact(Storage(url)).after == 1
    packed, of_tasks = asked(server, url), ("GET /done/*.json", "GET /data/demo_resnet/*.parquet", "PUT /done/*.json")
    assert [packed[name] for name in (*of_tasks, "DELETE /data/demo_resnet/*.parquet")] == [2, 2, 2, 2]
    assert packed["GET /bucket"] <= 8


class Forked:
    """A command in a process forked from one that has everything imported, with the bucket; as `core.Process`."""

    def __init__(self, command):
        import fsspec.config

        self._process = FORKS.Process(target=_main, args=(command, fsspec.config.conf["s3"]))
        self._process.start()
        self.pid = self._process.pid

    def wait(self, seconds=None):
        self._process.join(seconds)
        return self._process.exitcode


def _main(command, settings) -> None:
    import fsspec.config
    import torch

    import precompute.plan

    os.setsid()
    torch.set_num_threads(1)
    fsspec.config.conf["s3"] = settings
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, for as long as the process lives
    precompute.plan.UNITS = TINY
    sys.exit(main(command))


def test_runs_and_compactions_that_are_killed_in_a_shaky_bucket_lose_no_row(server, url, tmp_path):
    """The core is that of `benchmarks/precompute_kill.py --bucket`."""
    FORKS.set_forkserver_preload(["precompute.__main__", "precompute.run", "precompute.plan", "s3fs", "timm", "tqdm"])
    server.shake(0.1, 0)
    where = lambda path: f"{url}/{path.name}"  # noqa: E731
    killed = core.torture(tmp_path, 3, units=1, models=("demo:resnet",), start=Forked, where=where)
    assert killed.total() == 3
    core.torture_compaction(where(tmp_path / "killed-1"), 1, start=Forked)
    core.use(where(tmp_path / "killed-1"), tmp_path, start=Forked)
    assert all(server.met.count(fault) for fault in FAULTS)


def test_a_gallery_in_a_bucket_is_looked_at_where_it_lies(server, url, plan, tmp_path, monkeypatch):
    run(plan, url)
    with pytest.raises(
        LSDError, match=f"The gallery at {url} has no index: python -m precompute compact {url} makes it"
    ):
        open_bucket(url)
    assert main(["compact", url]) == 0
    storage = Storage(url)
    for path in storage.sizes("data"):
        Storage(str(tmp_path)).put(path, storage.get(path))
    build(tmp_path)
    there, here = open_bucket(url), Gallery(tmp_path)
    assert (
        there.origin == f"The bucket {url}."
        and not there.is_local
        and there.facets(Filters()) == here.facets(Filters())
    )
    ours, theirs = (gallery.page(Filters()).entries for gallery in (here, there))
    server.calm()
    assert ours == theirs and there.thumbnails(theirs) == here.thumbnails(ours)
    assert (
        len(server.asked) <= 2
    )  # the footer, and the row group: here one file that is small enough to be fetched whole
    for entry in ours:
        assert there.details(entry) == here.details(entry) and there.picture(entry) == here.picture(entry)
    monkeypatch.setattr("gallery.bucket._WHOLE", 0)  # as large ones are read
    apart = open_bucket(url)
    server.calm()
    assert apart.thumbnails(theirs) == here.thumbnails(ours) and len(server.asked) <= 5
    assert apart.details(theirs[0]) == here.details(ours[0]) and len(server.asked) <= 12
    storage.delete(theirs[0].shard)
    with pytest.raises(LSDError, match=r"parquet in s3://.* cannot be read \(.*\); is the bucket in reach\?"):
        open_bucket(url).picture(theirs[0])


def test_the_index_of_a_bucket_is_that_of_a_disk(server, url, plan, tmp_path):
    run(plan, url)
    storage, disk = Storage(url), Storage(str(tmp_path))
    storage.put("data/demo_resnet/damaged.parquet", b"no parquet")
    for path in storage.sizes("data"):
        disk.put(path, storage.get(path))
    from precompute.indexed import build as build_anywhere

    there, here = build_anywhere(storage), build_anywhere(disk)
    assert (there.rows, there.shards, there.dropped) == (here.rows, here.shards, here.dropped) == (4, 2, 0)
    assert there.damaged.keys() == here.damaged.keys() == {"data/demo_resnet/damaged.parquet"}
    fetched = tmp_path / "fetched.parquet"
    fetched.write_bytes(storage.get(NAME))
    assert covered(fetched) == covered(here.path)
    read = [Gallery(tmp_path).page(Filters()).entries, open_bucket(url).page(Filters()).entries]
    assert read[0] == read[1] and len(read[0]) == 4 < ROW_GROUP


def test_a_copy_of_a_bucket_has_its_files_and_no_others(server, url, plan, tmp_path):
    from precompute.copied import on_disk

    run(plan, url)
    copy, storage = tmp_path / "copy", Storage(url)
    assert on_disk(storage, copy) == copy and rows_of(copy) == rows_of(url)
    compact(storage)
    (copy / "data/demo_resnet/half.parquet").write_bytes(b"")
    server.calm()
    assert rows_of(on_disk(storage, copy)) == rows_of(url) and len(list(copy.rglob("*.parquet"))) == 1
    server.calm()
    on_disk(storage, copy)
    assert [request.split()[0] for request in server.asked] == ["GET"]  # the listing: nothing is fetched twice
    assert on_disk(Storage(str(copy)), tmp_path / "another") == copy
