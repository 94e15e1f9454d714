"""One picture, one model: the whole way from a decoded picture to its reasons, tried, with pictures."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image
from torch import Tensor

from lsd import labels
from lsd.errors import UndefinedError
from lsd.features.judge import Verdict, to_batch
from lsd.images import crop_box
from lsd.models import ImageModel
from lsd.reasons.drawn import OF_CLASSES, OF_UNITS, Drawn, Kept, draw, guesses, verdicts
from lsd.reasons.explain import CHANNEL, DECISION, Reason, Reasons, Tried, find_reasons, try_reasons
from lsd.reasons.missing import Missing, find_missing
from lsd.reasons.patches import find_patches
from lsd.reasons.sentence import Sentence, sentence
from lsd.saliency.explain import TargetSpec, to_input
from lsd.view import EVALUATED, View

AGAINST_TOLD = 3  # of what speaks against a decision
COUNT = 10
_TOP = 5


@dataclass(frozen=True)
class Answer:
    """What one model says of one picture, and why.

    Attributes:
        model: that was asked.
        picture: upright RGB.
        view: how it was brought to the model's input.
        box: the part of it that the model saw, (left, top, right, bottom) in its pixels.
        top: the most probable classes, (index, name, probability), most probable first.
        reasons, tried: of the decision.
        seconds: for both.
        missing: of the other class, or of the target's own where there is no other (`with_missing`).
        class_picture: that class's own picture, which it was held against.
        pictures: unit → its picture (`with_pictures`).
        said: unit → what judges take that picture for.
        patches: unit → patches of photos that excite it most (`with_patches`).
    """

    model: ImageModel
    picture: Image.Image = field(repr=False)
    view: View
    box: tuple[float, float, float, float]
    top: tuple[tuple[int, str, float], ...]
    reasons: Reasons = field(repr=False)
    tried: Tried = field(repr=False)
    seconds: float
    missing: tuple[Missing, ...] = ()
    class_picture: Drawn | None = field(default=None, repr=False)
    pictures: Mapping[str, Drawn] = field(default_factory=dict, repr=False)
    said: Mapping[str, Sequence[Verdict]] = field(default_factory=dict, repr=False)
    patches: Mapping[str, Sequence[Image.Image]] = field(default_factory=dict, repr=False)

    @property
    def names(self) -> dict[str, str]:
        """Unit → a guess at what is in its picture, where judges see something there."""
        return guesses(self.said, self.model.name)

    @property
    def sentence(self) -> Sentence:
        """The decision as one sentence."""
        return sentence(self.reasons, self.model.class_names, names=self.names)

    @property
    def against(self) -> tuple[Reason, ...]:
        """Those told of what speaks against the decision."""
        return self.reasons.against[:AGAINST_TOLD]

    @property
    def told(self) -> tuple[Reason, ...]:
        """All reasons that are told."""
        return (*self.reasons.groups, *self.reasons.channels, *self.against)

    @property
    def missing_class(self) -> int:
        """The class of which it is asked why it is not the answer."""
        target = self.reasons.target
        return target.index if target.against is None else target.against


def answer(
    model: ImageModel,
    picture: Image.Image,
    spec: TargetSpec = DECISION,
    *,
    view: View = EVALUATED,
    layer: str | None = None,
    method: str | None = None,
    count: int = COUNT,
    kind: str = CHANNEL,
) -> Answer:
    """The reasons of a decision, each put to the test; no pictures yet.

    Args:
        picture: upright RGB.
        layer, method, count, kind: as for `find_reasons`.

    Raises:
        UndefinedError: what `find_reasons` raises.
        LSDError: a view of more than the picture.
    """
    image = to_input(model, picture, view)
    start = time.perf_counter()
    reasons = find_reasons(model, image, spec, layer=layer, method=method, count=count, kind=kind)
    tried = try_reasons(model, image, reasons)
    seconds = time.perf_counter() - start
    box = crop_box(picture.size, model.spec, view)
    return Answer(model, picture, view, box, first_classes(model, reasons.logits), reasons, tried, seconds)


def first_classes(model: ImageModel, logits: Tensor) -> tuple[tuple[int, str, float], ...]:
    """The most probable classes of logits (classes,), (index, name, probability), most probable first."""
    probabilities = as_probabilities(model.outputs, logits)
    order = probabilities.argsort(descending=True, stable=True).tolist()[:_TOP]
    return tuple((c, labels.short(model.class_names[c]), float(probabilities[c])) for c in order)


def as_probabilities(outputs: str, logits: Tensor) -> Tensor:
    """Of logits (…, classes), as a model's outputs (`ImageModel.outputs`) have them."""
    return logits.double().sigmoid() if outputs == "sigmoid" else logits.double().softmax(-1)


def with_missing(found: Answer, *, kept: Kept | None = None) -> Answer:
    """The answer, and what the photo lacks of a class (`Answer.missing_class`), whose own picture is drawn for that.

    Raises:
        UndefinedError: reasons that are no channels; what `ascend` and `find_missing` raise.
    """
    if found.reasons.kind != CHANNEL:
        raise UndefinedError(
            f"What is missing is told of channels, not of {found.reasons.kind}s; ask for one of the two."
        )
    unit = f"class/{found.missing_class}"
    own = draw(found.model, [unit], OF_CLASSES, kept=kept)[unit]
    missing = find_missing(
        found.model, to_input(found.model, found.picture, found.view), to_batch([own.pixels], found.model),
        found.missing_class, layer=found.reasons.layer, method=found.reasons.shares.method,
    )  # fmt: skip
    return replace(found, missing=missing, class_picture=own)


def with_pictures(found: Answer, judges: Sequence[ImageModel] = (), *, kept: Kept | None = None) -> Answer:
    """The answer, and a picture of every unit that it tells; judges say what they see there.

    Raises:
        UndefinedError: what `ascend` raises.
    """
    units = [one.unit for one in (*found.told, *found.missing)]
    pictures = draw(found.model, units, OF_UNITS, kept=kept)
    return replace(found, pictures=pictures, said=verdicts(pictures, judges))


def with_patches(found: Answer, folder: Path) -> Answer:
    """The answer, and the patches of a folder's photos that excite its units most.

    Raises:
        LSDError: what `find_patches` raises.
    """
    units = dict.fromkeys(one.unit for one in (*found.told, *found.missing))
    return replace(found, patches=find_patches(found.model, list(units), folder))
