"""The Mistakes tab as a visitor meets it."""

import threading

import pytest

from lsd.evaluation.fooled_cases import Answer, Evidence, Square
from lsd.evaluation.labelled import DemoItem, open_set
from lsd.packages import installed
from lsd.recent import Recent
from lsd.ui.mistakes import search as mistake_search
from lsd.ui.mistakes.session import Session

pytestmark = pytest.mark.browser

VERDICT = ".lsd-verdict"  # the probe's, the last that comes
DRAWN = "?tab=mistakes&model=demo:shortcut&set=demo:misleading-tags&number=32&method=gradient"


@pytest.fixture
def scans(monkeypatch):
    """The names of the sets that were searched."""
    names, scan = [], mistake_search.scan

    def noted(models, pictures):
        names.append(pictures.name)
        return scan(models, pictures)

    monkeypatch.setattr(mistake_search, "scan", noted)
    monkeypatch.setattr(mistake_search, "_finished", Recent(32))
    return names


def says(tab, text):
    tab.wait_for_function("text => document.body.innerText.includes(text)", arg=text)


def titled(tab, by):
    """Wait for the heading over the mistake that is explained, by JavaScript's condition on it."""
    tab.wait_for_function(f"(title => {by})(document.querySelector('#why h3').innerText)")
    return tab.inner_text("#why h3")


def test_the_tab_opens_with_mistakes_maps_and_probe_and_only_once(server, tab, scans):
    tab.goto(server, wait_until="domcontentloaded")
    place = tab.get_by_role("tab", name="Mistakes")
    place.click()
    tab.wait_for_selector(VERDICT)
    assert tab.locator(".lsd-m-list img").count() > 0
    assert tab.locator("#why .lsd-m-reading img").count() >= 3
    tab.get_by_role("tab", name="Evidence").click()
    place.click()
    tab.wait_for_timeout(1500)
    assert scans == ["what fooled them" if installed() else "demo:misleading-tags"]
    assert "Traceback" not in tab.inner_text("body")


def test_the_shortcut_model_is_found_out_however_early_one_asks(server, tab, scans):
    tab.goto(f"{server}?tab=mistakes", wait_until="domcontentloaded")
    tab.get_by_role("link", name="Drawn pictures with a lying tag").click()
    says(tab, "of this map lies on the corner tag")
    says(tab, "most salient pixels turns the answer from")
    tab.wait_for_timeout(2000)  # nothing of the first view comes after it
    assert "Demo tag reader" in tab.inner_text("#why h3")
    assert tab.get_by_text("Accuracy", exact=True).is_visible()
    assert scans[-1] == "demo:misleading-tags" and len(scans) <= 2
    assert "Traceback" not in tab.inner_text("body")


def test_back_shows_the_last_picture_and_the_last_filter_without_another_scan(server, tab, scans):
    tab.goto(server + DRAWN, wait_until="domcontentloaded")
    tab.wait_for_selector(VERDICT)
    first = tab.inner_text("#why h3")
    tab.locator(".lsd-m-list button").nth(3).click()
    second = titled(tab, f"title.includes('says') && title !== {first!r}")
    assert "picture=" in tab.url and tab.locator(".lsd-m-list [aria-pressed=true]").count() == 1
    tab.get_by_label("Models wrong").click()
    tab.get_by_role("option", name="just one").click()
    tab.wait_for_url("**wrong=one**")
    tab.wait_for_timeout(1000)  # Gradio's dropdown tells everything twice
    tab.go_back()
    tab.wait_for_function("document.querySelector('[aria-label=\"Models wrong\"]').value.startsWith('any')")
    assert tab.inner_text("#why h3") == second and "wrong=" not in tab.url
    tab.go_back()
    assert titled(tab, f"title === {first!r}")
    assert DRAWN in tab.url and scans == ["demo:misleading-tags"]
    tab.go_forward()
    assert titled(tab, f"title === {second!r}")


def test_a_visitor_asks_about_a_picture_of_his_own(server, tab, tmp_path):
    file = tmp_path / "circle.png"
    open_set("demo", limit=16)[0].picture().save(file)
    tab.goto(f"{server}?tab=mistakes&set=yours&class=plain+star&model=demo:resnet", wait_until="domcontentloaded")
    says(tab, "Upload a picture")
    tab.set_input_files("#lsd-mistakes-picture input[type=file]", file)
    tab.wait_for_selector("#lsd-mistakes-picture img")
    tab.get_by_role("button", name="Find the mistakes").click()
    says(tab, "Demo ResNet is wrong about your picture.")
    tab.wait_for_selector(VERDICT)
    assert tab.inner_text("#why h3").endswith("It is plain star.")
    assert "set=yours" in tab.url and tab.get_by_role("link", name="Explain this picture in Saliency").is_visible()


@pytest.fixture
def squares(monkeypatch):
    """Three squares for every drawn picture whose reader follows the tag: B did it."""
    after = Answer(3, 0.6, 0.1)
    three = tuple(Square((k / 3, 0.2, (k + 1) / 3, 0.5), drop, after) for k, drop in enumerate((0.1, 2.5, -0.3)))
    monkeypatch.setattr(
        DemoItem, "evidence", lambda item, model: Evidence("crop", Answer(item.tag, 0.9, 0.05), after, squares=three)
    )


def test_the_quiz_asks_before_the_maps_are_shown_and_counts_with_keys_and_on_a_phone(server, tab, squares):
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.goto(server + DRAWN, wait_until="domcontentloaded")
    tab.get_by_label("Quiz").check()
    tab.wait_for_selector("[data-guess]")
    assert not tab.locator("#why").is_visible() and not tab.locator(".lsd-m-verdict").first.is_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.get_by_role("button", name="Square B").focus()
    tab.keyboard.press("Enter")
    says(tab, "Right: it was B.")
    says(tab, "1 of 1 guessed right.")
    assert tab.locator("#why").is_visible()
    tab.wait_for_function("document.activeElement.matches('.lsd-m-following')")
    first = tab.inner_text("#why h3")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("[data-guess]")
    assert not tab.locator("#why").is_visible()
    tab.wait_for_url("**picture=**")
    assert "quiz=on" in tab.url
    tab.get_by_role("button", name="Square A").click()
    says(tab, "No, not A: it was B.")
    says(tab, "1 of 2 guessed right.")
    assert tab.inner_text("#why h3") != first
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_on_a_phone_nothing_overflows_and_results_come_before_controls(server, tab):
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.goto(server + DRAWN, wait_until="domcontentloaded")
    tab.wait_for_selector(VERDICT)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tops = [tab.locator(place).bounding_box()["y"] for place in (".lsd-m-list", "#why h3", VERDICT, "#find")]
    assert tops == sorted(tops)


def test_a_map_is_enlarged_and_closed_again(server, tab):
    tab.goto(server + DRAWN, wait_until="domcontentloaded")
    tab.wait_for_selector(VERDICT)
    tab.locator("#why .lsd-m-contrast button").first.click()
    dialog = tab.get_by_role("dialog")
    assert dialog.get_by_role("link", name="Download").get_attribute("download").endswith(".jpg")
    tab.keyboard.press("Escape")
    dialog.wait_for(state="detached")


def test_a_click_wins_though_the_first_view_is_told_of_after_it(server, tab, scans, monkeypatch):
    ask, asked, come = Session.ask, threading.Event(), threading.Event()

    def late_at_first(session, view, **how):
        number = ask(session, view, **how)
        if not asked.is_set():
            asked.set()
            come.wait(60)
        return number

    monkeypatch.setattr(Session, "ask", late_at_first)
    tab.goto(f"{server}?tab=mistakes", wait_until="domcontentloaded")
    while not asked.is_set():
        tab.wait_for_timeout(50)
    tab.get_by_role("link", name="Drawn pictures with a lying tag").click()
    tab.wait_for_timeout(2000)
    come.set()
    titled(tab, "title.includes('Demo tag reader')")
    tab.wait_for_selector(VERDICT)
    tab.wait_for_timeout(1500)  # nothing of the first view comes after it
    assert "Demo tag reader" in tab.inner_text("#why h3") and "set=demo:misleading-tags" in tab.url
    assert scans[-1] == "demo:misleading-tags" and "Traceback" not in tab.inner_text("body")
