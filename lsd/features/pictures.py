"""What is asked of an ascent and what it gives: jobs, finished pictures, and how far a batch of them is."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lsd.features.recipes import Recipe
from lsd.features.units import Unit
from lsd.images import InputSpec


@dataclass(frozen=True)
class Job:
    """One picture to be made."""

    unit: Unit
    seed: int


@dataclass(frozen=True)
class Picture:
    """One finished picture.

    Attributes:
        job: what was asked.
        pixels: uint8 (H, W, 3).
        score: the objective at these very pixels, seen whole, without transforms.
        trace: the objective at each step, as the mean over that step's views; one number a step taken.
        status: "ok"; "dead" where no gradient reaches the picture; or "failed" where the numbers ran out of range.
        restarts: how often it began again because no gradient reached it.
        seconds: its share of its batch's time.
        notes: sentences on what is not as one would think, see `notes`: why it is dead, what of its recipe did nothing.
    """

    job: Job
    pixels: np.ndarray
    score: float
    trace: tuple[float, ...]
    status: str
    restarts: int
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """How far a batch is.

    Attributes:
        jobs: the batch's.
        images: (N, 3, H, W) in [0, 1] on the CPU, as they are now.
        scores: (N,) the objective at the last step.
        step, steps: taken, and to be taken at most.
        done, total: pictures finished, and asked for, over all batches.
        finished: the batch's pictures, if this was its last step; () before.
    """

    jobs: tuple[Job, ...]
    images: Tensor
    scores: Tensor
    step: int
    steps: int
    done: int
    total: int
    finished: tuple[Picture, ...] = ()


def picture_size(recipe: Recipe, spec: InputSpec) -> tuple[int, int]:
    """(height, width) in pixels: what the network takes, or in its proportions, the longer side being `recipe.size`."""
    if recipe.size is None:
        return spec.height, spec.width
    longer = max(spec.height, spec.width)
    return max(1, round(recipe.size * spec.height / longer)), max(1, round(recipe.size * spec.width / longer))


def generator(job: Job, purpose: str, attempt: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """The picture's own source of chance for one purpose; the same whatever else is in the batch."""
    text = f"{job.unit}|{job.seed}|{purpose}|{attempt}"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
    return torch.Generator(device).manual_seed(seed)


def to_pixels(images: Tensor) -> np.ndarray:
    """(N, 3, H, W) in [0, 1] → uint8 (N, H, W, 3)."""
    return (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
