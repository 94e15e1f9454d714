"""Attention, head by head: where each head of a transformer's layer looks in the picture that was explained."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import gradio as gr
import numpy as np

from lsd import render
from lsd.catalogue import common_name
from lsd.errors import LSDError, UndefinedError
from lsd.images import fit_within, open_image
from lsd.layers import as_said
from lsd.models import get_model
from lsd.saliency.heads import Heads, in_words, parse_place, pictures, whence
from lsd.ui.saliency.results import bar, light
from lsd.ui.saliency.session import Session
from lsd.ui.shared import attended, markup
from lsd.ui.shared.address import QUICK
from lsd.ui.shared.jobs import aside, doing, sentence, turn
from lsd.ui.shared.long_event import LONG, long_event
from lsd.ui.shared.markup import escape
from lsd.ui.shared.served import serve

_SIDE = 320  # pixels of a head's picture
_LAST = ("the last", "")
_NOTE = (
    "In transformers, where each head of a layer looks. It is no attribution: a head may look where nothing of the answer comes "
    "from."
)


class HeadsPanel:
    """The components and their events; built inside a `gr.Blocks`.

    Attributes:
        session: the tab's, whose picture and models are looked at.
    """

    def __init__(self, session: gr.State):
        self.session = session
        with gr.Accordion("Attention, head by head", open=False, elem_id="heads", elem_classes="lsd-heads-panel"):
            gr.Markdown(_NOTE, elem_classes="lsd-about")
            with gr.Row():
                self.model = gr.Dropdown(
                    [],
                    value=None,
                    label="Model",
                    min_width=180,
                    scale=2,
                    info="Of those that have explained the picture.",
                )
                self.layer = gr.Dropdown([_LAST], value="", label="Layer", min_width=180, scale=2, info="Of attention.")
                self.place = gr.Textbox(
                    "", label="From the place", placeholder="row,column", max_length=40, min_width=140,
                    info="That looks, counted from 0; empty: what the output is made of.",
                )  # fmt: skip
            self.show = gr.Button("Show the heads", size="sm", min_width=160, elem_id="show-heads")
            self.status = gr.HTML()
            self.figure = gr.HTML(apply_default_css=False, elem_classes="lsd-heads")
        asked = {self.session, self.model, self.layer, self.place}
        shown = [self.status, self.figure, self.model, self.layer]
        self.running = gr.on(
            [self.show.click, self.layer.input, self.model.input, self.place.submit],
            long_event(self._show, self.status, "attention"), asked, shown, trigger_mode="always_last", **LONG,
        )  # fmt: skip

    def forget_with(self, event: Callable) -> None:
        """With that event the picture is another one, and the figure goes."""
        event(lambda: ("", ""), None, [self.status, self.figure], cancels=self.running, **QUICK)

    def _show(self, given: Mapping[gr.blocks.Block, Any]) -> Iterator[dict]:
        """The long event: reads the attention, and shows each head."""
        try:
            session = given[self.session]
            if session is None or not session.answers:
                raise LSDError("There is no explained picture yet: press Explain first.")
            yield {self.status: markup.status("Looking …")}
            found = read(session, given[self.model], given[self.layer] or "", given[self.place] or "")
            names = [(common_name(name), name) for name in session.models]
            yield {
                self.status: "", self.figure: figure(session, found, partial(serve, self.figure)),
                self.model: gr.update(choices=names, value=found.model),
                self.layer: gr.update(choices=[_LAST, *found.layers], value=given[self.layer] and found.layer),
            }  # fmt: skip
        except Exception as error:
            yield {self.status: markup.status(sentence(error), error=True), self.figure: ""}


def read(session: Session, model: str | None, layer: str, place: str) -> Heads:
    """The heads of a layer for the picture of a session.

    Args:
        model: one of those that explained it; what is none of them stands for the first whose attention can be read.
        layer: of the model; one that it does not have stands for the last.

    Raises:
        LSDError: no attention that can be read, or no such place.
    """
    start, refused = parse_place(place), []
    for name in [model] if model in session.models else session.models:
        try:
            return _heads(session, name, layer, start)
        except UndefinedError as error:
            refused.append(error)
    raise refused[0]


def _heads(session: Session, name: str, layer: str, start: tuple[int, int] | None) -> Heads:
    request = session.request
    doing(common_name(name))
    model = as_said(aside(get_model, name), request.sayings.of(name))
    picture = open_image(request.path)
    with turn(attended.cost(model.name)):
        look = partial(attended.attended, model, picture, request.sha256, place=start, view=request.view)
        last = look("")
        return last if layer not in last.layers else look(layer)


def figure(session: Session, found: Heads, keep: Callable[[str, bytes], str]) -> str:
    """Each head's map on the picture, with what is to be said of it.

    Args:
        keep: file name, content → the address that the page gets it from.
    """
    title = f"{common_name(found.model)}, {found.layer}: {whence(found)}"
    figures = []
    shown = pictures(fit_within(session.shown, _SIDE), found)
    for head, (image, words) in enumerate(zip(shown, in_words(found), strict=True)):
        address = keep(f"head-{head}.jpg", light(image))
        figures.append(
            f'<figure><img src="{escape(address)}" alt="{escape(f"{title}: {words}")}" width="{image.width}" '
            f'height="{image.height}"><figcaption>{escape(words)}</figcaption></figure>'
        )
    ramp = render.colorize(np.linspace(0, 1, 128)[None], signed=False)
    legend = f'<div class="lsd-legend">{bar(ramp, "0", "each head’s strongest")}</div>'
    return f'<h3>{escape(title)}</h3><div class="lsd-others">{"".join(figures)}</div>{legend}'
