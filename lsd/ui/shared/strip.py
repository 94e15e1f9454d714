"""The page's pictures to choose from, as a strip of thumbnails, and which picture a tab is to show."""

from pathlib import Path

import gradio as gr

from lsd.ui.shared import markup
from lsd.ui.shared.address import told
from lsd.ui.shared.examples import credit, example_of, examples


def example_strip() -> gr.Gallery:
    """The thumbnails, and whose photos they are."""
    strip = gr.Gallery(
        [(str(path), name) for name, path in examples().items()], label="Examples", show_label=False, columns=8,
        height="auto", buttons=[], allow_preview=False, object_fit="cover", interactive=False, elem_classes="lsd-examples",
    )  # fmt: skip
    if credit():
        gr.HTML(f"<div class='lsd-note lsd-credit'>{markup.escape(credit())}</div>", padding=False)
    return strip


def picked(event: gr.EventData) -> str | None:
    """The file that a select of the strip means; None if there is none."""
    known, place = list(examples().values()), told(event).get("index")
    return str(known[place]) if isinstance(place, int) and 0 <= place < len(known) else None


def shown_picture(example: str, current: str | None, mine: str | None, default: str) -> tuple[str, str | None]:
    """The picture that an address is shown with, and the visitor's own, which may be another.

    Args:
        example: that the address names, or "".
        current: that is there now; `mine` the visitor's own.
        default: the example that is shown where neither is.
    """
    if current and not example_of(current):
        mine = current
    if example:
        here = example_of(current) == example
        return current if here else str(examples()[example]), mine
    if mine and Path(mine).exists():
        return mine, mine
    return str(examples()[default]), None
