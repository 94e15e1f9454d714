"""What the Reasons tab shows, as its address says it; what an address leaves out is the default.

?tab=reasons&model=resnet50.a1_in1k&example=Chelsea+the+cat              the first choice rather than the runner-up
?tab=reasons&model=…&example=…&of=lynx&against=tabby&layer=layer3        another contrast, another layer
?tab=reasons&model=…&example=…&view=channels&off=12&off=40               with two channels switched off
?tab=reasons&model=…&example=…&off=g1&region=0.5,0,1,0.4                 off in that part of the picture alone
?tab=reasons&model=…&example=…&layer=layer3&view=channels&unit=12         a channel that may not be among the first
?tab=reasons&model=…&model=…&example=…&off=2:g1                          the first group of the second model
?tab=reasons&model=…&set=demo:misleading-tags&item=…&of=…&against=…      a picture of a labelled set
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from lsd.reasons.region import Box, region_of
from lsd.ui.reasons.request import GROUPS, VIEWS, Wish
from lsd.ui.shared.examples import examples
from lsd.ui.shared.limits import MAX_MODELS
from lsd.ui.shared.reasoned import FILLS, MAX_OFF, ZERO

TAB = "reasons"
_LENGTH = 200  # characters of a text that are read


@dataclass(frozen=True)
class Reading:
    """What an address says, and a sentence on each thing that it names wrongly; the default is in its place."""

    wish: Wish
    doubts: tuple[str, ...] = ()


def write(wish: Wish) -> str:
    """The address, from after the “?”. Models and example are always told: their defaults are this machine's."""
    usual = Wish(())
    pairs = [("tab", TAB), *(("model", name) for name in wish.models)]
    told = {
        "example": wish.example, "set": wish.source, "item": wish.item, "of": wish.of, "against": wish.against,
        "layer": wish.layer, "fill": wish.fill if wish.fill != usual.fill else "",
        "view": wish.view if wish.view != usual.view else "", "unit": wish.unit,
    }  # fmt: skip
    pairs += [(name, value) for name, value in told.items() if value]
    pairs += [("region", ",".join(f"{part:g}" for part in wish.region))] if wish.region else []
    pairs += [("off", f"{place + 1}:{name}" if place else name) for place, name in wish.off]
    return urlencode(pairs, safe="/:,")


def read(query: Mapping) -> Reading:
    """The inverse of `write`, for whatever somebody may have typed.

    Args:
        query: with `get` and `getlist`, as Starlette's QueryParams.
    """
    doubts: list[str] = []

    def text(name: str) -> str:
        return (query.get(name) or "").strip()[:_LENGTH]

    def one_of(name: str, known: Mapping | tuple, default: str) -> str:
        if not (value := text(name)) or value in known:
            return value or default
        doubts.append(f"There is no {name} “{value}”.")
        return default

    names = tuple(dict.fromkeys(name.strip()[:_LENGTH] for name in query.getlist("model") if name.strip()))
    if len(names) > MAX_MODELS:
        doubts.append(f"{len(names)} models are named, and {MAX_MODELS} are compared at a time.")
    chosen = {"models": names[:MAX_MODELS]} if names else {}
    wish = Wish(
        **chosen, example=one_of("example", examples(), ""), source=text("set"), item=text("item"), of=text("of"),
        against=text("against"), layer=text("layer"), fill=one_of("fill", FILLS, ZERO),
        view=one_of("view", VIEWS, GROUPS), unit=text("unit"),
        off=_off(query.getlist("off"), doubts), region=_region(text("region"), doubts),
    )  # fmt: skip
    return Reading(wish, tuple(dict.fromkeys(doubts)))


def _off(texts: list[str], doubts: list[str]) -> tuple[tuple[int, str], ...]:
    found = {}
    for text in texts[:MAX_OFF]:
        place, colon, name = text.strip()[:_LENGTH].rpartition(":")
        number = place if colon else "1"
        if number in map(str, range(1, MAX_MODELS + 1)) and name:
            found[int(number) - 1, name] = None
        else:
            doubts.append(f"“{text[:_LENGTH]}” is nothing that can be switched off.")
    return tuple(found)


def _region(text: str, doubts: list[str]) -> Box | None:
    if not text:
        return None
    try:
        region = region_of([float(part) for part in text.split(",")])
    except ValueError:
        region = None
    if region is None:
        doubts.append(f"“{text}” is no region: four parts of the picture from 0 to 1, as in 0.5,0,1,0.4.")
    return region
