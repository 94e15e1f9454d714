"""The Saliency tab: a picture, one to four models, a target, a method; their maps side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from lsd.catalogue import common_name
from lsd.errors import LSDError
from lsd.saliency import defaults
from lsd.saliency.maps import MapSettings
from lsd.saliency.methods import METHODS
from lsd.saliency.views import Look
from lsd.ui.saliency import address, drawing, results
from lsd.ui.saliency.heads import HeadsPanel
from lsd.ui.saliency.request import SQUARE, Wish, drawing_of, request_of, wish_of
from lsd.ui.saliency.run import explain_all
from lsd.ui.saliency.session import Session, draw, files, summary
from lsd.ui.saliency.square import square_on, square_picker, within
from lsd.ui.shared import controls, markup
from lsd.ui.shared.address import FOLLOWING, QUICK, query_of
from lsd.ui.shared.controls import CONTRAST, FIRST_CHOICE, FIRST_CLASSES, GROUP, OWN_CLASS, SIMILAR, TARGETS, WITHIN
from lsd.ui.shared.download import downloads, packed
from lsd.ui.shared.examples import example_of, examples
from lsd.ui.shared.files import script
from lsd.ui.shared.jobs import sentence
from lsd.ui.shared.limits import MAX_MODELS
from lsd.ui.shared.long_event import ASKING, LONG, long_event, next_number
from lsd.ui.shared.picture import UPLOADED, PictureInput, example_picker
from lsd.ui.shared.served import serve
from lsd.ui.shared.strip import example_strip, picked, shown_picture

Given = dict[gr.blocks.Block, Any]  # the values of an event's inputs

_VIEWS = [
    ("As in its evaluation: resized and cropped", "evaluated"), ("The whole picture, squashed", "squashed"),
    ("The whole picture, padded", "padded"), ("A square that I choose", SQUARE),
]  # fmt: skip
_SHOWN = "address => window.lsdSaliency?.shown(address, {})"  # and the milliseconds for which others may follow
_SETTLED = 600


class Result:
    """One model's place in the row of results."""

    def __init__(self, model: str, size: tuple[int, int]):
        """As a fresh page has it; `model` is "" for a place that it does not show."""
        with gr.Column(visible=bool(model), min_width=0, elem_classes="lsd-result") as self.column:
            self.head = gr.HTML(results.head(model), apply_default_css=False)
            self.stage = gr.HTML(results.empty(size), apply_default_css=False)
            self.text = gr.HTML(apply_default_css=False, elem_classes="lsd-result-text")

    @property
    def components(self) -> list[gr.blocks.Block]:
        return [self.column, self.head, self.stage, self.text]


class SaliencyTab:
    """The tab's components and events; built inside a `gr.Blocks`.

    Attributes:
        picture: the visitor's. One that another tab puts there is what the next run explains; `squared` is for after it, an
            event that puts the square on it.
        asking: the controls that say what is explained, by name; `settings` those of the methods, `drawing` those of the map.
    """

    def __init__(self):
        models = controls.default_models()
        first = examples()[controls.default_example(models)]
        self.session = gr.State(None)
        self.asked = gr.State(None)  # another number every time that an explanation is asked for
        self.mine = gr.State(None)  # the file that the visitor has brought
        self.doubts = gr.State(())  # what the address that is shown names wrongly
        self.address = gr.Textbox("", visible=False)
        with gr.Row(elem_classes="lsd-saliency"):
            with gr.Column(min_width=0, elem_classes="lsd-asking"):
                self._picture(first)
                self._question(models)
                self._details()
            with gr.Column(min_width=0, elem_classes="lsd-shown"):
                self._shown(models, first)
        self._wire()

    def _picture(self, first: Path) -> None:
        self.picture = PictureInput(
            str(first), label="Picture", height=190, buttons=[], **UPLOADED
        )  # fmt: skip
        self.gallery = example_strip()

    def _question(self, models: Sequence[str]) -> None:
        self.asking = {
            "picture": self.picture,
            "models": controls.model_picker(models),
            "target": gr.Dropdown(
                list(TARGETS), value=FIRST_CHOICE, label="Class", filterable=False,
                info="Models may choose differently: then each map explains another class. Choose one class to compare.",
            ),
            "of": controls.class_picker("This class", "Type any of its names, or its index.", models, visible=False),
            "against": controls.class_picker("Rather than", "The class it is held against.", models, visible=False),
            "group": gr.Dropdown(
                [], value=None, label="Group", allow_custom_value=True, filterable=True, visible=False,
                info="Classes that are kinds of one thing, by WordNet: dog, bird, vehicle. Only ImageNet's classes have groups. "
                "For a class within its group, no class means the group's first.",
            ),
            "count": gr.Slider(
                2, defaults.MOST_CLASSES, Wish.count, step=1, label="How many classes", visible=False,
                info="Each has a map of its own, and all share one figure.",
            ),
        }  # fmt: skip
        with gr.Group(visible=False) as self.like_group:
            self.like = PictureInput(
                None, label="The other picture", height=160, elem_id="like", buttons=[], **UPLOADED
            )  # fmt: skip
            self.like_example = example_picker(
                self.like,
                info="Alike where the model's embeddings of the two point the same way; no classes are needed for it.",
            )
            self.asking["both"] = gr.Checkbox(
                Wish.both,
                label="Explain the other picture, too",
                info="What in it makes it like this one: a second map, which takes as long again.",
            )
        self.asking |= {"like": self.like, "method": controls.method_picker()}
        self.about = gr.Markdown(controls.describe_method(METHODS[defaults.METHOD]), elem_classes="lsd-about")
        with gr.Row(elem_classes="lsd-ask"):
            self.run = gr.Button("Explain", variant="primary", elem_id="explain", min_width=120)
            self.stop = gr.Button("Stop", variant="stop", elem_id="stop", min_width=80, scale=0)

    def _details(self) -> None:
        with gr.Accordion("Settings of the method", open=False, visible=False) as self.own_settings:
            self.settings = controls.setting_controls(METHODS[defaults.METHOD])
        with gr.Accordion("What the model sees", open=False) as self.sees:
            self.asking["view"] = gr.Radio(
                _VIEWS, value="evaluated", label="View",
                info="A network is evaluated on a part of the picture, its own crop. Padded shows it all of the picture, "
                "squashed without its proportions. What lies outside what it sees cannot count.",
            )  # fmt: skip
            self.asking["square"] = square_picker()
        with gr.Accordion("Output and cross-check", open=False):
            self.asking |= {
                "kind": controls.kind_picker(),
                "outputs": controls.outputs_picker(),
                "layouts": controls.layouts_box(),
                "check": gr.Checkbox(
                    True,
                    label="Hold against Captum",
                    info="Runs Captum's version too, and shows the largest difference.",
                ),
                "steady": gr.Checkbox(
                    False,
                    label="Is it sure?",
                    elem_id="steady",
                    info="How alike the map stays when the picture is moved by a few pixels or gets a little grainy: 1 is the "
                    "same, 0 another one. Takes as long as four more maps: 4 passes for most methods, 128 for SmoothGrad.",
                ),
            }

    def _shown(self, models: Sequence[str], first: Path) -> None:
        self.status = gr.HTML(markup.status("Opening …"), elem_id="status")
        sign = METHODS[defaults.METHOD].sign
        with gr.Group(elem_classes="lsd-drawing"):
            with gr.Row():
                self.drawing = drawing.slim(sign)
            with gr.Accordion("More on the drawing", open=False):
                self.drawing |= drawing.more()
        self.legend = gr.HTML(
            results.legend(MapSettings(sign=sign)), js_on_load=script("saliency/saliency.js"), apply_default_css=False
        )
        with Image.open(first) as image:
            size = image.size
        with gr.Row(elem_classes="lsd-results"):
            self.results = [Result(model, size) for model in (*models[:MAX_MODELS], *[""] * (MAX_MODELS - len(models)))]
        with gr.Row(elem_classes="lsd-download"):
            self.sure = gr.Button(
                "Is it sure? (as long as four maps)", size="sm", scale=0, min_width=240, elem_id="sure"
            )
            self.pack = gr.Button("Download pictures, values and manifest", size="sm", scale=0, min_width=300)
            self.file = gr.DownloadButton(visible=False)  # what is downloaded
        self.heads = HeadsPanel(self.session)

    def _wire(self) -> None:
        self.ask = {"fn": next_number, "inputs": None, "outputs": self.asked} | ASKING
        self.squared = {
            "fn": self._show_square, "inputs": {self.asking["view"], self.asking["square"], self.picture},
            "outputs": self.asking["square"],
        } | QUICK  # fmt: skip
        self._wire_controls()
        given = {*self.asking.values(), *self.settings.values(), *self.drawing.values()}
        stages = [result.stage for result in self.results]
        drawn = {
            "fn": self._draw, "inputs": {self.session, *self.drawing.values()}, "outputs": [*stages, self.legend, self.status],
        }  # fmt: skip
        shown = [self.status, self.session, self.mine, self.legend, *(c for r in self.results for c in r.components)]
        explain = self.asked.change(
            long_event(self._explain, self.status, "saliency"),
            {*given, self.mine, self.doubts},
            shown,
            trigger_mode="multiple",
            **LONG,
        )
        explain.then(**drawn, api_visibility="private", show_progress="hidden")
        self.running = [explain]
        self.heads.forget_with(self.asked.change)
        write = {"fn": self._write, "inputs": given, "outputs": self.address}
        self.asked.change(**write, trigger_mode="multiple", **QUICK).then(
            None, self.address, None, js=_SHOWN.format(0)
        )  # fmt: skip
        redrawn = gr.on(
            [control.input for control in self.drawing.values()], **drawn, api_visibility="private",
            show_progress="hidden", trigger_mode="always_last", concurrency_limit=4,
        )  # fmt: skip
        redrawn.then(**write, **QUICK).then(None, self.address, None, js=_SHOWN.format(_SETTLED))

        # What a visitor asks for himself has nothing to do with what an address named wrongly.
        forget = {"fn": lambda: (), "inputs": None, "outputs": self.doubts, "cancels": explain} | QUICK
        pick = {"fn": _pick_example, "inputs": None, "outputs": [self.picture, self.doubts], "cancels": explain} | QUICK
        self.run.click(**forget).then(**self.ask)
        measure = {"fn": lambda: (True, ()), "outputs": [self.asking["steady"], self.doubts]}
        self.sure.click(**forget | measure).then(**self.ask)
        self.picture.upload(**forget).then(**self.squared).then(**self.ask)
        self.gallery.select(**pick).then(**self.squared).then(**self.ask)
        self.stop.click(
            self._stopped,
            {self.session, *self.drawing.values()},
            [self.status, self.legend, *stages],
            cancels=explain,
            **QUICK,
        )
        downloads(self.pack, self._pack, {self.session, *self.drawing.values()}, self.file, self.status)

    def _wire_controls(self) -> None:
        """What controls do to each other, when the visitor changes them."""
        asking = self.asking
        asking["target"].input(
            _show_targets, [asking["target"], asking["models"]],
            [*(asking[name] for name in ("of", "against", "group", "count")), self.like_group], **FOLLOWING,
        )  # fmt: skip
        asking["models"].input(
            _update_classes, [asking["models"], asking["target"]], [asking[name] for name in ("of", "against", "group")],
            **FOLLOWING,
        )  # fmt: skip
        asking["method"].input(
            self._show_method, asking["method"],
            [self.about, self.own_settings, self.drawing["sign"], self.drawing["channels"], *self.settings.values()], **FOLLOWING,
        )  # fmt: skip
        self.drawing["sign"].input(
            drawing.allowed_channels,
            [self.drawing["sign"], self.drawing["channels"]],
            self.drawing["channels"],
            **FOLLOWING,
        )
        asking["view"].input(**self.squared | FOLLOWING)

    def restore(self, door: gr.HTML) -> None:
        """Show what an address says."""
        outputs = [
            *self.asking.values(), *self.settings.values(), *self.drawing.values(), self.like_group, self.like_example,
            self.about, self.own_settings, self.sees, self.mine, self.doubts,
        ]  # fmt: skip
        given = {self.picture, self.mine, self.asking["models"]}
        restored = door.saliency(self._restore, given, outputs, cancels=self.running, **ASKING)
        restored.then(
            **self.ask
        )  # not with the rest: a run that begins at once finds the picture that was there before

    def _restore(self, given: Given, event: gr.EventData) -> dict:
        """Every control as an address says."""
        reading = address.read(query_of(event))
        wish = reading.wish
        picture, mine = shown_picture(
            wish.example, given[self.picture], given[self.mine], controls.default_example(wish.models)
        )
        asking = {self.asking[name]: value for name, value in _values(wish).items()}
        if controls.class_choices(wish.models) != controls.class_choices(given[self.asking["models"]] or ()):
            choices = controls.class_choices(wish.models)
            asking |= {self.asking[n]: asking[self.asking[n]] | {"choices": choices} for n in ("of", "against")}
        like = {self.like: str(examples()[wish.like])} if wish.like else {}
        drawn = asdict(reading.maps) | asdict(reading.look)
        drawn["channels"] = drawing.allowed_channels(drawn["sign"], drawn["channels"])
        return asking | like | self._settings_of(wish) | {
            self.picture: gr.skip() if picture == given[self.picture] else picture,
            self.asking["square"]: self._square(wish, picture),
            **{self.drawing[name]: value for name, value in drawn.items()},
            self.like_group: gr.update(visible=wish.target == SIMILAR), self.like_example: wish.like,
            self.sees: gr.update(open=wish.view != Wish().view),
            self.mine: mine, self.doubts: reading.doubts,
        }  # fmt: skip

    def _settings_of(self, wish: Wish) -> dict:
        method = METHODS[wish.method]
        updates = controls.show_settings(wish.method)
        for name, value in method.parse(dict(wish.settings)).items():
            if name in updates:
                updates[name] = updates[name] | {"value": value}
        return {
            self.about: controls.describe_method(method), self.own_settings: gr.update(visible=bool(method.settings)),
            **{self.settings[name]: update for name, update in updates.items()},
        }  # fmt: skip

    def _show_method(self, name: str) -> dict:
        """A method that the visitor has chosen, at its defaults, and the sign that suits it."""
        sign = METHODS[name].sign
        return self._settings_of(Wish(method=name)) | {
            self.drawing["sign"]: sign, self.drawing["channels"]: drawing.allowed_channels(sign, MapSettings().channels)
        }  # fmt: skip

    def _square(self, wish: Wish, picture: str | None) -> dict:
        """The square that an address tells."""
        if isinstance(wish.view.what, str):
            return gr.update(visible=False)
        square = square_on(picture, None, partial(serve, self.asking["square"]))
        return gr.update(value=square and square | within(wish.view, square), visible=True)

    def _show_square(self, given: Given) -> dict:
        """The square of the picture, which stays where it is as long as the picture's size is the same."""
        square = given[self.asking["square"]]
        if given[self.asking["view"]] != SQUARE:
            return gr.update(visible=False)
        return gr.update(
            value=square_on(given[self.picture], square, partial(serve, self.asking["square"])), visible=True
        )

    def _wish(self, given: Given) -> Wish:
        return wish_of(
            {name: given[control] for name, control in self.asking.items()},
            {name: given[control] for name, control in self.settings.items()},
        )

    def _drawing(self, given: Given) -> tuple[MapSettings, Look]:
        return drawing_of({name: given[control] for name, control in self.drawing.items()})

    def _write(self, given: Given) -> str:
        """The address of what is asked for; "" where it makes no sense, which the run says."""
        try:
            wish = self._wish(given)
            request_of(wish, given[self.picture], given[self.like])
            return address.write(wish, *self._drawing(given))
        except LSDError:
            return ""

    def _explain(self, given: Given) -> Iterator[dict]:
        """The long event: explains with each model, and shows every one as soon as it is there."""
        doubts = " ".join(given[self.doubts])
        try:
            wish = self._wish(given)
            request, drawn = request_of(wish, given[self.picture], given[self.like]), self._drawing(given)
            if not wish.example:
                yield {self.mine: given[self.picture]}
            shown = None
            for session in explain_all(request):
                said = {self.status: markup.status(_progress(session)), self.session: session}
                if shown is None or session.tried > shown.tried:
                    said |= self._stages(session, *drawn, busy=True)
                yield said | self._cards(session)
                shown = session
            yield {self.status: _last_word(session, doubts)}
        except Exception as error:
            yield {self.status: markup.status(f"{doubts} {sentence(error)}".strip(), error=True)}

    def _cards(self, session: Session) -> dict:
        """What stands above and below the maps of a session, and the places of those that are to come."""
        names = session.request.models
        example = example_of(session.request.path)
        shown = {}
        answers = {answer.place: answer for answer in session.answers}
        for place, result in enumerate(self.results):
            shown[result.column] = gr.update(visible=place < len(names))
            if place < len(names):
                said = results.text(answers[place], example) if place in answers else ""
                shown[result.head] = results.head(names[place])
                shown[result.text] = said + results.trouble(session.troubles.get(place, ""))
        return shown

    def _stages(self, session: Session, maps: MapSettings, look: Look, *, busy: bool = False) -> dict:
        """The pictures of all results, and what their colours stand for."""
        keep = partial(serve, self.legend)
        plain = keep("picture.jpg", results.light(session.shown))
        stages = {
            self.results[place].stage: results.empty(
                session.shown.size, plain, busy=busy and place not in session.troubles
            )
            for place in range(len(session.request.models))
        }
        for drawn in draw(session, maps, look):
            stages[self.results[drawn.answer.place].stage] = results.stage(session, drawn, plain, maps, keep)
        return stages | {self.legend: results.legend(maps, session.classes)}

    def _draw(self, given: Given) -> dict:
        """All maps anew from the values that are there; the fast event behind every control of the drawing."""
        session = given[self.session]
        if session is None:
            return {self.status: gr.skip()}
        try:
            return self._stages(session, *self._drawing(given))
        except LSDError as error:
            return {self.status: markup.status(str(error), error=True)}

    def _stopped(self, given: Given) -> dict:
        """What was finished stays, and nothing is waited for."""
        session = given[self.session]
        if session is None:
            return {self.status: markup.status("Stopped.")}
        return self._draw(given) | {self.status: _last_word(session)}

    def _pack(self, given: Given) -> Iterator[dict]:
        """The bundle as one zip file."""
        yield from packed("lsd-saliency.zip", lambda: self._files(given), self.file, self.status)

    def _files(self, given: Given) -> dict[str, bytes]:
        session = given[self.session]
        if session is None or not session.answers:
            raise LSDError("There is nothing to download yet: press Explain first.")
        return files(session, *self._drawing(given))


def _progress(session: Session) -> str:
    names = session.request.models
    if not session.tried:
        return f"Loading {common_name(names[0])} …"
    if session.tried == len(names):
        return f"{summary(session)} Captum is asked too …" if session.request.check else summary(session)
    return f"{session.tried} of {len(names)} models done …"


def _last_word(session: Session, doubts: str = "") -> str:
    return markup.status(f"{doubts} {summary(session)}".strip(), error=bool(session.troubles or doubts))


def _values(wish: Wish) -> dict[str, Any]:
    """The controls of the question but for the pictures, by name."""
    is_square = not isinstance(wish.view.what, str)
    return {
        "models": list(wish.models), "target": wish.target, "method": wish.method, "kind": wish.kind,
        "outputs": wish.outputs, "layouts": wish.layouts, "check": wish.check,
        "steady": wish.steady,
        "view": SQUARE if is_square else wish.view.what,
        "both": wish.both,
        "of": gr.update(value=wish.of or None, visible=wish.target in (OWN_CLASS, CONTRAST, WITHIN)),
        "against": gr.update(value=wish.against or None, visible=wish.target == CONTRAST),
        "group": _group_picker(wish.target, wish.models) | {"value": wish.group or None},
        "count": gr.update(value=wish.count, visible=wish.target == FIRST_CLASSES),
    }  # fmt: skip


def _pick_example(event: gr.EventData) -> list:
    return [picked(event) or gr.skip(), ()]


def _show_targets(target: str, models: list[str]) -> list:
    """Updates of the pickers of classes and group, of their number, and of the other picture."""
    classes = [gr.update(visible=target in (OWN_CLASS, CONTRAST, WITHIN)), gr.update(visible=target == CONTRAST)]
    more = [gr.update(visible=target == FIRST_CLASSES), gr.update(visible=target == SIMILAR)]
    return [*classes, _group_picker(target, models), *more]


def _group_picker(target: str, models: Sequence[str] | None) -> dict:
    """The update of it; its choices are found only where it is shown, as the tree of words takes a moment to read."""
    if target not in (GROUP, WITHIN):
        return gr.update(visible=False)
    return gr.update(visible=True, choices=controls.group_choices(models or []))


def _update_classes(models: list[str], target: str) -> list:
    return [*[gr.update(choices=controls.class_choices(models or []))] * 2, _group_picker(target, models)]
