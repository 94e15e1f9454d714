"""Where units answer most in photos: how much, at which place, and which part of the photo that is.

A unit of a layer with places (a channel, a direction, a whole layer) is asked at each place by itself, since what excites it
mostly fills a part of a photo; a neuron and a position have one place; all other units are asked about the photo as a whole.
"""

import bisect
import math
from collections.abc import Callable, Mapping
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.features import objectives
from lsd.features.units import Leaf, Unit
from lsd.images import InputSpec, crop_box
from lsd.layers import find_layer
from lsd.layout import Layer, to_grid
from lsd.models import ImageModel
from lsd.tracing import Tap

Box = tuple[int, int, int, int]  # left, top, right, bottom
Thing = TypeVar("Thing")

CELLS = 3  # side of the part that is shown of a photo, in places of the layer …
SIDE = 0.25  # … and at least so much of the input, since what a deep place sees is wide
OUTPUT = "log_odds"  # by which plain classes are asked

_ANYWHERE = ("channel", "direction", "layer")  # asked at every place
_SOMEWHERE = ("neuron", "position")  # asked at their own


class Answers(NamedTuple):
    """What a unit makes of n photos.

    Attributes:
        values: (n,) float64; -inf where it is no number.
        areas: the part of the input that each is the answer to, in its pixels.
    """

    values: np.ndarray
    areas: list[Box]


def taps(unit: Unit, model: ImageModel) -> list[Tap]:
    """Where the activations are read that `answers` needs.

    Raises:
        UndefinedError: a unit of several networks, or one that is held against a photo of its own.
    """
    if any(leaf.model not in ("", model.name) for leaf in unit.leaves()):
        raise UndefinedError("It is a unit of several networks, and photos are shown to one.")
    if objectives.has_kind([unit], objectives.REFERENCE_KINDS):
        raise UndefinedError("It is held against a photo of its own, so others say nothing about it.")
    return list(dict.fromkeys(objectives.tap(leaf) for leaf in unit.leaves()))


@torch.no_grad()
def answers(unit: Unit, model: ImageModel, activations: Mapping[Tap, Tensor], count: int) -> Answers:
    """A unit's answers to photos, each at the place where it is largest if the unit can be asked at places.

    Args:
        activations: at its `taps`, as `lsd.tracing.run_to` gives them for `count` photos.
    """
    height, width = model.spec.height, model.spec.width
    layer = find_layer(model, unit.layer) if isinstance(unit, Leaf) and unit.layer else None
    if layer and layer.height and unit.kind in (*_ANYWHERE, *_SOMEWHERE):
        values = at_places(unit, layer, activations[objectives.tap(unit)])
        if unit.kind in _SOMEWHERE:
            row, column = unit.arguments[-2:]
            best, places = values[:, row, column], [(row, column)] * count
        else:
            best, found = values.flatten(1).max(1)
            places = [divmod(place, layer.width) for place in found.tolist()]
        areas = [area(place, layer, (height, width)) for place in places]
    else:
        seen, models = {"": activations, model.name: activations}, {"": model, model.name: model}
        best = objectives.evaluate([unit] * count, models, seen, OUTPUT)
        areas = [(0, 0, width, height)] * count
    numbers = best.cpu().double().numpy()
    return Answers(np.where(np.isfinite(numbers), numbers, -np.inf), areas)


def at_places(leaf: Leaf, layer: Layer, activation: Tensor) -> Tensor:
    """(N, h, w): the answer of a unit at each place of its layer; a picture of it raises the mean of them, or the one that it is.

    Raises:
        UndefinedError: a unit that is not asked at places, or a direction that points nowhere.
    """
    if leaf.kind not in (*_ANYWHERE, *_SOMEWHERE):
        raise UndefinedError(f"{leaf} is not asked at places, so no parts of photos are cut out for it.")
    grid = to_grid(layer, activation)
    if leaf.kind in ("channel", "neuron"):
        return grid[:, leaf.arguments[0]]
    if leaf.kind == "direction":
        norm = math.hypot(*(weight for _, weight in leaf.weights))
        if not norm > 0:
            raise UndefinedError("A direction whose weights are all 0 points nowhere; give at least one other weight.")
        return sum(weight / norm * grid[:, channel] for channel, weight in leaf.weights)
    return grid.square().mean(1)


def area(place: tuple[int, int], layer: Layer, size: tuple[int, int]) -> Box:
    """The square of an input of `size` (height, width) around a place (row, column), moved inside: `CELLS` places wide, or a
    `SIDE` of the input."""
    height, width = size
    side = round(min(min(height, width), max(CELLS * height / layer.height, SIDE * min(height, width))))
    top, left = (
        min(max(0, round((i + 0.5) * length / cells - side / 2)), length - side)
        for i, length, cells in zip(place, size, (layer.height, layer.width), strict=True)
    )
    return left, top, left + side, top + side


def in_photo(part: Box, size: tuple[int, int], spec: InputSpec) -> Box:
    """An area of the network's input as whole pixels of a (width, height) photo, of which at least one; what lies in the border
    that a network is shown around some photos is left out."""
    left, top, right, bottom = crop_box(size, spec)
    edges = []
    for first, last, start, stop, of_input, length in (
        (part[0], part[2], left, right, spec.width, size[0]),
        (part[1], part[3], top, bottom, spec.height, size[1]),
    ):
        scale = (stop - start) / of_input
        begin = min(max(0, round(start + first * scale)), length - 1)
        edges.append((begin, min(max(begin + 1, round(start + last * scale)), length)))
    (x0, x1), (y0, y1) = edges
    return x0, y0, x1, y1


class Strongest(Generic[Thing]):
    """Of things that come one after another those with the largest values, of equal ones the earlier; nothing else is held."""

    def __init__(self, count: int):
        self._count = count
        self._kept: list[tuple[tuple[float, int], Thing]] = []

    def offer(self, value: float, number: int, make: Callable[[], Thing]) -> None:
        """A thing, which is made if it is kept for now.

        Args:
            number: by which equal ones are told apart; the smaller, the earlier.
        """
        key = -value, number
        if len(self._kept) < self._count or (self._kept and key < self._kept[-1][0]):
            bisect.insort(self._kept, (key, make()), key=lambda one: one[0])
            del self._kept[self._count :]

    def sorted(self) -> list[tuple[float, int, Thing]]:
        """(value, number, thing), the largest value first."""
        return [(-key[0], key[1], thing) for key, thing in self._kept]
