"""The work behind the tab: up to three ascents side by side, followed step by step. No Gradio here."""

import io
import math
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lsd.features import bundle
from lsd.features.ascent import ascend
from lsd.features.bundle import Request
from lsd.features.judge import Verdict, classify, spreads, to_batch
from lsd.features.pictures import Picture, Snapshot, to_pixels
from lsd.features.recipes import Recipe, changed, find_recipe
from lsd.features.units import class_of, parse
from lsd.images import open_image
from lsd.layers import as_said
from lsd.models import ImageModel
from lsd.provenance import jpeg, slug
from lsd.saliency.explain import to_input
from lsd.saliency.targets import of_class
from lsd.sayings import texts
from lsd.ui.shared import gpu
from lsd.ui.shared.jobs import sentence
from lsd.ui.shared.limits import MAX_SIDE

FRAMES = 40  # kept of each ascent, for looking back
_FILM_EVERY = 16  # steps between two frames of the film, as on the command line
_FRAMES_SIDE = 640  # pixels: the frames of all seeds at one step are no larger than a square of this
_THUMB_SIDE = 112
_LOSSLESS = 40_000  # pixels: below this JPEG's blocks would show when it is enlarged


@dataclass(frozen=True)
class Cooking:
    """A recipe as the page and the command line write it: a named one, what is changed of it, size and steps."""

    base: str
    settings: Mapping[str, str]
    steps: int
    size: int | None

    def recipe(self) -> Recipe:
        """The recipe itself, made exactly as `python -m lsd features` makes it."""
        made = changed(find_recipe(self.base), self.settings)
        given = {"steps": self.steps} | ({} if self.size is None else {"size": self.size})
        return replace(made, **given)

    def words(self) -> dict:
        """The options of the command line that give it."""
        return {
            "recipe": self.base, "steps": self.steps, "size": self.size,
            "set": [f"{name}={value}" for name, value in self.settings.items()],
        }  # fmt: skip


@dataclass
class Lane:
    """One column: what is made in it, how far it is, and what came out. Holds no model."""

    heading: str
    request: Request
    cooking: Cooking
    title: str
    note: str = ""
    trouble: str = ""  # why there are no pictures, in one sentence
    step: int = 0
    spent: float = 0.0
    live: np.ndarray | None = None  # uint8 (N, H, W, 3), as they are now
    traces: list[list[float]] = field(default_factory=list)
    frames: list[tuple[int, tuple[bytes, ...]]] = field(default_factory=list)  # (step, each seed's picture)
    batches: list[tuple[Picture, ...]] = field(default_factory=list)  # that are finished: several where memory gave out
    pictures: tuple[Picture, ...] = ()  # all of them
    gif: bytes | None = None
    own: list[Verdict] = field(default_factory=list)
    others: list[list[Verdict]] = field(default_factory=list)  # of each verifier, of each picture
    spread: float | None = None  # of the seeds' pictures, as its own network finds them: `lsd.features.judge.spread`
    readings: dict[str, float] = field(default_factory=dict)  # logit, log-odds and probability of the first picture

    @property
    def recipe(self) -> Recipe:
        return self.request.recipe

    @property
    def steps(self) -> int:
        return self.recipe.steps

    @property
    def done(self) -> bool:
        return bool(self.pictures)

    def seconds_left(self) -> float | None:
        """At the pace so far; None before the first step."""
        waits = self.step and not (self.done or self.trouble)
        return self.spent / self.step * (self.steps - self.step) if waits else None

    def take(self, snapshot: Snapshot, film: bundle.Film) -> None:
        """Take in a step."""
        made = [picture for batch in self.batches for picture in batch]
        self.step = snapshot.step
        self.live = np.concatenate([*(picture.pixels[None] for picture in made), to_pixels(snapshot.images)])
        if self.step == 1:  # of a batch, which may be a halved one's second try
            self.traces = [list(picture.trace) for picture in made] + [[] for _ in snapshot.jobs]
        for trace, score in zip(self.traces[len(made) :], snapshot.scores.tolist(), strict=True):
            trace.append(score)
        apart = math.ceil(self.steps / (FRAMES - 1))
        if self.step == 1 or self.step % apart == 0 or snapshot.finished:
            side = int(_FRAMES_SIDE / math.sqrt(len(self.live)))
            self.frames.append((self.step, tuple(encoded(one, side)[1] for one in self.live)))
        if self.step == 1 or self.step % _FILM_EVERY == 0 or snapshot.finished:
            film.add(snapshot)
        if snapshot.finished:
            self.batches.append(snapshot.finished)
            made += snapshot.finished
            self.traces = [list(p.trace) for p in made]
        if snapshot.finished and snapshot.done == snapshot.total:
            self.pictures = tuple(replace(p, seconds=self.spent / len(made)) for p in made)
            self.gif = film.gif()

    def frame(self, step: int, seed: int) -> tuple[int, tuple[str, bytes]] | None:
        """Of a seed, the last picture kept at or before `step`: (its step, (MIME type, bytes))."""
        if not self.frames:
            return None
        kept, pictures = next((one for one in reversed(self.frames) if one[0] <= step), self.frames[0])
        picture = pictures[min(seed, len(pictures) - 1)]
        return kept, ("image/png" if picture.startswith(b"\x89PNG") else "image/jpeg", picture)

    def picture(self, seed: int) -> tuple[str, bytes] | None:
        """(MIME type, bytes) of a seed's picture as it is now."""
        return None if self.live is None else encoded(self.live[min(seed, len(self.live) - 1)])

    def thumbnails(self) -> list[bytes]:
        """Every seed's picture as it is now, small, as JPEG."""
        return [] if self.live is None else [jpeg(shrunk(one, _THUMB_SIDE)) for one in self.live]


@dataclass
class Session:
    """One visitor's last run."""

    compare: str  # "", or what the columns differ in but the models: `lsd.ui.features.request`'s NONE or OUTPUTS
    lanes: list[Lane]
    photo: Path | None
    judges: list[str] = field(default_factory=list)
    seconds: float = 0.0
    manifest: dict | None = None  # if it was made beforehand: by which weights, and on what machine
    seed: int = 0  # whose pictures are shown large
    step: int | None = None  # of the ascent, at which they are shown; None: the last

    @property
    def finished(self) -> bool:
        return all(lane.done or lane.trouble for lane in self.lanes)

    @property
    def steps(self) -> int:
        return max(lane.steps for lane in self.lanes)


def advance(session: Session, models: Mapping[str, ImageModel]) -> Iterator[Lane]:
    """All lanes, a step at a time, whichever has had the least time; yields the lane that moved, or failed.

    Closing the iterator ends every ascent.
    """
    requests = [lane.request for lane in session.lanes]
    films = [bundle.Film() for _ in requests]
    photo = None if session.photo is None else open_image(session.photo)
    with closing(gpu.steps(_moves, requests, photo, dict(models))) as moves:
        for place, found, spent in moves:
            lane = session.lanes[place]
            lane.spent = spent
            if isinstance(found, Snapshot):
                lane.take(found, films[place])
            else:
                lane.trouble = sentence(found)
            yield lane


def _moves(
    requests: Sequence[Request], photo: Image.Image | None, models: Mapping[str, ImageModel]
) -> Iterator[tuple[int, Snapshot | Exception, float]]:
    """Which of the requests has come further, or failed; how far, or why; and the seconds that it has taken so far."""
    with ExitStack() as stack:
        running, spent = {}, [0.0] * len(requests)
        for place, request in enumerate(requests):
            model = as_said(models[request.model], request.said)
            steps = ascend(
                model, [parse(unit) for unit in request.units], request.recipe, request.seeds,
                others=[models[name] for name in request.others],
                photo=None if photo is None else to_input(model, photo).float(),
                start_from_photo=request.start_from_photo, every=1,
            )  # fmt: skip
            running[place] = stack.enter_context(closing(steps))
        while running:
            place = min(running, key=spent.__getitem__)
            started = time.perf_counter()
            try:
                found = next(running[place], None)
            except Exception as error:  # of one lane: the others go on
                found = error
            spent[place] += time.perf_counter() - started
            if not isinstance(found, Snapshot):
                del running[place]
            if found is not None:
                yield place, found, spent[place]


def judge(lane: Lane, model: ImageModel, *, own: bool) -> None:
    """Ask a network what it takes the lane's pictures for; their own one also how far apart the seeds' are."""
    found = gpu.call(_opinion, lane.pictures, model, own=own)
    if own:
        lane.own, lane.spread, lane.readings = found.verdicts, found.spread, found.readings
    elif found.verdicts:
        lane.others.append(found.verdicts)


@dataclass(frozen=True)
class _Opinion:
    """What a network says of pictures, as `Lane` keeps it."""

    verdicts: list[Verdict]
    spread: float | None = None
    readings: dict[str, float] = field(default_factory=dict)


def _opinion(pictures: Sequence[Picture], model: ImageModel, *, own: bool) -> _Opinion:
    verdicts = classify([picture.pixels for picture in pictures], model) if model.num_classes else []
    if not own:
        return _Opinion(verdicts)
    (spread,) = spreads([(p.job.unit, p.pixels) for p in pictures], model).values() or (None,)
    return _Opinion(verdicts, spread, _readings(pictures[0], model) if verdicts else {})


@torch.no_grad()
def _readings(picture: Picture, model: ImageModel) -> dict[str, float]:
    """Logit, log-odds and probability of the picture's class for it."""
    index = class_of(picture.job.unit, model.name)
    if index is None:
        return {}
    with model.lock:
        logits = model(to_batch([picture.pixels], model)).double()
    return {kind: of_class(model, index, kind)(logits).item() for kind in ("logit", "log_odds", "probability")}


def shrunk(pixels: np.ndarray, side: int) -> Image.Image:
    """A picture (H, W, 3), its longer side at most `side`."""
    image = Image.fromarray(pixels)
    if max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def encoded(pixels: np.ndarray, side: int = MAX_SIDE) -> tuple[str, bytes]:
    """(MIME type, bytes) of a picture for the page: JPEG, or PNG where it is small and will be enlarged."""
    image = shrunk(pixels, side)
    if image.width * image.height > _LOSSLESS:
        return "image/jpeg", jpeg(image)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return "image/png", buffer.getvalue()


def command(lane: Lane, photo: Path | None, judges: Sequence[str] = (), output: str = "features") -> str:
    """The command line that makes the lane's pictures again."""
    request = lane.request
    words = {"model": request.model, **texts(request.said), "unit": list(request.units)} | lane.cooking.words() | {
        "seeds": len(request.seeds) if len(request.seeds) > 1 else None,
        "photo": request.photo["file"] if photo else None,
        "start": "photo" if request.start_from_photo else None,
        "verifier": list(judges),
        "output": output,
    }  # fmt: skip
    parts = ["python -m lsd features"]
    for option, value in words.items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                parts.append(f"--{option} {shlex.quote(str(one))}")
    return " ".join(parts)


def files(session: Session, models: Mapping[str, ImageModel]) -> dict[str, bytes]:
    """What `python -m lsd features` writes, for every finished lane; in folders if there are several."""
    found: dict[str, bytes] = {}
    folders: set[str] = set()
    for lane in session.lanes:
        if not lane.done:
            continue
        folder = slug(lane.heading)
        while folder in folders:
            folder += "_"
        folders.add(folder)
        prefix = f"{folder}/" if len(session.lanes) > 1 else ""
        results = [
            bundle.result(picture, lane.title, lane.own[i] if lane.own else None, [v[i] for v in lane.others])
            for i, picture in enumerate(lane.pictures)
        ]
        apart = {} if lane.spread is None else {lane.pictures[0].job.unit: lane.spread}
        record = bundle.manifest(
            lane.request, models[lane.request.model], results, [len(batch) for batch in lane.batches], apart
        )
        if session.manifest is not None:
            record |= {key: session.manifest[key] for key in ("weights", "environment")}
        heading = f"{lane.request.model}, recipe {lane.recipe.name}"
        contents = {bundle.file_name(p.job): bundle.png(Image.fromarray(p.pixels)) for p in lane.pictures} | {
            "sheet.png": bundle.sheet(lane.pictures, [lane.title] * len(lane.pictures), heading),
            "ascent.gif": lane.gif,
            "manifest.json": bundle.manifest_bytes(record),
        }
        found |= {prefix + name: data for name, data in contents.items() if data}
    if session.photo is not None:
        found[session.lanes[0].request.photo["file"]] = session.photo.read_bytes()
    return found
