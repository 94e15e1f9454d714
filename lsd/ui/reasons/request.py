"""What a visitor asks of the Reasons tab, checked before anything is loaded. No Gradio here."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from lsd.errors import LSDError
from lsd.images import file_sha256
from lsd.models import loaded_model
from lsd.reasons.region import Box
from lsd.ui.shared import controls
from lsd.ui.shared.examples import example_of
from lsd.ui.shared.reason_words import CHANNELS, GROUPS
from lsd.ui.shared.reasoned import ZERO, Question, decision, is_there

VIEWS = (GROUPS, CHANNELS)


@dataclass(frozen=True)
class Wish:
    """What the controls say, as far as an address can say it too. By default what a fresh page asks for.

    Attributes:
        example: name of the picture; "" for one of the visitor's own, or of a set.
        source, item: the set that the picture is of, and its id there; "" for none.
        of, against: as `reasoned.decision` reads them.
        layer: "" for the default of each model.
        fill: what takes the place of what is off.
        view: one of `VIEWS`.
        unit: a channel that is shown, whether it is among the first or not.
        off: (model's place, name) of what is switched off.
        region: of the picture, outside of which nothing is off; None for none.
    """

    models: tuple[str, ...] = field(default_factory=lambda: tuple(controls.default_models()[:1]))
    example: str = ""
    source: str = ""
    item: str = ""
    of: str = ""
    against: str = ""
    layer: str = ""
    fill: str = ZERO
    view: str = GROUPS
    unit: str = ""
    off: tuple[tuple[int, str], ...] = ()
    region: Box | None = None


@dataclass(frozen=True)
class Request:
    """What is run: one question to each of the models about one picture."""

    path: Path
    models: tuple[str, ...]
    of: str
    against: str
    layer: str
    fill: str

    @cached_property
    def question(self) -> Question:
        """As `reasoned` takes it."""
        return Question(file_sha256(self.path), decision(self.of, self.against), self.layer, self.fill)

    @property
    def is_answered(self) -> bool:
        """Whether all is there already, so that no model runs."""
        models = [loaded_model(name) for name in self.models]
        return all(model and is_there(model, self.question) for model in models)

    @property
    def example(self) -> str:
        """The name of the example that the picture is; "" if it is none."""
        return example_of(self.path)


def request_of(wish: Wish, picture: str | Path | None) -> Request:
    """What is run for a wish.

    Raises:
        LSDError: one sentence on what is missing.
    """
    if not picture:
        raise LSDError("There is no picture yet: upload one, paste one, or choose an example.")
    names = controls.checked_models(wish.models)
    return Request(Path(picture), tuple(names), wish.of, wish.against, wish.layer, wish.fill)
