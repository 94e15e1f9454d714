"""Every picture of a set through every model, and what one visitor keeps of it. No Gradio here."""

import io
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial

from PIL import Image

from lsd.catalogue import common_name
from lsd.errors import ImageError, LSDError
from lsd.evaluation.labelled import DEMO_SETS, FOOLED_SET, PHOTO_SET, Item, LabelledSet, true_indices
from lsd.evaluation.mistakes import SCANNED, ScanProgress, ScanResult, asked_about, scan
from lsd.images import fit_within
from lsd.models import ImageModel, get_model
from lsd.recent import Recent
from lsd.ui.mistakes.request import YOURS, Question, check_own, open_source, own_picture
from lsd.ui.mistakes.views import Choice
from lsd.ui.shared import controls, gpu
from lsd.ui.shared.jobs import about, aside, doing, sentence, turn
from lsd.ui.shared.pace import Cost, measured
from lsd.ui.shared.room import room_for_passes

THUMBNAIL_SIDE = 192
_ALWAYS_THE_SAME = (FOOLED_SET, PHOTO_SET, *DEMO_SETS)  # whoever opens them; a folder may have other pictures by then
_finished: Recent[ScanProgress] = Recent(32)


@dataclass(frozen=True, eq=False)
class Search:
    """A scan, finished or under way: predictions and thumbnails, and no model.

    Attributes:
        question: complete, and the `path` of the visitor's own picture if it is about that.
        troubles: why some of the models take no part.
        result: of the pictures so far; None before the first.
        done, total: numbers of pictures.
    """

    question: Question
    path: str | None
    pictures: LabelledSet
    troubles: list[str]
    result: ScanResult | None = None
    done: int = 0
    total: int = 0
    _thumbnails: dict[str, bytes] = field(default_factory=dict, repr=False)

    def answers(self, question: Question, path: str | None) -> bool:
        """Whether it is a finished answer to just this."""
        own = question.source == YOURS
        return self.done == self.total > 0 and self.question == question and (not own or self.path == path)

    @property
    def is_own(self) -> bool:
        """Whether it is about the visitor's own picture."""
        return self.question.source == YOURS

    @property
    def has_causes(self) -> bool:
        """Whether it was found what fooled networks about these pictures."""
        return any(item.evidence(model) for item in self.pictures for model in self.question.models)

    def column(self, picture: str) -> int | None:
        """Of the picture of that id; None if there is none."""
        return next((column for column, item in enumerate(self.result.items) if item.id == picture), None)

    def choice(self, picture: str, by: str) -> Choice:
        """The picture of that id, and the model that is named or else the first that is wrong about it."""
        column, models = self.column(picture), self.result.models
        return Choice(models.index(by) if by in models else int(self.result.wrong[:, column].argmax()), column)

    def thumbnail(self, item: Item) -> bytes:
        """A small JPEG, made when it is first asked for."""
        if item.id not in self._thumbnails:
            try:
                small = fit_within(item.picture(), THUMBNAIL_SIDE)
            except ImageError:  # gone since the scan
                small = Image.new("RGB", (THUMBNAIL_SIDE, THUMBNAIL_SIDE), "lightgrey")
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=85)
            self._thumbnails[item.id] = buffer.getvalue()
        return self._thumbnails[item.id]


def search(question: Question, path: str | None) -> Iterator[Search]:
    """Find the mistakes. A model that cannot take part leaves the others. What was found once in a set that ships is kept for all.

    Args:
        question: complete.
        path: of the visitor's own picture.

    Yields:
        the search whenever it has come further.

    Raises:
        LSDError: the pictures or all models cannot be had, or do not go together.
    """
    names = controls.checked_models(question.models)
    if question.source == YOURS:
        check_own(path, question.label)
    else:
        doing("Opening the pictures")
        pictures = aside(open_source, question.source, question.number)
    doing(f"Loading {', '.join(map(common_name, names))}")
    models, troubles = _loaded(names)
    if question.source == YOURS:
        pictures = own_picture(path, question.label, models)
    models = _knowing(models, pictures, troubles)
    about(*(model.name for model in models))
    so_far = Search(question, path, pictures, troubles)
    key = (question.source, question.number, tuple((model.name, model.identity, model.said) for model in models))
    if last := _finished.find(key):
        yield replace(so_far, result=last.result, done=last.done, total=last.total)
        return
    cost = Cost(("scan", *names), asked_about(models, pictures))
    with ExitStack() as work:
        if cost.amount:
            for context in (turn(cost), room_for_passes("This scan", models, SCANNED), measured(cost)):
                work.enter_context(context)
        make = partial(gpu.steps, scan) if cost.amount else scan
        for step in work.enter_context(closing(make(models, pictures))):
            so_far = replace(so_far, result=step.result, done=step.done, total=step.total)
            yield so_far
    if question.source in _ALWAYS_THE_SAME:
        _finished.get(key, lambda: step)


def _loaded(names: list[str]) -> tuple[list[ImageModel], list[str]]:
    """The models that can be had, and why the others cannot. Raises LSDError if none can."""
    models, troubles = [], []
    for name in names:
        try:
            models.append(aside(get_model, name))
        except Exception as error:
            troubles.append(sentence(error))
    if not models:
        raise LSDError(" ".join(troubles))
    return models, troubles


def _knowing(models: list[ImageModel], pictures: LabelledSet, troubles: list[str]) -> list[ImageModel]:
    """Those of the models that have the set's classes; why others have not is added to `troubles`.

    Raises:
        LSDError: none has.
    """
    knowing = []
    for model in models:
        try:
            true_indices(pictures, model)
            knowing.append(model)
        except Exception as error:
            troubles.append(sentence(error))
    if not knowing:
        raise LSDError(" ".join(troubles))
    return knowing
