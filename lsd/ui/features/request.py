"""From the controls of the Features tab to what is run: checked, loaded, and laid out in columns; and its address."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from lsd.errors import LSDError, UndefinedError
from lsd.features import bundle
from lsd.features.bundle import Request
from lsd.features.objectives import needs_photo
from lsd.features.pictures import Job
from lsd.features.recipes import DEFAULT, RECIPES, Recipe, at_effort, changed, find_recipe
from lsd.features.units import Leaf, Unit, class_of, other_models, resolve, title
from lsd.images import file_sha256, open_image
from lsd.layers import as_said
from lsd.models import ImageModel, get_model
from lsd.provenance import free_name
from lsd.said import NOTHING
from lsd.sayings import NOTHING_OF_ANY, Sayings, texts
from lsd.ui.features import units
from lsd.ui.features.knobs import KNOBS, differences
from lsd.ui.features.runs import Cooking, Lane, Session, judge
from lsd.ui.shared import controls
from lsd.ui.shared.examples import examples
from lsd.ui.shared.jobs import aside, sentence
from lsd.ui.shared.limits import MAX_LANES, MAX_SEEDS, MAX_SIDE, MAX_STEPS, MAX_VIEWS
from lsd.ui.shared.markup import OUTPUT_WORDS
from lsd.ui.shared.pace import Cost
from lsd.weights import ready_models

DEFAULT_STEPS = at_effort(find_recipe(DEFAULT), "draft").steps  # a second's work; the recipe's own take several
DEFAULT_SEEDS = 2
MAX_JUDGES = 3
NOISE, PHOTO = "noise", "photo"

_PLAIN = {"none": "no regularization", "jitter": "only a shift"}


@dataclass(frozen=True)
class Wish:
    """What the controls say, checked.

    Attributes:
        models: names.
        unit: its text, as `units.resolve` takes it.
        cooking: the recipe.
        seeds: how many.
        photo: where the upload lies; `example` is its name if it is one of the page's.
        start: `NOISE` or `PHOTO`.
        sayings: of the models.
    """

    models: tuple[str, ...]
    unit: str
    cooking: Cooking
    seeds: int
    photo: Path | None
    example: str
    start: str
    sayings: Sayings = NOTHING_OF_ANY


def default_wish() -> Wish:
    """What the tab's inputs say before anybody has touched them."""
    models = tuple(controls.default_models()[:1])
    cooking = Cooking(DEFAULT, {}, DEFAULT_STEPS, None)
    return Wish(models, f"class/{units.default_class(models)}", cooking, DEFAULT_SEEDS, None, "", NOISE)


def read_wish(values: Sequence) -> Wish:
    """The wish that the values of the tab's inputs stand for; nothing is loaded.

    Args:
        values: models, recipe, steps, seeds, size, start, photo, example, outputs, layouts, those of the unit, those of the knobs.

    Raises:
        LSDError: one sentence on what is missing or out of range.
    """
    names, recipe, steps, seeds, size, start, photo, example, outputs, layouts, *rest = values
    unit, knobs = rest[: len(rest) - len(KNOBS)], rest[len(rest) - len(KNOBS) :]
    names = list(dict.fromkeys(name.strip() for name in names or [] if name.strip()))
    if not names:
        raise LSDError("No model is chosen: pick one to three.")
    controls.check_public(names)
    if len(names) > MAX_LANES:
        raise LSDError(f"{len(names)} models are chosen, and at most {MAX_LANES} are visualized at a time.")
    text = units.read(*unit)
    steps = _whole(steps, "The number of steps", 1, MAX_STEPS)
    seeds = _whole(seeds, "The number of seeds", 1, MAX_SEEDS)
    size = None if size in (None, "", 0) else _whole(size, "The size", 16, MAX_SIDE)
    cooking = Cooking(recipe, differences(find_recipe(recipe), knobs), steps, size)
    made = cooking.recipe()
    if max(t.views for t in (made.transforms, made.transforms_end) if t) > MAX_VIEWS:
        raise LSDError(f"At most {MAX_VIEWS} views a step are taken on this page; the command line has no such limit.")
    if made.diversity and seeds < 2:
        raise LSDError("diversity keeps the seeds apart, so it needs at least two.")
    path = Path(photo) if photo else None
    if path is not None:
        open_image(path)  # a damaged photo is told before a model is loaded
    sayings = controls.sayings(outputs, layouts)
    sayings.check(names)
    return Wish(tuple(names), text, cooking, seeds, path, example or "", start, sayings)


def _whole(value, what: str, low: int, high: int) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise UndefinedError(f"{what} is a whole number from {low} to {high} on this page.") from None
    if not low <= number <= high:
        raise UndefinedError(
            f"{what} lies between {low} and {high} on this page, and is {number}; the command line goes further."
        )
    return number


def prepare(kind: str, wish: Wish, models: dict[str, ImageModel]) -> Iterator[str | Session]:
    """Load what is needed into `models`, by name, saying what is being loaded; in the end the session.

    Args:
        kind: what the columns differ in: "models"; "recipes": none, jitter and the wish's own; or "outputs": logit,
            log-odds and probability.

    Raises:
        LSDError: one sentence on what is not there.
    """

    def load(name: str) -> Iterator[str]:
        if name not in models:
            yield f"Loading {name} …"
            model = aside(get_model, name)
            models[model.name] = model
            chosen.append(as_said(model, wish.sayings.of(name)))

    chosen: list[ImageModel] = []
    lanes: list[Lane] = []
    failures: dict[str, str] = {}  # model → why nothing is made for it
    wanted = wish.models if kind == "models" else wish.models[:1]
    for name in wanted:
        try:
            yield from load(name)
        except Exception as error:
            failures[name] = sentence(error)
    for heading, model, cooking in _columns(kind, list(chosen), wish.cooking) if chosen else ():
        try:
            unit = resolve(wish.unit, model)
        except LSDError as error:
            failures[model.name] = str(error)
            continue
        others = other_models([unit], model.name)
        controls.check_public(others)
        for name in others:
            yield from load(name)
        lanes.append(Lane(heading, _request(kind, wish, unit, model, cooking, others), cooking, title(unit, model)))
    if not lanes:
        raise LSDError(" ".join(dict.fromkeys(failures.values())))
    lanes[0].note = " ".join(_left_out(name, why, name in models) for name, why in failures.items())
    yield Session(kind, lanes, wish.photo)


def _left_out(name: str, why: str, loaded: bool) -> str:
    return f"{name} is left out{', and only says what it sees' if loaded else ''}: {why}"


def _request(kind: str, wish: Wish, unit: Unit, model: ImageModel, cooking: Cooking, others: Sequence[str]) -> Request:
    if wish.photo is None and (wish.start == PHOTO or needs_photo([unit])):
        raise LSDError("There is no photo yet: upload one, paste one, or choose an example.")
    if kind == "outputs":
        if class_of(unit, model.name) is None:
            raise LSDError("Logit, log-odds and probability belong to a class; choose one under “What”.")
        unit = Leaf("class", unit.arguments)
    photo = None
    seeds = tuple(range(wish.seeds)) if kind == "models" else (0,)
    if wish.photo:
        name = free_name(wish.photo.name, bundle.names([Job(unit, seed) for seed in seeds]))
        photo = {"file": name, "path": name, "sha256": file_sha256(wish.photo)}
    return Request(
        model.name, (str(unit),), seeds, cooking.recipe(), None, tuple(others), photo, wish.start == PHOTO,
        model.said,
    )  # fmt: skip


def _columns(kind: str, models: Sequence[ImageModel], cooking: Cooking) -> list[tuple[str, ImageModel, Cooking]]:
    """(heading, model, recipe) of every column of a run."""
    if kind == "models":
        return [(model.name, model, cooking) for model in models]
    model = models[0]
    if kind == "outputs":
        outputs = ("logit", "log_odds", "probability")
        return [(OUTPUT_WORDS[output], model, _with_output(cooking, output)) for output in outputs]
    recipe, found = cooking.recipe(), []
    for base, words in _PLAIN.items():  # the same output for all, so that only regularization differs
        plain = _with_output(replace(cooking, base=base, settings={}), recipe.output)
        if plain.recipe() != recipe:
            found.append((f"{base}: {words}", model, plain))
    if not found:
        raise LSDError("This recipe is the one without regularization; choose another to compare it with.")
    this = recipe.name if recipe.name in RECIPES else f"{cooking.base}, changed"
    return [*found, (this, model, cooking)]


def _with_output(cooking: Cooking, output: str) -> Cooking:
    settings = {name: value for name, value in cooking.settings.items() if name != "output"}
    if find_recipe(cooking.base).output != output:
        settings["output"] = output
    return replace(cooking, settings=settings)


def cost(session: Session) -> Cost:
    """Of the session's ascents."""
    steps = [
        lane.steps * len(lane.request.seeds) * lane.recipe.transforms.views * (lane.recipe.size or 224) ** 2
        for lane in session.lanes
    ]
    return Cost(("features", *(lane.request.model for lane in session.lanes)), sum(steps))


def judges(session: Session, loaded: Sequence[str]) -> list[str]:
    """Who is asked besides the makers: models that are loaded or ready here, and name the same things."""
    makers = list(dict.fromkeys(lane.request.model for lane in session.lanes))
    classes = controls.class_choices(makers[:1])
    ready = [name for name in ready_models() if controls.class_choices([name]) == classes]
    others = [name for name in dict.fromkeys([*loaded, *ready]) if name not in makers]
    each_other = makers if len(makers) > 1 else []
    return each_other + others[: max(0, MAX_JUDGES - len(makers) + 1)]


def ask(session: Session, models: Mapping[str, ImageModel]) -> Iterator[str]:
    """Have the makers say what they see in the finished pictures, then the judges; yields a judge's name before it is asked.

    A judge that cannot be loaded is left out.

    Args:
        models: the session's, by name.
    """
    made = [lane for lane in session.lanes if lane.done]
    for lane in made:
        judge(lane, as_said(models[lane.request.model], lane.request.said), own=True)
    told = {lane.request.model: lane.request.said for lane in session.lanes}
    for name in judges(session, list(models)):
        yield name
        try:
            model = as_said(models.get(name) or aside(get_model, name), told.get(name, NOTHING))
        except LSDError:
            continue  # one judge fewer: the pictures are there
        session.judges.append(model.name)
        for lane in made:
            if lane.request.model != model.name:
                judge(lane, model, own=False)


def judges_of(session: Session, lane: Lane) -> list[str]:
    """Those of the session's judges that did not make the lane's pictures themselves."""
    return [name for name in session.judges if name != lane.request.model]


def write_address(wish: Wish) -> str:
    """The query that shows the same again."""
    query = [("tab", "features"), *(("model", name) for name in wish.models)]
    query += [("unit", units.portable(wish.unit, wish.models)), ("recipe", wish.cooking.base)]
    query += [("set", f"{name}={value}") for name, value in wish.cooking.settings.items()]
    if wish.cooking.steps != DEFAULT_STEPS:
        query.append(("steps", str(wish.cooking.steps)))
    if wish.seeds != DEFAULT_SEEDS:
        query.append(("seeds", str(wish.seeds)))
    if wish.cooking.size:
        query.append(("size", str(wish.cooking.size)))
    if wish.start == PHOTO:
        query.append(("start", PHOTO))
    for model, said in wish.sayings.pairs:
        query += [(key, value) for key, values in texts(said, model).items() for value in values]
    if wish.example:
        query.append(("example", wish.example))
    return urlencode(query, safe="/:")


def names_nothing(query: Mapping) -> bool:
    """Whether an address leaves this tab as it is when nobody has touched it."""
    return read_address(query) in (None, read_address(QueryParams("tab=features")))


@dataclass(frozen=True)
class Address:
    """What an address asks for; None where it says nothing, or nothing that makes sense."""

    models: list[str]
    of: str | None
    expression: str | None
    base: str
    recipe: Recipe
    steps: int | None
    seeds: int | None
    size: int | None
    start: str | None
    example: str | None
    outputs: str
    layouts: str


def read_address(query: Mapping) -> Address | None:
    """The inverse of `write_address`, for whatever somebody may have typed; None if it is not for this tab."""
    if query.get("tab") != "features":
        return None
    unit = (query.get("unit") or "").strip()[:1000]
    head, _, name = unit.partition("/")
    is_class = head == "class" and name and not any(f" {operator} " in name for operator in "+-*")
    base = query.get("recipe") if query.get("recipe") in RECIPES else DEFAULT
    recipe = find_recipe(base)
    with suppress(LSDError):
        recipe = changed(recipe, dict(pair.partition("=")[::2] for pair in query.getlist("set")[:50]))

    def number(key: str, most: int) -> int | None:
        text = query.get(key) or ""
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= most else None

    return Address(
        [model[:200] for model in query.getlist("model")][:MAX_LANES],
        name if is_class else None,
        unit if unit and not is_class else None,
        base, recipe, number("steps", MAX_STEPS), number("seeds", MAX_SEEDS), number("size", MAX_SIDE),
        PHOTO if query.get("start") == PHOTO else None,
        query.get("example") if query.get("example") in examples() else None,
        *controls.said_in_address(query),
    )  # fmt: skip
