"""Can a score of saliency maps compare networks, and not only methods within one?

    python -m lsd.evaluation networks --models A B C --images SRC --output DIR

Deletion asks how much of a class's probability is left when what a map points at is gone. Between networks that also depends on
how each of them takes a picture with a hole, which no training on such pictures evens out here (as IDSDS does: Hesse, Schaub-Meyer
& Roth, NeurIPS 2024). Two remedies are tried that need none: in-painting that keeps the picture natural, and holding a deletion
against random deletions of the same shape.

For each photo that all networks get right, and each network: the default map's mean over the cells of a grid, of which the first
fifth is removed, filled in each way of `lsd.evaluation.inpainting`; and the same shape elsewhere, rolled around the picture. What
is left of the class's probability, as a part of what it was, gives a score of the network, higher for a better map, for each
filling and each of `CALIBRATIONS`.

A score is fit to compare networks if it ranks them alike whatever fills the hole, which is no property of theirs; if it ranks
them alike on other photos; and if it does not rank them just so where the map is a Gaussian in the middle, the same for all.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lsd import markdown
from lsd.catalogue import common_name
from lsd.errors import LSDError, UndefinedError
from lsd.evaluation.controls import CONTROLS
from lsd.evaluation.inpainting import FILLS
from lsd.evaluation.labelled import Item, LabelledSet, open_set, true_indices
from lsd.images import prepare
from lsd.models import ImageModel, get_model
from lsd.provenance import write_files
from lsd.saliency import defaults
from lsd.saliency.likeness import rank_correlation, standardised_ranks
from lsd.saliency.methods import attribute
from lsd.saliency.steadiness import drawn
from lsd.saliency.targets import of_class

CELLS = 14  # of a side: a hole is made of pieces that no network overlooks
FRACTION = 0.2
ROLLS = 3
OWN, CONTROL = defaults.METHOD, "centre"
_BATCH = 16
_DRAWS = 2000


@dataclass(frozen=True)
class Row:
    """What is left of a photo's class, as a part of its probability, by one network, map and filling.

    Attributes:
        map: `OWN`, or `CONTROL`.
        left: without the map's cells; `rolled` without the same shape elsewhere, `ROLLS` times.
    """

    model: str
    item: str
    map: str
    fill: str
    left: float
    rolled: tuple[float, ...]


def plain(row: Row) -> float:
    """What the deletion takes away: 1 − left."""
    return 1 - row.left


def beyond_random(row: Row) -> float:
    """What it takes away beyond what the same shape takes away elsewhere."""
    return float(np.mean(row.rolled)) - row.left


def beats_random(row: Row) -> float:
    """In which share of the draws it takes away more than the same shape elsewhere; ties count half."""
    return float(np.mean([(one > row.left) + 0.5 * (one == row.left) for one in row.rolled]))


CALIBRATIONS: dict[str, Callable[[Row], float]] = {
    "none": plain, "beyond random": beyond_random, "beats random": beats_random
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument(
        "--images", required=True, metavar="SRC", help="labelled photos, as the Mistakes tab takes them"
    )
    parser.add_argument("--photos", type=int, default=20, metavar="N", help="that all get right (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--report", action="store_true", help="make the tables of what is there; run nothing")


def run(options: argparse.Namespace) -> None:
    """Make what is missing, and print the tables. A row is kept as it is made; an interrupted run goes on where it was."""
    names = list(dict.fromkeys(options.models))
    if len(names) < 3 or options.photos < 2:
        raise LSDError("A ranking takes at least three networks and two photos.")
    file = options.output / "rows.jsonl"
    rows = _read(file)
    if not options.report:
        write_files(options.output, {file.name: "".join(_line(row) for row in rows).encode()})
        with file.open("a", encoding="utf-8") as out:
            for row in _missing([get_model(name) for name in names], open_set(options.images), options.photos, rows):
                out.write(_line(row))
                out.flush()
        rows = _read(file)
    whole = _whole([row for row in rows if row.model in names], names)
    if len({row.item for row in whole}) < 2:
        raise LSDError(
            f"There are no rows of these networks in {options.output}: run the study without --report first."
        )
    print("\n".join(report(whole, names)))


def _line(row: Row) -> str:
    return json.dumps(asdict(row)) + "\n"


def _read(file: Path) -> list[Row]:
    """The rows of a file; a last line that was not finished is not there."""
    if not file.is_file():
        return []
    whole = file.read_text("utf-8").rpartition("\n")[0]
    return [Row(**json.loads(line)) for line in whole.splitlines()]


def _whole(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Those of photos of which every network has all its rows."""
    each = len(names) * len(FILLS) * 2
    count: dict[str, int] = {}
    for row in rows:
        count[row.item] = count.get(row.item, 0) + 1
    return [row for row in rows if count[row.item] == each]


def _missing(models: Sequence[ImageModel], pictures: LabelledSet, count: int, known: Sequence[Row]) -> Iterator[Row]:
    """Photo by photo, so that all networks have the same ones whenever it is interrupted."""
    there = {(row.model, row.item, row.map, row.fill) for row in known}
    right = 0
    for i in np.random.default_rng(0).permutation(len(pictures)):
        item = pictures[i]
        asked = [(model, *_asked(model, pictures.name, item)) for model in models]
        if not all(_first(model, image) == index for model, image, index in asked):
            continue
        for model, image, index in asked:
            wanted = {(model.name, item.id, *each) for each in itertools.product((OWN, CONTROL), FILLS)} - there
            if wanted:
                found = rows_of(model, image, index, item.id)
                yield from (row for row in found if (row.model, row.item, row.map, row.fill) in wanted)
        right += 1
        print(f"{right} of {count} photos", flush=True)
        if right == count:
            return


def _asked(model: ImageModel, name: str, item: Item) -> tuple[Tensor, int]:
    image = torch.from_numpy(prepare(item.picture(), model.spec))[None].to(model.device, model.dtype)
    return image, int(true_indices(LabelledSet(name, (item,)), model)[0])


@torch.no_grad()
def _first(model: ImageModel, image: Tensor) -> int:
    return model(image).argmax(1).item()


def rows_of(model: ImageModel, image: Tensor, index: int, item: str) -> list[Row]:
    """All rows of a picture (1, 3, H, W) of class `index` by one network: both maps, all fillings.

    Raises:
        UndefinedError: a picture with fewer pixels a side than the grid has cells.
    """
    size = tuple(image.shape[2:])
    if min(size) < CELLS:
        raise UndefinedError(
            f"A grid of {CELLS} × {CELLS} cells does not fit a picture of {size[0]} × {size[1]} pixels."
        )
    found = attribute(OWN, model, image, of_class(model, index))
    maps = {OWN: drawn(found.values, OWN, size)[0], CONTROL: CONTROLS[CONTROL](image[0].cpu().numpy(), 0)}
    holes = {name: [enlarged(cells, size) for cells in shapes(one)] for name, one in maps.items()}
    before = _probability(model, image, index)[0]
    rows = []
    for fill, function in FILLS.items():
        for name, own in holes.items():
            left, *rolled = (_probability(model, function(model, image, own), index) / before).tolist()
            rows.append(Row(model.name, item, name, fill, left, tuple(rolled)))
    return rows


def shapes(saliency: np.ndarray) -> list[np.ndarray]:
    """The fifth of the cells that a map (H, W) has most in, bool (n, n), and `ROLLS` times the same shape elsewhere.

    The places are drawn from a seed: the same for every network and photo.
    """
    means = F.adaptive_avg_pool2d(torch.from_numpy(np.ascontiguousarray(saliency, dtype=np.float64))[None], CELLS)[
        0
    ].numpy()
    order = np.argsort(-means, axis=None, kind="stable")
    cells = np.zeros(means.size, dtype=bool)
    cells[order[: round(FRACTION * means.size)]] = True
    cells = cells.reshape(means.shape)
    places = np.random.default_rng(0).permutation(means.size - 1)[:ROLLS] + 1  # 0 would be where it is
    return [cells, *(np.roll(cells, divmod(int(place), CELLS), axis=(0, 1)) for place in places)]


def enlarged(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cells (n, n) as a hole in a picture of `size` (height, width)."""
    return F.interpolate(torch.from_numpy(cells)[None, None].double(), size, mode="nearest-exact")[0, 0].numpy() > 0


@torch.no_grad()
def _probability(model: ImageModel, images: Tensor, index: int) -> np.ndarray:
    return np.concatenate([model.probabilities(some)[:, index].double().cpu().numpy() for some in images.split(_BATCH)])


def scores(rows: Sequence[Row], names: Sequence[str], kind: str) -> dict[tuple[str, str], np.ndarray]:
    """(filling, calibration) → scores (networks, photos) of the maps called `kind`."""
    items = {item: i for i, item in enumerate(dict.fromkeys(row.item for row in rows))}
    place = {name: i for i, name in enumerate(names)}
    found = {key: np.zeros((len(names), len(items))) for key in itertools.product(FILLS, CALIBRATIONS)}
    for row in rows:
        if row.map == kind:
            for calibration, score in CALIBRATIONS.items():
                found[row.fill, calibration][place[row.model], items[row.item]] = score(row)
    return found


def agreement(a: np.ndarray, b: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Rank correlation of two rankings of networks, by the means of scores (networks, photos), and its bootstrap 95% interval
    over photos, the same drawn for both."""
    generator = np.random.default_rng(seed)
    drawn_photos = generator.integers(0, a.shape[1], (_DRAWS, a.shape[1]))
    draws = _rank_correlations(a[:, drawn_photos].mean(2).T, b[:, drawn_photos].mean(2).T)
    return rank_correlation(a.mean(1), b.mean(1)), *map(float, np.percentile(draws, (2.5, 97.5)))


def other_photos(a: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Rank correlation of the rankings by two random halves of the photos: mean, and where 95% of the divisions lie."""
    generator, half = np.random.default_rng(seed), a.shape[1] // 2
    orders = np.stack([generator.permutation(a.shape[1]) for _ in range(_DRAWS)])
    draws = _rank_correlations(a[:, orders[:, :half]].mean(2).T, a[:, orders[:, half : 2 * half]].mean(2).T)
    return float(np.mean(draws)), *map(float, np.percentile(draws, (2.5, 97.5)))


def _rank_correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`rank_correlation` of each row of one with that of the other, (N, networks) both."""
    return (standardised_ranks(a) * standardised_ranks(b)).sum(1)


def report(rows: Sequence[Row], names: Sequence[str]) -> Iterator[str]:
    """Tables in Markdown: the scores of the networks, and how far their ranking depends on what it should not depend on."""
    own, control = (scores(rows, names, kind) for kind in (OWN, CONTROL))
    photos = next(iter(own.values())).shape[1]
    yield f"{photos} photos that all {len(names)} networks get right.\n"
    heads = ["filling", "calibration", *map(common_name, names)]
    yield from markdown.table(
        heads, ([fill, how, *(f"{score:.2f}" for score in values.mean(1))] for (fill, how), values in own.items())
    )
    yield "\nRank correlation of the networks' rankings, with 95% intervals:\n"
    yield from markdown.table(
        [
            "calibration",
            "between fillings: mean of the pairs",
            "the least like pair",
            "on other photos",
            "where the map is a Gaussian",
        ],
        (_row(how, own, control) for how in CALIBRATIONS),
    )
    yield "\n" + "; ".join(
        f"{fill}: {a} and {b} {_cell(agreement(own[fill, a], own[fill, b]))}"
        for fill in FILLS for a, b in itertools.combinations(CALIBRATIONS, 2)
    )  # fmt: skip


def _row(how: str, own: Mapping, control: Mapping) -> list[str]:
    pairs = {pair: agreement(own[pair[0], how], own[pair[1], how]) for pair in itertools.combinations(FILLS, 2)}
    worst = min(pairs, key=lambda pair: pairs[pair][0])
    among = np.mean(list(pairs.values()), axis=0)
    halves = np.mean([other_photos(own[fill, how]) for fill in FILLS], axis=0)
    same = np.mean([agreement(own[fill, how], control[fill, how]) for fill in FILLS], axis=0)
    return [how, _cell(among), f"{' and '.join(worst)}: {_cell(pairs[worst])}", _cell(halves), _cell(same)]


def _cell(figure: Sequence[float]) -> str:
    return f"{figure[0]:.2f} [{figure[1]:.2f}–{figure[2]:.2f}]"
