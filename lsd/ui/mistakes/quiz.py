"""The quiz: which pixels did it? Of three squares the visitor takes one, and only then are the maps shown."""

import gradio as gr

from lsd.ui.mistakes import html
from lsd.ui.mistakes.session import Session
from lsd.ui.shared.files import script


class QuizPart:
    """The components; built inside a `gr.Blocks`. The puzzle tells `submit` of a guess, and `select` of the next mistake."""

    def __init__(self):
        with gr.Column(visible=False, elem_id="quiz") as self.column:
            self.on = gr.Checkbox(label="Quiz: guess which pixels did it before the maps are shown", container=False)
            self.puzzle = gr.HTML(js_on_load=script("mistakes/quiz.js"), elem_classes="lsd-m-place")

    @property
    def outputs(self) -> set[gr.blocks.Block]:
        """What all of these change."""
        return {self.column, self.puzzle}

    def wait(self) -> dict:
        """While there is nothing to guess."""
        return {self.puzzle: ""}

    def hide(self) -> dict:
        """Where nothing was found."""
        return {self.column: gr.update(visible=False), self.puzzle: ""}

    def offer(self, session: Session) -> dict:
        """The switch, for pictures of which it is known what fooled networks."""
        return {self.column: gr.update(visible=session.search.has_causes)}

    def show(self, session: Session) -> dict:
        """The puzzle of the mistake that is explained, or how it was solved."""
        return {self.puzzle: html.puzzle(session) if session.case and session.view.quiz else ""}
