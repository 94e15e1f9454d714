"""Which channels are told: of those with the largest shares, the ones that carry the decision together.

A share says how much a channel speaks for the target, and where several say the same each has its part of it. So the ten with the
largest shares are not the ten that the target loses most without: one of them may repeat the others, and the eleventh may not.
They are put to the test once: with all of them off, each is switched on again, and each of those that come next is switched off as
well; told are those that the target misses most. That is one pass from the layer on for each of the candidates.
"""

import torch

from lsd.models import ImageModel
from lsd.reasons.shares import Shares
from lsd.reasons.switch import without
from lsd.resumed import Before

CANDIDATES = 2  # times as many as are told


@torch.no_grad()
def carry_most(
    model: ImageModel,
    image: torch.Tensor,
    own: Shares,
    count: int,
    *,
    before: Before = (),
    batch_size: int = 16,
) -> list[int]:
    """`count` channels, fewer where fewer speak for the target, in the order of their shares.

    Args:
        image: (1, 3, H, W), as `shares` was given it.
        own: of this picture.
        before: as for `without`.
        batch_size: channels in a pass; bounds the memory.
    """
    values = own.values[0]
    ranked = [c for c in own.order()[0].tolist()[: CANDIDATES * count] if values[c] > 0]
    first, others = ranked[:count], ranked[count:]
    if not others:
        return first
    off = torch.zeros(1 + len(ranked), own.layer.channels)
    off[:, first] = 1
    for row, c in enumerate(ranked, 1):
        off[row, c] = 1 - off[row, c]
    left = torch.cat([
        own.target(without(model, image, own.layer, some, before=before)) for some in off.split(batch_size)
    ])  # fmt: skip
    missed = torch.cat(
        [left[1 : 1 + count] - left[0], left[0] - left[1 + count :]]
    )  # regained by each, or lost further
    kept = set(missed.argsort(descending=True, stable=True)[:count].tolist())
    return [c for i, c in enumerate(ranked) if i in kept]
