"""What holds for the whole page: its history, its help, how it looks, and that everybody can use it.

The pictures of every tab, at three widths, light and dark, go into the folder that LSD_SCREENSHOTS names.
"""

import os
import re
import time
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from lsd.evaluation.labelled import open_set
from lsd.ui.features import address as feature_address
from lsd.ui.page import TABS

pytestmark = pytest.mark.browser

WIDTHS = (1440, 1024, 390)
FIRST = {  # what a tab shows when it is there
    "gallery": "#lsd-g-main .lsd-g-card img",
    "saliency": "#lsd-saliency-tab img[alt^='Saliency map of']",
    "reasons": "#lsd-reasons-tab .lsd-r-row[data-name]",
    "mistakes": "#lsd-mistakes-tab #why img",
    "choices": "#lsd-choices-tab .lsd-c-plot >> visible=true",
    "features": "#lsd-features-tab img[alt*='eature visualization']",
}
_SHIFTS = """
window.shifts = 0;
new PerformanceObserver(list => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
}).observe({type: "layout-shift", buffered: true});
"""


_CUT_OFF = """() => {  // texts beside the window that nobody can scroll to
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const range = document.createRange();
    range.selectNodeContents(texts.currentNode);
    const box = range.getBoundingClientRect();
    let parent = texts.currentNode.parentElement;
    const seen = box.height > 4 && box.width > 4 && parent.checkVisibility({visibilityProperty: true});
    const meant = parent.closest(".visually-hidden") || box.right < 0;  // Gradio's twin of the tabs; links for keyboards
    if (!texts.currentNode.data.trim() || !seen || meant || (box.right <= innerWidth + 1 && box.left >= -1)) continue;
    const reached = e => ["auto", "scroll"].includes(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth;
    while (parent && !reached(parent) && getComputedStyle(parent).textOverflow !== "ellipsis") parent = parent.parentElement;
    if (!parent) found.push(`${innerWidth}: ${texts.currentNode.data.trim().slice(0, 80)}`);
  }
  return found;
}"""


def open_page(server, tab, query=""):
    tab.goto(f"{server}{query}", wait_until="domcontentloaded")


def wait_for_first(tab, name):
    tab.locator(FIRST[name]).first.wait_for()


@pytest.fixture(scope="module")
def warm(server, browser):
    """Every tab has been opened once: what it shows first is kept for the next visitor."""
    page = browser.new_page()
    for name in TABS:
        open_page(server, page, f"?tab={name}")
        page.locator(FIRST[name]).first.wait_for(timeout=240_000)
    page.close()


def test_back_and_forward_go_through_the_tabs(server, tab, warm):
    open_page(server, tab)
    wait_for_first(tab, "gallery")
    tab.get_by_role("link", name="Where does it look?").click()
    wait_for_first(tab, "saliency")
    tab.get_by_role("tab", name=TABS["choices"][0]).click()
    wait_for_first(tab, "choices")
    assert "tab=choices" in tab.url
    tab.evaluate("window.same = true")
    tab.go_back()
    expect(tab.locator("#lsd-saliency-tab")).to_be_visible()
    tab.go_back()
    expect(tab.locator("#lsd-gallery-tab")).to_be_visible()
    tab.go_forward()
    expect(tab.locator("#lsd-saliency-tab")).to_be_visible()
    assert tab.evaluate("window.same"), "the page was loaded again"


@pytest.mark.parametrize("name", TABS)
def test_a_tab_stands_still_fits_and_is_for_everybody(server, first_tab, warm, name):
    """Nothing jumps while it opens; in light and in dark axe finds nothing serious; no width makes it scroll sideways."""
    tab = first_tab
    tab.add_init_script(_SHIFTS)
    tab.set_viewport_size({"width": WIDTHS[0], "height": 1000})
    open_page(server, tab, f"?tab={name}")
    wait_for_first(tab, name)
    tab.wait_for_timeout(1000)
    shifts, troubles, wide, cut = tab.evaluate("window.shifts"), {}, [], []
    for theme in ("light", "dark"):
        if theme == "dark":
            open_page(server, tab, f"?tab={name}&__theme=dark")
            wait_for_first(tab, name)
            tab.wait_for_timeout(1000)
        troubles[theme] = serious(tab)
        for width in WIDTHS:
            tab.set_viewport_size({"width": width, "height": 1000 if width > 500 else 844})
            tab.wait_for_timeout(300)
            if tab.evaluate("document.documentElement.scrollWidth") > width:
                wide.append(width)
            cut += tab.evaluate(_CUT_OFF)
            if folder := os.environ.get("LSD_SCREENSHOTS"):
                Path(folder).mkdir(parents=True, exist_ok=True)
                tab.screenshot(path=Path(folder) / f"{name}-{width}-{theme}.png")
        tab.set_viewport_size({"width": WIDTHS[0], "height": 1000})
    assert troubles == {"light": [], "dark": []}
    assert not wide
    assert not cut
    assert shifts < 0.05


def serious(tab):
    """What axe calls serious or critical; Gradio's own footer and its hidden twin of the tabs are not ours."""
    found = Axe().run(tab, {"exclude": [["footer"], [".visually-hidden"]]}).response["violations"]
    return [
        f"{v['impact']}: {v['help']}: {v['nodes'][0]['html'][:200]} ({len(v['nodes'])})"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_empty_box_is_seen(server, tab, warm, theme):
    """Its border has three times the contrast to the ground, as WCAG's 1.4.11 asks; axe does not look at borders."""
    open_page(server, tab, f"?tab=mistakes&__theme={theme}")
    wait_for_first(tab, "mistakes")
    box = tab.get_by_label("Quiz: guess which pixels did it before the maps are shown")
    border, ground = box.evaluate("""async box => {
        await Promise.all(document.getAnimations().map(change => change.finished));  // from light to dark
        const clear = e => getComputedStyle(e).backgroundColor === "rgba(0, 0, 0, 0)";
        let around = box.parentElement;
        while (clear(around)) around = around.parentElement;
        return [getComputedStyle(box).borderTopColor, getComputedStyle(around).backgroundColor];
    }""")
    light, dark = sorted((luminance(border), luminance(ground)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3


def luminance(colour: str) -> float:
    """Relative luminance of rgb(r, g, b), by WCAG 2."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_a_tab_is_shown_though_the_page_was_slow_to_see_the_click(server, tab, warm):
    open_page(server, tab)
    wait_for_first(tab, "gallery")
    tab.evaluate("""document.addEventListener("pointerup", () => {
        for (const since = performance.now(); performance.now() - since < 2500;);
    }, {once: true})""")
    tab.get_by_role("tab", name=TABS["choices"][0]).click()
    wait_for_first(tab, "choices")
    assert "tab=choices" in tab.url


def test_help_is_behind_a_button_that_the_keyboard_reaches(server, tab, warm):
    open_page(server, tab, "?tab=saliency")
    wait_for_first(tab, "saliency")
    help_ = tab.get_by_role("button", name="About Method").first
    text = help_.locator("xpath=following-sibling::*[contains(@class, 'info-text')]")
    expect(text).to_be_hidden()
    help_.focus()
    tab.keyboard.press("Enter")
    expect(text).to_be_visible()
    tab.keyboard.press("Enter")
    expect(text).to_be_hidden()


def test_of_two_quick_addresses_the_last_is_shown_though_the_first_is_read_slowly(server, tab, warm, monkeypatch):
    read, asked = feature_address.read, []

    def slow_at_first(query):
        asked.append(query["unit"])
        time.sleep(1.5 * (len(asked) == 1))
        return read(query)

    monkeypatch.setattr(feature_address, "read", slow_at_first)
    open_page(server, tab, "?tab=features&model=demo:resnet&unit=class/3&steps=2")
    while not asked:
        tab.wait_for_timeout(20)
    for unit in ("class/4", "class/5"):
        tab.evaluate("unit => { lsd.go(`tab=features&model=demo:resnet&unit=${unit}&steps=2`); }", unit)
    tab.wait_for_function("document.querySelector('#features-status').innerText.includes('Done in')")
    tab.wait_for_timeout(2500)  # the first one's answer has come
    assert asked == ["class/3", "class/5"]  # what nobody wants any more is not asked for
    assert tab.url.endswith("unit=class/5&steps=2")
    picture = tab.locator("#lsd-features-tab .lsd-picture img").first
    assert "striped square" in picture.get_attribute("alt")


def test_an_address_of_no_tab_says_so(server, tab):
    open_page(server, tab, "?tab=nothing")
    wait_for_first(tab, "gallery")
    expect(tab.get_by_text("This page has no tab “nothing”")).to_be_visible()


def test_a_picture_that_is_uploaded_is_there_in_every_tab(server, tab, tmp_path):
    file = tmp_path / "mine.png"
    open_set("demo", limit=16)[0].picture().save(file)
    open_page(server, tab, "?tab=saliency&model=demo:resnet&method=gradient")
    wait_for_first(tab, "saliency")
    tab.locator("#lsd-saliency-tab input[type=file]").first.set_input_files(file)
    mine = "img[src*='mine.png']"
    tab.locator(f"#lsd-saliency-tab {mine}").first.wait_for()
    follow(tab, "?tab=mistakes&set=yours&class=plain+star&model=demo:resnet")
    tab.locator("#lsd-mistakes-picture img").wait_for()
    tab.locator("#find").click()
    expect(tab.get_by_text("Demo ResNet is wrong about your picture.").first).to_be_visible()
    follow(tab, "?tab=choices&factor=sign")
    tab.locator(f"#lsd-choices-tab {mine}").first.wait_for()
    tab.go_back()
    tab.locator("#lsd-mistakes-picture img").wait_for()


def follow(tab, address):
    """As a link of the page does."""
    tab.evaluate(
        "href => { const a = document.createElement('a'); a.href = href; document.querySelector('.lsd-header').append(a);"
        " a.click(); a.remove(); }",
        address,
    )
