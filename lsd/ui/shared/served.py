"""Files that the page gets by an address, kept where Gradio keeps its own, from where they go after an hour."""

import hashlib
import os
from pathlib import Path
from tempfile import NamedTemporaryFile
from urllib.parse import quote

import gradio as gr


def serve(holder: gr.HTML, name: str, content: bytes) -> str:
    """The address of a file, the same for the same content, so that a browser that has it does not ask again.

    Args:
        holder: the component that shows it.
    """
    folder = Path(holder.GRADIO_CACHE, hashlib.sha256(content).hexdigest()).resolve()
    path = folder / name
    try:
        os.utime(path)  # it is wanted for another hour
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(
            dir=folder, delete=False
        ) as file:  # whole or not at all: somebody else may be reading it
            file.write(content)
        os.replace(file.name, path)
    holder.temp_files.add(str(path))
    return f"gradio_api/file={quote(str(path))}"
