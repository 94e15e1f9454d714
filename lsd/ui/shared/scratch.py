"""Where the page's files lie: one temporary folder, which goes when the process ends; what visitors leave goes within the hour."""

import asyncio
import os
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from starlette.requests import Request
from starlette.responses import JSONResponse

from lsd.disk import is_full
from lsd.ui.shared.jobs import sentence

_FOLDER = TemporaryDirectory(prefix="lsd-page-")

_EVERY, _AGE = 600, 3000  # seconds between two looks at visitors' files, and the age at which they go


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


def visitors_folder() -> Path:
    """Where Gradio keeps uploads and downloads: `GRADIO_TEMP_DIR`, by default a folder that no other program shares."""
    if not os.environ.get("GRADIO_TEMP_DIR"):
        os.environ["GRADIO_TEMP_DIR"] = str(new_folder())
    return Path(os.environ["GRADIO_TEMP_DIR"])


async def told_full(request: Request, error: Exception) -> JSONResponse:
    """The server's answer where an upload finds the disk full; any other error stays one."""
    if not is_full(error):
        raise error
    return JSONResponse({"detail": sentence(error)}, 507)


def sweep(folder: Path, own: Collection[Path], age: float) -> None:
    """Delete files below a folder that are older than `age` seconds, but for the page's `own`."""
    for file in list(folder.rglob("*")):
        with suppress(OSError):  # somebody else was quicker
            if file not in own and file.is_file() and time.time() - file.stat().st_ctime > age:
                file.unlink()
                file.parent.rmdir()  # it is empty mostly


def sweeping(folder: Path) -> Callable[[object], AbstractAsyncContextManager]:
    """A server's life, in which visitors' files go when they are old: Gradio's `delete_cache` forgets those of endpoints."""

    @asynccontextmanager
    async def life(app: object) -> AsyncIterator[None]:
        own = set(folder.rglob("*"))  # the examples, as the page offers them

        async def again_and_again() -> None:
            while True:
                await asyncio.sleep(_EVERY)
                await asyncio.to_thread(sweep, folder, own, _AGE)

        task = asyncio.create_task(again_and_again())
        try:
            yield
        finally:
            task.cancel()

    return life
