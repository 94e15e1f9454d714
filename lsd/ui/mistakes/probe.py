"""The probe in the Mistakes tab: the pixels that a map points at are taken away, and the model is asked again."""

from collections.abc import Iterator

import gradio as gr
import torch

from lsd.catalogue import common_name
from lsd.evaluation.probe import FILLS, ProbeResult, probe
from lsd.models import ImageModel, get_model, loaded_model
from lsd.ui.mistakes import texts as texts
from lsd.ui.mistakes import views
from lsd.ui.mistakes.plot import probe_plot
from lsd.ui.mistakes.views import MAPS, Case, Reading, Search
from lsd.ui.shared import markup
from lsd.ui.shared.jobs import aside, doing, sentence, turn
from lsd.ui.shared.markup import escape, top_table
from lsd.ui.shared.pace import Cost, measured

SHARES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5)  # of the pixels, for the curve
DEFAULT_SHARE = 2  # per cent

_REMOVED = ("the most salient pixels gone", "random pixels gone", "random blobs gone")


class ProbePart:
    """The components, and what they do; built inside a column that is shown once there is a map to test."""

    def __init__(self):
        gr.HTML(
            "<h3>Does the model need those pixels?</h3><div class='lsd-note'>The probe takes the most salient pixels away "
            "and asks the model again. If the map is right, the answer changes sooner than when as many pixels are taken "
            "at random, one by one or in blobs as large as the map's own.</div>"
        )
        with gr.Row():
            with gr.Column(scale=4, min_width=300):
                self._controls()
            with gr.Column(scale=9, min_width=600):
                self._results()

    def _controls(self) -> None:
        self.model = gr.Radio([], label="Model", info="Those that are wrong about this picture.")
        self.which = gr.Radio(
            [(texts.TITLES[name], name) for name in reversed(MAPS)], value="contrast", label="Most salient in the map of",
            info="wrong − true is what decided between the two, so it is the default.",
        )  # fmt: skip
        self.fill = gr.Radio(
            list(FILLS), value="mean", label="What takes their place",
            info="mean: the network's mean colour, its own zero; blur: the blurred picture, which keeps the colours of "
            "the place and so makes fewer new edges.",
        )  # fmt: skip
        self.share = gr.Slider(
            0, 50, DEFAULT_SHARE, step=0.5, label="Pixels removed, %", buttons=["reset"],
            info="A tag in the corner is about 1 %; where 20 % are needed, the map points at no single thing.",
        )  # fmt: skip

    def _results(self) -> None:
        self.verdict = gr.HTML()
        self.images, self.answers = [], []
        with gr.Row():
            for _ in _REMOVED:
                with gr.Column(min_width=170):
                    self.images.append(
                        gr.Image(format="png", interactive=False, show_label=False, buttons=["fullscreen"], height=240)
                    )
                    self.answers.append(gr.HTML())
        self.plot = gr.Image(format="png", interactive=False, show_label=False, buttons=["download", "fullscreen"])

    @property
    def inputs(self) -> list[gr.components.Component]:
        """What `ask` takes after the search."""
        return [self.model, self.which, self.fill, self.share]

    @property
    def outputs(self) -> list[gr.components.Component]:
        return [self.verdict, *self.images, *self.answers, self.plot]

    @property
    def changes(self) -> list:
        """The visitor's changes that may take another curve; the share is not among them."""
        return [self.model.input, self.which.input, self.fill.input]

    def ask(self, search: Search | None, name: str | None, which: str, fill: str, share: float) -> Iterator[dict]:
        """Remove pixels: the curve, once for each setting, and what the model says at the slider's share."""
        case = search and search.case
        reading = case and name and case.reading(name)
        if not reading:
            return
        wanted = case.probed = (name, which, fill, share)
        try:
            model = aside(get_model, name)
            if (name, which, fill) not in case.curves:
                yield {self.verdict: markup.status(f"Asking {name} again with pixels removed …")}
                with turn(cost := Cost(("probe", name), 1)), measured(cost):
                    if search.case is not case:
                        return  # another mistake was chosen since
                    doing(name)
                    case.curves[name, which, fill] = _curve(model, reading, which, fill)
            batch = views.removals(model, reading, which, share / 100, fill)
            tops = views.answers(model, batch)  # waits where somebody else runs the same model
            if search.case is case and case.probed == wanted:  # else the visitor has moved on
                yield self._show(case, reading, batch, tops, wanted)
        except Exception as error:
            yield {self.verdict: markup.status(sentence(error), error=True)}

    def look(self, search: Search | None, name: str | None, which: str, fill: str, share: float) -> dict:
        """The pictures and the curve at the slider's share, where the curve is there; nobody has to be waited for."""
        case = search and search.case
        reading = case and name and case.reading(name)
        model = reading and loaded_model(name)
        if not model or (name, which, fill) not in case.curves:
            return {self.verdict: gr.skip()}
        wanted = case.probed = (name, which, fill, share)
        batch = views.removals(model, reading, which, share / 100, fill)
        return self._show(case, reading, batch, None, wanted)

    def _show(self, case: Case, reading: Reading, batch: torch.Tensor, tops: list | None, wanted: tuple) -> dict:
        """Args: tops: what the model says of the batch; None if it was not asked yet."""
        name, which, fill, percent = wanted
        share, curve = percent / 100, case.curves[name, which, fill]
        flips = texts.flip_sentence(curve)
        verdict = texts.probe_sentence(reading, share, tops) if tops else f"Asking {common_name(name)} …"
        wrong, true = reading.names["predicted"], reading.names["true"]
        plot = probe_plot(curve, (f"{wrong}, {common_name(reading.model)}'s answer", f"{true}, the truth"), share)
        updates = {
            self.verdict: f'<div class="lsd-verdict"><b>{escape(verdict)}</b><br>{escape(flips)}</div>',
            self.plot: gr.update(value=plot, alt_text=f"{verdict} {flips}"),
        }
        shown = zip(_REMOVED, views.pictures(batch), tops or [None] * len(_REMOVED), strict=True)
        for k, (words, picture, top) in enumerate(shown):
            said = f"; the answer is {top[0][1]}" if top else ""
            alt = f"The picture with {100 * share:g} % of its pixels removed, {words}{said}"
            updates[self.images[k]] = gr.update(value=picture, alt_text=alt)
            rows = top_table(top, true) if top else ""
            updates[self.answers[k]] = f"<div class='lsd-note'>{words}</div>{rows}"
        return updates


def _curve(model: ImageModel, reading: Reading, which: str, fill: str) -> ProbeResult:
    image = torch.from_numpy(reading.image)[None].to(model.device, model.dtype)
    classes = (reading.wrong, reading.true)
    return probe(model, image, reading.strengths[which], fractions=SHARES, classes=classes, fill=fill)
