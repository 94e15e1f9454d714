"""The work behind the Saliency tab: one picture explained by one model after the other."""

from collections.abc import Iterator
from dataclasses import replace

from PIL import Image

from lsd.catalogue import common_name
from lsd.errors import LSDError
from lsd.images import file_sha256, fit_within, open_image
from lsd.layers import as_said
from lsd.models import get_model
from lsd.process import is_gpu_lent
from lsd.ui.saliency.request import Request, Wish, request_of
from lsd.ui.saliency.session import Answer, Session
from lsd.ui.shared.answers import checked, cost, explained
from lsd.ui.shared.controls import default_example
from lsd.ui.shared.examples import examples
from lsd.ui.shared.jobs import about, aside, doing, log, sentence, turn

DISPLAY_SIDE = 640  # pixels; overlays on the page are drawn at this size, those in the bundle at the picture's own


def explain_all(request: Request) -> Iterator[Session]:
    """Explain with one model after the other; one that cannot leaves the others.

    Yields:
        the session, before the first model, and whenever one has explained the picture, was held against Captum, or has
        failed; at once as a whole where all is answered already.

    Raises:
        LSDError: the picture cannot be read.
    """
    about(method=request.method)
    picture, sha256 = open_image(request.path), file_sha256(request.path)
    session = Session(request, fit_within(picture, DISPLAY_SIDE))
    if request.is_answered:
        *_, session = _explained(session, picture, sha256)
        yield session
        return
    yield session
    with turn(*(cost(name, request.method, request.settings) for name in request.models)):
        yield from _explained(session, picture, sha256)


def _explained(session: Session, picture: Image.Image, sha256: str) -> Iterator[Session]:
    request = session.request
    for place in range(len(request.models)):
        try:
            for answer in _answers(request, place, picture, sha256):
                session = session.answered(answer)
                yield session
        except Exception as error:
            session = session.troubled(place, sentence(error))
            yield session


def _answers(request: Request, place: int, picture: Image.Image, sha256: str) -> Iterator[Answer]:
    """One model's answer, and once more with the comparison."""
    name = request.models[place]
    doing(f"Loading {common_name(name)}")
    model = as_said(aside(get_model, name), request.sayings.of(name))
    about(model.name)
    doing(common_name(name))
    asked = (model, picture, sha256, request.spec)
    explanation = explained(*asked, request.method, request.settings, request.view)
    answer = Answer(place, model.name, model.class_names, model.names_note, explanation)
    yield answer
    if request.check:
        doing(f"{common_name(name)}: Captum")
        yield replace(answer, check=checked(*asked, explanation, request.settings))


def explain_first() -> None:
    """Compute what the tab opens with, for whoever comes first: the same requests, kept by content. It never raises.

    Where GPUs are lent the models are loaded and nothing is computed: it would be on the visitors' time.
    """
    try:
        wish = Wish()
        picture = examples()[default_example(wish.models)]
        for name in wish.models:
            get_model(name)
        for name in (
            () if is_gpu_lent() else wish.models
        ):  # each in a turn of its own, so that a visitor who comes meanwhile gets his
            for session in explain_all(request_of(replace(wish, models=(name,)), picture, None)):
                for trouble in session.troubles.values():
                    raise LSDError(trouble)
    except Exception as error:  # whoever opens the tab is told; the page goes on
        log.warning("The first view is not explained beforehand: %s", sentence(error))
