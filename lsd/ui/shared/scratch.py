"""Where the page puts files of its own: one temporary folder, which goes when the process ends."""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

_FOLDER = TemporaryDirectory(prefix="lsd-page-")


def new_folder() -> Path:
    """An empty folder in that one, so that a file in it can have any name."""
    return Path(mkdtemp(dir=_FOLDER.name))


def brief_folder() -> TemporaryDirectory:
    """A context: a folder that is gone after the block. Gradio makes a copy of what it is given."""
    return TemporaryDirectory(dir=_FOLDER.name)


@contextmanager
def zipped(name: str, files: Mapping[str, bytes]) -> Iterator[Path]:
    """Files (name → bytes) as one zip file, which is gone after the block."""
    with brief_folder() as folder:
        path = Path(folder) / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # what is in them is compressed already
            for file, content in files.items():
                archive.writestr(file, content)
        yield path
