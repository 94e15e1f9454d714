"""Whether a run survives kill -9 at any instant: nothing half-written, nothing lost, nothing twice, the same rows.

    python -m benchmarks.precompute_kill [--kills 30] [--workers 1 2] [--seed 0]

A run of many tiny tasks, so that much of its time goes into writing, is started and killed at random instants, over and
over, until it is done; then it begins in a new folder, until there were so many kills. After every kill all that readers
can see must be whole, and what was finished must stay as it is. Every finished folder is held against an undisturbed run.

What is killed is the whole process group or, with several workers, now and then only the parent (whose workers must then
end by themselves) or only one worker (after which the run must go on by itself).
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from gallery import shards
from gallery.index import find_shards
from gallery.schema import INCIDENTAL
from precompute.storage import sha256

TINY = 2  # units a task
# As `python -m precompute`, but for the size of a task.
_CODE = (
    f"import sys, precompute.plan; precompute.plan.UNITS = {TINY}; "
    "from precompute.__main__ import main; sys.exit(main(sys.argv[1:]))"
)
_ROOT = Path(__file__).parents[1]


def arguments(folder: Path, workers: int, units: int = 8) -> list[str]:
    """The command line of a run of two small networks: ten classes, and so many channels of each curated layer."""
    return [
        "run", "--models", "demo:resnet", "demo:vit", "--units", "class:0-9", f"layer:curated:{units}", "--steps", "1",
        "--size", "32", "--workers", str(workers), "--output", str(folder),
    ]  # fmt: skip


class Process:
    """A run in a process, and a process group, of its own."""

    def __init__(self, command: Sequence[str]):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, *command], cwd=_ROOT, env=environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pid = self._process.pid

    def wait(self, seconds: float | None = None) -> int | None:
        """Its exit status; None if it is still running after so many seconds."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        if code not in (0, -signal.SIGKILL):
            print(self._process.stderr.read(), file=sys.stderr)
        return code


def rows_of(folder: Path) -> dict[str, dict]:
    """unit_id → row, without the columns that may differ; no row may come twice."""
    rows = [row for path in find_shards(folder) for row in shards.read_rows(path)]
    found = {row["unit_id"]: {key: row[key] for key in row if key not in INCIDENTAL} for row in rows}
    if len(found) < len(rows):
        raise AssertionError(f"{len(rows) - len(found)} rows of {folder} are there twice")
    return found


def look(folder: Path, before: dict[str, int], workers: int) -> tuple[dict[str, int], str]:
    """(what is finished: marker → when it was written, what the process was at), if the folder is as it must be.

    Raises:
        AssertionError: a reader would see something half-written, or something finished was lost or written again.
    """
    temporaries = [path.name for path in folder.rglob("*.tmp")]
    visible = {path.relative_to(folder).as_posix() for path in find_shards(folder)}
    finished = {}
    for marker in (folder / "done").glob("*.json"):
        record = json.loads(marker.read_bytes())
        data = (folder / record["shard"]).read_bytes()
        if sha256(data) != record["sha256"] or len(data) != record["bytes"]:
            raise AssertionError(f"{record['shard']} is not what its marker says")
        shards.check(data, record["rows"])
        visible.remove(record["shard"])
        finished[marker.name] = marker.stat().st_mtime_ns
    for name in visible:  # whole, but the process died before the marker
        shards.read_table(folder / name)
    for plan in (folder / "plans").glob("*.json"):
        json.loads(plan.read_bytes())
    if len(visible) > workers:
        raise AssertionError(f"{len(visible)} tasks would be made again, of {workers} under way")
    if any(finished.get(name) != written for name, written in before.items()):
        raise AssertionError("a task that was finished is gone or was made again")
    at = "writing" if temporaries else "before a marker" if visible else "working"
    return finished, at if finished.keys() - before.keys() or at != "working" else "starting or working"


def children(pid: int) -> list[int]:
    """Process numbers of the workers of a run."""
    found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    lines = [line.split(None, 1) for line in found.splitlines()]
    return [int(number) for number, command in lines if "spawn_main" in command]


def group_is_gone(pid: int, seconds: float) -> bool:
    """Whether every process of the group has ended by then."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = subprocess.run(["ps", "-o", "stat=", "-s", str(pid)], capture_output=True, text=True).stdout
        if all(state.startswith("Z") for state in found.split()):
            return True
        time.sleep(0.1)
    return False


def torture(
    home: Path,
    kills: int,
    *,
    workers: int = 1,
    units: int = 8,
    seed: int = 0,
    start: Callable[[Sequence[str]], Process] = Process,
    victims: Sequence[str] = ("group",),
    told: Callable[[str], None] = lambda line: None,
) -> Counter:
    """Kill runs so many times, and compare every one that gets to its end with an undisturbed one.

    Args:
        home: an empty folder.
        start: starts a run.
        victims: who is killed, by turns: "group", "parent" or "worker".

    Returns how often whom a kill met at what.

    Raises:
        AssertionError: a promise is broken.
    """
    chance, killed = random.Random(seed), Counter()
    began = time.monotonic()
    if start(arguments(home / "undisturbed", 1, units)).wait() != 0:
        raise AssertionError("the undisturbed run failed")
    whole, expected = time.monotonic() - began, rows_of(home / "undisturbed")
    first = min(path.stat().st_mtime for path in (home / "undisturbed" / "done").iterdir())
    last = max(path.stat().st_mtime for path in (home / "undisturbed" / "done").iterdir())
    working = max(last - first, 0.2)
    told(
        f"undisturbed: {len(expected)} rows in {whole:.1f} s, of them {working:.1f} s between the first and the last task"
    )
    number = 0
    while killed.total() < kills:
        number += 1
        folder, finished, code = home / f"killed-{number}", {}, None
        while code is None:
            done = killed.total() >= kills
            process, victim = start(arguments(folder, workers, units)), victims[killed.total() % len(victims)]
            instant = chance.uniform(0, working / 3)
            if chance.random() < 0.25 and victim != "worker":  # at any time since its start, else once it works
                instant = chance.uniform(0, whole - working)
            else:
                while process.wait(0.01) is None and len(_markers(folder)) <= len(finished):
                    pass
                if chance.random() < 0.5:  # while something is being written
                    while process.wait(0.0002) is None and not _writing(folder):
                        pass
                    instant = chance.uniform(0, 0.002)
            code = process.wait() if done else process.wait(instant)
            if code is None:
                code = _kill(process, victim, chance)
                before = len(finished)
                finished, at = look(folder, finished, workers)
                killed[f"{victim} {at}"] += 1
                told(f"{killed.total()}: folder {number}, {victim} killed {at}: {before} → {len(finished)} tasks")
            if code not in (None, 0):
                raise AssertionError(f"the run ended with {code}")
        look(folder, finished, workers)
        _compare(folder, rows_of(folder), expected)
    return killed


def _markers(folder: Path) -> list[Path]:
    return list((folder / "done").glob("*.json"))


def _writing(folder: Path) -> bool:
    return any(folder.glob("data/*/.*.tmp")) or any(folder.glob("done/.*.tmp"))


def _kill(process: Process, victim: str, chance: random.Random) -> int | None:
    """Kill and wait; the exit status of a run that goes on all the same, None of one that is dead."""
    if victim == "worker":
        workers = children(process.pid)
        if workers:
            os.kill(chance.choice(workers), signal.SIGKILL)
        return process.wait()
    if victim == "group":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    if not group_is_gone(process.pid, 30):
        raise AssertionError("the workers of a killed run go on")
    return None


def _compare(folder: Path, rows: dict[str, dict], expected: dict[str, dict]) -> None:
    lost, strange = expected.keys() - rows.keys(), rows.keys() - expected.keys()
    different = [name for name in expected.keys() & rows.keys() if rows[name] != expected[name]]
    if lost or strange or different:
        raise AssertionError(f"{folder}: {len(lost)} rows lost, {len(strange)} too many, {len(different)} different")
    if left := [*folder.rglob("*.tmp")]:
        raise AssertionError(f"{left} were left behind")


def main() -> None:
    """Print every kill, and how many there were of each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for workers in options.workers:
        print(f"\n{workers} worker{'s' if workers > 1 else ', in the run’s own process'}", flush=True)
        victims = ("group",) if workers == 1 else ("group", "parent", "worker")
        with tempfile.TemporaryDirectory(prefix="precompute-kill-") as home:
            killed = torture(
                Path(home), options.kills, workers=workers, seed=options.seed, victims=victims,
                told=lambda line: print(line, flush=True),
            )  # fmt: skip
        print(f"{killed.total()} kills: " + ", ".join(f"{n} × {at}" for at, n in sorted(killed.items())))
        print("rows lost 0, twice 0, different 0")


if __name__ == "__main__":
    main()
