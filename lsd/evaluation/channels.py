"""Do pictures of hidden channels excite them more than photos do?

    python -m lsd.evaluation channels --models A B --recipes lsd --units layer:curated:16:6 --photos DIR --output FILE

A channel's picture, as it is kept in 8 bits and seen whole, is held against the channel's answers to photos: one that a
twentieth of the photos excite more shows little of what the channel looks for. Whether pictures fade towards their edges is
told as well. The table is printed, and the figures of every channel are kept in FILE.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lsd import markdown
from lsd.features.ascent import ascend
from lsd.features.judge import answers, edge_detail
from lsd.features.photos import photo_batches
from lsd.features.recipes import DEFAULT, Recipe, described
from lsd.features.units import Unit, expand
from lsd.models import ImageModel, get_model
from lsd.provenance import write_files


@dataclass(frozen=True)
class Ranks:
    """One model and recipe.

    Attributes:
        model, recipe: which.
        units: what was visualized, and is alive.
        dead: how many more are dead.
        rank: (units,) share of the photos that excite the unit less than its picture does.
        ratio: (units,) the picture's answer over the strongest photo's; nan where no photo has one above 0.
        edge: (units,) detail at the picture's edge over that in its middle, as `judge.edge_detail`.
    """

    model: str
    recipe: str
    units: tuple[str, ...]
    dead: int
    rank: np.ndarray
    ratio: np.ndarray
    edge: np.ndarray


def ranks(model: ImageModel, recipe: Recipe, units: Sequence[Unit], photos: np.ndarray) -> Ranks:
    """Make a picture of each unit and hold it against the answers (units, photos) to photos."""
    pictures = [p for snapshot in ascend(model, units, recipe, every=10**6) for p in snapshot.finished]
    photos = photos[[p.status == "ok" for p in pictures]]
    living = [p for p in pictures if p.status == "ok"]
    scores, best = np.array([p.score for p in living]), photos.max(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(best > 0, scores / best, np.nan)
    return Ranks(
        model.name, recipe.name, tuple(str(p.job.unit) for p in living), len(pictures) - len(living),
        (photos < scores[:, None]).mean(1), ratio, np.array([edge_detail(p.pixels) for p in living]),
    )  # fmt: skip


def table(found: Sequence[Ranks]) -> str:
    """Markdown: a row for each model and recipe."""
    heads = [
        "model", "recipe", "live channels", "dead", "above 95% of photos", "above all photos",
        "median of picture / best photo", "detail at the edge / in the middle",
    ]  # fmt: skip
    rows = (
        [
            r.model, r.recipe, f"{len(r.units)}", f"{r.dead}", f"{(r.rank >= 0.95).mean():.1%}",
            f"{(r.rank == 1).mean():.1%}", f"{np.nanmedian(r.ratio):.1f}", f"{np.nanmedian(r.edge):.2f}",
        ]
        for r in found
    )  # fmt: skip
    return "\n".join(markdown.table(heads, rows))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--recipes", nargs="+", default=[DEFAULT])
    parser.add_argument(
        "--units", default="layer:curated:16:6", help="as python -m lsd features (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, help="of the ascent (default: the recipe's)")
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the figures of every channel, as JSON")


def run(options: argparse.Namespace) -> None:
    """Make the pictures, print the table."""
    recipes = [described(name, steps=options.steps) for name in options.recipes]
    found = []
    for name in options.models:
        model = get_model(name)
        units = expand(options.units, model)
        photos = answers(units, model, photo_batches(options.photos, model)).numpy()
        for recipe in recipes:
            found.append(ranks(model, recipe, units, photos))
            print(table(found[-1:]), flush=True)
    if options.output:
        rows = [
            {
                "model": r.model, "recipe": r.recipe, "unit": unit, "rank": float(rank), "ratio": float(ratio),
                "edge": float(edge),
            }
            for r in found
            for unit, rank, ratio, edge in zip(r.units, r.rank, r.ratio, r.edge, strict=True)
        ]  # fmt: skip
        write_files(options.output.parent, {options.output.name: json.dumps(rows, indent=1).encode()})
    print("\n" + table(found))
