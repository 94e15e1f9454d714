"""One mistake explained by one model after the other. No Gradio here."""

from collections.abc import Iterator

from lsd.catalogue import common_name
from lsd.evaluation.mistakes import ScanResult
from lsd.footprint import LOOK
from lsd.images import fit_within
from lsd.models import get_model
from lsd.ui.mistakes import views
from lsd.ui.mistakes.views import Case, Choice
from lsd.ui.shared import gpu
from lsd.ui.shared.jobs import about, aside, doing, sentence, turn
from lsd.ui.shared.pace import Cost, measured
from lsd.ui.shared.room import room_for_passes


def new_case(result: ScanResult, choice: Choice, method: str) -> Case:
    """A mistake that no model was asked about yet. Raises ImageError if its picture is gone."""
    said = result.prediction(choice.row, choice.column)
    picture = said.item.picture()
    small = fit_within(picture, 2 * views.CELL_SIDE)
    return Case(choice, said, method, small, picture.size, said.item.parts())


def explain(result: ScanResult, case: Case) -> Iterator[None]:
    """Ask every model that was not asked yet; a method that one of them lacks leaves the others.

    Yields:
        whenever the case has one reading more.

    Raises:
        ImageError: the picture is gone.
    """
    left = [name for name in _order(result, case.choice) if not case.reading(name) and name not in case.failures]
    if not left:
        return
    costs = {name: Cost(("mistake", name, case.method), 1) for name in left}
    picture = case.said.item.picture()
    with turn(*costs.values()):
        for name, cost in costs.items():
            if case.reading(name):
                continue  # by work that was past when this one had to wait for its turn
            doing(common_name(name))
            try:
                model = aside(get_model, name)
                about(model.name, method=case.method)
                with room_for_passes(f"These maps of {common_name(name)}", [model], LOOK), measured(cost):
                    case.readings.append(gpu.call(views.read, model, result, case, picture))
            except Exception as error:  # a method that is not defined for this model; the others may have it
                case.failures[name] = sentence(error)
            yield


def _order(result: ScanResult, choice: Choice) -> list[str]:
    """The models that are wrong come first, and of them the one that was chosen."""
    wrong = result.wrong[:, choice.column]
    rows = sorted(range(len(wrong)), key=lambda row: (row != choice.row, not wrong[row], row))
    return [result.models[row] for row in rows]
