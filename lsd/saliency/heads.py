"""A transformer's attention as something to look at: where each head of a layer looks in one picture.

Attention says what is mixed with what. It is no attribution: a head may look where nothing of the answer comes from.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from lsd import render
from lsd.errors import UndefinedError
from lsd.images import crop_box, lay_on
from lsd.models import ImageModel
from lsd.saliency.attention import attention_layers, head_maps
from lsd.saliency.explain import to_input
from lsd.saliency.maps import MapSettings, to_map
from lsd.saliency.views import Look, outlined, scaled
from lsd.view import EVALUATED, View

_MAPS = MapSettings(sign="positive")
_COLUMNS = 6  # of a sheet


@dataclass(frozen=True)
class Heads:
    """Where the heads of one attention layer look.

    Attributes:
        model, layer: their names; `layers` are all attention layers of the model, in the order in which they run.
        place: (row, column) of the place that looks; None for what the output is made of (`attention.head_maps`).
        weights: (heads, h, w) float32 in [0, 1], on the CPU; a head's add up to at most 1, the rest is for tokens without a place.
        picture_size: (width, height); `box`, the part of the picture that the model saw, (left, top, right, bottom) in its pixels;
            `input_size`, (height, width).
    """

    model: str
    layer: str
    layers: tuple[str, ...]
    place: tuple[int, int] | None
    weights: Tensor
    picture_size: tuple[int, int]
    box: tuple[float, float, float, float]
    input_size: tuple[int, int]
    view: View = EVALUATED

    @property
    def on_places(self) -> list[float]:
        """Of each head, how much of its attention lies on the picture, in [0, 1]; the rest is on class tokens and registers."""
        return self.weights.double().sum((1, 2)).tolist()

    @property
    def spread(self) -> list[float]:
        """Of each head, over how many places that lies: exp of its entropy, 1 for a single place to h · w for all alike."""
        shares = self.weights.double().flatten(1)
        shares = shares / shares.sum(1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)
        return torch.special.entr(shares).sum(1).exp().tolist()

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, without the weights."""
        heads, height, width = self.weights.shape
        return {
            "model": self.model, "layer": self.layer, "layers": list(self.layers),
            "place": None if self.place is None else list(self.place), "heads": heads, "places": [height, width],
            "on_places": self.on_places, "spread": self.spread, "view": str(self.view), "crop_box": list(self.box),
        }  # fmt: skip


def parse_place(text: str) -> tuple[int, int] | None:
    """ "5,7" as (row, column); "" as None.

    Raises:
        UndefinedError: anything else.
    """
    if not text.strip():
        return None
    try:
        row, column = map(int, text.split(","))
    except ValueError:
        raise UndefinedError(
            f"A place is ROW,COLUMN, such as 5,7, counted from 0, and not “{text.strip()[:40]}”."
        ) from None
    return row, column


def heads_of(
    model: ImageModel,
    picture: Image.Image,
    layer: str = "",
    place: Sequence[int] | None = None,
    view: View = EVALUATED,
) -> Heads:
    """Where each head of an attention layer looks; one forward pass, and another when the model is asked for the first time.

    Args:
        picture: upright RGB.
        layer, place: as of `attention.head_maps`.

    Raises:
        UndefinedError: attention that cannot be read, no such layer, or no such place.
        LSDError: a view of more than the picture.
    """
    layers = attention_layers(model)
    place = None if place is None else tuple(map(operator.index, place))
    name, weights = head_maps(model, to_input(model, picture, view), layer, place)
    size, box = (model.spec.height, model.spec.width), crop_box(picture.size, model.spec, view)
    return Heads(model.name, name, layers, place, weights[0].float().cpu(), picture.size, box, size, view)


def whence(found: Heads) -> str:
    """What it shows, in words."""
    start = "for the output" if found.place is None else f"from place {found.place[0]}, {found.place[1]}"
    return f"where each head looks {start}"


def in_words(found: Heads) -> list[str]:
    """What is to be said of each head."""
    places = found.weights[0].numel()
    return [
        f"head {head}: {share:.0%} on the picture, over about {spread:.0f} of {places} places"
        for head, (share, spread) in enumerate(zip(found.on_places, found.spread, strict=True))
    ]


def pictures(picture: Image.Image, found: Heads) -> list[Image.Image]:
    """Each head's weights on the picture, scaled by itself; the place that looks is outlined.

    Args:
        picture: the one that was looked at; it may be a smaller version of it.
    """
    left, top, right, bottom = box = scaled(found.box, found.picture_size, picture.size)
    shown, seen, look = [], outlined(box, picture.size), Look()
    for own in to_map(found.weights[:, None].numpy(), _MAPS, found.input_size):
        laid = lay_on(own, box, picture.size)
        drawn = render.overlay(np.asarray(picture), laid, look.style, signed=False, opacity=look.opacity, box=seen)
        shown.append(Image.fromarray(drawn))
        if found.place is not None:
            row, column = found.place
            high, wide = (bottom - top) / found.weights.shape[1], (right - left) / found.weights.shape[2]
            x, y = left + column * wide, top + row * high
            ImageDraw.Draw(shown[-1]).rectangle((x, y, x + wide, y + high), outline="white", width=2)
    return shown


def sheet(picture: Image.Image, found: Heads, cell: int = 240) -> Image.Image:
    """The picture, and each head's weights on it."""
    shown = [picture, *pictures(picture, found)]
    title = f"{found.model}, {found.layer}: {whence(found)}"
    labels = ["the picture", *in_words(found)]
    return render.wrapped_sheet([shown], [""], labels, title, columns=min(_COLUMNS, len(shown)), cell=cell)
