"""One task's work, the same under every engine: make the pictures, judge them, put the rows where they belong.

A unit that fails becomes a row with its error, and its neighbours are made all the same. A machine that fails (its device,
memory, disk or network) says nothing about the units: it leaves no rows, and the task is to be tried again.
"""

import itertools
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version

import torch

from gallery import pictures, shards
from gallery.schema import OF_PHOTOS, TRACE_POINTS, recipe_id, unit_id
from gallery.shards import ShardError
from lsd import labels, precision
from lsd.errors import LSDError, UndefinedError
from lsd.faults import DISK, MEMORY, machine_fault
from lsd.features.ascent import ascend_jobs
from lsd.features.bundle import pixels_sha256
from lsd.features.judge import clipped, contrast, fine_energy, flatness, probabilities, spreads, verdict
from lsd.features.pictures import Job, Picture
from lsd.features.units import Leaf, check, class_of, parse, title
from lsd.layers import as_said, list_layers
from lsd.models import ImageModel, get_model
from lsd.provenance import environment
from lsd.said import NOTHING, Said
from lsd.tracing import split_run
from precompute.exemplars import with_exemplars
from precompute.photos import Photo
from precompute.storage import BusyError, Storage, StorageError, sha256
from precompute.tasks import Task


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        task: its hash.
        pictures: rows that are there now: none if all of it failed.
        failures: (unit_id, sentence) of rows without a picture, or one with the task's title if all of it failed.
        ascent: seconds inside the gradient ascent.
        seconds: altogether.
        reused: whether the rows were there already.
        fault: what of the machine failed, as `lsd.faults.machine_fault` has it; "" if the machine is not to blame. Nothing
            is written then, and the same task may do later or elsewhere.
        place: where it was done, for whoever gives out tasks; "" for here.
    """

    task: str
    pictures: int
    failures: tuple[tuple[str, str], ...] = ()
    ascent: float = 0.0
    seconds: float = 0.0
    reused: bool = False
    fault: str = ""
    place: str = ""


@dataclass(frozen=True)
class Made:
    """One picture, and the batch it was made in: which of the task's, how many together, and which of them it was."""

    picture: Picture
    batch: int
    batch_size: int
    batch_place: int


def run_task(task: Task, url: str, again: bool = False) -> Outcome:
    """Make a task's rows and put them into the run's folder, unless they are there.

    Args:
        url: of the folder, as `Storage` takes it.
        again: make them anew if some of them failed.

    Raises:
        StorageError: the folder cannot be used; the same task can be run again later.
    """
    started = time.perf_counter()
    precision.from_environment()
    try:
        return _run_task(task, Storage(url), again, started)
    except StorageError as error:
        if not isinstance(error, BusyError):
            raise
        fault, sentence = DISK, str(error)
    except Exception as error:  # a model that cannot be loaded, a device that gives up: the other tasks go on
        fault, sentence = machine_fault(error), one_sentence(error)
    return Outcome(task.hash, 0, ((task.title, sentence),), 0, time.perf_counter() - started, fault=fault)


def _run_task(task: Task, storage: Storage, again: bool, started: float) -> Outcome:
    # Another run may have made it meanwhile. A bucket was listed once, and is not asked for each task.
    if not storage.bucket:
        before = finished(task, storage)
        if before is not None and not (again and before.failures):
            return before
    files = task.photos.files() if task.photos else []  # if they are others by now, that is told before hours of work
    rows, ascent = _made_before(task, storage) or make_rows(task)
    if task.photos:
        rows = _with_photos(rows, task, files)
    data = shards.table_bytes(shards.to_table(rows))
    storage.put(task.shard, data, lambda stored: shards.check(stored, len(rows)))
    failures = tuple((row["unit_id"], row["error"]) for row in rows if row["status"] == "failed")
    outcome = Outcome(task.hash, len(rows), failures, ascent, time.perf_counter() - started)
    there = None
    while there != data:  # another run at the same folder may put its own shard there in between
        data = there or data
        storage.put(task.marker, json.dumps(_marker(task, outcome, data), indent=1).encode())
        there = storage.get(task.shard) or data
        if there != data:
            _check_other(there, task, len(rows), storage)
    return outcome


def _with_photos(rows: list[dict], task: Task, files: Sequence[Photo]) -> list[dict]:
    """The rows with what they tell of photos; where a network breaks at them, with the reason, as the pictures are made."""
    try:
        return with_exemplars(rows, _planned(task.model, task.weights_digest, dict(task.said)), task.photos, files)
    except Exception as error:
        if machine_fault(error):
            raise
        nothing = {"count": 0, "digest": task.photos.digest, "note": one_sentence(error)}
        return [row if row["status"] == "failed" else row | {"photos": nothing} for row in rows]


def _made_before(task: Task, storage: Storage) -> tuple[list[dict], float] | None:
    """The rows of a task with photos that are there without them, and no seconds; None if they are not, or some failed."""
    plain = replace(task, photos=None)
    marker = storage.get(plain.marker) if task.photos else None
    record = None if marker is None else Record.read(marker, plain)
    data = storage.get(record.shard) if record and not record.outcome.failures else None
    try:
        rows = [row for row in shards.read_rows(data) if row["task"] == plain.hash] if data else []
    except ShardError:
        return None
    if not rows or len(rows) != task.pictures:
        return None
    new = {"task": task.hash, "created": datetime.now(UTC).isoformat(timespec="seconds")}
    return [row | new for row in rows], 0.0


def _check_other(shard: bytes, task: Task, rows: int, storage: Storage) -> None:
    """Raise BusyError, and take back the marker, unless these bytes in the place of a task's shard are a whole one."""
    try:
        shards.check(shard, rows)
    except ShardError as error:
        storage.delete(task.marker)
        raise BusyError(f"{task.shard} came back from {storage.url} with other bytes than were written.") from error


def finished(task: Task, storage: Storage) -> Outcome | None:
    """What became of a task whose rows are there, whole; None if it is still to be done."""
    marker = storage.get(task.marker)
    record = None if marker is None else Record.read(marker, task)
    return record.outcome if record and storage.size(record.shard) == record.bytes else None


def all_finished(
    tasks: Sequence[Task], storage: Storage, there: Mapping[str, int] | None = None
) -> dict[str, "Record"]:
    """The records of those tasks whose rows are there, whole, by their hash: one listing, and what was recorded.

    Args:
        there: the listing, if it was made already: `storage.sizes("")`.
    """
    sizes = storage.sizes("") if there is None else there
    found = storage.get_all([task.marker for task in tasks if task.marker in sizes])
    records = {task.hash: Record.read(found[task.marker], task) for task in tasks if task.marker in found}
    return {name: one for name, one in records.items() if one and sizes.get(one.shard) == one.bytes}


def made_without_photos(tasks: Sequence[Task], storage: Storage, there: Mapping[str, int] | None = None) -> set[str]:
    """The hashes of the tasks with photos whose pictures need not be made again; `there` as in `all_finished`."""
    plain = {replace(task, photos=None): task.hash for task in tasks if task.photos}
    found = all_finished(list(plain), storage, there) if plain else {}
    return {name for task, name in plain.items() if task.hash in found and not found[task.hash].outcome.failures}


@dataclass(frozen=True)
class Record:
    """What a task's marker says.

    Attributes:
        shard: in which its rows are: its own, or one that it was packed into with others.
        bytes, sha256: of that shard.
        outcome: what became of the task.
        values: all of it, as it stands there.
    """

    shard: str
    bytes: int
    sha256: str
    outcome: Outcome
    values: dict

    @classmethod
    def read(cls, marker: bytes, task: Task) -> "Record | None":
        """None if it is damaged."""
        try:
            values = json.loads(marker)
            outcome = Outcome(
                task.hash, int(values["rows"]), tuple((u, e) for u, e in values["failures"]), float(values["ascent"]),
                float(values["seconds"]), True,
            )  # fmt: skip
            return cls(str(values.get("shard", task.shard)), values["bytes"], str(values["sha256"]), outcome, values)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def _marker(task: Task, outcome: Outcome, data: bytes) -> dict:
    return {
        "task": task.to_dict(), "shard": task.shard, "sha256": sha256(data), "bytes": len(data),
        "rows": outcome.pictures, "recipe_hash": task.recipe.hash, "failures": list(outcome.failures),
        "ascent": round(outcome.ascent, 3), "seconds": round(outcome.seconds, 3),
        "versions": {package: version(package) for package in ("torch", "timm", "pyarrow")},
    }  # fmt: skip


def one_sentence(error: BaseException) -> str:
    """An error for a row: its own words if they are meant for people, else its kind and first line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, LSDError) else f"{type(error).__name__}: {text[:300]}"


def make_rows(task: Task) -> tuple[list[dict], float]:
    """(the task's rows, in the gallery's order, seconds inside the ascent).

    Raises:
        LSDError: the model or a verifier cannot be had, or its weights are not those that were planned for.
        Exception: whatever a machine that fails makes torch or the system raise, see `lsd.faults`.
    """
    said = dict(task.said)
    model = _planned(task.model, task.weights_digest, said)
    judges = [_planned(*pair, said) for pair in task.verifiers]
    jobs, errors = [], {}
    for unit in map(parse, task.units):
        try:
            jobs += [Job(check(unit, model), seed) for seed in task.seeds]
        except UndefinedError as error:
            errors |= {Job(unit, seed): str(error) for seed in task.seeds}
    others = [_planned(*pair, said) for pair in task.others]
    began = time.perf_counter()
    made: dict[Job, Made] = {}
    for result, error in _make(model, jobs, task, others, itertools.count()):
        if error is None:
            made[result.picture.job] = result
        else:
            errors[result] = error
    ascent = time.perf_counter() - began
    maker = _RowMaker(task, model, judges)
    rows = maker.rows(list(made.values())) + [maker.failed(job, error) for job, error in errors.items()]
    return sorted(rows, key=_place), ascent


def _planned(name: str, digest: str | None, said: Mapping[str, Said]) -> ImageModel:
    model = get_model(name)
    if model.identity.digest != digest:
        raise LSDError(f"The weights of {name} are not those of the plan: their digest differs; plan the run again.")
    return as_said(model, said.get(name, NOTHING))


def _make(
    model: ImageModel, jobs: Sequence[Job], task: Task, others, numbers: Iterator[int]
) -> Iterator[tuple[Made | Job, str | None]]:
    """Each job's picture; where something breaks, the jobs left are tried in halves, down to the one that breaks.

    Halves may also do where the memory does not suffice. Whatever else of the machine fails is raised, and so is a memory
    that is too small for one job.
    """
    left = dict.fromkeys(jobs)
    try:
        for snapshot in ascend_jobs(
            model,
            jobs,
            task.recipe,
            others=others,
            batch_size=task.batch_size,
            every=task.recipe.steps,
            half=precision.halves(model.device),
        ):
            batch = next(numbers) if snapshot.finished else -1
            for place, picture in enumerate(snapshot.finished):
                del left[picture.job]
                if picture.status == "failed":
                    yield picture.job, "The ascent left the range of numbers; another recipe or learning rate may do."
                else:
                    yield Made(picture, batch, len(snapshot.finished), place), None
    except Exception as error:  # whatever a network raises at a unit that it was not made for
        rest = list(left)
        fault = machine_fault(error)
        if fault and not (fault == MEMORY and len(rest) > 1):
            raise
        if len(rest) == 1:
            yield rest[0], one_sentence(error)
            return
        for half in (rest[: len(rest) // 2], rest[len(rest) // 2 :]):
            yield from _make(model, half, task, others, numbers)


def _place(row: dict) -> tuple:
    return row["depth"], row["kind"], row["index"], row["unit"], row["recipe"], row["seed"]


class _RowMaker:
    """Turns pictures of one task into rows."""

    def __init__(self, task: Task, model: ImageModel, judges: Sequence[ImageModel]):
        self._task, self._model, self._judges = task, model, judges
        layers = [layer.name for layer in list_layers(model)]
        self._depths = {name: i for i, name in enumerate(layers)} | {"": len(layers)}
        self._synsets = labels.synsets(model.num_classes)
        if self._synsets and labels.class_names(model.num_classes) != model.class_names:
            self._synsets = None  # as many classes as ImageNet, but others
        self._common = {
            "model": model.name, "architecture": model.architecture, "family": model.family,
            "recipe": recipe_id(task.recipe), "recipe_hash": task.recipe.hash,
            "recipe_json": json.dumps(task.recipe.to_dict(), sort_keys=True),
            **{f"weights_{key}": value for key, value in model.identity.to_dict().items()},
            "environment": json.dumps(environment(model.device), sort_keys=True),
            "created": datetime.now(UTC).isoformat(timespec="seconds"), "task": task.hash,
            "said": json.dumps(task.to_dict().get("said", {}), sort_keys=True),
            "names_assumed": [one.name for one in (model, *judges) if one.names_assumed],
            **dict.fromkeys(OF_PHOTOS),
        }  # fmt: skip

    def failed(self, job: Job, error: str) -> dict:
        """The row of a unit that could not be made."""
        return self._identity(job) | {"status": "failed", "error": error}

    def rows(self, made: Sequence[Made]) -> list[dict]:
        """A row for every picture."""
        if not made:
            return []
        pixels = [m.picture.pixels for m in made]
        own = probabilities(pixels, self._model) if self._model.num_classes else [None] * len(made)
        others = [(judge, probabilities(pixels, judge)) for judge in self._judges if judge.num_classes]
        apart = spreads(((m.picture.job.unit, m.picture.pixels) for m in made), self._model)
        return [
            self._identity(m.picture.job)
            | self._picture(m)
            | self._verdicts(m.picture.job, own[i], [(judge, p[i]) for judge, p in others])
            | {"spread": apart.get(m.picture.job.unit)}
            for i, m in enumerate(made)
        ]

    def _identity(self, job: Job) -> dict:
        unit = job.unit
        leaf = unit if isinstance(unit, Leaf) else Leaf("expression")
        index = self._class(unit)
        return self._common | {
            "unit_id": unit_id(self._model.name, str(unit), self._common["recipe"], job.seed),
            "layer": leaf.layer, "depth": self._depths.get(split_run(leaf.layer)[0], len(self._depths)), "kind": leaf.kind,
            "index": leaf.arguments[0] if leaf.arguments else -1, "unit": str(unit), "title": self._title(unit),
            "class_name": "" if index is None else self._model.class_names[index],
            "synset": "" if index is None or not self._synsets else self._synsets[index], "seed": job.seed,
            "status": "ok", "error": "", "notes": [],
        }  # fmt: skip

    def _title(self, unit) -> str:
        try:
            return title(unit, self._model)
        except (IndexError, LSDError):  # a class that is not there
            return str(unit)

    def _picture(self, made: Made) -> dict:
        picture = made.picture
        height, width = picture.pixels.shape[:2]
        return {
            "picture": pictures.webp(picture.pixels, self._task.quality),
            "thumbnail": pictures.thumbnail(picture.pixels), "width": width, "height": height,
            "status": picture.status, "notes": picture.notes, "score": _finite(picture.score),
            "fine_energy": fine_energy(picture.pixels),
            "contrast": contrast(picture.pixels), "clipped": clipped(picture.pixels), "flat": flatness(picture.pixels),
            "trace": _thinned(picture.trace), "restarts": picture.restarts,
            "steps": len(picture.trace), "batch": made.batch, "batch_size": made.batch_size, "batch_place": made.batch_place,
            "pixels_sha256": pixels_sha256(picture.pixels), "seconds": picture.seconds,
        }  # fmt: skip

    def _verdicts(self, job: Job, own, others) -> dict:
        index = self._class(job.unit)
        alike = [p for judge, p in others if index is not None and judge.class_names == self._model.class_names]
        return {
            "own_top": None if own is None else _top(own, self._model),
            "own_probability": None if own is None or index is None else own[index].item(),
            "verifiers": [{"model": judge.name, "top": _top(p, judge)} for judge, p in others],
            "agreement": sum(p.argmax().item() == index for p in alike) / len(alike) if alike else None,
        }

    def _class(self, unit) -> int | None:
        """The class that a unit is, if the model has it."""
        index = class_of(unit, self._model.name)
        return index if index is not None and 0 <= index < self._model.num_classes else None


def _top(p: torch.Tensor, model: ImageModel) -> list[dict]:
    return [{"index": i, "name": name, "probability": value} for i, name, value in verdict(p, model).top]


def _thinned(trace: Sequence[float]) -> list[float | None]:
    """At most `TRACE_POINTS`, the last among them."""
    count = min(len(trace), TRACE_POINTS)
    at = [round(i * (len(trace) - 1) / max(count - 1, 1)) for i in range(count)]
    return [_finite(trace[i]) for i in at]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
