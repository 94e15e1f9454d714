"""Explanations kept by content: the same question is answered once, for all visitors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from PIL import Image

from lsd.models import ImageModel
from lsd.recent import Recent
from lsd.saliency.bundle import pictures_under
from lsd.saliency.crosscheck import CrossCheck, crosscheck_explanation
from lsd.saliency.explain import Explanation, SimilarTo, Spec, answers_to, explain_each
from lsd.saliency.methods import passes
from lsd.saliency.steadiness import COPIES, Steadiness, steadiness_of_each
from lsd.ui.shared import gpu
from lsd.ui.shared.pace import Cost, measured
from lsd.ui.shared.room import room_for_method
from lsd.view import EVALUATED, View

MAX_BYTES = 256 * 2**20  # some four hundred maps of 224 × 224 pixels
_OVERHEAD = 4096  # bytes of an answer besides its map


_Answer = tuple[Explanation, ...] | tuple[CrossCheck, ...] | tuple[Steadiness | None, ...]


def _size(answer: _Answer) -> int:
    values = [one.attribution.values for one in answer if isinstance(one, Explanation)]
    return _OVERHEAD + sum(one.numel() * one.element_size() for one in values)


_answers: Recent[_Answer] = Recent(MAX_BYTES, _size)


def _key(what: str, model: ImageModel, sha256: str, spec: Spec, method: str, settings: Mapping, view: View) -> tuple:
    return what, model.name, model.identity, model.said, sha256, spec, method, tuple(sorted(settings.items())), view


def cost(model: str, method: str, settings: Mapping, spec: Spec) -> Cost:
    """Of an answer that is not there yet, without its comparison."""
    kind = ("saliency", model, method, settings.get("window"), settings.get("stride"))
    return Cost(kind, passes(settings) * answers_to(spec))


def other_picture(spec: Spec) -> Image.Image | None:
    """The one that is explained too, where a likeness is asked for both ways."""
    return spec.reference.content if isinstance(spec, SimilarTo) and spec.both else None


def steady_cost(model: str, method: str, settings: Mapping, spec: Spec) -> Cost:
    """Of an answer's steadiness that is not there yet."""
    one = cost(model, method, settings, spec)
    return replace(one, amount=COPIES * one.amount)


def explained(
    model: ImageModel,
    picture: Image.Image,
    sha256: str,
    spec: Spec,
    method: str,
    settings: Mapping,
    view: View = EVALUATED,
) -> tuple[Explanation, ...]:
    """`explain_each`, unless it was answered before. What it returns is shared: it must not be changed.

    Args:
        sha256: of the picture's file, which stands for the picture.

    Raises:
        LSDError: what `explain_each` raises.
    """
    key = _key("explain", model, sha256, spec, method, settings, view)

    def compute() -> tuple[Explanation, ...]:
        with room_for_method(model, method, settings), measured(cost(model.name, method, settings, spec)):
            return tuple(gpu.call(explain_each, model, picture, spec, method, view=view, **settings))

    return _answers.get(key, compute)


def checked(
    model: ImageModel,
    picture: Image.Image,
    sha256: str,
    spec: Spec,
    explanations: Sequence[Explanation],
    settings: Mapping,
) -> tuple[CrossCheck, ...]:
    """The comparison with Captum of each explanation of an answer, unless it was made before; () for Captum's own methods."""
    method = explanations[0].attribution.method
    if method.startswith("captum:"):
        return ()

    def compute(under: Sequence[Image.Image]) -> tuple[CrossCheck, ...]:
        with room_for_method(model, method, settings, check=True):
            return tuple(
                gpu.call(crosscheck_explanation, model, shown, explanation, dict(settings))
                for shown, explanation in zip(under, explanations, strict=True)
            )

    return _told_of("check", model, picture, sha256, spec, explanations, settings, compute)


def steadied(
    model: ImageModel,
    picture: Image.Image,
    sha256: str,
    spec: Spec,
    explanations: Sequence[Explanation],
    settings: Mapping,
) -> tuple[Steadiness | None, ...]:
    """`steadiness_of_each` of an answer's explanations, unless it was measured before.

    Raises:
        LSDError: what `steadiness_of_each` raises.
    """
    method = explanations[0].attribution.method

    def compute(under: Sequence[Image.Image]) -> tuple[Steadiness | None, ...]:
        room = room_for_method(model, method, settings, pictures=COPIES)
        with room, measured(steady_cost(model.name, method, settings, spec)):
            return gpu.call(steadiness_of_each, model, under, explanations, dict(settings))

    return _told_of("steady", model, picture, sha256, spec, explanations, settings, compute)


def _told_of(
    what: str,
    model: ImageModel,
    picture: Image.Image,
    sha256: str,
    spec: Spec,
    explanations: Sequence[Explanation],
    settings: Mapping,
    compute: Callable[[Sequence[Image.Image]], _Answer],
) -> _Answer:
    """What is told of an answer, one thing for each of its explanations: `compute` of the pictures that they are of, unless it was
    told before."""
    first = explanations[0]
    key = _key(what, model, sha256, spec, first.attribution.method, settings, first.view)
    return _answers.get(key, lambda: compute(pictures_under(picture, explanations, other_picture(spec))))


def is_there(
    what: str,
    model: ImageModel,
    sha256: str,
    spec: Spec,
    method: str,
    settings: Mapping,
    view: View = EVALUATED,
) -> bool:
    """Whether the explanation ("explain"), its comparison ("check") or its steadiness ("steady") is there already, or there is
    none to make."""
    none_to_make = what == "check" and method.startswith("captum:")
    return none_to_make or _key(what, model, sha256, spec, method, settings, view) in _answers
