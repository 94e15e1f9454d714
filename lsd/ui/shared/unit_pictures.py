"""What units look like to their network: drafts, made when they are asked for and kept by content for whoever asks next.

Those that the tab Reasons opens on were made beforehand and are shipped (`lsd.ui.reasons.first`), by the weights' digest, the
recipe and the unit.
"""

import functools
import hashlib
import logging
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lsd.features.recipes import Recipe
from lsd.images import fit_within
from lsd.models import ImageModel
from lsd.provenance import jpeg
from lsd.reasons.drawn import OF_UNITS, SIDE, drawing
from lsd.recent import Recent
from lsd.ui.shared import gpu
from lsd.ui.shared.pace import Cost, measured
from lsd.ui.shared.room import room_for_ascents

if TYPE_CHECKING:
    from gallery.queries import Entry

AT_ONCE = 2  # pictures that are made together: a CPU gains nothing by more, and whoever waits for his turn waits longer
_EVERY = 8  # steps between two looks at them
_MAX_BYTES = 64 * 2**20

SHIPPED = Path(__file__).with_name("unit_pictures.zip")

log = logging.getLogger("lsd")

_kept: Recent[bytes] = Recent(_MAX_BYTES, len)


def key(model: ImageModel, unit: str) -> tuple:
    return model.name, model.identity, model.said, unit


def kept(model: ImageModel, units: Sequence[str]) -> dict[str, bytes]:
    """Unit → its picture (JPEG), of those that were drawn already, or are shipped; b"" of one that no gradient reaches."""
    shipped = _shipped()
    found = {unit: shipped[name] for unit in units if (name := file_name(model, unit)) in shipped}
    return found | {unit: _kept.get(key(model, unit), bytes) for unit in units if key(model, unit) in _kept}


def file_name(model: ImageModel, unit: str) -> str:
    """By which a unit's picture is shipped: another one for other weights, and for another recipe."""
    return hashlib.sha256(f"{model.identity.digest} {OF_UNITS.hash} {unit}".encode()).hexdigest()[:32] + ".jpg"


@functools.cache
def _shipped() -> Mapping[str, bytes]:
    """File name → picture; none where the file is missing or damaged, which the log says."""
    try:
        with zipfile.ZipFile(SHIPPED) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        log.warning("No pictures of units are there beforehand: %s", error)
        return {}


def in_gallery(model: ImageModel, units: Sequence[str]) -> "dict[str, Entry]":
    """Unit → its row, of those units that the gallery has of these very weights."""
    from gallery.kept import kept_entries  # with DuckDB, which the page need not wait for when it starts
    from gallery.source import open_gallery

    return kept_entries(model, units, open_gallery())


def cost(model: ImageModel, units: Sequence[str]) -> Cost:
    """Of drawing them."""
    return Cost(("unit pictures", model.name), len(units))


def draw(model: ImageModel, units: Sequence[str], recipe: Recipe = OF_UNITS) -> Iterator[tuple[dict[str, bytes], bool]]:
    """Unit → its picture (JPEG) as it is now, again and again; and whether these are finished, and kept from then on.

    Raises:
        LSDError: what `ascend` raises; too little memory.
    """
    with (
        room_for_ascents([([model], recipe, len(units))]), measured(cost(model, units)),
        closing(gpu.steps(drawing, model, units, recipe, every=_EVERY)) as steps,
    ):  # fmt: skip
        for forming, finished in steps:
            made = {unit: _small(pixels) for unit, pixels in forming.items() if unit not in finished}
            for unit, drawn in finished.items():
                made[unit] = data = b"" if drawn.dead else _small(drawn.pixels)
                _kept.get(key(model, unit), lambda data=data: data)
            yield made, bool(finished)


def _small(pixels: np.ndarray) -> bytes:
    return jpeg(fit_within(Image.fromarray(pixels), SIDE))
