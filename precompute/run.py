"""A run: plan it, keep the plan, do what is not done yet, and say how it went."""

import json
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lsd.errors import LSDError
from precompute import card, engines
from precompute.budget import most_valuable
from precompute.cost import Costs
from precompute.indexed import build
from precompute.plan import Plan
from precompute.storage import Storage, sha256
from precompute.tasks import Task
from precompute.work import Outcome, all_finished, made_without_photos

ENGINES = ("local", "ray")
_LOST = 3  # tasks one after another whose machine failed in every try: then nothing more is tried


@dataclass
class Report:
    """How a run went.

    Attributes:
        pictures, reused: rows there are now, and how many of them were there before.
        failures: (unit_id or a task's title, sentence).
        seconds: altogether; `ascent`: inside the gradient ascents, summed over the workers.
        damaged: shards that the index leaves out, and why; anybody's, so not only this run's.
        left: tasks that the budget leaves for another time.
    """

    pictures: int = 0
    reused: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    ascent: float = 0.0
    damaged: dict[str, str] = field(default_factory=dict)
    left: list[Task] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Take in a task's outcome."""
        self.pictures += outcome.pictures
        self.reused += outcome.pictures * outcome.reused
        self.failures += outcome.failures
        self.ascent += 0 if outcome.reused else outcome.ascent


def run(
    plan: Plan,
    url: str,
    *,
    engine: str = "local",
    address: str | None = None,
    workers: int | None = None,
    again: bool = False,
    budget: float | None = None,
) -> Report:
    """Make all rows of a plan that are not there yet, and on a disk the index over everything in the folder.

    Args:
        url: the run's folder.
        engine: "local" or "ray".
        address: of a Ray cluster; None starts one here.
        workers: at most so many tasks at once; None for two a GPU (while one makes pictures, the other loads, judges or
            writes), or one here where there is none.
        again: try rows anew that failed before.
        budget: seconds that one worker on this machine may take, by what some steps of it take here; then only the most
            valuable tasks are done. All of the plan is kept, so that `status` knows what is left.

    Raises:
        StorageError: the folder cannot be used. What was finished stays, and the same run goes on from there.
        LSDError: no such engine, or a budget that does not suffice for anything.
    """
    if engine not in ENGINES:
        raise LSDError(f"There is no engine “{engine}”; choose one of {', '.join(ENGINES)}.")
    started = time.perf_counter()
    storage = Storage(url)
    storage.clean()
    there = storage.sizes("")
    keep_plan(plan, storage, there)
    report = Report()
    done = {name: record.outcome for name, record in all_finished(plan.tasks, storage, there).items()}
    missing = missing_of(plan.tasks, done, again)
    for name in done.keys() - {task.hash for task in missing}:
        report.add(done[name])
    if budget is not None:
        costs = Costs(plan.tasks, made_without_photos(missing, storage, there))
        chosen = most_valuable(plan.tasks, missing, budget, costs.seconds)
        now = set(chosen)
        report.left = [task for task in missing if task not in now]
        missing = chosen
    left = set(report.left)
    with _progress([task for task in plan.tasks if task not in left], report) as told:
        lost = tried = 0
        for outcome in _outcomes(missing, storage.url, engine, address, workers, again):
            report.add(outcome)
            told(outcome)
            tried, lost = tried + 1, lost + 1 if outcome.fault else 0
            if lost == _LOST and (rest := len(missing) - tried):
                sentence = f"Not tried: the {outcome.fault} failed at {lost} tasks running; mend that"
                what = f"{rest:,} more task{'s' * (rest > 1)}"
                report.failures.append((what, f"{sentence}, and run the same command again."))
                break
    storage.clean()  # of workers that were killed meanwhile
    if storage.local:
        report.damaged = build(storage).damaged
    report.seconds = time.perf_counter() - started
    return report


def missing_of(tasks: Sequence[Task], done: Mapping[str, Outcome], again: bool = False) -> list[Task]:
    """The tasks that are not among those done, by hash; or, if they are tried again, of which some rows failed."""
    return [task for task in tasks if task.hash not in done or (again and done[task.hash].failures)]


def _outcomes(tasks: Sequence[Task], url, engine, address, workers, again) -> Iterable[Outcome]:
    if not tasks:
        return ()
    if engine == "ray":
        return engines.on_ray(tasks, url, address, workers, again)
    workers = min(workers or max(1, 2 * engines.gpus()), len(tasks))
    return engines.in_process(tasks, url, again) if workers == 1 else engines.in_processes(tasks, url, workers, again)


def keep_plan(plan: Plan, storage: Storage, there: Collection[str] = ()) -> None:
    """Write down what is to be made, so that `status` knows, and the card of the data set, so that it opens.

    Args:
        there: the paths of the files that are there already.
    """
    tasks = [task.to_dict() for task in plan.tasks]
    name = sha256(json.dumps([task.hash for task in plan.tasks]).encode())[:16]
    path = f"plans/{name}.json"
    if path not in there:
        record = {"created": datetime.now(UTC).isoformat(timespec="seconds"), "tasks": tasks}
        storage.put(path, json.dumps(record).encode())
    if "README.md" not in there:
        storage.put("README.md", card.front_matter().encode())


def planned(storage: Storage) -> list[Task]:
    """Every task of every plan that was run in the folder.

    Raises:
        LSDError: there is none, or one is damaged.
    """
    found: dict[str, Task] = {}
    for path, record in sorted(storage.get_all(storage.names("plans", ".json")).items()):
        try:
            for task in map(Task.from_dict, json.loads(record)["tasks"]):
                found[task.hash] = task
        except (ValueError, KeyError, TypeError) as error:  # an LSDError is a ValueError, too
            raise LSDError(f"{path} in {storage.url} is damaged; delete it, and run the same command again.") from error
    if not found:
        raise LSDError(f"No run has been started in {storage.url}; python -m precompute run starts one.")
    return list(found.values())


@contextmanager
def _progress(tasks: Sequence[Task], report: Report) -> Iterator:
    """A bar over all workers' pictures: done, rate, time left, failures; in this process also within a task."""
    from tqdm import tqdm

    from lsd.progress import listening

    sizes = {task.hash: task.pictures for task in tasks}
    pictures = sum(sizes.values())
    with tqdm(
        total=pictures, initial=report.pictures, unit="picture", desc="pictures", smoothing=0.05,
        mininterval=0.5 if sys.stderr.isatty() else 30,  # a log wants no more
    ) as bar:  # fmt: skip
        done, task_size = report.pictures, max(sizes.values(), default=0)

        def within(now: int, total: int) -> None:
            bar.update(done + int(min(task_size, pictures - done) * now / max(total, 1)) - bar.n)

        def told(outcome: Outcome) -> None:
            nonlocal done
            done += sizes[outcome.task]
            bar.set_postfix(failed=len(report.failures), refresh=False)
            bar.update(done - bar.n)

        with listening(within):
            yield told
