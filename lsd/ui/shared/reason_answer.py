"""What the page found of reasons as the library's answer, from which sheets and bundles are made."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from lsd.models import ImageModel
from lsd.reasons.answer import Answer, first_classes
from lsd.reasons.drawn import OF_UNITS, Drawn
from lsd.ui.shared import unit_pictures
from lsd.ui.shared.reasoned import Account
from lsd.view import EVALUATED


def answer_of(account: Account, model: ImageModel, picture: Image.Image) -> Answer:
    """The answer of an account of this picture, with the pictures of units that are there.

    Raises:
        LSDError: a shard of the gallery cannot be read.
    """
    top = first_classes(model, account.reasons.logits)
    found = Answer(model, picture, EVALUATED, account.box, top, account.reasons, account.tried, account.seconds)
    return replace(found, pictures=_pictures(model, [one.unit for one in found.told]))


def _pictures(model: ImageModel, units: Sequence[str]) -> Mapping[str, Drawn]:
    """Unit → its picture, of those that the gallery has, or that were drawn for the page."""
    from gallery.kept import kept_pictures  # with DuckDB, which the page need not wait for when it starts

    there = unit_pictures.kept(model, units)
    return {unit: _thumbnail(unit, data) for unit, data in there.items() if data} | kept_pictures(model, units)


def _thumbnail(unit: str, data: bytes) -> Drawn:
    pixels = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    return Drawn(unit, pixels, OF_UNITS.to_dict(), 0, "draft, reduced to a thumbnail")
