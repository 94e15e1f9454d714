"""The worked cases of what fools networks: made pictures with the causes that `fooled` found, kept in `fooled.json`."""

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lsd import labels
from lsd.evaluation.composed import THINGS, Recipe
from lsd.images import example_images

DATA = Path(__file__).with_name("fooled.json")
CAUSES = {
    "context": "the context", "texture": "the texture", "second": "a second thing", "crop": "the crop", "turn": "the turn",
    "cover": "the cover", "label": "a debatable label",
}  # fmt: skip
"""What fools a network, and in words; `fooled` says how each is found."""
DEBATABLE = "label"


@dataclass(frozen=True)
class Answer:
    """What a network says of a picture: the class by its number in ImageNet-1k, its probability, and the true class's."""

    said: int
    probability: float
    true_probability: float


@dataclass(frozen=True)
class Square:
    """A square of a picture, and what painting it over does.

    Attributes:
        box: (left, top, right, bottom), as parts of the picture's width and height.
        drop: by how much z_said − z_true falls.
        after: what the network says then.
    """

    box: tuple[float, float, float, float]
    drop: float
    after: Answer


@dataclass(frozen=True)
class Evidence:
    """Why one network is wrong about one picture, as it was measured.

    Attributes:
        cause: one of `CAUSES`.
        answer: what it says of the picture.
        undone: what it says without the cause; None for a debatable label.
        about: the second thing, or the kind that both classes are of (label); else "".
        share, area: of the map of the answer, and of the picture, that lie on the second thing; else None.
        squares: three of a size, from left to right; painting one over takes far more from the decision than the others.
            () where there are no such.
    """

    cause: str
    answer: Answer
    undone: Answer | None = None
    about: str = ""
    share: float | None = None
    area: float | None = None
    squares: tuple[Square, ...] = ()

    @property
    def decisive(self) -> int:
        """Which of the squares."""
        return max(range(len(self.squares)), key=lambda k: self.squares[k].drop)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Evidence":
        """The inverse of `dataclasses.asdict`, whatever JSON made of it."""
        undone = values["undone"] and Answer(**values["undone"])
        squares = tuple(Square(tuple(s["box"]), s["drop"], Answer(**s["after"])) for s in values["squares"])
        return cls(**{**values, "answer": Answer(**values["answer"]), "undone": undone, "squares": squares})


@dataclass(frozen=True)
class FooledCase:
    """A made picture, and why each of the networks that are wrong about it is so, by the network's name.

    Attributes:
        answers: what each network says of it that the cases were found with, right or wrong.
    """

    name: str
    recipe: Recipe
    evidence: Mapping[str, Evidence]
    answers: Mapping[str, Answer] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        evidence = {model: asdict(one) for model, one in self.evidence.items()}
        answers = {model: asdict(one) for model, one in self.answers.items()}
        return {"name": self.name, "recipe": self.recipe.to_dict(), "evidence": evidence, "answers": answers}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FooledCase":
        """The inverse of `to_dict`."""
        evidence = {model: Evidence.from_dict(one) for model, one in values["evidence"].items()}
        answers = {model: Answer(**one) for model, one in values["answers"].items()}
        return cls(values["name"], Recipe.from_dict(values["recipe"]), evidence, answers)


def why(found: Evidence, recipe: Recipe) -> str:
    """What fooled the network, and by what measurement, in a sentence."""
    names = labels.class_names(1000)
    said, true = (labels.short(names[number]) for number in (found.answer.said, THINGS[recipe.thing].number))
    undone = ""
    if found.undone:
        undone = f"{labels.short(names[found.undone.said])} ({_percent(found.undone.probability)})"
    if found.cause == DEBATABLE:
        both = (
            f"“{said}” and “{true}” are both kinds of {found.about}"
            if found.about
            else f"“{said}” names the same thing"
        )
        how = f"{both}, so the label is one of several that can be defended."
    elif found.cause == "second":
        how = (
            f"the {found.about}, {_percent(found.area)} of the picture, has {_percent(found.share)} of the map for {said}; with it "
            f"painted over, the answer is {undone}."
        )
    else:
        how = {
            "context": f"with the network's mean colour in place of all but the {recipe.thing}, the answer is {undone}.",
            "texture": f"the fine detail of the {recipe.thing} is that of “{recipe.detail and recipe.detail.photo}”; with its own, "
            f"the answer is right, and with neither, the picture blurred, it is {undone}.",
            "crop": f"about the whole photo the answer is {undone}.",
            "turn": f"upright, the answer is {undone}.",
            "cover": f"without the grey box the answer is {undone}.",
        }[found.cause]
    return f"Fooled by {CAUSES[found.cause]}: {how}"


def _percent(share: float) -> str:
    return f"{share:.0%}"


def fooled_cases() -> list[FooledCase]:
    """Those whose photos are there."""
    there = example_images().keys()
    return [case for case in _kept() if there >= set(case.recipe.photos)]


def found_with() -> dict[str, dict[str, Any]]:
    """The weights of the networks that the cases were found with, by name, as `WeightIdentity.is_told_by` takes them."""
    return _data()["weights"]


@functools.cache
def _kept() -> tuple[FooledCase, ...]:
    return tuple(map(FooledCase.from_dict, _data()["cases"]))


@functools.cache
def _data() -> dict[str, Any]:
    return json.loads(DATA.read_text("utf-8"))
