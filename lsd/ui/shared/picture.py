"""The one way in for visitors' pictures. In a module of its own: Gradio writes a stub file (.pyi) beside it."""

from collections.abc import Sequence

import gradio as gr

from lsd.ui.shared.address import QUICK
from lsd.ui.shared.examples import example_of, examples

UPLOADED = {"type": "filepath", "sources": ["upload", "clipboard", "webcam"]}  # what every `PictureInput` is made with


class PictureInput(gr.Image):
    """A `gr.Image` that hands over the path of the uploaded file, undecoded.

    `gr.Image` decodes whatever arrives before any code of ours sees it: a bomb of 169 megapixels fills the memory, and
    a damaged file is an error that nobody explains. Here only `lsd.images.open_image` decodes, within its limits.
    """

    is_template = True  # tells Gradio that the browser's side is that of its parent

    def preprocess(self, payload) -> str | None:
        """The path of the uploaded file, or None."""
        return payload.path if payload else None


def example_picker(picture: PictureInput, value: str = "", **settings) -> gr.Dropdown:
    """Puts one of the page's pictures into `picture`, and says which of them is there.

    Args:
        settings: of the `gr.Dropdown`.
    """
    picker = gr.Dropdown(
        [("none", ""), *((name, name) for name in examples())], value=value, label="Or an example", filterable=False,
        **settings,
    )  # fmt: skip
    picker.input(lambda name: str(examples()[name]) if name else None, picker, picture, **QUICK)
    picture.change(example_of, picture, picker, **QUICK)
    return picker


def share(pictures: Sequence[PictureInput]) -> list[gr.events.Dependency]:
    """What a visitor uploads into one of them is there in the others, too: the events after which it is."""
    shared = []
    for picture in pictures:
        others = [other for other in pictures if other is not picture]
        shared.append(picture.upload(lambda path: [path] * (len(pictures) - 1), picture, others, **QUICK))
    return shared
