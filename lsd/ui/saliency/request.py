"""What a visitor asks of the Saliency tab, from the values of its controls by name, checked before anything is loaded."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lsd.errors import LSDError
from lsd.images import file_sha256
from lsd.layers import as_said
from lsd.models import loaded_model
from lsd.reference import open_reference
from lsd.saliency import defaults
from lsd.saliency.explain import OfGroup, SimilarTo, Spec, TargetSpec, TopClasses
from lsd.saliency.maps import MapSettings
from lsd.saliency.methods import METHODS, find_method
from lsd.saliency.views import Look
from lsd.sayings import Sayings
from lsd.ui.shared import controls
from lsd.ui.shared.answers import is_there
from lsd.ui.shared.controls import CONTRAST, FIRST_CHOICE, FIRST_CLASSES, GROUP, OWN_CLASS, SIMILAR, WITHIN
from lsd.ui.shared.examples import example_of
from lsd.ui.shared.limits import check_settings
from lsd.view import EVALUATED, View

SQUARE = "square"  # the view that is told by a square


@dataclass(frozen=True)
class Wish:
    """What the controls say, as far as an address can say it too. By default what a fresh page asks for.

    Attributes:
        example: name of the picture; "" for one of the visitor's own.
        target: one of `controls.TARGETS`.
        of, against: the classes, for those targets that have some; of a class within its group "" is the group's first.
        group: its name, for `GROUP` and `WITHIN`.
        count: how many classes, for `FIRST_CLASSES`.
        like: name of the example that the picture is compared with; "" for a picture of the visitor's own.
        both: whether that picture is explained too.
        settings: of the method, those that are not at their defaults.
        outputs, layouts: what is said of the models, as `controls.sayings` reads it.
    """

    models: tuple[str, ...] = field(default_factory=lambda: tuple(controls.default_models()))
    example: str = ""
    target: str = FIRST_CHOICE
    of: str = ""
    against: str = ""
    group: str = ""
    count: int = 3
    like: str = ""
    both: bool = False
    method: str = defaults.METHOD
    settings: Mapping[str, Any] = field(default_factory=dict)
    kind: str = defaults.KIND
    outputs: str = ""
    layouts: str = ""
    check: bool = True
    steady: bool = False
    view: View = EVALUATED


@dataclass(frozen=True)
class Request:
    """What is run.

    Attributes:
        path: of the picture; `reference` of the other one, of a similarity.
        settings: of the method, all of them.
        sayings: what is said of the models.
        check: whether the values are held against Captum's; `steady`, whether it is measured how steady the maps are.
        view: what of the picture the models are shown.
    """

    path: Path
    models: tuple[str, ...]
    spec: Spec
    method: str
    settings: dict
    sayings: Sayings
    check: bool
    reference: Path | None = None
    view: View = EVALUATED
    steady: bool = False

    @cached_property
    def sha256(self) -> str:
        """Of the picture's file."""
        return file_sha256(self.path)

    @property
    def is_answered(self) -> bool:
        """Whether all maps are there already, so that no model runs but for the comparison."""
        models, question = [loaded_model(name) for name in self.models], self.question
        return all(
            model and is_there("explain", as_said(model, self.sayings.of(name)), *question)
            for name, model in zip(self.models, models, strict=True)
        )

    @property
    def question(self) -> tuple:
        """What is asked of each model, as `lsd.ui.shared.answers` takes it."""
        return self.sha256, self.spec, self.method, self.settings, self.view


def wish_of(values: Mapping[str, Any], settings: Mapping[str, Any]) -> Wish:
    """What the controls say.

    Args:
        values: picture, models, target, of, against, group, count, like, both, method, kind, outputs, layouts, check,
            steady, view and square.
        settings: of all methods, by name.

    Raises:
        LSDError: no such method, a setting out of its range, or a square that is none.
    """
    method, target = find_method(values["method"]), values["target"]
    own = {s.name: settings[s.name] for s in method.settings if settings.get(s.name) is not None}
    usual = method.parse({})
    return Wish(
        models=tuple(name.strip() for name in values["models"] or () if name.strip()),
        example=example_of(values["picture"]),
        target=target,
        of=_text(values["of"]) if target in (OWN_CLASS, CONTRAST, WITHIN) else "",
        against=_text(values["against"]) if target == CONTRAST else "",
        group=_text(values["group"]) if target in (GROUP, WITHIN) else "",
        count=_count(values["count"]) if target == FIRST_CLASSES else Wish.count,
        both=bool(values["both"]) if target == SIMILAR else Wish.both,
        like=example_of(values["like"]) if target == SIMILAR else "",
        method=method.name,
        settings={name: value for name, value in method.parse(own).items() if value != usual[name]},
        kind=values["kind"],
        outputs=values["outputs"] or "",
        layouts=", ".join(re.findall(r"[^\s,]+", values["layouts"] or "")),
        check=bool(values["check"]),
        steady=bool(values["steady"]),
        view=_view(values["view"], values["square"]),
    )


def _text(value: object) -> str:
    return str(value or "").strip()


def _count(value: object) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise LSDError("How many classes is a whole number.") from None


def _view(view: str, square: Mapping | None) -> View:
    """Where there is no picture yet to choose a square of, the view is the usual one."""
    if view != SQUARE:
        return View(view)
    if not square:
        return EVALUATED
    try:
        return View(tuple(round(square[side]) for side in ("left", "top", "side")))
    except (KeyError, TypeError) as error:
        raise LSDError("The square says no place; choose its view again.") from error


def request_of(wish: Wish, picture: str | Path | None, like: str | Path | None) -> Request:
    """What is run for a wish.

    Args:
        picture, like: their files.

    Raises:
        LSDError: one sentence on what is missing.
    """
    if not picture:
        raise LSDError("There is no picture yet: upload one, paste one, or choose an example.")
    names = controls.checked_models(wish.models)
    sayings = controls.sayings(wish.outputs, wish.layouts)
    sayings.check(names)
    spec, settings = _spec(wish, like), METHODS[wish.method].parse(dict(wish.settings))
    check_settings(settings)
    return Request(
        Path(picture), tuple(names), spec, wish.method, settings, sayings, wish.check,
        Path(like) if isinstance(spec, SimilarTo) else None, wish.view, wish.steady,
    )  # fmt: skip


def _spec(wish: Wish, like: str | Path | None) -> Spec:
    if wish.target == FIRST_CHOICE:
        return TargetSpec("top1", wish.kind)
    if wish.target == FIRST_CLASSES:
        return TopClasses(wish.count, wish.kind)
    if wish.target == SIMILAR:
        if not like:
            raise LSDError("There is no other picture yet: upload one, paste one, or choose an example.")
        # By the name that it has in the bundle; where it lies on the server is nobody's business.
        return SimilarTo(replace(open_reference(like), file=f"reference{Path(like).suffix}", path=""), wish.both)
    if wish.target in (GROUP, WITHIN):
        if not wish.group:
            raise LSDError("No group is chosen: type its name under “Group”, such as dog, bird or vehicle.")
        return OfGroup(wish.group, None if wish.target == GROUP else wish.of or "top1")
    if not wish.of:
        raise LSDError("No class is chosen: type its name or its index under “This class”.")
    if wish.target == OWN_CLASS:
        return TargetSpec(wish.of, wish.kind)
    if not wish.against:
        raise LSDError("A contrast needs a second class: type it under “Rather than”.")
    return TargetSpec(wish.of, "contrast", wish.against)


def drawing_of(values: Mapping[str, Any]) -> tuple[MapSettings, Look]:
    """How maps are drawn: sign, channels, scale, clip, blur and upsampling; style, opacity and frame.

    Raises:
        LSDError: a combination that is not defined.
    """
    maps = {name: values[name] for name in ("sign", "channels", "scale", "upsampling")}
    return (
        MapSettings(**maps, clip=float(values["clip"]), blur=float(values["blur"])),
        Look(values["style"], float(values["opacity"]), bool(values["frame"])),
    )
