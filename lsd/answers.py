"""Which places of an activation answer to which half of the picture, and whether they lie in the order in which they are read.

Of `lsd.places`, which shows a network the pictures; here are the numbers that it hears.
"""

import functools
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from lsd.precision import at_least_fp32

RIGHT = 0.5  # of the agreement that the best order of the same answers would have
LOCAL = 0.2  # mean of |a − b| / (a + b), a and b the answers to both halves: above that, a place knows where it is
SHARP = 0.9  # of a lean: from there on, a place answers to one half alone; and of the places: from there on, all do
SURE = 0.25  # of the places must be sharp, so that it is no attention that happens to look to the far side
CLEARLY = 0.1  # by how much another reading must fit better than the suggested one
MOVED = 0.75  # of a place that the middle of the answers may not lie off the grid's; strides move it by less than half of one
# Places in which answers change from one half to the other; where they are more, the middle is known less well.
GRADUAL = 2.0
_NOTHING = 1e-6  # of an activation: what moves less does not depend on the picture
_CHANNELS = 16  # of a layer that are listened to, evenly spaced; fewer of many places, as all of these are asked
_FEWEST = 4  # channels, however many places there are
_NUMBERS = 2**14  # of a picture that are listened to, where that leaves more channels
_TINY = np.finfo(np.float64).tiny


class Answers:
    """How much each place of a grid answers to each half of the picture.

    Attributes:
        halves: (4, h, w), to what happens above, below, left and right; not negative.
        leans: (2, h · w), how much more a place answers to above than to below, and to the left than to the right, from 1 to −1.
    """

    def __init__(self, halves: np.ndarray):
        self.halves = halves
        first, second = halves.reshape(2, 2, -1).swapaxes(0, 1)
        self.leans = (first - second) / np.maximum(first + second, _TINY)
        self._grid = halves.shape[1:]
        self._sides = _sides(*self._grid)

    @functools.cached_property
    def is_sharp(self) -> bool:
        """Whether nearly all places answer to their own halves alone."""
        fits = (self._sides * self.leans > SHARP) | (self._sides == 0)
        return bool(fits.all(0).mean() >= SHARP)

    @functools.cached_property
    def _best(self) -> np.ndarray:
        """(2,): the products of sides and leans in the order that fits them best."""
        leans = np.sort(self.leans - self.leans.mean(1, keepdims=True))
        return (np.sort(self._sides) * leans).sum(1)

    @functools.cached_property
    def right(self) -> float:
        """How near they come to the order that fits them best, 1 being that; of the axis that does worse."""
        return 1.0 if self.is_sharp else float(self._right.min())

    @functools.cached_property
    def _right(self) -> np.ndarray:
        products = (self._sides * (self.leans - self.leans.mean(1, keepdims=True))).sum(1)
        return np.where(self._best > 0, products / np.maximum(self._best, _TINY), 0.0)

    @functools.cached_property
    def is_elsewhere(self) -> bool:
        """Whether they are strong, for as many places as they are, and do not come near that order."""
        if self.is_sharp:
            return False
        strength = np.abs(self.leans - self.leans.mean(1, keepdims=True)).mean(1)
        # Four places that all look at all of a grid come near no order, and prove none; by chance, n answers agree as 1 / √n.
        strong = max(LOCAL, self.leans.shape[1] ** -0.5)
        return bool(((self._right < RIGHT) & (strength >= strong)).any())

    @functools.cached_property
    def is_local(self) -> bool:
        """Whether some answer to one half alone, wherever it is: what mixes much may lean to the far side, but not wholly."""
        return bool((np.abs(self.leans) > SHARP).mean(1).min() >= SURE)

    @functools.cached_property
    def is_permuted(self) -> bool:
        """Whether each place answers to one quarter of the picture alone, and to each quarter as many as on a grid."""
        if (np.abs(self.leans) > SHARP).all(0).mean() < SHARP:
            return False
        found, expected = (
            np.array([((signs[0] == y) & (signs[1] == x)).mean() for y in (-1, 1) for x in (-1, 1)])
            for signs in (np.sign(self.leans), self._sides)
        )
        return bool(np.abs(found - expected).max() < 1 - SHARP)

    @functools.cached_property
    def moved(self) -> float:
        """The best agreement of the same places mirrored, turned (where there are as many rows as columns) or moved round."""
        best = np.maximum(self._best, _TINY)
        plain = (self.leans - self.leans.mean(1, keepdims=True)).reshape(2, *self._grid)
        ways = [plain, plain[:, ::-1], plain[:, :, ::-1], plain[:, ::-1, ::-1]]
        if self._grid[0] == self._grid[1]:
            ways += [way.swapaxes(1, 2) for way in ways]
        turned = max(((self._sides * way.reshape(2, -1)).sum(1) / best).min() for way in ways)
        round_ = []
        for axis, n in enumerate(self._grid):
            rolled = np.stack([np.roll(plain[axis], by, axis).ravel() for by in range(n)])
            round_.append((rolled @ self._sides[axis] / best[axis]).max())
        return float(max(turned, min(round_)))

    @functools.cached_property
    def offset(self) -> float:
        """How far the line between what answers above and what answers below, or left and right, lies off the middle.

        The further of the two, in places or, where answers change slowly, in parts of the places in which they do (`GRADUAL`). 0
        where no line is found between places that answer to one half alone and to the other, as where windows look at some of both.
        """
        furthest = 0.0
        for axis, pair in enumerate(self.halves.reshape(2, 2, *self._grid)):
            first, second = pair.sum(2 - axis)
            lean = ((first - second) / np.maximum(first + second, _TINY)).tolist()
            begins = next((i for i, value in enumerate(lean) if value > SHARP), len(lean))
            after = next((i for i in range(begins, len(lean)) if lean[i] < -SHARP), None)
            if after is None:
                continue
            before = max(i for i in range(begins, after) if lean[i] > SHARP)
            between = lean[before : after + 1]
            if any(b > a + CLEARLY for a, b in pairwise(between)):
                continue
            line = before + (_crossing(between, 0.5) + _crossing(between, -0.5)) / 2
            off = abs(line - (len(lean) - 1) / 2)
            furthest = max(furthest, off / max(1.0, (after - before - 1) / GRADUAL))
        return furthest


def listen(tensor: Tensor, axis: int = 1, grid: Callable[[Tensor], Tensor] = lambda some: some) -> Answers | None:
    """The answers to the four pictures (`lsd.places`); None where nothing answers.

    Args:
        tensor: (4, …), with its channels along `axis`.
        grid: such a one of fewer channels → (4, C, h, w).
    """
    count = tensor.shape[axis]
    heard = min(_CHANNELS, max(_FEWEST, _NUMBERS * count // tensor[0].numel()))
    for step in dict.fromkeys((max(1, count // heard), 1)):  # all channels where some are silent
        some = grid(tensor.movedim(axis, 0)[::step].movedim(0, axis))
        base, above, left, far = at_least_fp32(some.detach())
        changes = torch.stack([above - base, far - above, left - base, far - left])
        largest = changes.abs().max()
        if largest > _NOTHING * base.abs().max():
            # In units of the largest change, so that squares stay in single precision's range.
            return Answers((changes / largest).square_().sum(1).sqrt_().double().cpu().numpy())
    return None


@functools.lru_cache(64)
def _sides(height: int, width: int) -> np.ndarray:
    """(2, h · w): 1 above and −1 below, 1 left and −1 right, 0 in a middle row or column."""
    down, across = (np.sign(n - 1 - np.arange(n) * 2.0) for n in (height, width))
    both = np.stack(np.broadcast_arrays(down[:, None], across[None]))
    return (both * np.abs(both.prod(0))).reshape(2, -1)


def _crossing(falling: Sequence[float], level: float) -> float:
    """Where falling numbers pass a level, between the last above it and the next."""
    i = max(i for i, value in enumerate(falling) if value > level)
    return i + (falling[i] - level) / (falling[i] - falling[i + 1])
