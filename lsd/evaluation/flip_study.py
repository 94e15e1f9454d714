"""Which map of a mistake changes the decision with the fewest pixels removed: the study of `flips`.

    python -m lsd.evaluation mistakes --models A B C --images SRC --output DIR

A row a mistake, method and map is kept in DIR as it is made, and an interrupted run goes on where it was; `--report` only makes
the tables.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from lsd.errors import LSDError
from lsd.evaluation.flip_table import report
from lsd.evaluation.flips import (
    FILL,
    LADDER,
    METHODS,
    find_mistakes,
    make,
    methods_missing,
    read_rows,
    rows_file,
    spread,
)
from lsd.evaluation.labelled import LabelledSet, open_set
from lsd.models import ImageModel, get_model
from lsd.provenance import environment, write_files
from lsd.saliency.methods import find_method


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument(
        "--images", required=True, metavar="SRC", help="labelled pictures, as the Mistakes tab takes them"
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="default: %(default)s")
    parser.add_argument("--limit", type=int, metavar="N", help="mistakes of each model, spread evenly (default: all)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--report", action="store_true", help="make tables of what is there; run nothing")


def run(options: argparse.Namespace) -> None:
    """Make what is missing, and print the tables."""
    if options.limit is not None and options.limit < 1:
        raise LSDError(f"--limit must be at least 1, and is {options.limit}.")
    for method in options.methods:
        find_method(method)
    pictures = open_set(options.images)
    models = [get_model(name) for name in dict.fromkeys(options.models)]
    if not options.report:
        _run(models, pictures, options)
    rows = [row for model in models for row in read_rows(rows_file(options.output, model, pictures))]
    rows = [row for row in rows if row.method in options.methods]
    if not rows:
        raise LSDError(f"There are no rows of these models in {options.output}: run the study without --report first.")
    text = report(rows)
    write_files(options.output, {"tables.md": text.encode()})
    print(text)


def _run(models: Sequence[ImageModel], pictures: LabelledSet, options: argparse.Namespace) -> None:
    """The models take turns, so that a study that is cut short has looked at all of them."""
    tasks, counts = [], {}
    for model in models:
        mistakes = find_mistakes(model, pictures, options.output)
        chosen = [mistakes[i] for i in spread(len(mistakes), options.limit)]
        rows = read_rows(rows_file(options.output, model, pictures))
        missing = [m for m in chosen if methods_missing(rows, m, options.methods)]
        tasks += [(turn, model, mistake) for turn, mistake in enumerate(missing, len(chosen) - len(missing))]
        counts[model.name] = {"mistakes": len(mistakes), "chosen": len(chosen)}
        print(
            f"{model.name}: {len(mistakes)} mistakes in {len(pictures)} pictures, {len(chosen)} looked at, "
            f"{len(chosen) - len(missing)} of them there already",
            flush=True,
        )
    began = time.perf_counter()
    for done, (_, model, mistake) in enumerate(sorted(tasks, key=lambda task: task[0]), 1):
        make(model, mistake, options.methods, rows_file(options.output, model, pictures))
        left = (time.perf_counter() - began) / done * (len(tasks) - done)
        print(f"{done}/{len(tasks)} {model.name} {mistake.item.id}: {left / 60:.0f} min left", flush=True)
    about = {"ladder": LADDER, "fill": FILL, "methods": options.methods, "counts": counts,
             "images": pictures.name, "weights": [model.identity.to_dict() for model in models],
             "environment": environment(models[0].device)}  # fmt: skip
    write_files(options.output, {"study.json": json.dumps(about, indent=1).encode()})
