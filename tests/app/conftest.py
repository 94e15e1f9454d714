"""One running page for all tests of the app, on a free port of this machine only; and its long events as Gradio runs them."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from forks import Forks, forking

from lsd.ui.page import build, launch_settings


@pytest.fixture(scope="session")
def followed():
    """Calls a long event's function; all that it yields."""

    def collect(event, *values) -> list:
        async def every():
            return [update async for update in event(*values)]

        return asyncio.run(every())

    return collect


@pytest.fixture(scope="session")
def page_url():
    """The address of the page."""
    page = build()
    _, url, _ = page.launch(**launch_settings(), server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    yield url
    page.close()


@pytest.fixture(scope="session")
def fresh(tmp_path_factory) -> Iterator[Forks]:
    """Programs of their own that have imported nothing but what every page takes seconds for: Gradio, and torch."""
    ours = ("LSD_MODEL_PATH", "GRADIO_SERVER_PORT")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    folder = tmp_path_factory.mktemp("fresh")
    with forking(
        folder, ("torch", "gradio"), environment=kept | {"PYTHONPATH": str(Path(__file__).parents[2])}
    ) as forks:
        yield forks
