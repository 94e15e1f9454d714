"""The tab's results: up to three columns of pictures, their ascent to look back through, and what networks say of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import gradio as gr

from lsd.features.recipes import DEFAULT
from lsd.provenance import slug
from lsd.ui.features import texts
from lsd.ui.features.request import DEFAULT_SEEDS, judges_of, steps_of
from lsd.ui.features.runs import Lane, Session, command
from lsd.ui.shared import markup
from lsd.ui.shared.files import script
from lsd.ui.shared.limits import MAX_LANES
from lsd.ui.shared.markup import data_url
from lsd.ui.shared.served import serve

_INVITATION = "Choose a model and a unit, and press Visualize."
_FRAME_SECONDS = 0.09  # of the film


class Column:
    """One place among the results. Where it stands on the page is the style sheet's business."""

    def __init__(self, place: int):
        css = f"lsd-f-lane{place}"
        empty = place == 0
        self.head = gr.HTML(texts.empty_head() if empty else "", padding=False, elem_classes=["lsd-f-head", css])
        self.picture = gr.HTML(
            texts.picture(None, "") if empty else "", padding=False, elem_classes=["lsd-f-main", css]
        )  # fmt: skip
        self.seeds = gr.HTML(
            texts.seeds((), 0, DEFAULT_SEEDS) if empty else "", js_on_load=script("features/seeds.js"), padding=False,
            elem_classes=["lsd-f-strip", css],
        )  # fmt: skip
        with gr.Column(elem_classes=["lsd-f-side", css], min_width=0):
            self.progress = gr.HTML(padding=False, elem_classes="lsd-f-progress")
            self.curve = gr.HTML(padding=False, elem_classes="lsd-f-curve")
            self.verdicts = gr.HTML(padding=False)  # last: it grows while the networks are asked

    @property
    def components(self) -> list[gr.HTML]:
        return [self.head, self.picture, self.seeds, self.progress, self.verdicts, self.curve]

    def cleared(self) -> dict:
        """Nothing in any of it."""
        return dict.fromkeys(self.components, "")

    def empty(self, lanes: int, seeds: int) -> dict:
        """The shape of what is to come."""
        return self.cleared() | {
            self.head: texts.empty_head(lanes), self.picture: texts.picture(None, ""),
            self.seeds: texts.seeds((), 0, seeds),
        }  # fmt: skip

    def forming(self, session: Session, lane: Lane) -> dict:
        """What changes with every step."""
        return {
            self.picture: self.shown(lane, session.seed),
            self.seeds: texts.seeds(self._thumbnails(lane), session.seed, len(lane.request.seeds)),
            self.progress: texts.progress(lane), self.curve: texts.curve(lane),
        }  # fmt: skip

    def shown(self, lane: Lane, seed: int) -> str:
        """A seed's picture as it is now."""
        picture = lane.picture(seed)
        return texts.picture(picture and self._address(self.picture, lane, *picture), texts.alt(lane, seed))

    def _thumbnails(self, lane: Lane) -> list[str]:
        return [self._address(self.seeds, lane, "image/jpeg", content) for content in lane.thumbnails()]

    @staticmethod
    def _address(holder: gr.HTML, lane: Lane, kind: str, content: bytes) -> str:
        """Of a finished picture one that a browser keeps; what is shown for half a second is its own address."""
        if not lane.done:
            return data_url(kind, content)
        return serve(holder, f"{slug(lane.title)}.{kind.removeprefix('image/')}", content)

    def whole(self, session: Session, lane: Lane) -> dict:
        """All of it."""
        return self.forming(session, lane) | {
            self.head: texts.head(lane, len(session.lanes)), self.verdicts: texts.verdicts(lane, session.seed)
        }  # fmt: skip


class Stage:
    """The components, and what they show at each stage of a run; built inside a `gr.Blocks`."""

    def __init__(self):
        self.status = gr.HTML(markup.status(_INVITATION), padding=False, elem_id="features-status")
        gr.HTML(texts.JUMP, padding=False)
        with gr.Column(elem_classes="lsd-f-stage"):
            self.columns = [Column(place) for place in range(MAX_LANES)]
            with gr.Row(elem_classes="lsd-f-film"):
                self.play = gr.Button(
                    "Play", size="sm", interactive=False, min_width=70, scale=0, elem_id="features-play"
                )
                steps = steps_of(DEFAULT)
                self.scrub = gr.Slider(
                    1, steps, steps, step=1, label="Step", scale=1, min_width=160, interactive=False,
                    elem_id="scrub",
                )  # fmt: skip
        self.reading = gr.HTML(padding=False, elem_id="features-reading")
        with gr.Row(elem_classes="lsd-f-next"):
            self.questions = gr.HTML(padding=False, elem_classes="lsd-f-questions")
            self.against_none = gr.Button("Compare with no regularization", size="sm", elem_id="against-none")
            self.three_outputs = gr.Button("Compare logit, log-odds, probability", size="sm", elem_id="three-outputs")
            self.download = gr.Button("Download", size="sm", interactive=False, elem_id="features-download")
            self.file = gr.DownloadButton(visible=False)  # what is downloaded
        with gr.Accordion("Make it again from the command line", open=False):
            self.again = gr.HTML(padding=False)
            self.command = gr.Code(
                language="shell",
                interactive=False,
                label="Command line",
                wrap_lines=True,
                lines=1,
                elem_id="features-command",
            )
        gr.HTML(texts.INTRO, padding=False)

    @property
    def components(self) -> list[gr.blocks.Block]:
        """What a run changes."""
        parts = [part for column in self.columns for part in column.components]
        return [
            self.status,
            self.play,
            self.scrub,
            self.reading,
            self.questions,
            self.download,
            self.again,
            self.command,
            *parts,
        ]

    @property
    def pictures(self) -> list[gr.HTML]:
        return [column.picture for column in self.columns]

    def pairs(self, session: Session) -> zip:
        """(column, lane) of each lane."""
        return zip(self.columns, session.lanes, strict=False)

    def empty(self, lanes: int, seeds: int, status: str = "") -> dict:
        """The shape of what is to come, and no pictures."""
        update = {} | self._after(ready=False)
        for place, column in enumerate(self.columns):
            update |= column.empty(lanes, seeds) if place < lanes else column.cleared()
        return update | {self.status: status or markup.status(_INVITATION), self.reading: ""}

    def begun(self, session: Session) -> dict:
        """Before the first step."""
        update = self.empty(len(session.lanes), len(session.lanes[0].request.seeds))
        for column, lane in self.pairs(session):
            update |= column.whole(session, lane)
        status = markup.status("The first step takes a little longer …")
        return update | {self.status: status, self.reading: texts.reading(session)}

    def finished(self, session: Session, wrong: str = "") -> dict:
        """The end of a run."""
        update = self._after(ready=True) | self._film(session.steps, session.step)
        for column in self.columns[len(session.lanes) :]:
            update |= column.cleared()
        for column, lane in self.pairs(session):  # whole: the page may not have kept what came while it was busy
            update |= column.whole(session, lane)
        if session.step is not None:
            update |= self.at(session, session.step)
        failed = bool(wrong) or any(lane.trouble for lane in session.lanes)
        lines = [
            command(lane, session.photo, judges_of(session, lane), _folder(session, lane)) for lane in session.lanes
        ]
        return update | {
            self.status: markup.status(f"{wrong} {texts.summary(session)}".strip(), error=failed),
            self.reading: texts.reading(session), self.questions: texts.questions(session),
            self.again: texts.again(session), self.command: "\n".join(lines),
        }  # fmt: skip

    def stopped(self, session: Session | None) -> dict:
        """What Stop leaves: the pictures as far as they came, to be looked back through."""
        if session is None or not any(lane.step for lane in session.lanes):
            return {self.status: markup.status("Stopped.")}
        if session.finished:
            return {self.status: markup.status("Stopped; the pictures were finished already.")}
        far = max(lane.step for lane in session.lanes)
        return {self.status: markup.status(f"Stopped at step {far} of {session.steps}."), **self._film(far)}

    def verdicts(self, session: Session) -> dict:
        """What the networks have said so far."""
        return {column.verdicts: texts.verdicts(lane, session.seed) for column, lane in self.pairs(session)}

    def at(self, session: Session | None, step: int) -> dict:
        """The pictures as they were at a step; at the last one, the finished ones."""
        if session is None:
            return self._nothing()
        update, session.step = {}, int(step) if step < session.steps else None
        for column, lane in self.pairs(session):
            frame = lane.frame(int(step), session.seed)
            if frame is None or step >= lane.step:
                shown = column.shown(lane, session.seed)
            else:
                shown = texts.picture(data_url(*frame[1]), texts.alt(lane, session.seed, frame[0]))
            update[column.picture] = shown
        return update

    def _nothing(self) -> dict:
        """No change; Gradio takes an empty dictionary for a value."""
        return {self.columns[0].picture: gr.skip()}

    def seed(self, session: Session | None, seed: int, step: int) -> dict:
        """Another seed shown large, at the same step, and what the networks say of it."""
        if session is None:
            return self._nothing()
        session.seed = max(0, min(seed, max(len(lane.request.seeds) for lane in session.lanes) - 1))
        return self.at(session, step) | self.verdicts(session)

    async def film(self, session: Session | None) -> AsyncIterator[dict]:
        """The ascent again, frame by frame."""
        for step in frames(session):
            yield {self.scrub: step, **self.at(session, step)}
            await asyncio.sleep(_FRAME_SECONDS)

    def _after(self, *, ready: bool) -> dict:
        """What can be done once there are pictures."""
        return {
            self.play: gr.update(interactive=ready), self.scrub: gr.update(interactive=ready),
            self.download: gr.update(interactive=ready), self.questions: "", self.again: "", self.command: "",
        }  # fmt: skip

    def _film(self, last: int, step: int | None = None) -> dict:
        return {
            self.play: gr.update(interactive=True),
            self.scrub: gr.update(maximum=max(last, 2), value=step or last, interactive=True),
        }


def frames(session: Session | None) -> Sequence[int]:
    """The steps that a session has kept pictures of."""
    return sorted({step for lane in session.lanes for step, _ in lane.frames}) if session else []


def _folder(session: Session, lane: Lane) -> str:
    return "features" if len(session.lanes) == 1 else f"features/{slug(lane.heading)}"
