"""The Mistakes tab as a visitor meets it."""

import pytest

from lsd.packages import installed
from lsd.ui.mistakes import tab as mistakes_tab

pytestmark = pytest.mark.browser


@pytest.fixture
def scans(monkeypatch):
    """The names of the sets that were searched."""
    names, scan = [], mistakes_tab.scan

    def noted(models, pictures):
        names.append(pictures.name)
        return scan(models, pictures)

    monkeypatch.setattr(mistakes_tab, "scan", noted)
    return names


VERDICT = ".lsd-verdict:not([data-old])"  # the probe's, the last that comes


def test_the_tab_opens_with_mistakes_maps_and_probe_and_only_once(server, tab, scans):
    tab.goto(server, wait_until="domcontentloaded")
    place = tab.get_by_role("tab", name="Mistakes")
    place.click()
    tab.wait_for_function("document.querySelectorAll('.lsd-mistakes img').length > 0")
    tab.wait_for_function("[...document.querySelectorAll('#why .lsd-reading img')].length >= 3")
    tab.wait_for_selector(VERDICT, timeout=120_000)
    tab.get_by_role("tab", name="Choices").click()
    place.click()
    tab.wait_for_timeout(1500)
    assert scans == ["the example photos" if installed() else "demo:misleading-tags"]
    assert "Traceback" not in tab.inner_text("body")


def test_the_shortcut_model_is_found_out(server, tab, scans):
    tab.goto(server, wait_until="domcontentloaded")
    tab.get_by_role("tab", name="Mistakes").click()
    tab.get_by_role("button", name="Drawn pictures with a lying tag").click()
    tab.wait_for_function("document.body.innerText.includes('of this map lies on the corner tag')")
    tab.wait_for_function("document.body.innerText.includes('most salient pixels turns the answer from')")
    assert tab.get_by_text("Accuracy", exact=True).is_visible()
    tab.eval_on_selector(VERDICT, "verdict => { verdict.dataset.old = true; }")
    tab.get_by_role("button", name="Find the mistakes").click()  # what the button chose is searched again
    tab.wait_for_selector(VERDICT)
    assert scans[-2:] == ["demo:misleading-tags"] * 2
    assert "Traceback" not in tab.inner_text("body")
