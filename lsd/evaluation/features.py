"""The yardstick of feature visualization: do networks, and first of all *other* networks, recognise the pictures?

For each source, recipe, class and seed a picture is made; then every model says what it sees in the finished 8-bit
picture, seen whole. A picture that convinces its own network says little (noise does that), one that convinces a network
that had no part in it shows something of the class.

    python -m lsd.evaluation features --models A B C --recipes none lucid --classes 7::20 --image-steps 96 --output DIR

With `--image-steps 16 32 64 own` every recipe is made with so many views a picture, each a run of its own, and two plots show what
seconds and views buy.

A source is one model or, with `--consensus`, all but one together, whose log-odds are added up; the one left out judges.
Pictures are kept in DIR as they are made, and an interrupted run goes on where it was.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from lsd import markdown, render
from lsd.catalogue import common_name
from lsd.errors import LSDError
from lsd.evaluation import time_to_quality
from lsd.evaluation.disturb import disturbed
from lsd.evaluation.time_to_quality import interval
from lsd.features.ascent import ascend_jobs
from lsd.features.bundle import file_name
from lsd.features.judge import clipped, contrast, fine_energy, flatness, probabilities, spreads
from lsd.features.pictures import Job, Picture
from lsd.features.recipes import DEFAULT, Recipe, described
from lsd.features.units import Leaf, Unit, parse
from lsd.images import find_images, open_image
from lsd.labels import short
from lsd.models import ImageModel, get_model
from lsd.provenance import environment, png, slug, write_files

_BATCH = 8
_COLUMNS = 10  # of a contact sheet


@dataclass(frozen=True)
class Source:
    """What pictures are made from: one model, or several at once."""

    models: tuple[ImageModel, ...]

    @property
    def name(self) -> str:
        """The models' names."""
        return " + ".join(model.name for model in self.models)

    def unit(self, index: int) -> Unit:
        """A class of the model, or the sum of all models' log-odds of it."""
        if len(self.models) == 1:
            return Leaf("class", (index,))
        return parse(" + ".join(f"{model.name}::class/{index}" for model in self.models))


@dataclass(frozen=True)
class Score:
    """One source and recipe, over the pictures of all classes and seeds.

    Attributes:
        source, recipe: which.
        count: pictures.
        own: whether the source itself puts the picture's class first (all its models do).
        own_probability: mean probability that it gives the class.
        robust: (count, 4) `own` under each of `disturb`'s changes.
        others: verifier's name → (top-1, top-5, probability of the class), each over pictures; the first two as 0 and 1.
        apart: mean distance of the seeds' pictures (see `judge.spread`); nan for one seed.
        flat: share of pictures that are dead, grey or saturated.
        fine: mean share of the variance above a quarter of a cycle a pixel.
        contrast, clipped: mean standard deviation of their colours, and share of them that is black or white.
        image_steps: views that a picture cost.
        seconds: a picture.
    """

    source: str
    recipe: str
    count: int
    own: np.ndarray
    own_probability: float
    robust: np.ndarray
    others: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
    apart: float
    flat: float
    fine: float
    contrast: float
    clipped: float
    image_steps: int
    seconds: float

    @property
    def recognised(self) -> np.ndarray:
        """(count,) the share of the verifiers that put the picture's class first."""
        return np.mean([hits for hits, *_ in self.others.values()], axis=0)


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


def _views(recipe: Recipe) -> int:
    return recipe.steps * recipe.transforms.views


def at_budgets(recipes: Sequence[Recipe], budgets: Sequence[str]) -> list[Recipe]:
    """Every recipe at every budget: a number of views a picture, or "own" for the recipe's own; each once.

    Raises:
        LSDError: a budget that is neither.
    """
    for budget in budgets:
        if budget != "own" and not (budget.isdecimal() and int(budget) > 0):
            raise LSDError(f"“{budget}” is no budget; give numbers of views, or own.")
    made = [at_cost(recipe, None if budget == "own" else int(budget)) for recipe in recipes for budget in budgets]
    return list({(recipe.name, recipe.hash): recipe for recipe in made}.values())


def make(source: Source, recipe: Recipe, classes: Sequence[int], seeds: int, folder: Path) -> None:
    """Make the pictures that `folder` does not have yet, batch by batch, each written as soon as it is there."""
    made = _read(folder)
    first = source.models[0]
    wanted = [(c, k) for k in range(seeds) for c in classes if (c, k) not in made]
    for start in range(0, len(wanted), _BATCH):
        batch = wanted[start : start + _BATCH]
        began = time.perf_counter()
        snapshots = ascend_jobs(first, [Job(source.unit(c), k) for c, k in batch], recipe, others=source.models)
        pictures = [p for snapshot in snapshots for p in snapshot.finished]
        seconds = (time.perf_counter() - began) / len(batch)
        files = {_file(*key): png(Image.fromarray(p.pixels)) for key, p in zip(batch, pictures, strict=True)}
        made |= {key: _entry(key, p, seconds) for key, p in zip(batch, pictures, strict=True)}
        record = {"recipe": recipe.to_dict(), "hash": recipe.hash,
                  "weights": [model.identity.to_dict() for model in source.models],
                  "environment": environment(first.device), "pictures": list(made.values())}  # fmt: skip
        write_files(folder, files | {"pictures.json": json.dumps(record, indent=1).encode()})
        done = len(classes) * seeds - len(wanted) + start + len(batch)
        print(f"{source.name} {recipe.name}: {done} of {len(classes) * seeds}, {seconds:.1f} s a picture", flush=True)


def _entry(key: tuple[int, int], picture: Picture, seconds: float) -> dict:
    index, seed = key
    return {"class": index, "seed": seed, "status": picture.status, "score": picture.score, "seconds": seconds}


def _file(index: int, seed: int) -> str:
    return file_name(Job(Leaf("class", (index,)), seed))


def _read(folder: Path) -> dict[tuple[int, int], dict]:
    path = folder / "pictures.json"
    if not path.is_file():
        return {}
    pictures = json.loads(path.read_text("utf-8"))["pictures"]
    return {(entry["class"], entry.get("seed", 0)): entry for entry in pictures}


def score(
    source: Source, recipe: Recipe, verifiers: Sequence[ImageModel], classes: Sequence[int], folder: Path
) -> Score:
    """What the source and the verifiers say of the pictures in `folder`, of these classes and all seeds."""
    found = _read(folder)
    made = {key: found[key] for index in classes for key in found if key[0] == index}
    pixels = [picture(folder, *key) for key in made]
    target = np.array([index for index, _ in made])

    def ranks(model: ImageModel, shown: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        p = probabilities(shown, model).numpy()
        own = p[np.arange(len(target)), target]
        return (p > own[:, None]).sum(1), own

    def recognised(shown: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
        """Whether all of the source's models put the class first, and the mean probability that they give it."""
        rank, p = zip(*(ranks(model, shown) for model in source.models), strict=True)
        return np.all(np.array(rank) < 1, axis=0), float(np.mean(p))

    flat = [entry["status"] != "ok" or bool(flatness(x)) for entry, x in zip(made.values(), pixels, strict=True)]
    apart = spreads(((source.unit(index), x) for (index, _), x in zip(made, pixels, strict=True)), source.models[0])
    others = {}
    for verifier in verifiers:
        theirs, probability = ranks(verifier, pixels)
        others[verifier.name] = (theirs < 1, theirs < 5, probability)
    return Score(
        source.name, recipe.name, len(made), *recognised(pixels),
        np.stack([recognised(shown)[0] for shown in disturbed(pixels).values()], 1), others,
        float(np.mean(list(apart.values()))) if apart else float("nan"), float(np.mean(flat)),
        *(float(np.mean([measure(x) for x in pixels])) for measure in (fine_energy, contrast, clipped)),
        _views(recipe), float(np.mean([entry["seconds"] for entry in made.values()])),
    )  # fmt: skip


def picture(folder: Path, index: int, seed: int = 0) -> np.ndarray:
    """One of the pictures, uint8 (H, W, 3)."""
    with Image.open(folder / _file(index, seed)) as image:
        return np.array(image.convert("RGB"))


def table(scores: Sequence[Score]) -> str:
    """Markdown: a row for each source and recipe."""
    heads = [
        "source", "recipe", "views", "pictures", "own top-1", "own p", "robust own", "others top-1", "95%", "others top-5",
        "others p", "seeds apart", "flat", "fine energy", "contrast", "black or white", "s a picture",
    ]  # fmt: skip
    rows = []
    for s in scores:
        first, fifth, probability = (np.mean(values, axis=0) for values in zip(*s.others.values(), strict=True))
        low, high = interval(s.recognised)
        each = ", ".join(f"{common_name(name)} {hits.mean():.0%}" for name, (hits, *_) in s.others.items())
        apart = "–" if np.isnan(s.apart) else f"{s.apart:.2f}"
        rows.append([
            s.source, s.recipe, f"{s.image_steps}", f"{s.count}", f"{s.own.mean():.0%}", f"{s.own_probability:.2f}",
            f"{s.robust.mean():.0%}",
            f"{first.mean():.0%} ({each})", f"{low:.0%}–{high:.0%}", f"{fifth.mean():.0%}", f"{probability.mean():.2f}", apart,
            f"{s.flat:.0%}", f"{s.fine:.3f}", f"{s.contrast:.2f}", f"{s.clipped:.1%}", f"{s.seconds:.2f}",
        ])  # fmt: skip
    return "\n".join(markdown.table(heads, rows))


def of_photos(folder: Path) -> str:
    """A sentence: between which figures nine of ten photos lie, cut as a network is shown them."""
    photos = [np.asarray(ImageOps.fit(open_image(path), (224, 224))) for path in find_images(folder)]
    if not photos:
        raise LSDError(f"There are no photos in {folder}; give a folder of pictures with --photos.")
    between = []
    for name, measure in (("fine energy", fine_energy), ("contrast", contrast), ("black or white", clipped)):
        low, high = np.percentile([measure(photo) for photo in photos], [5, 95])
        between.append(f"{name} {low:.3f} to {high:.3f}")
    return f"Of {len(photos)} photos, from the 5th to the 95th percentile: {', '.join(between)}."


def sheet(source: Source, recipes: Sequence[Recipe], folders: Sequence[Path], classes: Sequence[int]) -> Image.Image:
    """One row a recipe, one column a class; after ten classes the next ones stand below."""
    rows = [[Image.fromarray(picture(f, c)) for c in classes] for f in folders]
    names = [short(source.models[0].class_names[c]) for c in classes]
    return render.wrapped_sheet(
        rows, [f"{r.name}, {_views(r)}" for r in recipes], names, source.name, columns=_COLUMNS, cell=150
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--models", nargs="+", required=True, help="sources; each is judged by all others")
    parser.add_argument("--verifiers", nargs="+", default=[], help="further models that judge, and are no sources")
    parser.add_argument("--consensus", action="store_true", help="sources are all models but one, which judges")
    parser.add_argument(
        "--recipes", nargs="*", default=["none", "lucid", "maco", "deepinversion", DEFAULT],
        help="names, or JSON files (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--variant", nargs="+", action="append", default=[], metavar=("NAME", "RECIPE"),
        help="a recipe of one's own: its NAME, the RECIPE it comes from, and what is changed, such as tv=0.5; repeatable",
    )  # fmt: skip
    parser.add_argument("--classes", default="7::20", help="first::step, or a list (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="pictures of each class (default: 1)")
    parser.add_argument(
        "--image-steps", nargs="+", default=["own"], metavar="VIEWS",
        help="what a picture may cost in views, each a run of its own; own: the recipe's steps (default: own)",
    )  # fmt: skip
    parser.add_argument("--photos", type=Path, help="a folder of photos whose fine energy and contrast are told beside")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--report", action="store_true", help="judge what is there; make nothing")
    parser.add_argument("--sheet", type=int, default=10, help="classes on a contact sheet")


def _recipes(options: argparse.Namespace) -> list[Recipe]:
    """The recipes and variants asked for; each name once, as pictures are kept and told apart by it."""
    if any(len(variant) < 2 for variant in options.variant):
        raise LSDError("A variant is its name, the recipe it comes from, and settings: --variant calm lsd tv=0.5.")
    recipes = [described(text) for text in options.recipes]
    recipes += [replace(described(recipe, settings), name=name) for name, recipe, *settings in options.variant]
    names = [recipe.name for recipe in recipes]
    if not names or len(set(names)) < len(names):
        raise LSDError(
            f"Recipes need names of their own, and there is one at least; these are: {', '.join(names) or 'none'}."
        )
    return recipes


def run(options: argparse.Namespace) -> None:
    """Make what is missing, judge it, print the table and write contact sheets."""
    if options.seeds < 1:
        raise LSDError(f"--seeds must be at least 1, and is {options.seeds}.")
    models = [get_model(name) for name in options.models]
    judges = models + [get_model(name) for name in options.verifiers if name not in options.models]
    counts = {model.num_classes for model in judges}
    if len(counts) > 1:
        raise LSDError("The models name different classes, so none can judge another's pictures; choose models alike.")
    if options.consensus and len(models) < 3:
        raise LSDError("A consensus is of two models at least, with a third that judges: give three or more --models.")
    groups = [[m for m in models if m is not left] if options.consensus else [left] for left in models]
    sources = [Source(tuple(group)) for group in groups]
    classes = parse_classes(options.classes, counts.pop())
    recipes = at_budgets(_recipes(options), options.image_steps)
    folders = {
        (s.name, r): options.output / slug(s.name) / f"{slug(r.name)}-{r.hash}" for s in sources for r in recipes
    }
    if not options.report:
        for source in sources:
            for recipe in recipes:
                make(source, recipe, classes, options.seeds, folders[source.name, recipe])
    scores = []
    for source in sources:
        verifiers = [other for other in judges if other not in source.models]
        of = {r: folders[source.name, r] for r in recipes if _read(folders[source.name, r])}
        scores += [score(source, r, verifiers, classes, folder) for r, folder in of.items()]
        shown = [c for c in classes if all((c, 0) in _read(folder) for folder in of.values())][: options.sheet]
        if of and shown:
            image = sheet(source, list(of), list(of.values()), shown)
            write_files(options.output, {f"{slug(source.name)}.png": png(image)})
    text = table(scores)
    if options.photos:
        text += "\n\n" + of_photos(options.photos)
    write_files(options.output, {"table.md": (text + "\n").encode()})
    if len(options.image_steps) > 1 and scores:
        plots = {f"{x}.png": time_to_quality.plot(scores, x) for x in ("seconds", "views")}
        write_files(options.output, plots)
    print(text)
