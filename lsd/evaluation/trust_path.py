"""Does a picture of a unit take the photos' path through the network? (Geirhos et al. 2024, Don't trust your eyes)

A picture found by ascent shows what a unit *can* be driven by. If on the way to the unit it excites other channels than the
photos that excite the unit, it says little about what drives it on photos, and a network can be built whose pictures say
nothing. So at each layer up to the unit's own the mean activation of each channel over what the unit looks at (the area that
excites it most, of a picture as of a photo) is held against that of the unit's exemplars, and told on a scale on which

- 1 is how alike the exemplars are among themselves ("alike"),
- 0 is how alike photos that were not chosen are to them, each at its own most exciting area ("apart").

As a control stand the photos that come next, which excite the unit nearly as much ("next"): a picture as honest as a photo would
lie where they do. A layer where exemplars are not clearly more alike than any photos are to them tells nothing.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from lsd.features.exemplars import Box
from lsd.features.units import Unit
from lsd.layers import curated_layers, list_layers
from lsd.layout import Layer, to_grid
from lsd.models import ImageModel
from lsd.saliency.likeness import standardised_ranks
from lsd.tracing import split_run

LAYERS = 12  # at most, evenly spread
FEWEST = 3  # exemplars, and others, below which nothing is told
_CLEARLY = 2.0  # standard errors

Path = tuple[np.ndarray, ...]  # of each layer the channels' means (C,)


class Step(NamedTuple):
    """What one layer tells.

    Attributes:
        layer: its name.
        picture, alike, next, apart: mean similarities, -1 to 1; see above.
        likeness: the picture's on the scale from apart (0) to alike (1); None where the layer tells nothing.
    """

    layer: str
    picture: float
    alike: float
    next: float
    apart: float
    likeness: float | None


def layers_to(unit: Unit, model: ImageModel) -> list[Layer]:
    """The layers on the way to a unit, its own among them, from the input on; of the model's stages and blocks `LAYERS` at most."""
    depths = {layer.name: depth for depth, layer in enumerate(list_layers(model))}
    own = max(depths.get(split_run(leaf.layer)[0], len(depths)) for leaf in unit.leaves())
    found = [layer for layer in curated_layers(model) if depths[layer.name] <= own]
    chosen = np.linspace(0, len(found) - 1, min(LAYERS, len(found))).round().astype(int)
    return [found[i] for i in chosen]


def means(layer: Layer, activation: Tensor, part: Box, size: tuple[int, int]) -> np.ndarray:
    """The mean of each channel over a part of one picture: float32 (C,).

    Args:
        activation: the layer's output for it, (1, …).
        part: in pixels of the input.
        size: (height, width) of the input. A place counts by how much of its share of the input lies in the part.
    """
    (grid,) = to_grid(layer, activation)
    rows = _shares(part[1], part[3], layer.height, size[0])
    columns = _shares(part[0], part[2], layer.width, size[1])
    return np.einsum("chw,h,w->c", grid.float().cpu().numpy(), rows, columns, optimize=True).astype(np.float32)


def _shares(first: int, last: int, cells: int, length: int) -> np.ndarray:
    """How much of [first, last) lies in each of as many equal cells of [0, length); 1 altogether."""
    edges = np.arange(cells + 1) * length / cells
    overlap = np.minimum(last, edges[1:]) - np.maximum(first, edges[:-1])
    return overlap.clip(min=0) / (last - first)


def similarity(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each of (n, C) with each of (m, C): (n, m); 0 with what is the same everywhere."""
    return standardised_ranks(one) @ standardised_ranks(other).T


def likeness(found: float, alike: np.ndarray, apart: np.ndarray) -> float | None:
    """Where a similarity lies between those of other photos (0) and of the exemplars among themselves (1), clipped to these; None
    where the two are not clearly apart."""
    room = alike.mean() - apart.mean()
    doubt = math.sqrt(alike.var(ddof=1) / len(alike) + apart.var(ddof=1) / len(apart))
    return float(np.clip((found - apart.mean()) / room, 0, 1)) if room > max(_CLEARLY * doubt, 1e-6) else None


def compare(
    names: Sequence[str], picture: Path, exemplars: Sequence[Path], following: Sequence[Path], others: Sequence[Path]
) -> list[Step]:
    """Layer by layer, where a picture lies between its unit's exemplars and other photos.

    Args:
        names: of the layers.
        following: of the photos that come next after the exemplars.
        others: of photos that were not chosen. At least `FEWEST` of each.
    """
    steps = []
    for place, name in enumerate(names):
        top, rest, later = (np.stack([path[place] for path in paths]) for paths in (exemplars, others, following))
        among = similarity(top, top)
        alike = (among.sum(1) - among.diagonal()) / (len(top) - 1)
        apart = similarity(rest, top).mean(1)
        found = similarity(picture[place][None], top).mean()
        close = similarity(later, top).mean()
        numbers = map(float, (found, alike.mean(), close, apart.mean()))
        steps.append(Step(name, *numbers, likeness(found, alike, apart)))
    return steps


def overall(steps: Sequence[Step]) -> float | None:
    """The likeness over all layers that tell something, 0 to 1: their mean, in which a layer counts by how far exemplars and
    other photos are apart there; None if none does.

    Args:
        steps: with the fields of `Step`.
    """
    known = [(step.alike - step.apart, step.likeness) for step in steps if step.likeness is not None]
    return sum(room * likeness for room, likeness in known) / sum(room for room, _ in known) if known else None
