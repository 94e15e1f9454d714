"""Scores of saliency maps: do they point at the right place, do they tell what the output hangs on, are they stable?

A map is a float array (H, W), larger for more salient; `contrast_maps.strength` makes one of an attribution. A grid
of n × n cells has its borders at round(i · H / n) and round(i · W / n) and is counted row by row from the top left.
Everything is pure: what is drawn at random depends on the seed alone.

scipy and scikit-image are imported where they are used, since importing them takes up to a second.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.evaluation.contrast_maps import share_inside
from lsd.evaluation.probe import ranks, without
from lsd.saliency.likeness import as_finite, paired, rank_correlation

POINTING_TOLERANCE = 15 / 224


def cell_mask(size: tuple[int, int], n: int, cell: int) -> np.ndarray:
    """One cell of an n × n grid on a picture of `size` (height, width), as bool (H, W).

    Raises:
        UndefinedError: more cells than pixels along a side, or a cell that the grid does not have.
    """
    rows, columns = _borders(size, n)
    _check(
        0 <= cell < n * n, f"There is no cell {cell} in a grid of {n} × {n}; they are counted from 0 to {n * n - 1}."
    )
    i, j = divmod(cell, n)
    mask = np.zeros(size, dtype=bool)
    mask[rows[i] : rows[i + 1], columns[j] : columns[j + 1]] = True
    return mask


def cell_share(saliency: np.ndarray, n: int, cell: int) -> float:
    """The part of a map's total in one cell of an n × n grid, in [0, 1]; about 1/n² for a flat map.

    The localization score of the grid pointing game, where each cell shows another class (Rao, Böhle & Schiele, CVPR
    2022).

    Args:
        saliency: (H, W), not negative.
        n, cell: see `cell_mask`.

    Raises:
        UndefinedError: a map of zeros, or as `cell_mask`.
    """
    return share_inside(saliency, cell_mask(saliency.shape, n, cell))


def pointing(saliency: np.ndarray, mask: np.ndarray, tolerance: float = POINTING_TOLERANCE) -> float:
    """The pointing game (Zhang et al., ECCV 2016): 1 if the most salient pixel lies on the object or next to it, else 0.

    Pixels that share the maximum count in parts, so that a flat map scores its chance and not its corner.

    Args:
        saliency: (H, W).
        mask: (H, W) bool, where the object is.
        tolerance: how far from the mask a pixel may lie (Euclidean, the limit included), as a fraction of the shorter
            side; the default is TorchRay's 15 pixels of 224.

    Returns:
        The share of the pixels of maximal saliency that hit, in [0, 1].

    Raises:
        UndefinedError: different shapes, an empty mask, or values that are not finite.
    """
    from scipy.ndimage import distance_transform_edt

    saliency = as_finite(saliency)
    _check(
        saliency.shape == mask.shape,
        f"The map is {saliency.shape} and the mask {mask.shape}; they must have the same shape.",
    )
    _check(mask.any(), "The mask is empty, so there is nothing to point at.")
    # A whole number of pixels, as 15, must not be missed by the rounding of the fraction.
    limit = tolerance * min(mask.shape) + 1e-9
    return float((distance_transform_edt(~mask) <= limit)[saliency == saliency.max()].mean())


def removal_curves(
    predict: Callable[[Tensor], Tensor | np.ndarray],
    image: Tensor,
    filling: Tensor,
    maps: Sequence[np.ndarray],
    fractions: Sequence[float],
    *,
    insert: bool,
    batch_size: int = 16,
) -> np.ndarray:
    """The output while the most salient pixels are taken away, or are shown alone (Petsiuk, Das & Saenko, BMVC 2018).

    Deletion (`insert` false): the first round(fraction · H · W) pixels of a map come from `filling`, the others from
    `image`; a good map makes the output fall soon. Insertion: those pixels come from `image`, the others from
    `filling`; a good map makes it rise soon. Pixels of equal value come in the random order of `probe.ranks`.
    Takes M · F forward passes.

    Args:
        predict: pictures (N, 3, H, W) → (N,), as the probability of the class.
        image, filling: (1, 3, H, W), on the same device; the picture, and what takes the place of a pixel.
        maps: M of (H, W).
        fractions: F of the pixels, each in [0, 1].
        batch_size: pictures in one pass, of several maps together, at least 1: bounds the memory, changes nothing else.

    Returns:
        (M, F) float64, in the order given.

    Raises:
        UndefinedError: no map or no fraction, fractions out of range, maps of another size than the picture's or with
            values that are not finite.
    """
    _check(len(maps) > 0 and len(fractions) > 0, "Give at least one map and one fraction of the pixels.")
    _check(batch_size >= 1, f"batch_size must be at least 1, not {batch_size}.")
    size = tuple(image.shape[-2:])
    for one in maps:
        _check(one.shape == size, f"The picture is {size} and a map {one.shape}; they must have the same size.")
    counts = [round(fraction * maps[0].size) for fraction in _fractions(fractions)]
    ranked = [ranks(as_finite(one)) for one in maps]
    steps = [(rank, count) for rank in ranked for count in counts]
    # Insertion is deletion from the filling, with the picture as what comes in its place.
    shown, replacement = (filling, image) if insert else (image, filling)
    values = [_numpy(predict(batch)) for batch in without(shown, replacement, steps, batch_size)]
    return np.concatenate(values).reshape(len(maps), len(counts))


def curve_area(fractions: Sequence[float], values: np.ndarray, start: float, end: float) -> np.ndarray:
    """The area under curves over [0, 1] by the trapezoidal rule, in the unit of the values.

    Args:
        fractions: (F,), ascending, in [0, 1].
        values: (..., F), as from `removal_curves`.
        start, end: the values at the fractions 0 and 1, which all maps share: of the whole picture and of the filling
            alone for deletion, the other way round for insertion.

    Returns:
        (...) float64.

    Raises:
        UndefinedError: fractions that are out of range or do not ascend.
    """
    x = _fractions(fractions)
    _check((np.diff(x) >= 0).all(), "The fractions of a curve must ascend.")
    ends = [(0, 0)] * (np.ndim(values) - 1) + [(1, 1)]
    y = np.pad(np.asarray(values, dtype=np.float64), ends, constant_values=(start, end))
    return np.trapezoid(y, np.concatenate([[0], x, [1]]))


def random_regions(n: int, share: float, count: int, seed: int) -> np.ndarray:
    """Random subsets of the cells of an n × n grid: bool (count, n, n), each of exactly round(share · n²) cells.

    Raises:
        UndefinedError: a share that leaves no cell in or out, since such regions are all the same.
    """
    chosen = round(share * n * n)
    _check(0 < chosen < n * n, f"A share of {share} of {n} × {n} cells takes all of them or none.")
    template = np.arange(n * n) < chosen
    cells = np.random.default_rng(seed).permuted(np.tile(template, (count, 1)), axis=1)
    return cells.reshape(count, n, n)


def region_sums(saliency: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """The sum of a map (H, W) inside each of the regions (S, n, n): (S,) float64.

    Raises:
        UndefinedError: more cells than pixels along a side.
    """
    rows, columns = _borders(saliency.shape, regions.shape[-1])
    cells = np.add.reduceat(np.asarray(saliency, dtype=np.float64), rows[:-1], axis=0)
    cells = np.add.reduceat(cells, columns[:-1], axis=1)
    # One by one: a product of matrices rounds differently for each region, which would give a flat map an order.
    return np.array([cells[region].sum() for region in regions])


def remove_regions(image: Tensor, filling: Tensor, regions: np.ndarray) -> Tensor:
    """The picture once for each of the regions (S, n, n), with that region taken from `filling`: (S, 3, H, W).

    Args:
        image, filling: (1, 3, H, W), on the same device.

    Raises:
        UndefinedError: more cells than pixels along a side.
    """
    rows, columns = _borders(tuple(image.shape[-2:]), regions.shape[-1])
    return _replaced(image, filling, regions.repeat(np.diff(rows), axis=1).repeat(np.diff(columns), axis=2))


def mu_fidelity(sums: np.ndarray, drops: np.ndarray) -> float:
    """μ-fidelity: does removing what the map rates higher lower the output more? In [-1, 1]; 0 by chance.

    Bhatt, Weller & Moura (IJCAI 2020), whose Pearson correlation is by ranks here, as in Xplique.

    Args:
        sums: (S,), the map summed over each of the regions removed (`region_sums`).
        drops: (S,), output for the whole picture minus output without the region.

    Returns:
        The rank correlation; 0 where a side is constant.

    Raises:
        UndefinedError: as `rank_correlation`.
    """
    return rank_correlation(sums, drops)


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM of two maps, each scaled to a maximum of 1, as by Adebayo et al. (NeurIPS 2018): 1 for equal maps.

    Args:
        a, b: (H, W), not negative, at least 7 pixels a side, scikit-image's window. A map of zeros stays zero.

    Raises:
        UndefinedError: different shapes, smaller ones, or values that are not finite.
    """
    from skimage.metrics import structural_similarity

    a, b = paired(a, b)
    _check(min(a.shape) >= 7, f"SSIM compares windows of 7 pixels, more than a map of {a.shape} holds.")
    return float(structural_similarity(a / (a.max() or 1), b / (b.max() or 1), data_range=1))


def max_sensitivity(
    explain: Callable[[Tensor], np.ndarray], image: Tensor, *, radius: float = 0.02, samples: int = 4, seed: int = 0
) -> float:
    """How far a little noise moves an explanation φ: max ‖φ(x + δ) − φ(x)‖ / ‖φ(x)‖ (Yeh et al., NeurIPS 2019).

    Args:
        explain: φ, picture (1, 3, H, W) → array of any shape.
        image: x, (1, 3, H, W), [0, 1].
        radius: δ is uniform in [−radius, radius] in each value, cut so that x + δ stays in [0, 1].
        samples: how many δ are drawn, at least 1.
        seed: of δ.

    Returns:
        The largest relative change, at least 0, in Euclidean norms.

    Raises:
        UndefinedError: φ(x) is zero, an explanation is not finite, or a setting out of range.
    """
    before = explain(image)
    return max(relative_change(before, explain(x)) for x in perturbed(image, radius, samples, seed))


def perturbed(image: Tensor, radius: float, samples: int, seed: int) -> Iterator[Tensor]:
    """The pictures x + δ of `max_sensitivity`.

    Raises:
        UndefinedError: a setting out of range.
    """
    _check(radius > 0, f"radius must be above 0, not {radius}.")
    _check(samples >= 1, f"samples must be at least 1, not {samples}.")
    generator = torch.Generator().manual_seed(seed)
    for _ in range(samples):
        noise = (2 * torch.rand(image.shape, generator=generator) - 1) * radius
        yield (image + noise.to(image)).clamp(0, 1)


def relative_change(before: np.ndarray, after: np.ndarray) -> float:
    """‖after − before‖ / ‖before‖.

    Raises:
        UndefinedError: `before` is zero, or values are not finite.
    """
    before, after = paired(before, after)
    norm = np.linalg.norm(before)
    _check(norm > 0, "The explanation is zero everywhere, so no change can be measured against it.")
    return float(np.linalg.norm(after - before) / norm)


def shown_bits(saliency: np.ndarray, levels: int = 16) -> float:
    """The entropy, in bits, of a map's strengths in `levels` equal steps: how much of its order can be seen.

    0 where all pixels look alike, log₂ `levels` where every step is used alike (histogram equalization would do that).

    Args:
        saliency: any shape, in [0, 1].
    """
    counts = np.bincount(np.minimum((saliency * levels).astype(int), levels - 1).ravel(), minlength=levels)
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum() + 0.0)


def completeness_error(gap: float, change: float) -> float:
    """|gap| / |change|, at least 0: the part of the output's change that the sum of an attribution misses.

    Args:
        gap: the sum of the attribution minus `change`.
        change: output for the picture minus output for the baseline.

    Raises:
        UndefinedError: a change of 0.
    """
    _check(change != 0, "The output does not change from the baseline to the picture, so nothing is to be shared out.")
    return abs(gap) / abs(change)


def _borders(size: tuple[int, int], n: int) -> list[list[int]]:
    """Where the cells of an n × n grid begin and end, along the height and along the width: n + 1 numbers each."""
    _check(1 <= n <= min(size), f"A grid of {n} × {n} does not fit a picture of {size[0]} × {size[1]} pixels.")
    return [[round(i * length / n) for i in range(n + 1)] for length in size]


def _replaced(image: Tensor, filling: Tensor, gone: np.ndarray) -> Tensor:
    """The picture (1, 3, H, W) for each of the masks (N, H, W), which is taken from `filling`: (N, 3, H, W)."""
    return torch.where(torch.from_numpy(gone)[:, None].to(image.device), filling, image)


def _fractions(fractions: Sequence[float]) -> np.ndarray:
    for fraction in fractions:
        _check(0 <= fraction <= 1, f"A fraction of the pixels lies between 0 and 1, not {fraction}.")
    return np.asarray(fractions, dtype=np.float64)


def _numpy(values: Tensor | np.ndarray) -> np.ndarray:
    return torch.as_tensor(values).detach().cpu().double().numpy()


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise UndefinedError(message)
