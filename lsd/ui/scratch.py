"""Where the page puts files of its own: one temporary folder, which goes when the process ends."""

from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

_FOLDER = TemporaryDirectory(prefix="lsd-page-")


def new_folder() -> Path:
    """An empty folder in that one, so that a file in it can have any name."""
    return Path(mkdtemp(dir=_FOLDER.name))
