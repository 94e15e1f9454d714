"""Reasons of one decision: the few channels and groups of a layer that speak most for it, and what happens without them.

In place of channels they may be the heads of an attention layer, or the places of a layer.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.layers import find_layer
from lsd.layout import Layer
from lsd.models import ImageModel
from lsd.reasons.choice import carry_most
from lsd.reasons.defaults import METHOD, default_layer, method_of
from lsd.reasons.groups import Groups, groups
from lsd.reasons.heads import default_heads, head_shares, without_heads
from lsd.reasons.shares import Shares, shares
from lsd.reasons.switch import goes_on, place_off, without
from lsd.resumed import Before, kept_before
from lsd.saliency.explain import TargetSpec
from lsd.saliency.targets import Target

CHANNEL, HEAD, POSITION = KINDS = ("channel", "head", "position")
DECISION = TargetSpec("top1", "contrast", "top2")  # the first choice rather than the runner-up
HEARD = 0.005  # of the probability: classes with less are not told of (`speaks_for`)
DRAWS = 8  # of channels at random, as a control
IN_A_PASS = 16  # pictures; bounds the memory
_MOST_WEIGHTS = 12  # channels in the unit of a group: more change its picture little, and nobody can read the address


@dataclass(frozen=True)
class Reason:
    """One thing that speaks for the target, or against it.

    Attributes:
        unit: what it is, as a unit of feature visualization: layer/channel/12, layer/head/2, layer/position/7/7, or
            layer/direction/12:0.8,40:0.6 of a group.
        share: in units of the target; below zero where it speaks against it.
        part: of the sum of all that speaks for the target, unit by unit; of a group, place by place.
        map: (h, w) its share by place; None of a layer without places, and of heads.
        off: (C, P) how far each number of the layer is off when this reason is (`without`); of a head (heads, 1).
    """

    unit: str
    share: float
    part: float
    map: Tensor | None
    off: Tensor


@dataclass(frozen=True)
class Reasons:
    """Of one picture and target.

    Attributes:
        shares: of all channels, or of all heads.
        logits: (classes,) of the picture as it is.
        channels: the units that speak for the target, by their shares, most first; fewer than asked for where fewer do. Channels,
            or what `kind` says.
        against: those that speak most against it, most first.
        groups: the channels as few things (`lsd.reasons.groups`); () where nothing speaks for the target, and of other kinds.
        explained: part of the sum of all that speaks for the target that is in the groups.
        kind: one of `KINDS`.
    """

    shares: Shares
    logits: Tensor
    channels: tuple[Reason, ...]
    against: tuple[Reason, ...]
    groups: tuple[Reason, ...]
    explained: float
    kind: str = CHANNEL

    @property
    def values(self) -> Tensor:
        """(units,) the share of each channel, of each head, or of each place, row by row."""
        return unit_values(self.shares, self.kind)

    @property
    def target(self) -> Target:
        return self.shares.target

    @property
    def layer(self) -> str:
        return self.shares.layer.name

    @property
    def total(self) -> float:
        """The sum of all units' shares that speak for the target."""
        return float(self.values.clamp(min=0).sum())


@dataclass(frozen=True)
class Trial:
    """What a network says with some of a layer off.

    Attributes:
        logits: (classes,).
        score: the target then.
        first: the most probable class then.
        changed: whether it is another one than before.
    """

    logits: Tensor
    score: float
    first: int
    changed: bool


@dataclass(frozen=True)
class Tried:
    """Reasons put to the test.

    Attributes:
        channels, groups: each of the reasons alone is off.
        channels_so_far, groups_so_far: the first one is off, the first two, …
        random: as many units as `Reasons.channels` has are off, drawn at random, `DRAWS` times; () where these are all there are.
    """

    channels: tuple[Trial, ...]
    groups: tuple[Trial, ...]
    channels_so_far: tuple[Trial, ...]
    groups_so_far: tuple[Trial, ...]
    random: tuple[Trial, ...]


def flips(so_far: Sequence[Trial]) -> int | None:
    """How many of the first reasons change the decision when they are off; None if all of them together do not."""
    return next((k for k, trial in enumerate(so_far, 1) if trial.changed), None)


def speaks_for(model: ImageModel, before: Tensor, trial: Trial, count: int = 3) -> tuple[list, list]:
    """What else that which is off speaks for: (class, by how much) for the classes whose log-probability (of sigmoids their
    log-odds) it raises most, and for those that it lowers most, in this picture.

    Of classes that have `HEARD` of the probability, with or without it: the thousandth part of nothing doubles easily.

    Args:
        before: (classes,) logits of the picture as it is (`Reasons.logits`).
    """
    logits = torch.stack([before, trial.logits])
    if model.outputs == "sigmoid":
        told, probabilities = logits, logits.sigmoid()
    else:
        told = logits.log_softmax(1)
        probabilities = told.exp()
    change = told[0] - told[1]
    heard = (probabilities.amax(0) >= HEARD).tolist()
    order = [c for c in change.argsort(descending=True, stable=True).tolist() if heard[c]]
    raised = [(c, float(change[c])) for c in order[:count] if change[c] > 0]
    return raised, [(c, float(change[c])) for c in order[::-1][:count] if change[c] < 0]


def find_reasons(
    model: ImageModel,
    image: Tensor,
    spec: TargetSpec = DECISION,
    *,
    layer: str | None = None,
    method: str | None = None,
    count: int = 10,
    group_count: int | None = None,
    kind: str = CHANNEL,
) -> Reasons:
    """What of a layer speaks for the target in a picture (1, 3, H, W), RGB in [0, 1].

    Args:
        layer: by default what docs/reasons.md says; of heads, an attention module, by default the last but one.
        method: of `lsd.reasons.shares`, or of heads of `lsd.reasons.heads`; by default `method_of` the kind. Of channels by
            `METHOD` those are told that carry the decision together (`lsd.reasons.choice`), else the first ones.
        count: how many units are told, for the target and against it.
        group_count: how many groups; by default as many as it takes (`lsd.reasons.groups`).
        kind: what the units are: channels, attention heads, or places.

    Raises:
        UndefinedError: a network without classes, a class that it does not have, another kind, a layer or a method without units
            of that kind, or what `shares` raises.
    """
    if kind not in KINDS:
        raise UndefinedError(f"Reasons are no “{kind}”; choose one of {', '.join(KINDS)}.")
    if model.outputs == "embedding":
        model.refuse_classes()
    asked = None if kind == HEAD else find_layer(model, layer or default_layer(model))
    keeping = kept_before(model, asked.name) if asked and goes_on(model, asked) else nullcontext(())
    with torch.no_grad(), keeping as before:
        logits = model(model.take(image))[0]
    target = spec.resolve(model, logits.argsort(descending=True, stable=True).tolist())
    method = method or method_of(kind)
    if kind == HEAD:
        (own,) = head_shares(model, image, [target], layer or default_heads(model), method=method)
    else:
        (own,) = shares(model, image, [target], [asked.name], method=method)[asked.name]
    values = unit_values(own, kind)
    order = values.argsort(descending=True, stable=True).tolist()
    if kind == CHANNEL and method == METHOD:
        first = carry_most(model, image, own, count, before=before)
    else:
        first = [i for i in order[:count] if values[i] > 0]
    told = tuple(_reason(own, kind, i) for i in first)
    opposed = tuple(_reason(own, kind, i) for i in reversed(order[-count:]) if values[i] < 0)
    reasons = Reasons(own, logits, told, opposed, (), 0.0, kind)
    if kind != CHANNEL or not told or own.parts is None:
        return reasons
    grouped = groups(own, group_count)
    by_place = float(own.parts.clamp(min=0).sum())  # more than by channel: those speak against it elsewhere
    few = tuple(_group(own.layer.name, grouped, i, by_place) for i in range(len(grouped.shares)))
    return replace(reasons, groups=few, explained=grouped.explained)


def channel(own: Shares, c: int) -> Reason:
    """Channel c of one picture's shares, whether it is among the first or not.

    Raises:
        UndefinedError: there is no such channel.
    """
    if not 0 <= c < own.layer.channels:
        raise UndefinedError(f"{own.layer.name} has the channels 0 to {own.layer.channels - 1}, and no channel {c}.")
    return _reason(own, CHANNEL, c)


def unit_values(own: Shares, kind: str) -> Tensor:
    """(units,) the share of each channel, head or place of one picture, places row by row.

    Raises:
        UndefinedError: places of a layer, or of a method, that knows none.
    """
    if kind != POSITION:
        return own.values[0]
    if own.places is None:
        why = f"{own.method} says nothing of places" if own.layer.height else f"{own.layer.name} has no places"
        raise UndefinedError(f"{why}, so none of them is a reason; ask for channels.")
    return own.places[0].flatten()


def _reason(own: Shares, kind: str, i: int) -> Reason:
    """The unit of that number."""
    values = unit_values(own, kind)
    share, total = float(values[i]), float(values.clamp(min=0).sum())
    numbers = "/".join(map(str, divmod(i, own.layer.width))) if kind == POSITION else str(i)
    unit = f"{own.layer.name}/{kind}/{numbers}"
    return Reason(unit, share, share / total if total else 0.0, unit_map(own, kind, i), units_off(own.layer, kind, [i]))


def unit_map(own: Shares, kind: str, i: int) -> Tensor | None:
    """(h, w) the share of that unit by place; None without places."""
    if kind == POSITION:
        alone = torch.zeros(own.layer.height, own.layer.width)
        alone.view(-1)[i] = unit_values(own, kind)[i]
        return alone
    return None if own.maps is None else own.maps[0, i].cpu()


def units_off(layer: Layer, kind: str, units: Sequence[int]) -> Tensor:
    """(C, 1), or of places (C, P): these units off, by their numbers in `unit_values`."""
    if kind == POSITION:
        return together([place_off(layer, *divmod(i, layer.width)) for i in units])
    off = torch.zeros(layer.channels, 1)
    off[units] = 1
    return off


def _group(layer: str, found: Groups, i: int, total: float) -> Reason:
    weights, channels = found.directions[i].topk(min(_MOST_WEIGHTS, found.directions.shape[1]))
    pairs = [f"{c}:{w:.2f}" for c, w in zip(channels.tolist(), weights.tolist(), strict=True) if w >= 0.05]
    share = float(found.shares[i])
    return Reason(f"{layer}/direction/{','.join(pairs)}", share, share / total,
                  None if found.maps is None else found.maps[i].cpu(), found.masks[i].cpu())  # fmt: skip


def switched(
    model: ImageModel,
    image: Tensor,
    reasons: Reasons,
    off: Sequence[Tensor],
    *,
    fill: Tensor | None = None,
    region: Tensor | None = None,
) -> list[Trial]:
    """What the network says of the picture with some of the layer off, for each of `off`.

    Args:
        image: (1, 3, H, W), as `find_reasons` was given it.
        off: (C, 1) or (C, P) each (`Reason.off`, `together`).
        fill, region: as for `without`; the region (h, w).

    Raises:
        UndefinedError: heads with something in their place, or in a region; what `without` raises.
    """
    layer, trials = reasons.shares.layer, []
    if reasons.kind == HEAD:
        if fill is not None or region is not None:
            raise UndefinedError("A head is switched off to zero, and everywhere; leave its mean and the region away.")
        for some in (off[i : i + IN_A_PASS] for i in range(0, len(off), IN_A_PASS)):
            images = image.expand(len(some), -1, -1, -1)
            logits = without_heads(model, images, layer.name, torch.stack([mask[:, 0] for mask in some]))
            trials += [_trial(reasons, own) for own in logits]
        return trials
    before: Before = ()
    for start in range(0, len(off), IN_A_PASS):
        some = off[start : start + IN_A_PASS]
        places = max(mask.shape[1] for mask in some)
        masks = torch.stack([mask.expand(-1, places) for mask in some])
        where = None if region is None else region.expand(len(some), -1, -1)
        keeping = kept_before(model, layer.name) if not start and goes_on(model, layer) else nullcontext(before)
        with keeping as before:  # empty until the first pass is over
            logits = without(model, image, layer, masks, fill=fill, region=where, before=before)
        trials += [_trial(reasons, own) for own in logits]
    return trials


def _trial(reasons: Reasons, logits: Tensor) -> Trial:
    first = int(logits.argmax())
    score = float(reasons.target(logits[None])[0])
    return Trial(logits, score, first, first != int(reasons.logits.argmax()))


def together(off: Sequence[Tensor]) -> Tensor:
    """How far a layer is off when each of these (C, 1) or (C, P) is: what several of them have a part in, by all these parts."""
    total = off[0]
    for other in off[1:]:
        total = total + other
    return total.clamp(max=1)


def at_random(reasons: Reasons, count: int, draws: int = DRAWS) -> list[Tensor]:
    """(C, 1) each, or of places (C, P): so many units off, the same ones at every call."""
    numbers = torch.Generator().manual_seed(0)
    units = len(reasons.values)
    return [
        units_off(reasons.shares.layer, reasons.kind, torch.randperm(units, generator=numbers)[:count].tolist())
        for _ in range(draws)
    ]


def elsewhere(off: Tensor, draws: int = DRAWS) -> list[Tensor]:
    """As much off, (C, 1) or (C, P) each, at channels drawn at random, the same ones at every call: a control."""
    numbers = torch.Generator().manual_seed(0)
    return [off[torch.randperm(len(off), generator=numbers)] for _ in range(draws)]


def try_reasons(model: ImageModel, image: Tensor, reasons: Reasons, *, fill: Tensor | None = None) -> Tried:
    """Switch each reason off, then the first of them together, then as many units at random.

    Args:
        image, fill: as for `switched`.
    """
    sets: dict[str, list[Tensor]] = {}
    for name in ("channels", "groups"):
        alone = [reason.off for reason in getattr(reasons, name)]
        sets[name] = alone
        sets[f"{name}_so_far"] = [together(alone[: k + 1]) for k in range(len(alone))]
    told = len(reasons.channels)
    sets["random"] = at_random(reasons, told) if 0 < told < len(reasons.values) else []
    trials = iter(switched(model, image, reasons, [off for own in sets.values() for off in own], fill=fill))
    return Tried(**{name: tuple(next(trials) for _ in own) for name, own in sets.items()})
