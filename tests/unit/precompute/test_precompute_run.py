"""A run: it makes what is not there, goes on where another stopped, and says how it went; and `status`, which looks on."""

import os
import subprocess
import sys
import uuid
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from gallery import shards
from lsd.errors import LSDError
from precompute import plan as planning
from precompute import run as running
from precompute import work
from precompute.plan import Plan
from precompute.run import planned, run
from precompute.status import status
from precompute.storage import Storage, StorageError


@pytest.fixture
def few(monkeypatch):
    """Two units a task."""
    monkeypatch.setattr(planning, "UNITS", 2)


def test_a_run_makes_shards_markers_a_plan_a_card_and_an_index(plan_of, tmp_path, few, rows_in):
    plan = plan_of("class:0-2")
    report = run(plan, str(tmp_path))
    assert report.pictures == 3 and report.reused == 0 and report.failures == [] and 0 < report.ascent < report.seconds
    assert {path.name for path in tmp_path.iterdir()} == {"data", "done", "plans", "README.md", "index.parquet"}
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*") if path.parent != tmp_path} == {
        *(task.shard for task in plan.tasks), *(task.marker for task in plan.tasks),
        next((tmp_path / "plans").iterdir()).relative_to(tmp_path).as_posix(),
    }  # fmt: skip
    assert len(rows_in(tmp_path)) == 3
    assert pq.read_table(tmp_path / "index.parquet")["unit"].to_pylist() == ["class/0", "class/1", "class/2"]


def test_a_run_that_is_done_makes_nothing_again(plan_of, tmp_path, few, monkeypatch):
    plan = plan_of("class:0-2")
    run(plan, str(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.parquet")}
    monkeypatch.setattr(work, "make_rows", lambda task: pytest.fail("made again"))
    report = run(plan, str(tmp_path))
    assert report.pictures == report.reused == 3 and report.ascent == 0
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.parquet")}


def test_a_run_makes_only_what_is_missing_and_all_rows_are_as_of_one_run(plan_of, tmp_path, few, rows_in):
    plan = plan_of("class:0-5")
    run(plan, str(tmp_path / "whole"))
    run(Plan(plan.tasks[:1], ()), str(tmp_path / "parts"))
    (tmp_path / "parts" / plan.tasks[0].marker).unlink()
    report = run(Plan(plan.tasks[1:2], ()), str(tmp_path / "parts"))
    assert report.reused == 0
    report = run(plan, str(tmp_path / "parts"))
    assert report.reused == 2 and report.pictures == 6
    assert rows_in(tmp_path / "parts") == rows_in(tmp_path / "whole")


@pytest.mark.parametrize("change", [{"steps": 3}, {"quality": 50}, {"verifiers": ["demo:vit"]}, {"batch_size": 1}])
def test_changed_settings_never_take_up_old_rows(plan_of, tmp_path, change):
    run(plan_of("class:0"), str(tmp_path))
    assert run(plan_of("class:0", **change), str(tmp_path)).reused == 0
    assert run(plan_of("class:0"), str(tmp_path)).reused == 1


def test_changed_weights_never_take_up_old_rows(plan_of, tmp_path, small_model, monkeypatch):
    from safetensors.torch import load_file, save_file

    from lsd.models import ModelCache

    name = small_model()
    before = plan_of("class:0", models=[name])
    run(before, str(tmp_path / "run"))
    weights = tmp_path / name / "model.safetensors"
    save_file({key: value * 1.01 for key, value in load_file(weights).items()}, weights)
    monkeypatch.setattr("lsd.models._cache", ModelCache())
    after = plan_of("class:0", models=[name])
    assert (
        after.tasks[0].hash != before.tasks[0].hash and after.tasks[0].weights_digest != before.tasks[0].weights_digest
    )
    assert run(after, str(tmp_path / "run")).reused == 0
    again = run(Plan((replace(before.tasks[0], seeds=(1,)),), ()), str(tmp_path / "run"))
    assert "are not those of the plan" in again.failures[0][1] and again.pictures == 0


def test_what_a_killed_run_left_is_removed(plan_of, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "data").mkdir()
    left = tmp_path / "data" / f".a.parquet.{os.uname().nodename}.{dead.pid}.0a.tmp"
    left.write_bytes(b"PAR1 half")
    run(plan_of("class:0"), str(tmp_path))
    assert not left.exists()


def test_a_unit_that_fails_is_told_and_the_run_goes_on(plan_of, tmp_path, few, monkeypatch):
    plan = plan_of("class:0-3")
    original = work._make

    def broken(model, jobs, task, others, numbers):
        for result, error in original(model, jobs, task, others, numbers):
            if error is None and str(result.picture.job.unit) == "class/1":
                yield result.picture.job, "It broke."
            else:
                yield result, error

    with monkeypatch.context() as patch:
        patch.setattr(work, "_make", broken)
        report = run(plan, str(tmp_path))
    ((what, sentence),) = report.failures
    assert "/class/1/" in what and sentence == "It broke." and report.pictures == 4
    assert run(plan, str(tmp_path)).failures == report.failures and run(plan, str(tmp_path)).reused == 4
    mended = run(plan, str(tmp_path), again=True)
    assert mended.failures == [] and mended.reused == 2


def test_a_task_that_fails_altogether_leaves_the_others_and_is_tried_again(plan_of, tmp_path, few, monkeypatch):
    plan = plan_of("class:0-3")
    with monkeypatch.context() as patch:
        original = work.make_rows
        patch.setattr(work, "make_rows", lambda task: original(task) if task == plan.tasks[1] else 1 / 0)
        report = run(plan, str(tmp_path))
    assert report.failures == [(plan.tasks[0].title, "ZeroDivisionError: division by zero")] and report.pictures == 2
    report = run(plan, str(tmp_path))
    assert not report.failures and report.pictures == 4 and report.reused == 2


def test_a_dead_device_makes_no_rows_and_a_healthy_one_all(plan_of, tmp_path, few, monkeypatch):
    """Three tasks running, three tries each, and the others are not even tried."""
    plan, tries = plan_of("class:0-9", "layer3:channels:6"), []

    def dead(model, jobs, *arguments, **settings):
        tries.append(len(jobs))
        raise RuntimeError("CUDA error: device-side assert triggered")

    with monkeypatch.context() as patch:
        patch.setattr(work, "ascend_jobs", dead)
        report = run(plan, str(tmp_path))
    assert tries == [2] * 9 and report.pictures == 0 and len(report.failures) == 4
    assert (
        report.failures[-1][0] == "5 more tasks" and "Not tried: the device failed at 3 tasks" in report.failures[-1][1]
    )
    assert status(Storage(str(tmp_path))).tasks_done == 0
    report = run(plan, str(tmp_path))
    assert (report.pictures, report.reused, report.failures) == (16, 0, [])


def test_a_machine_that_recovers_is_no_failure(plan_of, tmp_path, few, monkeypatch):
    plan, original, tries = plan_of("class:0-3"), work.ascend_jobs, []

    def shaky(*arguments, **settings):
        tries.append(1)
        if len(tries) in (1, 2, 4):
            raise OSError(5, "Input/output error")
        return original(*arguments, **settings)

    monkeypatch.setattr(work, "ascend_jobs", shaky)
    report = run(plan, str(tmp_path))
    assert (report.pictures, report.failures, len(tries)) == (4, [], 5)


def test_a_full_disk_stops_the_run_and_what_was_finished_stays(plan_of, tmp_path, few, monkeypatch):
    plan = plan_of("class:0-3")
    put = Storage.put

    def full(self, path, data, *check):
        if path == plan.tasks[1].shard:
            raise StorageError("There is no room left.")
        put(self, path, data, *check)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "put", full)
        with pytest.raises(StorageError):
            run(plan, str(tmp_path))
    assert run(plan, str(tmp_path)).reused == 2


def test_a_bucket_will_do_and_has_the_same_rows(plan_of, tmp_path, few, rows_in):
    plan, url = plan_of("class:0-2"), f"memory://{uuid.uuid4().hex}/run"
    assert run(plan, url).pictures == 3 and run(plan, url).reused == 3
    storage = Storage(url)
    for task in plan.tasks:
        storage_rows = shards.read_rows(storage.get(task.shard))
        assert [row["status"] for row in storage_rows] == ["ok"] * len(task.units)
        Storage(str(tmp_path)).put(task.shard, storage.get(task.shard))
    assert storage.get("index.parquet") is None and storage.get("README.md").startswith(b"---")
    run(plan, str(tmp_path / "disk"))
    assert rows_in(tmp_path) == rows_in(tmp_path / "disk")
    found = status(storage, deep=True)
    assert found.tasks_done == found.tasks == 2 and found.damaged == ()


def test_engines_have_names(plan_of, tmp_path):
    with pytest.raises(LSDError, match="There is no engine “slurm”; choose one of local, ray"):
        run(plan_of("class:0"), str(tmp_path), engine="slurm")


def test_progress_counts_pictures_over_all_tasks_and_within_one(plan_of, tmp_path, few, monkeypatch):
    seen = []

    class Bar:
        def __init__(self, total, initial, **settings):
            self.n = initial
            seen.append((initial, total))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            seen.append("closed")

        def update(self, more):
            self.n += more
            seen.append(self.n)

        def set_postfix(self, failed, refresh):
            seen.append(f"{failed} failed")

    import tqdm

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    plan = plan_of("class:0-4", steps=4)
    run(Plan(plan.tasks[:1], ()), str(tmp_path))
    seen.clear()
    run(plan, str(tmp_path))
    assert seen[0] == (2, 5) and seen[-1] == "closed" and seen[-2] == 5 and seen[-3] == "0 failed"
    counts = [n for n in seen if isinstance(n, int)]
    assert counts == sorted(counts) and set(counts) == {2, 3, 4, 5}


def test_a_plan_is_kept_once_and_found_again(plan_of, tmp_path, few):
    storage = Storage(str(tmp_path))
    first, second = plan_of("class:0-2"), plan_of("class:0-2", steps=3)
    for plan in (first, first, second):
        running.keep_plan(plan, storage)
    assert len(storage.names("plans", ".json")) == 2
    assert {task.hash for task in planned(storage)} == {task.hash for task in (*first.tasks, *second.tasks)}


@pytest.mark.parametrize("text", ["", "null", "{}", '{"tasks": [{}]}', '{"tasks": 7}', "\x00"])
def test_a_damaged_plan_is_named(plan_of, tmp_path, text):
    running.keep_plan(plan_of("class:0"), Storage(str(tmp_path)))
    (path,) = (tmp_path / "plans").iterdir()
    path.write_text(text)
    with pytest.raises(LSDError, match=f"plans/{path.name} in .* is damaged; delete it"):
        status(Storage(str(tmp_path)))


def test_where_nothing_was_run_there_is_no_status(tmp_path):
    with pytest.raises(LSDError, match="No run has been started in"):
        status(Storage(str(tmp_path)))


def test_status_counts_what_is_planned_and_what_is_there(plan_of, tmp_path, few):
    plan = plan_of("class:0-4", seeds=2)
    running.keep_plan(plan, Storage(str(tmp_path)))
    found = status(Storage(str(tmp_path)))
    assert (found.tasks, found.tasks_done, found.pictures, found.pictures_done) == (3, 0, 10, 0)
    assert found.seconds_a_picture is None
    run(Plan(plan.tasks[:2], ()), str(tmp_path))
    found = status(Storage(str(tmp_path)))
    assert (found.tasks, found.tasks_done, found.pictures, found.pictures_done) == (3, 2, 10, 8)
    assert found.seconds_a_picture > 0 and found.failures == () and found.damaged == ()


def test_status_finds_a_shard_that_rots_without_losing_a_byte(finished_run):
    (path,) = (finished_run / "data").rglob("*.parquet")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert status(Storage(str(finished_run))).damaged == ()
    assert status(Storage(str(finished_run)), deep=True).damaged == (path.relative_to(finished_run).as_posix(),)
