"""The Saliency tab as a visitor meets it."""

import threading

import pytest
from playwright.sync_api import expect

from lsd.ui.saliency import run as saliency_run
from lsd.ui.shared import jobs
from lsd.ui.shared.examples import drawn, photos

pytestmark = pytest.mark.browser

DRAWN = drawn()[0]
MAPS = "img[alt^='Saliency map of']"


def wait_for_status(tab, text):
    tab.wait_for_function("text => document.querySelector('#status')?.innerText.includes(text)", arg=text)


def wait_for_maps(tab, count):
    tab.wait_for_function(
        "([css, n]) => [...document.querySelectorAll(css)].filter(i => i.complete && i.naturalWidth).length === n",
        arg=[MAPS, count],
    )


def open_tab(server, tab):
    tab.goto(server, wait_until="domcontentloaded")
    tab.get_by_role("tab", name="Saliency").click()
    tab.locator("#explain").wait_for()


def test_it_opens_on_an_explained_photo(server, tab):
    open_tab(server, tab)
    wait_for_status(tab, "Done in")
    wait_for_maps(tab, 3)
    expect(tab.get_by_text("Captum agrees")).to_have_count(3, timeout=30_000)
    assert tab.get_by_text("EfficientNet-Lite0", exact=True).count() >= 1


def test_an_example_is_explained_when_it_is_chosen(server, tab):
    open_tab(server, tab)
    wait_for_maps(tab, 3)
    before = tab.locator(MAPS).first.get_attribute("src")
    tab.locator(".lsd-examples button.thumbnail-item").nth(2).click()
    tab.wait_for_function("([css, src]) => document.querySelector(css)?.src !== src", arg=[MAPS, before])
    wait_for_status(tab, "All say espresso")
    wait_for_maps(tab, 3)
    assert f"example={photos()[2].replace(' ', '+')}" in tab.url


def test_of_two_quick_choices_the_last_is_explained(server, tab):
    open_tab(server, tab)
    wait_for_status(tab, "Done in")
    tab.get_by_label("Method").click()
    tab.get_by_role("option", name="SmoothGrad", exact=True).click()
    tab.get_by_label("number input for samples").fill("8")  # still long enough to be interrupted
    examples = tab.locator(".lsd-examples button.thumbnail-item")
    examples.nth(1).click()
    wait_for_status(tab, "passes")
    examples.nth(2).click()
    wait_for_status(tab, "All say espresso")
    wait_for_maps(tab, 3)
    assert f"example={photos()[2].replace(' ', '+')}" in tab.url


def test_a_click_while_the_first_view_is_computed_begins_anew(server, tab, monkeypatch):
    begun, hear, explained = [], threading.Event(), saliency_run.explained

    def deaf(model, *arguments):
        begun.append(model.name)
        if len(begun) == 1:
            hear.wait(60)
            jobs.check()
            pytest.fail("the first run went on")
        return explained(model, *arguments)

    monkeypatch.setattr(saliency_run, "explained", deaf)
    monkeypatch.setattr(saliency_run.Request, "is_answered", False)
    open_tab(server, tab)
    while not begun:
        tab.wait_for_timeout(50)
    tab.locator("#explain").click()
    wait_for_status(tab, "1 job is before yours")
    hear.set()
    wait_for_status(tab, "Done in")
    wait_for_maps(tab, 3)
    assert len(begun) == 4


def test_an_address_shows_what_it_says(server, tab):
    tab.goto(f"{server}?model=demo:shortcut&method=grad_cam&example={DRAWN}", wait_until="domcontentloaded")
    wait_for_status(tab, "Done in")
    wait_for_maps(tab, 1)
    assert "demo:shortcut" in tab.locator(MAPS).get_attribute("alt")
    assert "method=grad_cam" in tab.url


def test_what_makes_it_like_another_picture(server, tab):
    tab.goto(f"{server}?model=demo:vit&method=gradient&example={DRAWN}", wait_until="domcontentloaded")
    wait_for_status(tab, "Done in")
    tab.get_by_label("What makes it like another picture").check()
    tab.locator("#explain").click()
    wait_for_status(tab, "There is no other picture yet")
    tab.get_by_label("Or an example").first.click()
    tab.get_by_role("option", name=DRAWN).click()
    tab.locator("#like img").first.wait_for()
    tab.locator("#explain").click()
    wait_for_status(tab, "similarity 1.00")  # it is the same one
    tab.wait_for_url(f"**like={DRAWN.replace(' ', '+')}*")
    tab.goto(tab.url, wait_until="domcontentloaded")
    wait_for_status(tab, "similarity 1.00")


def test_the_overlay_changes_without_another_run(server, tab):
    tab.goto(f"{server}?model=demo:resnet&method=gradient&example={DRAWN}", wait_until="domcontentloaded")
    wait_for_status(tab, "Done in")
    wait_for_maps(tab, 1)
    before = tab.locator(MAPS).get_attribute("src")
    status = tab.inner_text("#status [role=status]")  # Gradio writes its own seconds beside it
    tab.get_by_label("map alone", exact=True).first.click()
    tab.wait_for_function("([css, src]) => document.querySelector(css).src !== src", arg=[MAPS, before])
    assert tab.inner_text("#status [role=status]") == status, "it ran again"


def test_a_file_that_is_no_picture_gets_a_sentence(server, tab, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"nonsense" * 10)
    open_tab(server, tab)
    tab.get_by_label("Clear").or_(tab.get_by_label("Remove")).first.click()
    tab.locator("input[type=file]").first.set_input_files(str(path))
    tab.wait_for_timeout(1000)
    tab.locator("#explain").click()
    tab.wait_for_selector("#status [role=alert]")
    assert "Traceback" not in tab.inner_text("body")


def test_the_keyboard_reaches_the_examples_and_the_button(server, tab):
    open_tab(server, tab)
    reached = set()
    for _ in range(40):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("document.activeElement.id || document.activeElement.className || ''"))
        if "explain" in reached:
            break
    assert "explain" in reached
    tab.keyboard.press("Enter")
    wait_for_status(tab, "Done in")


def test_an_empty_map_says_so_until_the_sign_changes(server, tab):
    tab.goto(f"{server}?model=demo:vit&method=grad_cam&example=dotted square", wait_until="domcontentloaded")
    wait_for_status(tab, "Done in")
    tab.get_by_text("Choose the sign “against”").wait_for()
    status = tab.inner_text("#status [role=status]")
    tab.get_by_label("against", exact=True).first.click()
    tab.get_by_text("Choose the sign “against”").wait_for(state="detached")
    assert tab.inner_text("#status [role=status]") == status, "it ran again"
