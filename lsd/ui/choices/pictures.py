"""The levels of a choice as pictures: one picture, one model, and the map of each level laid over it."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lsd import render
from lsd.catalogue import common_name
from lsd.errors import UndefinedError
from lsd.evaluation.attributions import attributions, runner_up, targets
from lsd.evaluation.variants import FACTORS, Factor, Source, Variant, draw
from lsd.images import crop_box, fit_within, lay_on, open_image
from lsd.labels import short
from lsd.models import ImageModel
from lsd.saliency.explain import to_input
from lsd.saliency.methods import attribute
from lsd.saliency.views import Look
from lsd.ui.choices import texts
from lsd.ui.shared.jobs import doing

SIDE = 420  # pixels of the shown pictures' longer side


@dataclass
class Case:
    """One picture and one model: what the model says, and the levels' pictures so far.

    Attributes:
        classes: the model's first choice and the runner-up.
        shown: level → picture with its map.
        missing: level → why there is none.
    """

    model: ImageModel
    picture: Image.Image
    box: tuple[float, float, float, float]
    image: torch.Tensor
    classes: tuple[int, int]
    probability: float
    shown: dict[str, Image.Image] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """ "Demo ResNet says plain circle, 98%"."""
        named = short(self.model.class_names[self.classes[0]])
        return f"{common_name(self.model.name)} says {named}, {texts.percent(self.probability)}"


def cases(model: ImageModel, path: str | Path, factor: str) -> Iterator[Case]:
    """The case, whenever it has come further: the maps of a few passes first.

    Raises:
        LSDError: a file that is no picture, or a model without two classes to tell apart.
    """
    case = _open_case(model, path)
    for levels in _groups(FACTORS[factor]):
        doing(", ".join(texts.name(factor, v.level) for v in levels))
        _explain(case, levels)
        yield case


def _open_case(model: ImageModel, path: str | Path) -> Case:
    """Let the model classify the picture."""
    if model.num_classes < 2:
        raise UndefinedError(f"{model.name} has no classes to tell apart, so there is nothing to explain.")
    picture = open_image(path)
    small = fit_within(picture, SIDE)
    scale = small.width / picture.width
    left, top, right, bottom = (edge * scale for edge in crop_box(picture.size, model.spec))
    image = to_input(model, picture)
    with torch.no_grad():
        probabilities = model.probabilities(image)[0].double().cpu()
    first = int(probabilities.argmax())
    classes = (first, runner_up(model, image, first))
    return Case(model, small, (left, top, right, bottom), image, classes, probabilities[first].item())


def _groups(factor: Factor) -> Iterator[tuple[Variant, ...]]:
    """The levels that are computed together, since they share passes: those of a few passes first."""
    by_settings = sorted(factor.levels, key=lambda v: (v.source.dear, repr(v.source.settings)))
    for _, group in itertools.groupby(by_settings, key=lambda v: v.source.settings):
        yield tuple(group)


def _explain(case: Case, levels: Sequence[Variant]) -> None:
    """Compute the levels' maps, and add them to the case; or the reason why there is none."""
    (found,) = attributions(case.model, case.image, dict.fromkeys(v.source for v in levels), [case.classes])
    for variant in levels:
        if variant.source in found:
            case.shown[variant.level] = _overlay(case, variant, found)
        else:
            case.missing[variant.level] = _reason(case, variant.source)


def _overlay(case: Case, variant: Variant, found: Mapping[Source, np.ndarray]) -> Image.Image:
    """As the Saliency tab draws it by default."""
    finished = draw(found[variant.source], variant.drawing, case.image[0].float().cpu().numpy())
    laid = lay_on(finished, case.box, case.picture.size)
    shown = render.overlay(np.asarray(case.picture), laid, Look.style, signed=False, opacity=Look.opacity)
    return Image.fromarray(shown)


def _reason(case: Case, source: Source) -> str:
    """`attributions` leaves out what is not defined; asked alone, the method says why."""
    target = targets(case.model, *case.classes)[source.kind]
    try:
        attribute(source.method, case.model, case.image, target, **dict(source.settings))
    except UndefinedError as error:
        return str(error)
    return "it is not defined together with the other levels."
