"""Why not another class: what that class's own picture excites, and this photo does not.

A class's own picture is one that the network is sure of, made by feature visualization. Of each channel, its share of the class's
log-odds there is held against its share in the photo; what it has there and lacks here was missing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.models import ImageModel
from lsd.reasons.defaults import METHOD, default_layer
from lsd.reasons.shares import shares
from lsd.saliency.targets import of_class


@dataclass(frozen=True)
class Missing:
    """One channel that a photo lacks.

    Attributes:
        unit: as a unit of feature visualization.
        here, there: its share of the class's log-odds in the photo, and in the class's own picture, in nats.
        map: (h, w) its share by place in the class's own picture; None of a layer without places.
    """

    unit: str
    here: float
    there: float
    map: Tensor | None

    @property
    def lacking(self) -> float:
        """How much less it speaks for the class here than there."""
        return self.there - self.here


def find_missing(
    model: ImageModel,
    photo: Tensor,
    own: Tensor,
    index: int,
    *,
    layer: str | None = None,
    method: str = METHOD,
    count: int = 5,
) -> tuple[Missing, ...]:
    """The channels that speak for class `index` in its own picture and most lack that in the photo, most first.

    Fewer than `count` where fewer do.

    Args:
        photo, own: (1, 3, H, W) each, RGB in [0, 1].
        layer, method: as for `lsd.reasons.explain.find_reasons`.

    Raises:
        UndefinedError: pictures of two sizes, a network without classes, or what `shares` raises.
    """
    if photo.shape != own.shape or len(photo) != 1:
        raise UndefinedError(
            f"A photo and the class's picture are one each, of one size, and not {tuple(photo.shape)} and {tuple(own.shape)}."
        )
    target = of_class(model, index)
    name = layer or default_layer(model)
    (found,) = shares(model, torch.cat([photo, own]), [target], [name], method=method)[name]
    here, there = found.values
    lacking = torch.where(there > 0, there - here, 0)
    order = lacking.argsort(descending=True, stable=True)[:count].tolist()
    maps = None if found.maps is None else found.maps[1].cpu()
    return tuple(
        Missing(f"{found.layer.name}/channel/{c}", float(here[c]), float(there[c]), None if maps is None else maps[c])
        for c in order
        if lacking[c] > 0
    )
