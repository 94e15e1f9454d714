"""The Reasons tab: why one to four networks say what they say of a picture, as a few things that can be switched off."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
from PIL import Image

from lsd.errors import LSDError
from lsd.images import file_sha256
from lsd.provenance import png
from lsd.reasons.region import region_of
from lsd.ui.reasons import address, classes, html
from lsd.ui.reasons.matching import graph
from lsd.ui.reasons.record import files
from lsd.ui.reasons.request import Wish, request_of
from lsd.ui.reasons.run import Find, ask, begun, draw, picture_of_set, switch
from lsd.ui.reasons.session import Run, Session
from lsd.ui.shared import controls, markup
from lsd.ui.shared.address import QUICK, query_of, told, written
from lsd.ui.shared.download import downloads, packed
from lsd.ui.shared.examples import example_of, examples
from lsd.ui.shared.files import script
from lsd.ui.shared.jobs import aside, doing, sentence
from lsd.ui.shared.limits import MAX_MODELS
from lsd.ui.shared.long_event import ASKING, LONG, long_event, next_number
from lsd.ui.shared.picture import UPLOADED, PictureInput
from lsd.ui.shared.reason_words import CHANNELS, GROUPS
from lsd.ui.shared.reasoned import MAX_OFF, MEAN, ZERO
from lsd.ui.shared.served import serve
from lsd.ui.shared.strip import example_strip, picked, shown_picture

Given = dict[gr.blocks.Block, Any]  # the values of an event's inputs

_DEFAULT_LAYER = ("the usual one", "")


class Panel:
    """One model's place among the answers."""

    def __init__(self, model: str):
        """As a fresh page has it; `model` is "" for a place that it does not show."""
        with gr.Column(visible=bool(model), min_width=0, elem_classes="lsd-r-panel") as self.column:
            self.head = gr.HTML(html.head(model), apply_default_css=False)
            self.said = gr.HTML(apply_default_css=False, elem_classes="lsd-r-said")
            self.answers = gr.HTML(apply_default_css=False, elem_classes="lsd-r-answers")
            self.rows = gr.HTML(html.waiting(), apply_default_css=False)

    @property
    def components(self) -> list[gr.blocks.Block]:
        return [self.column, self.head, self.said, self.answers, self.rows]


class ReasonsTab:
    """The tab's components and events; built inside a `gr.Blocks`.

    Attributes:
        picture: the visitor's. One that another tab puts there is what the next run is about.
        asking: the controls that say what is asked, by name.
    """

    def __init__(self, find: Find = lambda model, units: {}):
        """
        Args:
            find: where pictures of units are there already.
        """
        models = Wish().models
        first = examples()[controls.default_example(models)]
        self._find_pictures = find
        self.session = gr.State(Session())
        self.asked = gr.State(None)  # another number every time that reasons are asked for
        self.touched = gr.State(None)  # another number every time that a reason is switched, or the view is changed
        self.mine = gr.State(None)  # the file that the visitor has brought
        self.origin = gr.State(
            None
        )  # of which set the picture is: its file's SHA-256, "" before it is opened; the set; its id
        self.doubts = gr.State(())  # what the address that is shown names wrongly
        self.address = gr.Textbox("", visible=False)
        with gr.Row(elem_classes="lsd-r"):
            with gr.Column(min_width=0, elem_classes="lsd-asking"):
                self._question(str(first), models)
            with gr.Column(min_width=0, elem_classes="lsd-shown"):
                self._shown(str(first), models)
        self._wire()

    def _question(self, first: str, models: tuple[str, ...]) -> None:
        self.picture = PictureInput(first, label="Picture", height=190, buttons=[], **UPLOADED)
        self.gallery = example_strip()
        self.asking = {
            "models": controls.model_picker(models),
            "of": gr.Dropdown(
                classes.of_choices(models), value="", label="Why this class", allow_custom_value=True, filterable=True,
                info="Each model's own first choice, unless you choose a class: type any of its names, or its index.",
            ),
            "against": gr.Dropdown(
                classes.against_choices(models), value="", label="Rather than", allow_custom_value=True, filterable=True,
                info="The class it is held against. A contrast of two classes has sharper reasons than one against all others.",
            ),
            "layer": gr.Dropdown(
                [_DEFAULT_LAYER], value="", label="Layer", allow_custom_value=True, filterable=True,
                info="Whose channels the reasons are. Deep layers know things, early ones textures and colours.",
            ),
            "fill": gr.Radio(
                [("zero", ZERO), ("its mean over the examples", MEAN)], value=ZERO, label="Switched off means",
                info="What takes the place of a channel that is off: zero, or what it is on average over the page's pictures.",
            ),
        }  # fmt: skip
        with gr.Row(elem_classes="lsd-ask"):
            self.run = gr.Button("Find the reasons", variant="primary", elem_id="find-reasons", min_width=120)
            self.stop = gr.Button("Stop", variant="stop", elem_id="stop-reasons", min_width=80, scale=0)

    def _shown(self, first: str, models: tuple[str, ...]) -> None:
        self.status = gr.HTML(markup.status("Opening …"), elem_id="reasons-status")
        self.view = gr.Radio(
            [("Groups", GROUPS), ("Channels", CHANNELS)], value=GROUPS, label="Reasons as", elem_classes="lsd-r-view",
            info="A group is a few channels that lie at the same places; a channel alone is smaller, and may mean several things.",
        )  # fmt: skip
        with Image.open(first) as image:
            size = image.size
        with gr.Row(elem_classes="lsd-r-body"):
            with gr.Column(min_width=0, elem_classes="lsd-r-left"):
                self.stage = gr.HTML(
                    html.stage(size, doing="lsd-r-coming"),
                    js_on_load=script("reasons/reasons.js"),
                    apply_default_css=False,
                )
            with gr.Column(min_width=0, elem_classes="lsd-r-panels"):
                self.panels = [Panel(model) for model in (*models, *[""] * (MAX_MODELS - len(models)))]
                self.graph = gr.HTML(apply_default_css=False, visible=False)
                with gr.Row(elem_classes="lsd-download"):
                    self.pack = gr.Button("Download report, numbers and manifest", size="sm", scale=0, min_width=300)
                    self.file = gr.DownloadButton(visible=False)  # what is downloaded

    def _wire(self) -> None:
        self.ask = {"fn": next_number, "inputs": None, "outputs": self.asked} | ASKING
        given = {self.session, self.picture, self.origin, self.view, *self.asking.values()}
        panels = [self.graph, *(part for panel in self.panels for part in panel.components)]
        long = partial(long_event, status=self.status, kind="reasons")
        drawing = {
            "fn": long(self._draw), "inputs": {self.session}, "outputs": [self.status, *panels], "trigger_mode": "multiple"
        } | LONG  # fmt: skip
        asked = self.asked.change(
            long(self._find), {*given, self.doubts},
            [self.status, self.stage, self.picture, self.mine, self.origin, self.asking["layer"], *panels],
            trigger_mode="multiple", **LONG,
        )  # fmt: skip
        tried = self.touched.change(
            long(self._try), {self.session}, [self.status, *panels], trigger_mode="multiple", **LONG
        )
        self.running = [asked, asked.then(**drawing), tried, tried.then(**drawing)]
        write = {"fn": self._write, "inputs": given, "outputs": self.address} | QUICK
        tell = {"fn": None, "inputs": self.address, "outputs": None, "js": written(address.TAB)}
        for number in (self.asked, self.touched):
            number.change(**write, trigger_mode="multiple").then(**tell)
        # A switch and the other view give up the drawing of pictures, which goes on after them.
        touching = {"outputs": panels, "cancels": self.running[1:]} | QUICK
        touch = {"fn": next_number, "inputs": None, "outputs": self.touched} | ASKING
        self.stage.switched(self._switch, {self.session}, **touching).then(**touch)
        self.stage.region(self._mark, {self.session}, **touching | {"outputs": [self.status, *panels]}).then(**touch)
        self.view.input(self._look, {self.session, self.view}, **touching).then(**touch)

        forget = {"fn": self._forget, "inputs": {self.session}, "outputs": self.doubts, "cancels": self.running} | QUICK
        self.run.click(**forget).then(**self.ask)
        self.picture.upload(**forget).then(**self.ask)
        self.gallery.select(
            self._pick, {self.session}, [self.picture, self.doubts], cancels=self.running, **QUICK
        ).then(**self.ask)  # fmt: skip
        self.asking["fill"].input(lambda: (), None, self.doubts, cancels=self.running, **QUICK).then(**self.ask)
        self.asking["models"].input(
            classes.update, self.asking["models"], [self.asking["of"], self.asking["against"]], **QUICK
        )
        self.stop.click(self._stopped, {self.session}, [self.status, *panels], cancels=self.running, **QUICK)
        downloads(self.pack, self._pack, {self.session}, self.file, self.status)

    def restore(self, door: gr.HTML) -> None:
        """Show what an address says."""
        outputs = [self.picture, self.view, self.mine, self.origin, self.doubts, *self.asking.values()]
        given = {self.session, self.picture, self.mine}
        door.reasons(self._restore, given, outputs, cancels=self.running, **ASKING).then(**self.ask)

    def _restore(self, given: Given, event: gr.EventData) -> dict:
        """Every control as an address says."""
        reading = address.read(query_of(event))
        wish = reading.wish
        session = given[self.session]
        session.off, session.unit, session.region = wish.off, wish.unit, wish.region
        default = controls.default_example(wish.models)
        picture, mine = shown_picture(wish.example, given[self.picture], given[self.mine], default)
        origin = ("", wish.source, wish.item) if wish.source and wish.item and not wish.example else None
        choices = {"of": classes.of_choices(wish.models), "against": classes.against_choices(wish.models)}
        asking = {
            self.asking[name]: gr.update(value=classes.chosen(getattr(wish, name), known), choices=known)
            for name, known in choices.items()
        }
        return asking | {
            self.asking["models"]: list(wish.models), self.asking["layer"]: wish.layer, self.asking["fill"]: wish.fill,
            self.picture: gr.skip() if picture == given[self.picture] else picture,
            self.view: wish.view, self.mine: mine, self.origin: origin, self.doubts: reading.doubts,
        }  # fmt: skip

    def _wish(self, given: Given) -> Wish:
        asking = {name: given[control] for name, control in self.asking.items()}
        texts = {name: str(asking[name] or "").strip() for name in ("of", "against", "layer")}
        wish = Wish(
            tuple(name.strip() for name in asking["models"] or () if name.strip()), example_of(given[self.picture]),
            fill=asking["fill"], view=given[self.view], off=given[self.session].off,
            unit=given[self.session].unit, region=given[self.session].region, **texts,
        )  # fmt: skip
        origin, picture = given[self.origin], given[self.picture]
        if origin and (not origin[0] or (picture and file_sha256(picture) == origin[0])):
            wish = replace(wish, example="", source=origin[1], item=origin[2])
        return wish

    def _write(self, given: Given) -> str:
        """The address of what is shown; "" where it makes no sense, which the run says."""
        try:
            wish = self._wish(given)
            request_of(wish, given[self.picture])
            return address.write(wish)
        except (LSDError, OSError):
            return ""

    def _find(self, given: Given) -> Iterator[dict]:
        """The long event: asks one model after the other, and shows each answer as soon as it is there."""
        session, doubts = given[self.session], list(given[self.doubts])
        try:
            wish, picture = self._wish(given), given[self.picture]
            if wish.item and not given[self.origin][0]:
                yield {self.origin: None}
                doing("Opening the set of pictures")
                picture, origin = aside(picture_of_set, wish.source, wish.item)
                yield {self.picture: picture, self.origin: origin}
            run = begun(request_of(wish, picture))
            run.view, run.unit, run.region = wish.view, wish.unit, wish.region
            for place, name in wish.off:
                run.off.setdefault(place, []).append(name)
            session.run = run
            if not wish.example and not wish.item:
                yield {self.mine: given[self.picture]}
            yield self._opened(run)
            for _ in ask(run, self._find_pictures, self._serve):
                yield {self.status: markup.status(_progress(run))} | self._answered(run)
            doubts += run.doubts()
            yield self._panels(run) | {self.status: _last_word(run, doubts)} | self._matched(run)
        except Exception as error:
            yield {self.status: markup.status(" ".join([*doubts, sentence(error)]), error=True)}

    def _serve(self, name: str, content: bytes) -> str:
        return serve(self.stage, name, content)

    def _opened(self, run: Run) -> dict:
        """The picture, and the places of the answers that are to come."""
        names = run.request.models
        shown = {
            self.graph: gr.update(visible=False),
            self.stage: html.stage(run.shown.size, self._plain(run), region=run.region),
        }
        for place, panel in enumerate(self.panels):
            shown[panel.column] = gr.update(visible=place < len(names))
            if place < len(names):
                shown |= {
                    panel.head: html.head(names[place]), panel.said: "", panel.answers: "", panel.rows: html.waiting()
                }  # fmt: skip
        return shown

    def _plain(self, run: Run) -> str:
        return self._serve("picture.png", png(run.shown))

    def _answered(self, run: Run) -> dict:
        """All panels, and the layers that may be asked about."""
        account = run.accounts.get(0)
        if account is None:
            return self._panels(run)
        choices = [_DEFAULT_LAYER, *((name, name) for name in account.layers)]
        return self._panels(run) | {self.asking["layer"]: gr.update(choices=choices)}

    def _panels(self, run: Run) -> dict:
        shown = {}
        for place, panel in enumerate(self.panels[: len(run.request.models)]):
            if place in run.troubles:
                shown |= {panel.said: html.trouble(run.troubles[place]), panel.answers: "", panel.rows: ""}
            elif place in run.accounts:
                shown |= self._pictured(run, place) | self._probable(run, place)
        return shown

    def _pictured(self, run: Run, place: int) -> dict:
        """What has pictures of units in it."""
        panel = self.panels[place]
        return {panel.said: html.said(run, place), panel.rows: html.rows(run, place, self._plain(run))}

    def _matched(self, run: Run) -> dict:
        """Which groups of several networks are the same thing."""
        found = graph(run, self._serve)
        return {self.graph: gr.update(value=found, visible=bool(found))}

    def _probable(self, run: Run, place: int) -> dict:
        off = len(run.off.get(place, ()))
        return {self.panels[place].answers: html.answers(run.accounts[place], run.switchings.get(place), off)}

    def _draw(self, given: Given) -> Iterator[dict]:
        """The long event: pictures of units, as they form."""
        session = given[self.session]
        run = session.run
        if run is None or not run.is_over:
            return
        try:
            with closing(draw(run, self._serve)) as steps:
                for place in steps:
                    if session.run is not run:
                        return
                    yield self._pictured(run, place)
            yield {self.status: _last_word(run)} | self._matched(run)
        except Exception as error:
            yield self._panels(run) | {
                self.status: markup.status(f"Pictures of its units: {sentence(error)}", error=True)
            }

    def _switch(self, given: Given, event: gr.EventData) -> dict:
        """A visitor switches reasons off, or on again."""
        session, asked = given[self.session], told(event)
        run, place, names = session.run, asked.get("place"), asked.get("names")
        if run is None or not isinstance(place, int) or place not in run.accounts or not isinstance(names, list):
            return {self.panels[0].answers: gr.skip()}
        account = run.accounts[place]
        known = [name for name in names[:MAX_OFF] if isinstance(name, str) and account.find(name)]
        run.switch(place, known or run.off.get(place, []), bool(asked.get("off")) and bool(known))
        run.off[place] = run.off[place][:MAX_OFF]
        session.off = run.pairs
        return self._pictured(run, place) | self._probable(run, place)

    def _mark(self, given: Given, event: gr.EventData) -> dict:
        """A visitor draws a region in which alone reasons are off, or takes it away."""
        session, corners = given[self.session], told(event).get("corners")
        run = session.run
        if run is None or not isinstance(corners, list) or not all(isinstance(part, int | float) for part in corners):
            return {self.status: gr.skip()}
        region = region_of(corners)
        refused = [why for place in sorted(run.accounts) if (why := run.refused(place, region))]
        if refused:
            return {self.status: markup.status(" ".join(refused), error=True)}
        run.region = session.region = region
        run.switchings.clear()
        shown = {self.status: gr.skip()}
        for place in run.accounts:
            shown |= self._probable(run, place)
        return shown

    def _try(self, given: Given) -> Iterator[dict]:
        """The long event: what the networks say without what is off."""
        run = given[self.session].run
        if run is None:
            return
        try:
            for place in sorted(run.accounts):
                if run.off.get(place) and place not in run.switchings:
                    switch(run, place)
                    yield self._probable(run, place)
            yield {self.status: _last_word(run)}
        except Exception as error:
            yield {self.status: markup.status(sentence(error), error=True)}

    def _look(self, given: Given) -> dict:
        """The other view of the same answers."""
        run = given[self.session].run
        if run is None:
            return {self.panels[0].answers: gr.skip()}
        run.view = given[self.view]
        return self._panels(run) or {self.panels[0].answers: gr.skip()}

    def _forget(self, given: Given) -> tuple:
        """What a visitor asks for himself begins with nothing off, and has nothing to do with what an address named wrongly."""
        session = given[self.session]
        session.off, session.unit, session.region = (), "", None
        return ()

    def _pick(self, given: Given, event: gr.EventData) -> list:
        return [picked(event) or gr.skip(), self._forget(given)]

    def _pack(self, given: Given) -> Iterator[dict]:
        """What was found as one zip file."""
        yield from packed("lsd-reasons.zip", lambda: self._files(given[self.session].run), self.file, self.status)

    def _files(self, run: Run | None) -> dict[str, bytes]:
        if run is None:
            raise LSDError("There is nothing to download yet: press Find the reasons first.")
        return files(run)

    def _stopped(self, given: Given) -> dict:
        """What was finished stays, and nothing is waited for."""
        run = given[self.session].run
        if run is None:
            return {self.status: markup.status("Stopped.")}
        for place, account in run.accounts.items():
            run.pictures |= {(account.model, unit): "" for unit in run.missing(place)}
        for place in range(len(run.request.models)):
            if place not in run.accounts:
                run.troubles.setdefault(place, "Stopped before it was asked.")
        return self._panels(run) | {self.status: markup.status("Stopped.")}


def _progress(run: Run) -> str:
    asked = len({*run.accounts, *run.troubles})
    return f"{asked} of {len(run.request.models)} models were asked …"


def _last_word(run: Run, doubts: list[str] | tuple = ()) -> str:
    failed = len(run.troubles)
    words = [*doubts, f"{failed} of {len(run.request.models)} models have no answer." if failed else "Done."]
    return markup.status(" ".join(words), error=bool(failed or doubts))
