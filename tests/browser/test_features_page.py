"""The Features tab as a visitor meets it."""

import time

import pytest

from lsd.features import batch

pytestmark = pytest.mark.browser

PICTURE = ".lsd-picture img[alt*='eature visualization']"  # the gallery has some too


def wait_for_status(tab, text):
    tab.wait_for_function("text => document.querySelector('#features-status')?.innerText.includes(text)", arg=text)


def wait_for_pictures(tab, count):
    tab.wait_for_function(
        "([css, n]) => [...document.querySelectorAll(css)].filter(i => i.complete && i.naturalWidth).length === n",
        arg=[PICTURE, count],
    )


def open_tab(server, tab):
    tab.goto(server, wait_until="domcontentloaded")
    tab.get_by_role("tab", name="Features").click()
    tab.locator("#visualize").wait_for()


def set_steps(tab, count):
    tab.get_by_label("Steps", exact=True).fill(str(count))


def look_back(tab, step):
    """Go to a step of the ascent, and wait until its picture is there."""
    tab.locator("#scrub input[type=number]").fill(str(step))
    tab.locator("#scrub input[type=number]").press("Enter")
    tab.wait_for_function(
        "([css, what]) => document.querySelector(css).alt.includes(what)", arg=[PICTURE, f"step {step} of"]
    )


def test_the_tab_opens_on_a_finished_picture_with_its_ascent_and_runs_no_model(server, tab, monkeypatch):
    ran = []
    monkeypatch.setattr(batch, "report", lambda done, total: ran.append(done))
    open_tab(server, tab)
    wait_for_status(tab, "Made beforehand")
    wait_for_pictures(tab, 1)
    assert "finished, taken for golden retriever" in tab.locator(PICTURE).get_attribute("alt")
    assert tab.locator(".lsd-says").count() == 3
    finished = tab.locator(PICTURE).get_attribute("src")
    look_back(tab, 20)
    assert tab.locator(PICTURE).get_attribute("src") != finished
    said = tab.locator(".lsd-says").first.inner_text()
    tab.get_by_label("1", exact=True).check()
    tab.wait_for_function("said => document.querySelector('.lsd-says').innerText !== said", arg=said)
    tab.get_by_text("How this tab is used").click()
    assert tab.get_by_text("Then doubt it").is_visible()
    assert not ran, "a model was run"


def test_a_visitor_sees_a_picture_form_with_one_click(server, tab):
    open_tab(server, tab)
    tab.locator("#visualize").click()
    tab.wait_for_function(
        "css => /step \\d+ of 38/.test(document.querySelector(css)?.alt || '')", arg=PICTURE
    )  # on the way …
    wait_for_status(tab, "Done in")
    wait_for_pictures(tab, 1)
    assert "finished" in tab.locator(PICTURE).get_attribute("alt")
    assert "tab=features" in tab.url and "unit=class/" in tab.url
    assert tab.locator(".lsd-says").count() == 3  # its own network and the two others
    look_back(tab, 4)  # … and back to the beginning


def test_an_effort_sets_the_steps(server, tab):
    open_tab(server, tab)
    for effort, steps in (("draft", "38"), ("fine", "512"), ("normal", "128")):
        tab.locator(f"#effort-{effort}").click()
        tab.wait_for_function(
            "steps => [...document.querySelectorAll('input')].some(i => i.value === steps)", arg=steps
        )
    assert tab.get_by_label("Steps", exact=True).input_value() == "128"


def test_an_address_makes_what_it_says(server, tab):
    tab.goto(
        f"{server}?tab=features&model=demo:resnet&model=demo:vit&unit=class/3&recipe=jitter&steps=12&seeds=2&set=sd=0.5",
        wait_until="domcontentloaded",
    )
    wait_for_status(tab, "Done in")
    wait_for_pictures(tab, 2)
    assert [tab.locator(PICTURE).nth(i).get_attribute("alt").split(" in ")[0] for i in (0, 1)] == [
        "2 feature visualizations of checkered circle"
    ] * 2
    command = tab.locator("pre.lsd-code").inner_text()
    assert "--recipe jitter --steps 12 --set sd=0.5 --seeds 2" in command
    assert not tab.locator("img[alt^='Saliency map of']").count(), "the other tab ran too"
    assert "beforehand" not in tab.inner_text("body")


def test_stop_ends_the_work_within_a_second(server, tab, monkeypatch):
    steps = []
    monkeypatch.setattr(batch, "report", lambda done, total: steps.append(time.monotonic()))
    open_tab(server, tab)
    set_steps(tab, 1000)
    tab.locator("#visualize").click()
    tab.wait_for_function("css => /step/.test(document.querySelector(css)?.alt || '')", arg=PICTURE)
    tab.locator("#stop-features").click()
    pressed = time.monotonic()
    wait_for_status(tab, "Stopped at step")
    tab.wait_for_timeout(3000)
    assert 0 < len(steps) < 1000
    assert steps[-1] - pressed < 1, f"still at work {steps[-1] - pressed:.1f} s later"
    tab.locator("#scrub input[type=number]").wait_for()  # what there is can be looked back through
    count = len(steps)
    set_steps(tab, 5)  # and the queue is free for the next
    tab.locator("#visualize").click()
    wait_for_status(tab, "Done in")
    assert len(steps) == count + 5


def test_with_and_without_regularization(server, tab):
    open_tab(server, tab)
    set_steps(tab, 10)
    tab.locator("#against-none").click()
    wait_for_status(tab, "Done in")
    wait_for_pictures(tab, 3)
    assert "Without regularization" in tab.inner_text("#features-reading")


def test_a_channel_of_a_layer(server, tab):
    open_tab(server, tab)
    set_steps(tab, 10)
    tab.get_by_label("A unit of a layer", exact=True).click()
    wait_for_status(tab, "layers to choose from")
    tab.get_by_label("channel", exact=True).fill("100000")
    tab.locator("#visualize").click()
    wait_for_status(tab, "out of range")
    assert tab.locator("#features-status [role=alert]").count() == 1
    tab.get_by_label("channel", exact=True).fill("3")
    tab.locator("#visualize").click()
    wait_for_status(tab, "Done in")
    assert "/channel/3 in tf_efficientnet_lite0.in1k" in tab.locator(PICTURE).get_attribute("alt")


def test_a_unit_that_does_not_respond_is_never_a_grey_picture_without_words(server, tab):
    tab.goto(
        f"{server}?tab=features&model=demo:resnet&unit=0+*+class/3&steps=70&seeds=1", wait_until="domcontentloaded"
    )
    wait_for_status(tab, "did not respond to anything that was tried")
    assert tab.get_by_role("note").get_by_text("no gradient reaches the picture").is_visible()


def test_the_keyboard_reaches_the_button(server, tab):
    open_tab(server, tab)
    tab.get_by_label("Steps", exact=True).focus()
    for _ in range(20):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.id") == "visualize":
            break
    assert tab.evaluate("document.activeElement.id") == "visualize"
    tab.keyboard.press("Enter")
    tab.wait_for_function("css => /step/.test(document.querySelector(css)?.alt || '')", arg=PICTURE)
    tab.locator("#stop-features").press("Enter")
    tab.wait_for_function("/Stopped|Done/.test(document.querySelector('#features-status').innerText)")
