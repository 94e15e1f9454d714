"""The work behind the Reasons tab: one picture, one model after the other; then what its units look like. No Gradio here."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing

from PIL import Image

from lsd.catalogue import common_name
from lsd.errors import LSDError
from lsd.evaluation.labelled import open_set
from lsd.images import file_sha256, fit_within, open_image
from lsd.models import ImageModel, get_model, loaded_model
from lsd.process import is_gpu_lent
from lsd.provenance import png
from lsd.reasons.drawn import OF_UNITS
from lsd.ui.reasons.request import Request, Wish, request_of
from lsd.ui.reasons.session import Run
from lsd.ui.shared import controls, unit_pictures
from lsd.ui.shared.examples import examples
from lsd.ui.shared.jobs import about, aside, doing, sentence, turn
from lsd.ui.shared.reasoned import cost, reasoned, without
from lsd.ui.shared.scratch import new_folder
from lsd.ui.shared.unit_names import verdicts

log = logging.getLogger("lsd")

DISPLAY_SIDE = 640  # pixels of the longer edge

Find = Callable[[ImageModel, Sequence[str]], Mapping[str, str]]  # units → addresses of pictures that are there
Serve = Callable[[str, bytes], str]  # file name, content → address


def begun(request: Request) -> Run:
    """Before any model was asked.

    Raises:
        LSDError: the picture cannot be read.
    """
    return Run(request, fit_within(open_image(request.path), DISPLAY_SIDE))


def ask(run: Run, find: Find, serve: Serve, *, unasked: str = "") -> Iterator[None]:
    """Ask one model after the other, each with its own reasons off; a failure leaves the others.

    Args:
        find: where pictures of units are there already.
        unasked: what it is for, if no visitor has asked for it.

    Yields:
        whenever the run has come further; once, where all of it was answered before.
    """
    request = run.request
    picture = open_image(request.path)
    costs = [cost(name, request.question) for name in request.models]

    def is_there() -> bool:
        return request.is_answered and not run.pairs

    if is_there():
        for place in range(len(request.models)):
            _ask(run, place, picture, find, serve)
        yield
        return
    with turn(*costs, addition=unasked, needless=is_there):
        for place in range(len(request.models)):
            _ask(run, place, picture, find, serve)
            yield


def _ask(run: Run, place: int, picture: Image.Image, find: Find, serve: Serve) -> None:
    name = run.request.models[place]
    try:
        doing(f"Loading {common_name(name)}")
        model = aside(get_model, name)
        about(model.name)
        doing(common_name(name))
        account = reasoned(model, picture, run.request.question)
        about(model.name, method=account.reasons.layer)
        run.accounts[place] = account
        units = [thing.reason.unit for thing in (*account.groups, *account.channels, *account.against)]
        units += [account.find(name).unit for name in run.extra(place)]
        drawn = {unit: _served(serve, data) for unit, data in unit_pictures.kept(model, units).items()}
        run.pictures |= {(model.name, unit): address for unit, address in (drawn | dict(find(model, units))).items()}
        if complaint := run.refused(place, run.region):
            run.region = None
            run.complaints.append(complaint)
        if run.off.get(place):
            _switch(run, place, model, picture)
    except Exception as error:
        run.troubles[place] = sentence(error)


def _served(serve: Serve, data: bytes) -> str:
    return serve("unit.jpg", data) if data else ""


def switch(run: Run, place: int) -> None:
    """What a model says without those of its reasons that are off."""
    if not run.off.get(place):
        return
    name = run.request.models[place]
    doing(f"{common_name(name)} without {len(run.off[place])} of its reasons")
    model = aside(get_model, name)
    about(model.name, method=run.accounts[place].reasons.layer)
    with turn():
        _switch(run, place, model, open_image(run.request.path))


def _switch(run: Run, place: int, model: ImageModel, picture: Image.Image) -> None:
    account, off = run.accounts[place], tuple(run.off[place])
    if any(account.find(name) for name in off):
        run.switchings[place] = without(model, picture, run.request.question, account, off, run.region)


def draw(run: Run, serve: Serve, *, unasked: str = "pictures of its units") -> Iterator[int]:
    """Draw the pictures that the view lacks, a few at a time, and ask other networks what they see in them; yields the place of the
    model that has come further."""
    run.forming.clear()
    for place, account in sorted(run.accounts.items()):
        if _name(run, place, unasked):
            yield place
        while missing := run.missing(place)[: unit_pictures.AT_ONCE]:
            model = aside(get_model, account.model)
            about(model.name, method=OF_UNITS.name)
            try:
                with turn(unit_pictures.cost(model, missing), addition=unasked):
                    for _ in _drawn(run, model, missing, serve):
                        yield place
                if _name(run, place, unasked):
                    yield place
            except LSDError:
                run.pictures |= {(model.name, unit): "" for unit in missing}
                yield place
                raise


def _drawn(run: Run, model: ImageModel, units: Sequence[str], serve: Serve) -> Iterator[None]:
    there = unit_pictures.kept(model, units)  # drawn for somebody else, while this one waited
    run.pictures |= {(model.name, unit): _served(serve, data) for unit, data in there.items()}
    if len(there) == len(units):
        yield
        return
    doing(f"{common_name(model.name)}: what its units look like")
    with closing(unit_pictures.draw(model, [unit for unit in units if unit not in there])) as steps:
        for made, finished in steps:
            found = {(model.name, unit): _served(serve, data) for unit, data in made.items()}
            (run.pictures if finished else run.forming).update(found)
            yield


def _name(run: Run, place: int, unasked: str) -> bool:
    """Have the networks of the run, and those that the page begins with, as far as they are loaded, say what they see in a model's
    pictures; whether there was one to be named."""
    own = run.accounts[place].model
    units = [unit for unit in run.units(place) if run.pictures.get((own, unit)) and (own, unit) not in run.verdicts]
    if not units:
        return False
    others = [loaded_model(name) for name in dict.fromkeys([*run.request.models, *controls.default_models()])]
    judges = [judge for judge in others if judge and judge.num_classes and judge.name != own]
    with turn(addition=unasked):
        found = verdicts(aside(get_model, own), units, judges)
    run.verdicts |= {(own, unit): found.get(unit, ()) for unit in units}
    return bool(found)


def ask_first(find: Find) -> None:
    """Compute what the tab opens with, for whoever comes first, pictures included. It never raises.

    Where GPUs are lent nothing is computed: it would be on the visitors' time.
    """
    if is_gpu_lent():
        return
    try:
        wish = Wish()
        run = begun(request_of(wish, examples()[controls.default_example(wish.models)]))
        for _ in ask(run, find, _nowhere, unasked="the first view"):
            for trouble in run.troubles.values():
                raise LSDError(trouble)
        for _ in draw(run, _nowhere, unasked="the first view"):
            pass
    except Exception as error:  # whoever opens the tab is told; the page goes on
        log.warning("The first view of reasons is not computed beforehand: %s", sentence(error))


def _nowhere(name: str, content: bytes) -> str:
    """An address for nobody."""
    return name


def picture_of_set(source: str, item: str) -> tuple[str, tuple[str, str, str]]:
    """The file of a picture of a labelled set, and where it is from.

    Raises:
        LSDError: the set or the picture cannot be had.
    """
    found = next((one for one in open_set(source) if one.id == item), None)
    if found is None:
        raise LSDError(f"{source} has no picture “{item}”.")
    path = new_folder() / "picture.png"
    path.write_bytes(png(found.picture()))
    return str(path), (file_sha256(path), source, item)
