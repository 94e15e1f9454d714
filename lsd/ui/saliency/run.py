"""The work behind the Saliency tab: one picture explained by one model after the other."""

import logging
from collections.abc import Iterator
from dataclasses import replace

from PIL import Image

from lsd.catalogue import common_name
from lsd.errors import LSDError
from lsd.evaluation.recommend import recommend
from lsd.images import fit_within, open_image
from lsd.layers import as_said
from lsd.models import ImageModel, get_model
from lsd.process import is_gpu_lent
from lsd.saliency.crosscheck import CrossCheck
from lsd.saliency.steadiness import Steadiness
from lsd.ui.saliency.request import Request, Wish, request_of
from lsd.ui.saliency.session import Answer, Session
from lsd.ui.shared.answers import checked, cost, explained, is_there, other_picture, steadied, steady_cost
from lsd.ui.shared.controls import default_example
from lsd.ui.shared.examples import examples
from lsd.ui.shared.jobs import about, aside, doing, sentence, turn
from lsd.ui.shared.line import BusyError

log = logging.getLogger("lsd")

DISPLAY_SIDE = 640  # pixels; overlays on the page are drawn at this size, those in the bundle at the picture's own


def explain_all(request: Request, *, unasked: str = "") -> Iterator[Session]:
    """Explain with one model after the other; then, if that is asked for, measure how steady the maps are, and hold them against
    Captum when nobody waits for his own.

    Args:
        unasked: what it is for, if no visitor has asked for it: then it comes after whatever somebody has.

    Yields:
        the session, before the first model, and whenever one has explained the picture, was measured or held against Captum, or
        has failed, which leaves the others; what is answered already comes at once and together.

    Raises:
        LSDError: the picture cannot be read.
    """
    about(method=request.method)
    picture = open_image(request.path)
    other = other_picture(request.spec)
    session = Session(request, fit_within(picture, DISPLAY_SIDE), other and fit_within(other, DISPLAY_SIDE))
    if request.is_answered:
        *_, session = _explained(session, picture)
        yield session
    else:
        yield session
        costs = [cost(name, request.method, request.settings, request.spec) for name in request.models]
        with turn(*costs, addition=unasked, needless=lambda: request.is_answered):
            for further in _explained(session, picture):
                yield further
            session = further
    if request.steady:
        for further in _steadied(session, picture):
            yield further
            session = further
    if request.check:
        yield from _compared(session, picture)


def _explained(session: Session, picture: Image.Image) -> Iterator[Session]:
    """With one model's map more each time, and with the comparison where that was made before."""
    request = session.request
    for place, name in enumerate(request.models):
        try:
            doing(f"Loading {common_name(name)}")
            model = _model(request, name)
            about(model.name)
            doing(common_name(name))
            found = explained(model, picture, *request.question)
            advice = str(recommend(model))
            answer = Answer(place, model.name, model.class_names, model.names_note, found, advice=advice)
            if request.check and is_there("check", model, *request.question):
                answer = replace(answer, checks=_checks(answer, model, picture, request))
            if request.steady and is_there("steady", model, *request.question):
                answer = replace(answer, steadinesses=_steadinesses(answer, model, picture, request))
            session = session.answered(answer)
        except Exception as error:
            session = session.troubled(place, sentence(error))
        yield session


def _steadied(session: Session, picture: Image.Image) -> Iterator[Session]:
    """With one map more each time of which is known how steady it is."""
    request = session.request
    for answer in session.answers:
        name = request.models[answer.place]
        if answer.steadinesses:
            continue
        try:
            with turn(steady_cost(name, request.method, request.settings, request.spec)):
                doing(f"{common_name(name)}: is it sure?")
                found = _steadinesses(answer, _model(request, name), picture, request)
            session = session.answered(replace(answer, steadinesses=found))
        except Exception as error:
            session = session.troubled(answer.place, sentence(error))
        yield session


def _compared(session: Session, picture: Image.Image) -> Iterator[Session]:
    """With one comparison more each time. Each waits anew until nobody wants a map."""
    request = session.request
    for answer in session.answers:
        name = request.models[answer.place]
        if answer.checks or request.method.startswith("captum:"):
            continue
        try:
            with turn(addition="Captum is asked too"):
                doing(f"{common_name(name)}: Captum")
                checks = _checks(answer, _model(request, name), picture, request)
            session = session.answered(replace(answer, checks=checks))
        except BusyError:
            session = session.troubled(answer.place, "Captum was not asked: too many are waiting here at the moment.")
        except Exception as error:
            session = session.troubled(answer.place, sentence(error))
        yield session


def _model(request: Request, name: str) -> ImageModel:
    return as_said(aside(get_model, name), request.sayings.of(name))


def _checks(answer: Answer, model: ImageModel, picture: Image.Image, request: Request) -> tuple[CrossCheck, ...]:
    return checked(model, picture, request.sha256, request.spec, answer.explanations, request.settings)


def _steadinesses(
    answer: Answer, model: ImageModel, picture: Image.Image, request: Request
) -> tuple[Steadiness | None, ...]:
    return steadied(model, picture, request.sha256, request.spec, answer.explanations, request.settings)


def explain_first() -> None:
    """Compute what the tab opens with, for whoever comes first: the same requests, kept by content. It never raises.

    Where GPUs are lent the models are loaded and nothing is computed: it would be on the visitors' time.
    """
    try:
        wish = Wish()
        picture = examples()[default_example(wish.models)]
        for name in wish.models:
            get_model(name)
        # Each in a turn of its own, so that a visitor who comes meanwhile gets his.
        for name in () if is_gpu_lent() else wish.models:
            request = request_of(replace(wish, models=(name,)), picture, None)
            for session in explain_all(request, unasked="the first view"):
                for trouble in session.troubles.values():
                    raise LSDError(trouble)
    except Exception as error:  # whoever opens the tab is told; the page goes on
        log.warning("The first view is not explained beforehand: %s", sentence(error))
