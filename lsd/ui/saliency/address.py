"""What the Saliency tab shows, as its address says it: the picture, the question, and how the maps are drawn.

?tab=saliency&model=resnet50.a1_in1k&example=Dahlia&method=smoothgrad&set=samples=64&of=daisy&sign=signed&style=mask

What an address does not name is the default; without `example` the picture is the visitor's own, if there is one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar
from urllib.parse import urlencode

from lsd.errors import LSDError
from lsd.saliency import defaults
from lsd.saliency.explain import TopClasses
from lsd.saliency.maps import MapSettings
from lsd.saliency.methods import METHODS
from lsd.saliency.views import Look
from lsd.ui.saliency.request import Wish
from lsd.ui.shared import controls
from lsd.ui.shared.controls import CONTRAST, FIRST_CHOICE, FIRST_CLASSES, GROUP, OWN_CLASS, SIMILAR, WITHIN
from lsd.ui.shared.examples import examples
from lsd.ui.shared.limits import MAX_MODELS
from lsd.ui.shared.markup import OUTPUT_WORDS
from lsd.view import EVALUATED, View

RANGES = {"clip": (90, 100), "blur": (0, 10), "opacity": (0, 1)}  # of the sliders
_LENGTH, _SETTINGS = 200, 50  # characters of a text, and settings, that are read
_ON, _OFF = "on", "off"

Drawing = TypeVar("Drawing", MapSettings, Look)


@dataclass(frozen=True)
class Reading:
    """What an address says.

    Attributes:
        doubts: a sentence on each thing that it names wrongly; the default is in its place.
    """

    wish: Wish
    maps: MapSettings
    look: Look
    doubts: tuple[str, ...] = ()


def write(wish: Wish, maps: MapSettings, look: Look) -> str:
    """The address, from after the “?”. Models and example are always told: their defaults are this machine's."""
    usual = Wish()
    pairs: list[tuple[str, Any]] = [("tab", "saliency"), *(("model", name) for name in wish.models)]
    if wish.example:
        pairs.append(("example", wish.example))
    if wish.method != usual.method:
        pairs.append(("method", wish.method))
    pairs += [("set", f"{name}={_plain(value)}") for name, value in wish.settings.items()]
    if wish.target == SIMILAR:
        pairs.append(("like", wish.like))
    if wish.target == FIRST_CLASSES:
        pairs.append(("classes", wish.count))
    if wish.group:
        pairs.append(("group" if wish.target == GROUP else "within", wish.group))
    pairs += [(name, getattr(wish, name)) for name in ("of", "against") if getattr(wish, name)]
    own = ("both", "kind", "view", "check", "steady")
    pairs += [(n, _plain(v)) for n in own if (v := getattr(wish, n)) != getattr(usual, n)]
    if wish.outputs:
        pairs.append(("outputs", wish.outputs))
    pairs += [("layout", layout) for layout in wish.layouts.split(", ") if layout]
    for drawn, normal in ((maps, _maps_of(wish.method)), (look, Look())):
        pairs += [
            (f.name, _plain(v)) for f in fields(drawn) if (v := getattr(drawn, f.name)) != getattr(normal, f.name)
        ]
    return urlencode(pairs, safe="/:,")


def read(query: Mapping) -> Reading:
    """The inverse of `write`, for whatever somebody may have typed.

    Args:
        query: with `get` and `getlist`, as Starlette's QueryParams.
    """
    doubts: list[str] = []
    method = _one_of(query.get("method"), METHODS, defaults.METHOD, "method", doubts)
    outputs, layouts = controls.said_in_address(query)
    wish = Wish(
        **_models(query, doubts),
        example=_one_of(query.get("example"), examples(), "", "example", doubts),
        **_target(query, doubts),
        method=method,
        settings=_settings(query, method, doubts),
        kind=_one_of(query.get("kind"), OUTPUT_WORDS, defaults.KIND, "output", doubts),
        outputs=outputs,
        layouts=layouts,
        check=_said(query, "check", True, doubts),
        steady=_said(query, "steady", False, doubts),
        view=_view(query.get("view"), doubts),
    )
    return Reading(
        wish, _drawing(query, _maps_of(method), doubts), _drawing(query, Look(), doubts), tuple(dict.fromkeys(doubts))
    )


def _maps_of(method: str) -> MapSettings:
    return MapSettings(sign=METHODS[method].sign)


def _plain(value: object) -> str:
    """ "99", "0.5", "on"."""
    if isinstance(value, bool):
        return _ON if value else _OFF
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _one_of(value: str | None, known: Mapping, default: str, what: str, doubts: list[str]) -> str:
    if not value or value in known:
        return value or default
    doubts.append(f"There is no {what} “{value[:_LENGTH]}”.")
    return default


def _models(query: Mapping, doubts: list[str]) -> dict:
    names = [name.strip()[:_LENGTH] for name in query.getlist("model") if name.strip()]
    if len(names) > MAX_MODELS:
        doubts.append(f"{len(names)} models are named, and {MAX_MODELS} are compared at a time.")
    return {"models": tuple(names[:MAX_MODELS])} if names else {}


def _target(query: Mapping, doubts: list[str]) -> dict:
    of, against = ((query.get(name) or "").strip()[:_LENGTH] for name in ("of", "against"))
    if "like" in query:
        known = query.get("like") in ("", *examples())
        like = _one_of(query.get("like"), examples(), "", "example", doubts)
        both = _said(query, "both", Wish.both, doubts)
        return {"target": SIMILAR, "like": like, "both": both} if known else {"target": FIRST_CHOICE}
    if query.get("classes"):
        count = _tried(lambda: TopClasses(_whole(query.get("classes"))).count, doubts)
        return {"target": FIRST_CLASSES, "count": count} if count else {"target": FIRST_CHOICE}
    if group := (query.get("group") or "").strip()[:_LENGTH]:
        return {"target": GROUP, "group": group}
    if group := (query.get("within") or "").strip()[:_LENGTH]:
        return {"target": WITHIN, "group": group, "of": of}
    if not of:
        return {"target": FIRST_CHOICE}
    return {"target": CONTRAST, "of": of, "against": against} if against else {"target": OWN_CLASS, "of": of}


def _whole(text: str) -> int:
    """Raises LSDError for what is no whole number."""
    if not text.isdecimal():
        raise LSDError(f"classes is a whole number, not “{text[:_LENGTH]}”.")
    return int(text[:_LENGTH])


def _settings(query: Mapping, method: str, doubts: list[str]) -> dict:
    """Those that are not at their defaults."""
    found, usual = {}, METHODS[method].parse({})
    for text in query.getlist("set")[:_SETTINGS]:
        name, _, value = text[:_LENGTH].partition("=")
        value = {_ON: "true", _OFF: "false"}.get(value, value)
        if (parsed := _tried(lambda n=name, v=value: METHODS[method].parse({n: v})[n], doubts)) is not None:
            found[name] = parsed
    return {name: value for name, value in found.items() if value != usual[name]}


def _view(text: str | None, doubts: list[str]) -> View:
    return (_tried(lambda: View.parse(text[:_LENGTH]), doubts) if text else None) or EVALUATED


def _drawing(query: Mapping, drawing: Drawing, doubts: list[str]) -> Drawing:
    for field in fields(drawing):
        text = query.get(field.name)
        if not text:
            continue
        default = getattr(drawing, field.name)
        if isinstance(default, bool):
            value = _said(query, field.name, default, doubts)
        elif isinstance(default, float):
            value = _number(field.name, text, default, doubts)
        else:
            value = text[:_LENGTH]
        drawing = _tried(lambda d=drawing, n=field.name, v=value: replace(d, **{n: v}), doubts) or drawing
    return drawing


def _said(query: Mapping, name: str, default: bool, doubts: list[str]) -> bool:
    value = query.get(name)
    if value not in (None, "", _ON, _OFF):
        doubts.append(f"{name} is on or off, not “{value[:_LENGTH]}”.")
    return {_ON: True, _OFF: False}.get(value, default)


def _number(name: str, text: str, default: float, doubts: list[str]) -> float:
    least, most = RANGES[name]
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if least <= value <= most:
        return value
    doubts.append(f"{name} lies between {least} and {most}, not “{text[:_LENGTH]}”.")
    return default


def _tried(make: Callable[[], Any], doubts: list[str]) -> Any:
    """What it makes; None, and a doubt, where that is not defined."""
    try:
        return make()
    except LSDError as error:
        doubts.append(str(error))
        return None
