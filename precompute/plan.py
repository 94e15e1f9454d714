"""From settings to tasks: which models match, and which units they have."""

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lsd.errors import LSDError
from lsd.features.objectives import needs_photo
from lsd.features.units import check, expand, other_models, parse
from lsd.layers import as_said
from lsd.models import ImageModel, get_model, ready_models
from precompute.settings import Settings
from precompute.tasks import UNITS, Task


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes:
        tasks: in the order in which they are done: model by model.
        problems: what was asked for and cannot be done, a sentence each; the rest is done all the same.
    """

    tasks: tuple[Task, ...]
    problems: tuple[str, ...]

    @property
    def pictures(self) -> int:
        """Rows that all tasks make together."""
        return sum(task.pictures for task in self.tasks)


def matching(pattern: str) -> list[str]:
    """The models that a name or a wildcard stands for: those that are ready here, and timm's pretrained ones.

    Raises:
        LSDError: a wildcard that matches nothing, or a name that means another model on another machine.
    """
    if pattern.startswith("local-dir:"):
        raise LSDError(
            f"{pattern} is a folder of this machine, which nobody else could name; put it under LSD_MODEL_PATH."
        )
    if not any(c in pattern for c in "*?["):
        return [pattern]
    import timm

    ready = [name for name in ready_models() if fnmatch.fnmatchcase(name, pattern)]
    found = list(dict.fromkeys([*ready, *timm.list_models(pattern, pretrained=True)]))
    if not found:
        raise LSDError(f"No model matches {pattern}; python -m lsd models lists timm's names.")
    return found


def make_plan(settings: Settings, told: Callable[[str], None] = lambda name: None) -> Plan:
    """Every task of a run. Models are loaded one after another, because only a loaded one knows its layers and weights.

    Args:
        told: is called with each model's name before it is looked at.

    Raises:
        LSDError: something is said of a model that is not asked, or that the model cannot be.
    """
    problems: list[str] = []

    def attempt(action, *arguments, default=()):
        try:
            return action(*arguments)
        except LSDError as error:
            problems.append(str(error))
            return default

    names = dict.fromkeys(name for pattern in settings.models for name in attempt(matching, pattern))

    def read(name: str) -> ImageModel | None:
        told(name)
        model = attempt(get_model, name, default=None)
        # Not attempted: a run whose networks are misunderstood is not half done, but refused.
        return model and as_said(model, settings.sayings.of(name, asked=name in names))

    verifiers = [model for name in settings.verifiers if (model := read(name))]
    tasks: list[Task] = []
    asked = [*names, *settings.verifiers]
    for name in names:
        model = read(name)
        if model is None:
            continue
        others: dict[str, ImageModel] = {}
        units = list(dict.fromkeys(u for p in settings.units for u in attempt(_units, p, model, others, settings)))
        asked += others
        judges = [judge for judge in verifiers if judge.name != model.name]
        tasks += _tasks(model, units, settings, judges, others)
    settings.sayings.check(asked)
    return Plan(tuple(dict.fromkeys(tasks)), tuple(problems))  # a model may have two names


def joined(plans: Iterable[Plan]) -> Plan:
    """One after another, nothing twice."""
    plans = list(plans)
    tasks, problems = (
        dict.fromkeys(one for plan in plans for one in getattr(plan, of)) for of in ("tasks", "problems")
    )
    return Plan(tuple(tasks), tuple(problems))


def _units(pattern: str, model: ImageModel, others: dict[str, ImageModel], settings: Settings) -> list[str]:
    """The units that a pattern stands for; further models that they name are put into `others`, read as was said."""
    try:
        units = expand(pattern, model)
        if needs_photo(units):
            raise LSDError(f"{pattern} needs a photo, which rows cannot carry; use python -m lsd features --photo.")
        for leaf in (leaf for unit in units for leaf in unit.leaves() if leaf.model not in ("", model.name)):
            if leaf.model not in others:
                said = settings.sayings.of(leaf.model, asked=leaf.model in settings.models)
                others[leaf.model] = as_said(get_model(leaf.model), said)
            check(leaf, others[leaf.model])
    except LSDError as error:
        raise LSDError(f"{model.name}: {error}") from error
    return [str(unit) for unit in units]


def _tasks(
    model: ImageModel,
    units: Sequence[str],
    settings: Settings,
    judges: Sequence[ImageModel],
    others: dict[str, ImageModel],
) -> list[Task]:
    seeds = tuple(range(settings.seeds))
    found = []
    for recipe in settings.recipes:
        for start in range(0, len(units), UNITS):
            part = tuple(units[start : start + UNITS])
            further = [others[name] for name in other_models(map(parse, part), model.name)]
            said = {one.name: one.said for one in (model, *judges, *further) if one.said}
            task = Task(
                model.name, model.identity.digest, part, recipe, seeds, _digests(judges), settings.batch_size, settings.quality,
                _digests(further), tuple(said.items()), settings.photos,
            )  # fmt: skip
            found.append(task)
    return found


def _digests(models: Sequence[ImageModel]) -> tuple[tuple[str, str | None], ...]:
    """(name, digest of the weights) of each."""
    return tuple((model.name, model.identity.digest) for model in models)
