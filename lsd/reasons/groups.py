"""Groups: what speaks for a decision, as a few things in place of many channels.

Of one picture, what each channel adds at each place (`Shares.parts`) and speaks for the target is factorised into a few patterns
of channels, none negative, each with the places where it lies (non-negative matrix factorisation: Lee and Seung, 1999; of a
picture's activations: Olah et al., 2018). Then each place is given to the pattern that is strongest there, and of its channels
those whose part the patterns explain for the most part: whole, or not at all. So a channel may belong to several groups, at
places of its own in each, and what hangs together at a place is not torn apart; docs/reasons.md has the measurement.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.layout import flat_to_grid
from lsd.reasons.shares import Shares

COUNTS = (1, 2, 3, 4, 5, 6)
ENOUGH = 0.65  # of the sum of what speaks for the target: with so much explained, no further group is looked for
_EXPLAINED = 0.5  # of what a channel adds at a place: with so much explained, it belongs to the place's group
_SWEEPS = 60


@dataclass(frozen=True)
class Groups:
    """Of one picture, from the one that speaks most for the target to the one that speaks least.

    Attributes:
        shares: (k,) in units of the target.
        masks: (k, C, P) 1 where a channel at a place belongs to the group, else 0; each belongs to one at most, and to none where
            it speaks against the target.
        directions: (k, C) how much of the group's share each channel has: not negative, of length 1.
        maps: (k, h, w) the group's share by place; None of a layer without places.
        explained: part of the sum of all that speaks for the target, from 0 to 1.
    """

    shares: Tensor
    masks: Tensor
    directions: Tensor
    maps: Tensor | None
    explained: float


def groups(shares: Shares, count: int | None = None) -> Groups:
    """The groups of one picture's shares.

    Args:
        shares: of one picture, by a method that knows places.
        count: how many, fewer where a pattern is the strongest nowhere; by default the first of `COUNTS` that explains `ENOUGH`,
            else the last.

    Raises:
        UndefinedError: shares of several pictures, without places, or none of which speaks for the target.
    """
    if shares.parts is None or len(shares.parts) != 1:
        raise UndefinedError(
            f"Groups are those of one picture's shares by place; {shares.method} of {len(shares.values)} pictures has none."
        )
    parts = shares.parts[0].clamp(min=0)
    if not parts.any():
        raise UndefinedError(f"Nothing in {shares.layer.name} speaks for this target, so there is nothing to group.")
    for k in COUNTS if count is None else (count,):
        patterns, places = factorise(parts, k)
        belongs = (parts > 0) & (patterns @ places >= _EXPLAINED * parts)
        strongest = (patterns.sum(0)[:, None] * places).argmax(0)
        masks = torch.nn.functional.one_hot(strongest, k).T[:, None] * belongs.to(parts)
        own = masks * parts
        explained = float(own.sum() / parts.sum())
        if explained >= ENOUGH:
            break
    order = own.sum((1, 2)).argsort(descending=True, stable=True)
    order = order[own.sum((1, 2))[order] > 0]
    own, masks = own[order], masks[order]
    directions = torch.nn.functional.normalize(own.sum(2), dim=1)
    maps = flat_to_grid(shares.layer, own.sum(1, keepdim=True))[:, 0] if shares.layer.height else None
    return Groups(own.sum((1, 2)), masks, directions, maps, explained)


def factorise(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(C, k), (k, P) ≥ 0 whose product is near a matrix (C, P) ≥ 0 in the sum of squares, the same at every call.

    From the parts of its singular vectors of one sign (Boutsidis and Gallopoulos, 2008), one row or column of the factors at a
    time (HALS: Cichocki and Phan, 2009).
    """
    given, matrix = matrix, matrix.double().cpu()  # in fp64, which some devices do not have
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    left, right = [], []
    for i in range(min(count, len(s))):
        sides = [(u[:, i].clamp(min=0), v[i].clamp(min=0)), ((-u[:, i]).clamp(min=0), (-v[i]).clamp(min=0))]
        a, b = max(sides, key=lambda side: float(side[0].norm() * side[1].norm()))
        left.append(a * s[i].sqrt())
        right.append(b * s[i].sqrt())
    patterns, places = torch.stack(left, 1), torch.stack(right)
    for _ in range(_SWEEPS):
        _sweep(matrix, patterns, places)
        _sweep(matrix.T, places.T, patterns.T)
    return patterns.to(given), places.to(given)


def _sweep(matrix: Tensor, fixed: Tensor, moved: Tensor) -> None:
    """Each row of `moved` (k, P) in turn at its best for `fixed` (C, k), in place."""
    gram, target = fixed.T @ fixed, fixed.T @ matrix
    for i in range(len(moved)):
        if gram[i, i] > 0:
            moved[i] = (moved[i] + (target[i] - gram[i] @ moved) / gram[i, i]).clamp(min=0)
