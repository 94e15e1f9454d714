"""Shards put together: the same rows in fewer files, whatever kills it and whenever."""

import json
import os
import shutil
import uuid
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gallery import shards
from gallery.index import find_shards
from gallery.queries import Gallery
from gallery.schema import ROW_GROUP
from lsd.errors import LSDError
from precompute import plan as planning
from precompute import work
from precompute.__main__ import main
from precompute.compact import PACKED, compact
from precompute.publish import assemble
from precompute.run import run
from precompute.status import status
from precompute.storage import Storage


@pytest.fixture(scope="module")
def plan(plan_of):
    """Eight tasks of two units, of two models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "UNITS", 2)
        return plan_of("class:0-6", models=["demo:resnet", "demo:vit"], steps=1)


@pytest.fixture(scope="module")
def _run(plan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compact") / "run"
    assert not run(plan, str(folder)).failures
    return folder


@pytest.fixture
def folder(_run, tmp_path) -> Path:
    return Path(shutil.copytree(_run, tmp_path / "run"))


def test_the_rows_are_the_same_in_one_file_a_model(plan, folder, rows_in, monkeypatch, capsys):
    before = rows_in(folder, ())
    assert main(["compact", str(folder)]) == 0
    assert "8 files of pictures before, 2 now" in capsys.readouterr().out
    paths = find_shards(folder)
    assert [path.name.startswith(PACKED) for path in paths] == [True, True] and rows_in(folder, ()) == before
    monkeypatch.setattr(work, "make_rows", lambda task: pytest.fail("made again"))
    report = run(plan, str(folder))
    assert report.pictures == report.reused == 14 and report.failures == []
    found = status(Storage(str(folder)), deep=True)
    assert (found.tasks_done, found.damaged) == (8, ())
    gallery = Gallery(folder)
    assert gallery.rows == 14 and "changed since" not in gallery.origin
    assert assemble(folder, "user/name", folder.with_name("set")) == 14
    assert compact(Storage(str(folder))).after == 2  # and once more does nothing


def test_row_groups_are_small_and_files_are_bounded(folder):
    largest = max(path.stat().st_size for path in find_shards(folder))
    compact(Storage(str(folder)), 2 * largest)
    paths = find_shards(folder)
    assert len(paths) == 4
    for path in paths:
        metadata = pq.read_metadata(path)
        assert all(metadata.row_group(i).num_rows <= ROW_GROUP for i in range(metadata.num_row_groups))


def test_a_bucket_is_compacted_as_well(plan, folder, rows_in, tmp_path):
    bucket, disk = Storage(f"memory://{uuid.uuid4().hex}/run"), Storage(str(folder))
    for path in (*disk.sizes("plans"), *disk.sizes("done"), *disk.sizes("data")):
        bucket.put(path, disk.get(path))
    done = compact(bucket)
    assert (done.before, done.after) == (8, 2) and status(bucket, deep=True).damaged == ()
    for path in bucket.sizes("data"):
        Storage(str(tmp_path / "copy")).put(path, bucket.get(path))
    assert rows_in(tmp_path / "copy") == rows_in(folder)


class Killed(BaseException):
    """As of kill -9: nothing of what would follow is done."""


def test_a_kill_at_any_step_loses_no_row_and_the_next_time_none_is_there_twice(folder, rows_in, monkeypatch, tmp_path):
    before, steps = rows_in(folder, ()), 0
    put, delete = Storage.put, Storage.delete
    for last in range(100):
        victim = Path(shutil.copytree(folder, tmp_path / f"killed-{last}"))
        steps = 0

        def walk(action):
            def call(*arguments):
                nonlocal steps
                steps += 1
                if steps > last:  # noqa: B023
                    raise Killed
                return action(*arguments)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(Storage, "put", walk(put))
            patch.setattr(Storage, "delete", walk(delete))
            try:
                compact(Storage(str(victim)))
            except Killed:
                pass
            else:
                break
        there = {row["unit_id"]: row for path in find_shards(victim) for row in shards.read_rows(path)}
        assert there == before, last
        found = status(Storage(str(victim)), deep=True)
        assert (found.tasks_done, found.damaged) == (8, ()), last
        compact(Storage(str(victim)))
        assert rows_in(victim, ()) == before and status(Storage(str(victim)), deep=True).tasks_done == 8, last
        assert not list((victim / "packing").iterdir())
        shutil.rmtree(victim)
    assert last == 2 * (
        1 + 1 + 4 + 4 + 1
    )  # of each model: written down, a large shard, four markers, four small shards, done


def test_failed_rows_that_were_packed_are_made_again(plan, folder, rows_in):
    task = plan.tasks[0]
    path = folder / task.shard
    rows = shards.read_rows(path)
    rows[0] |= {"status": "failed", "error": "It broke.", "picture": None, "thumbnail": None}
    data = shards.table_bytes(shards.to_table(rows))
    path.write_bytes(data)
    marker = folder / task.marker
    record = json.loads(marker.read_text()) | {"sha256": work.sha256(data), "bytes": len(data)}
    marker.write_text(json.dumps(record | {"failures": [[rows[0]["unit_id"], "It broke."]]}))
    compact(Storage(str(folder)))
    assert run(plan, str(folder)).failures == [(rows[0]["unit_id"], "It broke.")]
    assert run(plan, str(folder), again=True).failures == []
    assert Gallery(folder).entry(rows[0]["unit_id"]).status == "ok"


def test_a_damaged_shard_is_named_and_nothing_is_lost(plan, folder):
    path = folder / plan.tasks[0].shard
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    names = sorted(os.listdir(path.parent))
    with pytest.raises(LSDError, match=f"{path.name} in .* is damaged; delete it"):
        compact(Storage(str(folder)))
    assert sorted(os.listdir(path.parent)) == names


@pytest.mark.parametrize("text", ["", "null", "{}", '{"shard": "a"}'])
def test_a_damaged_note_of_what_was_begun_is_named(folder, text):
    (folder / "packing").mkdir()
    (folder / "packing" / "ab.json").write_text(text)
    with pytest.raises(LSDError, match=r"packing/ab\.json in .* is damaged; delete it"):
        compact(Storage(str(folder)))


def test_a_task_that_was_made_again_since_a_kill_keeps_its_own_shard(plan, folder, monkeypatch):
    put = Storage.put

    def killed(self, path, data, *check):
        put(self, path, data, *check)
        if PACKED in path:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "put", killed)
        with pytest.raises(Killed):
            compact(Storage(str(folder)))
    task = plan.tasks[0]
    (folder / task.marker).unlink()
    run(plan, str(folder))  # its shard has another time of making
    data = (folder / task.shard).read_bytes()
    compact(Storage(str(folder)))
    assert (folder / task.shard).read_bytes() == data and status(Storage(str(folder)), deep=True).damaged == ()


@pytest.mark.parametrize("finished", [0, 5])
def test_a_run_asks_a_bucket_little_before_it_begins(plan, folder, monkeypatch, finished):
    """One listing and the markers that are there, several at once; not a request for each task."""
    bucket, disk = Storage(f"memory://{uuid.uuid4().hex}/run"), Storage(str(folder))
    for task in plan.tasks[:finished]:
        for path in (task.shard, task.marker):
            bucket.put(path, disk.get(path))
    asked = []
    for method in ("find", "cat", "cat_file", "info", "ls"):
        original = getattr(bucket._fs, method)
        told = lambda *a, method=method, original=original, **k: asked.append(method) or original(*a, **k)  # noqa: E731
        monkeypatch.setattr(bucket._fs, method, told)
    assert len(work.all_finished(plan.tasks, bucket)) == finished
    assert asked.count("find") == 1 and asked.count("cat_file") == finished and asked.count("info") <= 2
