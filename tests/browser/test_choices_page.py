"""The tab “Evidence” as a visitor meets it."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("console")]

PLOT = ".lsd-c-plot"


def wait_for_choice(tab, factor):
    tab.wait_for_function("f => document.querySelector('.lsd-c-head')?.dataset.factor === f", arg=factor)
    tab.locator(PLOT).first.wait_for(state="attached")


def open_address(server, tab, factor):
    tab.goto(f"{server}?tab=choices&factor={factor}", wait_until="domcontentloaded")
    wait_for_choice(tab, factor)


def test_a_link_beside_a_control_opens_its_choice_without_a_reload(server, tab):
    tab.goto(server, wait_until="domcontentloaded")
    tab.get_by_role("tab", name="Saliency").click()
    tab.locator("#explain").wait_for()
    tab.evaluate("window.same = true")
    tab.get_by_text("More on the drawing").click()
    for factor, label in (("sign", "Sign"), ("method", "Method"), ("blur", "Smoothing")):
        tab.get_by_role("tab", name="Saliency").click()
        tab.locator("#lsd-saliency-tab").get_by_role("button", name=f"About {label}").first.click()
        tab.locator(f"#lsd-saliency-tab a[href='?tab=choices&factor={factor}']").first.click()
        wait_for_choice(tab, factor)
        assert tab.url.endswith(f"?tab=choices&factor={factor}")
        assert tab.locator(f"#choices-factor input[value={factor}]").is_checked()
        assert tab.locator(".lsd-c-head").is_visible()
    assert tab.evaluate("window.same"), "the page was loaded again"


def test_choosing_writes_the_address_which_opens_the_choice_and_back_returns(server, tab):
    tab.goto(f"{server}?tab=choices", wait_until="domcontentloaded")
    wait_for_choice(tab, "method")
    tab.get_by_text("Colour channels: ", exact=False).first.click()
    wait_for_choice(tab, "channels")
    tab.wait_for_function("location.search === '?tab=choices&factor=channels'")
    tab.go_back()
    wait_for_choice(tab, "method")
    tab.go_forward()
    wait_for_choice(tab, "channels")
    tab.reload(wait_until="domcontentloaded")
    wait_for_choice(tab, "channels")
    assert tab.locator(".lsd-c-wide img").first.evaluate("image => image.complete && image.naturalWidth > 1000")


def wait_for_levels(tab, count):
    tab.wait_for_function("document.querySelector('#choices-status')?.innerText.includes(' says ')")
    pictures = "[...document.querySelectorAll('.lsd-c-gallery .thumbnail-item img')]"
    tab.wait_for_function(f"{pictures}.filter(i => i.complete && i.naturalWidth).length === {count}")


def test_the_levels_side_by_side_on_a_picture(server, tab):
    open_address(server, tab, "sign")
    tab.locator("#choices-run").click()
    wait_for_levels(tab, 3)
    assert "&example=Chelsea+the+cat" in tab.url and "&model=" in tab.url
    assert tab.locator(".lsd-c-gallery .caption-label").all_inner_texts() == ["strength (default)", "for", "against"]
    tab.locator("#choices-factor input[value=clip]").check(force=True)  # other levels: the pictures go
    wait_for_choice(tab, "clip")
    tab.locator(".lsd-c-gallery .thumbnail-item").first.wait_for(state="detached")
    tab.go_back()  # … and come again
    wait_for_choice(tab, "sign")
    wait_for_levels(tab, 3)


def test_a_phone_has_everything_in_its_width(server, tab):
    tab.set_viewport_size({"width": 390, "height": 844})
    for factor in ("method", "blur"):
        open_address(server, tab, factor)
        tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390, factor
        assert tab.locator(".lsd-c-narrow img").first.is_visible() and not tab.locator(".lsd-c-wide").first.is_visible()
        table = tab.locator(".lsd-c-part .lsd-c-scroll").first
        assert table.evaluate("box => box.scrollWidth > box.clientWidth"), "a table that fits needs no test"
