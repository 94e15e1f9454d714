"""The Reasons tab as a visitor meets it."""

import re

import pytest
from playwright.sync_api import expect

from lsd.ui.shared.examples import drawn, photos

pytestmark = pytest.mark.browser

DRAWN = drawn()[0]
ROWS = "#lsd-reasons-tab .lsd-r-row[data-name]"


@pytest.fixture(autouse=True)
def patient():
    """A loaded machine is no failure."""
    expect.set_options(timeout=60_000)
    yield
    expect.set_options(timeout=5_000)


def open_tab(server, tab, query=f"model=demo:resnet&example={DRAWN}"):
    tab.goto(f"{server}?tab=reasons&{query}", wait_until="domcontentloaded")
    tab.locator(ROWS).first.wait_for()


def still(page, place) -> dict:
    """The box of a place that no longer moves."""
    box = None
    while box != (box := place.bounding_box()):
        page.wait_for_timeout(300)
    return box


def now(tab):
    return tab.locator("#lsd-reasons-tab p.lsd-r-now").first


def test_it_opens_on_a_decision_in_a_sentence(server, tab, console):
    tab.goto(f"{server}?tab=reasons", wait_until="domcontentloaded")
    tab.locator(ROWS).first.wait_for()
    expect(tab.locator(".lsd-r-sentence").first).to_contain_text("rather than")
    assert f"example={photos()[0].replace(' ', '+')}" in tab.url
    expect(tab.locator(f"{ROWS} .lsd-r-unit img").first).to_be_visible()


def test_a_reason_is_switched_off_and_the_address_gives_it_back(server, tab):
    open_tab(server, tab)
    bars = tab.locator("td.lsd-r-now").first
    expect(bars).to_have_text("·")
    first = tab.locator(ROWS).first
    first.get_by_role("switch").click()
    expect(first.get_by_role("switch")).to_have_attribute("aria-checked", "false")
    expect(now(tab)).to_contain_text(re.compile("The answer (stays|becomes)"))
    expect(bars).to_have_text(re.compile(r"\d+\.\d%"))
    without = bars.inner_text()
    assert without != tab.locator("td.lsd-r-was").first.inner_text()
    tab.wait_for_url("**off=g1*", wait_until="commit")
    tab.goto(tab.url, wait_until="domcontentloaded")
    expect(tab.locator("td.lsd-r-now").first).to_have_text(without)
    expect(tab.locator(ROWS).first.get_by_role("switch")).to_have_attribute("aria-checked", "false")
    tab.get_by_role("button", name="Switch all on").click()
    expect(now(tab)).to_contain_text("Switch a reason off")
    tab.wait_for_function("() => !location.search.includes('off=')")
    tab.go_back()
    expect(tab.locator("td.lsd-r-now").first).to_have_text(without)


def test_the_first_that_flip_it_are_one_click(server, tab):
    open_tab(server, tab)
    tab.get_by_role("button", name=re.compile("^Switch off the first")).click()
    expect(now(tab)).to_contain_text("The answer becomes")


def test_channels_are_the_other_view(server, tab, console):
    open_tab(server, tab)
    tab.get_by_label("Channels", exact=True).check()
    expect(tab.get_by_text("What speaks against it")).to_be_visible()
    tab.wait_for_url("**view=channels*", wait_until="commit")
    tab.go_back()
    expect(tab.get_by_text("What speaks against it")).to_have_count(0)


def test_a_reason_shows_its_places_and_a_place_its_reasons(server, tab, console):
    open_tab(server, tab)
    lit, row = tab.locator(".lsd-r-lit"), tab.locator(ROWS).nth(1)
    expect(lit).to_be_hidden()
    row.hover()
    expect(lit).to_be_visible()
    assert lit.get_attribute("src") == row.locator(".lsd-r-map").get_attribute("src")
    box = tab.locator(".lsd-r-stage").bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    here = tab.locator(".lsd-r-here li")
    expect(here.first).to_contain_text(re.compile(r"Group \d.*[+−]\d\.\d{3} nats"))
    expect(lit).to_be_hidden()
    values = [abs(float(one.split()[-2].replace("−", "-"))) for one in here.all_inner_texts()]
    assert values == sorted(values, reverse=True)
    tab.mouse.move(5, 5)
    expect(tab.locator(".lsd-r-mark")).to_be_hidden()
    tab.locator(".lsd-r-stage").focus()
    tab.keyboard.press("ArrowLeft")
    expect(tab.locator(".lsd-r-mark")).to_be_visible()


def test_the_keyboard_switches_and_keeps_its_place(server, tab):
    open_tab(server, tab)
    switch = tab.locator(ROWS).nth(1).get_by_role("switch")
    switch.focus()
    tab.keyboard.press("Space")
    expect(now(tab)).to_contain_text(re.compile("The answer (stays|becomes)"))
    expect(tab.locator(ROWS).nth(1).get_by_role("switch")).to_be_focused()
    tab.keyboard.press("Space")
    expect(now(tab)).to_contain_text("Switch a reason off")


def test_a_mistake_leads_to_its_reasons(server, tab):
    tab.goto(
        f"{server}?tab=mistakes&set=demo:misleading-tags&number=32&model=demo:shortcut", wait_until="domcontentloaded"
    )
    tab.get_by_role("link", name="Why is this wrong?").click()
    tab.locator(ROWS).first.wait_for()
    assert "item=" in tab.url and "against=" in tab.url
    expect(tab.locator(".lsd-r-sentence").first).to_contain_text("rather than")
    tab.go_back()
    expect(tab.locator("#lsd-mistakes-tab")).to_be_visible()


@pytest.mark.parametrize("width", [390, 1440])
def test_no_width_makes_it_scroll_sideways(server, tab, width):
    tab.set_viewport_size({"width": width, "height": 844})
    open_tab(server, tab, f"model=demo:resnet&model=demo:vit&example={DRAWN}&view=channels")
    tab.wait_for_timeout(300)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.locator(ROWS).last.scroll_into_view_if_needed()
    expect(tab.locator(".lsd-r-stage")).to_be_in_viewport()


def test_a_region_is_drawn_and_only_there_reasons_are_off(server, tab, console):
    open_tab(server, tab)
    tab.locator(ROWS).first.get_by_role("switch").click()
    expect(now(tab)).to_contain_text("The answer")
    everywhere = tab.locator("td.lsd-r-now").first.inner_text()
    only = tab.get_by_role("button", name="Switch off only inside a region")
    only.click()
    box = still(tab, tab.locator(".lsd-r-stage"))
    tab.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.1 * box["height"])
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"], steps=3)
    tab.mouse.up()
    tab.wait_for_url("**region=0.1,0.1,0.4,0.5*", wait_until="commit")
    expect(tab.locator("td.lsd-r-now").first).not_to_have_text(everywhere)
    expect(only).to_have_attribute("aria-pressed", "true")
    only.press("Enter")  # by keyboard, the region is taken away
    tab.wait_for_function("() => !location.search.includes('region=')")
    expect(tab.locator("td.lsd-r-now").first).to_have_text(everywhere)
    expect(tab.locator(".lsd-r-region")).to_be_hidden()


def test_a_region_is_drawn_by_keyboard(server, tab):
    open_tab(server, tab)
    tab.get_by_role("button", name="Switch off only inside a region").press("Enter")
    stage = tab.locator(".lsd-r-stage")
    stage.focus()
    for key in ("ArrowLeft", "Enter", *["ArrowRight"] * 6, *["ArrowDown"] * 6, "Enter"):
        stage.press(key)
    tab.wait_for_url("**region=0.46,0.5,0.7,0.74*", wait_until="commit")


def test_groups_of_two_networks_are_matched(server, tab, console):
    open_tab(server, tab, f"model=demo:resnet&model=demo:vit&example={DRAWN}")
    expect(tab.locator(".lsd-r-graph svg")).to_be_visible()
    expect(tab.locator(".lsd-r-graph")).to_contain_text("alike by where they lie")
