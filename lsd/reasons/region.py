"""A region of the picture as places of a layer: what is switched off there alone."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.layout import Layer

Box = tuple[float, float, float, float]


def region_of(corners: Sequence[float]) -> Box | None:
    """A region between two corners (x, y, x, y), as parts of the picture; None of one that is none or empty."""
    if len(corners) != 4 or not all(0 <= part <= 1 for part in corners):
        return None
    left, right = sorted(corners[0::2])
    top, bottom = sorted(corners[1::2])
    region = tuple(round(part, 3) for part in (left, top, right, bottom))
    return region if region[0] < region[2] and region[1] < region[3] else None


def places_in(layer: Layer, box: Box, size: tuple[int, int], region: Box) -> Tensor:
    """(h, w) bool: the places of a layer whose middles lie in a region of the picture.

    Args:
        box: what the network saw of the picture, (left, top, right, bottom) in its pixels.
        size: (width, height) of the picture.
        region: (left, top, right, bottom), as parts of the picture's width and height.

    Raises:
        UndefinedError: a layer without places, or none of them in the region.
    """
    if not layer.height:
        raise UndefinedError(
            f"{layer.name} has no places, so nothing of it is off in a region alone; choose another layer."
        )
    inside = []
    for axis, count in ((1, layer.height), (0, layer.width)):
        start, end = box[axis], box[axis + 2]
        middles = (start + (torch.arange(count) + 0.5) * (end - start) / count) / size[axis]
        inside.append((middles >= region[axis]) & (middles < region[axis + 2]))
    places = inside[0][:, None] & inside[1]
    if not places.any():
        raise UndefinedError(f"No place of {layer.name} has its middle in that region; draw a larger one.")
    return places
