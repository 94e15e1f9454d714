"""kill -9 at any instant, and two runs at once: nothing half-written, nothing lost, the same rows.

The core is that of `benchmarks/precompute_kill.py`, which does it more often and by hand. To be quick, most processes
here are forked from one that has imported everything; a process of one's own it is all the same.
"""

import itertools
import multiprocessing
import os
import signal
import sys
import time

import pytest

from benchmarks import precompute_kill as core
from gallery.index import find_shards

FORKS = multiprocessing.get_context("forkserver")
ONE = ("demo:resnet",)  # what is killed is the writing, which is the same for each network


def _deadly(function, step, last: int):
    """`function`; but at the `last` step, before or after a call, the process kills itself."""

    def walk() -> None:
        if next(step) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def call(*arguments):
        walk()
        result = function(*arguments)
        walk()
        return result

    return call


def _main(command, log, calls=None) -> None:
    """In a process of its own: the command with tiny tasks; at step `calls` of its writing it kills itself."""
    import torch

    import precompute.plan
    from precompute.__main__ import main

    os.setsid()
    # Rows are compared, so every run has the same number of threads, with workers or without.
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job, and its children, ignore it
    sys.stdout = sys.stderr = open(log, "a")  # noqa: SIM115, for as long as the process lives
    precompute.plan.UNITS = core.TINY
    if calls is not None:
        step = itertools.count()
        os.fsync, os.replace = (_deadly(function, step, calls) for function in (os.fsync, os.replace))
    sys.exit(main(command))


class Forked:
    """A run in a process forked from one that has everything imported; as `core.Process`."""

    def __init__(self, command, log=os.devnull, calls=None):
        self._process = FORKS.Process(target=_main, args=(command, log, calls))
        self._process.start()
        self.pid = self._process.pid

    def wait(self, seconds=None):
        self._process.join(seconds)
        return self._process.exitcode


def test_a_run_that_is_killed_at_random_instants_ends_with_the_same_rows(tmp_path):
    killed = core.torture(tmp_path, 7, units=2, models=ONE, start=Forked)
    assert killed.total() == 7


def test_workers_and_runs_that_are_killed_at_random_instants_end_with_the_same_rows(tmp_path):
    killed = core.torture(tmp_path, 2, workers=2, units=1, models=ONE, victims=("parent", "worker"), start=Forked)
    assert killed.total() == 2


def test_a_run_that_dies_at_any_step_of_writing_leaves_nothing_half_written(tmp_path):
    """Each file is forced to the disk, renamed, and its folder forced: six instants, for the plan, the card, shard, marker."""
    command = core.arguments(tmp_path / "undisturbed", 1, 1, ONE)
    command[command.index("--units") + 1 : command.index("--steps")] = ["class:0-3"]
    assert Forked(command).wait() == 0
    expected = core.rows_of(tmp_path / "undisturbed")
    stages = set()
    for calls in (1, 5, 8, *range(12, 24)):
        folder = tmp_path / f"killed-{calls}"
        command[-1] = str(folder)
        assert Forked(command, calls=calls).wait() == -signal.SIGKILL
        finished, at = core.look(folder, {}, 1)
        stages.add(at)
        assert len(find_shards(folder)) == (calls >= 15) and len(finished) == (calls >= 21)
        assert Forked(command).wait() == 0
        core.look(folder, finished, 1)
        core._compare(folder, core.rows_of(folder), expected)
    assert stages == {"writing", "before a marker", "working", "starting or working"}


def test_two_runs_at_once_in_one_folder_end_with_the_rows_of_one(tmp_path):
    assert Forked(core.arguments(tmp_path / "one", 1, 2, ONE)).wait() == 0
    runs = [Forked(core.arguments(tmp_path / "two", 1, 2, ONE), tmp_path / "log") for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0], (tmp_path / "log").read_text()
    core.look(tmp_path / "two", {}, 1)
    core._compare(tmp_path / "two", core.rows_of(tmp_path / "two"), core.rows_of(tmp_path / "one"))


@pytest.mark.parametrize("units, room, words", [
    ("class:0-3", 15_000, "There is no room left in"),  # enough for the plan, but not for a shard
    ("layer:curated:6", 46_000, "No index can be written to"),  # enough for the shards, but not for their index
])  # fmt: skip
def test_a_disk_that_fills_up_is_told_and_the_same_command_goes_on(tmp_path, units, room, words):
    command, log = core.arguments(tmp_path / "run", 1), tmp_path / "log"
    command[command.index("--units") + 1 : command.index("--steps")] = [units]
    process = FORKS.Process(target=_with_little_room, args=(command, log, room))
    process.start()
    process.join()
    told = log.read_text()
    assert process.exitcode == 2 and words in told and "Traceback" not in told, told
    assert not list((tmp_path / "run").rglob("*.tmp"))
    core.look(tmp_path / "run", {}, 1)
    assert Forked(command).wait() == 0 and core.rows_of(tmp_path / "run")


def _with_little_room(command, log, room) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    _main(command, log)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_run_says_how_to_go_on(tmp_path, workers):
    """Ctrl-C tells the whole group; a run with workers does not wait for what they are at."""
    log = tmp_path / "log"
    run = Forked(core.arguments(tmp_path / "run", workers, 8), log)
    deadline = time.monotonic() + 120
    while not core._markers(tmp_path / "run") and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(120) == 130 and core.group_is_gone(run.pid, 30)
    assert "stopped; run the same command again to go on" in log.read_text() and "Traceback" not in log.read_text()
    core.look(tmp_path / "run", {}, workers)
