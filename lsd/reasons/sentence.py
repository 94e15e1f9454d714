"""The decision as one sentence, made from the shares: what it is, and the few things that it comes from.

A thing is called by its number: "channel 12", "group 1". Where somebody passes a name for its picture, such as the class that
other networks see in it, the name is told as a guess, never as what the thing is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lsd import labels
from lsd.features.judge import Verdict
from lsd.reasons.explain import Reason, Reasons
from lsd.saliency.targets import Target

_SEEN = 0.15  # of the probability, on average over the networks that were asked: with less nobody sees anything in a picture
_CHANNELS_TOLD = 3  # of a group


@dataclass(frozen=True)
class Thing:
    """One thing of a sentence.

    Attributes:
        unit: of feature visualization, as `Reason.unit`.
        text: what it is called: a guess, or `called`.
        guessed: whether it is a guess. Where it is not, a picture says more than the text.
        part: of the sum of all that speaks for the target.
    """

    unit: str
    text: str
    guessed: bool
    part: float

    def __str__(self) -> str:
        return f"{f'perhaps “{self.text}”' if self.guessed else self.text} ({percent(self.part)})"


@dataclass(frozen=True)
class Sentence:
    """A decision and what it comes from; `str` gives it as text.

    Attributes:
        decision: "Siberian husky rather than malamute".
        things: those that are named, most first.
        rest: part of the sum of all that speaks for the target that is in none of them.
        layer: where the things are.
    """

    decision: str
    things: tuple[Thing, ...]
    rest: float
    layer: str

    def __str__(self) -> str:
        if not self.things:
            return f"{self.decision}: nothing in {self.layer} speaks for it."
        told = ", ".join(map(str, self.things))
        return f"{self.decision}: {told}{self.others}."

    @property
    def others(self) -> str:
        """What comes after the things: ", and 30% in others of blocks.5"; where there is no more, " of blocks.5"."""
        return f", and {percent(self.rest)} in others of {self.layer}" if self.rest >= 0.005 else f" of {self.layer}"


def sentence(
    reasons: Reasons,
    class_names: Sequence[str],
    things: Sequence[Reason] | None = None,
    *,
    names: Mapping[str, str] | None = None,
    count: int = 3,
) -> Sentence:
    """The decision and the first `count` of the things that speak for it.

    Args:
        class_names: of the model, one for each class.
        things: `reasons.channels` (by default) or `reasons.groups`.
        names: unit → a guess at what is in its picture (`guess`); an empty one is none.
    """
    things, names = reasons.channels if things is None else things, names or {}
    told = tuple(
        Thing(one.unit, names.get(one.unit) or called(one.unit, number), bool(names.get(one.unit)), one.part)
        for number, one in enumerate(things[:count], 1)
    )
    rest = max(0.0, 1 - sum(one.part for one in told)) if told else 0.0
    return Sentence(decision(reasons.target, class_names), told, rest, reasons.layer)


def decision(target: Target, class_names: Sequence[str]) -> str:
    """What is decided, in the words of the classes: "Siberian husky rather than malamute"."""
    of = labels.short(class_names[target.index])
    return of if target.against is None else f"{of} rather than {labels.short(class_names[target.against])}"


def guess(verdicts: Sequence[Verdict], own: str = "") -> str:
    """What networks other than a unit's own see in its picture: their classes, two at most, most probable first; "" for nothing.

    Args:
        verdicts: of the networks that were asked, on one picture.
        own: name of the unit's own network, whose word does not count.
    """
    told = seen([verdict for verdict in verdicts if verdict.model != own])
    return " or ".join([name for name in sorted(told, key=told.get, reverse=True) if told[name] >= _SEEN][:2])


def seen(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Class's name → its probability, the mean over networks that were asked on one picture, of those classes that any told."""
    found: dict[str, float] = {}
    for verdict in verdicts:
        for _, name, probability in verdict.top:
            found[name] = found.get(name, 0.0) + probability / len(verdicts)
    return found


def called(unit: str, number: int) -> str:
    """A reason of a layer that is known already: "channel 12", "head 2"; the `number`th of the groups is "group 1"."""
    layer, kind, _ = unit.split("/", 2)
    return f"group {number}" if kind == "direction" else in_short(unit).removeprefix(f"{layer} ")


def in_short(unit: str) -> str:
    """A reason's unit as it can be read: of a direction its first channels, "blocks.4 channels 12 + 40 + 7 + …"."""
    layer, kind, *numbers = unit.split("/")
    if kind != "direction":
        return f"{layer} {kind} {', '.join(numbers)}"
    channels = [pair.partition(":")[0] for pair in numbers[0].split(",")]
    told = " + ".join(channels[:_CHANNELS_TOLD])
    more = " + …" if len(channels) > _CHANNELS_TOLD else ""
    return f"{layer} channel{'s' if len(channels) > 1 else ''} {told}{more}"


def percent(part: float) -> str:
    """A part of one, to the whole percent."""
    return f"{part:.0%}".replace("-", "−")
