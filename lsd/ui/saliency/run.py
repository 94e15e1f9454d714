"""The work behind the Saliency tab: one picture explained by one model after the other, and what is left of it. No Gradio here."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from lsd.catalogue import common_name
from lsd.images import file_sha256, fit_within, open_image
from lsd.layers import as_said
from lsd.models import ImageModel, get_model, loaded_model
from lsd.provenance import free_name
from lsd.saliency import bundle
from lsd.saliency.crosscheck import CrossCheck
from lsd.saliency.explain import Explanation, SimilarTo, TargetSpec
from lsd.saliency.maps import MapSettings
from lsd.saliency.views import Look
from lsd.sayings import Sayings
from lsd.ui.shared.answers import checked, cost, explained, is_answered
from lsd.ui.shared.jobs import aside, doing, sentence, turn
from lsd.view import EVALUATED, View

DISPLAY_SIDE = 640  # pixels; overlays on the page are drawn at this size, those in the bundle at the picture's own


@dataclass(frozen=True)
class Request:
    """What a visitor asks for, checked before anything is loaded.

    Attributes:
        path: of the picture; `reference` of the other one, of a similarity.
        sayings: what is said of the models.
        check: whether the values are held against Captum's.
        view: what of the picture the models are shown.
    """

    path: Path
    models: tuple[str, ...]
    spec: TargetSpec | SimilarTo
    method: str
    settings: dict
    sayings: Sayings
    check: bool
    reference: Path | None = None
    view: View = EVALUATED

    @property
    def is_answered(self) -> bool:
        """Whether all of it is there already, so that no model runs."""
        sha256, models = file_sha256(self.path), [loaded_model(name) for name in self.models]
        return all(
            model
            and is_answered(
                as_said(model, self.sayings.of(name)),
                sha256,
                self.spec,
                self.method,
                self.settings,
                self.check,
                self.view,
            )
            for name, model in zip(self.models, models, strict=True)
        )


@dataclass(frozen=True)
class Session:
    """What one visitor's run has left so far: everything that is needed to draw and to save, and no model.

    Attributes:
        shown: the picture at the size of the page.
        models, explanations, checks: of those that have explained it; a check is None where there is none, or none yet.
        places: of each of them, its place among the request's models.
        troubles: of the others that were tried: place → why there is no map, in one sentence.
    """

    request: Request
    shown: Image.Image
    models: list[str] = field(default_factory=list)
    explanations: list[Explanation] = field(default_factory=list)
    checks: list[CrossCheck | None] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    troubles: dict[int, str] = field(default_factory=dict)

    @property
    def tried(self) -> int:
        """How many models were asked."""
        return len({*self.places, *self.troubles})

    def _with(self, place: int, model: ImageModel, explanation: Explanation) -> "Session":
        return replace(
            self, models=[*self.models, model.name], explanations=[*self.explanations, explanation],
            checks=[*self.checks, None], places=[*self.places, place],
        )  # fmt: skip

    def _checked(self, check: CrossCheck | None) -> "Session":
        return replace(self, checks=[*self.checks[:-1], check])


def explain_all(request: Request) -> Iterator[tuple[int, ImageModel | None, Session]]:
    """Explain with one model after the other; one that cannot leaves the others.

    Yields:
        (place, model, session so far) whenever a model has explained the picture, was held against Captum, or has failed; the
        model is None where it could not be had.

    Raises:
        LSDError: the picture cannot be read.
    """
    picture, sha256 = open_image(request.path), file_sha256(request.path)
    session = Session(request, fit_within(picture, DISPLAY_SIDE))
    costs = [cost(name, request.method, request.settings) for name in request.models]
    with nullcontext() if request.is_answered else turn(*costs):
        for place, name in enumerate(request.models):
            model = None
            try:
                doing(f"Loading {common_name(name)}")
                model = as_said(aside(get_model, name), request.sayings.of(name))
                doing(common_name(name))
                asked = (model, picture, sha256, request.spec)
                explanation = explained(*asked, request.method, request.settings, request.view)
                session = session._with(place, model, explanation)
                yield place, model, session
                if request.check:
                    doing(f"{common_name(name)}: Captum")
                    session = session._checked(checked(*asked, explanation, request.settings))
                    yield place, model, session
            except Exception as error:
                session = replace(session, troubles=session.troubles | {place: sentence(error)})
                yield place, model, session


def files(session: Session, maps: MapSettings, look: Look) -> dict[str, bytes]:
    """File name → bytes of the download: the bundle that the command line writes, and the pictures beside it.

    Raises:
        LSDError, OSError: a model or the picture is gone.
    """
    request = session.request
    own = {"comparison.png", "attributions.npz", "manifest.json"}
    own |= {f"{name}.png" for name in bundle.array_names(session.models)}
    if request.reference:
        own.add(request.spec.reference.file)
    name = free_name(request.path.name, own)
    record = bundle.manifest(
        {"file": name, "path": None, "sha256": file_sha256(request.path)},
        [as_said(get_model(name), request.sayings.of(name)) for name in (request.models[p] for p in session.places)],
        session.explanations, request.spec, request.settings, maps, look, session.checks,
    )  # fmt: skip
    found = bundle.files(open_image(request.path), session.explanations, record)
    found[name] = request.path.read_bytes()
    if request.reference:
        found[request.spec.reference.file] = request.reference.read_bytes()
    return found
