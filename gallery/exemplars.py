"""The photos that excite a row's unit most: as the row tells of them, and cut out of the files, where those are at hand.

A row holds names, digests and boxes, and no photo unless copies were asked for. LSD_PHOTOS=/data/photos is the folder in which
the files are looked for; one that has other contents than the row's is not shown.
"""

import math
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gallery.pictures import cut
from lsd.errors import LSDError
from lsd.evaluation.trust_path import Step, overall
from lsd.images import file_sha256, open_image
from lsd.recent import Recent

_digests: Recent[str] = Recent(10_000)
_crops: Recent[bytes] = Recent(32 * 2**20, lambda data: len(data) + 200)
_at_once = threading.BoundedSemaphore(2)  # photos that are decoded, each up to 70 MB


@dataclass(frozen=True)
class Exemplar:
    """A part of a photo to which the unit answers.

    Attributes:
        file: path of the photo below its folder.
        digest: SHA-256 of the file.
        box: left, top, right, bottom, in pixels of the upright photo.
        value: the answer.
    """

    file: str
    digest: str
    box: tuple[int, int, int, int]
    value: float


@dataclass(frozen=True)
class Found:
    """What a row tells of photos.

    Attributes:
        count: how many were looked at.
        note: what is not there, and why, in sentences; "" if all is.
        value, below: the unit's answer to the picture, and the share of the photos to which it answers less; None if unknown.
        quantiles: of its answers to the photos, from the least to the largest.
        exemplars: the largest answer first.
        path: layer by layer, from the input on.
    """

    count: int
    note: str
    value: float | None
    below: float | None
    quantiles: tuple[float, ...]
    exemplars: tuple[Exemplar, ...]
    path: tuple[Step, ...]

    @property
    def likeness(self) -> float | None:
        """How much the picture takes the exemplars' path, 0 to 1; None if nothing tells."""
        return overall(self.path)


def read(row: Mapping[str, Any]) -> Found | None:
    """What a whole row tells of photos; None where none were looked at, or what it says cannot be."""
    photos = row.get("photos")
    if not photos or not photos.get("count"):
        return None
    try:
        exemplars = tuple(
            Exemplar(str(one["file"]), str(one["digest"]), _box(one["box"]), _number(one["value"]))
            for one in row.get("exemplars") or ()
        )
        path = tuple(_step(one) for one in row.get("path") or ())
        quantiles = tuple(_number(value) for value in photos["quantiles"] or ())
        if list(quantiles) != sorted(quantiles):
            raise ValueError(quantiles)
    except (KeyError, TypeError, ValueError):
        return None
    value, below = _finite(photos.get("value")), _finite(photos.get("below"))
    return Found(int(photos["count"]), str(photos.get("note") or ""), value, below, quantiles, exemplars, path)


def _step(values: Mapping[str, Any]) -> Step:
    numbers = {name: _number(values[name]) for name in ("picture", "alike", "next", "apart")}
    likeness = _finite(values["likeness"]) if numbers["alike"] > numbers["apart"] else None
    return Step(str(values["layer"]), **numbers, likeness=likeness)


def _box(values: Sequence[int]) -> tuple[int, int, int, int]:
    left, top, right, bottom = (int(value) for value in values)
    if not (0 <= left < right and 0 <= top < bottom):
        raise ValueError(values)
    return left, top, right, bottom


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def locate(exemplar: Exemplar) -> Path | None:
    """The photo's file below LSD_PHOTOS; None where it is not there, or is another photo."""
    folder, path = os.environ.get("LSD_PHOTOS"), PurePosixPath(exemplar.file)
    if not folder or path.is_absolute() or ".." in path.parts:  # a row may be anybody's
        return None
    file = Path(folder).expanduser() / path
    try:
        state = file.stat()
        digest = _digests.get((file, state.st_size, state.st_mtime_ns), lambda: file_sha256(file))
    except (OSError, ValueError, LSDError):
        return None
    return file if digest == exemplar.digest else None


def crop(exemplar: Exemplar) -> bytes:
    """The part of the photo as WebP; b"" where the photo is not at hand, cannot be read, or has no such part."""
    file = locate(exemplar)
    if file is None:
        return b""
    return _crops.get((exemplar.digest, exemplar.box), lambda: _cut(file, exemplar.box))


def _cut(file: Path, box: tuple[int, int, int, int]) -> bytes:
    try:
        with _at_once:
            return cut(open_image(file), box)
    except LSDError:
        return b""
