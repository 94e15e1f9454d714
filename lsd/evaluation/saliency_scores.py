"""The scores of one picture's maps in the saliency study: every variant, by every metric that fits the picture."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.evaluation import metrics
from lsd.evaluation.attributions import attributions, runner_up
from lsd.evaluation.impossible import cells as cells_of
from lsd.evaluation.probe import ranks
from lsd.evaluation.variants import Source, Variant, draw, grid, variants
from lsd.features.prepare import prepare as twin_of
from lsd.images import resample
from lsd.models import ImageModel
from lsd.saliency.gradients import baseline
from lsd.saliency.targets import of_class

FRACTIONS = (0.05, 0.1, 0.2, 0.4, 0.7)
REGION_GRID, REGION_SHARE = 14, 0.2
DEMO_TIMES = 3  # drawn pictures are small, so what is dear is done for so many times more of them

Row = tuple[str, str, float]  # variant, metric, value
Maps = dict[str, np.ndarray]  # variant's name → (H, W)


@dataclass(frozen=True)
class Size:
    """How many pictures each part takes, `SIZES` says of what; what is dear is done for the first few only."""

    photos: int = 300
    grids: int = 144
    many: int = 4
    removed: int = 12
    full: int = 8
    trust: int = 4
    regions: int = 24


SIZES = {
    "photos": "photos, and as many drawn pictures",
    "grids": "photos that fill the cells of the grids, of either size",
    "many": f"of these, how many the methods of many passes are run on; {DEMO_TIMES} times as many drawn pictures",
    "removed": f"of these, from how many pixels are removed and inserted; {DEMO_TIMES} times as many drawn pictures",
    "full": f"of these, how many the full grid of settings is scored on; {DEMO_TIMES} times as many drawn pictures",
    "trust": "pictures for parameter randomization and the other tests of trust",
    "regions": "random regions for μ-fidelity",
}
"""What each number of `Size` counts."""


def _maps(found: dict[Source, np.ndarray], chosen: Sequence[Variant], image: np.ndarray) -> Maps:
    """Variant's name → map, of those whose attribution is there; equal drawings of one attribution are made once."""
    made: dict[tuple, np.ndarray] = {}
    for variant in chosen:
        key = (variant.source, variant.drawing)
        if variant.source in found and key not in made:
            made[key] = draw(found[variant.source], variant.drawing, image)
    return {v.name: made[v.source, v.drawing] for v in chosen if (v.source, v.drawing) in made}


def _cheap(chosen: Sequence[Variant]) -> list[Variant]:
    return [v for v in chosen if not v.source.dear]


def region_fidelity(model: ImageModel, image: Tensor, index: int, maps: Maps, regions: np.ndarray) -> list[Row]:
    """μ-fidelity of maps: regions (S, n, n) are replaced by the mean colour, and the log-odds watched."""
    log_odds = of_class(model, index)
    covered = metrics.remove_regions(image, baseline(model, image, "mean"), regions)
    with model.lock, torch.no_grad():  # from the logits: a probability near 1 has no digits left
        answers = torch.cat([log_odds(model(part)) for part in torch.cat([image, covered]).split(16)]).cpu().numpy()
    drops = answers[0] - answers[1:]
    return [
        (name, "mu_fidelity", metrics.mu_fidelity(metrics.region_sums(saliency, regions), drops))
        for name, saliency in maps.items()
    ]


def removal(model: ImageModel, image: Tensor, index: int, maps: Maps) -> list[Row]:
    """Deletion to the mean colour, and insertion into the blurred picture, of the class's probability."""

    def predict(batch: Tensor) -> Tensor:
        return model.probabilities(batch)[:, index]

    mean, blurred = baseline(model, image, "mean"), baseline(model, image, "blur")
    whole, nothing, blank = predict(torch.cat([image, mean, blurred])).tolist()
    distinct: dict[bytes, list[str]] = {}
    for name, saliency in maps.items():  # maps of one order remove the same pixels
        distinct.setdefault(ranks(saliency).tobytes(), []).append(name)
    shown = [maps[names[0]] for names in distinct.values()]
    rows = []
    for metric, filling, start, end in (("deletion", mean, whole, nothing), ("insertion", blurred, blank, whole)):
        curves = metrics.removal_curves(predict, image, filling, shown, FRACTIONS, insert=metric == "insertion")
        areas = metrics.curve_area(FRACTIONS, curves, start, end)
        rows += [(name, metric, float(a)) for names, a in zip(distinct.values(), areas, strict=True) for name in names]
    return rows


def score_picture(
    model: ImageModel,
    image: np.ndarray,
    index: int,
    position: int,
    size: Size,
    mask: np.ndarray | None = None,
    only: Sequence[Variant] = (),
) -> list[Row]:
    """One picture of the parts "photos" and "demo".

    Args:
        image: (3, H, W).
        index: its class.
        position: in the list of pictures, which decides how much is done, and seeds what is drawn at random.
        mask: the object's pixels, where they are known.
        only: score these and nothing else; all that is compared if empty.
    """
    batch = torch.from_numpy(image)[None].to(model.device)
    times = 1 if mask is None else DEMO_TIMES
    compared = only or variants()
    everything = compared if position < times * size.many else _cheap(compared)
    combined = grid() if position < times * size.full and not only else []
    pair = (index, runner_up(model, batch, index))
    (found,) = attributions(model, batch, _needed([*everything, *combined]), [pair], position)
    maps, more = _maps(found, everything, image), _maps(found, combined, image)
    if not maps | more:  # none of those to score is defined for the model
        return []
    twin = twin_of(model)  # the same answers within rounding, at less cost
    regions = metrics.random_regions(REGION_GRID, REGION_SHARE, size.regions, position)
    rows = region_fidelity(twin, batch, index, maps | more, regions)
    rows += [(name, "shown", metrics.shown_bits(saliency)) for name, saliency in maps.items() if "clip/" in name]
    if position < times * size.removed:
        rows += removal(twin, batch, index, maps)
    if mask is not None:
        for name, saliency in (maps | more).items():
            rows.append((name, "energy", _share(saliency, mask, float(mask.mean()))))
        whole = [replace(v, drawing=replace(v.drawing, clip=100.0)) for v in everything]  # clipped, the strongest tie
        for name, saliency in _maps(found, whole, image).items():
            rows.append((name, "pointing", metrics.pointing(saliency, mask)))
    return rows


def score_grid(
    model: ImageModel,
    cells: np.ndarray,
    indices: Sequence[int],
    position: int,
    size: Size,
    only: Sequence[Variant] = (),
) -> list[list[Row]]:
    """One grid picture: for each of its cells, the rows of the map of that cell's class.

    Args:
        cells: (n², 3, H, W), as the model sees each of them whole.
        indices: their classes.
        only: score these and nothing else; all that is compared if empty.
    """
    n = math.isqrt(len(cells))
    image = mosaic(cells, n)
    compared = only or variants()
    everything = compared if (position + 1) * n * n <= size.many else _cheap(compared)
    combined = grid() if n == 2 and (position + 1) * n * n <= size.full and not only else []
    # The contrast is against the class of the next cell: something that is there, too.
    pairs = [(indices[k], indices[(k + 1) % len(indices)]) for k in range(len(indices))]
    found = attributions(model, torch.from_numpy(image)[None], _needed([*everything, *combined]), pairs, position)
    rows = []
    for cell, own in enumerate(found):
        mask = metrics.cell_mask(image.shape[1:], n, cell)
        maps = _maps(own, [*everything, *combined], image)
        rows.append([(name, f"grid{n}", _share(saliency, mask, 1 / n**2)) for name, saliency in maps.items()])
    return rows


def mosaic(cells: np.ndarray, n: int) -> np.ndarray:
    """(n², 3, H, W), each shrunk with antialiasing, as one picture (3, H, W) of n × n cells."""
    height, width = cells.shape[2:]
    out = np.empty(cells.shape[1:], dtype=np.float32)
    for cell, (rows, columns) in zip(cells, cells_of(height, width, n), strict=True):
        size = (rows.stop - rows.start, columns.stop - columns.start)
        out[:, rows, columns] = resample(cell, size)
    return out.clip(0, 1)


def _share(saliency: np.ndarray, mask: np.ndarray, chance: float) -> float:
    """`share_inside`, and of a map of zeros what chance would give."""
    try:
        return metrics.share_inside(saliency, mask)
    except UndefinedError:
        return chance


def _needed(chosen: Sequence[Variant]) -> list[Source]:
    return list(dict.fromkeys(variant.source for variant in chosen))
