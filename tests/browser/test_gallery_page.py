"""The Gallery tab as a visitor meets it."""

import pytest
from gallery_fixture import MODELS, make_gallery, make_row, make_rows

from gallery.index import build
from gallery.queries import Gallery

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("console")]

RESNET, VIT, CONVNEXT = (model for model, *_ in MODELS)
CARD = "#lsd-g-main .lsd-g-card"
DRAWN = "demo:resnet/class/3/lucid/0"  # of a model that every machine has


@pytest.fixture(scope="module", autouse=True)
def gallery(tmp_path_factory):
    """A small gallery, for as long as these tests run."""
    drawn = {"class_name": "checkered circle", "title": "checkered circle", "synset": ""}
    rows = [*make_rows(), make_row("demo:resnet", "class/3", **drawn)]
    rows += [make_row("demo:resnet", f"layer3/channel/{i}", depth=1) for i in range(60)]
    folder = make_gallery(tmp_path_factory.mktemp("gallery"), rows)
    build(folder)
    with pytest.MonkeyPatch.context() as patch:
        opened = Gallery(folder)
        patch.setattr("gallery.source.open_gallery", lambda: opened)
        yield opened


def open_page(server, tab, query=""):
    tab.goto(f"{server}{query}", wait_until="domcontentloaded")
    tab.locator("#lsd-gallery[data-view]").wait_for()


def wait_for_heading(tab, text):
    tab.wait_for_function("text => document.querySelector('#lsd-g-main h2')?.innerText.includes(text)", arg=text)


def wait_until_loaded(tab, css, count):
    tab.wait_for_function(
        "([css, n]) => [...document.querySelectorAll(css)].filter(i => i.complete && i.naturalWidth).length >= n",
        arg=[css, count],
    )


def test_the_gallery_is_there_at_once_and_a_picture_opens_without_a_reload(server, tab):
    open_page(server, tab)
    wait_until_loaded(tab, f"{CARD} img", 10)
    tab.evaluate("window.same = true")
    tab.locator("#lsd-g-search").type("circle", delay=20)
    wait_for_heading(tab, "1 picture")
    assert "q=circle" in tab.url
    tab.locator(CARD).click()
    wait_for_heading(tab, "checkered circle")
    assert tab.url.endswith(f"?u={DRAWN}")
    wait_until_loaded(tab, "img.lsd-g-large", 1)
    assert "checkered circle, class/3 in demo:resnet" in tab.locator("img.lsd-g-large").get_attribute("alt")
    assert tab.evaluate("window.same"), "the page was loaded again"
    assert tab.evaluate("document.activeElement.tagName") == "H2"
    tab.reload(wait_until="domcontentloaded")
    wait_for_heading(tab, "checkered circle")
    tab.locator("[data-back]").click()  # still knows where it came from
    wait_for_heading(tab, "1 picture")
    assert "q=circle" in tab.url and tab.input_value("#lsd-g-search") == "circle"
    tab.go_back()
    wait_for_heading(tab, "checkered circle")
    tab.go_back()
    wait_for_heading(tab, "1 picture")
    tab.go_back()
    wait_for_heading(tab, "What networks look for")


def test_filters_narrow_and_are_removed(server, tab):
    open_page(server, tab)
    tab.locator(".lsd-g-facets a", has_text="demo:resnet").click()
    wait_for_heading(tab, "1–48 of 61 pictures")
    tab.get_by_role("link", name="Page 2").click()
    wait_for_heading(tab, "49–61 of 61")
    assert "page=2" in tab.url
    tab.locator(CARD).first.click()
    tab.locator("[data-back]").click()
    wait_for_heading(tab, "49–61 of 61")
    tab.locator(".lsd-g-facets a", has_text="classes").click()
    wait_for_heading(tab, "1 picture")
    tab.get_by_role("link", name="Remove the filter Layer: classes").click()
    wait_for_heading(tab, "1–48 of 61")
    tab.locator("#lsd-g-sort").select_option("name")
    tab.wait_for_function("location.search.includes('sort=name')")
    tab.locator("#lsd-g-search").fill("no such thing")
    wait_for_heading(tab, "Nothing fits")
    tab.get_by_role("link", name="Show everything").click()
    wait_for_heading(tab, "What networks look for")
    assert tab.input_value("#lsd-g-search") == ""


def test_the_keyboard_reaches_the_pictures(server, tab):
    open_page(server, tab)
    tab.locator(CARD).first.wait_for()
    tab.locator("#lsd-g-search").focus()
    for _ in range(5):
        tab.keyboard.press("Tab")
        if tab.evaluate("'skip' in document.activeElement.dataset"):
            tab.keyboard.press("Enter")
            break
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.classList.contains('lsd-g-card')")
    title = tab.evaluate("document.activeElement.querySelector('b').innerText")
    tab.keyboard.press("Enter")
    tab.locator(".lsd-g-unit").wait_for()
    wait_for_heading(tab, title)


def test_models_side_by_side_by_link(server, tab):
    query = f"?tab=gallery&view=compare&model={CONVNEXT}&model={VIT}&class=golden+retriever&class=banana"
    open_page(server, tab, query)
    heads = [text.split("\n") for text in tab.locator(".lsd-g-compare thead th").all_inner_texts()]
    assert [[line.strip() for line in head] for head in heads] == [["ConvNeXt-Atto", CONVNEXT], ["ViT-Ti/16", VIT]]
    assert tab.locator(".lsd-g-compare tbody tr").count() == 2
    wait_until_loaded(tab, ".lsd-g-compare img", 3)
    tab.locator("#lsd-g-search").fill("cat")
    tab.get_by_role("link", name="+ tiger cat").click()
    tab.wait_for_function("document.querySelectorAll('.lsd-g-compare tbody tr').length === 3")
    assert "class=tiger+cat" in tab.url


def test_an_id_that_nobody_has_gets_a_sentence(server, tab):
    open_page(server, tab, "?u=%3Cimg%20src=x%20onerror=alert(1)%3E")
    assert "There is no picture “<img src=x onerror=alert(1)>”" in tab.inner_text("#lsd-g-main")
    assert tab.locator(CARD).count() == 48


def test_from_a_picture_to_the_live_tab(server, tab):
    open_page(server, tab, f"?u={DRAWN}")
    tab.get_by_role("link", name="Open in the live tab").click()
    tab.wait_for_function(
        "css => /step \\d+ of/.test(document.querySelector(css)?.alt || '')",
        arg=".lsd-picture img[alt*='checkered circle']",
    )
    tab.locator("#stop-features").click()
    tab.get_by_role("tab", name="Gallery").click()
    tab.locator("img.lsd-g-large").wait_for()  # as it was left
    assert tab.url.endswith(f"?u={DRAWN}")


def test_from_a_class_to_where_a_picture_shows_it(server, tab):
    open_page(server, tab, f"?u={DRAWN}")
    tab.get_by_role("link", name="See where your image shows this").click()
    tab.wait_for_function("document.querySelector('#status')?.innerText.includes('Done in')")
    tab.locator("img[alt^='Saliency map of']").first.wait_for()
    assert "of=checkered" in tab.url
    assert tab.get_by_label("This class", exact=True).input_value().startswith("checkered circle")


def test_a_phone_has_everything_in_its_width(server, tab):
    tab.set_viewport_size({"width": 400, "height": 860})
    open_page(server, tab)
    for query in ("", f"?u={DRAWN}", f"?tab=gallery&view=compare&model={RESNET}&model={VIT}&class=banana"):
        open_page(server, tab, query)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 400, query
    open_page(server, tab)
    assert not tab.locator(".lsd-g-facets").is_visible()
    tab.get_by_role("button", name="Filters").click()
    tab.locator(".lsd-g-facets a", has_text=VIT).click()
    tab.get_by_role("link", name=f"Remove the filter Model: {VIT}").wait_for()
    assert not tab.locator(".lsd-g-facets").is_visible(), "the filters make room for what they found"
