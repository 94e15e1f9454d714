"""What excites a unit in photos: the places of a folder's pictures where it answers most, cut out."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lsd.errors import LSDError, UndefinedError
from lsd.features.exemplars import Box, Strongest, area, at_places
from lsd.features.units import parse
from lsd.images import find_images, open_image
from lsd.layers import find_layer
from lsd.models import ImageModel
from lsd.progress import report
from lsd.reasons.sentence import in_short
from lsd.saliency.explain import to_input
from lsd.tracing import Tap, run_to

MOST_PHOTOS = 500  # of a larger folder so many are looked at, evenly spread
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
    for unit, leaf in leaves.items():
        if leaf.kind not in ("channel", "direction"):
            raise UndefinedError(f"{in_short(unit)} is no channel and no direction, so no patches are cut out for it.")
    size = (model.spec.height, model.spec.width)
    best: dict[str, Strongest[Image.Image]] = {unit: Strongest(count) for unit in units}
    for start in range(0, len(files), _BATCH):
        batch = torch.cat([to_input(model, open_image(path)) for path in files[start : start + _BATCH]])
        with torch.no_grad():
            seen = run_to(model, batch, [Tap(name) for name in layers])
        for unit, leaf in leaves.items():
            layer = layers[leaf.layer]
            values, places = at_places(leaf, layer, seen[Tap(leaf.layer)]).flatten(1).max(1)
            for n, (value, place) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
                if value > 0:
                    part = area(divmod(place, layer.width), layer, size)
                    best[unit].offer(value, start + n, functools.partial(_cut, batch[n], part))
        report(min(start + _BATCH, len(files)), len(files))
    return {unit: [patch for *_, patch in found.sorted()] for unit, found in best.items()}


def _cut(image: Tensor, part: Box) -> Image.Image:
    left, top, right, bottom = part
    patch = image[:, top:bottom, left:right].clamp(0, 1) * 255
    return Image.fromarray(patch.round().byte().permute(1, 2, 0).cpu().numpy().astype(np.uint8))
