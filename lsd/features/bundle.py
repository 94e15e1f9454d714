"""What is kept of a run: pictures, a contact sheet, the ascent as a film, and a manifest to make them again from.

Pure: everything is returned as bytes by file name, and whoever asked writes it.
"""

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from lsd import provenance, render
from lsd.errors import LSDError
from lsd.features.judge import Verdict, classify, clipped, contrast, fine_energy, flatness
from lsd.features.pictures import Job, Picture, Snapshot, to_pixels
from lsd.features.recipes import Recipe
from lsd.features.units import Unit, title
from lsd.models import ImageModel
from lsd.provenance import environment, png, slug
from lsd.said import NOTHING, Said

FORMAT = 1
_KIND = "features"
FILM_CELLS = 16  # pictures in one film; a thousand would be a film of dots
_FILM_CELL = 160
_NAME_LENGTH = 120


@dataclass(frozen=True)
class Request:
    """What was asked for, as plain values, enough to ask again.

    Attributes:
        model: the model's name.
        units: as strings, in order.
        seeds, recipe: as in `ascend`.
        batch_size: as in `ascend`, one number or None; another one can change the last bits.
        others: names of further models that units belong to.
        photo: {"file", "path", "sha256"} of the photo, or None.
        start_from_photo: whether it was the start.
        said: what was said of the model.
        said_of_others: (name, what was said of it), of the others and of models that only judge.
    """

    model: str
    units: tuple[str, ...]
    seeds: tuple[int, ...]
    recipe: Recipe
    batch_size: int | None = None
    others: tuple[str, ...] = ()
    photo: dict | None = None
    start_from_photo: bool = False
    said: Said = NOTHING
    said_of_others: tuple[tuple[str, Said], ...] = ()

    def to_dict(self) -> dict:
        """As plain JSON values; "said" and "said_of_others" only where something was."""
        values = vars(self) | {"recipe": self.recipe.to_dict(), "units": list(self.units), "seeds": list(self.seeds)}
        del values["said"], values["said_of_others"]
        if self.said:
            values["said"] = self.said.to_dict()
        if self.said_of_others:
            values["said_of_others"] = {name: said.to_dict() for name, said in self.said_of_others}
        return values

    @classmethod
    def from_dict(cls, values: dict) -> "Request":
        """The inverse of `to_dict`. Raises LSDError for values that are not those of a request."""
        try:
            return cls(
                **values | {
                    "recipe": Recipe.from_dict(values["recipe"]), "units": tuple(values["units"]),
                    "seeds": tuple(int(s) for s in values["seeds"]), "others": tuple(values.get("others", ())),
                    "said": Said.from_dict(values.get("said", {})),
                    "said_of_others": tuple(
                        (name, Said.from_dict(said)) for name, said in values.get("said_of_others", {}).items()
                    ),
                }
            )  # fmt: skip
        except (TypeError, KeyError, AttributeError) as error:
            raise LSDError("That manifest's request is damaged; make the pictures again.") from error


def file_name(job: Job) -> str:
    """`class_207.0.png`: the unit with everything but letters, digits, dots and dashes as _, then the seed."""
    name = slug(str(job.unit))
    if len(name) > _NAME_LENGTH:  # a long sum: its beginning, and a hash to tell it apart
        name = f"{name[:_NAME_LENGTH]}-{hashlib.sha256(str(job.unit).encode()).hexdigest()[:8]}"
    return f"{name}.{job.seed}.png"


def names(jobs: Sequence[Job]) -> set[str]:
    """What the files of a bundle are called."""
    return {file_name(job) for job in jobs} | {"sheet.png", "ascent.gif", "manifest.json"}


def pixels_sha256(pixels: np.ndarray) -> str:
    """SHA-256 of a picture's bytes, uint8 (H, W, 3), in hex."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def result(
    picture: Picture,
    unit_title: str,
    own: Verdict | None,
    verifiers: Sequence[Verdict],
    strongest_photo: float | None = None,
) -> dict:
    """One picture's entry in the manifest; `strongest_photo` is the unit's largest value over a set of photos."""
    return {
        "unit": str(picture.job.unit),
        "seed": picture.job.seed,
        "title": unit_title,
        "file": file_name(picture.job),
        "sha256": pixels_sha256(picture.pixels),
        "score": _number(picture.score),
        "strongest_photo": None if strongest_photo is None else _number(strongest_photo),
        "trace": [_number(value) for value in picture.trace[:: max(1, len(picture.trace) // 64)]],
        "status": picture.status,
        "notes": list(picture.notes),
        "contrast": round(contrast(picture.pixels), 5),
        "clipped": round(clipped(picture.pixels), 5),
        "flat": flatness(picture.pixels),
        "restarts": picture.restarts,
        "steps": len(picture.trace),
        "seconds": round(picture.seconds, 3),
        "fine_energy": round(fine_energy(picture.pixels), 5),
        "top": None if own is None else _top(own),
        "verifiers": {verdict.model: _top(verdict) for verdict in verifiers},
    }


def results(
    pictures: Sequence[Picture],
    model: ImageModel,
    judges: Sequence[ImageModel] = (),
    strongest: Mapping[Unit, float] | None = None,
) -> list[dict]:
    """Each picture's `result`, with what its own network and the judges, those that have classes, take it for."""
    pixels = [picture.pixels for picture in pictures]
    own = classify(pixels, model) if model.num_classes else [None] * len(pixels)
    others = [classify(pixels, judge) for judge in judges if judge.num_classes]
    return [
        result(
            picture, title(picture.job.unit, model), own[i], [other[i] for other in others],
            (strongest or {}).get(picture.job.unit),
        )
        for i, picture in enumerate(pictures)
    ]  # fmt: skip


def _number(value: float) -> float | None:
    """Six digits; JSON has no infinity."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _top(verdict: Verdict) -> list[dict]:
    return [{"index": i, "name": name, "probability": round(p, 6)} for i, name, p in verdict.top]


def manifest(
    request: Request,
    model: ImageModel,
    results: Sequence[dict],
    batches: Sequence[int],
    spreads: Mapping[Unit, float] | None = None,
) -> dict:
    """Everything that determines the pictures, and what came out, as plain JSON values.

    It has "names_assumed" where nothing but their number says that the model's class names are its own.

    Args:
        batches: how many of the results, in their order, were made together: what was run, whatever was asked for.
        spreads: of the units with several seeds, see `judge.spreads`.
    """
    return {
        "format": FORMAT,
        "kind": _KIND,
        "request": request.to_dict(),
        "recipe_hash": request.recipe.hash,
        "weights": model.identity.to_dict(),
        **({"names_assumed": True} if model.names_assumed else {}),
        "results": list(results),
        "batches": list(batches),
        "spreads": {str(unit): round(distance, 4) for unit, distance in (spreads or {}).items()},
        "environment": environment(model.device),
    }


def read_manifest(data: bytes | str) -> dict:
    """A manifest's JSON, as `provenance.read_manifest` checks it."""

    def is_whole(record: dict) -> bool:
        return all(name in record for name in ("request", "weights", "results", "environment"))

    otherwise = "That manifest is not one of feature visualizations; give the manifest.json beside the pictures."
    return provenance.read_manifest(data, kind=_KIND, format=FORMAT, is_whole=is_whole, otherwise=otherwise)


def manifest_bytes(record: dict) -> bytes:
    """A manifest as the bytes of its file."""
    return (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()


def sheet(pictures: Sequence[Picture], titles: Sequence[str], heading: str, columns: int = 8) -> bytes:
    """A contact sheet as PNG: strip after strip of pictures under their titles."""
    row = [Image.fromarray(picture.pixels) for picture in pictures]
    return png(render.wrapped_sheet([row], [], list(titles), heading, columns=columns, cell=160))


class Film:
    """Collects how the first pictures of a run form, and puts it out as an animated GIF."""

    def __init__(self, cells: int = FILM_CELLS):
        self._cells = cells
        self._frames: list[dict[Job, np.ndarray]] = []

    def add(self, snapshot: Snapshot) -> None:
        """Take in a snapshot; batches that come after the film is full are passed over."""
        if snapshot.done - (len(snapshot.jobs) if snapshot.finished else 0) >= self._cells:
            return
        small = to_pixels(_shrunk(snapshot.images[: self._cells]))
        self._frames.append(dict(zip(snapshot.jobs, small, strict=False)))

    def gif(self) -> bytes | None:
        """The film, each batch in turn, the last frame held; None if there is nothing to show."""
        if not self._frames:
            return None
        jobs = list(dict.fromkeys(job for frame in self._frames for job in frame))[: self._cells]
        columns = math.ceil(math.sqrt(len(jobs)))
        latest: dict[Job, np.ndarray] = {}
        frames = []
        for frame in self._frames:
            latest |= frame
            canvas = np.full(
                (math.ceil(len(jobs) / columns) * _FILM_CELL, columns * _FILM_CELL, 3), 250, dtype=np.uint8
            )
            for place, job in enumerate(jobs):
                if job in latest:
                    y, x = (place // columns) * _FILM_CELL, (place % columns) * _FILM_CELL
                    height, width = latest[job].shape[:2]
                    canvas[y : y + height, x : x + width] = latest[job]
            frames.append(Image.fromarray(canvas))
        buffer = io.BytesIO()
        durations = [120] * (len(frames) - 1) + [2500]
        frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
        return buffer.getvalue()


def _shrunk(images: Tensor) -> Tensor:
    """In their proportions, with the longer side of a cell."""
    from torch.nn.functional import interpolate

    size = [max(1, round(n * _FILM_CELL / max(images.shape[2:]))) for n in images.shape[2:]]
    return interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
