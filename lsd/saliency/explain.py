"""One picture, one model, one method: the whole way from a decoded picture to an attribution that says what it is."""

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from PIL import Image

from lsd import labels
from lsd.embedding import embed
from lsd.errors import UndefinedError
from lsd.images import crop_box, prepare
from lsd.models import ImageModel
from lsd.reference import Reference
from lsd.saliency import defaults
from lsd.saliency.attribution import Attribution
from lsd.saliency.methods import attribute
from lsd.saliency.targets import KINDS, Similarity, Target, as_index, joined, of_class
from lsd.view import EVALUATED, View

RANKS = {"top1": 0, "top2": 1}
WHOLE_INPUT = View("squashed")  # of pictures that have the input's size already, which is then left as it is


@dataclass(frozen=True)
class TargetSpec:
    """A target before the model has spoken: its class may be "the model's own first choice".

    Attributes:
        of: "top1", "top2" (the runner-up), a class index, or a class name.
        kind: one of `targets.KINDS`.
        against: for a contrast, as `of`; None otherwise.
    """

    of: str | int = "top1"
    kind: str = defaults.KIND
    against: str | int | None = None

    def __post_init__(self):
        for name in ("of", "against"):
            if not isinstance(getattr(self, name), str | None):
                object.__setattr__(self, name, as_index(getattr(self, name)))
        if self.kind not in KINDS:
            raise UndefinedError(f"There is no target “{self.kind}”; choose one of {', '.join(KINDS)}.")

    def to_dict(self) -> dict:
        """As plain JSON values; `spec_from_dict` is the inverse."""
        return {"kind": self.kind, "of": self.of, "against": self.against}

    def resolve(self, model: ImageModel, ranking: list[int]) -> Target:
        """The target for a picture whose classes, most probable first, are `ranking`.

        Raises:
            UndefinedError: no classes, a class that the model does not have, or a contrast of a class with itself.
        """
        if not ranking:
            model.refuse_classes()
        against = None if self.against is None else _class(model, ranking, self.against)
        return of_class(model, _class(model, ranking, self.of), self.kind, against)


@dataclass(frozen=True)
class SimilarTo:
    """A target before the model has spoken: how alike the picture and a reference are for it.

    Attributes:
        reference: a picture, which the model embeds, or a vector of the length of its embedding.
    """

    reference: Reference
    kind: ClassVar[str] = "similarity"

    def to_dict(self) -> dict:
        """As plain JSON values: which file the reference was."""
        return {"kind": self.kind, "reference": self.reference.to_dict()}

    def resolve(self, model: ImageModel, ranking: list[int]) -> Similarity:
        """The target, whatever the picture's classes.

        Raises:
            UndefinedError: an embedding that the model does not have, or of another length than the vector.
        """
        return Similarity(reference_vector(model, self.reference), self.reference.to_dict())


def reference_vector(model: ImageModel, reference: Reference) -> torch.Tensor:
    """What embeddings are compared with: (D,), on the model's device; raises what `embed` does."""
    if reference.is_vector:
        return torch.from_numpy(reference.content).to(model.device, model.dtype)
    return embed(model, to_input(model, reference.content))[0]


def _class(model: ImageModel, ranking: list[int], wanted: str | int) -> int:
    if wanted in RANKS:
        if not ranking[RANKS[wanted] :]:
            raise UndefinedError(f"{model.name} has too few classes for “{wanted}”.")
        return ranking[RANKS[wanted]]
    return labels.find_class(model.class_names, wanted)


@dataclass(frozen=True)
class Explanation:
    """What one model says of one picture, and where in the picture that comes from.

    Attributes:
        model: the model's name.
        picture_size: (width, height) of the picture, upright.
        box: the part of it that the model saw, (left, top, right, bottom) in its pixels; beyond the picture where it was padded.
        input_size: (height, width) of the model's input.
        top: the most probable classes, (index, name, probability), most probable first; () of a model without classes.
        attribution: of this one picture (N = 1), on the CPU.
        seconds: for the attribution alone.
        view: how the picture was brought to the model's input.
    """

    model: str
    picture_size: tuple[int, int]
    box: tuple[float, float, float, float]
    input_size: tuple[int, int]
    top: tuple[tuple[int, str, float], ...]
    attribution: Attribution
    seconds: float
    view: View = EVALUATED


def to_input(model: ImageModel, picture: Image.Image, view: View = EVALUATED) -> torch.Tensor:
    """A picture as the model wants it: (1, 3, H, W), [0, 1], on the model's device.

    Raises:
        LSDError: a view of more than the picture.
    """
    return torch.from_numpy(prepare(picture, model.spec, view))[None].to(model.device, model.dtype)


def explain(
    model: ImageModel,
    picture: Image.Image,
    spec: TargetSpec | SimilarTo,
    method: str = defaults.METHOD,
    *,
    top: int = 5,
    view: View = EVALUATED,
    **settings,
) -> Explanation:
    """Classify `picture` and attribute the target to its pixels.

    Args:
        picture: upright RGB, as `lsd.images.open_image` gives it.
        method, settings: see `lsd.saliency.methods`.
        top: how many classes to tell.
        view: what of the picture the model is shown. A picture that it is compared with is shown as evaluated.

    Raises:
        UndefinedError: a model without classes, an unknown class, or a method that is not defined for the model.
        LSDError: a view of more than the picture.
    """
    (explained,) = explain_inputs(model, to_input(model, picture, view), spec, method, top=top, **settings)
    return replace(explained, picture_size=picture.size, box=crop_box(picture.size, model.spec, view), view=view)


def explain_inputs(
    model: ImageModel,
    images: torch.Tensor,
    spec: TargetSpec | SimilarTo,
    method: str = defaults.METHOD,
    *,
    top: int = 5,
    **settings,
) -> list[Explanation]:
    """`explain` for pictures (N, 3, H, W) in [0, 1] of the model's own size, which share its passes."""
    probabilities, rankings = None, [[] for _ in images]
    if model.outputs != "embedding":
        probabilities = model.probabilities(images).double().cpu()
        rankings = probabilities.argsort(dim=1, descending=True, stable=True).tolist()
    targets = [spec.resolve(model, ranking) for ranking in rankings]
    start = time.perf_counter()
    attribution = attribute(method, model, images, joined(targets), **settings).cpu()
    seconds = (time.perf_counter() - start) / len(images)
    height, width = images.shape[2:]
    return [
        Explanation(
            model=model.name,
            picture_size=(width, height),
            box=(0, 0, width, height),
            input_size=(height, width),
            top=tuple((c, labels.short(model.class_names[c]), probabilities[i, c].item()) for c in ranking[:top]),
            attribution=attribution.of(i, targets[i]),
            seconds=seconds,
            view=WHOLE_INPUT,
        )
        for i, ranking in enumerate(rankings)
    ]
