"""What a network says when some channels of a layer are switched off."""

import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.layout import Layer, channel_axis, to_places
from lsd.models import ImageModel
from lsd.precision import undisturbed
from lsd.tracing import replaced


@torch.no_grad()
def without(
    model: ImageModel,
    images: Tensor,
    layer: Layer,
    off: Tensor,
    *,
    fill: Tensor | None = None,
    region: Tensor | None = None,
) -> Tensor:
    """Logits (N, classes) with channels of a layer at zero, or at `fill`.

    Args:
        images: (N, 3, H, W), RGB in [0, 1].
        off: (N, C) bool, the channels that are switched off in each picture; at all places, prefix tokens among them.
        fill: (C,) what takes their place, such as their mean over photos; zero by default.
        region: (N, h, w) bool, the places where they are switched off; everywhere by default.

    Raises:
        UndefinedError: a layer whose channels, or places, are not known; masks of other sizes.
    """
    if off.shape != (len(images), layer.channels):
        raise UndefinedError(
            f"{layer.name} has {layer.channels} channels, and which are off is said of {off.shape[-1]}."
        )
    if region is not None and region.shape != (len(images), layer.height, layer.width):
        raise UndefinedError(f"{layer.name} has {layer.height} × {layer.width} places, and the region has others.")

    def change(output: Tensor) -> Tensor:
        axis = channel_axis(layer, output)
        shape = [1] * output.ndim
        shape[axis] = layer.channels
        where = off.to(output.device).view(len(off), *shape[1:])
        if region is not None:
            where = where & to_places(layer, region.to(output.device), output)
        return torch.where(where, 0.0 if fill is None else fill.to(output).view(shape), output)

    with undisturbed(model.device), replaced(model, layer.name, change):
        return model(model.take(images))
