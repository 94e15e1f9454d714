"""The square of the picture that a model is shown: a box that the visitor drags, or moves with the keyboard."""

from pathlib import Path
from typing import Any

import gradio as gr

from lsd.errors import LSDError
from lsd.images import fit_within, open_image
from lsd.ui.saliency.results import Serve, light
from lsd.ui.shared.files import script
from lsd.view import View

Square = dict[str, Any]

_SIDE = 400  # pixels of the picture that the box lies on


def square_picker() -> gr.HTML:
    """Its value is what `square_on` makes, with the sides as the visitor has moved them; None without a picture."""
    return gr.HTML(
        None, html_template='<div class="lsd-square"></div>', js_on_load=script("saliency/square.js"),
        apply_default_css=False, visible=False,
    )  # fmt: skip


def square_on(picture: str | Path | None, before: Square | None, serve: Serve) -> Square | None:
    """A square on a picture.

    Args:
        before: of another picture or of this one; it stays if the size is the same. Else it is the largest, in the middle.
    """
    try:
        image = open_image(picture) if picture else None
    except LSDError:  # which the run will say
        image = None
    if image is None:
        return None
    width, height = image.size
    square = {"url": serve("picture.jpg", light(fit_within(image, _SIDE))), "width": width, "height": height}
    if isinstance(before, dict) and (before.get("width"), before.get("height")) == image.size:
        return before | square
    side = min(width, height)
    return square | {"left": (width - side) // 2, "top": (height - side) // 2, "side": side}


def within(view: View, square: Square) -> Square:
    """The place of a view's square, on the picture that the other one lies on."""
    left, top, side = view.what
    side = min(side, square["width"], square["height"])
    return {"left": min(left, square["width"] - side), "top": min(top, square["height"] - side), "side": side}
