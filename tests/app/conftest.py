"""One running page for all tests of the app, on a free port of this machine only."""

import pytest

from lsd.ui.page import build, launch_settings


@pytest.fixture(scope="session")
def page_url():
    """The address of the page."""
    page = build()
    _, url, _ = page.launch(**launch_settings(), server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    yield url
    page.close()
