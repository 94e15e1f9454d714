"""One picture, one model, one method: the whole way from a decoded picture to an attribution that says what it is."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from PIL import Image

from lsd import labels
from lsd.embedding import embed
from lsd.errors import UndefinedError
from lsd.groups import find_group
from lsd.images import crop_box, prepare
from lsd.models import ImageModel
from lsd.reference import Reference
from lsd.saliency import defaults
from lsd.saliency.attribution import Attribution
from lsd.saliency.methods import attribute
from lsd.saliency.targets import (
    KINDS,
    AnyTarget,
    GroupTarget,
    Similarity,
    Target,
    as_index,
    joined,
    of_class,
    of_group,
)
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
        """As plain JSON values; `asked_again` is the inverse."""
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
class OfGroup:
    """A target before the model has spoken: a group of its classes, or a class within it.

    Attributes:
        group: as `lsd.groups.find_group` reads it: "dog".
        of: the class that is held against the others of the group, "top1" and "top2" being the group's first and second; None
            for the group against all other classes.
    """

    group: str
    of: str | int | None = None

    def __post_init__(self):
        if not isinstance(self.of, str | None):
            object.__setattr__(self, "of", as_index(self.of))

    @property
    def kind(self) -> str:
        """ "group" or "within"."""
        return "group" if self.of is None else "within"

    def to_dict(self) -> dict:
        """As plain JSON values; `asked_again` is the inverse."""
        return {"kind": self.kind, "group": self.group} | ({} if self.of is None else {"of": self.of})

    def resolve(self, model: ImageModel, ranking: list[int]) -> GroupTarget:
        """The target for a picture whose classes, most probable first, are `ranking`.

        Raises:
            UndefinedError: what `find_group` and `of_group` raise, a group of all classes, or a class that is not in the group.
        """
        group = find_group(model, self.group)
        if self.of is None:
            if len(group.members) == model.num_classes:
                raise UndefinedError(
                    f"All classes of {model.name} are kinds of “{group.name}”, so there is nothing to hold it against; name a "
                    "narrower one."
                )
            return of_group(model, group)
        own = set(group.members)
        chosen = _class(model, [c for c in ranking if c in own], self.of)
        if chosen not in group.members:
            raise UndefinedError(
                f"{labels.short(model.class_names[chosen])} is no kind of {group.name} to {model.name}; choose a class of that "
                "group, or another group."
            )
        return of_group(model, group, chosen)


@dataclass(frozen=True)
class TopClasses:
    """Several targets before the model has spoken: its own first choices, each for itself.

    Attributes:
        count: how many, 2 to `defaults.MOST_CLASSES`; of a model that has fewer classes, all of them.
        kind: "log_odds", "logit" or "probability".

    Raises:
        UndefinedError: another number or kind.
    """

    count: int = 3
    kind: str = defaults.KIND

    def __post_init__(self):
        object.__setattr__(self, "count", as_index(self.count))
        if not 2 <= self.count <= defaults.MOST_CLASSES:
            raise UndefinedError(f"Two to {defaults.MOST_CLASSES} classes are shown together, not {self.count}.")
        if self.kind not in KINDS or self.kind == "contrast":
            raise UndefinedError(f"Several classes have log_odds, logit or probability, not “{self.kind}”.")

    def to_dict(self) -> dict:
        """As plain JSON values; `asked_again` is the inverse."""
        return {"kind": "classes", "count": self.count, "output": self.kind}


@dataclass(frozen=True)
class SimilarTo:
    """A target before the model has spoken: how alike the picture and a reference are for it.

    Attributes:
        reference: a picture, which the model embeds, or a vector of the length of its embedding.
        both: whether the reference is explained too: what in it makes it like the picture.

    Raises:
        UndefinedError: both, where the reference is a vector, which has no pixels.
    """

    reference: Reference
    both: bool = False
    kind: ClassVar[str] = "similarity"

    def __post_init__(self):
        if self.both and self.reference.is_vector:
            raise UndefinedError("A vector has no pixels to explain; give another picture, or ask for one direction.")

    def to_dict(self) -> dict:
        """As plain JSON values: which file the reference was."""
        return {"kind": self.kind, "reference": self.reference.to_dict()} | ({"both": True} if self.both else {})

    def resolve(self, model: ImageModel, ranking: list[int]) -> Similarity:
        """The target, whatever the picture's classes.

        Raises:
            UndefinedError: an embedding that the model does not have, or of another length than the vector.
        """
        return Similarity(reference_vector(model, self.reference), self.reference.to_dict())


Spec = TargetSpec | OfGroup | TopClasses | SimilarTo


def asked_again(request: dict) -> TargetSpec | OfGroup | TopClasses:
    """What `to_dict` told, but for a similarity, whose reference is a file of its own."""
    if request["kind"] == "classes":
        return TopClasses(request["count"], request["output"])
    if "group" in request:
        return OfGroup(request["group"], request.get("of"))
    return TargetSpec(**request)


def answers_to(spec: Spec) -> int:
    """How many explanations of a model a question asks for, at the most."""
    if isinstance(spec, TopClasses):
        return spec.count
    return 2 if isinstance(spec, SimilarTo) and spec.both else 1


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
        part: which of several answers to one question it is: the rank of a class of `TopClasses`, or 1 for the map over the
            reference of `SimilarTo`, which is then its picture; 0 for the first, or the only one.
    """

    model: str
    picture_size: tuple[int, int]
    box: tuple[float, float, float, float]
    input_size: tuple[int, int]
    top: tuple[tuple[int, str, float], ...]
    attribution: Attribution
    seconds: float
    view: View = EVALUATED
    part: int = 0

    @property
    def is_of_reference(self) -> bool:
        """Whether it lies over the picture that the other one is held against."""
        return self.part > 0 and self.attribution.target.kind == SimilarTo.kind


def by_model(explanations: Sequence[Explanation]) -> list[list[Explanation]]:
    """The explanations of several models, in order, apart: those that answer one question of one model together."""
    apart: list[list[Explanation]] = []
    for explanation in explanations:
        if explanation.part == 0:
            apart.append([])
        apart[-1].append(explanation)
    return apart


def to_input(model: ImageModel, picture: Image.Image, view: View = EVALUATED) -> torch.Tensor:
    """A picture as the model wants it: (1, 3, H, W), [0, 1], on the model's device.

    Raises:
        LSDError: a view of more than the picture.
    """
    return torch.from_numpy(prepare(picture, model.spec, view))[None].to(model.device, model.dtype)


def explain(
    model: ImageModel,
    picture: Image.Image,
    spec: TargetSpec | OfGroup | SimilarTo,
    method: str = defaults.METHOD,
    *,
    top: int = 5,
    view: View = EVALUATED,
    **settings,
) -> Explanation:
    """Classify `picture` and attribute the target to its pixels; the first of `explain_each`.

    Args:
        picture: upright RGB, as `lsd.images.open_image` gives it.
        method, settings: see `lsd.saliency.methods`.
        top: how many classes to tell.
        view: what of the picture the model is shown. A picture that it is compared with is shown as evaluated.

    Raises:
        UndefinedError: a model without classes, an unknown class, or a method that is not defined for the model.
        LSDError: a view of more than the picture.
    """
    return explain_each(model, picture, spec, method, top=top, view=view, **settings)[0]


def explain_each(
    model: ImageModel,
    picture: Image.Image,
    spec: Spec,
    method: str = defaults.METHOD,
    *,
    top: int = 5,
    view: View = EVALUATED,
    **settings,
) -> list[Explanation]:
    """Every answer to a question, arguments and errors as of `explain`: one, one a class of `TopClasses`, which share each forward
    pass, or for `SimilarTo` both ways that of the picture and that of the reference."""
    image = to_input(model, picture, view)
    (found,) = _explained(model, image, spec, method, top, settings)
    found = [_seen(explanation, model, picture, view) for explanation in found]
    if isinstance(spec, SimilarTo) and spec.both:
        back = Similarity(embed(model, image)[0], {"file": "the picture"})
        other = spec.reference.content
        ((explanation,),) = _explained(model, to_input(model, other), back, method, top, settings)
        found.append(replace(_seen(explanation, model, other, EVALUATED), part=1))
    return found


def explain_inputs(
    model: ImageModel,
    images: torch.Tensor,
    spec: TargetSpec | OfGroup | SimilarTo,
    method: str = defaults.METHOD,
    *,
    top: int = 5,
    **settings,
) -> list[Explanation]:
    """`explain` for pictures (N, 3, H, W) in [0, 1] of the model's own size, which share its passes."""
    return [answers[0] for answers in _explained(model, images, spec, method, top, settings)]


def _seen(explanation: Explanation, model: ImageModel, picture: Image.Image, view: View) -> Explanation:
    """Of a picture that was brought to the input so."""
    return replace(explanation, picture_size=picture.size, box=crop_box(picture.size, model.spec, view), view=view)


def _targets(asked: Spec | AnyTarget, model: ImageModel, ranking: list[int]) -> list[AnyTarget]:
    """What is asked of a picture whose classes, most probable first, are `ranking`."""
    if isinstance(asked, TopClasses):
        if not ranking:
            model.refuse_classes()
        return [of_class(model, index, asked.kind) for index in ranking[: asked.count]]
    return [asked if isinstance(asked, AnyTarget) else asked.resolve(model, ranking)]


def _explained(
    model: ImageModel, images: torch.Tensor, asked: Spec | AnyTarget, method: str, top: int, settings: dict
) -> list[list[Explanation]]:
    """Of each picture (N, 3, H, W), an explanation for each of its targets."""
    probabilities, rankings = None, [[] for _ in images]
    if model.outputs != "embedding":
        probabilities = model.probabilities(images).double().cpu()
        rankings = probabilities.argsort(dim=1, descending=True, stable=True).tolist()
    targets = [_targets(asked, model, ranking) for ranking in rankings]
    start = time.perf_counter()
    together = [joined(of_part) for of_part in zip(*targets, strict=True)]
    attributions = [found.cpu() for found in attribute(method, model, images, together, **settings)]
    seconds = (time.perf_counter() - start) / len(images) / len(together)
    height, width = images.shape[2:]
    return [
        [
            Explanation(
                model=model.name,
                picture_size=(width, height),
                box=(0, 0, width, height),
                input_size=(height, width),
                top=tuple((c, labels.short(model.class_names[c]), probabilities[i, c].item()) for c in ranking[:top]),
                attribution=attribution.of(i, targets[i][part]),
                seconds=seconds,
                view=WHOLE_INPUT,
                part=part,
            )
            for part, attribution in enumerate(attributions)
        ]
        for i, ranking in enumerate(rankings)
    ]
