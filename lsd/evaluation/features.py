"""The yardstick of feature visualization: do networks, and first of all *other* networks, recognise the pictures?

For each source model, recipe and class a picture is made; then every model says what it sees in the finished 8-bit
picture, seen whole. A picture that convinces its own network says little (noise does that), one that convinces a network
that had no part in it shows something of the class.

    python -m lsd.evaluation features --models A B C --recipes none lucid --classes 7::20 --image-steps 96 --output DIR

Pictures are kept in DIR as they are made, and an interrupted run goes on where it was.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from lsd import render
from lsd.errors import LSDError
from lsd.features.ascent import Job, ascend
from lsd.features.bundle import file_name
from lsd.features.judge import fine_energy, flatness, probabilities
from lsd.features.recipes import Recipe, find_recipe
from lsd.features.units import Leaf
from lsd.labels import short
from lsd.models import ImageModel, get_model
from lsd.provenance import environment, png, slug, write_files

_BATCH = 8


@dataclass(frozen=True)
class Score:
    """One source model and recipe, over the classes.

    Attributes:
        model, recipe: which.
        count: pictures.
        own: top-1 and mean probability of the picture's class by the source itself.
        others: verifier's name → (top-1, top-5), each over pictures, as 0 and 1.
        flat: share of pictures that are dead, grey or saturated.
        fine: mean share of the variance above a quarter of a cycle a pixel.
        seconds: a picture.
    """

    model: str
    recipe: str
    count: int
    own: np.ndarray
    own_probability: float
    others: dict[str, tuple[np.ndarray, np.ndarray]]
    flat: float
    fine: float
    seconds: float


def parse_classes(text: str, count: int) -> list[int]:
    """ "7::20" → 7, 27, 47, … below `count`; "1,5,9" as it is written.

    Raises:
        LSDError: neither of the two, or a class out of range.
    """
    try:
        if "::" in text:
            first, step = text.split("::")
            chosen = list(range(int(first), count, int(step)))
        else:
            chosen = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise LSDError(f"“{text}” is no choice of classes; write for example 7::20 or 1,5,9.") from error
    if not chosen or not all(0 <= c < count for c in chosen):
        raise LSDError(f"“{text}” leaves the classes 0 to {count - 1}, or chooses none.")
    return chosen


def at_cost(recipe: Recipe, image_steps: int | None) -> Recipe:
    """The recipe with so many steps that a picture costs `image_steps` views; None leaves it as it is."""
    if image_steps is None:
        return recipe
    return replace(recipe, steps=max(1, image_steps // recipe.transforms.views))


def make(model: ImageModel, recipe: Recipe, classes: Sequence[int], folder: Path) -> None:
    """Make the pictures that `folder` does not have yet, batch by batch, each written as soon as it is there."""
    made = _read(folder)
    wanted = [c for c in classes if c not in made]
    for start in range(0, len(wanted), _BATCH):
        batch = wanted[start : start + _BATCH]
        began = time.perf_counter()
        pictures = [p for s in ascend(model, [Leaf("class", (c,)) for c in batch], recipe) for p in s.finished]
        seconds = (time.perf_counter() - began) / len(batch)
        files = {file_name(p.job): png(Image.fromarray(p.pixels)) for p in pictures}
        entries = {
            c: {"class": c, "status": p.status, "score": p.score, "seconds": seconds}
            for c, p in zip(batch, pictures, strict=True)
        }
        made |= entries
        record = {"recipe": recipe.to_dict(), "hash": recipe.hash, "weights": model.identity.to_dict(),
                  "environment": environment(model.device), "pictures": list(made.values())}  # fmt: skip
        write_files(folder, files | {"pictures.json": json.dumps(record, indent=1).encode()})
        print(
            f"{model.name} {recipe.name}: {len(made)} of {len(classes)} classes, {seconds:.1f} s a picture", flush=True
        )


def _read(folder: Path) -> dict[int, dict]:
    path = folder / "pictures.json"
    if not path.is_file():
        return {}
    return {entry["class"]: entry for entry in json.loads(path.read_text("utf-8"))["pictures"]}


def score(
    source: ImageModel, recipe: Recipe, verifiers: Sequence[ImageModel], classes: Sequence[int], folder: Path
) -> Score:
    """What the source and the verifiers say of the pictures in `folder`."""
    made = _read(folder)
    classes = [c for c in classes if c in made]
    pixels = [picture(folder, c) for c in classes]
    target = np.array(classes)

    def ranks(model: ImageModel) -> tuple[np.ndarray, np.ndarray]:
        p = probabilities(pixels, model).numpy()
        own = p[np.arange(len(target)), target]
        return (p > own[:, None]).sum(1), own

    rank, p = ranks(source)
    flat = [made[c]["status"] != "ok" or bool(flatness(x)) for c, x in zip(classes, pixels, strict=True)]
    others = {}
    for verifier in verifiers:
        theirs, _ = ranks(verifier)
        others[verifier.name] = (theirs < 1, theirs < 5)
    return Score(
        source.name, recipe.name, len(classes), rank < 1, float(p.mean()), others, float(np.mean(flat)),
        float(np.mean([fine_energy(x) for x in pixels])), float(np.mean([made[c]["seconds"] for c in classes])),
    )  # fmt: skip


def picture(folder: Path, index: int) -> np.ndarray:
    """One of the pictures, uint8 (H, W, 3)."""
    with Image.open(folder / file_name(Job(Leaf("class", (index,)), 0))) as image:
        return np.array(image.convert("RGB"))


def interval(hits: np.ndarray, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Bootstrap 95 % interval of the mean of `hits` (N,), over pictures."""
    generator = np.random.default_rng(seed)
    means = hits[generator.integers(0, len(hits), (draws, len(hits)))].mean(1)
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


def table(scores: Sequence[Score], image_steps: int | None) -> str:
    """Markdown: a row for each source and recipe."""
    lines = [
        "| source | recipe | pictures | own top-1 | own p | others top-1 | 95 % | others top-5 | "
        "flat | fine energy | s a picture |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for s in scores:
        first = np.mean([hits for hits, _ in s.others.values()], axis=0)
        fifth = np.mean([hits for _, hits in s.others.values()], axis=0)
        low, high = interval(first)
        each = ", ".join(f"{slug(name).partition('_')[0]} {hits.mean():.0%}" for name, (hits, _) in s.others.items())
        lines.append(
            f"| {s.model} | {s.recipe} | {s.count} | {s.own.mean():.0%} | {s.own_probability:.2f} | {first.mean():.0%} "
            f"({each}) | {low:.0%}–{high:.0%} | {fifth.mean():.0%} | {s.flat:.0%} | {s.fine:.3f} | {s.seconds:.1f} |"
        )
    cost = "as in each recipe" if image_steps is None else f"{image_steps} image-steps a picture"
    return "\n".join([*lines, "", f"Cost: {cost}."])


def sheet(
    source: ImageModel, recipes: Sequence[Recipe], folders: Sequence[Path], classes: Sequence[int]
) -> Image.Image:
    """One row a recipe, one column a class."""
    rows = [[Image.fromarray(picture(f, c)) for c in classes] for f in folders]
    names = [short(source.class_names[c]) for c in classes]
    return render.contact_sheet(rows, [r.name for r in recipes], names, title=source.name, cell=150)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--models", nargs="+", required=True, help="sources; each is judged by all others")
    parser.add_argument("--recipes", nargs="+", default=["none", "lucid", "maco", "deepinversion"])
    parser.add_argument("--classes", default="7::20", help="first::step, or a list (default: %(default)s)")
    parser.add_argument(
        "--image-steps", type=int, help="what a picture may cost in views (default: the recipe's steps)"
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--report", action="store_true", help="judge what is there; make nothing")
    parser.add_argument("--sheet", type=int, default=10, help="classes on a contact sheet")


def run(options: argparse.Namespace) -> None:
    """Make what is missing, judge it, print the table and write contact sheets."""
    models = [get_model(name) for name in options.models]
    counts = {model.num_classes for model in models}
    if len(counts) > 1:
        raise LSDError("The models name different classes, so none can judge another's pictures; choose models alike.")
    classes = parse_classes(options.classes, counts.pop())
    recipes = [at_cost(find_recipe(name), options.image_steps) for name in options.recipes]
    folders = {(m.name, r.name): options.output / slug(m.name) / f"{r.name}-{r.hash}" for m in models for r in recipes}
    if not options.report:
        for model in models:
            for recipe in recipes:
                make(model, recipe, classes, folders[model.name, recipe.name])
    scores = []
    for model in models:
        verifiers = [other for other in models if other is not model]
        there = [r for r in recipes if _read(folders[model.name, r.name])]
        scores += [score(model, r, verifiers, classes, folders[model.name, r.name]) for r in there]
        shown = [c for c in classes if all(c in _read(folders[model.name, r.name]) for r in there)][: options.sheet]
        if there and shown:
            image = sheet(model, there, [folders[model.name, r.name] for r in there], shown)
            write_files(options.output, {f"{slug(model.name)}.png": png(image)})
    text = table(scores, options.image_steps)
    write_files(options.output, {"table.md": (text + "\n").encode()})
    print(text)
