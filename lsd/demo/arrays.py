"""Many demo pictures at once, as arrays, drawn by several processes."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from lsd.demo.dataset import CLASS_NAMES, IMAGE_SIZE, SPLIT_SEEDS, render

_CHUNK = 20


def render_arrays(
    split: str, first: int, count: int, *, size: int = IMAGE_SIZE, workers: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the pictures number `first` to `first + count - 1` of every class of a split, without tags.

    They are the pictures that `demo_set` gives, in the same order.

    Args:
        split: "train" or "test".
        first: number, from 0, of the first picture of each class.
        count: pictures per class.
        size: side of the pictures in pixels.
        workers: processes to draw with; as many as there are processors when None.

    Returns:
        images (16 * count, size, size, 3) uint8 RGB, masks of their objects (16 * count, size, size) bool, and labels
        (16 * count,) int64.
    """
    jobs = [(split, start, min(start + _CHUNK, first + count), size) for start in range(first, first + count, _CHUNK)]
    images = np.empty((count * len(CLASS_NAMES), size, size, 3), dtype=np.uint8)
    masks = np.empty(images.shape[:3], dtype=bool)
    # Fresh processes rather than forked ones: a fork of a process that runs PyTorch's threads can hang.
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for job, (part_images, part_masks) in zip(jobs, pool.map(_render_part, jobs), strict=True):
            place = slice((job[1] - first) * len(CLASS_NAMES), (job[2] - first) * len(CLASS_NAMES))
            images[place], masks[place] = part_images, part_masks
    return images, masks, np.tile(np.arange(len(CLASS_NAMES)), count)


def _render_part(job: tuple[str, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    split, start, stop, size = job
    classes = len(CLASS_NAMES)
    seeds = SPLIT_SEEDS[split]
    samples = [render(place % classes, seeds[place], size=size) for place in range(start * classes, stop * classes)]
    return np.stack([sample.image for sample in samples]), np.stack([sample.mask for sample in samples])
