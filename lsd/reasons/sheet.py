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
_OPACITY = 0.75


def on_photo(found: Answer, one: Reason, side: int) -> Image.Image:
    """The photo, `side` pixels at most, with a reason's places on it as a heat map; of one that speaks against, where it does.

    What the model did not see is dimmed. A reason without a map has the plain photo.
    """
    photo = fit_within(found.picture, side)
    if one.map is None:
        return photo
    scale = photo.width / found.picture.width
    box = tuple(edge * scale for edge in found.box)
    whole = box[0] < 1 and box[1] < 1 and box[2] > photo.width - 1 and box[3] > photo.height - 1
    return heated(photo, -one.map if one.share < 0 else one.map, box, None if whole else box)


def on_class(found: Answer, one: Missing, side: int) -> Image.Image:
    """The class's own picture, with the places on it where it has what the photo lacks."""
    own = fit_within(Image.fromarray(found.class_picture.pixels), side)
    return own if one.map is None else heated(own, one.map, (0, 0, *own.size), None)


def heated(picture: Image.Image, values: Tensor, box: tuple, frame: tuple | None) -> Image.Image:
    """A picture with what is above zero of a map (h, w) on it, in `box` (left, top, right, bottom); all but `frame` is dimmed."""
    positive = values.float().cpu().clamp(min=0)
    laid = lay_on((positive / positive.max().clamp(min=1e-12)).numpy(), box, picture.size)
    shown = render.overlay(np.asarray(picture), laid, "heatmap", signed=False, opacity=_OPACITY, box=frame)
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
            ["It says", *(f"{one['name']} {percent(one['probability'])}" for one in result["top"])], _CELL
        ),
        render.text_cell(["Switched off", *words.test(result)], _CELL) if words.test(result) else None,
    ]
    head += [None] * (_COLUMNS - len(head))
    title = f"{found.model.name}: {result['sentence']['text']}"
    strips = [render.contact_sheet([head], [], [], title, _CELL)]
    told = (
        (f"The same as a few groups of channels of {found.reasons.layer}", found.reasons.groups, result["groups"]),
        (f"{words.kind(result).capitalize()}s of {found.reasons.layer}", found.reasons.channels, result["channels"]),
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
