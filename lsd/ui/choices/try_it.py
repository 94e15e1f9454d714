"""The levels of a choice on a picture: the controls, and the long event behind them."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from lsd.catalogue import common_name
from lsd.errors import LSDError
from lsd.evaluation.variants import FACTORS
from lsd.footprint import LOOK
from lsd.images import fit_within, open_image
from lsd.models import get_model
from lsd.ui.choices import html, pictures, texts
from lsd.ui.shared import controls, gpu, markup
from lsd.ui.shared.evidence import Asked
from lsd.ui.shared.examples import examples
from lsd.ui.shared.jobs import about, aside, sentence, turn
from lsd.ui.shared.pace import Cost, measured
from lsd.ui.shared.picture import UPLOADED, PictureInput, example_picker
from lsd.ui.shared.room import room_for_passes
from lsd.weights import ready_models

INVITATION = "Every level side by side, on the model’s first choice of class."
_HIDDEN = "hidden"  # but there: False takes it out of the page, and what it is given while it is put back can get lost
_WAITING = (148, 163, 184)  # the colour of a picture that is to come, on a light and on a dark page


class TryIt:
    """Its components; built inside a `gr.Blocks`, the results by `build_results`, where they are to stand.

    Attributes:
        picture: the visitor's.
    """

    def __init__(self):
        models = controls.default_models()[:1]
        example = controls.default_example(models)
        with gr.Row(elem_classes="lsd-c-try-row"):
            self.picture = PictureInput(
                str(examples()[example]), label="Picture", height=190, min_width=150, scale=2, elem_id="choices-picture",
                **UPLOADED,
            )  # fmt: skip
            with gr.Column(min_width=150, scale=3):
                self.example = example_picker(self.picture, example)
                self.model = gr.Dropdown(
                    [(common_name(name), name) for name in ready_models()], value=models[0] if models else None, label="Model"
                )  # fmt: skip
        with gr.Row():
            self.run = gr.Button("Show on a picture", variant="primary", elem_id="choices-run", scale=3)
            self.stop = gr.Button("Stop", variant="stop", min_width=70, scale=1)
        self.status = gr.HTML(markup.status(INVITATION), padding=False, elem_id="choices-status")

    def build_results(self) -> None:
        """The pictures, and why some are not there."""
        self.gallery = gr.Gallery(
            show_label=False, columns=5, object_fit="contain", height="auto", visible=_HIDDEN, interactive=False,
            buttons=["download", "fullscreen"], format="jpeg", elem_classes="lsd-c-gallery",
        )  # fmt: skip
        self.missing = gr.HTML(visible=_HIDDEN, padding=False, apply_default_css=False, elem_classes="lsd-c")

    @property
    def results(self) -> list[gr.components.Component]:
        return [self.status, self.gallery, self.missing]

    @property
    def inputs(self) -> set[gr.components.Component]:
        return {self.picture, self.model}

    def cleared(self, status: str = "") -> dict:
        """No pictures."""
        return {
            self.gallery: gr.update(value=None, visible=_HIDDEN), self.missing: gr.update(visible=_HIDDEN),
            self.status: status or markup.status(INVITATION),
        }  # fmt: skip

    def updates(self, asked: Asked) -> dict:
        """What an address names; a picture of the visitor's stays if it names none."""
        update = {self.model: asked.model} if asked.model in ready_models() else {}
        return update | ({self.picture: str(examples()[asked.example])} if asked.example else {})

    def make(self, factor: str, values: Mapping[Any, Any]) -> Iterator[dict]:
        """The maps of all levels, those of a few passes first, each shown as soon as it is there."""
        try:
            if not values[self.picture]:
                raise LSDError("There is no picture yet: upload one, paste one, or choose an example.")
            path, (model,) = Path(values[self.picture]), controls.checked_models([values[self.model] or ""])
            yield self._waiting(factor, path) | {self.status: markup.status(f"Loading {common_name(model)} …")}
            network = aside(get_model, model)
            about(network.name, method=factor)
            cost = Cost(("choices", model, factor), 1)
            room = room_for_passes(f"These maps of {common_name(model)}", [network], LOOK)
            cases = gpu.steps(pictures.cases, network, path, factor)
            with turn(cost), room, measured(cost), closing(cases):
                for case in cases:
                    yield self._shown(factor, case)
            said = f"{case.said}. The maps are of its log-odds unless a level says otherwise."
            # All pictures once more with the last word: the page may not have kept those that came while it was busy.
            yield {**self._shown(factor, case, over=True), self.status: markup.status(said)}
        except Exception as error:
            yield self.cleared(markup.status(sentence(error), error=True))

    def _waiting(self, factor: str, path: Path) -> dict:
        """The shape of what is to come."""
        blank = Image.new("RGB", fit_within(open_image(path), pictures.SIDE).size, _WAITING)
        shown = [(blank, _caption(factor, v.level)) for v in FACTORS[factor].levels]
        return {self.gallery: gr.update(value=shown, visible=True), self.missing: gr.update(visible=_HIDDEN)}

    def _shown(self, factor: str, case: pictures.Case, *, over: bool = False) -> dict:
        """Those that are there, in the order of the table; those that are to come, blank."""
        levels, blank = [v.level for v in FACTORS[factor].levels], Image.new("RGB", case.picture.size, _WAITING)
        there = [level for level in levels if level in case.shown or not (over or level in case.missing)]
        shown = [(case.shown.get(level, blank), _caption(factor, level)) for level in there]
        missing = {texts.name(factor, level): case.missing[level] for level in levels if level in case.missing}
        return {
            self.gallery: gr.update(value=shown, visible=True),
            self.missing: gr.update(value=html.reasons(missing, case.model.name), visible=bool(missing) or _HIDDEN),
        }  # fmt: skip


def _caption(factor: str, level: str) -> str:
    return texts.name(factor, level) + (" (default)" if level == FACTORS[factor].default else "")
