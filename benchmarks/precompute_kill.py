"""Whether a run survives kill -9 at any instant: nothing half-written, nothing lost, nothing twice, the same rows.

    python -m benchmarks.precompute_kill [--kills 30] [--workers 1 2] [--seed 0] [--bucket [--faults .1]]

A run of many tiny tasks, so that much of its time goes into writing, is started and killed at random instants, over and
over, until it is done; then it begins in a new folder, until there were so many kills. After every kill all that readers
can see must be whole, and what was finished must stay as it is. Every finished folder is held against an undisturbed run.

What is killed is the whole process group or, with several workers, now and then only the parent (whose workers must then
end by themselves) or only one worker (after which the run must go on by itself).

Then the folder's small shards are put together, which is killed, too, and done again; and what was made of them must be there
for who browses it, and for who publishes it. With `--bucket` the folders are in a bucket on this machine that speaks S3 over
HTTP, and that answers such a share of all requests with a fault (`benchmarks.bucket`).
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import fsspec

from gallery import shards
from gallery.bucket import open_bucket
from gallery.filters import Filters
from gallery.queries import Gallery
from gallery.schema import INCIDENTAL
from precompute.status import status
from precompute.storage import Storage, sha256

TINY = 2  # units a task
NETWORKS = ("demo:resnet", "demo:vit")
# As `python -m precompute`, but for the size of a task.
_CODE = (
    f"import sys, precompute.plan; precompute.plan.UNITS = {TINY}; "
    "from precompute.__main__ import main; sys.exit(main(sys.argv[1:]))"
)
_ROOT = Path(__file__).parents[1]


def arguments(folder: Path | str, workers: int, units: int = 8, models: Sequence[str] = NETWORKS) -> list[str]:
    """The command line of a run of small networks: ten classes of each, and so many channels of each curated layer."""
    return [
        "run", "--models", *models, "--units", "class:0-9", f"layer:curated:{units}", "--steps", "1",
        "--size", "32", "--workers", str(workers), "--output", str(folder),
    ]  # fmt: skip


class Process:
    """A run in a process, and a process group, of its own."""

    def __init__(self, command: Sequence[str]):
        self.command = command
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


def rows_of(folder: Path | str) -> dict[str, dict]:
    """unit_id → row, without the columns that may differ; no row may come twice."""
    rows = all_rows(folder)
    found = {row["unit_id"]: {key: row[key] for key in row if key not in INCIDENTAL} for row in rows}
    if len(found) < len(rows):
        raise AssertionError(f"{len(rows) - len(found)} rows of {folder} are there twice")
    return found


def all_rows(folder: Path | str) -> list[dict]:
    """Every row of every shard, on a disk or in a bucket."""
    storage = Storage(str(folder))
    paths = [path for path in storage.sizes("data") if path.endswith(".parquet")]
    return [row for data in storage.each(storage.get, paths) for row in shards.read_rows(data)]


def look(folder: Path | str, before: dict[str, str], workers: int) -> tuple[dict[str, str], str]:
    """(what is finished: marker → what it says, what the process was at), if the folder is as it must be.

    Raises:
        AssertionError: a reader would see something half-written, or something finished was lost or written again.
    """
    storage = Storage(str(folder))
    visible = {path for path in storage.sizes("data") if path.endswith(".parquet")}
    finished = {}
    for marker, text in storage.get_all(list(storage.sizes("done"))).items():
        record = json.loads(text)
        data = storage.get(record["shard"]) or b""
        if sha256(data) != record["sha256"] or len(data) != record["bytes"]:
            raise AssertionError(f"{record['shard']} is not what its marker says")
        shards.check(data, record["rows"])
        visible.remove(record["shard"])
        finished[marker] = text
    for name in visible:  # whole, but the process died before the marker
        shards.read_table(storage.get(name))
    for plan in storage.get_all(storage.names("plans", ".json")).values():
        json.loads(plan)
    if len(visible) > workers:
        raise AssertionError(f"{len(visible)} tasks would be made again, of {workers} under way")
    if any(finished.get(name) != text for name, text in before.items()):
        raise AssertionError("a task that was finished is gone or was made again")
    at = "writing" if _writing(folder) else "before a marker" if visible else "working"
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
    models: Sequence[str] = NETWORKS,
    seed: int = 0,
    start: Callable[[Sequence[str]], Process] = Process,
    victims: Sequence[str] = ("group",),
    where: Callable[[Path], str] = str,
    told: Callable[[str], None] = lambda line: None,
) -> Counter:
    """Kill runs so many times, and compare every one that gets to its end with an undisturbed one.

    Args:
        home: an empty folder.
        units, models: as in `arguments`.
        start: starts a run.
        victims: who is killed, by turns: "group", "parent" or "worker".
        where: a killed run's folder is, or its bucket, given a path below `home`.

    Returns how often whom a kill met at what.

    Raises:
        AssertionError: a promise is broken.
    """
    chance, killed = random.Random(seed), Counter()
    began = time.monotonic()
    if start(arguments(home / "undisturbed", 1, units, models)).wait() != 0:
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
        folder, finished, code = where(home / f"killed-{number}"), {}, None
        while code is None:
            done = killed.total() >= kills
            process, victim = start(arguments(folder, workers, units, models)), victims[killed.total() % len(victims)]
            instant = chance.uniform(0, working / 3)
            if chance.random() < 0.25 and victim != "worker":  # at any time since its start, else once it works
                instant = chance.uniform(0, whole - working)
            else:
                while process.wait(0.01) is None and len(_markers(folder)) <= len(finished):
                    pass
                if chance.random() < 0.5 and Storage(folder).local:  # while something is being written
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


def torture_compaction(
    folder: str,
    kills: int,
    *,
    seed: int = 0,
    start: Callable[[Sequence[str]], Process] = Process,
    told: Callable[[str], None] = lambda line: None,
) -> Counter:
    """Kill the compaction of a finished run so many times, unless it comes to its end before; then let it.

    Returns how often a kill met it between so many files of rows and so many.

    Raises:
        AssertionError: a row is lost, or there twice in the end, or a marker names what is not there.
    """
    chance, killed, expected, storage = random.Random(seed), Counter(), rows_of(folder), Storage(folder)
    while True:
        process = start(["compact", folder])
        if killed.total() < kills:
            files = storage.sizes("")
            while process.wait(0.001) is None and storage.sizes("") == files:
                pass
            if process.wait(chance.uniform(0, 0.05 if storage.local else 0.3)) is None:
                _kill(process, "group", chance)
                before, after = _files(files), _files(storage.sizes(""))
                killed[f"{before} → {after} files"] += 1
                told(f"{killed.total()}: compaction killed, {before} → {after} files")
        if (code := process.wait()) not in (0, -signal.SIGKILL):
            raise AssertionError(f"the compaction ended with {code}")
        found = {}
        for row in all_rows(folder):
            row = {key: row[key] for key in row if key not in INCIDENTAL}
            if found.setdefault(row["unit_id"], row) != row:
                raise AssertionError(f"{row['unit_id']} is there twice, and not the same")
        _compare(folder, found, expected)
        state = status(storage, deep=True)
        if state.tasks_done < state.tasks or state.damaged:
            raise AssertionError(
                f"{state.tasks - state.tasks_done} tasks are gone, {len(state.damaged)} shards damaged"
            )
        if code == 0:
            _compare(folder, rows_of(folder), expected)
            return killed


def use(folder: str, home: Path, start: Callable[[Sequence[str]], Process] = Process) -> None:
    """Browse, verify and publish a compacted run.

    Raises:
        AssertionError: a row or picture of it is not there, or is another.
    """
    expected = rows_of(folder)
    gallery = open_bucket(folder) if "://" in folder else Gallery(folder)
    pages = range(1, -(-gallery.rows // 24) + 1)
    entries = [entry for page in pages for entry in gallery.page(Filters(), number=page, size=24).entries]
    if {entry.unit_id for entry in entries} != expected.keys() or len(entries) != len(expected):
        raise AssertionError(f"the gallery shows {len(entries)} of {len(expected)} rows")
    for entry, thumbnail in zip(entries, gallery.thumbnails(entries), strict=True):
        row = expected[entry.unit_id]
        if (thumbnail, gallery.picture(entry)) != (row["thumbnail"], row["picture"]):
            raise AssertionError(f"the gallery shows another picture of {entry.unit_id}")
        if gallery.details(entry)["trace"] != row["trace"]:
            raise AssertionError(f"the gallery shows another row of {entry.unit_id}")
    copy, published = ["--copy", str(home / "copy")], home / "published"
    for command in (
        ["verify", folder, "--sample", "2", *copy],
        ["publish", folder, "--repo", "user/name", "--folder", str(published), "--dry-run", *copy],
    ):
        if (code := start(command).wait()) != 0:
            raise AssertionError(f"{command[0]} ended with {code}")
    _compare(folder, rows_of(published), expected)


def _markers(folder: Path | str) -> list[str]:
    return Storage(str(folder)).names("done", ".json")


def _files(there: Collection[str]) -> int:
    return sum(path.startswith("data/") for path in there)


def _writing(folder: Path | str) -> bool:
    """Whether something is half-written, as on a disk it can be."""
    return any(any(Path(folder).glob(names)) for names in ("data/*/.*.tmp", "done/.*.tmp"))


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


def _compare(folder: Path | str, rows: dict[str, dict], expected: dict[str, dict]) -> None:
    lost, strange = expected.keys() - rows.keys(), rows.keys() - expected.keys()
    different = [name for name in expected.keys() & rows.keys() if rows[name] != expected[name]]
    if lost or strange or different:
        raise AssertionError(f"{folder}: {len(lost)} rows lost, {len(strange)} too many, {len(different)} different")
    if left := [*Path(folder).rglob("*.tmp")]:
        raise AssertionError(f"{left} were left behind")


def main() -> None:
    """Print every kill, and how many there were of each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bucket", action="store_true", help="in a bucket over HTTP; needs s3fs and moto")
    parser.add_argument(
        "--faults", type=float, default=0.1, help="share of a bucket's answers that are one (default: .1)"
    )
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        where, shaky = str, None
        if options.bucket:
            from benchmarks.bucket import serving

            shaky, environment = stack.enter_context(serving())
            os.environ.update(environment)
            fsspec.config.set_conf_env(fsspec.config.conf)
            where = lambda path: f"s3://bucket/{path.parent.name}/{path.name}"  # noqa: E731
            shaky.shake(options.faults, options.seed)
        for workers in options.workers:
            _torture(workers, options, where)
        if shaky:
            met = Counter(fault or "none" for fault in shaky.met)
            print(
                f"{met.total():,} requests, faults: " + ", ".join(f"{n:,} × {fault}" for fault, n in met.most_common())
            )


def _torture(workers: int, options: argparse.Namespace, where: Callable[[Path], str]) -> None:
    print(f"\n{workers} worker{'s' if workers > 1 else ', in the run’s own process'}", flush=True)
    victims = ("group",) if workers == 1 else ("group", "parent", "worker")
    told = lambda line: print(line, flush=True)  # noqa: E731
    with tempfile.TemporaryDirectory(prefix="precompute-kill-") as name:
        home = Path(name)
        killed = torture(
            home, options.kills, workers=workers, seed=options.seed, victims=victims, where=where, told=told
        )  # fmt: skip
        print(f"{killed.total()} kills: " + ", ".join(f"{n} × {at}" for at, n in sorted(killed.items())))
        folder = where(home / "killed-1")
        killed = torture_compaction(folder, max(1, options.kills // 3), seed=options.seed, told=told)
        print(
            f"{killed.total()} kills of the compaction: " + ", ".join(f"{n} × {at}" for at, n in sorted(killed.items()))
        )
        use(folder, home)
    print("rows lost 0, twice 0, different 0; browsed, verified and published", flush=True)


if __name__ == "__main__":
    main()
