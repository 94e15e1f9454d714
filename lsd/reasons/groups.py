"""Groups: what speaks for a decision, as a few things in place of many channels.

Of one picture, what each channel adds at each place (`Shares.parts`) and speaks for the target is factorised into a few patterns
of channels, none negative, each with the places where it lies (non-negative matrix factorisation: Lee and Seung, 1999; of a
picture's activations: Olah et al., 2018). A channel may belong to several groups; what it adds at a place is divided among them
as the factors say, and what they do not explain belongs to none.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.layout import flat_to_grid
from lsd.reasons.shares import Shares

COUNTS = (1, 2, 3, 4, 5, 6)
ENOUGH = 0.7  # of the sum of what speaks for the target: with so much explained, no further group is looked for
_SWEEPS = 60


@dataclass(frozen=True)
class Groups:
    """Of one picture, from the one that speaks most for the target to the one that speaks least.

    Attributes:
        shares: (k,) in units of the target.
        masks: (k, C, P) which part of a channel at a place belongs to the group, from 0 to 1; together 1 at most, and 0 where the
            channel speaks against the target there.
        directions: (k, C) how much of the group each channel is: not negative, of length 1.
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
        count: how many; by default the first of `COUNTS` that explains `ENOUGH`, else the last.

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
        each = patterns.T[:, :, None] * places[:, None]
        masks = each / torch.maximum(each.sum(0), parts).clamp(min=torch.finfo(parts.dtype).tiny)
        masks = masks * (parts > 0)
        own = masks * parts
        explained = float(own.sum() / parts.sum())
        if explained >= ENOUGH:
            break
    order = own.sum((1, 2)).argsort(descending=True, stable=True)
    own, masks, directions = own[order], masks[order], torch.nn.functional.normalize(patterns.T[order], dim=1)
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
