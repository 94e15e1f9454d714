"""The one mistake that is explained: the picture, what every model says, and its maps."""

from collections.abc import Iterator, Mapping

import gradio as gr

from lsd.saliency import defaults
from lsd.saliency.methods import METHODS
from lsd.ui.mistakes import html, texts, views
from lsd.ui.mistakes.explain import explain, new_case
from lsd.ui.mistakes.request import OVERLAYS, SCALES, Look
from lsd.ui.mistakes.session import Session
from lsd.ui.shared import controls, markup
from lsd.ui.shared.files import script
from lsd.ui.shared.jobs import sentence


class CasePart:
    """The components, and what they show; built inside a column that is there while there is something to explain."""

    def __init__(self):
        self.title = gr.HTML("<h3>&nbsp;</h3>", elem_classes="lsd-m-title")
        self.progress = gr.HTML(markup.status("A mistake is explained here once one is found."))
        with gr.Row(elem_classes="lsd-m-case-row"):
            with gr.Column(scale=3, min_width=260):
                self.original = gr.HTML(
                    '<div class="lsd-m-blank"></div>',
                    elem_classes="lsd-m-original",
                    js_on_load=script("mistakes/zoom.js"),
                )
                self.about = gr.HTML()
            with gr.Column(scale=10, min_width=320):
                self.maps = gr.HTML(
                    html.blank_maps(), elem_classes="lsd-m-place", js_on_load=script("mistakes/zoom.js")
                )
                self.legend = gr.HTML()
        with gr.Row(elem_classes="lsd-m-controls"):
            with gr.Column(scale=1, min_width=260):
                self.method = controls.method_picker(captum=False)
                self.what = gr.Markdown(controls.describe_method(METHODS[defaults.METHOD]))
            self.scale = gr.Radio(
                [(words, name) for name, words in SCALES.items()], value=Look().scale, label="Scale", min_width=260,
                info="Raw strengths of two networks mean different things, so each model has its own scale. rank compares "
                "where models look, whatever their strength.",
            )  # fmt: skip
            self.overlay = gr.Radio(
                [(words, name) for name, words in OVERLAYS.items()], value=Look().overlay, label="Overlay", min_width=260,
                info="The difference lies on a grey picture, so that its red and blue are not the picture's.",
            )  # fmt: skip

    @property
    def controls(self) -> dict[str, gr.components.Component]:
        """By the fields of `Look`."""
        return {"method": self.method, "scale": self.scale, "overlay": self.overlay}

    @property
    def outputs(self) -> set[gr.blocks.Block]:
        """What `explain` and `draw` change."""
        return {self.title, self.progress, self.original, self.about, self.maps, self.legend}

    def read(self, values: Mapping) -> Look:
        """What the controls say."""
        return Look(**{name: values[component] for name, component in self.controls.items()})

    def show(self, look: Look) -> dict:
        """Updates of the controls."""
        updates = {component: getattr(look, name) for name, component in self.controls.items()}
        return updates | {self.what: controls.describe_method(METHODS[look.method])}

    def wait(self) -> dict:
        """While it is not known yet what is explained."""
        return {
            self.title: "<h3>&nbsp;</h3>",
            self.progress: markup.status("A mistake is explained here once one is found."),
            self.original: '<div class="lsd-m-blank"></div>',
            self.about: "",
            self.maps: html.blank_maps(),
            self.legend: "",
        }

    def explain(self, session: Session, number: int) -> Iterator[dict]:
        """What every model says of the picture that is asked for, and its maps, model by model."""
        search, choice, method = session.search, session.choice, session.view.look.method
        try:
            case = session.case
            if case is None or (case.choice, case.method) != (choice, method):
                case = session.case = new_case(search.result, choice, method)
                yield self.wait()
            yield self._begin(case)
            if case.readings:
                yield self.draw(session)
            for _ in explain(search.result, case):
                if session.is_past(number):
                    return
                yield self.draw(session)
            text = " ".join([texts.wrong_count(case.said, len(search.result.models)), *_failures(case)])
            yield {
                self.progress: markup.status(text, error=bool(case.failures)),
                self.about: texts.about(case) + texts.next_questions(case, search),
            }
        except Exception as error:
            yield {self.progress: markup.status(sentence(error), error=True)}

    def _begin(self, case: views.Case) -> dict:
        picture = html.image(views.enlarged(case.picture), f"The picture: {case.said.true_name}", name="picture")
        return {
            self.title: texts.title(case.said),
            self.progress: markup.status("Explaining …"),
            self.original: picture,
            self.about: texts.about(case),
        }

    def draw(self, session: Session) -> dict:
        """All maps of the mistake anew; no model runs."""
        case, look = session.case, session.view.look
        if not case or not case.readings:
            return {self.legend: ""}
        shown = views.overlays(case, look.scale, look.overlay)
        return {self.maps: html.maps(case, shown), self.legend: texts.legend(case, look.scale)}


def _failures(case: views.Case) -> list[str]:
    return [f"{name}: {trouble}" for name, trouble in case.failures.items()]
