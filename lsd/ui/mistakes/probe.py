"""The probe in the Mistakes tab: the pixels that a map points at are taken away, and the model is asked again."""

from collections.abc import Iterator, Mapping

import gradio as gr
import torch

from lsd.catalogue import common_name
from lsd.evaluation.probe import FILLS, PROBED, ProbeResult, probe
from lsd.models import ImageModel, get_model, loaded_model
from lsd.ui.mistakes import html, texts, views
from lsd.ui.mistakes.plot import probe_plot
from lsd.ui.mistakes.request import DEFAULT_SHARE, LARGEST_SHARE, Removal
from lsd.ui.mistakes.session import Session
from lsd.ui.mistakes.views import MAPS, Case, Reading
from lsd.ui.shared import gpu, markup
from lsd.ui.shared.files import script
from lsd.ui.shared.jobs import about, aside, doing, sentence, turn
from lsd.ui.shared.markup import escape
from lsd.ui.shared.pace import Cost, measured
from lsd.ui.shared.room import room_for_passes

SHARES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5)  # of the pixels, for the curve

_REMOVED = ("the most salient pixels gone", "random pixels gone", "random blobs gone")


class ProbePart:
    """The components, and what they do; built inside a column that is shown while there is a map to test."""

    def __init__(self):
        gr.HTML(
            "<h3>Does the model need those pixels?</h3><div class='lsd-note'>The probe removes the most salient pixels and "
            "asks the model again. If the map is right, the answer changes sooner than when as many pixels are removed at "
            "random, one by one or in blobs as large as the map's own.</div>"
        )
        with gr.Row(elem_classes="lsd-m-probe"):
            with gr.Column(scale=4, min_width=260, elem_classes="lsd-m-second"):
                self._controls()
            with gr.Column(scale=10, min_width=320):
                self.verdict = gr.HTML(_waiting(), elem_classes="lsd-m-verdict")
                self.pictures = gr.HTML(
                    html.blank_removed(), elem_classes="lsd-m-place", js_on_load=script("mistakes/zoom.js")
                )
                self.plot = gr.HTML()

    def _controls(self) -> None:
        self.share = gr.Slider(
            0, LARGEST_SHARE, DEFAULT_SHARE, step=0.5, label="Pixels removed, %", buttons=["reset"],
            info="A tag in the corner is about 1%; where 20% are needed, the map points at no single thing.",
        )  # fmt: skip
        self.which = gr.Radio(
            [(texts.TITLES[name], name) for name in reversed(MAPS)], value="contrast", label="Most salient in the map of",
            info="wrong − true is what decided between the two.",
        )  # fmt: skip
        self.model = gr.Radio([], label="Model", info="Those that are wrong; all of them if none is.")
        self.fill = gr.Radio(
            list(FILLS), value="mean", label="What takes their place",
            info="mean: the network's mean colour, its own zero; blur: the blurred picture, which makes fewer new edges.",
        )  # fmt: skip

    @property
    def controls(self) -> dict[str, gr.components.Component]:
        """By the fields of `Removal`."""
        return {"model": self.model, "which": self.which, "fill": self.fill, "share": self.share}

    @property
    def outputs(self) -> set[gr.components.Component]:
        """What `ask`, `look` and `wait` change."""
        return {self.model, self.verdict, self.pictures, self.plot}

    @property
    def changes(self) -> list:
        """The visitor's changes; of the slider's number, its reset button makes no `input`."""
        return [self.model.input, self.which.input, self.fill.input, self.share.change]

    def read(self, values: Mapping) -> Removal:
        """What the controls say."""
        found = {name: values[component] for name, component in self.controls.items()}
        return Removal(**found | {"model": found["model"] or "", "share": float(found["share"])})

    def show(self, removal: Removal) -> dict:
        """Updates of the controls; the models are those of a case, which `begin` shows."""
        return {self.which: removal.which, self.fill: removal.fill, self.share: removal.share}

    def wait(self) -> dict:
        """While there is nothing to test yet."""
        return {self.verdict: _waiting(), self.pictures: html.blank_removed(), self.plot: ""}

    def ask(self, session: Session) -> Iterator[dict]:
        """Remove pixels: the curve, once for each setting, and what the model says at the chosen share."""
        case, removal = session.case, session.view.removal
        reading = _probed(case, removal)
        if not reading or case.probed == removal:
            return
        yield {self.model: _offered(case, reading)}
        try:
            name, key = reading.model, _key(reading, removal)
            model = aside(get_model, name)
            about(model.name, method=removal.which)
            if key not in case.curves:
                yield {self.verdict: markup.status(f"Asking {common_name(name)} again with pixels removed …")}
                cost = Cost(("probe", name), 1)
                with turn(cost), room_for_passes("This probe", [model], PROBED), measured(cost):
                    if session.case is not case:
                        return  # another mistake was chosen since
                    doing(common_name(name))
                    case.curves[key] = gpu.call(_curve, model, reading, removal)
            batch = views.removals(model, reading, removal.which, removal.share / 100, removal.fill)
            tops = views.answers(model, batch)  # waits where somebody else runs the same model
            if session.case is case and session.view.removal == removal:  # else the visitor has moved on
                case.probed = removal
                yield self._show(case, reading, batch, tops, removal)
        except Exception as error:
            yield {self.verdict: markup.status(sentence(error), error=True)}

    def look(self, session: Session) -> dict:
        """The pictures and the curve at the chosen share, where the curve is there; nobody has to be waited for."""
        case, removal = session.case, session.view.removal
        reading = _probed(case, removal)
        model = reading and loaded_model(reading.model)
        if not model or case.probed == removal or _key(reading, removal) not in case.curves:
            return {self.verdict: gr.skip()}
        case.probed = None
        batch = views.removals(model, reading, removal.which, removal.share / 100, removal.fill)
        return self._show(case, reading, batch, None, removal)

    def _show(self, case: Case, reading: Reading, batch: torch.Tensor, tops: list | None, removal: Removal) -> dict:
        """Args: tops: what the model says of the batch; None if it was not asked yet."""
        share, curve = removal.share / 100, case.curves[_key(reading, removal)]
        flips, who = texts.flip_sentence(curve), common_name(reading.model)
        verdict = texts.probe_sentence(reading, share, tops) if tops else f"Asking {who} …"
        wrong, true = reading.names["predicted"], reading.names["true"]
        role = f"{who}'s answer" if reading.mistaken else texts.role(case, reading)
        shown = [
            (words, picture, f"The picture with {removal.share:g}% of its pixels removed, {words}", top)
            for words, picture, top in zip(_REMOVED, views.pictures(batch), tops or [None] * len(_REMOVED), strict=True)
        ]
        return {
            self.verdict: f'<div class="lsd-verdict" role="status"><b>{escape(verdict)}</b><br>{escape(flips)}</div>',
            self.pictures: html.removed(shown, reading.true),
            self.plot: probe_plot(curve, (f"{wrong}, {role}", f"{true}, the truth"), share),
        }


def _waiting() -> str:
    return markup.status("The probe runs once a map is there.")


def _probed(case: Case | None, removal: Removal) -> Reading | None:
    """The reading that is tested: of the model that is named, if it is offered, else of the first."""
    offered = case.doubted if case else []
    return next((r for r in offered if r.model == removal.model), next(iter(offered), None))


def _offered(case: Case, reading: Reading) -> dict:
    return gr.update(choices=[(common_name(r.model), r.model) for r in case.doubted], value=reading.model)


def _key(reading: Reading, removal: Removal) -> tuple[str, str, str]:
    """Of `Case.curves`."""
    return reading.model, removal.which, removal.fill


def _curve(model: ImageModel, reading: Reading, removal: Removal) -> ProbeResult:
    image = torch.from_numpy(reading.image)[None].to(model.device, model.dtype)
    classes, strength = (reading.wrong, reading.true), reading.strengths[removal.which]
    return probe(model, image, strength, fractions=SHARES, classes=classes, fill=removal.fill)
