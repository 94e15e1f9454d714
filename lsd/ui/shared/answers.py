"""Explanations kept by content: the same question is answered once, for all visitors."""

from collections.abc import Mapping

from PIL import Image

from lsd.models import ImageModel
from lsd.recent import Recent
from lsd.saliency.crosscheck import CrossCheck, crosscheck_explanation
from lsd.saliency.explain import Explanation, SimilarTo, TargetSpec, explain
from lsd.ui.shared import gpu
from lsd.ui.shared.pace import Cost, measured
from lsd.ui.shared.room import room_for_method
from lsd.view import EVALUATED, View

MAX_BYTES = 256 * 2**20  # some four hundred maps of 224 × 224 pixels
_OVERHEAD = 4096  # bytes of an answer besides its map


def _size(answer: Explanation | CrossCheck | None) -> int:
    values = answer.attribution.values if isinstance(answer, Explanation) else None
    return _OVERHEAD + (0 if values is None else values.numel() * values.element_size())


_answers: Recent[Explanation | CrossCheck | None] = Recent(MAX_BYTES, _size)


def _key(
    what: str, model: ImageModel, sha256: str, spec: TargetSpec | SimilarTo, method: str, settings: Mapping, view: View
) -> tuple:
    return what, model.name, model.identity, model.said, sha256, spec, method, tuple(sorted(settings.items())), view


def cost(model: str, method: str, settings: Mapping) -> Cost:
    """Of an explanation that is not there yet, without its comparison."""
    passes = settings.get("samples", settings.get("steps", 1))
    return Cost(("saliency", model, method, settings.get("window"), settings.get("stride")), passes)


def explained(
    model: ImageModel,
    picture: Image.Image,
    sha256: str,
    spec: TargetSpec | SimilarTo,
    method: str,
    settings: Mapping,
    view: View = EVALUATED,
) -> Explanation:
    """`explain`, unless it was answered before. What it returns is shared: it must not be changed.

    Args:
        sha256: of the picture's file, which stands for the picture.

    Raises:
        LSDError: what `explain` raises.
    """
    key = _key("explain", model, sha256, spec, method, settings, view)

    def compute() -> Explanation:
        with room_for_method(model, method, settings), measured(cost(model.name, method, settings)):
            return gpu.call(explain, model, picture, spec, method, view=view, **settings)

    return _answers.get(key, compute)


def checked(
    model: ImageModel,
    picture: Image.Image,
    sha256: str,
    spec: TargetSpec | SimilarTo,
    explanation: Explanation,
    settings: Mapping,
) -> CrossCheck | None:
    """The comparison of an explanation with Captum, unless it was made before; None for Captum's own methods."""
    method = explanation.attribution.method
    if method.startswith("captum:"):
        return None
    key = _key("check", model, sha256, spec, method, settings, explanation.view)

    def compute() -> CrossCheck:
        with room_for_method(model, method, settings, check=True):
            return gpu.call(crosscheck_explanation, model, picture, explanation, dict(settings))

    return _answers.get(key, compute)


def is_there(
    what: str,
    model: ImageModel,
    sha256: str,
    spec: TargetSpec | SimilarTo,
    method: str,
    settings: Mapping,
    view: View = EVALUATED,
) -> bool:
    """Whether the explanation ("explain") or its comparison ("check") is there already, or there is none to make."""
    none_to_make = what == "check" and method.startswith("captum:")
    return none_to_make or _key(what, model, sha256, spec, method, settings, view) in _answers
