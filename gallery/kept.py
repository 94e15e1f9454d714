"""The gallery as one who keeps pictures of units, for whoever shows reasons."""

import json
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from gallery.queries import Entry, Gallery
from gallery.source import open_gallery
from lsd.errors import LSDError
from lsd.models import ImageModel
from lsd.reasons.drawn import Drawn


def kept_pictures(model: ImageModel, units: Sequence[str], gallery: Gallery | None = None) -> dict[str, Drawn]:
    """Unit → its picture in the gallery, of those that were made with the model's very weights; the first recipe and seed.

    A picture whose shard cannot be had is as one that is not there.

    Args:
        gallery: the one that settings say by default.
    """
    gallery = gallery or open_gallery()
    found: dict[str, Drawn] = {}
    for unit, entry in kept_entries(model, units, gallery).items():
        try:
            recipe, picture = json.loads(gallery.details(entry)["recipe_json"]), gallery.picture(entry)
        except LSDError:
            continue
        pixels = np.array(Image.open(BytesIO(picture)).convert("RGB"))
        found[unit] = Drawn(unit, pixels, recipe, entry.seed, f"gallery: {entry.unit_id}")
    return found


def kept_entries(model: ImageModel, units: Sequence[str], gallery: Gallery) -> dict[str, Entry]:
    """Unit → its row, of those that the gallery has of the model's very weights; the first recipe and seed."""
    mine = [
        entry for entry in gallery.of_units(model.name, units)
        if entry.status == "ok" and model.identity.is_of(entry.weights_digest, entry.weights_sha256)
    ]  # fmt: skip
    return {entry.unit: entry for entry in reversed(mine)}
