"""The Choices tab: for each choice that a saliency map asks for, why its default is what it is."""

import functools
from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from lsd.catalogue import common_name
from lsd.errors import LSDError
from lsd.evaluation.choices import CHOICES, summary
from lsd.evaluation.variants import FACTORS
from lsd.models import get_model
from lsd.ui.choices import extras, html, texts
from lsd.ui.choices import pictures as choices_pictures
from lsd.ui.shared import controls, markup
from lsd.ui.shared.evidence import FIRST, TAB, known, read
from lsd.ui.shared.examples import examples
from lsd.ui.shared.files import script
from lsd.ui.shared.jobs import aside, doing, sentence, turn
from lsd.ui.shared.long_event import LONG, long_event
from lsd.ui.shared.pace import Cost, measured
from lsd.weights import ready_models

_INVITATION = "Every level side by side, on the model’s first choice of class."
_QUICK = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
_WRITE_ADDRESS = f"factor => {{ history.replaceState(null, '', '?tab={TAB}&factor=' + factor); }}"
_HIDDEN = "hidden"  # but there: False takes it out of the page, and what it is given while it is put back can get lost
_SHOW_CHOICE = (
    "() => setTimeout(() => document.querySelector('#choices-factor')?.scrollIntoView({behavior: 'smooth'}), 150)"
)


class ChoicesTab:
    """The tab's components and events; built inside a `gr.Blocks`. A choice is drawn when somebody first looks at it."""

    def __init__(self):
        told = summary()
        self.drawn = gr.State("")  # the choice that is on the page
        gr.HTML(html.overview(told), padding=False, apply_default_css=False, elem_classes="lsd-c")
        self.factor = gr.Radio(
            [(texts.label(name, told["factors"][name]), name) for name in CHOICES], value=FIRST,
            label="The choices", show_label=False, container=False, elem_id="choices-factor",
        )  # fmt: skip
        with gr.Row():
            with gr.Column(scale=7, min_width=320):
                self.head = gr.HTML(
                    markup.status("Opening …"), padding=False, apply_default_css=False, elem_classes="lsd-c"
                )
            with gr.Column(scale=5, min_width=320, elem_classes="lsd-c-try"):
                self._inputs()
        self.gallery = gr.Gallery(
            show_label=False, columns=5, object_fit="contain", height="auto", visible=_HIDDEN, interactive=False,
            buttons=["download", "fullscreen"], format="jpeg", elem_classes="lsd-c-gallery",
        )  # fmt: skip
        self.missing = gr.HTML(visible=_HIDDEN, padding=False, apply_default_css=False, elem_classes="lsd-c")
        self.scores = gr.HTML(padding=False, apply_default_css=False, elem_classes="lsd-c")
        self.extras = gr.HTML(padding=False, apply_default_css=False, elem_classes="lsd-c")
        self._events()

    def _inputs(self) -> None:
        models = controls.default_models()[:1]
        example = controls.default_example(models)
        with gr.Row():
            self.picture = gr.Image(
                str(examples()[example]), type="filepath", format="jpeg", interactive=False, show_label=False, buttons=[],
                height=170, alt_text="The picture", min_width=120, scale=2,
            )  # fmt: skip
            with gr.Column(min_width=180, scale=3):
                self.example = gr.Dropdown(list(examples()), value=example, label="Picture")
                self.model = gr.Dropdown(
                    [(common_name(name), name) for name in ready_models()],
                    value=models[0],
                    label="Model",
                )
        with gr.Row():
            self.run = gr.Button("Show on a picture", variant="primary", elem_id="choices-run", scale=3)
            self.stop = gr.Button("Stop", variant="stop", min_width=70)
        self.status = gr.HTML(markup.status(_INVITATION), elem_id="choices-status")

    def _events(self) -> None:
        page = [self.drawn, self.head, self.scores, self.extras, self.gallery, self.missing, self.status]
        self.shown = [self.factor, *page]
        started = self.run.click(
            long_event(self._run, self.status), [self.factor, self.example, self.model], [self.gallery, self.missing, self.status],
            trigger_mode="once", **LONG,
        )  # fmt: skip
        self.running = [started]
        self.factor.input(None, self.factor, None, js=_WRITE_ADDRESS)
        self.factor.input(self.show, self.factor, self.shown, cancels=self.running, **_QUICK)
        self.example.input(lambda name: str(_picture(name)), self.example, self.picture, **_QUICK)
        self.stop.click(lambda: markup.status("Stopped."), None, self.status, cancels=self.running, **_QUICK)

    def restore(self, page: gr.Blocks, tabs: gr.Tabs, tab: gr.Tab) -> None:
        """Show a choice when its address is opened, when a link to it is followed, and one when the tab is first opened.

        Args:
            tabs, tab: all of them, and this one, in whose context this must not be called.
        """
        links = gr.HTML(js_on_load=script("choices/choices.js"), elem_classes="lsd-c-links")
        shown = [tabs, *self.shown]
        page.load(self._open, None, shown, **_QUICK)
        links.show(self._follow, None, shown, cancels=self.running, **_QUICK).then(None, None, None, js=_SHOW_CHOICE)
        tab.select(self._first, [self.drawn, self.factor], self.shown, **_QUICK)

    def show(self, factor: str) -> list:
        """Updates for `shown`: a choice, and no pictures yet."""
        try:
            parts = _parts(known(factor))
        except Exception as error:
            parts = (markup.status(sentence(error), error=True), "", "")
        pictures = [gr.update(value=None, visible=_HIDDEN), gr.update(visible=_HIDDEN), markup.status(_INVITATION)]
        return [known(factor), known(factor), *parts, *pictures]

    def _first(self, drawn: str, factor: str) -> list:
        return [gr.skip()] * len(self.shown) if drawn else self.show(factor)

    def _open(self, request: gr.Request) -> list:
        factor = read(request.query_params)
        return [gr.skip()] * (1 + len(self.shown)) if factor is None else [gr.update(selected=TAB), *self.show(factor)]

    def _follow(self, event: gr.EventData) -> list:
        return [gr.update(selected=TAB), *self.show((event._data or {}).get("factor"))]

    def _run(self, factor: str, example: str, model: str) -> Iterator[dict]:
        """The long event: the maps of all levels, those of a few passes first, each shown as soon as it is there."""
        try:
            factor, path = known(factor), _picture(example)
            (model,) = controls.checked_models([model or ""])
            yield {
                self.status: markup.status(f"Loading {common_name(model)} …"),
                self.gallery: gr.update(value=None, visible=_HIDDEN),
                self.missing: gr.update(visible=_HIDDEN),
            }
            aside(get_model, model)
            cost = Cost(("choices", model, factor), 1)
            with turn(cost), measured(cost):
                case = choices_pictures.open_case(model, path)
                for levels in choices_pictures.groups(FACTORS[factor]):
                    doing(", ".join(texts.name(factor, v.level) for v in levels))
                    choices_pictures.explain(case, levels)
                    yield self._pictures(factor, case)
            said = f"{case.said}. The maps are of its log-odds unless a level says otherwise."
            # All pictures once more with the last word: the page may not have kept those that came while it was busy.
            yield {**self._pictures(factor, case), self.status: markup.status(said)}
        except Exception as error:
            yield {self.status: markup.status(sentence(error), error=True)}

    def _pictures(self, factor: str, case: choices_pictures.Case) -> dict:
        """Those that are there, in the order of the table."""
        levels = [v.level for v in FACTORS[factor].levels]
        default = FACTORS[factor].default
        shown = [
            (case.shown[level], texts.name(factor, level) + (" (default)" if level == default else ""))
            for level in levels
            if level in case.shown
        ]
        missing = {texts.name(factor, level): case.missing[level] for level in levels if level in case.missing}
        return {
            self.gallery: gr.update(value=shown, visible=True),
            self.missing: gr.update(value=html.reasons(missing, case.model.name), visible=bool(missing) or _HIDDEN),
        }


def _picture(example: str) -> Path:
    """The file of an example.

    Raises:
        LSDError: there is none of that name.
    """
    if example not in examples():
        raise LSDError(f"There is no example “{example}”; choose one of {', '.join(examples())}.")
    return examples()[example]


@functools.cache
def _parts(factor: str) -> tuple[str, str, str]:
    """A choice's head, scores and extras; drawing the plots takes a second."""
    told = summary()
    return tuple(part(told, factor) for part in (html.head, html.scores, extras.extras))
