"""The choices of the two class pickers."""

from collections.abc import Sequence

import gradio as gr

from lsd.ui.shared import controls
from lsd.ui.shared.reasoned import OTHERS

_FIRST, _RUNNER_UP = ("the first choice", ""), ("the one that comes next", "")


def chosen(text: str, choices: list[tuple[str, str]]) -> str:
    """A class as a picker has it, where it is told by its index."""
    return next((value for shown, value in choices if text and shown.endswith(f"·  {text}")), text)


def update(models: list[str] | None) -> list[dict]:
    """Both pickers, for other models."""
    return [gr.update(choices=of_choices(models or ())), gr.update(choices=against_choices(models or ()))]


def of_choices(models: Sequence[str]) -> list[tuple[str, str]]:
    """What is asked about: each network's own first choice, or a class."""
    return [_FIRST, *controls.class_choices(models)]


def against_choices(models: Sequence[str]) -> list[tuple[str, str]]:
    """What it is held against."""
    return [_RUNNER_UP, (OTHERS, OTHERS), *controls.class_choices(models)]
