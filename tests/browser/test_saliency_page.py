"""The Saliency tab as a visitor meets it."""

import re
import threading
import zipfile

import pytest
from PIL import Image
from playwright.sync_api import expect

from lsd.ui.saliency import run as saliency_run
from lsd.ui.saliency.request import Request
from lsd.ui.shared import jobs
from lsd.ui.shared.examples import drawn, photos

pytestmark = pytest.mark.browser

DRAWN = drawn()[0]
LITE = "tf_efficientnet_lite0.in1k"
MAPS = "img[alt^='Saliency map of']"


def wait_for_status(tab, text):
    """A last word: not while Captum is still asked about maps that are there."""
    tab.wait_for_function(
        """text => {
            const said = document.querySelector('#status')?.innerText || "";
            return said.includes(text) && !/Captum( is asked|$| …)/.test(said.trim());
        }""",
        arg=text,
    )


def wait_for_maps(tab, count):
    tab.wait_for_function(
        "([css, n]) => [...document.querySelectorAll(css)].filter(i => i.complete && i.naturalWidth).length === n",
        arg=[MAPS, count],
    )


def wait_for_width(tab, pixels):
    """Of the map's picture, which tells whose it is."""
    tab.wait_for_function("([css, n]) => document.querySelector(css)?.naturalWidth === n", arg=[MAPS, pixels])


def open_tab(server, tab):
    tab.goto(f"{server}?tab=saliency", wait_until="domcontentloaded")
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
    tab.get_by_role("combobox", name="Method").click()
    tab.get_by_role("option", name="SmoothGrad", exact=True).click()
    tab.get_by_role("button", name="Settings of the method").click()
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
    monkeypatch.setattr(Request, "is_answered", False)
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
    tab.get_by_role("combobox", name="Class", exact=True).click()
    tab.get_by_role("option", name="What makes it like another picture").click()
    tab.locator("#explain").click()
    wait_for_status(tab, "There is no other picture yet")
    tab.get_by_role("combobox", name="Or an example").click()
    tab.get_by_role("option", name=DRAWN).click()
    tab.locator("#like img").first.wait_for()
    tab.locator("#explain").click()
    wait_for_status(tab, "similarity 1.00")  # it is the same one
    tab.wait_for_url(f"**like={DRAWN.replace(' ', '+')}*", wait_until="commit")
    tab.goto(tab.url, wait_until="domcontentloaded")
    wait_for_status(tab, "similarity 1.00")


def choose_question(tab, name):
    tab.get_by_role("combobox", name="Class", exact=True).click()
    tab.get_by_role("option", name=name).click()


def test_what_two_pictures_have_in_common_is_shown_on_both(server, tab):
    tab.goto(
        f"{server}?model=demo:vit&method=gradient&example={DRAWN}&like={drawn()[1]}", wait_until="domcontentloaded"
    )
    wait_for_status(tab, "similarity -0.")
    wait_for_maps(tab, 1)  # the other one costs as much again, so it is there when it is asked for
    tab.get_by_role("checkbox", name="Explain the other picture, too").check()
    tab.locator("#explain").click()
    wait_for_maps(tab, 2)
    expect(tab.locator(".lsd-turned figcaption")).to_contain_text("what in it makes it like this one")
    tab.wait_for_url("**both=on*", wait_until="commit")


def test_groups_and_several_classes_are_asked_for_and_sent_to_somebody(server, tab):
    """A visitor asks why a dog at all, is told what a cat may mean, and looks at the first three classes together."""
    tab.goto(f"{server}?model={LITE}&method=gradient&example=Chelsea the cat", wait_until="domcontentloaded")
    wait_for_status(tab, "Done in")
    choose_question(tab, "A group of classes: why a dog at all?")
    group = tab.get_by_role("combobox", name="Group", exact=True)
    group.fill("cat")
    group.press("Enter")
    tab.locator("#explain").click()
    wait_for_status(tab, "say “true cat” (7 classes, such as tabby) or “big cat”")
    group.fill("true c")
    tab.get_by_role("option", name="cat · 7 classes").click()
    tab.locator("#explain").click()
    wait_for_status(tab, "Done in")
    expect(tab.get_by_text("log-odds of cat (7 classes)")).to_be_visible()
    tab.wait_for_url("**group=true+cat*", wait_until="commit")

    choose_question(tab, "Its first choices, each in its own colour")
    tab.locator("#explain").click()
    wait_for_maps(tab, 4)  # the figure, and a map each
    captions = tab.locator(".lsd-others figcaption")
    assert [text.split(" (")[0].strip() for text in captions.all_inner_texts()] == [
        "tiger cat",
        "Egyptian cat",
        "tabby",
    ]
    tab.wait_for_url("**classes=3*", wait_until="commit")
    tab.goto(tab.url, wait_until="domcontentloaded")
    wait_for_maps(tab, 4)
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Download pictures").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert [name for name in archive.namelist() if name.endswith("-classes.png")]


def test_heads_of_a_transformer_are_shown_layer_by_layer_and_go_with_the_picture(server, tab, small_vit):
    tab.goto(
        f"{server}?model=demo:resnet&model={small_vit}&method=gradient&example={DRAWN}", wait_until="domcontentloaded"
    )
    wait_for_status(tab, "Done in")
    wait_for_maps(tab, 2)
    tab.get_by_role("button", name="Attention, head by head").click()
    tab.locator("#show-heads").click()
    heads = tab.locator(".lsd-heads figure")
    title = tab.locator(".lsd-heads h3")
    expect(title).to_contain_text("blocks.5.attn: where each head looks for the output")
    count = heads.count()
    assert count > 1 and "places" in heads.first.inner_text()
    tab.get_by_role("combobox", name="Layer").last.click()
    tab.get_by_role("option", name="blocks.1.attn").click()
    expect(title).to_contain_text("blocks.1.attn")
    place = tab.get_by_placeholder("row,column")
    place.fill("2,3")
    place.press("Enter")
    expect(title).to_contain_text("from place 2, 3")
    tab.wait_for_function(
        "() => [...document.querySelectorAll('.lsd-heads img')].every(i => i.complete && i.naturalWidth)"
    )
    tab.locator("#explain").click()  # perhaps another picture
    expect(heads).to_have_count(0)


def test_of_quick_changes_of_a_control_the_last_one_counts(server, tab):
    """A visitor who changes his mind within a moment sees what belongs to what he has chosen last."""
    tab.goto(f"{server}?model=demo:resnet&method=gradient&check=off&example={DRAWN}", wait_until="domcontentloaded")
    wait_for_status(tab, "Done in")
    tab.get_by_role("button", name="What the model sees").click()
    square, radios = "A square that I choose", "#lsd-saliency-tab label:has-text('{}') input"
    others = ["The whole picture, squashed", "The whole picture, padded"]
    for number in range(12):
        last = [square, *others][number % 3]
        for name in (others[number % 2], square, last):
            tab.locator(radios.format(name)).click(force=True)
            tab.wait_for_timeout((10, 40, 120)[number // 4])
        shown = tab.locator(".lsd-square-picture")
        expect(shown).to_be_visible() if last == square else expect(shown).not_to_be_visible()
        tab.wait_for_timeout(300)  # and it stays so
        assert shown.is_visible() == (last == square)


def test_the_overlay_changes_without_another_run(server, tab):
    tab.goto(f"{server}?model=demo:resnet&method=gradient&example={DRAWN}", wait_until="domcontentloaded")
    wait_for_status(tab, "Done in")
    wait_for_maps(tab, 1)
    before = tab.locator(MAPS).get_attribute("src")
    status = tab.inner_text("#status [role=status]")  # Gradio writes its own seconds beside it
    tab.get_by_label("map alone", exact=True).first.click()
    tab.wait_for_function(
        "([css, src]) => document.querySelector(css)?.getAttribute('src') !== src", arg=[MAPS, before]
    )
    assert tab.inner_text("#status [role=status]") == status, "it ran again"
    tab.wait_for_url("**style=map*", wait_until="commit")
    tab.go_back()
    tab.wait_for_function(
        "([css, src]) => document.querySelector(css)?.getAttribute('src') === src", arg=[MAPS, before]
    )
    expect(tab.get_by_label("heat map", exact=True).first).to_be_checked()


def test_a_file_that_is_no_picture_gets_a_sentence(server, tab, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"nonsense" * 10)
    tab.goto(f"{server}?tab=saliency&model=demo:resnet&example={DRAWN}", wait_until="domcontentloaded")
    wait_for_status(tab, "Done in")
    tab.get_by_label("Clear").or_(tab.get_by_label("Remove")).first.click()
    tab.locator("#lsd-saliency-tab input[type=file]").first.set_input_files(str(path))
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


def test_a_place_is_marked_on_all_maps_and_a_slider_uncovers_one(server, tab):
    address = f"{server}?tab=saliency&model=demo:resnet&model=demo:vit&example={DRAWN}"
    tab.goto(address, wait_until="domcontentloaded")
    wait_for_maps(tab, 2)
    wait_for_status(tab, "Done in")
    stage = tab.locator(".lsd-stage").first
    box = stage.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)
    values = tab.locator(".lsd-value")
    expect(values.nth(0)).to_have_text(re.compile(r"^[01]\.\d\d$"))
    expect(values.nth(1)).to_have_text(re.compile(r"^[01]\.\d\d$"))
    boxes = [mark.bounding_box() for mark in tab.locator(".lsd-mark").all()]
    assert abs(boxes[0]["y"] - boxes[1]["y"]) < 1 and boxes[1]["x"] > boxes[0]["x"] + box["width"]
    tab.mouse.move(5, 5)
    expect(tab.locator(".lsd-mark").first).to_be_hidden()
    stage.focus()
    tab.keyboard.press("ArrowRight")
    expect(tab.locator(".lsd-mark").nth(1)).to_be_visible()

    clips = "() => [...document.querySelectorAll('.lsd-map')].map(i => getComputedStyle(i).clipPath)"
    plain = tab.evaluate(clips)
    slider = tab.get_by_label("Uncover the picture under the map of Demo ResNet")
    slider.focus()
    for _ in range(10):
        tab.keyboard.press("ArrowRight")
    assert tab.evaluate(clips) == ["inset(0px 0px 0px 10%)", plain[1]]
    tab.get_by_label("mask", exact=True).first.click()  # drawn anew, it stays uncovered
    tab.wait_for_url("**style=mask*", wait_until="commit")
    assert tab.evaluate(clips)[0] == "inset(0px 0px 0px 10%)"


def test_the_download_is_one_click(server, tab):
    tab.goto(f"{server}?tab=saliency&model=demo:resnet&example={DRAWN}", wait_until="domcontentloaded")
    wait_for_status(tab, "Done in")
    for _ in range(2):
        with tab.expect_download() as download:
            tab.get_by_role("button", name="Download pictures, values and manifest").click()
        with zipfile.ZipFile(download.value.path()) as archive:
            assert "manifest.json" in archive.namelist()
        assert download.value.suggested_filename == "lsd-saliency.zip"


def test_a_square_is_moved_and_is_what_the_model_sees(server, tab):
    tab.goto(
        f"{server}?tab=saliency&model=demo:resnet&example=Summer+Palace&view=100,50,200", wait_until="domcontentloaded"
    )
    wait_for_status(tab, "Done in")
    square = tab.locator(".lsd-square-box")
    expect(square).to_have_attribute("aria-label", re.compile("200 × 200 pixels, 100 from the left, 50 from the top"))
    square.focus()
    for key in ("ArrowRight", "ArrowDown", "+"):
        tab.keyboard.press(key)
    label = square.get_attribute("aria-label")
    side, left, top = re.search(r"(\d+) × \d+ pixels, (\d+) from the left, (\d+)", label).groups()
    assert int(left) > 100 and int(top) > 50 and int(side) > 200
    box = square.bounding_box()
    tab.mouse.move(box["x"] + 20, box["y"] + 20)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 10, box["y"] + 20)
    tab.mouse.up()
    expect(square).not_to_have_attribute("aria-label", label)
    tab.locator("#explain").click()
    tab.wait_for_url(re.compile(rf"view=\d+,{top},{side}"), wait_until="commit")
    wait_for_status(tab, "Done in")
    tab.get_by_label("The whole picture, padded").check()
    expect(square).to_be_hidden()


def test_is_it_sure_is_asked_by_a_click_and_said_by_the_address(server, tab):
    tab.goto(f"{server}?tab=saliency&model=demo:resnet&example={DRAWN}", wait_until="domcontentloaded")
    wait_for_status(tab, "Done in")
    expect(tab.get_by_text(re.compile("^Steadiness "))).to_have_count(0)
    tab.locator("#sure").click()
    expect(tab.get_by_text(re.compile(r"^Steadiness 0\.\d\d \(moved "))).to_have_count(1, timeout=60_000)
    tab.wait_for_url("**steady=on*", wait_until="commit")
    tab.reload(wait_until="domcontentloaded")
    expect(tab.get_by_text(re.compile("^Steadiness "))).to_have_count(1, timeout=60_000)
    tab.get_by_role("link", name="The evidence").click()
    tab.wait_for_url("**tab=choices&factor=method", wait_until="commit")


def test_a_link_from_a_result_and_the_way_back_keep_the_visitors_picture(server, tab, tmp_path):
    path = tmp_path / "mine.png"
    Image.new("RGB", (300, 200), "olive").save(path)
    tab.goto(f"{server}?tab=saliency&model=demo:resnet&example={DRAWN}", wait_until="domcontentloaded")
    wait_for_status(tab, "Done in")
    tab.get_by_label("Clear").or_(tab.get_by_label("Remove")).first.click()
    tab.locator("#lsd-saliency-tab input[type=file]").first.set_input_files(str(path))
    tab.wait_for_function("() => !location.search.includes('example')")
    wait_for_width(tab, 300)
    tab.get_by_role("link", name=re.compile("^Visualize ")).first.click()
    tab.wait_for_url(re.compile("tab=features"), wait_until="commit")
    tab.go_back()
    tab.wait_for_url(re.compile("tab=saliency"), wait_until="commit")
    tab.go_back()
    tab.wait_for_url("**example=*", wait_until="commit")
    wait_for_width(tab, 480)
    tab.go_forward()
    wait_for_width(tab, 300)


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_jumps_when_the_maps_come(server, tab, width):
    tab.set_viewport_size({"width": width, "height": 844})
    tab.goto(f"{server}?tab=saliency&model=demo:resnet&model=demo:vit&example={DRAWN}", wait_until="domcontentloaded")
    tab.locator(".lsd-stage").first.wait_for()
    place = (
        "() => [...document.querySelectorAll('.lsd-stage')].slice(0, 2).map(s => s.getBoundingClientRect().y + scrollY)"
    )
    wait_for_maps(tab, 2)
    before = tab.evaluate(place)
    wait_for_status(tab, "Done in")
    assert tab.evaluate(place) == before
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
