"""Reasons of one decision: the few channels and groups of a layer that speak most for it, and what happens without them."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.layers import find_layer
from lsd.models import ImageModel
from lsd.reasons.defaults import METHOD, default_layer
from lsd.reasons.groups import Groups, groups
from lsd.reasons.shares import Shares, shares
from lsd.reasons.switch import goes_on, without
from lsd.resumed import Before, kept_before
from lsd.saliency.explain import TargetSpec
from lsd.saliency.targets import Target

DECISION = TargetSpec("top1", "contrast", "top2")  # the first choice rather than the runner-up
HEARD = 0.005  # of the probability: classes with less are not told of (`speaks_for`)
DRAWS = 8  # of channels at random, as a control
IN_A_PASS = 16  # pictures; bounds the memory
_MOST_WEIGHTS = 12  # channels in the unit of a group: more change its picture little, and nobody can read the address


@dataclass(frozen=True)
class Reason:
    """One thing that speaks for the target, or against it.

    Attributes:
        unit: what it is, as a unit of feature visualization: layer/channel/12, or layer/direction/12:0.8,40:0.6 of a group.
        share: in units of the target; below zero where it speaks against it.
        part: of the sum of all that speaks for the target, channel by channel; of a group, place by place.
        map: (h, w) its share by place; None of a layer without places.
        off: (C, P) how far each number of the layer is off when this reason is (`without`).
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
        shares: of all channels.
        logits: (classes,) of the picture as it is.
        channels: those that speak most for the target, most first; fewer than asked for where fewer do.
        against: those that speak most against it, most first.
        groups: the same as few things (`lsd.reasons.groups`); () where nothing speaks for the target.
        explained: part of the sum of all that speaks for the target that is in the groups.
    """

    shares: Shares
    logits: Tensor
    channels: tuple[Reason, ...]
    against: tuple[Reason, ...]
    groups: tuple[Reason, ...]
    explained: float

    @property
    def target(self) -> Target:
        return self.shares.target

    @property
    def layer(self) -> str:
        return self.shares.layer.name

    @property
    def total(self) -> float:
        """The sum of all channels' shares that speak for the target."""
        return float(self.shares.values.clamp(min=0).sum())


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
        random: as many channels as `Reasons.channels` has are off, drawn at random, `DRAWS` times.
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
    method: str = METHOD,
    count: int = 10,
    group_count: int | None = None,
) -> Reasons:
    """What of a layer speaks for the target in a picture (1, 3, H, W), RGB in [0, 1].

    Args:
        layer: by default what docs/reasons.md says.
        method: of `lsd.reasons.shares`.
        count: how many channels are told, for the target and against it.
        group_count: how many groups; by default as many as it takes (`lsd.reasons.groups`).

    Raises:
        UndefinedError: a network without classes, a class that it does not have, or what `shares` raises.
    """
    if model.outputs == "embedding":
        model.refuse_classes()
    with torch.no_grad():
        logits = model(model.take(image))[0]
    target = spec.resolve(model, logits.argsort(descending=True, stable=True).tolist())
    found = find_layer(model, layer or default_layer(model))
    (own,) = shares(model, image, [target], [found.name], method=method)[found.name]
    values = own.values[0]
    order = own.order()[0].tolist()
    told = [channel(own, c) for c in order[:count] if values[c] > 0]
    opposed = [channel(own, c) for c in reversed(order[-count:]) if values[c] < 0]
    speaks = told and own.parts is not None
    grouped = groups(own, group_count) if speaks else None
    by_place = (
        float(own.parts.clamp(min=0).sum()) if speaks else 0.0
    )  # more than by channel: those speak against it elsewhere
    return Reasons(
        own, logits, tuple(told), tuple(opposed),
        () if grouped is None else tuple(_group(found.name, grouped, i, by_place) for i in range(len(grouped.shares))),
        0.0 if grouped is None else grouped.explained,
    )  # fmt: skip


def channel(own: Shares, c: int) -> Reason:
    """Channel c of one picture's shares, whether it is among the first or not.

    Raises:
        UndefinedError: there is no such channel.
    """
    if not 0 <= c < own.layer.channels:
        raise UndefinedError(f"{own.layer.name} has the channels 0 to {own.layer.channels - 1}, and no channel {c}.")
    off = torch.zeros(own.layer.channels, 1)
    off[c] = 1
    share, total = float(own.values[0, c]), float(own.values[0].clamp(min=0).sum())
    place = None if own.maps is None else own.maps[0, c].cpu()
    return Reason(f"{own.layer.name}/channel/{c}", share, share / total if total else 0.0, place, off)


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
    """
    layer, trials = reasons.shares.layer, []
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
    """(C, 1) each: so many channels off, the same ones at every call."""
    numbers = torch.Generator().manual_seed(0)
    channels = reasons.shares.layer.channels
    found = []
    for _ in range(draws):
        off = torch.zeros(channels, 1)
        off[torch.randperm(channels, generator=numbers)[:count]] = 1
        found.append(off)
    return found


def elsewhere(off: Tensor, draws: int = DRAWS) -> list[Tensor]:
    """As much off, (C, 1) or (C, P) each, at channels drawn at random, the same ones at every call: a control."""
    numbers = torch.Generator().manual_seed(0)
    return [off[torch.randperm(len(off), generator=numbers)] for _ in range(draws)]


def try_reasons(model: ImageModel, image: Tensor, reasons: Reasons, *, fill: Tensor | None = None) -> Tried:
    """Switch each reason off, then the first of them together, then as many channels at random.

    Args:
        image, fill: as for `switched`.
    """
    sets: dict[str, list[Tensor]] = {}
    for name in ("channels", "groups"):
        alone = [reason.off for reason in getattr(reasons, name)]
        sets[name] = alone
        sets[f"{name}_so_far"] = [together(alone[: k + 1]) for k in range(len(alone))]
    sets["random"] = at_random(reasons, len(reasons.channels)) if reasons.channels else []
    trials = iter(switched(model, image, reasons, [off for own in sets.values() for off in own], fill=fill))
    return Tried(**{name: tuple(next(trials) for _ in own) for name, own in sets.items()})
