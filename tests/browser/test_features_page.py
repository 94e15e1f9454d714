"""The tab “Feature visualization” as a visitor meets it."""

import time
import zipfile

import pytest

from lsd.features import batch

pytestmark = pytest.mark.browser

PICTURE = ".lsd-picture img[alt*='eature visualization']"  # the gallery has some too
SHIFTS = """window.shifted = 0; new PerformanceObserver(list => {
  for (const e of list.getEntries()) if (!e.hadRecentInput) window.shifted += e.value;
}).observe({type: 'layout-shift', buffered: true});"""


def wait_for_status(tab, text):
    tab.wait_for_function("text => document.querySelector('#features-status')?.innerText.includes(text)", arg=text)


def wait_for_pictures(tab, count):
    tab.wait_for_function(
        "([css, n]) => [...document.querySelectorAll(css)].filter(i => i.complete && i.naturalWidth).length === n",
        arg=[PICTURE, count],
    )


def wait_for_alt(tab, text):
    tab.wait_for_function("([css, what]) => document.querySelector(css)?.alt.includes(what)", arg=[PICTURE, text])


def open_tab(server, tab, query=""):
    tab.goto(f"{server}?tab=features{query}", wait_until="domcontentloaded")
    tab.locator("#visualize").wait_for()


def open_home(server, tab):
    open_tab(server, tab)
    wait_for_status(tab, "Made beforehand")


def unfold(tab, group):
    tab.get_by_role("button", name=group).click()
    tab.wait_for_timeout(500)  # what its controls had been told while it was folded arrives a moment later


def set_steps(tab, count):
    if not tab.get_by_label("Steps", exact=True).is_visible():
        unfold(tab, "Recipe and steps")
    tab.get_by_label("Steps", exact=True).fill(str(count))


def look_back(tab, step):
    """Go to a step of the ascent, and wait until its picture is there."""
    tab.locator("#scrub input[type=number]").fill(str(step))
    tab.locator("#scrub input[type=number]").press("Enter")
    wait_for_alt(tab, f"step {step} of")


def test_the_tab_opens_on_a_finished_picture_with_its_ascent_and_runs_no_model(server, tab, monkeypatch):
    ran = []
    monkeypatch.setattr(batch, "report", lambda done, total: ran.append(done))
    open_home(server, tab)
    wait_for_pictures(tab, 1)
    assert "finished, taken for golden retriever" in tab.locator(PICTURE).get_attribute("alt")
    assert tab.locator(".lsd-says").count() == 3
    finished = tab.locator(PICTURE).get_attribute("src")
    look_back(tab, 20)
    assert tab.locator(PICTURE).get_attribute("src") != finished
    said = tab.locator(".lsd-says").first.inner_text()
    tab.get_by_role("button", name="Seed 1").click()
    wait_for_alt(tab, "seed 1, step 20")
    tab.wait_for_function("said => document.querySelector('.lsd-says').innerText !== said", arg=said)
    assert tab.get_by_role("button", name="Seed 1").get_attribute("aria-pressed") == "true"
    assert tab.url.endswith("?tab=features&step=20&seed=1")
    tab.reload(wait_until="domcontentloaded")
    wait_for_alt(tab, "seed 1, step 20")
    tab.wait_for_url("**?tab=features&seed=1&step=20")
    assert tab.locator("#scrub input[type=number]").input_value() == "20"
    look_back(tab, 37)
    tab.get_by_role("button", name="Seed 0").click()
    tab.locator("#scrub input[type=number]").fill("38")
    tab.locator("#scrub input[type=number]").press("Enter")
    wait_for_alt(tab, "finished")
    assert tab.url.endswith("?tab=features")  # as it opened
    tab.get_by_text("How to use this page").click()
    assert tab.get_by_text("Then doubt it").is_visible()
    assert not ran, "a model was run"


def test_the_film_plays_to_its_end(server, tab):
    open_home(server, tab)
    tab.locator("#features-play").click()
    wait_for_alt(tab, "step 1 of")
    wait_for_alt(tab, "finished")
    assert tab.locator("#scrub input[type=number]").input_value() == "38"


def test_the_download_takes_one_click(server, tab, tmp_path):
    open_home(server, tab)
    with tab.expect_download() as caught:
        tab.locator("#features-download").click()
    caught.value.save_as(tmp_path / "pictures.zip")
    assert caught.value.suggested_filename == "lsd-features.zip"
    assert "manifest.json" in zipfile.ZipFile(tmp_path / "pictures.zip").namelist()


def test_a_visitor_sees_a_picture_form_with_one_click_and_goes_back(server, tab):
    open_home(server, tab)
    tab.locator("#visualize").click()
    wait_for_alt(tab, "of 38")  # on the way …
    wait_for_status(tab, "Done in")
    wait_for_alt(tab, "finished")
    assert "tab=features&model=" in tab.url and "unit=class/" in tab.url
    assert tab.locator(".lsd-says").count() == 3  # its own network and the two others
    look_back(tab, 4)  # … and back to the beginning
    tab.go_back()
    wait_for_status(tab, "Made beforehand")
    assert tab.url.endswith("?tab=features")


def test_nothing_jumps_while_a_picture_forms(server, tab):
    open_home(server, tab)
    wait_for_pictures(tab, 1)
    tab.wait_for_timeout(1000)
    tab.evaluate(SHIFTS)
    before = tab.evaluate("new Promise(done => setTimeout(() => done(window.shifted), 100))")
    set_steps(tab, 12)
    tab.locator("#visualize").click()
    wait_for_status(tab, "Done in")
    tab.wait_for_timeout(500)
    assert tab.evaluate("window.shifted") - before < 0.05


def test_an_effort_sets_the_steps(server, tab):
    open_home(server, tab)
    unfold(tab, "Recipe and steps")
    for effort, steps in (("draft", "38"), ("fine", "512"), ("normal", "128")):
        tab.locator(f"#effort-{effort}").click()
        tab.wait_for_function(
            "steps => [...document.querySelectorAll('input')].some(i => i.value === steps)", arg=steps
        )
    assert tab.get_by_label("Steps", exact=True).input_value() == "128"


def test_an_address_makes_what_it_says(server, tab):
    open_tab(server, tab, "&model=demo:resnet&model=demo:vit&unit=class/3&recipe=jitter&steps=12&seeds=2&set=sd=0.5")
    wait_for_status(tab, "Done in")
    wait_for_pictures(tab, 2)
    pictures = tab.locator(PICTURE)
    assert [pictures.nth(i).get_attribute("alt").split(" in ")[0] for i in (0, 1)] == [
        "Feature visualization of checkered circle"
    ] * 2
    tops = [pictures.nth(i).bounding_box()["y"] for i in (0, 1)]
    assert tops[0] == tops[1], "the columns do not stand at one height"
    unfold(tab, "Make it again from the command line")
    tab.wait_for_function(
        "document.querySelector('#features-command')?.innerText.includes('--recipe jitter --steps 12 --set sd=0.5 --seeds 2')"
    )
    assert not tab.locator("img[alt^='Saliency map of']").count(), "the other tab ran too"


def test_stop_ends_the_work_within_a_second(server, tab, monkeypatch):
    steps = []
    monkeypatch.setattr(batch, "report", lambda done, total: steps.append(time.monotonic()))
    open_home(server, tab)
    set_steps(tab, 1000)
    tab.locator("#visualize").click()
    wait_for_alt(tab, "of 1000")
    tab.locator("#stop-features").click()
    pressed = time.monotonic()
    wait_for_status(tab, "Stopped at step")
    tab.wait_for_timeout(3000)
    assert 0 < len(steps) < 1000
    assert steps[-1] - pressed < 1, f"still at work {steps[-1] - pressed:.1f} s later"
    look_back(tab, 1)  # what there is can be looked back through
    count = len(steps)
    set_steps(tab, 5)  # and the queue is free for the next
    tab.locator("#visualize").click()
    wait_for_status(tab, "Done in")
    assert len(steps) == count + 5


def test_with_and_without_regularization(server, tab):
    open_home(server, tab)
    set_steps(tab, 10)
    tab.locator("#against-none").click()
    wait_for_status(tab, "Done in")
    wait_for_pictures(tab, 3)
    assert "Without regularization" in tab.inner_text("#features-reading")
    assert "compare=none" in tab.url
    tab.reload(wait_until="domcontentloaded")  # the address says it, too
    wait_for_status(tab, "Done in")
    wait_for_pictures(tab, 3)


def test_a_channel_of_a_layer(server, tab):
    open_home(server, tab)
    set_steps(tab, 10)
    tab.get_by_label("Inside the network", exact=True).click()
    tab.wait_for_function("document.querySelector('#features-layers')?.innerText.includes('layers to choose from')")
    tab.get_by_label("Channel", exact=True).fill("100000")
    tab.locator("#visualize").click()
    wait_for_status(tab, "out of range")
    assert tab.locator("#features-status [role=alert]").count() == 1
    tab.get_by_label("Channel", exact=True).fill("3")
    tab.locator("#visualize").click()
    wait_for_status(tab, "Done in")
    assert "/channel/3 in tf_efficientnet_lite0.in1k" in tab.locator(PICTURE).get_attribute("alt")


def test_an_example_to_start_from_is_in_the_address(server, tab):
    open_tab(server, tab, "&model=demo:resnet&unit=layer3/layer&steps=4&seeds=1&start=photo&example=Chelsea+the+cat")
    wait_for_status(tab, "Done in")
    assert tab.locator("#features-picture img").is_visible()
    tab.locator("#visualize").click()
    tab.wait_for_function("location.search.includes('start=photo&example=Chelsea+the+cat')")
    wait_for_status(tab, "Done in")


def test_a_unit_that_does_not_respond_is_never_a_grey_picture_without_words(server, tab):
    open_tab(server, tab, "&model=demo:resnet&unit=0+*+class/3&steps=70&seeds=1")
    wait_for_status(tab, "did not respond to anything that was tried")
    assert tab.get_by_role("note").get_by_text("no gradient reaches the picture").is_visible()


def test_a_phone_shows_the_picture_first_and_everything_in_its_width(server, tab):
    tab.set_viewport_size({"width": 390, "height": 844})
    open_home(server, tab)
    wait_for_pictures(tab, 1)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.locator(PICTURE).bounding_box()["y"] < tab.locator("#visualize").bounding_box()["y"]


def test_the_keyboard_reaches_the_button(server, tab):
    open_home(server, tab)
    tab.get_by_label("Class", exact=True).last.focus()
    for _ in range(20):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.id") == "visualize":
            break
    assert tab.evaluate("document.activeElement.id") == "visualize"
    tab.keyboard.press("Enter")
    wait_for_alt(tab, "step")
    tab.locator("#stop-features").press("Enter")
    tab.wait_for_function("/Stopped|Done/.test(document.querySelector('#features-status').innerText)")
