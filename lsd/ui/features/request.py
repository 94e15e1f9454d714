"""From what a visitor asks for to what is run: checked, loaded, and laid out in columns. No Gradio here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lsd.errors import LSDError, UndefinedError
from lsd.features import bundle
from lsd.features.bundle import Request
from lsd.features.objectives import needs_photo
from lsd.features.pictures import Job
from lsd.features.recipes import DEFAULT, RECIPES, Recipe, at_effort, find_recipe
from lsd.features.units import Leaf, Unit, class_of, other_models, resolve, title
from lsd.images import file_sha256, open_image
from lsd.layers import as_said
from lsd.models import ImageModel, get_model
from lsd.provenance import free_name
from lsd.said import NOTHING
from lsd.sayings import Sayings
from lsd.ui.features import units
from lsd.ui.features.knobs import differences
from lsd.ui.features.runs import Cooking, Lane, Session, judge
from lsd.ui.shared import controls
from lsd.ui.shared.examples import example_of
from lsd.ui.shared.jobs import aside, sentence
from lsd.ui.shared.limits import MAX_LANES, MAX_SEEDS, MAX_SIDE, MAX_STEPS, MAX_VIEWS, check_others
from lsd.ui.shared.markup import OUTPUT_WORDS
from lsd.ui.shared.pace import Cost
from lsd.weights import ready_models

DEFAULT_SEEDS = 2
MAX_JUDGES = 3
NOISE, PHOTO = "noise", "photo"
NONE, OUTPUTS = "none", "outputs"  # what can be compared besides models

_PLAIN = {"none": "no regularization", "jitter": "only a shift"}


def steps_of(recipe: str, effort: str = "draft") -> int:
    """The steps of an effort, as far as they go here; a draft's to start with, so that one sees something soon."""
    return min(at_effort(find_recipe(recipe), effort).steps, MAX_STEPS)


DEFAULT_STEPS = steps_of(DEFAULT)  # a second's work; the recipe's own take several


@dataclass(frozen=True)
class Wish:
    """What a visitor asks for, checked.

    Attributes:
        models: names.
        unit: its text, as `units.resolve` takes it.
        cooking: the recipe.
        seeds: how many.
        start: `NOISE` or `PHOTO`.
        compare: what the columns differ in. "": the models; `NONE`: no regularization, only a shift, and the recipe;
            `OUTPUTS`: logit, log-odds and probability.
        outputs, layouts: what is said of the models, as the page's controls have it.
        photo: the visitor's picture, where one is used.
        example: its name if it is one of the page's.
    """

    models: tuple[str, ...]
    unit: str
    cooking: Cooking
    seeds: int = DEFAULT_SEEDS
    start: str = NOISE
    compare: str = ""
    outputs: str = ""
    layouts: str = ""
    photo: Path | None = None
    example: str = ""

    @property
    def sayings(self) -> Sayings:
        """What is said of the models."""
        return controls.sayings(self.outputs, self.layouts)


def default_wish() -> Wish:
    """What the tab's controls say before anybody has touched them."""
    models = tuple(controls.default_models()[:1])
    return Wish(models, default_unit(models), Cooking(DEFAULT, {}, DEFAULT_STEPS, None))


def default_unit(models: Sequence[str]) -> str:
    """A class that these models have."""
    return units.portable(f"class/{units.default_class(models)}", models)


def read_wish(values: Mapping[str, Any]) -> Wish:
    """The wish that the tab's controls stand for; nothing is loaded.

    Args:
        values: of the controls, by name.

    Raises:
        LSDError: one sentence on what is missing or out of range.
    """
    names = _models(values["models"])
    unit = units.portable(units.read(values), names)
    seeds = whole(values["seeds"], "The number of seeds", 1, MAX_SEEDS)
    sayings = controls.sayings(values["outputs"], values["layouts"])
    sayings.check(names)
    uses_photo = values["start"] == PHOTO or units.needs_photo(unit)
    photo = Path(values["photo"]) if values["photo"] and uses_photo else None
    if photo is not None:
        open_image(photo)  # a damaged one is told before a model is loaded
    return Wish(
        names, unit, _cooking(values, seeds), seeds, values["start"], values["compare"], values["outputs"] or "",
        tidy(values["layouts"]), photo, example_of(photo),
    )  # fmt: skip


def tidy(layouts: str | None) -> str:
    """The text of the layouts' box as an address gives it back."""
    return ", ".join((layouts or "").replace(",", " ").split())


def _models(names: Sequence[str] | None) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(name.strip() for name in names or [] if name.strip()))
    if not found:
        raise LSDError("No model is chosen: pick one to three.")
    if len(found) > MAX_LANES:
        raise LSDError(f"{len(found)} models are chosen, and at most {MAX_LANES} are visualized at a time.")
    return found


def _cooking(values: Mapping[str, Any], seeds: int) -> Cooking:
    steps = whole(values["steps"], "The number of steps", 1, MAX_STEPS)
    size = None if values["size"] in (None, "", 0) else whole(values["size"], "The size", 16, MAX_SIDE)
    cooking = Cooking(values["recipe"], differences(find_recipe(values["recipe"]), values), steps, size)
    made = cooking.recipe()
    if max(t.views for t in (made.transforms, made.transforms_end) if t) > MAX_VIEWS:
        raise LSDError(f"At most {MAX_VIEWS} views a step are taken on this page; the command line has no such limit.")
    if made.diversity and seeds < 2:
        raise LSDError("diversity keeps the seeds apart, so it needs at least two.")
    return cooking


def whole(value: Any, what: str, low: int, high: int) -> int:
    """A whole number within its range.

    Raises:
        UndefinedError: it is none, or outside.
    """
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise UndefinedError(f"{what} is a whole number from {low} to {high} on this page.") from None
    if not low <= number <= high:
        raise UndefinedError(
            f"{what} lies between {low} and {high} on this page, and is {number}; the command line goes further."
        )
    return number


def prepare(wish: Wish, models: dict[str, ImageModel]) -> Iterator[str | Session]:
    """Load what is needed into `models`, by name, saying what is being loaded; in the end the session.

    Raises:
        LSDError: one sentence on what is not there.
    """

    def load(name: str) -> Iterator[str]:
        if name not in models:
            yield f"Loading {name} …"
            model = aside(get_model, name)
            models[model.name] = model
            chosen.append(as_said(model, sayings.of(name)))

    sayings = wish.sayings
    chosen: list[ImageModel] = []
    lanes: list[Lane] = []
    failures: dict[str, str] = {}  # model → why nothing is made for it
    for name in wish.models[:1] if wish.compare else wish.models:
        try:
            yield from load(name)
        except Exception as error:
            failures[name] = sentence(error)
    for heading, model, cooking in _columns(wish, list(chosen)) if chosen else ():
        try:
            unit = resolve(wish.unit, model)
        except LSDError as error:
            failures[model.name] = str(error)
            continue
        others = other_models([unit], model.name)
        check_others(others)
        for name in others:
            yield from load(name)
        lanes.append(Lane(heading, _request(wish, unit, model, cooking, others), cooking, title(unit, model)))
    if not lanes:
        raise LSDError(" ".join(dict.fromkeys(failures.values())))
    lanes[0].note = " ".join(_left_out(name, why, name in models) for name, why in failures.items())
    yield Session(wish.compare, lanes, wish.photo)


def _left_out(name: str, why: str, loaded: bool) -> str:
    return f"{name} is left out{', and only says what it sees' if loaded else ''}: {why}"


def _request(wish: Wish, unit: Unit, model: ImageModel, cooking: Cooking, others: Sequence[str]) -> Request:
    if wish.photo is None and (wish.start == PHOTO or needs_photo([unit])):
        raise LSDError("There is no picture yet: upload one, paste one, or choose an example.")
    if wish.compare == OUTPUTS:
        if class_of(unit, model.name) is None:
            raise LSDError("Logit, log-odds and probability belong to a class; choose one under “Unit”.")
        unit = Leaf("class", unit.arguments)
    photo = None
    seeds = (0,) if wish.compare else tuple(range(wish.seeds))
    if wish.photo:
        name = free_name(wish.photo.name, bundle.names([Job(unit, seed) for seed in seeds]))
        photo = {"file": name, "path": name, "sha256": file_sha256(wish.photo)}
    return Request(
        model.name, (str(unit),), seeds, cooking.recipe(), None, tuple(others), photo, wish.start == PHOTO,
        model.said,
    )  # fmt: skip


def _columns(wish: Wish, models: Sequence[ImageModel]) -> list[tuple[str, ImageModel, Cooking]]:
    """(heading, model, recipe) of every column of a run."""
    cooking = wish.cooking
    if not wish.compare:
        return [(model.name, model, cooking) for model in models]
    model = models[0]
    if wish.compare == OUTPUTS:
        return [(OUTPUT_WORDS[output], model, _with_output(cooking, output)) for output in OUTPUT_WORDS]
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


def ascents(session: Session, models: Mapping[str, ImageModel]) -> list[tuple[list[ImageModel], Recipe, int]]:
    """The models, the recipe and the number of pictures of each of the session's ascents.

    Args:
        models: the session's, by name.
    """
    requests = [lane.request for lane in session.lanes]
    return [([models[name] for name in (r.model, *r.others)], r.recipe, len(r.units) * len(r.seeds)) for r in requests]


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
