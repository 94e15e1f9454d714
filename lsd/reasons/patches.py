"""What excites a unit in photos: the places of a folder's pictures where it answers most, cut out."""

import heapq
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lsd.errors import LSDError, UndefinedError
from lsd.features.units import Leaf, parse
from lsd.images import find_images, open_image
from lsd.layers import find_layer
from lsd.layout import Layer, to_grid
from lsd.models import ImageModel
from lsd.progress import report
from lsd.reasons.sentence import in_short
from lsd.saliency.explain import to_input
from lsd.tracing import Tap, run_to

MOST_PHOTOS = 500  # of a larger folder so many are looked at, evenly spread
_CELLS = 3  # side of a patch, in places of the layer …
_SIDE = 0.25  # … and at least so much of the input, since what a deep place sees is wide
_BATCH = 8


def find_patches(model: ImageModel, units: Sequence[str], folder: Path, count: int = 4) -> dict[str, list[Image.Image]]:
    """Unit → the patches that excite it most, one of a photo at most, most first; none where it is silent.

    Args:
        units: channels and directions of layers with places, as `Reason.unit` has them.
        folder: photos, of which `MOST_PHOTOS` at most are looked at.
        count: patches a unit.

    Returns:
        patches as Pillow images, cut out of what the network saw.

    Raises:
        LSDError: no photos there, one that cannot be read, or a layer without places.
    """
    files = find_images(folder)
    if not files:
        raise LSDError(f"There are no photos in {folder}; give a folder of pictures with --photos.")
    files = files[:: -(-len(files) // MOST_PHOTOS)]
    leaves = {unit: parse(unit) for unit in units}
    layers = {name: find_layer(model, name) for name in dict.fromkeys(leaf.layer for leaf in leaves.values())}
    for layer in layers.values():
        if not layer.height:
            raise UndefinedError(f"{layer.name} has no places, so no patches excite it; leave --photos away.")
    best: dict[str, list[tuple[float, int, int, Image.Image]]] = {unit: [] for unit in units}
    for start in range(0, len(files), _BATCH):
        batch = torch.cat([to_input(model, open_image(path)) for path in files[start : start + _BATCH]])
        with torch.no_grad():
            seen = run_to(model, batch, [Tap(name) for name in layers])
        for unit, leaf in leaves.items():
            layer = layers[leaf.layer]
            values, places = answers(leaf, layer, seen[Tap(leaf.layer)]).flatten(1).max(1)
            for n, (value, place) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
                if value > 0 and (len(best[unit]) < count or value > best[unit][0][0]):
                    patch = _cut(batch[n], layer, divmod(place, layer.width))
                    keep = heapq.heappush if len(best[unit]) < count else heapq.heapreplace
                    keep(best[unit], (value, -(start + n), place, patch))
        report(min(start + _BATCH, len(files)), len(files))
    return {
        unit: [patch for *_, patch in sorted(found, key=lambda one: one[:2], reverse=True)]
        for unit, found in best.items()
    }


def answers(leaf: Leaf, layer: Layer, activation: Tensor) -> Tensor:
    """(N, h, w) how much a channel or a direction answers at each place.

    Raises:
        UndefinedError: a unit of another kind.
    """
    grid = to_grid(layer, activation)
    if leaf.kind == "channel":
        return grid[:, leaf.arguments[0]]
    if leaf.kind == "direction":
        return sum(weight * grid[:, channel] for channel, weight in leaf.weights)
    raise UndefinedError(f"{in_short(str(leaf))} is no channel and no direction, so no patches are cut out for it.")


def _cut(image: Tensor, layer: Layer, place: tuple[int, int]) -> Image.Image:
    """The square around a place, moved inside the picture."""
    height, width = image.shape[1:]
    side = round(min(min(height, width), max(_CELLS * height / layer.height, _SIDE * min(height, width))))
    top, left = (
        min(max(0, round((i + 0.5) * length / cells - side / 2)), length - side)
        for i, length, cells in zip(place, (height, width), (layer.height, layer.width), strict=True)
    )
    patch = image[:, top : top + side, left : left + side].clamp(0, 1) * 255
    return Image.fromarray(patch.round().byte().permute(1, 2, 0).cpu().numpy().astype(np.uint8))
