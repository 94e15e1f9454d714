"""Photos that pictures are held against: a folder of them, as a network takes them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from lsd.errors import LSDError
from lsd.images import find_images, open_image
from lsd.models import ImageModel
from lsd.reference import Reference
from lsd.saliency.explain import to_input

_BATCH = 8


def photo_batches(folder: Path, model: ImageModel) -> Iterator[Tensor]:
    """Batches (n, 3, h, w) in [0, 1] of the pictures in `folder`, with a bar where somebody watches.

    Raises:
        LSDError: there are none, or one cannot be read.
    """
    found = find_images(folder)
    if not found:
        raise LSDError(f"There are no photos in {folder}; give a folder of pictures with --photos.")
    batches = [found[i : i + _BATCH] for i in range(0, len(found), _BATCH)]
    for batch in tqdm(batches, desc="photos", unit="batch", delay=1, leave=False, disable=not sys.stderr.isatty()):
        yield torch.cat([to_input(model, open_image(path)) for path in batch])


def held_against(reference: Reference | None, model: ImageModel) -> dict[str, Tensor]:
    """The arguments of `lsd.features.ascent.ascend` that say what units are held against."""
    if reference is None:
        return {}
    if reference.is_vector:
        return {"vector": torch.from_numpy(reference.content)}
    return {"photo": to_input(model, reference.content).float()}
