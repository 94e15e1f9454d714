"""The Mistakes tab: where models are wrong on labelled pictures, the maps of a mistake, and whether to believe them.

Whatever a visitor does makes another `View`, which his `Session` keeps, and a number. Another number begins the work: find the
mistakes, explain one, probe it. Work whose number is past ends by itself, so what was asked for last always wins.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from functools import partial

import gradio as gr

from lsd.ui.mistakes import html, texts
from lsd.ui.mistakes.address import TAB, read, write
from lsd.ui.mistakes.browser import Browser
from lsd.ui.mistakes.case import CasePart
from lsd.ui.mistakes.form import Form
from lsd.ui.mistakes.probe import ProbePart
from lsd.ui.mistakes.quiz import QuizPart
from lsd.ui.mistakes.request import YOURS, View, worked_cases
from lsd.ui.mistakes.session import Session, find_mistakes, fitted, mistake_key
from lsd.ui.shared import markup
from lsd.ui.shared.address import FOLLOWING, QUICK, query_of, told, written
from lsd.ui.shared.jobs import sentence
from lsd.ui.shared.long_event import ASKING, LONG, long_event


class MistakesTab:
    """The tab's components and events; built inside a `gr.Blocks`."""

    def __init__(self):
        self.session = gr.State(Session())
        self.asked = gr.State(0)  # another number every time that something is asked for
        self.address = gr.Textbox("", visible=False)
        gr.HTML(texts.INTRO + html.cases(worked_cases()))
        with gr.Row(elem_classes="lsd-m-top"):
            with gr.Column(scale=4, min_width=300, elem_classes="lsd-m-second"):
                self.form = Form()
                self.accuracy = gr.HTML()
            with gr.Column(scale=10, min_width=320):
                self.status = gr.HTML(markup.status("Opening …"), elem_classes="lsd-m-status")
                self.browser = Browser()
        self.quiz = QuizPart()
        # What belongs to the answer is hidden by the style sheet while the quiz asks, so that it is there at once after a guess.
        with gr.Column(elem_id="why", elem_classes="lsd-m-answer-part") as self.details:
            self.case = CasePart()
        with gr.Column(elem_classes="lsd-m-answer-part") as self.prober:
            self.probe = ProbePart()
        self.picture = self.form.picture
        self._work_events()
        self._asking_events()
        self._probe_events()

    def restore(self, door: gr.HTML) -> None:
        """Show what an address says, the first worked case where it names nothing."""
        outputs = {
            self.asked, self.address, self.quiz.on, self.case.what, *self.form.outputs, *self.case.controls.values(),
            *self.probe.controls.values(),
        }  # fmt: skip
        self._told(door.mistakes(self._open, {self.session, self.picture}, outputs, **ASKING))

    def _work_events(self) -> None:
        """What another number begins."""
        shown = {self.status, self.accuracy, self.details, self.prober, *self._all_outputs}
        self.running = self.asked.change(self._work, {self.session}, shown, trigger_mode="multiple", **LONG)
        self.form.stop.click(self._stop, {self.session}, shown, cancels=self.running, **QUICK)

    @property
    def _all_outputs(self) -> set[gr.blocks.Block]:
        return {
            *self.form.outputs, *self.browser.outputs, *self.quiz.outputs, *self.case.outputs, *self.probe.outputs,
        }  # fmt: skip

    async def _work(self, values: Mapping) -> AsyncIterator[dict]:
        """The long event of what was asked for last: it ends as soon as something else is asked for."""
        session = values[self.session]
        number = session.begin()
        yield {self.status: gr.skip()}  # an event that says nothing at all would empty its outputs
        if number is None:
            return
        parts = ((self._search, self.status), (self._explain, self.case.progress), (self._probe, self.probe.verdict))
        for part, status in parts:
            event = long_event(
                partial(part, session, number), status, "mistakes", unless=lambda: session.is_past(number)
            )
            async for updates in event():
                yield updates
            if session.is_past(number):
                return

    def _asking_events(self) -> None:
        """What a visitor asks for."""
        self._told(
            self.form.run.click(self._ask, {self.session, *self.form.inputs}, {self.asked, self.address}, **ASKING)
        )
        one = {self.asked, self.address, self.case.what}
        self._told(self.browser.list.select(self._pick, {self.session}, one, **ASKING))
        self._told(self.quiz.puzzle.select(self._pick, {self.session}, one, **ASKING))
        self._told(
            self.quiz.on.input(
                self._quiz,
                {self.session, self.quiz.on},
                {self.quiz.puzzle, self.browser.list, self.address},
                **FOLLOWING,
            )
        )
        self.quiz.puzzle.submit(self._guess, {self.session}, {self.quiz.puzzle, self.browser.list}, **QUICK)
        look = {self.session, *self.case.controls.values()}
        self._told(self.case.method.input(self._explain_anew, look, one, **ASKING))
        for control in (self.case.scale, self.case.overlay):
            self._told(control.input(self._draw, look, {*self.case.outputs, self.address}, **FOLLOWING))
        filters = {self.session, *self.browser.filters.values()}
        listed = {*self.browser.outputs, self.address}
        for control in self.browser.filters.values():
            self._told(control.input(self._filter, filters, listed, **FOLLOWING))
        for button, step in ((self.browser.previous, -1), (self.browser.next, 1)):
            self._told(
                button.click(lambda values, step=step: self._turn(values, step), {self.session}, listed, **QUICK)
            )

    def _probe_events(self) -> None:
        """The probe's own controls: its pictures are there at once, and what the model says of them when it is free."""
        verdict = self.probe.verdict
        ask = long_event(lambda values: self.probe.ask(values[self.session]), verdict, "probe")
        looked = gr.on(
            self.probe.changes, self._remove, {self.session, *self.probe.controls.values()},
            {*self.probe.outputs, self.address}, **FOLLOWING,
        )  # fmt: skip
        self._told(looked).then(ask, {self.session}, self.probe.outputs, trigger_mode="multiple", **LONG)

    def _told(self, event: gr.events.Dependency) -> gr.events.Dependency:
        """After the event, the page's address is what it has left in `address`."""
        return event.then(None, self.address, None, js=written(TAB))

    def _open(self, values: Mapping, event: gr.EventData) -> dict:
        """An address is to be shown."""
        session, (view, troubles) = values[self.session], read(query_of(event))
        session.path = values[self.picture]
        number = session.ask(view, told=True, troubles=troubles)
        shown = self.form.show(view.question) | self.case.show(view.look) | self.probe.show(view.removal)
        shown |= {self.quiz.on: bool(view.quiz)}
        return shown | {self.asked: number, self.address: write(view)}

    def _ask(self, values: Mapping) -> dict:
        """The mistakes that the form asks for; how they are explained stays."""
        session, last = values[self.session], values[self.session].view
        view = View(self.form.read(values), quiz=last.quiz, look=last.look, removal=replace(last.removal, model=""))
        session.path = values[self.picture]
        return {self.asked: session.ask(view), self.address: write(view)}

    def _pick(self, values: Mapping, event: gr.EventData) -> dict:
        """A mistake of the list."""
        session, picked = values[self.session], told(event)
        picture, by = (str(picked.get(key, "")) for key in ("picture", "by"))
        if session.search is None or session.search.column(picture) is None:
            return {self.address: gr.skip()}
        view = replace(session.view, picture=picture, by=by)
        return {self.asked: session.ask(view, listed=True), self.address: write(view)}

    def _quiz(self, values: Mapping) -> dict:
        """The quiz is begun, or ended."""
        session = values[self.session]
        session.view = replace(session.settled, quiz="on" if values[self.quiz.on] else "")
        return self._quizzed(session) | {self.address: write(session.view)}

    def _guess(self, values: Mapping, event: gr.EventData) -> dict:
        """A square is taken for the one that did it: now the maps are shown."""
        session, guess = values[self.session], told(event).get("guess")
        if session.puzzles and guess in range(len(session.case.said.evidence.squares)):
            session.guesses[mistake_key(session.case.said)] = guess
        return self._quizzed(session)

    def _quizzed(self, session: Session) -> dict:
        """The puzzle, and the list, which tells no more than he may know."""
        return self.quiz.show(session) | (self.browser.cards(session) if session.search else {})

    def _explain_anew(self, values: Mapping) -> dict:
        """The same mistake by another method."""
        session = values[self.session]
        view = replace(session.settled, look=self.case.read(values))
        what = self.case.show(view.look)[self.case.what]
        return {self.asked: session.ask(view, listed=True), self.address: write(view), self.case.what: what}

    def _draw(self, values: Mapping) -> dict:
        """The same maps, drawn otherwise."""
        session = values[self.session]
        session.view = replace(session.settled, look=self.case.read(values))
        return self.case.draw(session) | {self.address: write(session.view)}

    def _filter(self, values: Mapping) -> dict:
        """The first page of what passes the filters; what is explained stays."""
        session, filters = values[self.session], self.browser.read(values)
        if session.search is None or filters == session.view.filters:  # a dropdown tells everything twice
            return {self.address: gr.skip()}
        session.view = replace(session.settled, filters=filters, page=1)
        return self.browser.show(session) | {self.address: write(session.view)}

    def _turn(self, values: Mapping, step: int) -> dict:
        """Another page of the list."""
        session = values[self.session]
        if session.search is None:
            return {self.address: gr.skip()}
        session.view = replace(session.settled, page=session.view.page + step)
        return self.browser.show(session) | {self.address: write(session.view)}

    def _remove(self, values: Mapping) -> dict:
        """Other pixels are to be removed."""
        session, removal = values[self.session], self.probe.read(values)
        first = session.case and next(iter(session.case.doubted), None)
        if first and removal.model == first.model:
            removal = replace(removal, model="")
        session.view = replace(session.settled, removal=removal)
        return self.probe.look(session) | {self.address: write(session.view)}

    def _stop(self, values: Mapping) -> dict:
        """All work ends; a scan leaves what it has found so far."""
        session = values[self.session]
        session.stop()
        so_far, session.scanning = session.scanning, None
        if so_far is None or so_far.result is None:
            return {part: markup.status("Stopped.") for part in (self.status, self.case.progress)}
        session.search, session.case = so_far, None
        found, text = self._found(session), texts.summary(so_far.result, so_far.pictures)
        return found | {self.status: markup.status(f"Stopped after {so_far.done} pictures. {text}")}

    def _search(self, session: Session, number: int) -> Iterator[dict]:
        """Every picture through every model, unless that was done for the last search; then a page of mistakes."""
        if session.is_past(number) or session.listed:
            return
        try:
            if not session.found:
                session.search = session.scanning = session.case = None
                yield self._wait(session.view.question.source == YOURS)
                if session.told and session.view.question.source == YOURS and not session.path:
                    yield self._nothing() | {self.status: markup.status(texts.YOURS_FIRST)}
                    return
                for scanning in find_mistakes(session):
                    text = f"{scanning.done} of {scanning.total} pictures …"
                    yield {self.status: markup.status(text, done=scanning.done, total=scanning.total)}
                if session.is_past(number):
                    return
                session.search, session.scanning = session.scanning, None
            yield self._found(session)
        except Exception as error:
            if session.is_past(number):
                return
            session.search, session.scanning = session.scanning, None
            left = session.search and session.search.result
            updates = self._found(session) if left else self._nothing()
            yield updates | {self.status: markup.status(sentence(error), error=True)}

    def _wait(self, own: bool) -> dict:
        shown = self.browser.wait(own) | self.quiz.wait() | self.case.wait() | self.probe.wait()
        return shown | {self.accuracy: ""}

    def _nothing(self) -> dict:
        """Where there is nothing to show."""
        hidden = {self.browser.column: gr.update(visible=False), self.accuracy: ""}
        return hidden | self.quiz.hide() | self._details(False)

    def _details(self, visible: bool) -> dict:
        return {part: gr.update(visible=visible) for part in (self.details, self.prober)}

    def _found(self, session: Session) -> dict:
        """What a search has found: its mistakes, as far as the view goes; the nearest view where it names what there is not."""
        search = session.search
        session.view, missing = fitted(session.view, search)
        words = texts.own_summary(search.result) if search.is_own else texts.summary(search.result, search.pictures)
        troubles = [*session.troubles, *missing, *search.troubles]
        controls = self.form.show(session.view.question) if session.told else {}
        details = self._details(session.choice is not None)
        return controls | self.browser.show(session) | self.quiz.offer(session) | details | {
            self.status: markup.status(" ".join([*troubles, words]), error=bool(troubles)),
            # Pictures that were chosen for being mistaken say nothing of how often a network is right.
            self.accuracy: "" if search.is_own or search.has_causes else texts.accuracies(search.result),
        }  # fmt: skip

    def _explain(self, session: Session, number: int) -> Iterator[dict]:
        """The mistake that is asked for; of another one than before, the probe is still to come."""
        if session.is_past(number) or not session.search or not session.choice:
            return
        before = session.case
        for updates in self.case.explain(session, number):
            if session.case is not before:
                before, updates = session.case, updates | self.probe.wait() | self.quiz.show(session)
            yield updates

    def _probe(self, session: Session, number: int) -> Iterator[dict]:
        """The probe of a mistake just explained."""
        if not session.is_past(number):
            yield from self.probe.ask(session)
