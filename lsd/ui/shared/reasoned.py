"""Reasons kept by content, as explanations are (`answers`): what is asked of a network and a picture, and what it says then."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from lsd.images import crop_box, open_image
from lsd.layers import curated_layers, find_layer
from lsd.models import ImageModel
from lsd.reasons.answer import as_probabilities
from lsd.reasons.defaults import default_layer
from lsd.reasons.explain import (
    Reason,
    Reasons,
    Trial,
    Tried,
    channel,
    elsewhere,
    find_reasons,
    speaks_for,
    switched,
    together,
    try_reasons,
)
from lsd.reasons.region import Box, places_in
from lsd.reasons.switch import means
from lsd.recent import Recent
from lsd.saliency.explain import TargetSpec, to_input
from lsd.saliency.targets import Target, of_class
from lsd.ui.shared import gpu
from lsd.ui.shared.examples import examples
from lsd.ui.shared.pace import Cost, measured
from lsd.ui.shared.room import room_for_reasons

OTHERS = "all others"  # against whatever else the network can say
ZERO, MEAN = "zero", "mean"
FILLS = (ZERO, MEAN)
MAX_OFF = 60  # reasons that may be off at once
OPPOSED = 5  # channels that speak against the target are told

MAX_BYTES = 128 * 2**20
_OVERHEAD = 8192
_AT_ONCE = 8  # pictures of a pass through the examples
_MEANS = 200  # layers whose means are kept


@dataclass(frozen=True)
class Decision(TargetSpec):
    """A class rather than another: where no other is named, rather than the one that comes first beside it.

    Of outputs that are questions of their own, and of a single one, it is the class's log-odds.
    """

    def resolve(self, model: ImageModel, ranking: list[int]) -> Target:
        if self.kind != "contrast" or self.against is not None:
            return super().resolve(model, ranking)
        alone = TargetSpec(self.of).resolve(model, ranking)
        if model.outputs == "sigmoid" or len(ranking) < 2:
            return alone
        return of_class(model, alone.index, "contrast", next(c for c in ranking if c != alone.index))


def decision(of: str = "", against: str = "") -> Decision:
    """What is asked, from two texts: a class, "" for the network's first choice; another, "" for the one that comes first beside
    it, or `OTHERS`."""
    of = of.strip() or "top1"
    if against.strip() == OTHERS:
        return Decision(of)
    return Decision(of, "contrast", against.strip() or None)


@dataclass(frozen=True)
class Thing:
    """A reason, and what the network says without it.

    Attributes:
        name: by which it is switched: "g1" for the first group, "12" for channel 12.
        raises, lowers: (class, by how much) for the other classes whose log-probability it changes most.
    """

    name: str
    reason: Reason
    alone: Trial
    raises: tuple[tuple[int, float], ...]
    lowers: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Account:
    """What one network says of one picture, and why. Holds no network.

    Attributes:
        layers: that may be asked about, the one that was among them.
        box: what the network saw of the picture, (left, top, right, bottom) in its pixels.
        groups, channels, against: the reasons; `against` are channels that speak against the target.
        fill: what takes the place of what is off, one of `FILLS`.
        seconds: for reasons and trials.
    """

    model: str
    class_names: tuple[str, ...]
    note: str
    outputs: str
    layers: tuple[str, ...]
    box: tuple[float, float, float, float]
    picture_size: tuple[int, int]
    reasons: Reasons
    tried: Tried
    groups: tuple[Thing, ...]
    channels: tuple[Thing, ...]
    against: tuple[Thing, ...]
    fill: str
    seconds: float

    @property
    def before(self) -> float:
        """The target as the picture is."""
        return float(self.reasons.shares.scores[0])

    def probabilities(self, logits: Tensor) -> Tensor:
        """(classes,) of logits."""
        return as_probabilities(self.outputs, logits)

    def find(self, name: str) -> Reason | None:
        """What is switched by that name: a reason, or any other channel of the layer; None if there is none."""
        known = {thing.name: thing.reason for thing in (*self.groups, *self.channels, *self.against)}
        if name in known:
            return known[name]
        is_channel = name.isascii() and name.isdecimal() and len(name) < 7
        return channel(self.reasons.shares, int(name)) if is_channel and int(name) < self.channel_count else None

    @property
    def channel_count(self) -> int:
        return self.reasons.shares.layer.channels


@dataclass(frozen=True)
class Switching:
    """What a network says with some reasons off, and with as much off at channels drawn at random."""

    off: tuple[str, ...]
    trial: Trial
    random: tuple[Trial, ...]


@dataclass(frozen=True)
class Question:
    """What is asked of one network.

    Attributes:
        sha256: of the picture's file, which stands for the picture.
        layer: "" for the default.
    """

    sha256: str
    decision: Decision
    layer: str = ""
    fill: str = ZERO


def _size(kept: Account | Switching) -> int:
    if isinstance(kept, Switching):
        return _OVERHEAD + sum(map(_bytes, (kept.trial.logits, *(trial.logits for trial in kept.random))))
    shares = kept.reasons.shares
    reasons = [thing.reason for thing in (*kept.groups, *kept.channels, *kept.against)]
    tried = [trial.logits for part in vars(kept.tried).values() for trial in part]
    return _OVERHEAD + sum(map(_bytes, (shares.values, shares.parts, *tried, *(reason.off for reason in reasons))))


def _bytes(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.numel() * tensor.element_size()


_kept: Recent[Account | Switching] = Recent(MAX_BYTES, _size)
_means: Recent[Tensor] = Recent(_MEANS)


def _key(model: ImageModel, question: Question) -> tuple:
    return model.name, model.identity, model.said, question


def is_there(model: ImageModel, question: Question) -> bool:
    """Whether it is answered already."""
    return _key(model, question) in _kept


def cost(model: str, question: Question) -> Cost:
    """Of an answer that is not there yet."""
    return Cost(("reasons", model, question.layer, question.fill), 1)


def reasoned(model: ImageModel, picture: Image.Image, question: Question) -> Account:
    """The reasons, put to the test, unless they were found before. What it returns is shared: it must not be changed.

    Raises:
        LSDError: what `find_reasons` raises.
    """

    def compute() -> Account:
        layer = find_layer(model, question.layer or default_layer(model)).name
        with room_for_reasons(model, layer), measured(cost(model.name, question)):
            return gpu.call(_account, model, picture, question, layer, _fill(model, layer, question.fill))

    return _kept.get(_key(model, question), compute)


def without(
    model: ImageModel,
    picture: Image.Image,
    question: Question,
    account: Account,
    off: Iterable[str],
    region: Box | None = None,
) -> Switching:
    """What the network says with these reasons off, unless that was asked before.

    Args:
        account: the answer to `question`.
        off: names (`Account.find`), at least one that there is; others are passed over.
        region: outside of which nothing is off, as for `places_in`; everywhere by default.

    Raises:
        LSDError: what `places_in` raises.
    """
    names = tuple(sorted({name for name in off if account.find(name)}))
    grid = account.reasons.shares.layer
    places = None if region is None else places_in(grid, account.box, account.picture_size, region)

    def compute() -> Switching:
        layer = account.reasons.layer
        with room_for_reasons(model, layer):
            fill = _fill(model, layer, account.fill)
            gone = [account.find(name).off for name in names]
            return gpu.call(_switching, model, picture, account.reasons, names, gone, fill, places)

    return _kept.get((*_key(model, question), names, region), compute)


def _fill(model: ImageModel, layer: str, fill: str) -> Tensor | None:
    """What takes the place of channels that are off: None for zero, or their mean over the page's examples."""
    if fill == ZERO:
        return None
    key = model.name, model.identity, model.said, layer
    return _means.get(key, lambda: gpu.call(_mean, model, layer))


def _mean(model: ImageModel, layer: str) -> Tensor:
    images = torch.cat([to_input(model, open_image(path)) for path in examples().values()])
    return means(model, images, find_layer(model, layer), batch_size=_AT_ONCE).cpu()


def _account(model: ImageModel, picture: Image.Image, question: Question, layer: str, fill: Tensor | None) -> Account:
    image, start = to_input(model, picture), time.perf_counter()
    reasons = find_reasons(model, image, question.decision, layer=layer)
    reasons = replace(reasons, against=reasons.against[:OPPOSED])
    tried = try_reasons(model, image, reasons, fill=fill)
    seconds = time.perf_counter() - start
    opposed = switched(model, image, reasons, [reason.off for reason in reasons.against], fill=fill)
    names = {
        "groups": [f"g{i}" for i in range(1, 1 + len(reasons.groups))],
        "channels": [_channel_name(reason) for reason in reasons.channels],
        "against": [_channel_name(reason) for reason in reasons.against],
    }
    alone = {"groups": tried.groups, "channels": tried.channels, "against": opposed}
    things = {
        part: tuple(
            _thing(model, reasons, name, reason, trial)
            for name, reason, trial in zip(names[part], getattr(reasons, part), alone[part], strict=True)
        )
        for part in names
    }
    layers = dict.fromkeys([*(one.name for one in curated_layers(model)), layer])
    return Account(
        model.name, model.class_names, model.names_note, model.outputs, tuple(layers),
        crop_box(picture.size, model.spec), picture.size, _on_cpu(reasons),
        Tried(**{part: tuple(map(_light, trials)) for part, trials in vars(tried).items()}), **things,
        fill=question.fill, seconds=seconds,
    )  # fmt: skip


def _channel_name(reason: Reason) -> str:
    return reason.unit.rpartition("/")[2]


def _thing(model: ImageModel, reasons: Reasons, name: str, reason: Reason, trial: Trial) -> Thing:
    target = {reasons.target.index, reasons.target.against}
    raised, lowered = speaks_for(model, reasons.logits, trial, 5)
    beside = (tuple(one for one in found if one[0] not in target)[:3] for found in (raised, lowered))
    return Thing(name, reason, _light(trial), *beside)


def _on_cpu(reasons: Reasons) -> Reasons:
    shares = reasons.shares
    moved = {name: getattr(shares, name) for name in ("values", "parts", "scores", "zero")}
    moved = {name: None if tensor is None else tensor.detach().cpu() for name, tensor in moved.items()}
    return replace(reasons, shares=replace(shares, **moved), logits=reasons.logits.cpu())


def _light(trial: Trial) -> Trial:
    """With numbers of its own, not a part of its batch's."""
    return replace(trial, logits=trial.logits.detach().cpu().clone())


def _switching(
    model: ImageModel,
    picture: Image.Image,
    reasons: Reasons,
    names: Sequence[str],
    gone: Sequence[Tensor],
    fill: Tensor | None,
    places: Tensor | None,
) -> Switching:
    whole = together(gone)
    trials = switched(model, to_input(model, picture), reasons, [whole, *elsewhere(whole)], fill=fill, region=places)
    first, *random = map(_light, trials)
    return Switching(tuple(names), first, tuple(random))
