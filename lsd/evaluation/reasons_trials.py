"""What is tried of reasons: each ranking's first units off, or all others (`lsd.evaluation.reasons`)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lsd.layout import Layer
from lsd.models import ImageModel
from lsd.reasons.answer import COUNT
from lsd.reasons.choice import carry_most
from lsd.reasons.defaults import METHOD
from lsd.reasons.explain import CHANNEL, HEAD, POSITION, unit_map, unit_values, units_off
from lsd.reasons.groups import Groups, groups
from lsd.reasons.heads import head_shares, without_heads
from lsd.reasons.shares import Shares, shares
from lsd.reasons.switch import goes_on, without
from lsd.resumed import Before, kept_before
from lsd.saliency.targets import of_class

COUNTS = (1, 3, 5, 10, 20, 50)  # channels or places that are switched off, or kept
FEW_COUNTS = (1, 2, 3)  # groups or heads that are
TOLD, RANDOM, GROUPS = "told", "random", "groups"
ELSEWHERE, SCATTERED = "elsewhere", "scattered"
GROUPED = re.compile(rf"{GROUPS}(?:/([1-9][0-9]?))?(?:/({ELSEWHERE}|{SCATTERED}))?")


@dataclass(frozen=True)
class Row:
    """One picture, layer and ranking.

    Attributes:
        picture: the file's name.
        ranking: as `lsd.evaluation.reasons` names them.
        shares: part of the sum of the positive shares that the first ten units, or all groups, have; NaN at random.
        off, lost: by `counts`, whether the decision changes when so many are switched off, and how much of the contrast is lost.
        kept: by `counts`, whether the decision is the same when only so many are kept.
        mended: by `counts`, whether the right class is the first choice when so many are switched off; () where the true class is
            not asked for.
        inside: part of the first unit's or group's map that is at places that the tag touches; NaN without a tag or map.
    """

    picture: str
    ranking: str
    shares: float
    off: tuple[bool, ...]
    lost: tuple[float, ...]
    kept: tuple[bool, ...]
    mended: tuple[bool, ...] = ()
    inside: float = np.nan


def kind_of(ranking: str) -> tuple[str, str]:
    """What a ranking's units are, and how they are ranked: of "head/ablation" heads, by ablation."""
    kind, _, way = ranking.partition("/")
    return (kind, way) if kind in (HEAD, POSITION) else (CHANNEL, ranking)


def counts(ranking: str) -> tuple[int, ...]:
    """How many things of a ranking are switched off, or kept."""
    return FEW_COUNTS if ranking.startswith((GROUPS, f"{HEAD}/")) else COUNTS


def study(
    model: ImageModel,
    layer: Layer,
    images: Tensor,
    names: Sequence[str],
    rankings: Sequence[str],
    *,
    right: Sequence[int] | None = None,
    tags: Sequence[np.ndarray | None] | None = None,
) -> list[Row]:
    """The rows of some pictures (N, 3, H, W), named `names`.

    Args:
        layer: of rankings of heads, an attention layer as `head_shares` has it.
        rankings: of heads, or none of them.
        right: the true classes, against which the first choices are held, rather than against the runners-up.
        tags: (H, W) bool each, where the tag is.
    """
    befores, said = [], []
    for image in images.split(1):
        with torch.no_grad(), kept_before(model, layer.name) as before:
            said.append(model(image))
        befores.append(before if layer.layout != "heads" and goes_on(model, layer) else ())
    logits = torch.cat(said)
    first, second = logits.topk(2, dim=1).indices.T.tolist()
    target = of_class(model, first, "contrast", second if right is None else right)
    contrast = target(logits)
    known: dict[tuple[str, str], Shares] = {}  # by kind and method
    grouped: dict[tuple[int, str], Groups] = {}  # by picture and count
    rows = []
    for ranking in rankings:
        kind, way = kind_of(ranking)
        method = METHOD if way == TOLD or way.startswith(GROUPS) else way
        of_heads = kind == HEAD
        if method != RANDOM and (of_heads, method) not in known:
            (known[of_heads, method],) = (
                head_shares(model, images, [target], layer.name, method=method)
                if of_heads else shares(model, images, [target], [layer.name], method=method)[layer.name]
            )  # fmt: skip
        for n, name in enumerate(names):
            numbers = np.random.default_rng(list(name.encode()))
            own = None if method == RANDOM else known[of_heads, method].of(n)
            where = None  # what speaks for the target lies, of the first thing of a ranking
            if way.startswith(GROUPS):
                count = GROUPED.fullmatch(way)[1]
                if (own.parts > 0).any() and (n, count) not in grouped:
                    grouped[n, count] = groups(own, int(count) if count else None)
                part, off, where = _groups_off(own, grouped.get((n, count)), way, numbers)
            else:
                part, ranked = np.nan, numbers.permutation(unit_count(layer, kind)).tolist()
                if own is not None:
                    ten = carry_most(model, images[n : n + 1], own, COUNT, before=befores[n]) if way == TOLD else []
                    values = unit_values(own, kind)
                    ranked = [*ten, *(i for i in values.argsort(descending=True, stable=True).tolist() if i not in ten)]
                    part = float(values.clamp(min=0)[ranked[:10]].sum() / values.clamp(min=0).sum())
                    where = unit_map(own, kind, ranked[0])
                off = torch.stack([units_off(layer, kind, ranked[:k]) for k in counts(ranking)])
            logits = _without(model, images[n : n + 1], layer, torch.cat([off, 1 - off]), befores[n])
            now, lost = logits.argmax(1), contrast[n] - target.of(n)(logits)
            same, count = now == first[n], len(off)
            rows.append(
                Row(name, ranking, part, off=tuple((~same[:count]).tolist()), lost=tuple(lost[:count].tolist()),
                    kept=tuple(same[count:].tolist()),
                    mended=() if right is None else tuple((now[:count] == right[n]).tolist()),
                    inside=_inside(where, None if tags is None else tags[n]))
            )  # fmt: skip
    return rows


def _inside(where: Tensor | None, tag: np.ndarray | None) -> float:
    """Part of a map (h, w) that is above zero at the places that the tag touches."""
    if where is None or tag is None:
        return np.nan
    touched = torch.nn.functional.adaptive_max_pool2d(torch.from_numpy(tag)[None, None].float(), where.shape)[0, 0]
    above = where.clamp(min=0).cpu()
    return float((above * touched).sum() / above.sum())


def unit_count(layer: Layer, kind: str) -> int:
    """How many units of a kind a layer has."""
    return layer.height * layer.width if kind == POSITION else layer.channels


def _without(model: ImageModel, image: Tensor, layer: Layer, off: Tensor, before: Before) -> Tensor:
    """Logits (N, classes) of one picture with units off, (N, C, 1) or (N, C, P); of heads (N, heads, 1)."""
    if layer.layout == "heads":
        return without_heads(model, image.expand(len(off), -1, -1, -1), layer.name, off[..., 0])
    return without(model, image, layer, off, before=before)


def _groups_off(
    own: Shares, found: Groups | None, ranking: str, numbers: np.random.Generator
) -> tuple[float, Tensor, Tensor | None]:
    """The part that all groups of one picture explain, (counts, C, P) how far what is off with the first `FEW_COUNTS`, and the
    first group's map; None of groups where nothing speaks for the target."""
    if found is None:
        return np.nan, torch.zeros(len(FEW_COUNTS), *own.parts.shape[1:]), None
    control, masks = GROUPED.fullmatch(ranking)[2], found.masks
    if control == ELSEWHERE:
        masks = masks[:, torch.from_numpy(numbers.permutation(masks.shape[1]))]
    elif control == SCATTERED:
        masks = _scattered(own.parts[0], found.shares, numbers)
    first = None if control or found.maps is None else found.maps[0]
    return found.explained, torch.stack([masks[:k].sum(0).clamp(max=1) for k in FEW_COUNTS]), first


def _scattered(parts: Tensor, sizes: Tensor, numbers: np.random.Generator) -> Tensor:
    """(k, C, P) of what speaks for the target in `parts` (C, P), pieces in a random order until each of k groups has its size."""
    where = (parts.flatten() > 0).nonzero()[:, 0]
    where = where[torch.from_numpy(numbers.permutation(len(where)))]
    reached, ends = parts.flatten()[where].cumsum(0), sizes.cumsum(0)
    masks = torch.zeros(len(sizes), parts.numel(), dtype=parts.dtype)
    belongs = torch.searchsorted(ends, reached)
    inside = belongs < len(sizes)
    masks[belongs[inside], where[inside]] = 1
    return masks.view(len(sizes), *parts.shape)
