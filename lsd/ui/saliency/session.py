"""What a visitor's run has left so far: everything that is needed to draw and to save, and no model."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from lsd.catalogue import common_name
from lsd.images import file_sha256, lay_on, open_image
from lsd.layers import as_said
from lsd.models import get_model
from lsd.provenance import free_name
from lsd.saliency import bundle
from lsd.saliency.bundle import in_words, is_of_classes, pictures_under
from lsd.saliency.crosscheck import CrossCheck, furthest
from lsd.saliency.explain import Explanation, SimilarTo
from lsd.saliency.maps import MapSettings, to_maps
from lsd.saliency.several import in_colours, strengths
from lsd.saliency.steadiness import Steadiness
from lsd.saliency.views import Look, overlays_on
from lsd.ui.saliency.request import Request
from lsd.ui.shared.answers import other_picture

READ_SIDE = 160  # pixels of the longer edge; maps are read under the pointer at this size


@dataclass(frozen=True)
class Answer:
    """What one model has said.

    Attributes:
        place: among the request's models.
        class_names: of the model, and `note`, why they are to be doubted; "" where they are not.
        explanations: one, or several of one question.
        checks: one for each of them; () where there is none, or none yet; `steadinesses` likewise.
        advice: which method did best on networks like this one.
    """

    place: int
    model: str
    class_names: tuple[str, ...]
    note: str
    explanations: tuple[Explanation, ...]
    checks: tuple[CrossCheck, ...] = ()
    steadinesses: tuple[Steadiness | None, ...] = ()
    advice: str = ""

    @property
    def explanation(self) -> Explanation:
        """The first, or only one."""
        return self.explanations[0]

    @property
    def check(self) -> CrossCheck | None:
        """The comparison of the explanation that differs most from Captum's."""
        return furthest(self.checks) if self.checks else None

    @property
    def classes(self) -> tuple[int, ...]:
        """The class that is explained first, and the one that it is held against; none where a similarity or a group is."""
        target = self.explanation.attribution.target
        if target.index is None:
            return ()
        return (target.index, target.against) if target.kind == "contrast" else (target.index,)


@dataclass(frozen=True)
class Session:
    """A run so far.

    Attributes:
        shown: the picture at the size of the page.
        other: the one that it is compared with, likewise, where that is explained too.
        troubles: place → why there is no map, or no comparison, in one sentence.
    """

    request: Request
    shown: Image.Image
    other: Image.Image | None = None
    answers: tuple[Answer, ...] = ()
    troubles: dict[int, str] = field(default_factory=dict)

    @property
    def models(self) -> list[str]:
        """Those that have explained it."""
        return [answer.model for answer in self.answers]

    @property
    def explanations(self) -> list[Explanation]:
        """One or several for each of `models`."""
        return [explanation for answer in self.answers for explanation in answer.explanations]

    @property
    def checks(self) -> list[CrossCheck | None]:
        """One for each of `explanations`."""
        return [check for a in self.answers for check in (a.checks or [None] * len(a.explanations))]

    @property
    def steadinesses(self) -> list[Steadiness | None]:
        """One for each of `explanations`."""
        return [found for a in self.answers for found in (a.steadinesses or [None] * len(a.explanations))]

    @property
    def classes(self) -> int:
        """How many classes share a figure; 0 where there is no such figure."""
        return max((len(a.explanations) for a in self.answers if is_of_classes(a.explanations)), default=0)

    @property
    def tried(self) -> int:
        """How many models were asked."""
        return len({*(answer.place for answer in self.answers), *self.troubles})

    def answered(self, answer: Answer) -> "Session":
        """With one more answer, or another one in its place."""
        others = (a for a in self.answers if a.place != answer.place)
        return replace(self, answers=tuple(sorted((*others, answer), key=lambda a: a.place)))

    def troubled(self, place: int, sentence: str) -> "Session":
        """With one more trouble."""
        return replace(self, troubles=self.troubles | {place: sentence})


@dataclass(frozen=True)
class Drawn:
    """A map on the picture, or the maps of several classes in one figure.

    Attributes:
        others: further maps of the answer: of several classes each by itself, or that over the other picture.
        values: the map alone over the whole picture, as grey with an alpha: 0 to 255 for 0 to 1, or, of a signed one, for -1
            to 1; transparent where the model saw nothing.
    """

    answer: Answer
    image: Image.Image
    values: Image.Image
    others: tuple[Image.Image, ...] = ()


def draw(session: Session, maps: MapSettings, look: Look) -> Iterator[Drawn]:
    """Every answer's map. No model runs."""
    explanations = session.explanations
    under = pictures_under(session.shown, explanations, session.other)
    images = overlays_on(under, explanations, maps, look)
    finished = to_maps(
        [e.attribution.values[0].numpy() for e in explanations], maps, [e.input_size for e in explanations]
    )
    for answer in session.answers:
        count = len(answer.explanations)
        own, images = images[:count], images[count:]
        first, finished = finished[0], finished[count:]
        if is_of_classes(answer.explanations):
            figure = in_colours(session.shown, answer.explanations, maps, look)
            values = _readable(
                session.shown.size, answer.explanation, strengths(answer.explanations, maps), signed=False
            )
            yield Drawn(answer, figure, values, tuple(own))
        else:
            values = _readable(session.shown.size, answer.explanation, first, maps.sign == "signed")
            yield Drawn(answer, own[0], values, tuple(own[1:]))


def _readable(size: tuple[int, int], explanation: Explanation, finished: np.ndarray, signed: bool) -> Image.Image:
    small = tuple(max(1, round(edge * READ_SIDE / max(size))) for edge in size)
    scale = np.divide(small, explanation.picture_size)
    box = tuple(np.multiply(explanation.box, (*scale, *scale)))
    values, seen = lay_on(finished, box, small), lay_on(np.ones_like(finished), box, small)
    grey = np.round(127.5 * (values + 1) if signed else 255 * values)
    return Image.fromarray(np.dstack([grey.clip(0, 255), 255 * (seen > 0)]).astype(np.uint8), "LA")


def summary(session: Session) -> str:
    """What the models say, which of them say nothing, and how many were asked if not all."""
    names = session.request.models
    words = [_agreement(session)] if session.answers else []
    for place, trouble in sorted(session.troubles.items()):
        words.append(trouble if len(names) == 1 else f"{common_name(names[place])}: {trouble}")
    if session.tried < len(names):
        words.append(f"{session.tried} of {len(names)} models were asked.")
    return " ".join(words)


def _agreement(session: Session) -> str:
    done = f"Done in {sum(e.seconds for e in session.explanations):.2f} s."
    if isinstance(session.request.spec, SimilarTo):
        return f"{done} " + "; ".join(f"{common_name(a.model)}: {in_words(a.explanation)}" for a in session.answers)
    firsts = list(dict.fromkeys(e.top[0][1] for e in session.explanations if e.top))
    if len(session.answers) == 1 or not firsts:
        return done
    return f"{done} " + (f"All say {firsts[0]}." if len(firsts) == 1 else f"They do not agree: {', '.join(firsts)}.")


def files(session: Session, maps: MapSettings, look: Look) -> dict[str, bytes]:
    """File name → bytes of the download: the bundle that the command line writes, and the pictures beside it.

    Raises:
        LSDError, OSError: a model or the picture is gone.
    """
    request = session.request
    own = {"comparison.png", "attributions.npz", "manifest.json"}
    names = bundle.array_names([explanation.model for explanation in session.explanations])
    own |= {f"{name}{end}.png" for name in names for end in ("", "-classes")}
    if request.reference:
        own.add(request.spec.reference.file)
    name = free_name(request.path.name, own)
    record = bundle.manifest(
        {"file": name, "path": None, "sha256": file_sha256(request.path)},
        [as_said(get_model(model), request.sayings.of(model)) for model in session.models],
        session.explanations, request.spec, request.settings, maps, look, session.checks,
        session.steadinesses,
    )  # fmt: skip
    found = bundle.files(open_image(request.path), session.explanations, record, other_picture(request.spec))
    found[name] = request.path.read_bytes()
    if request.reference:
        found[request.spec.reference.file] = request.reference.read_bytes()
    return found
