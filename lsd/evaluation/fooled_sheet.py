"""The worked cases of what fools networks as contact sheets and text, for docs/mistakes.md."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from lsd import labels, render
from lsd.catalogue import common_name
from lsd.evaluation.composed import THINGS, compose
from lsd.evaluation.contrast_maps import mistake_maps
from lsd.evaluation.fooled_cases import CAUSES, Evidence, FooledCase, why
from lsd.images import crop_box, lay_on, prepare
from lsd.models import get_model
from lsd.saliency.maps import MapSettings, to_map
from lsd.saliency.methods import find_method

CELL, COLUMNS = 150, 8


def surest(case: FooledCase, cause: str) -> tuple[str, Evidence] | None:
    """The network that is most fooled by this cause, and its evidence; None where none is."""
    fooled = [(model, one) for model, one in case.evidence.items() if one.cause == cause]
    return max(fooled, key=lambda one: one[1].answer.probability, default=None)


def by_cause(cases: Sequence[FooledCase]) -> dict[str, list[tuple[FooledCase, str, Evidence]]]:
    """Cause → its cases, each once, with the network that is most fooled."""
    found: dict[str, list] = {cause: [] for cause in CAUSES}
    for case in cases:
        causes = [one.cause for one in case.evidence.values()]
        cause = max(dict.fromkeys(causes), key=causes.count)
        found[cause].append((case, *surest(case, cause)))
    return found


def sheet(chosen: Sequence[tuple[FooledCase, str, Evidence]]) -> Image.Image:
    """Each picture over the map of the answer that is told above it."""
    pictures = [compose(case.recipe).picture for case, _, _ in chosen]
    maps = [_map(picture, case, *rest) for picture, (case, *rest) in zip(pictures, chosen, strict=True)]
    names = labels.class_names(1000)
    heads = [
        f"{labels.short(names[e.answer.said])} {e.answer.probability:.0%} for {case.recipe.thing}"
        for case, _, e in chosen
    ]
    return render.wrapped_sheet([pictures, maps], [], heads, columns=COLUMNS, cell=CELL)


def _map(picture: Image.Image, case: FooledCase, name: str, found: Evidence) -> Image.Image:
    """The default method's map for the answer, over the whole picture."""
    model = get_model(name)
    image = torch.from_numpy(prepare(picture, model.spec))[None].to(model.device, model.dtype)
    one = mistake_maps(model, image, THINGS[case.recipe.thing].number, found.answer.said)["predicted"]
    settings = MapSettings(sign=find_method(one.method).sign)
    size = (model.spec.height, model.spec.width)
    drawn = to_map(one.values[:1].detach().cpu().numpy(), settings, size)[0]
    box = crop_box(picture.size, model.spec)
    laid = lay_on(drawn, box, picture.size)
    return Image.fromarray(render.overlay(np.asarray(picture), laid, "heatmap", signed=False, opacity=0.75))


def markdown(cases: Sequence[FooledCase], folder: str) -> str:
    """A heading, the sheet and the evidence of the first case for each cause; `folder` holds the sheets."""
    names, parts = labels.class_names(1000), []
    for cause, chosen in by_cause(cases).items():
        if chosen:
            case, model, found = chosen[0]
            said = labels.short(names[found.answer.said])
            parts.append(
                f"**{CAUSES[cause].capitalize()}** ({len(chosen)})\n\n![{len(chosen)} pictures and the maps of wrong answers]"
                f"({folder}/{file_name(cause)})\n\nThe first, *{case.name}*: {common_name(model)} says {said} "
                f"({found.answer.probability:.0%}). {why(found, case.recipe)}\n"
            )
    return "\n".join(parts)


def file_name(cause: str) -> str:
    """Of a cause's sheet."""
    return f"fooled-{cause}.jpg"
