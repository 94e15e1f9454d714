"""Reasons as pictures: maps on the photo, and the sheet."""

import numpy as np
from PIL import Image
from torch import Tensor

from lsd import render
from lsd.images import fit_within, lay_on
from lsd.reasons import words
from lsd.reasons.answer import Answer
from lsd.reasons.explain import Reason
from lsd.reasons.missing import Missing
from lsd.reasons.sentence import percent

_CELL = 176
_COLUMNS = 6
_DARK = 0.75  # of the light where a reason does not lie


def on_photo(found: Answer, one: Reason, side: int) -> Image.Image:
    """The photo, `side` pixels at most, light where a reason lies and dark elsewhere; of one that speaks against, where it does.

    A reason without a map has the plain photo.
    """
    photo = fit_within(found.picture, side)
    if one.map is None:
        return photo
    scale = photo.width / found.picture.width
    box = tuple(edge * scale for edge in found.box)
    return _lit(photo, -one.map if one.share < 0 else one.map, box)


def on_class(found: Answer, one: Missing, side: int) -> Image.Image:
    """The class's own picture, light where it has what the photo lacks."""
    own = fit_within(Image.fromarray(found.class_picture.pixels), side)
    return own if one.map is None else _lit(own, one.map, (0, 0, *own.size))


def _lit(picture: Image.Image, values: Tensor, box: tuple[float, float, float, float]) -> Image.Image:
    positive = values.float().cpu().clamp(min=0)
    laid = lay_on((positive / positive.max().clamp(min=1e-12)).numpy(), box, picture.size)
    # The root keeps middling places visible, as in a heat map.
    shown = render.overlay(np.asarray(picture), np.sqrt(laid), "mask", signed=False, opacity=_DARK)
    return Image.fromarray(shown)


def sheet(found: Answer, result: dict) -> Image.Image:
    """The photo, the decision as a sentence, and of each reason its picture, its places, its share, and what is said without it:
    groups first, then channels, two beside each other.

    Args:
        result: of this model in the manifest.
    """
    head = [
        fit_within(found.picture, 2 * _CELL),
        render.text_cell(
            [found.model.name, *(f"{one['name']} {percent(one['probability'])}" for one in result["top"])], _CELL
        ),
        render.text_cell(["Switched off", *words.test(result)], _CELL) if words.test(result) else None,
    ]
    head += [None] * (_COLUMNS - len(head))
    strips = [render.contact_sheet([head], [], [], result["sentence"]["text"], _CELL)]
    told = (
        (f"The same as a few groups of channels of {found.reasons.layer}", found.reasons.groups, result["groups"]),
        (f"Channels of {found.reasons.layer}", found.reasons.channels, result["channels"]),
    )
    for title, reasons, results in told:
        cells = [_cells(found, one, own, result) for one, own in zip(reasons, results, strict=True)]
        if cells:
            rows = [[cell for two in cells[i : i + 2] for cell in two] for i in range(0, len(cells), 2)]
            strips.append(render.contact_sheet(rows, [], [], title, _CELL))
    return render.stacked(strips)


def _cells(found: Answer, one: Reason, told: dict, result: dict) -> list[Image.Image]:
    drawn = found.pictures.get(one.unit)
    lines = [percent(one.part), words.name(one.unit, found.reasons.layer)]
    lines += [f"perhaps “{told['guess']}”"] if told.get("guess") else []
    return [
        *([Image.fromarray(drawn.pixels)] if drawn else []),
        on_photo(found, one, _CELL),
        render.text_cell([*lines, words.without(told, result)], _CELL),
    ]
