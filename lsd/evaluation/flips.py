"""Where models are wrong, which map lets the probe change the decision with the fewest pixels?

For each mistake, three maps by each method: of the predicted class, of the true one, and of what decided between them.
By each the most salient pixels are taken away, more and more of them, until the answer is another ("flipped"), and until
it is the right one ("mended"). Beside them the two controls of `probe`, random pixels and random blobs.

A row a mistake, method and map; `flip_study` makes and keeps them, `flip_table` makes tables of them.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from lsd.errors import LSDError
from lsd.evaluation.contrast_maps import mistake_maps, strength
from lsd.evaluation.labelled import LabelledSet
from lsd.evaluation.mistakes import Prediction, scan, select
from lsd.evaluation.probe import CONTROLS, ranks, without
from lsd.features.prepare import prepare
from lsd.labels import short
from lsd.models import ImageModel
from lsd.provenance import slug, write_files
from lsd.saliency.explain import to_input
from lsd.saliency.gradients import baseline

LADDER = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
MAPS = ("predicted", "true", "contrast")
METHODS = ("gradient", "depth_fusion", "grad_cam")
FILL = "mean"


@dataclass(frozen=True)
class Flip:
    """What taking pixels away by one map does.

    Attributes:
        fraction: the smallest rung of the ladder at which the answer is another; None if it never is.
        to: what the answer is then.
        mended: the smallest rung at which the answer is the true class; None if it never is.
    """

    fraction: float | None
    to: int | str | None
    mended: float | None


@dataclass(frozen=True)
class Row:
    """One mistake, method and map.

    Attributes:
        model, item: which mistake.
        true, predicted: the classes' names.
        probability, true_probability: of the predicted and of the true class, for the whole picture.
        method, map: which map; `map` is one of `MAPS`.
        empty: nothing in this picture speaks for what the map is of, so that its pixels go in random order.
        flips: what removing does, with the classes' names: "map", and by each of `probe.CONTROLS`, drawn
            once a mistake (random pixels) or once a mistake and method (random blobs, after its contrast map).
    """

    model: str
    item: str
    true: str
    predicted: str
    probability: float
    true_probability: float
    method: str
    map: str
    empty: bool
    flips: dict[str, Flip]

    @classmethod
    def from_dict(cls, values: dict) -> "Row":
        """From what `dataclasses.asdict` gives."""
        return cls(**values | {"flips": {name: Flip(**flip) for name, flip in values["flips"].items()}})


def climb(
    model: ImageModel, image: Tensor, maps: Sequence[np.ndarray], predicted: int, true: int, *,
    ladder: Sequence[float] = LADDER, batch_size: int = 20,
) -> list[Flip]:  # fmt: skip
    """Take away more and more pixels by each map, all maps side by side, each until its answer is the true class.

    The fraction is `probe`'s flip fraction: pixels that are equally salient go in its order, and nothing is skipped,
    since an answer may come back.

    Args:
        image: (1, 3, H, W), [0, 1], where the model is.
        maps: (H, W), larger for more salient.
        predicted, true: what the model says of the whole picture, and what is right.
        ladder: fractions of the pixels, ascending.
        batch_size: pictures in one pass.

    Returns:
        A flip for each map, with the index of the class as its `to`.
    """
    ranked = [ranks(np.asarray(one, dtype=np.float64)) for one in maps]
    filling = baseline(model, image, FILL)
    found: list[tuple[float, int] | None] = [None] * len(maps)
    mended: list[float | None] = [None] * len(maps)
    for fraction in ladder:
        going = [k for k, rung in enumerate(mended) if rung is None]
        removals = [(ranked[k], round(fraction * ranked[k].size)) for k in going]
        tops = [
            top
            for batch in without(image, filling, removals, batch_size)
            for top in model.probabilities(batch).double().cpu().numpy().argmax(axis=1).tolist()
        ]
        for k, top in zip(going, tops, strict=True):
            if top != predicted and found[k] is None:
                found[k] = (fraction, top)
            if top == true:
                mended[k] = fraction
    return [Flip(*(flip or (None, None)), rung) for flip, rung in zip(found, mended, strict=True)]


def rows_of(model: ImageModel, mistake: Prediction, methods: Sequence[str], batch_size: int = 20) -> list[Row]:
    """A row for each method and map, the methods' maps and all controls taking their passes together.

    Raises:
        ImageError: the picture cannot be read.
        UndefinedError: a method that is not defined for the model.
    """
    image = to_input(model, mistake.item.picture())
    size = image.shape[-2:]
    maps = {
        (method, name): strength(attribution, size).astype(np.float64)
        for method in methods
        for name, attribution in mistake_maps(model, image, mistake.true, mistake.predicted, method).items()
    }
    # The seeds are those of `probe`'s first repeat. Random pixels take over nothing of a map but its size, so they are
    # drawn once for all; blobs take over its spectrum, which a method's three maps have much alike: once a method.
    (pixels, draw_pixels), (blobs, draw_blobs) = CONTROLS.items()
    chance = [draw_pixels(np.zeros(size), np.random.default_rng([0, 0, 0]))]
    chance += [draw_blobs(maps[method, "contrast"], np.random.default_rng([0, 1, 0])) for method in methods]
    answering = prepare(model)  # its faster twin
    flips = climb(answering, image, [*maps.values(), *chance], mistake.predicted, mistake.true, batch_size=batch_size)
    named = [_named(flip, model) for flip in flips]
    by_pixels, by_blobs = named[len(maps)], dict(zip(methods, named[len(maps) + 1 :], strict=True))
    return [
        Row(
            mistake.model, mistake.item.id, mistake.true_name, mistake.predicted_name,
            mistake.probability, mistake.true_probability, method, name, not one.any(),
            {"map": own, pixels: by_pixels, blobs: by_blobs[method]},
        )
        for ((method, name), one), own in zip(maps.items(), named, strict=False)
    ]  # fmt: skip


def _named(flip: Flip, model: ImageModel) -> Flip:
    to = None if flip.to is None else short(model.class_names[flip.to])
    return Flip(flip.fraction, to, flip.mended)


def spread(count: int, limit: int | None = None) -> list[int]:
    """0 … `count` − 1 in an order whose beginnings are spread over all of them; the first `limit` of it.

    So a study that is cut short, or goes on with a larger limit, has looked at all sorts of classes, and nothing twice.
    """
    bits = max(1, (count - 1).bit_length())
    return sorted(range(count), key=lambda i: f"{i:0{bits}b}"[::-1])[:limit]


# ------------------------------------------------------------------------------------------------- what is kept


def _name(model: ImageModel, pictures: LabelledSet) -> str:
    """Of all that the rows depend on, so that another study's files are not taken for this one's."""
    told = repr((model.identity.sha256, [item.id for item in pictures], LADDER, FILL))
    return f"{slug(model.name)}-{hashlib.sha256(told.encode()).hexdigest()[:10]}"


def rows_file(folder: Path, model: ImageModel, pictures: LabelledSet) -> Path:
    """Where a study in `folder` keeps the rows of a model's mistakes in a set."""
    return folder / f"{_name(model, pictures)}.jsonl"


def read_rows(file: Path) -> list[Row]:
    """The rows that a file holds, none where there is no file.

    Raises:
        LSDError: a damaged file.
    """
    if not file.is_file():
        return []
    try:
        return [Row.from_dict(json.loads(line)) for line in file.read_text("utf-8").splitlines()]
    except (ValueError, TypeError, KeyError) as error:
        raise LSDError(f"{file.name} is damaged; delete it and run the study again.") from error


def find_mistakes(model: ImageModel, pictures: LabelledSet, folder: Path) -> list[Prediction]:
    """All mistakes of a model, in the set's order; kept in the folder, since it takes a pass over every picture.

    Raises:
        LSDError: the set's labels are not the model's classes, or what is kept is damaged.
    """
    path = folder / f"{_name(model, pictures)}-mistakes.json"
    if path.is_file():
        try:
            kept = json.loads(path.read_text("utf-8"))
            return [Prediction(**entry | {"item": pictures[entry["item"]]}) for entry in kept["mistakes"]]
        except (ValueError, TypeError, KeyError) as error:
            raise LSDError(f"{path.name} is damaged; delete it and run the study again.") from error
    *_, last = scan([model], pictures)
    found = select(last.result, sort="set")
    place = {item.id: i for i, item in enumerate(pictures)}
    entries = [vars(mistake) | {"item": place[mistake.item.id]} for mistake in found]
    record = {"pictures": len(last.result.items), "unreadable": len(last.unreadable), "mistakes": entries}
    write_files(folder, {path.name: json.dumps(record).encode()})
    return found


def make(model: ImageModel, mistake: Prediction, methods: Sequence[str], file: Path) -> bool:
    """Make the rows of a mistake that the file does not have yet, and write them; whether there were any to make."""
    rows = read_rows(file)
    missing = methods_missing(rows, mistake, methods)
    if missing:
        rows += rows_of(model, mistake, missing)
        lines = [json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows]
        write_files(file.parent, {file.name: "".join(lines).encode()})
    return bool(missing)


def methods_missing(rows: Sequence[Row], mistake: Prediction, methods: Sequence[str]) -> list[str]:
    """Those of the methods that have no rows of a mistake yet."""
    there = {row.method for row in rows if row.item == mistake.item.id}
    return [method for method in methods if method not in there]
