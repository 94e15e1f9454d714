"""Finished rows, and what excites their units in the user's photos: found in one pass over them for all units of a task."""

import contextlib
import functools
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from gallery import pictures
from gallery.schema import OF_PHOTOS
from lsd.errors import ImageError, UndefinedError
from lsd.evaluation import trust_path
from lsd.features.exemplars import Answers, Box, Strongest, answers, in_photo, taps
from lsd.features.judge import to_batch
from lsd.features.units import Unit, check, parse
from lsd.images import open_image
from lsd.layout import Layer
from lsd.models import ImageModel
from lsd.saliency.explain import to_input
from lsd.tracing import Tap, run_to
from precompute.photos import Photo, Photos

COUNT = 9  # exemplars of a unit
_OTHERS = 48  # photos taken without choice, evenly spread over all
_FEWEST = 4 * trust_path.FEWEST  # photos of which a path can be told: a quarter are exemplars, a quarter come next
_QUANTILES = 33
_BATCH = 8
_MEASURED = 16  # photos, and places in them, that tell what all of them take


class _Spot(NamedTuple):
    """A place in a photo."""

    photo: Photo
    box: Box  # in its pixels
    path: trust_path.Path


@dataclass
class _Asked:
    """A unit, what it is asked with, and what it has answered so far."""

    unit: Unit
    taps: list[Tap]
    layers: list[Layer]
    strongest: Strongest[_Spot]
    values: list[float] = field(default_factory=list)
    others: dict[int, _Spot] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str, model: ImageModel, count: int = 2 * COUNT) -> "_Asked":
        unit = check(parse(text), model)
        return cls(unit, taps(unit, model), trust_path.layers_to(unit, model), strongest=Strongest(count))


def with_exemplars(rows: Sequence[dict], model: ImageModel, photos: Photos, files: Sequence[Photo]) -> list[dict]:
    """The rows with what they tell of photos: the columns `photos`, `exemplars`, `crops` and `path` of `gallery.schema`.

    Args:
        rows: of one model; those that failed stay as they are.
        files: what `Photos.files` gives. Those that cannot be read are left out, and it is said how many.
    """
    asked: dict[str, _Asked] = {}
    notes: dict[str, str] = {}
    for text in dict.fromkeys(row["unit"] for row in rows if row["status"] != "failed"):
        try:
            asked[text] = _Asked.of(text, model)
        except UndefinedError as error:
            notes[text] = str(error)
    chosen = _without_choice(len(files))
    unreadable = _look(list(asked.values()), model, Path(photos.folder), files, chosen) if asked else 0
    common = {"count": len(files) - unreadable, "digest": photos.digest}
    said = f"{unreadable:,} of the files could not be read." if unreadable else ""
    done = []
    for row in rows:
        told = dict.fromkeys(OF_PHOTOS)
        if row["unit"] in asked and common["count"]:
            told |= _told(asked[row["unit"]], row, model, photos, common, said)
        elif row["status"] != "failed":
            told |= {"photos": common | {"note": notes.get(row["unit"], said)}}
        done.append(row | told)
    return done


@dataclass(frozen=True)
class PassCost:
    """What a pass over photos takes with a task's units, as measured with some of both.

    Attributes:
        a_photo: seconds to read one and to ask all units about it.
        a_spot: seconds to look closely at a place that a photo has for one unit.
        a_crop: bytes of such a place, cut out.
    """

    a_photo: float
    a_spot: float
    a_crop: float

    def seconds(self, units: int, photos: int) -> float:
        """Of a whole pass: photos in any order are among a unit's strongest so far ever more rarely."""
        kept = 2 * COUNT
        offered = photos if photos <= kept else kept * (1 + math.log(photos / kept))
        return photos * self.a_photo + units * (offered + len(_without_choice(photos))) * self.a_spot


def pass_cost(units: Sequence[str], model: ImageModel, photos: Photos, files: Sequence[Photo]) -> PassCost | None:
    """Look at some photos twice: at no place closely, then at one of each for each unit. None if none of them can be read."""
    some = files[:: -(-len(files) // _MEASURED)]
    folder, asked = Path(photos.folder), []
    for text in units:
        with contextlib.suppress(UndefinedError):
            asked.append(_Asked.of(text, model, count=0))
    _look(asked, model, folder, some[:1], ())  # whatever is prepared once
    began = time.perf_counter()
    read = len(some) - _look(asked, model, folder, some, ())
    between = time.perf_counter()
    _look(asked, model, folder, some, range(len(some)))
    ended = time.perf_counter()
    spots = [spot for one in asked for spot in one.others.values()]
    if not spots:
        return None
    crops = list(_crops(folder, spots[:: -(-len(spots) // _MEASURED)]))
    nbytes = sum(len(crop["bytes"]) for crop in crops) / len(crops)
    return PassCost((between - began) / read, max(ended - 2 * between + began, 0) / len(spots), nbytes)


def _without_choice(photos: int) -> range:
    """The numbers of those that are looked at closely whatever they do to a unit."""
    return range(0, photos, -(-photos // _OTHERS))


def _look(
    asked: Sequence[_Asked], model: ImageModel, folder: Path, files: Sequence[Photo], chosen: Collection[int]
) -> int:
    """Ask all units about all photos, closely of the strongest and of those with the chosen numbers; how many could not be read."""
    unreadable = 0
    for start in range(0, len(files), _BATCH):
        seen, read = [], []
        for number, photo in enumerate(files[start : start + _BATCH], start):
            try:
                image = open_image(folder / photo.file)
            except ImageError:
                unreadable += 1
                continue
            seen.append(to_input(model, image))
            read.append((number, photo, image.size))
        if not seen:
            continue
        activations = _run(asked, model, torch.cat(seen))
        for one in asked:
            found = answers(one.unit, model, activations, len(read))
            one.values += found.values.tolist()
            for place, (number, photo, size) in enumerate(read):
                spot = functools.partial(_spot, one, model, activations, found, place, photo, size)
                one.strongest.offer(found.values[place], number, spot)
                if number in chosen:
                    one.others[number] = spot()
    return unreadable


def _run(asked: Sequence[_Asked], model: ImageModel, batch: torch.Tensor) -> dict[Tap, torch.Tensor]:
    wanted = dict.fromkeys(tap for one in asked for tap in (*one.taps, *(Tap(layer.name) for layer in one.layers)))
    with torch.no_grad():
        return run_to(model, batch, list(wanted))


def _spot(
    one: _Asked,
    model: ImageModel,
    activations: Mapping[Tap, torch.Tensor],
    found: Answers,
    place: int,
    photo: Photo,
    size: tuple[int, int],
) -> _Spot:
    box = in_photo(found.areas[place], size, model.spec)
    return _Spot(photo, box, _path(one, model, activations, place, found))


def _path(
    one: _Asked, model: ImageModel, activations: Mapping[Tap, torch.Tensor], place: int, found: Answers
) -> trust_path.Path:
    size = (model.spec.height, model.spec.width)
    return tuple(
        trust_path.means(layer, activations[Tap(layer.name)][place : place + 1], found.areas[place], size)
        for layer in one.layers
    )


def _told(one: _Asked, row: dict, model: ImageModel, photos: Photos, common: dict, said: str) -> dict:
    """The four columns of a row."""
    activations = _run([one], model, to_batch([pictures.pixels(row["picture"])], model))
    answer = answers(one.unit, model, activations, 1)
    values = np.array(one.values)
    known = values[np.isfinite(values)]
    least = known.min() if len(known) else np.inf
    ranked = [(value, number, spot) for value, number, spot in one.strongest.sorted() if value > least]
    top = ranked[:COUNT]
    path, why = _compared(one, _path(one, model, activations, 0, answer), ranked, len(values))
    notes = [said, "" if top else "It answers to all of them alike.", why]
    own = answer.values[0] if np.isfinite(answer.values[0]) else None
    return {
        "photos": common | {
            "note": " ".join(filter(None, notes)), "value": own, "below": None if own is None else float((values < own).mean()),
            "quantiles": np.quantile(known, np.linspace(0, 1, _QUANTILES)).tolist() if len(known) else [],
        },
        "exemplars": [
            {"file": spot.photo.file, "digest": spot.photo.digest, "box": list(spot.box), "value": value} for value, _, spot in top
        ],
        "crops": list(_crops(Path(photos.folder), [spot for *_, spot in top])) if photos.crops else None,
        "path": [step._asdict() for step in path],
    }  # fmt: skip


def _compared(
    one: _Asked, picture: trust_path.Path, ranked: Sequence[tuple[float, int, _Spot]], count: int
) -> tuple[list[trust_path.Step], str]:
    """Layer by layer how the picture compares, or why that is not known."""
    if len(one.layers) < 2:
        return [], "Its layer is among the network's first, so there is no path to compare."
    many = min(COUNT, count // 4)
    top, following = ranked[:many], ranked[many : 2 * many]
    near = {number for _, number, _ in ranked[: 2 * many]}
    others = [spot.path for number, spot in one.others.items() if number not in near]
    if min(len(top), len(following), len(others)) < trust_path.FEWEST:
        return [], f"Too few of them excite it for a comparison of paths, which takes {_FEWEST} photos or more."
    top, following = ([spot.path for *_, spot in some] for some in (top, following))
    return trust_path.compare([layer.name for layer in one.layers], picture, top, following, others), ""


def _crops(folder: Path, spots: Sequence[_Spot]) -> Iterator[dict]:
    for spot in spots:
        yield {"bytes": pictures.cut(open_image(folder / spot.photo.file), spot.box), "path": None}
