"""The Mistakes tab as a visitor meets it."""

import pytest

pytestmark = pytest.mark.browser


def test_the_shortcut_model_is_found_out(server, tab):
    tab.goto(server, wait_until="domcontentloaded")
    tab.get_by_role("tab", name="Mistakes").click()
    tab.get_by_role("button", name="Find the mistakes").click()
    tab.wait_for_function("document.body.innerText.includes('of this map lies on the corner tag')")
    tab.wait_for_function("document.body.innerText.includes('most salient pixels turns the answer from')")
    assert tab.get_by_text("Accuracy", exact=True).is_visible()
    assert "Traceback" not in tab.inner_text("body")
