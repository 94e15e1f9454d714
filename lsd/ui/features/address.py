"""What the tab shows, as its address says it: what it does not name is the default.

?tab=features                                              the pictures made beforehand
?tab=features&model=resnet50.a1_in1k&unit=class/207        a class
?tab=features&model=…&unit=layer3/channel/12&recipe=texture&set=transforms.shift=0.2&steps=128&seeds=4&size=256
?tab=features&model=…&unit=class/207&compare=none          without regularization, beside the recipe; or compare=outputs
?tab=features&model=…&unit=layer3/layer&start=photo&example=Chelsea+the+cat
?tab=features&model=…&unit=class/207&seed=1&step=40        another seed's picture large, as it was at a step

What is looked at, seed and step, the browser writes by itself (`lsd.amend` of `shared/address.js`): it makes nothing anew.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from lsd.errors import LSDError
from lsd.features.recipes import DEFAULT, RECIPES, Recipe, changed, find_recipe
from lsd.ui.features import units
from lsd.ui.features.knobs import differences, knob_values
from lsd.ui.features.request import (
    DEFAULT_SEEDS,
    NOISE,
    NONE,
    OUTPUTS,
    PHOTO,
    Wish,
    default_unit,
    default_wish,
    steps_of,
    tidy,
    whole,
)  # fmt: skip
from lsd.ui.features.runs import Cooking
from lsd.ui.shared import controls
from lsd.ui.shared.examples import examples
from lsd.ui.shared.limits import MAX_LANES, MAX_SEEDS, MAX_SIDE, MAX_STEPS

_MODEL, _UNIT, _SETTINGS = 200, 1000, 50  # characters of each, and how many, that are read


def home(seed: int = 0, step: int | None = None) -> str:
    """The query that shows the pictures made beforehand."""
    return urlencode([("tab", "features"), *_looked(seed, step)])


def write(wish: Wish, seed: int = 0, step: int | None = None) -> str:
    """The query that shows the same again, of the pictures those of a seed, as they were at a step or finished."""
    cooking = wish.cooking
    pairs = [("tab", "features"), *(("model", name) for name in wish.models), ("unit", wish.unit)]
    told = {
        "recipe": (cooking.base, DEFAULT), "steps": (cooking.steps, steps_of(cooking.base)), "size": (cooking.size, None),
        "seeds": (wish.seeds, DEFAULT_SEEDS), "start": (wish.start, NOISE), "example": (wish.example, ""),
        "compare": (wish.compare, ""), "outputs": (wish.outputs, ""),
    }  # fmt: skip
    pairs += [(name, str(value)) for name, (value, default) in told.items() if value != default]
    pairs += [("set", f"{name}={value}") for name, value in cooking.settings.items()]
    pairs += [("layout", text) for text in wish.layouts.split(", ") if text]
    return urlencode(pairs + _looked(seed, step), safe="/:")


def _looked(seed: int, step: int | None) -> list[tuple[str, str]]:
    return [("seed", str(seed))] * bool(seed) + [("step", str(step))] * (step is not None)


@dataclass
class Found:
    """What an address asks for.

    Attributes:
        wish: that is shown.
        seed, step: of the pictures which are shown large; a step of None is the last.
        wrong: a sentence on each thing that the address names and that is not there.
    """

    wish: Wish
    seed: int = 0
    step: int | None = None
    wrong: list[str] = field(default_factory=list)


def read(query: QueryParams) -> Found:
    """The inverse of `write`, for whatever somebody may have typed."""
    found = Found(default_wish())
    models = tuple(dict.fromkeys(name[:_MODEL] for name in query.getlist("model") if name.strip()))
    if len(models) > MAX_LANES:
        found.wrong.append(f"At most {MAX_LANES} models are shown side by side, so these are the first of them.")
    models = models[:MAX_LANES] or found.wish.models
    unit = (query.get("unit") or "").strip()[:_UNIT]
    example = _one_of(query, "example", tuple(examples()), "", found)
    outputs = _one_of(query, "outputs", ("classes", "sigmoid", "embedding"), "", found)
    found.wish = Wish(
        models, units.portable(unit, models) if unit else default_unit(models), _cooking(query, found),
        _number(query, "seeds", 1, MAX_SEEDS, DEFAULT_SEEDS, found), _one_of(query, "start", (PHOTO,), NOISE, found),
        _one_of(query, "compare", (NONE, OUTPUTS), "", found), outputs, tidy(controls.said_in_address(query)[1]),
        examples()[example] if example else None, example,
    )  # fmt: skip
    if found.wish.seeds > 1:  # of one alone nothing is to be chosen
        found.seed = _number(query, "seed", 0, found.wish.seeds - 1, 0, found)
    found.step = _number(query, "step", 1, found.wish.cooking.steps, None, found)
    return found


def names_nothing(query: Mapping) -> bool:
    """Whether an address leaves the tab as it is when nobody has touched it."""
    return "model" not in query and "unit" not in query and read(query).wish == default_wish()


def _cooking(query: QueryParams, found: Found) -> Cooking:
    base = _one_of(query, "recipe", tuple(RECIPES), DEFAULT, found)
    steps = _number(query, "steps", 1, MAX_STEPS, steps_of(base), found)
    size = _number(query, "size", 16, MAX_SIDE, None, found)
    return Cooking(base, _settings(query, find_recipe(base), found), steps, size)


def _settings(query: QueryParams, base: Recipe, found: Found) -> dict[str, str]:
    recipe = base
    for pair in query.getlist("set")[:_SETTINGS]:
        name, _, value = pair.partition("=")
        recipe = _attempt(found, partial(changed, recipe, {name: value}), recipe)
    return differences(base, knob_values(recipe))


def _number(query: QueryParams, name: str, low: int, high: int, default: int | None, found: Found) -> int | None:
    text = query.get(name)
    return _attempt(found, partial(whole, text[:20], f"“{name}”", low, high), default) if text else default


def _one_of(query: QueryParams, name: str, choices: tuple[str, ...], default: str, found: Found) -> str:
    value = query.get(name) or default
    if value == default or value in choices:
        return value
    found.wrong.append(f"There is no {name} “{value[:60]}”; this is shown without it.")
    return default


def _attempt(found: Found, do: Callable, default):
    try:
        return do()
    except LSDError as error:
        found.wrong.append(str(error))
        return default
