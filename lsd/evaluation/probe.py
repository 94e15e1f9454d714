"""The probe: take the most salient pixels away and watch the prediction, beside taking away pixels at random.

A map that points at what the model relies on changes the prediction sooner than either control:

- "random pixels": each pixel as likely as any other;
- "random blobs": a random map with the very spatial frequencies of the saliency map (its Fourier amplitudes with random
  phases), so that what is taken away has the size and spacing of the map's own blobs, but lies anywhere. Scattered
  pixels are easily looked past and blobs are not, so this is the fairer of the two.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.models import ImageModel
from lsd.progress import report
from lsd.saliency.gradients import baseline

FILLS = ("mean", "blur")
PROBED = 16  # pictures in one pass


@dataclass(frozen=True, eq=False)
class Control:
    """What removing by R random maps does; F fractions, K classes.

    Attributes:
        mean, std, low, high: (F, K), of the classes' probabilities over the R maps; `std` divides by R.
        top1: (R, F), the most probable class.
        flip_fraction: median of the R flip fractions (the higher of the middle two); None if that map never flips.
    """

    mean: np.ndarray
    std: np.ndarray
    low: np.ndarray
    high: np.ndarray
    top1: np.ndarray
    flip_fraction: float | None


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """What removing by the saliency map does; F fractions, K classes.

    Attributes:
        fractions: the fractions of the pixels removed, in the order given; `pixels` are their numbers.
        classes: whose probabilities are told.
        fill: what takes the place of a removed pixel.
        before: (K,), the probabilities for the whole picture; `top1_before` is its most probable class.
        probability: (F, K), after removing by the map.
        top1: (F,), the most probable class then.
        flip_fraction: the smallest of the fractions at which that is not `top1_before`; None if there is none.
        controls: the same for random maps, by the names of `CONTROLS`.
    """

    fractions: tuple[float, ...]
    pixels: tuple[int, ...]
    classes: tuple[int, ...]
    fill: str
    before: np.ndarray
    top1_before: int
    probability: np.ndarray
    top1: np.ndarray
    flip_fraction: float | None
    controls: dict[str, Control]


def probe(
    model: ImageModel,
    image: Tensor,
    saliency: np.ndarray | Tensor,
    *,
    fractions: Sequence[float],
    classes: Sequence[int],
    fill: str = "mean",
    random_repeats: int = 5,
    seed: int = 0,
    batch_size: int = PROBED,
) -> ProbeResult:
    """Remove the most salient pixels, more and more of them, and watch the prediction; see the module.

    Takes 1 + F (1 + 2 R) forward passes.

    Args:
        image: (1, 3, H, W), [0, 1].
        saliency: (H, W), larger for more salient; of a signed map give the part that counts (`contrast_maps.strength`).
        fractions: of the pixels, each in [0, 1]; round(fraction · H · W) of them are removed, by every map the same.
        classes: indices of the classes whose probabilities are wanted.
        fill: "mean", the model's mean colour, or "blur", the picture under a Gaussian of a tenth of its side.
        random_repeats: R, random maps of each kind, at least 1.
        seed: of the random maps.
        batch_size: pictures in one pass, at least 1: bounds the memory, and changes nothing else.

    Raises:
        UndefinedError: one sentence, for an argument outside these.
    """
    image, saliency = _checked(model, image, saliency, fill)
    _check(len(fractions) > 0, "Give at least one fraction of pixels to remove.")
    _check(len(classes) > 0, "Give at least one class to watch.")
    _check(random_repeats >= 1, f"random_repeats must be at least 1, not {random_repeats}.")
    _check(batch_size >= 1, f"batch_size must be at least 1, not {batch_size}.")
    for index in classes:
        _check(
            0 <= index < model.num_classes,
            f"Class {index} is out of range: {model.name} has {model.num_classes} classes, from 0 up.",
        )
    counts = [_count(fraction, saliency.size) for fraction in fractions]
    maps = [saliency]
    for kind, draw in enumerate(CONTROLS.values()):
        maps += [draw(saliency, np.random.default_rng([seed, kind, repeat])) for repeat in range(random_repeats)]
    ranked = [ranks(one) for one in maps]
    removals = [(ranked[0], 0)] + [(rank, count) for rank in ranked for count in counts]

    top1, probability = [], []
    for batch in without(image, baseline(model, image, fill), removals, batch_size):
        answers = model.probabilities(batch).double().cpu().numpy()
        top1.append(answers.argmax(axis=1))
        probability.append(answers[:, list(classes)])
        report(sum(map(len, top1)), len(removals))
    top1, probability = np.concatenate(top1), np.concatenate(probability)
    _check(np.isfinite(probability).all(), f"{model.name} gave probabilities that are not finite.")

    after_top1 = top1[1:].reshape(len(maps), len(counts))
    after = probability[1:].reshape(len(maps), len(counts), len(classes))
    flips = [_flip(fractions, row != top1[0]) for row in after_top1]
    return ProbeResult(
        fractions=tuple(float(f) for f in fractions),
        pixels=tuple(counts),
        classes=tuple(int(c) for c in classes),
        fill=fill,
        before=probability[0],
        top1_before=int(top1[0]),
        probability=after[0],
        top1=after_top1[0],
        flip_fraction=flips[0],
        controls={
            name: _control(after[part], after_top1[part], flips[part])
            for k, name in enumerate(CONTROLS)
            for part in [slice(1 + k * random_repeats, 1 + (k + 1) * random_repeats)]
        },
    )


def removed(
    model: ImageModel, image: Tensor, saliency: np.ndarray | Tensor, fraction: float, fill: str = "mean"
) -> Tensor:
    """The picture (1, 3, H, W) as `probe` shows it to the model when `fraction` of the pixels are gone.

    Raises:
        UndefinedError: as `probe`.
    """
    image, saliency = _checked(model, image, saliency, fill)
    removal = (ranks(saliency), _count(fraction, saliency.size))
    return next(without(image, baseline(model, image, fill), [removal], 1))


def ranks(saliency: np.ndarray) -> np.ndarray:
    """(H, W) int64: 0 for the most salient pixel, H · W − 1 for the least.

    Pixels of equal value come in a random order that is always the same: in reading order, the large flat parts that
    maps have would be taken away from the top of the picture down.
    """
    ties = np.random.default_rng(0).permutation(saliency.size)
    order = np.lexsort((ties, -saliency.ravel()))
    rank = np.empty(saliency.size, dtype=np.int64)
    rank[order] = np.arange(saliency.size)
    return rank.reshape(saliency.shape)


def random_pixels(saliency: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A map (H, W) of independent noise."""
    return rng.standard_normal(saliency.shape)


def random_blobs(saliency: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A map (H, W) with the Fourier amplitudes of `saliency` and random phases; of a flat map, independent noise."""
    noise = rng.standard_normal(saliency.shape)
    if np.ptp(saliency) == 0:
        return noise
    phases = np.fft.rfft2(noise)
    amplitudes = np.abs(np.fft.rfft2(saliency - saliency.mean()))
    return np.fft.irfft2(amplitudes * phases / np.abs(phases), s=saliency.shape)


CONTROLS = {"random pixels": random_pixels, "random blobs": random_blobs}


def without(
    image: Tensor, filling: Tensor, removals: Sequence[tuple[np.ndarray, int]], batch_size: int
) -> Iterator[Tensor]:
    """Batches (N, 3, H, W) of `image` with the `count` first pixels of each (ranks, count) taken from `filling`.

    Args:
        image, filling: (1, 3, H, W).
        removals: `ranks` of a map (H, W), and how many pixels to take.
        batch_size: N at most.
    """
    for start in range(0, len(removals), batch_size):
        gone = np.stack([rank < count for rank, count in removals[start : start + batch_size]])
        yield torch.where(torch.from_numpy(gone)[:, None].to(image.device), filling, image)


def _count(fraction: float, pixels: int) -> int:
    _check(0 <= fraction <= 1, f"A fraction of the pixels lies between 0 and 1, not {fraction}.")
    return round(fraction * pixels)


def _flip(fractions: Sequence[float], changed: np.ndarray) -> float | None:
    """The smallest fraction at which the prediction is changed (F,)."""
    return min((float(f) for f, c in zip(fractions, changed, strict=True) if c), default=None)


def _control(probability: np.ndarray, top1: np.ndarray, flips: list[float | None]) -> Control:
    """From probabilities (R, F, K), classes (R, F) and R flip fractions."""
    ordered = sorted(flips, key=lambda f: float("inf") if f is None else f)
    return Control(
        mean=probability.mean(axis=0),
        std=probability.std(axis=0),
        low=probability.min(axis=0),
        high=probability.max(axis=0),
        top1=top1,
        flip_fraction=ordered[len(ordered) // 2],
    )


def _checked(model: ImageModel, image: Tensor, saliency: np.ndarray | Tensor, fill: str) -> tuple[Tensor, np.ndarray]:
    """The picture where the model is, and the map as float64."""
    _check(fill in FILLS, f"There is no fill “{fill}”; choose one of {', '.join(FILLS)}.")
    if isinstance(saliency, Tensor):
        saliency = saliency.detach().cpu().numpy()
    saliency = np.asarray(saliency, dtype=np.float64)
    _check(
        image.ndim == 4 and len(image) == 1 and image.shape[-2:] == saliency.shape,
        f"A picture (1, 3, H, W) and a map (H, W) are needed, not {tuple(image.shape)} and {saliency.shape}.",
    )
    _check(np.isfinite(saliency).all(), "The map holds values that are not finite; choose another method.")
    return image.detach().to(model.device, model.dtype), saliency


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise UndefinedError(message)
