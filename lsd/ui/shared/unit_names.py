"""What networks other than their own see in units' pictures, by which the page names them, as a guess.

Of a picture in the gallery its row says what they saw; a draft is shown to those networks that are loaded anyway.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from lsd.errors import LSDError
from lsd.features.judge import Verdict, classify
from lsd.models import ImageModel
from lsd.recent import Recent
from lsd.ui.shared import gpu, unit_pictures

_MOST = 5000  # units whose verdicts are kept

_kept: Recent[tuple[Verdict, ...]] = Recent(_MOST)


def verdicts(model: ImageModel, units: Sequence[str], judges: Sequence[ImageModel]) -> dict[str, tuple[Verdict, ...]]:
    """Unit → what they take its picture for, of those units that have a picture and were judged.

    Args:
        judges: of drafts; with classes.
    """
    who = tuple(judge.name for judge in judges)
    keys = {unit: (*unit_pictures.key(model, unit), who) for unit in units}
    missing = [unit for unit in units if keys[unit] not in _kept]
    said = _of_gallery(model, missing)
    drafts = {unit: data for unit, data in unit_pictures.kept(model, missing).items() if data and unit not in said}
    said |= _of_drafts(drafts, judges)
    for unit, found in said.items():
        _kept.get(keys[unit], lambda found=found: tuple(one for one in found if one.model != model.name))
    return {unit: _kept.get(key, tuple) for unit, key in keys.items() if key in _kept}


def _of_gallery(model: ImageModel, units: Sequence[str]) -> dict[str, list[Verdict]]:
    """Those of rows that were judged; none of a row whose shard cannot be read."""
    from gallery.source import open_gallery  # with DuckDB, which the page need not wait for when it starts

    found, gallery = {}, open_gallery()
    for unit, entry in unit_pictures.in_gallery(model, units).items():
        try:
            judged = gallery.details(entry)["verifiers"]
        except LSDError:
            continue
        if judged:
            found[unit] = [
                Verdict(one["model"], tuple((top["index"], top["name"], top["probability"]) for top in one["top"]))
                for one in judged
            ]
    return found


def _of_drafts(drafts: Mapping[str, bytes], judges: Sequence[ImageModel]) -> dict[str, list[Verdict]]:
    if not drafts or not judges:
        return {}
    pixels = [np.array(Image.open(io.BytesIO(data)).convert("RGB")) for data in drafts.values()]
    said = [gpu.call(classify, pixels, judge) for judge in judges]
    return {unit: [of_judge[i] for of_judge in said] for i, unit in enumerate(drafts)}
