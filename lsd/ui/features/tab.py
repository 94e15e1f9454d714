"""The Features tab: what a unit responds to most, forming before your eyes, and whether to believe it."""

import functools
import time
from collections.abc import Iterator, Sequence
from contextlib import closing

import gradio as gr

from lsd.errors import LSDError
from lsd.features.recipes import DEFAULT, EFFORTS, RECIPES, at_effort, find_recipe
from lsd.models import ImageModel, get_model
from lsd.provenance import slug
from lsd.ui.features import first as feature_first
from lsd.ui.features import request as requests
from lsd.ui.features import texts as texts
from lsd.ui.features import units
from lsd.ui.features.knobs import KNOBS, knob_controls, knob_values
from lsd.ui.features.plot import score_plot
from lsd.ui.features.request import DEFAULT_SEEDS, DEFAULT_STEPS, NOISE, PHOTO
from lsd.ui.features.runs import Lane, Session, advance, command, files, live_picture
from lsd.ui.features.units import UnitPicker
from lsd.ui.shared import controls, markup
from lsd.ui.shared.examples import examples
from lsd.ui.shared.jobs import sentence, turn
from lsd.ui.shared.limits import MAX_LANES, MAX_SEEDS, MAX_SIDE, MAX_STEPS
from lsd.ui.shared.long_event import LONG, long_event
from lsd.ui.shared.pace import measured
from lsd.ui.shared.picture import PictureInput
from lsd.ui.shared.scratch import zipped

_SHOW_EVERY, _PLOT_EVERY = 0.4, 1.2  # seconds


class Column:
    """One place among the results: pictures and curve, and what the models say beside or below them."""

    def __init__(self):
        with gr.Column(visible=False, min_width=250) as self.column:
            self.head = gr.HTML(padding=False)
            with gr.Row():
                with gr.Column(min_width=240):
                    self.picture = gr.HTML(padding=False)
                    self.progress = gr.HTML(padding=False)
                    self.curve = gr.HTML(padding=False)
                with gr.Column(min_width=240):
                    self.verdicts = gr.HTML(padding=False)

    @property
    def components(self) -> list[gr.blocks.Block]:
        return [self.column, self.head, self.picture, self.progress, self.curve, self.verdicts]


class FeaturesTab:
    """The tab's components and events; built inside a `gr.Blocks`."""

    def __init__(self):
        models = controls.default_models()[:1]
        self.session = gr.State(None)
        self.address = gr.Textbox("", visible=False)
        with gr.Row():
            with gr.Column(scale=4, min_width=340):
                self._inputs(models)
            with gr.Column(scale=9, min_width=380):
                self._outputs()
        self._events()

    def _inputs(self, models: Sequence[str]) -> None:
        self.models = controls.model_picker(models, label="Models, up to three, side by side")
        self.unit = UnitPicker(models)
        self.recipe = gr.Dropdown(
            list(RECIPES), value=DEFAULT, label="Recipe", filterable=False, info="lsd for classes, texture for channels.",
        )  # fmt: skip
        self.about = gr.Markdown(find_recipe(DEFAULT).about)
        with gr.Row():
            self.steps = gr.Number(
                DEFAULT_STEPS, precision=0, label="Steps", min_width=110,
                info=_steps_info(DEFAULT),
            )  # fmt: skip
            self.seeds = gr.Slider(
                1, MAX_SEEDS, DEFAULT_SEEDS, step=1, label="Seeds", min_width=110,
                info="Pictures of the same unit from other noise: what they share is the unit's.",
            )  # fmt: skip
            self.size = gr.Number(
                0, precision=0, label="Size, pixels", min_width=110,
                info=f"Of the longer side. 0: what the model takes. At most {MAX_SIDE} here.",
            )  # fmt: skip
        with gr.Row():
            self.efforts = {
                effort: gr.Button(effort, size="sm", min_width=60, elem_id=f"effort-{effort}") for effort in EFFORTS
            }
        self.start = gr.Radio(
            [(NOISE, NOISE), ("a photo (DeepDream, accentuation)", PHOTO)], value=NOISE, label="Start from",
            info="From noise, everything in the picture came from the network.",
        )  # fmt: skip
        with gr.Group(visible=False) as self.photo_group:
            self.photo = PictureInput(
                None, type="filepath", label="Photo", height=220, sources=["upload", "clipboard", "webcam"]
            )
            self.example = gr.Dropdown(
                [("none", ""), *((name, name) for name in examples())], value="", label="Or an example", filterable=False
            )  # fmt: skip
        with gr.Accordion("What the network does not say", open=False):
            self.said = controls.outputs_picker()
            self.layouts = controls.layouts_box()
        with gr.Row():
            self.run = gr.Button("Visualize", variant="primary", elem_id="visualize")
            self.stop = gr.Button("Stop", variant="stop", elem_id="stop-features")
        with gr.Row():
            self.against_none = gr.Button("No regularization vs this recipe", size="sm", elem_id="against-none")
            self.three_outputs = gr.Button("Logit, log-odds, probability", size="sm", elem_id="three-outputs")

    def _outputs(self) -> None:
        with gr.Accordion("Every knob of the recipe", open=False):
            gr.HTML("<div class='lsd-note'>Choosing a recipe sets them all to its values.</div>")
            self.knobs = knob_controls(find_recipe(DEFAULT))
        self.status = gr.HTML(
            markup.status("Choose a model and a unit, and press Visualize."), elem_id="features-status"
        )
        self.intro = gr.HTML(texts.intro(folded=False))
        with gr.Row():
            self.columns = [Column() for _ in range(MAX_LANES)]
        self.reading = gr.HTML(elem_id="features-reading")
        with gr.Column(visible=False) as self.after:
            with gr.Row():
                self.scrub = gr.Slider(
                    1, DEFAULT_STEPS, DEFAULT_STEPS, step=1, label="Look back through the ascent: step", scale=3,
                    elem_id="scrub",
                )  # fmt: skip
                self.which = gr.Radio(
                    [("0", 0)], value=0, label="The models on seed", visible=False, scale=2
                )  # fmt: skip
            self.command = gr.HTML()
            with gr.Row():
                self.pack = gr.Button("Prepare the download", size="sm")
                self.file = gr.File(label="Pictures, contact sheet, film and manifest", visible=False)

    def _events(self) -> None:
        quick = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
        self.unit.connect(self.models, self.status, quick)
        self.recipe.input(_show_recipe, self.recipe, [self.about, self.steps, *self.knobs], **quick)
        for effort, button in self.efforts.items():
            button.click(
                lambda name, effort=effort: _steps_of(name, effort),
                self.recipe, self.steps, **quick,
            )  # fmt: skip
        gr.on(
            [self.start.change, self.unit.what.change, self.unit.kind.change, self.unit.expression.change],
            _show_photo, [self.start, self.unit.what, self.unit.kind, self.unit.expression], self.photo_group, **quick,
        )  # fmt: skip
        self.example.input(lambda name: str(examples()[name]) if name else None, self.example, self.photo, **quick)
        for event in (self.photo.upload, self.photo.clear):
            event(lambda: "", None, self.example, **quick)

        self.inputs = [
            self.models, self.recipe, self.steps, self.seeds, self.size, self.start, self.photo, self.example,
            self.said, self.layouts, *self.unit.inputs, *self.knobs,
        ]  # fmt: skip
        parts = [c for column in self.columns for c in column.components]
        self.outputs = [
            self.session, self.status, self.intro, self.reading, self.after, self.scrub, self.which, self.command, self.file,
            *parts,
        ]  # fmt: skip
        # The address comes first: what a click sets off goes one after the other.
        self.run.click(_write_address, self.inputs, self.address, **quick).then(
            None, self.address, None, js="address => { if (address) history.replaceState(null, '', '?' + address); }"
        )
        running = []
        for button, kind in ((self.run, "models"), (self.against_none, "recipes"), (self.three_outputs, "outputs")):
            make = long_event(lambda *values, kind=kind: self._make(kind, values), self.status)
            running.append(button.click(make, self.inputs, self.outputs, trigger_mode="once", **LONG))
        # Cancelled at once by the browser, before the handler that says so is asked.
        self.stop.click(None, None, None, cancels=running, api_visibility="private")
        self.stop.click(self._stopped, self.session, [self.status, self.after, self.scrub, self.which], **quick)
        pictures = [column.picture for column in self.columns]
        self.scrub.input(_look_back, [self.session, self.scrub], pictures, trigger_mode="always_last", **quick)
        self.which.input(
            _say, [self.session, self.which], [column.verdicts for column in self.columns], **quick
        )  # fmt: skip
        self.pack.click(_pack, self.session, [self.file, self.status], api_visibility="private")

    def restore(self, page: gr.Blocks, tabs: gr.Tabs) -> None:
        """When the page opens with an address of this tab, show again what it says; else what was made beforehand."""
        quick = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
        shown = [
            tabs, self.models, self.unit.what, self.unit.of, self.unit.expression, self.recipe, self.about, self.steps,
            self.seeds, self.size, self.start, self.photo, self.example, self.said, self.layouts, *self.knobs,
        ]  # fmt: skip
        page.load(_read_address, None, shown, **quick).then(None, None, None, js=_RUN_IF_ASKED)
        page.load(self._open, self.session, self.outputs, **quick)

    @functools.cached_property
    def first(self) -> Session | None:
        """What was made beforehand, read when the first visitor comes: the page need not wait for it to start."""
        return feature_first.shipped()

    def _open(self, session: Session | None, request: gr.Request) -> dict:
        """The pictures made beforehand, as a run leaves its own; nothing if others are asked for, or there already."""
        if session is not None or not requests.names_nothing(request.query_params) or self.first is None:
            return gr.skip()
        return self._end(self.first) | {
            column.curve: _curve(lane) for column, lane in zip(self.columns, self.first.lanes, strict=False)
        }

    def _make(self, kind: str, values: Sequence) -> Iterator[dict]:
        """The long event: loads the models, ascends, shows every picture as it forms, and asks who recognises it."""
        try:
            wish, models, session = requests.read_wish(values), {}, None
            for step in requests.prepare(kind, wish, models):
                if isinstance(step, str):
                    yield {self.status: markup.status(step), self.file: gr.update(visible=False)}
                else:
                    session = step
            cost = requests.cost(session)
            with turn(cost):
                yield self._begin(session)
                with measured(cost):
                    yield from self._ascend(session, models)
                yield from self._judge(session, models)
            yield self._end(session)
        except Exception as error:
            yield {self.status: markup.status(sentence(error), error=True)}

    def _begin(self, session: Session) -> dict:
        update = {
            self.session: session, self.status: markup.status("The first step takes a little longer …"),
            self.intro: texts.intro(folded=True), self.reading: texts.reading(session), self.after: gr.update(visible=False),
        }  # fmt: skip
        for i, column in enumerate(self.columns):
            update[column.column] = gr.update(visible=i < len(session.lanes))
            update |= dict.fromkeys(column.components[1:], "")
        for column, lane in zip(self.columns, session.lanes, strict=False):
            update |= self._shown(column, lane)
        return update

    @staticmethod
    def _shown(column: Column, lane: Lane) -> dict:
        """A column as a whole, but for its curve and verdicts."""
        return {
            column.column: gr.update(visible=True), column.head: texts.head(lane),
            column.picture: texts.picture(live_picture(lane), texts.alt(lane)), column.progress: texts.progress(lane),
        }  # fmt: skip

    def _ascend(self, session: Session, models: dict[str, ImageModel]) -> Iterator[dict]:
        started = time.perf_counter()
        shown, plotted = [0.0] * MAX_LANES, [0.0] * MAX_LANES
        plotting = 0.0  # seconds that a plot takes: on a slow machine they come less often
        with closing(advance(session, models)) as steps:
            for lane in steps:
                i, now = session.lanes.index(lane), time.perf_counter()
                if not (lane.done or lane.trouble) and now - shown[i] < _SHOW_EVERY:
                    continue
                column, shown[i] = self.columns[i], now
                text, done, total = texts.overall(session)
                update = {self.status: markup.status(text, done=done, total=total)} | self._shown(column, lane)
                if lane.done or (
                    not lane.trouble and lane.step > 1 and now - plotted[i] > max(_PLOT_EVERY, 20 * plotting)
                ):
                    update[column.curve] = _curve(lane)
                    plotted[i] = time.perf_counter()
                    plotting = plotted[i] - now
                if lane.done:
                    update[column.verdicts] = texts.troubles(lane.pictures)
                if lane.trouble:
                    update[column.verdicts] = texts.verdicts(lane, 0)
                yield update
        session.seconds = time.perf_counter() - started

    def _judge(self, session: Session, models: dict[str, ImageModel]) -> Iterator[dict]:
        for name in requests.ask(session, models):
            said = zip([column.verdicts for column in self.columns], _say(session, 0), strict=True)
            yield {self.status: markup.status(f"Asking {name} what it sees …"), **{c: text for c, text in said if text}}

    def _end(self, session: Session) -> dict:
        lines = [
            command(lane, session.photo, requests.judges_of(session, lane), _folder(session, lane))
            for lane in session.lanes
        ]
        update = {
            self.session: session, self.reading: texts.reading(session),
            self.status: markup.status(texts.summary(session), error=any(lane.trouble for lane in session.lanes)),
            self.command: texts.commands(session, lines), **self._looking_back(session, session.steps),
        }  # fmt: skip
        # The whole columns once more: the address's run may have begun before the browser had them all.
        update[self.intro] = texts.intro(folded=True)
        for column, lane, said in zip(self.columns, session.lanes, _say(session, 0), strict=False):
            update |= self._shown(column, lane) | {column.verdicts: said}
        return update

    def _looking_back(self, session: Session, last: int) -> dict:
        seeds = len(session.lanes[0].request.seeds)
        return {
            self.after: gr.update(visible=True),
            self.scrub: gr.update(maximum=max(last, 2), value=last),
            self.which: gr.update(choices=[(str(k), k) for k in range(seeds)], value=0, visible=seeds > 1),
        }

    def _stopped(self, session: Session | None) -> dict:
        """What Stop leaves: the pictures as far as they came, to be looked back through."""
        if session is None or not any(lane.step for lane in session.lanes):
            return {self.status: markup.status("Stopped.")}
        far = max(lane.step for lane in session.lanes)
        if session.finished:
            return {self.status: markup.status("Stopped; the pictures were finished already.")}
        return {
            self.status: markup.status(f"Stopped at step {far} of {session.steps}."),
            **self._looking_back(session, far),
        }


_RUN_IF_ASKED = """() => {
  const query = new URLSearchParams(location.search);
  if (query.get("tab") !== "features" || !query.has("unit")) return;
  let tries = 0;  // the tab's buttons are there once it has been opened
  const timer = setInterval(() => {
    const button = document.querySelector("#visualize");
    if (button) setTimeout(() => button.click(), 500);
    if (button || ++tries > 100) clearInterval(timer);
  }, 100);
}"""


def _folder(session: Session, lane: Lane) -> str:
    return "features" if len(session.lanes) == 1 else f"features/{slug(lane.heading)}"


def _curve(lane: Lane) -> str:
    unit = lane.request.units[0]
    what = markup.OUTPUT_WORDS[lane.recipe.output] if unit.startswith("class/") else "score"
    data = score_plot(lane.traces, lane.steps, what)
    alt = f"Score curve of {lane.heading}: from {lane.traces[0][0]:.3g} to {lane.traces[0][-1]:.3g}"
    return texts.picture(("image/png", data), alt).replace("lsd-picture", "lsd-curve")


def _say(session: Session | None, seed: int) -> list:
    """What the models say of one seed's pictures, for every column."""
    if session is None:
        return [gr.skip()] * MAX_LANES
    said = [texts.verdicts(lane, int(seed or 0)) for lane in session.lanes]
    return said + [""] * (MAX_LANES - len(said))


def _look_back(session: Session | None, step: int) -> list:
    """The columns as they were at a step; at the last one, the finished pictures."""
    if session is None:
        return [gr.skip()] * MAX_LANES
    shown = []
    for lane in session.lanes:
        frame = lane.frame(int(step))
        if frame is None or step >= lane.step:
            shown.append(texts.picture(live_picture(lane), texts.alt(lane)))
        else:
            kind = "image/png" if frame[1].startswith(b"\x89PNG") else "image/jpeg"
            shown.append(texts.picture((kind, frame[1]), texts.alt(lane, frame[0])))
    return shown + [gr.skip()] * (MAX_LANES - len(shown))


def _pack(session: Session | None) -> Iterator[list]:
    """The bundle as one zip file."""
    if session is None or not any(lane.done for lane in session.lanes):
        yield [gr.skip(), markup.status("There is nothing to download yet: press Visualize first.", error=True)]
        return
    try:
        models = {lane.request.model: get_model(lane.request.model) for lane in session.lanes if lane.done}
        with zipped("lsd-features.zip", files(session, models)) as path:
            yield [gr.update(value=str(path), visible=True), markup.status("The download is ready.")]
    except (LSDError, OSError) as error:
        yield [gr.skip(), markup.status(sentence(error), error=True)]


def _steps_of(recipe: str, effort: str = "draft") -> int:
    """The steps of an effort, as far as they go here; a draft's to start with, so that one sees something soon."""
    return min(at_effort(find_recipe(recipe), effort).steps, MAX_STEPS)


def _steps_info(recipe: str) -> str:
    return f"A draft takes {_steps_of(recipe)}; the recipe's own number is {find_recipe(recipe).steps}."


def _show_recipe(name: str) -> list:
    recipe = find_recipe(name)
    return [recipe.about, gr.update(value=_steps_of(name), info=_steps_info(name)), *knob_values(recipe)]


def _show_photo(start: str, what: str, kind: str, expression: str) -> dict:
    return gr.update(visible=start == PHOTO or units.needs_photo(what, kind, expression))


def _write_address(*values) -> str:
    """The query that shows the same again; "" where what is asked for makes no sense."""
    try:
        return requests.write_address(requests.read_wish(values))
    except LSDError:
        return ""


def _read_address(request: gr.Request) -> list:
    """Updates of the controls from the page's query string; what it does not name, or names wrongly, stays."""
    asked = requests.read_address(request.query_params)
    if asked is None:
        return [gr.skip()] * (15 + len(KNOBS))
    what = units.CLASS if asked.of else units.EXPRESSION if asked.expression else None
    steps = {"info": _steps_info(asked.base)} | ({"value": asked.steps} if asked.steps else {})
    photo = str(examples()[asked.example]) if asked.example else None
    of = units.class_update(asked.of, asked.models) if asked.of and asked.models else asked.of
    values = [
        asked.models, what, of, asked.expression, asked.base, find_recipe(asked.base).about, gr.update(**steps),
        asked.seeds, asked.size, asked.start, photo, asked.example, asked.outputs, asked.layouts,
    ]  # fmt: skip
    return [
        gr.update(selected="features"),
        *(gr.skip() if value in (None, [], "") else value for value in values),
        *knob_values(asked.recipe),
    ]
