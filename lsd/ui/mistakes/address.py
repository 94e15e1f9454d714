"""What the Mistakes tab shows, as its address says it; what an address leaves out is the default.

?tab=mistakes                                              the first worked case
?tab=mistakes&set=demo:misleading-tags&number=320          another set, and more pictures of it
?tab=mistakes&true=tabby&page=2&picture=0281_cat.jpg       a part of the list, and one picture explained
?tab=mistakes&cause=crop&quiz=on                           guess before the maps are shown
?tab=mistakes&set=yours&class=tabby                        the visitor's own picture, which no address can hold
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from lsd.evaluation.fooled_cases import CAUSES
from lsd.evaluation.probe import FILLS
from lsd.saliency.methods import METHODS
from lsd.ui.mistakes.filters import ORDERS, WRONG_BY
from lsd.ui.mistakes.request import LARGEST_SHARE, LEAST, MOST, OVERLAYS, SCALES, View
from lsd.ui.mistakes.views import MAPS
from lsd.ui.shared.limits import MAX_MODELS

TAB = "mistakes"
_METHODS = tuple(name for name in METHODS if not name.startswith("captum:"))  # those that the tab offers
_LENGTH = 400  # characters of a value that are read


@dataclass(frozen=True)
class _Key:
    """A key of the address.

    Attributes:
        part, name: of `View`: the field, or the field `name` of the part.
        value: what a text stands for. Raises ValueError where it stands for nothing.
    """

    part: str
    name: str
    value: Callable[[str], Any] = str

    def of(self, view: View) -> Any:
        return getattr(getattr(view, self.part) if self.part else view, self.name)

    def put(self, view: View, value: Any) -> View:
        if not self.part:
            return replace(view, **{self.name: value})
        return replace(view, **{self.part: replace(getattr(view, self.part), **{self.name: value})})


def _one_of(known: Mapping | tuple) -> Callable[[str], str]:
    def value(text: str) -> str:
        if text not in known:
            few = len(known) < 8
            raise ValueError(f"none of {', '.join(known)}" if few else "not known here")
        return text

    return value


def _number(least: float, most: float, kind: type = int) -> Callable[[str], float]:
    def value(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            number = most + 1
        if not least <= number <= most:
            raise ValueError(f"not between {least} and {most}")
        return number

    return value


_KEYS = {
    "set": _Key("question", "source"),
    "number": _Key("question", "number", _number(LEAST, MOST)),
    "class": _Key("question", "label"),
    "only": _Key("filters", "model"),
    "true": _Key("filters", "true"),
    "said": _Key("filters", "predicted"),
    "cause": _Key("filters", "cause", _one_of(CAUSES)),
    "wrong": _Key("filters", "wrong_by", _one_of(WRONG_BY)),
    "sort": _Key("filters", "sort", _one_of(ORDERS)),
    "page": _Key("", "page", _number(1, 10**6)),
    "picture": _Key("", "picture"),
    "quiz": _Key("", "quiz", _one_of(("on",))),
    "by": _Key("", "by"),
    "method": _Key("look", "method", _one_of(_METHODS)),
    "scale": _Key("look", "scale", _one_of(SCALES)),
    "overlay": _Key("look", "overlay", _one_of(OVERLAYS)),
    "probe": _Key("removal", "model"),
    "map": _Key("removal", "which", _one_of(MAPS)),
    "fill": _Key("removal", "fill", _one_of(FILLS)),
    "share": _Key("removal", "share", _number(0, LARGEST_SHARE, float)),
}


def write(view: View) -> str:
    """The address of a view, without its “?”: the inverse of `read`."""
    pairs = [("tab", TAB), *(("model", name) for name in view.question.models)]
    pairs += [(key, _text(known.of(view))) for key, known in _KEYS.items() if known.of(view) != known.of(View())]
    return urlencode(pairs, safe="/:")


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def read(query: Mapping) -> tuple[View, list[str]]:
    """The view of an address, for whatever somebody may have typed, and a sentence for each value that stands for nothing.

    Args:
        query: with `get` and `getlist`, as Starlette's QueryParams.
    """
    view, troubles = View(), []
    models = tuple(dict.fromkeys(name.strip()[:_LENGTH] for name in query.getlist("model") if name.strip()))
    if len(models) > MAX_MODELS:
        troubles.append(f"The address names {len(models)} models; the first {MAX_MODELS} are shown.")
    view = replace(view, question=replace(view.question, models=models[:MAX_MODELS]))
    for key, known in _KEYS.items():
        text = (query.get(key) or "").strip()[:_LENGTH]
        if not text:
            continue
        try:
            view = known.put(view, known.value(text))
        except ValueError as error:
            troubles.append(f"The address's {key} is “{text[:40]}”, which is {error}.")
    return view, troubles
