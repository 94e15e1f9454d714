"""A page in a headless Chromium. Without one the tests skip and say so."""

import os
import shutil
from contextlib import contextmanager

import pytest

from lsd.ui.page import build, launch_settings

_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def _chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("LSD_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="session")
def server():
    """The address of the page, with the networks that everybody has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LSD_MODEL_PATH", raising=False)
        page = build()
        _, url, _ = page.launch(**launch_settings(), server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
        yield url
        page.close()


@pytest.fixture(scope="session")
def browser():
    path = _chromium()
    if path is None:
        pytest.skip("no Chromium on this machine: install one, or set LSD_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def visitor(browser):
    """Where all pages are opened: what they load is fetched and compiled once. Nothing moves that only says “wait”: to draw that
    takes a good part of a core."""
    context = browser.new_context(viewport={"width": 1500, "height": 1150}, reduced_motion="reduce")
    yield context
    context.close()


@pytest.fixture
def tab(visitor):
    """A fresh page; what goes wrong in its console fails the test."""
    with opened(visitor) as page:
        yield page


@pytest.fixture
def first_tab(browser):
    """As `tab`, of somebody who has never been here: all that it loads comes over the wire."""
    with opened(browser) as page:
        yield page


@contextmanager
def opened(where):
    """A page of a browser or of one of its visitors."""
    page = where.new_page()
    page.set_default_timeout(120_000)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert not errors, errors


@pytest.fixture
def console(tab):
    """What the page's console calls an error fails the test, too."""
    errors = []
    tab.on("console", lambda message: errors.append(message.text) if _is_ours(message) else None)
    yield
    assert not errors, errors


def _is_ours(message) -> bool:
    """Gradio cancels an event that has no number yet, where another follows it at once; the server cannot know it, and says so.
    Such an event sees by itself that it is past."""
    return message.type == "error" and not message.location["url"].endswith(("/gradio_api/cancel", "/gradio_api/reset"))
