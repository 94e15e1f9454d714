"""Explanations as pictures: the map of each laid over the original picture, where the model saw it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from lsd import render
from lsd.errors import LSDError
from lsd.images import lay_on
from lsd.saliency.explain import Explanation
from lsd.saliency.maps import MapSettings, to_maps


@dataclass(frozen=True)
class Look:
    """How maps lie on the picture.

    Attributes:
        style: one of `render.STYLES`.
        opacity: of the heat map, or of the darkness, 0 to 1.
        frame: outline the crop that the model saw.
    """

    style: str = "heatmap"
    opacity: float = 0.7
    frame: bool = True

    def __post_init__(self):
        if self.style not in render.STYLES:
            raise LSDError(f"There is no overlay “{self.style}”; choose one of {', '.join(render.STYLES)}.")
        if not 0 <= self.opacity <= 1:
            raise LSDError(f"The opacity lies between 0 and 1, not {self.opacity:g}.")

    def to_dict(self) -> dict:
        """As plain JSON values."""
        return asdict(self)


def overlays(
    picture: Image.Image, explanations: Sequence[Explanation], maps: MapSettings, look: Look
) -> list[Image.Image]:
    """The picture with each explanation's map on it, at the picture's own size.

    Args:
        picture: upright RGB; it may be a smaller version of the one that was explained, with the same aspect.
    """
    return overlays_on([picture] * len(explanations), explanations, maps, look)


def overlays_on(
    pictures: Sequence[Image.Image], explanations: Sequence[Explanation], maps: MapSettings, look: Look
) -> list[Image.Image]:
    """`overlays` where each explanation has a picture of its own."""
    boxes, laid = laid_on(pictures, explanations, maps, look)
    signed = maps.sign == "signed"
    return [
        Image.fromarray(
            render.overlay(np.asarray(picture), map2d, look.style, signed=signed, opacity=look.opacity, box=box)
        )
        for picture, box, map2d in zip(pictures, boxes, laid, strict=True)
    ]


def laid_on(
    pictures: Sequence[Image.Image], explanations: Sequence[Explanation], maps: MapSettings, look: Look
) -> tuple[list[tuple[float, float, float, float] | None], list[np.ndarray]]:
    """What is outlined on each picture, (left, top, right, bottom) in its pixels or None, and its map, 0 elsewhere: (H, W)."""
    finished = to_maps(
        [e.attribution.values[0].numpy() for e in explanations], maps, [e.input_size for e in explanations]
    )
    outlines, laid = [], []
    for picture, explanation, finished_map in zip(pictures, explanations, finished, strict=True):
        box = scaled(explanation.box, explanation.picture_size, picture.size)
        laid.append(lay_on(finished_map, box, picture.size))
        outlines.append(outlined(box, picture.size) if look.frame else None)
    return outlines, laid


def scaled(
    box: tuple[float, float, float, float], size: tuple[int, int], to: tuple[int, int]
) -> tuple[float, float, float, float]:
    """A part of a picture of `size`, (width, height), in the pixels of one of size `to`."""
    across, down = to[0] / size[0], to[1] / size[1]
    left, top, right, bottom = box
    return left * across, top * down, right * across, bottom * down


def outlined(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """What the model saw of a picture of `size`, where that is to be outlined; None where it is all of it."""
    return None if _covers(box, size) else box


def _covers(box: tuple[float, float, float, float], size: tuple[int, int]) -> bool:
    """Whether the model saw the whole picture, padded or not, so that there is nothing to outline."""
    return max(box[0], box[1], size[0] - box[2], size[1] - box[3]) < 1
