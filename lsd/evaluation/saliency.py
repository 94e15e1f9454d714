"""The evidence behind the saliency defaults: every choice scored in every way that the field has.

    python -m lsd.evaluation saliency --models A B C --images DIR --output DIR

Four parts, each a row of tasks that are run side by side, kept as one parquet file each, and not run again:

- photos: pictures that every model gets right. μ-fidelity, deletion and insertion of the true class's map.
- grid2, grid3: 2 × 2 and 3 × 3 of pictures that every model gets right with p ≥ .9, shrunk to the model's own input:
  the grid pointing game, with each cell's class as the target in turn.
- demo: drawn pictures with exact masks, through the demo models: energy inside, pointing game, and the three of photos.
- trust: parameter randomization, impossible attribution, sensitivity to noise, completeness, likeness to edges.

`ranking` makes tables and verdicts of the rows; `--report` does only that. Rows of a study that stands can be gone on from:
`--beside FILE` reads them too, `--methods` scores only what is new, on the same pictures, and `--rows FILE` keeps all in one file.
"""

import argparse
import functools
import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lsd.demo import CLASS_NAMES
from lsd.errors import LSDError
from lsd.evaluation.choices import as_measured
from lsd.evaluation.classes import Label
from lsd.evaluation.labelled import LabelledSet, open_set, true_indices
from lsd.evaluation.mistakes import scan
from lsd.evaluation.ranking import report
from lsd.evaluation.saliency_rows import cell_item, read_rows, rows_bytes, table_bytes
from lsd.evaluation.saliency_scores import DEMO_TIMES, FRACTIONS, SIZES, Size, score_grid, score_picture
from lsd.evaluation.trust import trust_rows
from lsd.evaluation.variants import FACTORS, Variant, grid, variants
from lsd.images import prepare
from lsd.models import ImageModel, get_model
from lsd.provenance import environment, slug, write_files

DEMO_MODELS = ("demo:resnet", "demo:vit", "demo:convnext")
SURE = 0.9
CHOSEN_ON = 5  # methods and defaults are chosen on photos whose class is a multiple; all others judge what was chosen
TRUST_SAMPLES = 8  # of noisy copies and steps where every map is made many times over


@dataclass(frozen=True)
class Task:
    """One piece of work: some items of one part with one model. `items` are positions in `_pictures`."""

    part: str
    model: str
    start: int
    items: tuple[tuple[int, ...], ...]


PARTS = ("photos", "grid2", "grid3", "demo", "trust")


@dataclass(frozen=True)
class Study:
    """All that determines the rows, and where the pictures are; goes to the workers."""

    images: str
    size: Size
    chosen: tuple[int, ...]  # positions in the set, of pictures that every model gets right
    sure: tuple[int, ...]  # of these, with p ≥ SURE
    only: tuple[Variant, ...] = ()  # what is scored, and nothing else; () for all that is compared


def plan(study: Study, models: Sequence[str]) -> list[Task]:
    """All tasks: the parts side by side, so that a study cut short has some of each; "trust", of which a little says much, last."""
    models = list(dict.fromkeys(models))
    tasks = []
    for part, names, count, group, chunk in (
        ("photos", models, len(study.chosen), 1, 4),
        ("grid2", models, min(len(study.sure), study.size.grids) // 4, 4, 1),
        ("grid3", models, min(len(study.sure), study.size.grids) // 9, 9, 1),
        ("demo", DEMO_MODELS, study.size.photos, 1, 8),
        ("trust", list(dict.fromkeys([*models, *DEMO_MODELS])), 1, 1, 1),
    ):
        for name in names:
            for start in range(0, count, chunk):
                items = tuple(tuple(range(group * i, group * (i + 1))) for i in range(start, min(start + chunk, count)))
                tasks.append(Task(part, name, start, items))
    return sorted(tasks, key=lambda t: (t.part == "trust", t.start * len(t.items[0])))


def run_task(study: Study, task: Task) -> bytes:
    """The rows of a task as the bytes of a parquet file."""
    began = time.perf_counter()
    model = get_model(task.model)
    rows: list[tuple[str, str, str, float]] = []  # item, variant, metric, value
    pictures = _pictures(study, task)
    if task.part == "trust":
        inputs = [_input(pictures, i, model) for i in range(min(study.size.trust, len(pictures)))]
        rows += trust_rows(model, [x for x, *_ in inputs], [c for _, c, *_ in inputs], TRUST_SAMPLES, study.only)
    for place, members in enumerate(task.items if task.part != "trust" else ()):
        position = task.start + place
        inputs = [_input(pictures, i, model) for i in members]
        if task.part.startswith("grid"):
            scored = score_grid(
                model,
                np.stack([x for x, *_ in inputs]),
                [c for _, c, *_ in inputs],
                position,
                study.size,
                study.only,
            )
            for (_, _, item, _), own in zip(inputs, scored, strict=True):
                rows += [(cell_item(position, item), *row) for row in own]
        else:
            ((x, index, item, mask),) = inputs
            rows += [(item, *row) for row in score_picture(model, x, index, position, study.size, mask, study.only)]
    rows.append(("", "", "seconds", time.perf_counter() - began))
    return rows_bytes(task.part, task.model, rows)


def _pictures(study: Study, task: Task) -> LabelledSet:
    """What a task's positions count in."""
    if task.part == "demo" or (task.part == "trust" and task.model in DEMO_MODELS):
        return _demo(study)
    whole = open_set(study.images)
    positions = study.sure if task.part.startswith("grid") else study.chosen
    return LabelledSet(whole.name, tuple(whole[i] for i in positions))


def _demo(study: Study) -> LabelledSet:
    """Whole rounds of the classes, so that every position holds the same picture however many are asked for."""
    return open_set("demo", limit=-(-study.size.photos // len(CLASS_NAMES)) * len(CLASS_NAMES))


def _input(pictures: LabelledSet, position: int, model: ImageModel) -> tuple[np.ndarray, int, str, np.ndarray | None]:
    """A picture as the model sees it, its class, its id, and its mask if that lies on the same pixels."""
    item = pictures[position]
    image = prepare(item.picture(), model.spec)
    index = int(true_indices(LabelledSet(pictures.name, (item,)), model)[0])
    mask = item.mask()
    return image, index, item.id, mask if mask is not None and mask.shape == image.shape[1:] else None


def select(
    models: Sequence[str], images: str, count: int, *, choosing: bool = False
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Positions in the set of up to `count` pictures that all models get right, and of those that they are sure of.

    The second fill the grids, in which no class may be there twice: one of each class.

    Args:
        choosing: of the pictures that choices are made by, instead of those that judge them.

    Raises:
        LSDError: too few for a single grid.
    """
    result = None
    for step in scan(list(models), open_set(images)):
        print(f"\rclassifying: {step.done} of {step.total}", end="", flush=True)
        result = step.result
    print()
    assert result is not None
    known = {item.id: i for i, item in enumerate(open_set(images))}
    right = ~result.wrong.any(0) & ((result.true[0] % CHOSEN_ON == 0) == choosing)
    sure = right & (result.true_probability >= SURE).all(0)
    order = np.random.default_rng(0).permutation(len(result.items))  # not by class, whose neighbours look alike
    chosen = [known[result.items[i].id] for i in order if right[i]][:count]
    by_class: dict[Label, int] = {}
    for i in order:
        if sure[i]:
            by_class.setdefault(result.items[i].label, known[result.items[i].id])
    confident = list(by_class.values())[:count]
    if len(confident) < 9:
        raise LSDError(
            f"All models are right and sure of pictures of only {len(confident)} classes, and a grid takes 9; "
            "give more pictures or other models."
        )
    return tuple(chosen), tuple(confident)


def same_pictures(rows: Path, images: str, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """As `select`, of the pictures that a study's rows are about, in their order.

    Raises:
        LSDError: rows that cannot be read, or of pictures that are not in the set.
    """
    table = read_rows([rows])
    known = {item.id: i for i, item in enumerate(open_set(images))}

    def positions(part: str) -> tuple[int, ...]:
        own = table.filter(pc.equal(table["part"].cast(pa.string()), part))
        names = [item.rpartition("|")[2] for item in own["item"].unique().to_pylist() if item]
        if missing := [name for name in names if name not in known]:
            raise LSDError(f"{rows.name} is about other pictures than those of {images}, {missing[0]} among them.")
        return tuple(known[name] for name in names)[:count]

    return positions("photos"), positions("grid2")


def _start_worker(threads: int) -> None:
    import torch

    from lsd.memory import keep_freed_memory

    torch.set_num_threads(threads)
    keep_freed_memory()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--models", nargs="+", required=True, help="ImageNet models; the demo models are always there")
    parser.add_argument("--images", required=True, help="labelled photos, as the Mistakes tab takes them")
    for name, value in asdict(Size()).items():
        parser.add_argument(f"--{name}", type=int, default=value, metavar="N", help=f"{SIZES[name]} (default: {value})")
    parser.add_argument(
        "--choosing", action="store_true",
        help=f"take the photos whose class is a multiple of {CHOSEN_ON}, to choose defaults by, instead of all the others, "
        "which judge them",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="(default: all)")
    parser.add_argument(
        "--methods", nargs="+", default=(), metavar="M", choices=[v.level for v in FACTORS["method"].levels],
        help="score these methods alone, to be added to rows that stand (default: all that is compared)",
    )  # fmt: skip
    parser.add_argument(
        "--beside", type=Path, metavar="FILE", help="rows that stand, reported with those of this study"
    )
    parser.add_argument(
        "--rows", type=Path, metavar="FILE", help="also write all rows that are reported to this parquet file"
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--report", action="store_true", help="make tables of what is there; run nothing")
    parser.add_argument("--summary", type=Path, help="also write the tables' figures to this JSON file")


def run(options: argparse.Namespace) -> None:
    """Run what is missing, and print tables and verdicts.

    Raises:
        LSDError: no process to run in, or no rows to report.
    """
    if options.workers < 1:
        raise LSDError(f"--workers must be at least 1, and is {options.workers}.")
    size = Size(**{name: getattr(options, name) for name in asdict(Size())})
    levels = (FACTORS["method"].on("", level) for level in dict.fromkeys(options.methods))
    only = tuple(as_measured(level) if options.beside else level for level in levels)
    study = Study(options.images, size, *_selection(options, size), only)
    tasks = plan(study, options.models)
    files = {task: options.output / _file(study, task) for task in tasks}
    if not options.report:
        _run(study, {task: file for task, file in files.items() if task.part in options.parts}, options)
    standing = [options.beside] if options.beside else []
    rows = read_rows([*standing, *(file for file in files.values() if file.is_file())])
    text, summary = report(rows)
    write_files(options.output, {"tables.md": text.encode()})
    if options.rows:
        write_files(options.rows.parent, {options.rows.name: table_bytes(rows)})
    if options.summary:
        data = json.dumps(summary, indent=1, ensure_ascii=False).encode()
        write_files(options.summary.parent, {options.summary.name: data})
    print(text)


def _run(study: Study, files: dict[Task, Path], options: argparse.Namespace) -> None:
    missing = [task for task, file in files.items() if not file.is_file()]
    print(f"{len(files)} tasks, {len(files) - len(missing)} of them there already", flush=True)
    threads = max(1, (os.cpu_count() or 1) // options.workers)
    began = time.perf_counter()
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(options.workers, context, _start_worker, (threads,)) as pool:
        running = {pool.submit(run_task, study, task): task for task in missing}
        for count, future in enumerate(as_completed(running), 1):
            task = running[future]
            try:
                write_files(options.output, {files[task].name: future.result()})
            except BaseException:
                pool.shutdown(cancel_futures=True)  # what waits would run for hours, and be kept by nobody
                raise
            spent = time.perf_counter() - began
            left = spent / count * (len(missing) - count)
            print(f"{count}/{len(missing)} {task.part} {task.model} {task.start}: {left / 60:.0f} min left", flush=True)
    about = {
        "size": asdict(study.size),
        "models": options.models,
        "environment": environment(get_model("demo:resnet").device),
    }
    write_files(options.output, {"study.json": json.dumps(about, indent=1).encode()})


def _selection(options: argparse.Namespace, size: Size) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """As `select`, kept in the folder, since it takes a pass of every model over every picture; beside rows, those of the rows."""
    if options.beside:
        return same_pictures(options.beside, options.images, size.photos)
    key = {
        "models": options.models, "images": Path(options.images).name, "photos": size.photos, "modulo": CHOSEN_ON,
        "choosing": options.choosing,
    }  # fmt: skip
    path = options.output / "selection.json"
    if path.is_file():
        kept = json.loads(path.read_text("utf-8"))
        if kept["key"] == key:
            return tuple(kept["chosen"]), tuple(kept["sure"])
    if options.report:
        raise LSDError(f"There are no results of this study in {options.output}: run it without --report first.")
    chosen, sure = select(options.models, options.images, size.photos, choosing=options.choosing)
    write_files(options.output, {path.name: json.dumps({"key": key, "chosen": chosen, "sure": sure}).encode()})
    return chosen, sure


def _file(study: Study, task: Task) -> str:
    """Named by all that its rows depend on, so that a file of another study is not taken for this one's.

    How many pictures there are in all is no part of it: more can be added to a study.
    """
    size, times = study.size, DEMO_TIMES if task.part == "demo" else 1
    places = [
        (position, *((position + 1) * len(members) <= times * n for n in (size.many, size.removed, size.full)))
        for position, members in enumerate(task.items, task.start)
    ]
    if task.part in ("demo", "trust"):
        pictures = study.chosen[: size.trust] if task.part == "trust" else ()
    else:
        own = study.chosen if task.part == "photos" else study.sure
        pictures = [own[i] for members in task.items for i in members]
    weights = get_model(task.model).identity.sha256
    pictured = task.part == "trust" and size.trust
    compared = _compared(study.only)
    told = repr((size.regions, pictured, places, list(pictures), weights, compared, FRACTIONS, SURE, TRUST_SAMPLES))
    return f"{task.part}-{slug(task.model)}-{task.start:04d}-{hashlib.sha256(told.encode()).hexdigest()[:10]}.parquet"


@functools.cache
def _compared(only: tuple[Variant, ...]) -> tuple[str, ...]:
    """All that is compared, in words."""
    return tuple(repr(variant) for variant in only or (*variants(), *grid()))
