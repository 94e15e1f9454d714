"""One click that makes a zip file and downloads it."""

from collections.abc import Callable, Iterator, Mapping

import gradio as gr

from lsd.errors import LSDError
from lsd.ui.shared import markup
from lsd.ui.shared.files import script
from lsd.ui.shared.jobs import sentence
from lsd.ui.shared.scratch import zipped


def downloads(
    button: gr.Button, pack: Callable[..., Iterator[dict]], inputs: object, file: gr.DownloadButton, status: gr.HTML
):
    """Have a click on `button` download what `pack`, a handler that goes by `packed`, puts into `file`.

    Args:
        file: is not shown; the browser gets the file by it.
    """
    packing = button.click(pack, inputs, [file, status], api_visibility="private")
    packing.then(None, file, None, js=script("shared/download.js"))


def packed(
    name: str, files: Callable[[], Mapping[str, bytes]], file: gr.DownloadButton, status: gr.HTML
) -> Iterator[dict]:
    """Updates of `file` and `status`: a zip file, or one sentence and nothing to download.

    Args:
        files: name → content; it may raise LSDError.
    """
    yield {file: None, status: markup.status("Making the download …")}
    try:
        with zipped(name, files()) as path:
            yield {file: str(path), status: markup.status("The download is ready.")}
    except (LSDError, OSError) as error:
        yield {status: markup.status(sentence(error), error=True)}
