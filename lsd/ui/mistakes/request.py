"""What a visitor asks of the Mistakes tab: what there is to choose from, and what may be opened. No Gradio here."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lsd import labels
from lsd.errors import LSDError, UndefinedError
from lsd.evaluation.classes import Label
from lsd.evaluation.labelled import DEMO_SETS, FOOLED_SET, PHOTO_SET, FileItem, LabelledSet, available_sets, open_set
from lsd.models import ImageModel
from lsd.saliency import defaults
from lsd.ui.mistakes.filters import Filters
from lsd.ui.shared import controls
from lsd.weights import ready_models

DRAWN_SET = "demo:misleading-tags"
YOURS = "yours"  # the set that is the visitor's own picture
DEFAULT_NUMBER, LEAST, MOST = 160, 32, 1024  # pictures; by default ten of each class of the demo set
DEFAULT_SHARE, LARGEST_SHARE = 2, 50  # per cent of the pixels that the probe removes

SCALES = {"model": "each model by itself", "all": "all models together", "rank": "rank"}
OVERLAYS = {"heatmap": "heat map", "mask": "mask", "map": "map alone"}


@dataclass(frozen=True)
class Question:
    """What is searched for mistakes; a scan depends on nothing else.

    Attributes:
        source: a set, as `open_set` takes it, or `YOURS`; "" for what the tab opens with.
        number: of pictures, at most.
        models: their names; none for those that suit the set.
        label: what the visitor's own picture truly shows.
    """

    source: str = ""
    number: int = DEFAULT_NUMBER
    models: tuple[str, ...] = ()
    label: str = ""


@dataclass(frozen=True)
class Look:
    """How a mistake is explained: the method, and what of its maps is drawn."""

    method: str = defaults.METHOD
    scale: str = "model"
    overlay: str = "heatmap"


@dataclass(frozen=True)
class Removal:
    """What the probe takes away.

    Attributes:
        model: that is asked; "" for the first that is wrong.
        which: map, of `MAPS`, whose most salient pixels go.
        fill: what takes their place.
        share: of the pixels, in per cent.
    """

    model: str = ""
    which: str = "contrast"
    fill: str = "mean"
    share: float = DEFAULT_SHARE


@dataclass(frozen=True)
class View:
    """All that the tab shows.

    Attributes:
        page: of the list, from 1.
        picture, by: the mistake that is explained, by the picture's id and the model that makes it; "" for the first.
        quiz: "on" where a mistake's maps are shown once the visitor has guessed.
    """

    question: Question = field(default_factory=Question)
    filters: Filters = field(default_factory=Filters)
    page: int = 1
    picture: str = ""
    by: str = ""
    look: Look = field(default_factory=Look)
    removal: Removal = field(default_factory=Removal)
    quiz: str = ""


def demo_models() -> list[str]:
    """The demo models that are there, the one that reads the corner tag first."""
    wanted = ("demo:shortcut", "demo:resnet", "demo:vit", "demo:convnext")
    return [name for name in wanted if name in ready_models()]


def imagenet_models() -> list[str]:
    """The default models if they are ImageNet's, which takes two that are ready; else none."""
    return [name for name in controls.default_models() if not name.startswith("demo:")]


def worked_cases() -> dict[str, list[str]]:
    """Set → models whose mistakes in it can be shown at once; what the tab opens with comes first."""
    models = imagenet_models()
    photos = [name for name in (FOOLED_SET, PHOTO_SET) if models and name in available_sets()]
    return dict.fromkeys(photos, models) | {DRAWN_SET: demo_models()}


def suitable_models(source: str) -> list[str]:
    """Models that know the classes of a set: the drawn pictures have classes of their own."""
    return demo_models() if source in DEMO_SETS else imagenet_models() or demo_models()


def completed(question: Question) -> Question:
    """The same with every default by its name."""
    source = question.source or next(iter(worked_cases()))
    return replace(question, source=source, models=question.models or tuple(suitable_models(source)))


def shortened(question: Question) -> Question:
    """The same with the defaults left out, so that its address is short: the inverse of `completed`."""
    source = question.source
    models = () if question.models == tuple(suitable_models(source)) else question.models
    first = next(iter(worked_cases()))
    return replace(
        question,
        source="" if source == first else source,
        number=DEFAULT_NUMBER if source == YOURS else question.number,
        models=models,
        label=question.label if source == YOURS else "",
    )


def open_source(source: str | None, number: int) -> LabelledSet:
    """`open_set` of what a visitor has chosen or typed.

    Raises:
        LSDError: one sentence: nothing chosen, or what `open_set` says.
    """
    source = (source or "").strip()
    if not source:
        raise LSDError("No pictures are chosen: pick a set, or type a folder or hf:NAME.")
    return open_set(source, limit=int(number))


def check_own(path: str | None, label: str) -> None:
    """Whether the visitor has said all that there is to say about a picture of his own.

    Raises:
        LSDError: there is no picture, or no class.
    """
    if not path:
        raise LSDError("There is no picture of yours here yet: upload one under “Your picture”.")
    if not label.strip():
        raise LSDError("Say what your picture shows: choose its class under “It is truly”.")


def own_picture(path: str, label: str, models: Sequence[ImageModel]) -> LabelledSet:
    """The visitor's picture as a set of one, labelled by the first model that has such a class.

    Raises:
        UndefinedError: none has.
    """
    trouble = None
    for model in models:
        try:
            index = labels.find_class(model.class_names, label)
        except UndefinedError as error:
            trouble = trouble or error
        else:
            truth = Label(model.class_names[index], number=index, space=model.class_names)
            return LabelledSet("your picture", (FileItem("your picture", truth, Path(path)),))
    raise trouble
