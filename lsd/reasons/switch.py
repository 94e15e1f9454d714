"""What a network says when some channels of a layer are switched off."""

import weakref

import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.layout import Layer, from_flat, to_flat, to_places
from lsd.models import ImageModel
from lsd.precision import undisturbed
from lsd.resumed import Before, kept_before, resumed
from lsd.tracing import blank, capture, replaced


@torch.no_grad()
def without(
    model: ImageModel,
    images: Tensor,
    layer: Layer,
    off: Tensor,
    *,
    fill: Tensor | None = None,
    region: Tensor | None = None,
    before: Before = (),
) -> Tensor:
    """Logits (N, classes) with channels of a layer at zero, or at `fill`.

    Args:
        images: (N, 3, H, W), RGB in [0, 1]; or one picture (1, 3, H, W) for all N, with which the network runs up to the layer once
            where it can (`goes_on`).
        off: (N, C) which channels are switched off in each picture, at all places, prefix tokens among them; or (N, C, P) at
            which places (`layout.to_flat`). True and False, or how far, from 0 to 1.
        fill: (C,) what takes their place, such as their mean over photos; zero by default.
        region: (N, h, w) bool, the places outside of which nothing is switched off; everywhere by default.
        before: what a pass of the one picture did before the layer (`lsd.resumed`), of a network that goes on from there.

    Raises:
        UndefinedError: a layer whose channels, or places, are not known; masks of other sizes.
    """
    if len(images) not in (1, len(off)) or off.shape[1] != layer.channels:
        raise UndefinedError(
            f"{layer.name} has {layer.channels} channels, and which are off is said of {off.shape[1]}."
        )
    if region is not None and region.shape != (len(off), layer.height, layer.width):
        raise UndefinedError(f"{layer.name} has {layer.height} × {layer.width} places, and the region has others.")
    if len(images) < len(off) and not goes_on(model, layer):
        images = images.expand(len(off), -1, -1, -1)
    return _without(model, images, layer, off, fill, region, before)


def _without(
    model: ImageModel,
    images: Tensor,
    layer: Layer,
    off: Tensor,
    fill: Tensor | None = None,
    region: Tensor | None = None,
    before: Before = (),
) -> Tensor:
    """`without` on pictures as many as `off`, or on one of a network that goes on from the layer alone."""

    def change(output: Tensor) -> Tensor:
        there = to_flat(layer, output)
        gone = (off[..., None] if off.ndim == 2 else off).to(there)
        if gone.shape[2] not in (1, there.shape[2]):
            raise UndefinedError(
                f"{layer.name} has {there.shape[2]} places, and where it is off is said of {gone.shape[2]}."
            )
        if region is not None:
            gone = gone * to_places(layer, region.to(there), output).flatten(1)[:, None]
        instead = 0.0 if fill is None else fill.to(there)[:, None]
        return from_flat(layer, there * (1 - gone) + instead * gone, output.expand(len(off), *output.shape[1:]))

    with undisturbed(model.device), resumed(model, before), replaced(model, layer.name, change):
        return model(model.take(images))


def place_off(layer: Layer, row: int, column: int) -> Tensor:
    """(C, P) all channels of one place off, and nothing else.

    Raises:
        UndefinedError: a layer without places, or without this one.
    """
    if not (0 <= row < layer.height and 0 <= column < layer.width):
        raise UndefinedError(f"{layer.name} has {layer.height} × {layer.width} places, and none at {row}, {column}.")
    place = row * layer.width + column
    off = torch.zeros(layer.channels, layer.prefix + layer.height * layer.width)
    off[:, layer.prefix + (layer.order[place] if layer.order else place)] = 1
    return off


_going_on: "weakref.WeakKeyDictionary[ImageModel, dict[Layer, bool]]" = weakref.WeakKeyDictionary()


@torch.no_grad()
def goes_on(model: ImageModel, layer: Layer) -> bool:
    """Whether a network that has seen one picture goes on from several versions of what the layer put out, and what came before it
    need not be done again (`lsd.resumed`); tried once.

    Not where something from before the layer, which is there once, is later put beside what comes of them, as in DenseNets; nor
    where a module's output is one in a batch that it does not split.
    """
    known = _going_on.setdefault(model, {})
    if layer not in known:
        off = torch.zeros(3, layer.channels)
        off[1], off[2] = 1, torch.linspace(0, 1, layer.channels)
        picture = torch.rand(blank(model).shape, generator=torch.Generator().manual_seed(0))
        apart = _without(model, picture.expand(3, -1, -1, -1), layer, off)
        try:
            with kept_before(model, layer.name) as before:
                model(model.take(picture))
            once = _without(model, picture, layer, off, before=before)
        except RuntimeError:  # of shapes that do not fit
            once = apart[:1]
        known[layer] = once.shape == apart.shape and bool((once - apart).abs().max() <= 1e-2 * apart.abs().max())
    return known[layer]


@torch.no_grad()
def means(model: ImageModel, images: Tensor, layer: Layer, *, batch_size: int = 16) -> Tensor:
    """(C,) what a layer's channels are on average over pictures (N, 3, H, W) and places: what may take their place.

    Raises:
        UndefinedError: a layer whose channels are not known.
    """
    total = 0.0
    for some in images.split(batch_size):
        with capture(model, [layer.name]) as captured:
            model(model.take(some))
        total = total + to_flat(layer, captured[layer.name]).mean(2).sum(0)
    return total / len(images)
