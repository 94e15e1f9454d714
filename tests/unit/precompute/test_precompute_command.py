"""`python -m precompute`: what it prints, and its exit status."""

import json
import re
import runpy
import sys
import uuid

import pytest

from gallery import shards
from gallery.index import find_shards
from precompute import __main__ as command
from precompute import plan as planning
from precompute import publish as publishing
from precompute import work
from precompute.__main__ import main
from precompute.cost import Costs
from precompute.storage import Storage, StorageError

QUICK = ["--models", "demo:resnet", "--units", "class:0-2", "--steps", "2"]


def make(folder, *arguments):
    return main(["run", *QUICK, "--output", str(folder), *arguments])


def ten_seconds_a_task(monkeypatch):
    monkeypatch.setattr(Costs, "seconds", lambda self, task: 10.0)


def test_a_plan_is_printed_and_nothing_is_done(tmp_path, capsys, monkeypatch):
    ten_seconds_a_task(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert main(["plan", *QUICK, "--recipe", "lucid", "none"]) == 0
    told = capsys.readouterr()
    *recipes, whole, basis = told.out.splitlines()
    assert recipes == [f"demo:resnet, {recipe}: 3 pictures, about 17 KB, about 10 s" for recipe in ("lucid", "none")]
    assert whole == "2 tasks, 6 pictures, about 34 KB, about 20 s"
    assert re.match(
        r"an estimate for this machine \(cpu, \d+ threads\) with one worker, from two steps of each network", basis
    )
    assert told.err == "looking at demo:resnet\n" and not list(tmp_path.iterdir())


def test_a_plan_tells_what_a_budget_leaves_and_counts_only_what_is_not_there(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(planning, "UNITS", 2)
    ten_seconds_a_task(monkeypatch)
    asked = [*QUICK, "--units", "class:0-5", "--output", str(tmp_path), "--budget", "10s"]
    for there, left in ((0, 2), (1, 1)):
        assert main(["plan", *asked]) == 0
        first, *_, last = capsys.readouterr().out.splitlines()
        assert first == f"{there} tasks, {2 * there} pictures are there already"
        assert last == f"left for another time: {left} tasks, {2 * left} pictures"
        assert main(["run", *asked]) == 0
        told = capsys.readouterr().out
        assert f"{2 * there + 2} rows, 2 of them made in" in told
        assert f"left for another time: {left} tasks, {2 * left} pictures; the same command goes on with them" in told
    assert main(["run", *asked]) == 0 and "6 rows, 2 of them made" in (told := capsys.readouterr().out)
    assert "left for another time" not in told
    assert main(["plan", *asked]) == 0 and capsys.readouterr().out == "3 tasks, 6 pictures are there already\n"


def test_the_parts_of_a_file_are_one_plan(tmp_path, capsys, monkeypatch):
    ten_seconds_a_task(monkeypatch)
    (tmp_path / "run.toml").write_text(
        'models = ["demo:resnet"]\nsteps = 1\n[[part]]\nunits = ["class:0-2", "class:99"]\n'
        '[[part]]\nunits = ["layer3:channels:2", "class:99"]\nrecipe = ["texture"]\n'
    )
    assert main(["plan", "--config", str(tmp_path / "run.toml")]) == 1
    told = capsys.readouterr()
    lines = [line.rpartition(", about 10 s")[0].partition(", about")[0] for line in told.out.splitlines()[:2]]
    assert lines == ["demo:resnet, lsd: 3 pictures", "demo:resnet, texture: 2 pictures"]
    assert told.err.count("Class 99 is out of range") == 1


def test_a_run_says_what_it_made_and_what_was_there(tmp_path, capsys):
    assert make(tmp_path / "run") == 0
    assert "run: 3 rows, 3 of them made in" in (told := capsys.readouterr().out) and "of it in the ascent" in told
    assert make(tmp_path / "run") == 0
    assert "run: 3 rows, 0 of them made in" in capsys.readouterr().out


def test_settings_come_from_a_file_as_well(tmp_path, capsys):
    (tmp_path / "run.toml").write_text('models = ["demo:resnet"]\nunits = ["class:0-5"]\nsteps = 1\n')
    out = str(tmp_path / "run")
    assert main(["run", "--config", str(tmp_path / "run.toml"), "--units", "class:0", "--output", out]) == 0
    assert "1 rows, 1 of them made" in capsys.readouterr().out


def test_what_cannot_be_done_is_said_and_the_rest_is_done(tmp_path, capsys):
    assert main(["run", *QUICK, "--units", "class:0", "class:99", "--output", str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert "1 rows, 1 of them made" in told.out and "precompute: demo:resnet: Class 99 is out of range" in told.err
    assert main(["plan", *QUICK, "--units", "class:0", "class:99"]) == 1


def test_a_damaged_shard_of_another_run_is_named(tmp_path, capsys):
    assert make(tmp_path, "--recipe", "none") == 0
    (shard,) = find_shards(tmp_path)
    shard.write_bytes(shard.read_bytes()[:500])
    capsys.readouterr()
    assert make(tmp_path) == 1
    told = capsys.readouterr()
    assert "3 rows, 3 of them made" in told.out
    assert f"left out of the index: {shard.relative_to(tmp_path).as_posix()}: " in told.err


@pytest.mark.parametrize("arguments, words", [
    (["--models", "demo:nosuch"], "There is nothing to do."),
    (["--models", "local-dir:/x"], "There is nothing to do."),
    (["--units", "class:99"], "There is nothing to do."),
    (["--seeds", "0"], "seeds lies between 1 and 1000"),
    (["--set", "foo=1"], "is not a setting"),
    (["--config", "missing.toml"], "missing.toml cannot be read"),
    (["--budget", "soon"], "“soon” is not a budget; write for example 30min, 2h or 1d."),
])  # fmt: skip
def test_where_nothing_can_be_done_the_reason_is_said(tmp_path, capsys, arguments, words):
    assert make(tmp_path / "run", *arguments) == 2
    error = capsys.readouterr().err
    assert words in error.splitlines()[-1] and error.splitlines()[-1].startswith("precompute: ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("arguments", [["fly"], [], ["run", *QUICK], ["run", "--engine", "slurm"], ["publish", "DIR"]])
def test_a_command_that_is_none_prints_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and "usage: python -m precompute" in capsys.readouterr().err


def test_failures_are_named_and_the_run_ends_with_one(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(planning, "UNITS", 1)
    with monkeypatch.context() as patch:
        patch.setattr(work, "make_rows", lambda task: 1 / 0)
        assert make(tmp_path, "--units", "class:all") == 1
    told = capsys.readouterr()
    assert "0 rows, 0 of them made" in told.out
    failed = [line for line in told.err.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 16 and failed[7] == "failed: demo:resnet, class/7, lsd: ZeroDivisionError: division by zero"
    assert make(tmp_path, "--units", "class:all") == 0


def test_many_failures_are_cut_short(capsys):
    command._print_failures([(f"unit {i}", "It broke.") for i in range(25)])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21 and lines[0] == "failed: unit 0: It broke." and lines[-1] == "… and 5 more"


def test_failed_rows_are_made_again_on_request(tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(work, "_make", lambda model, jobs, *rest: ((job, "It broke.") for job in jobs))
        assert make(tmp_path) == 1
    assert "failed: demo:resnet/class/0/" in capsys.readouterr().err
    assert make(tmp_path) == 1 and main(["status", str(tmp_path)]) == 1
    assert "3 failed" in capsys.readouterr().out
    assert make(tmp_path, "--retry-failed") == 0 and main(["status", str(tmp_path)]) == 0


def test_a_full_disk_ends_the_run_with_a_sentence(tmp_path, capsys, monkeypatch):
    def full(self, *arguments):
        raise StorageError("There is no room left.")

    monkeypatch.setattr(Storage, "put", full)
    assert make(tmp_path) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "precompute: There is no room left."


def test_ctrl_c_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupted(task):
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "make_rows", interrupted)
    assert make(tmp_path) == 130
    assert "precompute: stopped; run the same command again to go on." in capsys.readouterr().err


def test_an_engine_that_is_not_installed_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert make(tmp_path, "--engine", "ray") == 2
    assert 'pip install "ray>=2.50"' in capsys.readouterr().err


def test_status_says_how_far_it_is_and_what_is_damaged(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(planning, "UNITS", 2)
    make(tmp_path)
    capsys.readouterr()
    assert main(["status", str(tmp_path), "--deep"]) == 0
    assert capsys.readouterr().out == "2 of 2 tasks, 3 of 3 pictures\n0 failed, 0 shards damaged\n"
    path = find_shards(tmp_path)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert main(["status", str(tmp_path)]) == 0 and main(["status", str(tmp_path), "--deep"]) == 1
    told = capsys.readouterr()
    name = path.relative_to(tmp_path).as_posix()
    assert "1 shards damaged" in told.out and f"damaged: {name}; delete it, and run the same command again" in told.err
    path.unlink()
    assert main(["status", str(tmp_path)]) == 1
    assert "1 of 2 tasks" in (told := capsys.readouterr().out) and "left with one worker like the ones before" in told
    make(tmp_path)
    assert main(["status", str(tmp_path), "--deep"]) == 0


def test_status_of_nothing_is_a_sentence(tmp_path, capsys):
    assert main(["status", str(tmp_path / "nosuch")]) == 2
    assert "No run has been started in" in capsys.readouterr().err


def test_verify_counts_its_verdicts(finished_run, capsys):
    assert main(["verify", str(finished_run), "--sample", "100%"]) == 0
    assert capsys.readouterr().out == "10 pictures made again: 10 identical\n"
    (path,) = find_shards(finished_run)
    rows = shards.read_rows(path)
    rows[0]["pixels_sha256"] = "0" * 64
    rows[1]["picture"] = rows[6]["picture"] = rows[-1]["picture"][:40]
    path.write_bytes(shards.table_bytes(shards.to_table(rows)))
    assert main(["verify", str(finished_run), "--sample", "100%"]) == 1
    told = capsys.readouterr().out
    assert f"similar: {rows[0]['unit_id']} (SSIM 1.000)\n" in told and f"impossible: {rows[1]['unit_id']}: " in told
    assert told.endswith("10 pictures made again: 7 identical, 2 impossible, 1 similar\n")


def test_verify_fails_on_models_that_cannot_be_had_only_if_it_is_to_be_strict(finished_run, capsys):
    (path,) = find_shards(finished_run)
    rows = [row | ({"model": "demo:nosuch"} if row["index"] == 1 else {}) for row in shards.read_rows(path)]
    path.write_bytes(shards.table_bytes(shards.to_table(rows)))
    assert main(["verify", str(finished_run), "--sample", "100%"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("unavailable: demo:nosuch: There is no model demo:nosuch")
    assert told.endswith(" identical; 1 model cannot be had here\n")
    assert main(["verify", str(finished_run), "--sample", "100%", "--strict"]) == 1
    assert main(["verify", str(finished_run), "--models", "demo:resnet", "--strict"]) == 0


def test_similar_pictures_are_no_failure(finished_run, capsys):
    (path,) = find_shards(finished_run)
    rows = [row | {"pixels_sha256": "0" * 64} for row in shards.read_rows(path)]
    path.write_bytes(shards.table_bytes(shards.to_table(rows)))
    assert main(["verify", str(finished_run), "--sample", "1"]) == 0


def test_a_buckets_files_are_copied_beside_what_is_made_of_them(finished_run, tmp_path, monkeypatch, capsys):
    """`publish` and `verify` of a bucket; a second time nothing is fetched."""
    monkeypatch.chdir(tmp_path)
    bucket, disk = Storage(f"memory://{uuid.uuid4().hex}/run"), Storage(str(finished_run))
    for path in disk.sizes("data"):
        bucket.put(path, disk.get(path))
    assert main(["publish", bucket.url, "--repo", "user/name", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert f"{bucket.url} is copied to run-copy" in said.err and "run-published: 10 rows" in said.out
    monkeypatch.setattr(Storage, "get", lambda self, path: pytest.fail("fetched again"))
    assert main(["verify", bucket.url, "--sample", "1"]) == 0
    assert main(["verify", bucket.url, "--sample", "1", "--copy", "run-copy"]) == 0


@pytest.mark.parametrize("arguments, words", [
    (["verify", "memory://bucket/run"], "There are no pictures in memory://bucket/run; python"),
    (["publish", "memory://bucket/run", "--repo", "user/name"], "There are no pictures in memory://bucket/run; python"),
    (["verify", "nosuch"], "There are no pictures in"),
    (["verify", "nosuch", "--sample", "all"], "“all” is no sample"),
    (["publish", "nosuch", "--repo", "user/name", "--dry-run"], "There are no pictures in"),
    (["status", "nosuch://bucket"], "cannot be opened"),
])  # fmt: skip
def test_what_is_wrong_with_a_folder_is_one_sentence(tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("precompute: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_dry_run_puts_the_data_set_together_and_sends_nothing(finished_run, capsys, monkeypatch):
    monkeypatch.setattr(publishing, "upload", lambda folder, repo: pytest.fail("sent"))
    monkeypatch.chdir(finished_run)
    assert main(["publish", ".", "--repo", "user/name", "--dry-run"]) == 0
    folder = finished_run.with_name("run-published")
    assert {path.name for path in folder.iterdir()} == {"README.md", "croissant.json", "data", "index.parquet"}
    assert f"putting together demo:resnet\n{folder}: 10 rows, " in capsys.readouterr().out


def test_a_data_set_is_put_where_one_says_and_sent(finished_run, tmp_path, capsys, monkeypatch):
    sent = []
    monkeypatch.setattr(publishing, "upload", lambda folder, repo: sent.append((folder, repo)) or "user/name@c0ffee")
    assert main(["publish", str(finished_run), "--repo", "user/name", "--folder", str(tmp_path / "set")]) == 0
    assert sent == [(tmp_path / "set", "user/name")]
    assert "published: user/name@c0ffee; a page with LSD_GALLERY_REPO set to that shows it" in capsys.readouterr().out


@pytest.mark.parametrize(
    "count, text", [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 KB"), (2e7, "20 MB"), (3e12, "3000 GB")]
)
def test_sizes_are_readable(count, text):
    assert command._size(count) == text


@pytest.mark.parametrize("seconds, text", [(0, "0 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations_are_readable(seconds, text):
    assert command._duration(seconds) == text


def test_the_module_is_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "precompute.__main__")
    monkeypatch.setattr(sys, "argv", ["precompute", "run", *QUICK, "--output", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("precompute", run_name="__main__")
    assert ended.value.code == 0 and len(json.loads(next((tmp_path / "plans").iterdir()).read_text())["tasks"]) == 1
