"""The tab “Evidence”: for each choice that a saliency map asks for, why its default is what it is."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr

from lsd.evaluation.choices import CHOICES, summary
from lsd.ui.choices import extras, html, texts
from lsd.ui.choices.try_it import TryIt
from lsd.ui.shared import evidence, markup
from lsd.ui.shared.address import QUICK, query_of, written
from lsd.ui.shared.evidence import FIRST, TAB, Asked
from lsd.ui.shared.examples import example_of
from lsd.ui.shared.files import script
from lsd.ui.shared.jobs import sentence
from lsd.ui.shared.long_event import ASKING, LONG, long_event, next_number

_PLAIN = {"padding": False, "apply_default_css": False, "elem_classes": "lsd-c"}


class ChoicesTab:
    """The tab's components and events; built inside a `gr.Blocks`. A choice is drawn when somebody first looks at it."""

    def __init__(self):
        told = summary()
        self.address = gr.Textbox("", visible=False)
        self.asked = gr.State(None)  # another number every time that pictures are asked for
        gr.HTML(html.overview(told), **_PLAIN)
        self.factor = gr.Radio(
            [(texts.label(name, told["factors"][name]), name) for name in CHOICES], value=FIRST,
            label="The choices", show_label=False, container=False, elem_id="choices-factor",
        )  # fmt: skip
        with gr.Row(elem_classes="lsd-c-choice"):
            with gr.Column(scale=7, min_width=320):
                self.head = gr.HTML(markup.status("Opening …"), elem_id="choices-head", **_PLAIN)
            with gr.Column(scale=5, min_width=320, elem_classes="lsd-c-try"):
                self.try_it = TryIt()
        self.try_it.build_results()
        self.scores = gr.HTML(elem_id="choices-scores", **_PLAIN)
        self.extras = gr.HTML(elem_id="choices-extras", **_PLAIN)
        gr.HTML(html.about(told), elem_id="choices-about", **_PLAIN)
        self.picture = self.try_it.picture
        self._events()

    def _events(self) -> None:
        inputs = {self.factor, *self.try_it.inputs}
        self.running = self.asked.change(
            long_event(self.make, self.try_it.status, "choices"),
            inputs,
            self.try_it.results,
            trigger_mode="multiple",
            **LONG,
        )
        write = {"fn": None, "inputs": self.address, "outputs": None, "js": written(TAB)}
        self.shown = [self.factor, self.address, self.head, self.scores, self.extras, *self.try_it.results]
        self.factor.input(self.choose, self.factor, self.shown, cancels=self.running, **QUICK).then(**write)
        self.try_it.run.click(
            self.ask, inputs, [self.address, self.asked], cancels=self.running, **ASKING
        ).then(**write)  # fmt: skip
        self.try_it.stop.click(
            lambda: markup.status("Stopped."), None, self.try_it.status, cancels=self.running, **QUICK
        )

    def restore(self, door: gr.HTML) -> None:
        """Show the choice that an address names, or the first; and its levels on the picture that it names."""
        outputs = [*self.shown, *self.try_it.inputs, self.asked]
        opened = door.choices(self.open, None, outputs, cancels=self.running, **ASKING)
        opened.then(None, self.address, None, js=written(TAB)).then(None, None, None, js=script("choices/choices.js"))

    def show(self, asked: Asked, wrong: str = "") -> dict:
        """A choice, and no pictures yet."""
        told = markup.status(wrong, error=True) if wrong else ""
        try:
            head, scores, more = _parts(asked.factor)
        except Exception as error:
            head, scores, more = markup.status(sentence(error), error=True), "", ""
        return self.try_it.cleared() | {
            self.factor: asked.factor, self.address: evidence.write(asked), self.head: told + head, self.scores: scores,
            self.extras: more,
        }  # fmt: skip

    def choose(self, factor: str) -> dict:
        """A visitor chooses a choice."""
        return self.show(Asked(factor))

    def open(self, event: gr.EventData) -> dict:
        """What an address says."""
        asked, wrong = evidence.read(query_of(event))
        update = self.show(asked, wrong) | self.try_it.updates(asked)
        return update | ({self.asked: next_number()} if asked.example else {})

    def ask(self, values: Mapping[Any, Any]) -> dict:
        """A visitor wants pictures: which of the page's, and of which model, becomes the address."""
        example = example_of(values[self.picture])
        asked = Asked(values[self.factor], values[self.try_it.model] or "", example)
        return {self.address: evidence.write(asked), self.asked: next_number()}

    def make(self, values: Mapping[Any, Any]) -> Iterator[dict]:
        """The long event."""
        yield from self.try_it.make(values[self.factor], values)


@functools.cache
def _parts(factor: str) -> tuple[str, str, str]:
    """A choice's head, scores and extras; drawing the plots takes a second."""
    told = summary()
    return tuple(part(told, factor) for part in (html.head, html.scores, extras.extras))
