"""The tab “Feature visualization”: what a unit responds to most, forming before your eyes, and whether to believe it."""

import functools
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import gradio as gr

from lsd.errors import LSDError
from lsd.models import ImageModel, get_model
from lsd.ui.features import address, texts
from lsd.ui.features import first as feature_first
from lsd.ui.features import request as requests
from lsd.ui.features.controls import Controls
from lsd.ui.features.request import NONE, OUTPUTS
from lsd.ui.features.runs import Session, advance, files
from lsd.ui.features.stage import Stage
from lsd.ui.shared import markup
from lsd.ui.shared.address import QUICK, query_of, told, written
from lsd.ui.shared.download import downloads, packed
from lsd.ui.shared.jobs import about, sentence, turn
from lsd.ui.shared.limits import MAX_LANES
from lsd.ui.shared.long_event import ASKING, LONG, long_event, next_number
from lsd.ui.shared.pace import measured
from lsd.ui.shared.room import room_for_ascents

_SHOW_EVERY = 0.4  # seconds
# Of the slider, as its event tells the server: the last step is the address without one.
_SAY_STEP = """(session, step) => {
  const last = Number(document.querySelector("#scrub input[type=number]").max);
  lsd.amend("features", {step: step < last ? step : null});
  return [session, step];
}"""


class FeaturesTab:
    """The tab's components and events; built inside a `gr.Blocks`."""

    def __init__(self):
        self.session = gr.State(None)
        self.address = gr.Textbox("", visible=False)
        self.asked = gr.State(None)  # another number every time that pictures are asked for
        self.compare = gr.State("")
        self.wrong = gr.State("")  # what the last address names and is not there
        self.looked = gr.State((0, None))  # at which seed and step it looks
        with gr.Row(elem_classes="lsd-f"):
            with gr.Column(scale=4, min_width=280, elem_classes="lsd-f-controls", elem_id="features-controls"):
                self.controls = Controls(self.compare)
            with gr.Column(scale=11, min_width=300, elem_classes="lsd-f-results"):
                self.stage = Stage()
        self.picture = self.controls.picture
        self.running: list[gr.events.Dependency] = []  # what is cancelled by what comes next
        self._look_events()
        self._run_events()

    def _run_events(self) -> None:
        inputs = {self.wrong, self.looked, *self.controls.named.values()}
        made = self.asked.change(
            long_event(self.make, self.stage.status, "features"), inputs, [self.session, *self.stage.components],
            trigger_mode="multiple", **LONG,
        )  # fmt: skip
        self.running.append(made)
        buttons = {self.controls.run: "", self.stage.against_none: NONE, self.stage.three_outputs: OUTPUTS}
        for button, compare in buttons.items():
            button.click(
                functools.partial(self.ask, compare), inputs,
                [self.address, self.compare, self.wrong, self.looked, self.asked],
                cancels=self.running, **ASKING,
            ).then(None, self.address, None, js=written("features"))  # fmt: skip
        # Cancelled at once by the browser, before the handler that says so is asked.
        self.controls.stop.click(None, None, None, cancels=self.running, api_visibility="private")
        self.controls.stop.click(self.stage.stopped, self.session, self.stage.components, **QUICK)

    def _look_events(self) -> None:
        stage, pictures = self.stage, self.stage.pictures
        playing = stage.play.click(
            stage.film, self.session, [stage.scrub, *pictures], concurrency_limit=None, api_visibility="private",
            show_progress="hidden",
        )  # fmt: skip
        self.running.append(playing)
        stage.scrub.input(
            stage.at, [self.session, stage.scrub], pictures, trigger_mode="always_last", cancels=playing, js=_SAY_STEP,
            **QUICK,
        )  # fmt: skip
        for column in stage.columns:
            column.seeds.chosen(
                self.show_seed, [self.session, stage.scrub], [*pictures, *(c.verdicts for c in stage.columns)], **QUICK
            )  # fmt: skip
        downloads(stage.download, self.pack, self.session, stage.file, stage.status)

    def restore(self, door: gr.HTML) -> None:
        """Show what an address says: make it, or, where it names nothing, what was made beforehand."""
        own = [self.session, self.address, self.wrong, self.looked, self.asked]
        shown = [*self.controls.components, *self.stage.components]
        opened = door.features(self.open, None, [*own, *shown], cancels=self.running, **ASKING)
        opened.then(None, self.address, None, js=written("features"))

    @functools.cached_property
    def first(self) -> Session | None:
        """What was made beforehand, read when the first visitor comes: the page need not wait for it to start."""
        return feature_first.shipped()

    def open(self, event: gr.EventData) -> dict:
        """The controls as an address says them; and the pictures made beforehand, or the beginning of a run."""
        query = query_of(event)
        found = address.read(query)
        wish, wrong, looked = found.wish, " ".join(found.wrong), (found.seed, found.step)
        lanes = MAX_LANES if wish.compare else len(wish.models)
        update = self.controls.updates(wish) | {self.wrong: wrong, self.looked: looked}
        if not address.names_nothing(query):
            update |= self.stage.empty(lanes, 1 if wish.compare else wish.seeds, markup.status("Opening …"))
            return update | {self.session: None, self.address: address.write(wish, *looked), self.asked: next_number()}
        update[self.address] = address.home(*looked)
        if self.first is None:
            return update | {self.session: None} | self.stage.empty(1, wish.seeds)
        session = replace(self.first, seed=found.seed, step=found.step)  # each visitor's own
        return update | {self.session: session} | self.stage.finished(session, wrong)

    def ask(self, compare: str, values: Mapping[Any, Any]) -> dict:
        """A visitor presses a button: what the controls say becomes the address, and is made."""
        try:
            query = address.write(replace(requests.read_wish(self.controls.read(values)), compare=compare))
        except LSDError:
            query = ""  # the run says what is wrong
        return {
            self.address: query, self.compare: compare, self.wrong: "", self.looked: (0, None), self.asked: next_number()
        }  # fmt: skip

    def make(self, values: Mapping[Any, Any]) -> Iterator[dict]:
        """The long event: loads the models, ascends, shows every picture as it forms, and asks who recognises it."""
        try:
            wish, models, session = requests.read_wish(self.controls.read(values)), {}, None
            for step in requests.prepare(wish, models):
                if isinstance(step, str):
                    yield {self.stage.status: markup.status(step)}
                else:
                    session = step
            session.seed, session.step = values[self.looked]
            about(
                *(lane.request.model for lane in session.lanes),
                method=", ".join(dict.fromkeys(lane.cooking.base for lane in session.lanes)),
            )
            cost = requests.cost(session)
            with turn(cost), room_for_ascents(requests.ascents(session, models)):
                yield {self.session: session, **self.stage.begun(session)}
                with measured(cost):
                    yield from self._ascend(session, models)
                yield from self._judge(session, models)
            yield self.stage.finished(session, values[self.wrong])
        except Exception as error:
            yield {self.stage.status: markup.status(f"{values[self.wrong]} {sentence(error)}".strip(), error=True)}

    def _ascend(self, session: Session, models: dict[str, ImageModel]) -> Iterator[dict]:
        started, shown = time.perf_counter(), {}  # column → when
        with closing(advance(session, models)) as steps:
            for lane in steps:
                column, now = self.stage.columns[session.lanes.index(lane)], time.perf_counter()
                over = lane.done or lane.trouble
                if not over and now - shown.get(column, 0) < _SHOW_EVERY:
                    continue
                shown[column] = now
                text, done, total = texts.overall(session)
                told = {self.stage.status: markup.status(text, done=done, total=total)}
                yield told | (column.whole(session, lane) if over else column.forming(session, lane))
        session.seconds = time.perf_counter() - started

    def _judge(self, session: Session, models: dict[str, ImageModel]) -> Iterator[dict]:
        for name in requests.ask(session, models):
            yield {self.stage.status: markup.status(f"Asking {name} what it sees …"), **self.stage.verdicts(session)}

    def show_seed(self, session: Session | None, step: int, event: gr.EventData) -> dict:
        """A seed's thumbnail was chosen."""
        seed = told(event).get("seed", 0)
        return self.stage.seed(session, seed if isinstance(seed, int) else 0, step)

    def pack(self, session: Session | None) -> Iterator[dict]:
        """Pictures, contact sheet, film and manifest as one zip file."""
        yield from packed("lsd-features.zip", lambda: _files(session), self.stage.file, self.stage.status)


def _files(session: Session | None) -> dict[str, bytes]:
    if session is None or not any(lane.done for lane in session.lanes):
        raise LSDError("There is nothing to download yet: press Visualize first.")
    return files(session, {lane.request.model: get_model(lane.request.model) for lane in session.lanes if lane.done})
