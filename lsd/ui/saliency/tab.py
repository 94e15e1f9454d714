"""The Saliency tab: a picture, one to four models, a target, a method; their maps side by side."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import gradio as gr
from PIL import Image

from lsd import render
from lsd.catalogue import common_name
from lsd.errors import LSDError
from lsd.models import ImageModel
from lsd.reference import open_reference
from lsd.saliency import defaults
from lsd.saliency.bundle import in_words
from lsd.saliency.explain import Explanation, SimilarTo, TargetSpec
from lsd.saliency.maps import MapSettings
from lsd.saliency.methods import METHODS, find_method
from lsd.saliency.views import Look, overlays
from lsd.sayings import NOTHING_OF_ANY
from lsd.ui.saliency.run import Request, Session, explain_all, files
from lsd.ui.shared import controls, markup
from lsd.ui.shared.controls import CONTRAST, FIRST_CHOICE, OWN_CLASS, SIMILAR, MapControls
from lsd.ui.shared.evidence import why
from lsd.ui.shared.examples import credit, examples
from lsd.ui.shared.jobs import log, sentence
from lsd.ui.shared.limits import MAX_MODELS
from lsd.ui.shared.long_event import LONG, long_event
from lsd.ui.shared.picture import PictureInput
from lsd.ui.shared.scratch import zipped

_NUMBERS = itertools.count(1)


class Result:
    """One model's place in the row of results."""

    def __init__(self):
        with gr.Column(visible=False, min_width=240) as self.column:
            self.head = gr.HTML()
            self.image = gr.Image(
                format="jpeg", interactive=False, show_label=False, buttons=["download", "fullscreen"], height=300
            )
            self.note = gr.HTML()
            self.table = gr.HTML()
            self.badge = gr.HTML()

    @property
    def components(self) -> list[gr.blocks.Block]:
        return [self.column, self.head, self.image, self.note, self.table, self.badge]


class SaliencyTab:
    """The tab's components and events; built inside a `gr.Blocks`."""

    def __init__(self):
        models = controls.default_models()
        first = controls.default_example(models)
        self.session = gr.State(None)
        self.opened = gr.State(False)  # whether the tab was
        self.asked = gr.State(None)  # another number every time that an explanation is asked for
        self.ask = gr.Textbox("", visible=False)  # not empty: the first view is still to be computed
        with gr.Row():
            with gr.Column(scale=4, min_width=340):
                self._inputs(models, first)
            with gr.Column(scale=9):
                self._outputs()
        self._events()

    def _inputs(self, models: Sequence[str], example: str) -> None:
        self.image = PictureInput(
            str(examples()[example]), type="filepath", label="Picture", height=280,
            sources=["upload", "clipboard", "webcam"],
        )  # fmt: skip
        self.gallery = gr.Gallery(
            [(str(path), name) for name, path in examples().items()], label="Or one of these", columns=3, height=270,
            buttons=[], allow_preview=False, object_fit="cover", interactive=False, elem_classes="lsd-examples",
        )  # fmt: skip
        if credit():
            gr.HTML(f"<div class='lsd-note'>{markup.escape(credit())}</div>", padding=False)
        self.example = gr.Textbox(example, visible=False)
        self.models = controls.model_picker(models)
        self.target = gr.Radio(
            [FIRST_CHOICE, OWN_CLASS, CONTRAST, SIMILAR], value=FIRST_CHOICE, label="Explain",
            info="Models may choose differently: then each map explains another class. Choose one class to compare.",
        )  # fmt: skip
        self.of = controls.class_picker("This class", "Type any of its names, or its index.", models, visible=False)
        self.against = controls.class_picker("Rather than", "The class it is held against.", models, visible=False)
        with gr.Group(visible=False) as self.like_group:
            self.like = PictureInput(
                None,
                type="filepath",
                label="The other picture",
                height=200,
                sources=["upload", "clipboard", "webcam"],
                elem_id="like",
            )
            self.like_example = gr.Dropdown(
                [("none", ""), *((name, name) for name in examples())], value="", label="Or an example", filterable=False,
                info="Alike where the model's embeddings of the two point the same way; no classes are needed for it.",
            )  # fmt: skip
        self.method = controls.method_picker()
        self.what = gr.Markdown(controls.describe_method(METHODS[defaults.METHOD]))
        self.settings = controls.setting_controls(METHODS[defaults.METHOD])
        with gr.Accordion("What is differentiated", open=False):
            self.kind = gr.Radio(
                [("log-odds", "log_odds"), ("logit", "logit"), ("probability", "probability")], value=defaults.KIND,
                label="Output",
                info="Log-odds say what the probability says, and stay exact when the network is sure; the gradient of "
                f"the probability fades to nothing there. A logit alone can rise without the class gaining. {why('output')}",
            )  # fmt: skip
            self.said = controls.outputs_picker()
            self.layouts = controls.layouts_box()
            self.check = gr.Checkbox(
                True, label="Hold against Captum", info="Runs Captum's version too, and shows the largest difference."
            )
        with gr.Row():
            self.run = gr.Button("Explain", variant="primary", elem_id="explain")
            self.stop = gr.Button("Stop", variant="stop", elem_id="stop")

    def _outputs(self) -> None:
        self.status = gr.HTML(markup.status("Opening …"), elem_id="status")
        with gr.Row():
            self.results = [Result() for _ in range(MAX_MODELS)]
        self.bar = gr.Image(
            render.color_bar(False), interactive=False, show_label=False, container=False, height=44, width=320,
            buttons=[], format="png", alt_text="Colour bar: from no to full strength",
        )  # fmt: skip
        with gr.Accordion("How the map is drawn (no model runs)", open=True):
            self.map = MapControls(METHODS[defaults.METHOD].sign)
        with gr.Accordion("Before and after", open=False), gr.Row():
            self.slider = gr.ImageSlider(
                format="jpeg",
                interactive=False,
                label="Drag to uncover the map",
                max_height=420,
                buttons=["fullscreen"],
            )
            with gr.Column():
                self.which = gr.Radio([], label="Model", visible=False)
                with gr.Row():
                    self.before = gr.Image(
                        format="jpeg", interactive=False, label="The picture", buttons=[], alt_text="The picture"
                    )
                    self.after = gr.Image(
                        format="jpeg",
                        interactive=False,
                        label="With its map",
                        buttons=[],
                        alt_text="The same with its map",
                    )
        with gr.Row():
            self.pack = gr.Button("Prepare the download", size="sm")
            self.file = gr.File(label="Pictures, raw values and manifest", visible=False)

    def _events(self) -> None:
        self.target.change(
            _show_targets, self.target, [self.of, self.against, self.like_group], api_visibility="private", queue=False
        )
        self.models.change(_update_classes, self.models, [self.of, self.against], api_visibility="private", queue=False)
        self.method.change(
            _show_method, self.method, [self.what, self.map.sign, *self.settings], api_visibility="private", queue=False
        )
        self.map.sign.change(
            _allowed_channels,
            [self.map.sign, self.map.channels],
            self.map.channels,
            api_visibility="private",
            queue=False,
        )

        self.inputs = [
            self.image, self.models, self.target, self.of, self.against, self.like, self.method, self.kind, self.said,
            self.layouts, self.check,
            *self.settings,
        ]  # fmt: skip
        self.pictures = [
            *(r.image for r in self.results), *(r.note for r in self.results),
            self.bar, self.slider, self.before, self.after, self.status,
        ]  # fmt: skip
        outputs = [self.session, self.which, self.file, *(c for r in self.results for c in r.components)]
        quick = {"api_visibility": "private", "queue": False}
        draw = {
            "fn": _draw, "inputs": [self.session, self.which, *self.map.components], "outputs": self.pictures,
            "api_visibility": "private", "show_progress": "hidden",
        }  # fmt: skip
        shown = [self.status, *outputs]
        # Whoever asks, by a button or by choosing a picture, changes the number, and that begins the run: so the click that
        # cancels a run under way does not cancel the one that it asks for.
        explain = self.asked.change(
            long_event(self._explain, self.status), self.inputs, shown, trigger_mode="multiple", **LONG
        )
        explain.then(**draw)
        # In the queue, since outside it the page is not told that a state has changed.
        ask = {
            "fn": lambda: next(_NUMBERS), "inputs": None, "outputs": self.asked, "api_visibility": "private",
            "show_progress": "hidden",
        }  # fmt: skip
        self.run.click(**ask, cancels=explain)
        told = [
            self.models, self.method, self.example, self.target, self.of, self.against, self.like_example, self.said, self.layouts,
        ]  # fmt: skip
        self.like_example.input(
            lambda name: str(examples()[name]) if name else None, self.like_example, self.like, **quick
        )
        for event in (self.like.upload, self.like.clear):
            event(lambda: "", None, self.like_example, **quick)
        # A picture that is chosen is explained at once.
        for chosen in (
            self.gallery.select(_pick_example, None, [self.image, self.example], cancels=explain, **quick),
            self.image.upload(lambda: "", None, self.example, cancels=explain, **quick),
        ):
            chosen.then(None, told, None, js=_WRITE_ADDRESS)
            chosen.then(**ask)
        self.image.clear(lambda: "", None, self.example, **quick)
        self.stop.click(_stopped, self.session, self.status, cancels=explain, **quick)
        gr.on(
            [c.change for c in (*self.map.components, self.which)], _draw,
            [self.session, self.which, *self.map.components], self.pictures, api_visibility="private",
            show_progress="hidden", trigger_mode="always_last", concurrency_limit=4,
        )  # fmt: skip
        # The address always says what is shown, so that it can be sent to somebody; and opening it shows it again.
        self.run.click(None, told, None, js=_WRITE_ADDRESS)
        self.shown = shown
        self.pack.click(_pack, [self.session, *self.map.components], [self.file, self.status], api_visibility="private")

    def restore(self, page: gr.Blocks, tabs: gr.Tabs, place: gr.Tab) -> None:
        """Show what an address of this tab says when the page opens with one, and an explained photo when nobody asks.

        Args:
            tabs, place: all of them, and this one, in whose context this must not be called.
        """
        controls_shown = [
            self.models, self.method, self.image, self.example, self.target, self.of, self.against, self.like_group, self.like,
            self.like_example, self.said, self.layouts, self.what, self.map.sign, *self.settings, tabs,
        ]  # fmt: skip
        quick = {"api_visibility": "private", "queue": False}
        page.load(_read_address, None, controls_shown, **quick).then(None, None, None, js=_RUN_IF_ASKED)
        place.select(
            self._first,
            [self.opened, self.session, *self.inputs],
            [self.opened, self.ask, *self.shown],
            show_progress="hidden",
            **quick,
        ).then(None, self.ask, None, js=_RUN_IF_NEEDED)

    def _first(self, opened: bool, session: Session | None, *values) -> dict:
        """The first view: what is asked for if its answer is there already; else the button is to be pressed."""
        if opened or session is not None:
            return {self.opened: True, self.ask: ""}
        try:
            if not _request(*values[:11], values[11:]).is_answered:
                return {self.opened: True, self.ask: "run"}
        except LSDError:  # said by the run itself
            return {self.opened: True, self.ask: "run"}
        merged: dict = {}
        for update in self._explain(*values):
            merged |= update
        return merged | {self.opened: True, self.ask: ""}

    def _explain(
        self, path, names, target, of, against, like, method, kind, outputs, layouts, check, *settings
    ) -> Iterator[dict]:
        """The long event: explains with each model, and shows every one as soon as it is there."""
        try:
            request = _request(path, names, target, of, against, like, method, kind, outputs, layouts, check, settings)
            names = request.models
            columns = {r.column: gr.update(visible=i < len(names)) for i, r in enumerate(self.results)}
            yield {
                self.status: markup.status(f"Loading {common_name(names[0])} …"),
                self.session: None,
                self.file: gr.update(visible=False),
                **columns,
                **{c: None for r in self.results for c in r.components[1:]},
            }
            everything = {}
            for place, model, session in explain_all(request):
                shown = self._show(place, model, session)
                everything |= shown
                status = markup.status(f"{session.tried} of {len(names)} models done …")
                yield shown | self._left(session) | {self.status: status}
            # All of it once more with the last word: a page that is still opening its tab may have lost what came before.
            yield everything | columns | self._left(session) | {self.status: _last_word(session)}
        except Exception as error:
            yield {self.status: markup.status(sentence(error), error=True)}

    def _left(self, session: Session) -> dict:
        """What a run has left so far, which stays if it is stopped: it can be drawn anew and downloaded."""
        if not session.models:
            return {}
        choices = [(common_name(name), i) for i, name in enumerate(session.models)]
        many = len(session.request.models) > 1
        return {self.session: session, self.which: gr.update(choices=choices, value=0, visible=many)}

    def _show(self, place: int, model: ImageModel | None, session: Session) -> dict:
        """One model's place: its map and what it says, or why there is none."""
        result, trouble = self.results[place], session.troubles.get(place)
        trouble = markup.status(trouble, error=True) if trouble else ""
        if place not in session.places:
            name = session.request.models[place]
            return {result.head: f'<div class="lsd-head">{markup.model_name(name)}</div>', result.note: trouble}
        index = session.places.index(place)
        explanation = session.explanations[index]
        maps = MapSettings(sign=METHODS[explanation.attribution.method].sign)
        (image,) = overlays(session.shown, [explanation], maps, Look())
        target = explanation.attribution.target.index
        facts = markup.facts(explanation, model.class_names)
        return {
            result.head: f'<div class="lsd-head">{markup.model_name(model.name)}{facts}</div>',
            result.image: gr.update(value=image, alt_text=_alt(explanation)),
            result.note: markup.empty_map(explanation, maps),
            result.table: markup.top_table(explanation.top, target) + markup.names_note(model.names_note),
            result.badge: markup.badge(session.checks[index]) + trouble,
        }


_WRITE_ADDRESS = (
    """(models, method, example, target, of, against, like, outputs, layouts) => {
  const query = new URLSearchParams();
  for (const model of models || []) query.append("model", model);
  query.set("method", method);
  if (example) query.set("example", example);
  if (target === "SIMILAR" && like) query.set("like", like);
  if ((target === "OWN_CLASS" || target === "CONTRAST") && of) query.set("of", of);
  if (target === "CONTRAST" && against) query.set("against", against);
  if (outputs) query.set("outputs", outputs);
  for (const layout of (layouts || "").split(/[\\s,]+/)) if (layout) query.append("layout", layout);
  history.replaceState(null, "", "?" + query);
}""".replace("OWN_CLASS", OWN_CLASS)
    .replace("CONTRAST", CONTRAST)
    .replace("SIMILAR", SIMILAR)
)

_RUN_IF_NEEDED = "need => { if (need) document.querySelector('#explain')?.click(); }"

_RUN_IF_ASKED = """() => {
  const query = new URLSearchParams(location.search);
  if (!query.has("model") || (query.get("tab") || "saliency") !== "saliency") return;
  let tries = 0;  // the tab's buttons are there once it has been opened
  const timer = setInterval(() => {
    const button = document.querySelector("#explain");
    if (button) setTimeout(() => button.click(), 500);
    if (button || ++tries > 100) clearInterval(timer);
  }, 100);
}"""


def _read_address(request: gr.Request) -> list:
    """Updates of the controls from the page's query string; what it does not name, or names wrongly, stays."""
    query = request.query_params
    if query.get("tab", "saliency") != "saliency":  # the address of another tab
        query = type(query)()
    models = [m[:200] for m in query.getlist("model")][:MAX_MODELS]
    method = query.get("method") if query.get("method") in METHODS else None
    example = query.get("example") if query.get("example") in examples() else None
    of, against = query.get("of"), query.get("against")
    like = query.get("like") if query.get("like") in examples() else None
    target = SIMILAR if like else CONTRAST if of and against else OWN_CLASS if of else None
    return [
        models or gr.skip(),
        method or gr.skip(),
        str(examples()[example]) if example else gr.skip(),
        example or gr.skip(),
        target or gr.skip(),
        gr.update(value=of[:200], visible=True) if of else gr.skip(),
        gr.update(value=against[:200], visible=True) if of and against else gr.skip(),
        gr.update(visible=True) if like else gr.skip(),
        str(examples()[like]) if like else gr.skip(),
        like or gr.skip(),
        *(said or gr.skip() for said in controls.said_in_address(query)),
        *(_show_method(method) if method else [gr.skip()] * (2 + len(controls.SETTINGS))),
        gr.update(selected="saliency") if models or query.get("tab") else gr.skip(),
    ]


def _request(path, names, target, of, against, like, method, kind, outputs, layouts, check, settings) -> Request:
    """What the visitor asked for, checked before anything is loaded.

    Raises:
        LSDError: one sentence on what is missing.
    """
    if not path:
        raise LSDError("There is no picture yet: upload one, paste one, or choose an example.")
    names = controls.checked_models(names)
    method = find_method(method)
    settings = controls.chosen_settings(method, settings)
    reference = None
    if target == FIRST_CHOICE:
        spec = TargetSpec("top1", kind)
    elif target == SIMILAR:
        if not like:
            raise LSDError("There is no other picture yet: upload one, paste one, or choose an example.")
        reference = Path(like)
        # By the name that it has in the bundle; where it lies on the server is nobody's business.
        spec = SimilarTo(replace(open_reference(like), file=_reference_name(like), path=""))
    elif not str(of or "").strip():
        raise LSDError("No class is chosen: type its name or its index under “This class”.")
    elif target == CONTRAST:
        if not str(against or "").strip():
            raise LSDError("A contrast needs a second class: type it under “Rather than”.")
        spec = TargetSpec(of, "contrast", against)
    else:
        spec = TargetSpec(of, kind)
    sayings = controls.sayings(outputs, layouts)
    sayings.check(names)
    return Request(Path(path), tuple(names), spec, method.name, settings, sayings, bool(check), reference)


def _reference_name(path: str) -> str:
    return f"reference{Path(path).suffix}"


def explain_first() -> None:
    """Compute what the tab opens with, for whoever comes first: the same requests, kept by content. It never raises."""
    try:
        models = controls.default_models()
        path = examples()[controls.default_example(models)]
        method, spec = METHODS[defaults.METHOD], TargetSpec("top1", defaults.KIND)
        for name in models:  # each in a turn of its own, so that a visitor who comes meanwhile gets his
            request = Request(path, (name,), spec, method.name, method.parse({}), NOTHING_OF_ANY, True)
            for *_, session in explain_all(request):
                for trouble in session.troubles.values():
                    raise LSDError(trouble)
    except Exception as error:  # whoever opens the tab is told; the page goes on
        log.warning("The first view is not explained beforehand: %s", sentence(error))


def _last_word(session: Session) -> str:
    """The status line: what the models say, which of them say nothing, and how many were asked if not all."""
    names = session.request.models
    words = [_summary(session)] if session.models else []
    for place, trouble in sorted(session.troubles.items()):
        words.append(trouble if len(names) == 1 else f"{common_name(names[place])}: {trouble}")
    if session.tried < len(names):
        words.append(f"{session.tried} of {len(names)} models were asked.")
    return markup.status(" ".join(words), error=bool(session.troubles))


def _stopped(session: Session | None) -> str:
    """The status line after Stop: what was finished stays."""
    return _last_word(session) if session else markup.status("Stopped.")


def _summary(session: Session) -> str:
    firsts = [e.top[0][1] for e in session.explanations if e.top]
    seconds = sum(e.seconds for e in session.explanations)
    if session.request.spec.kind == SimilarTo.kind:
        return f"Done in {seconds:.2f} s. " + "; ".join(
            f"{common_name(e.model)}: {in_words(e)}" for e in session.explanations
        )
    if len(firsts) == 1:
        return f"Done in {seconds:.2f} s."
    agree = (
        f"All say {firsts[0]}" if len(set(firsts)) == 1 else "They do not agree: " + ", ".join(dict.fromkeys(firsts))
    )
    return f"Done in {seconds:.2f} s. {agree}."


def _alt(explanation: Explanation) -> str:
    return f"Saliency map of {explanation.model}, which says: {in_words(explanation)}"


def _draw(session: Session | None, which: int | None, *values) -> list:
    """All pictures anew from the values that are there; the fast event behind every control of the map."""
    unchanged = [gr.skip()] * (2 * MAX_MODELS + 4)
    if session is None:
        return [*unchanged, gr.skip()]
    try:
        maps, look = MapControls.read(values)
        shown = overlays(session.shown, session.explanations, maps, look)
    except LSDError as error:
        return [*unchanged, markup.status(str(error), error=True)]
    index = min(which or 0, len(shown) - 1)
    updates, notes = [gr.skip()] * MAX_MODELS, [gr.skip()] * MAX_MODELS
    for place, image, explanation in zip(session.places, shown, session.explanations, strict=True):
        updates[place] = gr.update(value=image, alt_text=_alt(explanation))
        notes[place] = markup.empty_map(explanation, maps)
    bar = gr.update(value=_color_bar(maps.sign, maps.scale))
    pair = (session.shown, shown[index])
    return [*updates, *notes, bar, pair, session.shown, shown[index], _last_word(session)]


def _color_bar(sign: str, scale: str) -> Image.Image:
    unit = {"image": "strongest", "shared": "strongest of all", "rank": "highest rank"}[scale]
    if sign == "signed":
        return render.color_bar(True, labels=("against", "0", "for"))
    what = {"abs": "either way", "positive": "for", "negative": "against"}[sign]
    return render.color_bar(False, labels=("0", f"{unit}, {what}"))


def _pack(session: Session | None, *values) -> Iterator[list]:
    """The bundle as one zip file."""
    if session is None:
        yield [gr.skip(), markup.status("There is nothing to download yet: press Explain first.", error=True)]
        return
    try:
        with zipped("lsd-saliency.zip", files(session, *MapControls.read(values))) as path:
            yield [gr.update(value=str(path), visible=True), markup.status("The download is ready.")]
    except (LSDError, OSError) as error:
        yield [gr.skip(), markup.status(sentence(error), error=True)]


def _pick_example(event: gr.SelectData) -> list:
    name = list(examples())[event.index]
    return [str(examples()[name]), name]


def _show_targets(target: str) -> list:
    """Updates of the class pickers and of the other picture."""
    shown = (target in (OWN_CLASS, CONTRAST), target == CONTRAST, target == SIMILAR)
    return [gr.update(visible=visible) for visible in shown]


def _update_classes(models: list[str]) -> list:
    return [gr.update(choices=controls.class_choices(models or []))] * 2


def _show_method(name: str) -> list:
    method = METHODS[name]
    return [controls.describe_method(method), method.sign, *controls.show_settings(name)]


def _allowed_channels(sign: str, channels: str) -> dict:
    """Signed maps have no l2 or sum_abs; who had chosen one gets the default."""
    if sign != "signed":
        return gr.update(choices=list(controls.CHANNELS))
    return gr.update(choices=["max", "sum"], value=channels if channels in ("max", "sum") else MapSettings().channels)
