"""The Mistakes tab's handlers, called as Gradio calls them, on the model that reads the corner tag."""

import asyncio
import re
import threading
from dataclasses import replace

import gradio as gr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.datastructures import QueryParams

from lsd.evaluation import mistakes
from lsd.evaluation.composed import Detail, Paste, Recipe
from lsd.evaluation.fooled_cases import CAUSES, Answer, Evidence, Square
from lsd.evaluation.labelled import ComposedItem, DemoItem, Label, LabelledSet, open_set
from lsd.evaluation.mistakes import Prediction, ScanProgress
from lsd.labels import class_names, synsets
from lsd.models import get_model
from lsd.packages import installed
from lsd.recent import Recent
from lsd.saliency.methods import METHODS
from lsd.ui.mistakes import filters as mistake_filters
from lsd.ui.mistakes import request, texts, views
from lsd.ui.mistakes import search as mistake_search
from lsd.ui.mistakes.address import read, write
from lsd.ui.mistakes.filters import ALL, ORDERS, WRONG_BY, Filters
from lsd.ui.mistakes.form import better_models
from lsd.ui.mistakes.plot import probe_plot
from lsd.ui.mistakes.request import (
    YOURS,
    Look,
    Question,
    Removal,
    View,
    completed,
    open_source,
    shortened,
    worked_cases,
)
from lsd.ui.mistakes.session import PAGE, Session
from lsd.ui.mistakes.tab import MistakesTab
from lsd.ui.mistakes.views import MAPS
from lsd.ui.reasons import address as reasons_address
from lsd.ui.shared import address, controls, jobs
from lsd.ui.shared.markup import top_table

SET, MODELS = "demo:misleading-tags", ("demo:shortcut", "demo:resnet")
GRADIENT = Look(method="gradient")
ASKED = View(Question(SET, 32, MODELS), look=GRADIENT)


@pytest.fixture(autouse=True)
def nothing_found_before(monkeypatch):
    monkeypatch.setattr(mistake_search, "_finished", Recent(32))


@pytest.fixture(scope="module")
def page():
    """The tab, the page's door, and all events."""
    with gr.Blocks() as blocks:
        with gr.Tab("Mistakes"):
            tab = MistakesTab()
        door = address.door({"mistakes": "Mistakes"})
        tab.restore(door)
    return tab, door, blocks.fns.values()


@pytest.fixture(scope="module")
def tab(page):
    return page[0]


@pytest.fixture(scope="module")
def explained(tab):
    """A session in which a mistake is explained, and all that was shown for it."""
    return worked(tab, ASKED)


@pytest.fixture
def session(explained):
    """That session, as it was."""
    session, _ = explained
    kept = vars(session).copy()
    yield session
    vars(session).update(kept)


@pytest.fixture
def shown(explained):
    return explained[1]


def joined(updates):
    result = {}
    for one in updates:
        result |= one
    return result


def work(tab, session, number):
    """What a number begins, joined."""
    return joined(update for part in (tab._search, tab._explain, tab._probe) for update in part(session, number))


def worked(tab, view, session=None, path=None):
    session = session or Session()
    session.path = path
    return session, work(tab, session, session.ask(view))


def opened(tab, query, session=None, picture=None):
    """What an address shows."""
    session = session or Session()
    event = gr.EventData(None, {"query": query})
    updates = tab._open({tab.session: session, tab.picture: picture}, event)
    return session, updates | work(tab, session, updates[tab.asked])


def values(tab, session, **changed):
    """All that a handler could be given: what the controls say for the session's view, but for what has changed."""
    view = session.view
    full = completed(view.question)
    form = tab.form
    said = {
        tab.session: session,
        form.source: full.source,
        form.number: full.number,
        form.models: list(full.models),
        form.label: full.label,
        form.picture: session.path,
        **{control: getattr(view.filters, name) for name, control in tab.browser.filters.items()},
        **{control: getattr(view.look, name) for name, control in tab.case.controls.items()},
        **{control: getattr(view.removal, name) for name, control in tab.probe.controls.items()},
    }  # fmt: skip
    parts = (tab.browser.filters, tab.case.controls, tab.probe.controls)
    return said | {control: changed[name] for part in parts for name, control in part.items() if name in changed}


def pick(tab, session, index):
    """Choose a mistake of the whole list; the number it is asked for by."""
    p = mistake_filters.find(session.search.result, session.view.filters)[index]
    event = gr.EventData(None, {"picture": p.item.id, "by": p.model})
    return tab._pick({tab.session: session}, event)


def probed(tab, session, **removal):
    session.view = replace(session.view, removal=Removal(**removal))
    return joined(tab.probe.ask(session))


def on(events, component, name):
    """What an event of a component sets off."""
    (found,) = (event for event in events if (component._id, name) in event.targets and event.outputs)
    return found


def text(markup):
    return re.sub(r"<[^>]*>", " ", markup).replace("\u00a0", " ")


# The address

_names = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20).map(str.strip)
_views = st.builds(
    View,
    st.builds(
        Question, _names, st.integers(32, 1024), st.lists(_names.filter(bool), max_size=4, unique=True).map(tuple), _names
    ),
    st.builds(
        Filters,
        *[_names.map(lambda name: name or ALL)] * 3,
        cause=st.sampled_from([ALL, *CAUSES]), wrong_by=st.sampled_from(list(WRONG_BY)), sort=st.sampled_from(list(ORDERS)),
    ),
    st.integers(1, 50), _names, _names,
    st.builds(
        Look,
        st.sampled_from([name for name in METHODS if not name.startswith("captum:")]),
        st.sampled_from(list(request.SCALES)), st.sampled_from(list(request.OVERLAYS)),
    ),
    st.builds(
        Removal, _names, st.sampled_from(MAPS), st.sampled_from(["mean", "blur"]),
        st.integers(0, 100).map(lambda half: half / 2),
    ),
    quiz=st.sampled_from(["", "on"]),
)  # fmt: skip


@given(_views)
def test_reading_an_address_is_the_inverse_of_writing_it(view):
    assert read(QueryParams(write(view))) == (view, [])


def test_a_first_view_has_a_short_address():
    assert write(View()) == "tab=mistakes"
    assert read(QueryParams("tab=mistakes")) == (View(), [])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sort", "beauty"), ("wrong", "7"), ("method", "magic"), ("method", "captum:Saliency"), ("scale", "log"),
        ("overlay", "x"), ("map", "x"), ("fill", "x"), ("share", "99"), ("share", "nan"), ("number", "4"),
        ("number", "many"), ("page", "0"), ("page", "-1"),
    ],
)  # fmt: skip
def test_what_an_address_names_wrongly_is_the_default_and_is_said(key, value):
    view, (trouble,) = read(QueryParams({"tab": "mistakes", key: value}))
    assert view == View() and f"{key} is “{value}”" in trouble


def test_more_models_than_fit_are_said():
    view, (trouble,) = read(QueryParams([("tab", "mistakes"), *(("model", f"m{i}") for i in range(6))]))
    assert view.question.models == ("m0", "m1", "m2", "m3") and "6 models" in trouble


@pytest.mark.parametrize("source", ["", SET, "demo", YOURS])
def test_a_question_is_completed_and_shortened_again(source):
    full = completed(Question(source))
    assert full.source and full.models
    assert completed(shortened(full)) == full
    assert shortened(full) == Question("" if source == next(iter(worked_cases())) else source)


def test_opening_an_address_shows_all_that_it_says(tab):
    query = (
        f"tab=mistakes&set={SET}&number=32&model=demo:shortcut&model=demo:resnet&only=demo:shortcut&sort=margin&page=2&"
        "picture=0001-plain-star&by=demo:shortcut&method=gradient&scale=rank&overlay=map&map=predicted&fill=blur&share=5"
    )
    session, shown = opened(tab, query)
    assert shown[tab.address] and read(QueryParams(shown[tab.address])) == (session.view, [])
    assert [shown[tab.form.source], shown[tab.form.models]] == [SET, list(MODELS)]
    assert shown[tab.browser.filters["model"]]["value"] == "demo:shortcut"
    assert "Page 2 of" in shown[tab.browser.where]
    assert session.case.said.item.id == "0001-plain-star" and session.case.method == "gradient"
    assert [shown[tab.case.scale], shown[tab.case.overlay], shown[tab.probe.share]] == ["rank", "map", 5]
    assert "5% most salient" in text(shown[tab.probe.verdict])
    assert "lsd-error" not in shown[tab.status]


def test_another_picture_and_back_runs_no_scan_again(tab, explained, monkeypatch):
    first, before = explained
    session = Session(search=first.search)
    monkeypatch.setattr(mistake_search, "scan", None)
    last = mistake_filters.find(first.search.result, Filters())[-1]
    full_name = first.search.result.class_names[0][last.true]
    _, there = opened(tab, write(replace(ASKED, filters=Filters(true=full_name))), session)
    assert there[tab.browser.filters["true"]]["value"] == full_name
    assert session.case.said.true_name == last.true_name != first.case.said.true_name
    _, back = opened(tab, write(ASKED), session)
    assert session.case.said == first.case.said and back[tab.case.title] == before[tab.case.title]
    _, again = worked(tab, ASKED, session)
    assert "wrong about" in again[tab.status]


def test_what_one_visitor_has_found_is_there_for_the_next_unless_the_pictures_may_change(tab, tmp_path, monkeypatch):
    for tone in range(4):
        Image.new("RGB", (16, 16), (60 * tone, 0, 0)).save(tmp_path / f"{tone:04d}_x.png")
    sets, scan = [], mistake_search.scan
    monkeypatch.setattr(
        mistake_search, "scan", lambda models, pictures: sets.append(pictures.name) or scan(models, pictures)
    )
    lite = ("tf_efficientnet_lite0.in1k",)
    for question in (Question(SET, 32, MODELS), Question(str(tmp_path), 32, lite if installed() else ())):
        found = [worked(tab, View(question, look=GRADIENT))[0].search for _ in range(2)]
        if all(found):
            assert np.array_equal(*(one.result.probability for one in found)) and found[1].done == found[1].total
    assert sets == [SET, *([tmp_path.name] * 2 if installed() else [])]


@pytest.mark.skipif(not installed(), reason="no ImageNet networks are installed as packages")
def test_the_cases_that_it_opens_with_are_listed_while_somebody_else_computes(tab, monkeypatch):
    monkeypatch.delenv("LSD_MODEL_PATH", raising=False)
    session = Session()
    number = session.ask(View())
    with jobs.turn():
        shown = joined(tab._search(session, number))
    assert "wrong about" in shown[tab.status] and session.found and "data-picture" in shown[tab.browser.list]


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ("set=/no/such", "There are no pictures called"),
        (f"set={SET}&number=32&model=no_such_model", "There is no model called"),
        (f"set={SET}&number=32&picture=nix", "There is no picture “nix” here"),
        (f"set={SET}&number=32&true=unicorn", "No mistake here is about “unicorn”"),
        (f"set={SET}&number=32&only=demo:nobody", "demo:nobody makes no mistake here"),
        (f"set={SET}&number=32&page=99", "There is no page 99"),
        (f"set={SET}&number=32&by=x&picture=0001-plain-star", "x was not asked"),
        (f"set={SET}&number=32&probe=x", "x was not asked"),
    ],
)
def test_what_an_address_names_and_there_is_not_is_said_and_the_nearest_is_shown(tab, monkeypatch, named, sentence):
    monkeypatch.setattr(request, "imagenet_models", list)
    monkeypatch.setattr(request, "demo_models", lambda: ["demo:shortcut"])
    session, shown = opened(tab, f"tab=mistakes&method=gradient&{named}")
    assert sentence in shown[tab.status] and 'role="alert"' in shown[tab.status]
    assert "wrong about" in shown[tab.status]
    assert "data-picture" in shown[tab.browser.list] and "says" in shown[tab.case.title]
    assert session.case.readings


# The first view


@pytest.mark.skipif(len(installed()) < 2, reason="no ImageNet networks are installed as packages")
def test_opening_the_tab_shows_photos_that_networks_get_wrong_and_why(tab):
    assert list(worked_cases())[:2] == ["what-fooled-them", "example-photos"]
    session, shown = opened(tab, "tab=mistakes&set=example-photos")
    assert [shown[tab.form.source], shown[tab.form.models]] == ["example-photos", installed()[:3]]
    assert "is wrong about" in shown[tab.status] and "lsd-error" not in shown[tab.status]
    assert shown[tab.case.title].endswith("It is tabby.</h3>")
    assert shown[tab.case.maps].count("<figure") == 3 * len(session.search.result.models)
    assert "turns the answer" in text(shown[tab.probe.verdict]) or "leaves the answer" in text(shown[tab.probe.verdict])
    assert "tab=saliency" in shown[tab.case.about] and "example=Chelsea+the+cat" in shown[tab.case.about]


def test_without_packages_the_drawn_pictures_come_first(monkeypatch):
    monkeypatch.delenv("LSD_MODEL_PATH", raising=False)
    monkeypatch.setattr("lsd.weights.installed", list)
    with gr.Blocks():
        tab = MistakesTab()
    assert [tab.form.source.value, tuple(tab.form.models.value[:2])] == [SET, MODELS]
    assert list(worked_cases()) == [SET]


def test_without_the_photos_the_drawn_pictures_come_first(monkeypatch):
    monkeypatch.setattr("lsd.evaluation.labelled.labelled_photos", list)
    monkeypatch.setattr("lsd.evaluation.labelled.fooled_cases", list)
    assert list(worked_cases()) == [SET]


@pytest.mark.skipif(len(installed()) < 2, reason="no ImageNet networks are installed as packages")
def test_the_tab_opens_with_what_fooled_networks_and_says_what_it_was(tab):
    question = completed(Question())
    assert question.source == "what-fooled-them"
    item = next(item for item in open_set(question.source) if item.evidence(question.models[0]))
    pictures = LabelledSet("what fooled them", (item,))
    *_, last = mistakes.scan([question.models[0]], pictures)
    p = last.result.prediction(0, 0)
    assert p.evidence and f"fooled by {CAUSES[p.evidence.cause]}" in texts.caption(p, with_model=True)
    assert texts.cause_sentence(p).startswith(f"Fooled by {CAUSES[p.evidence.cause]}: ")


def test_photos_and_a_model_without_their_classes_give_one_sentence(tab):
    _, shown = worked(tab, View(Question("example-photos", 32, ("demo:resnet",))))
    assert "The labels of the example photos are not classes of demo:resnet" in shown[tab.status]


# Who asks last


def test_every_asking_begins_its_own_work_and_ends_the_last(tab, explained, page):
    _, door, events = page
    session = Session(search=explained[0].search)
    asked = [
        opened(tab, write(ASKED), session)[1][tab.asked],
        tab._ask(values(tab, session))[tab.asked],
        pick(tab, session, 1)[tab.asked],
        tab._explain_anew(values(tab, session, method="gradient"))[tab.asked],
    ]
    assert len(set(asked)) == len(asked)
    assert [session.is_past(number) for number in asked] == [True, True, True, False]
    session.stop()
    assert session.is_past(asked[-1])
    assert {tab.asked, tab.address} <= set(on(events, door, "mistakes").outputs)


def test_a_click_wins_over_the_first_view_wherever_that_is(tab, explained):
    last = mistake_filters.find(explained[0].search.result, Filters())[-1]
    for steps in range(9):
        session = Session(search=explained[0].search)
        first = session.ask(replace(ASKED, picture=last.item.id), told=True)
        late = (update for part in (tab._search, tab._explain, tab._probe) for update in part(session, first))
        for _, _update in zip(range(steps), late, strict=False):
            pass
        number = session.ask(ASKED)
        assert not any("<figcaption" in update.get(tab.case.maps, "") for update in late)
        work(tab, session, number)
        assert session.case.said == explained[0].case.said and session.view == ASKED


def test_of_what_is_asked_the_last_is_done_once_in_whatever_order_the_page_tells(tab, explained, page, followed):
    _, _, events = page
    begun = on(events, tab.asked, "change").fn
    session = Session(search=explained[0].search)
    asked = session.ask(replace(ASKED, look=Look("grad_cam"))), session.ask(ASKED)
    shown = joined(followed(begun, {tab.session: session, tab.asked: asked[0]}))  # the older number has come last
    assert "<figcaption" in shown[tab.case.maps] and session.case.method == ASKED.look.method
    assert followed(begun, {tab.session: session, tab.asked: asked[1]}) == [{tab.status: gr.skip()}]


def test_the_page_hears_nothing_of_what_is_past(tab, page, explained):
    _, _, events = page
    session = Session(search=explained[0].search)
    session.ask(ASKED)

    async def all_after_another_question():
        work = on(events, tab.asked, "change").fn({tab.session: session})
        first = await anext(work)
        session.ask(ASKED)
        return [first] + [update async for update in work]

    assert asyncio.run(all_after_another_question()) == [{tab.status: gr.skip()}] * 2


def test_another_choice_ends_the_work_on_the_last(tab, explained):
    session = Session(search=explained[0].search)
    session.ask(ASKED)
    number = pick(tab, session, 0)[tab.asked]
    steps = tab._explain(session, number)
    next(steps)
    again = pick(tab, session, 1)[tab.asked]
    assert not any("<figcaption" in step.get(tab.case.maps, "") for step in steps)
    assert list(tab._explain(session, number)) == [] and list(tab._probe(session, number)) == []
    assert "<figcaption" in joined(tab._explain(session, again))[tab.case.maps]


def test_nothing_happens_before_the_first_search(tab):
    session = Session()
    assert list(tab._explain(session, 0)) == [] and list(tab.probe.ask(session)) == []
    for handler in (tab._filter, lambda v: tab._turn(v, 1)):
        assert set(handler(values(tab, session))) == {tab.address}
    assert set(tab._pick({tab.session: session}, gr.EventData(None, {"picture": "x"}))) == {tab.address}
    assert tab.case.draw(session) == {tab.case.legend: ""}


# From a search to the probe


def test_the_scan_tells_its_progress_and_finds_mistakes(tab):
    session = Session()
    updates = list(tab._search(session, session.ask(ASKED)))
    statuses = [u[tab.status] for u in updates if tab.status in u]
    assert any("16 of 32 pictures" in s and "progressbar" in s for s in statuses)
    last = updates[-1]
    assert "wrong about" in last[tab.status] and "lsd-error" not in last[tab.status]
    assert session.search.result.wrong[0].sum() > 16
    assert all(model in last[tab.accuracy] for model in MODELS)


def test_a_page_of_thumbnails_with_captions(shown, tab, session):
    found = mistake_filters.find(session.search.result, Filters())
    cards = re.findall(r"<li>.*?</li>", shown[tab.browser.list])
    assert len(cards) == min(PAGE, len(found))
    assert re.fullmatch(r"\s*\S.+ \d+%\s+is \S.+\s+Demo .+", text(cards[0]))
    assert [f'aria-pressed="{state}"' in card for state, card in zip(["true", "false"], cards[:2], strict=True)] == [
        True
    ] * 2
    assert session.search.thumbnail(session.search.result.items[0])[:2] == b"\xff\xd8"


def test_paging_goes_forth_and_stops_at_the_ends(tab, session):
    found = mistake_filters.find(session.search.result, Filters())
    pages = -(-len(found) // PAGE)
    for step, page in ((-1, 1), (1, min(2, pages)), (99, pages)):
        session.view = replace(ASKED, page=1)
        update = tab._turn(values(tab, session), step)
        assert f"Page {page} of {pages}" in update[tab.browser.where]
        assert update[tab.browser.next]["interactive"] == (page < pages)


def test_filters_narrow_and_their_counts_are_right(session):
    result = session.search.result
    everything = mistake_filters.find(result, Filters())
    choices = mistake_filters.choices(result, Filters())
    for name, offered in choices.items():
        for label, value in offered:
            found = mistake_filters.find(result, Filters(**{name: value}))
            assert label.endswith(f"({len(found)})")
        parts = [len(mistake_filters.find(result, Filters(**{name: value}))) for _, value in offered[1:]]
        assert sum(parts) == (0 if name == "cause" else len(everything))  # nobody looked for causes here
    by_model = Filters(model="demo:shortcut")
    true = mistake_filters.choices(result, by_model)["true"][1][1]
    both = mistake_filters.find(result, Filters(model="demo:shortcut", true=true))
    assert {(p.model, p.true_name) for p in both} == {("demo:shortcut", true)}
    predicted = mistake_filters.choices(result, Filters(true=true))["predicted"]
    assert predicted[0] == (f"all ({len(mistake_filters.find(result, Filters(true=true)))})", ALL)


def test_orders_are_those_of_the_evaluation():
    assert set(ORDERS) == set(mistakes.SORTS)


def test_a_filter_that_nothing_passes_any_more_stays_selectable(tab, session):
    nothing = {"model": "demo:resnet", "wrong_by": "one", "true": "plain star", "predicted": "plain star"}
    update = tab._filter(values(tab, session, **nothing))
    assert "0 mistakes" in update[tab.browser.where] and "No mistake passes" in update[tab.browser.list]
    assert "plain star" in [value for _, value in update[tab.browser.filters["predicted"]]["choices"]]


def test_a_filter_leaves_what_is_explained_and_the_address_says_both(tab, session):
    said = session.case.said
    update = tab._filter(values(tab, session, model="demo:resnet"))
    view, _ = read(QueryParams(update[tab.address]))
    assert (view.filters.model, view.picture, view.by) == ("demo:resnet", said.item.id, said.model)


def test_choosing_one_shows_three_maps_for_every_model(tab, shown, session):
    assert shown[tab.case.title].startswith("<h3>Demo tag reader says")
    maps = shown[tab.case.maps]
    assert maps.count("<figure") == 6 and maps.count(f'width="{views.CELL_SIDE}"') == 6
    assert [r.mistaken for r in session.case.readings] == [True, False]
    first, second = maps.split('class="lsd-m-reading"')[1:]
    assert "demo:shortcut" in first and "✗ wrong" in first and "demo:resnet" in second and "✓ right" in second
    assert shown[tab.probe.model]["choices"] == [("Demo tag reader", "demo:shortcut")]


def test_the_tag_is_named_as_the_reason(tab, shown, session):
    about = text(shown[tab.case.about])
    said = session.case.said
    assert f"The corner tag claims “{said.predicted_name}”, and so says Demo tag reader." in about
    share = re.search(r"(\d+)% of this map lies on the corner tag, which is 1\.1% of the picture", about)
    assert int(share[1]) > 5
    shortcut, resnet = session.case.readings
    assert shortcut.without["corner tag"][0] != said.predicted_name
    assert shortcut.without["object"][0] == said.predicted_name  # it does not even need the object
    assert "with the corner tag painted over, it says" in about
    own, other = (views.shares(session.case, r, "contrast")["corner tag"][0] for r in (shortcut, resnet))
    assert own > 5 * other


def test_a_case_leads_to_what_one_asks_next(tab, shown, session):
    links = [QueryParams(href.replace("&amp;", "&")) for href in re.findall(r'href="\?([^"]+)"', shown[tab.case.about])]
    why, compare, visualize = links  # a drawn picture is none of the page's examples
    said = session.case.said
    asked = reasons_address.read(why).wish
    assert (asked.models, asked.of, asked.against) == (("demo:shortcut",), str(said.predicted), str(said.true))
    assert (asked.source, asked.item) == (session.search.question.source, said.item.id)
    assert (compare["tab"], compare["view"], compare["model"]) == ("gallery", "compare", "demo:shortcut")
    assert compare.getlist("class") == [said.true_name, said.predicted_name]
    assert (visualize["tab"], visualize["model"]) == ("features", "demo:shortcut")
    assert visualize["unit"] == f"class/{said.predicted}"


def test_for_a_model_that_is_right_the_contrast_is_against_the_others_mistake(session):
    shortcut, resnet = session.case.readings
    assert (resnet.wrong, resnet.true) == (shortcut.wrong, shortcut.true)
    assert resnet.names == shortcut.names


def test_assumed_names_are_told_below_what_a_network_says(tab, explained, shown, monkeypatch):
    monkeypatch.setattr(get_model("demo:shortcut"), "names_note", "The class names are assumed.")
    session = Session(search=explained[0].search)
    maps = work(tab, session, session.ask(ASKED))[tab.case.maps]
    assert maps.count("assumed") == 1 and "assumed" in maps.split('class="lsd-m-reading"')[1]
    assert "assumed" not in shown[tab.case.maps]


@pytest.mark.parametrize("scale", ["model", "all", "rank"])
def test_one_unit_serves_the_maps_that_share_a_scale(session, scale):
    finished = views._finished(session.case, scale)
    for maps in finished:
        assert set(maps) == set(MAPS)
        assert maps["predicted"].min() >= 0 and maps["contrast"].min() < 0
    if scale == "rank":
        return
    units = []
    for reading, maps in zip(session.case.readings, finished, strict=True):
        for name in MAPS:
            strongest = np.abs(reading.values[name].sum(axis=0))
            inside = (np.abs(maps[name]) > 0) & (np.abs(maps[name]) < 1)
            units.append(np.median(strongest[inside] / np.abs(maps[name])[inside]))
    assert np.allclose(units[:3], units[0], rtol=1e-4)
    assert np.allclose(units[3:], units[0], rtol=1e-4) == (scale == "all")


def test_drawing_anew_runs_no_model(tab, session, shown, monkeypatch):
    monkeypatch.setattr("lsd.ui.mistakes.explain.get_model", None)
    update = tab._draw(values(tab, session, scale="rank", overlay="map"))
    assert "rank" in update[tab.case.legend] and "scale=rank&overlay=map" in update[tab.address]
    assert update[tab.case.maps].count("<figure") == shown[tab.case.maps].count("<figure")


def test_the_probe_flips_by_the_map_and_not_at_random(tab, shown, session):
    said = session.case.said.predicted_name
    verdict = text(shown[tab.probe.verdict])
    assert f"Removing the 2% most salient pixels turns the answer from {said} to" in verdict
    assert f"removing 2% random pixels leaves it {said}" in verdict
    curve = session.case.curves["demo:shortcut", "contrast", "mean"]
    assert curve.flip_fraction <= 0.02 < curve.controls["random pixels"].flip_fraction
    plot = probe_plot(curve, ("<one>", "other"), 0.02)
    assert plot.count("<svg") == 2 and "&lt;one&gt;" in plot and "the answer changes" in plot


def test_moving_the_slider_computes_no_new_curve(tab, session, monkeypatch):
    monkeypatch.setattr("lsd.ui.mistakes.probe.probe", None)
    update = probed(tab, session, share=0.0)
    assert "Nothing is removed yet" in update[tab.probe.verdict]
    assert "0% of its pixels removed" in update[tab.probe.pictures] and "<svg" in update[tab.probe.plot]


def test_another_map_and_another_fill_are_curves_of_their_own(tab, session):
    update = probed(tab, session, which="predicted", fill="blur")
    assert "lsd-error" not in update[tab.probe.verdict]
    assert ("demo:shortcut", "predicted", "blur") in session.case.curves


def test_what_the_probe_shows_is_not_asked_again(tab, session):
    assert probed(tab, session, share=3.0)
    assert probed(tab, session, share=3.0) == {}


def test_a_method_that_one_model_lacks_leaves_the_others(tab):
    view = View(Question(SET, 32, ("demo:shortcut", "demo:vit")), look=Look("guided_backprop"))
    session, shown = worked(tab, view)
    assert [r.model for r in session.case.readings] == ["demo:shortcut"]
    assert "demo:vit" in shown[tab.case.progress] and "lsd-error" in shown[tab.case.progress]
    assert shown[tab.probe.model]["choices"] == [("Demo tag reader", "demo:shortcut")]


@pytest.mark.parametrize(
    ("source", "models", "sentence"),
    [
        ("/no/such/folder", MODELS, "There are no pictures called"),
        (SET, ("demo:resnet",) * 5, "at most 4"),
        (SET, ("no_such_model",), "There is no model called"),
    ],
)
def test_a_bad_request_gives_one_sentence(tab, source, models, sentence):
    _, shown = worked(tab, View(Question(source, 32, models)))
    assert sentence in shown[tab.status] and 'role="alert"' in shown[tab.status]
    assert shown[tab.details] == gr.update(visible=False)


def test_no_set_and_no_model_mean_those_that_the_tab_opens_with(tab):
    session = Session(view=ASKED)
    tab._ask(values(tab, session) | {tab.form.source: "", tab.form.models: []})
    assert session.view.question == Question(number=32)
    with pytest.raises(ValueError, match="No pictures are chosen"):
        open_source("", 32)


def test_a_picture_that_cannot_be_read_is_told_and_left_out(tab, tmp_path):
    for name in ("plain circle", "plain star"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (96, 96), "red").save(tmp_path / name / "good.png")
    (tmp_path / "plain star" / "bad.png").write_bytes(b"not a picture")
    session, shown = worked(tab, View(Question(str(tmp_path), 32, ("demo:shortcut",)), look=GRADIENT))
    assert len(session.search.result.items) == 2
    assert "Not readable, and left out: 1; the first: 'plain star/bad.png'" in shown[tab.status].replace("&#x27;", "'")


@pytest.mark.parametrize("source", ["/etc", "..", "hf:/etc", "hf:..", "hf:lsd", "hf:../x", "~"])
def test_on_a_public_space_no_folder_of_the_machine_opens(monkeypatch, tmp_path, source):
    (tmp_path / "lsd").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPACE_ID", "someone/lsd")
    with pytest.raises(ValueError, match="opens the sets of its list"):
        open_source(source, 32)
    assert len(open_source(SET, 32)) == 32


def test_closing_the_generator_stops_the_scan(tab, monkeypatch):
    seen = []

    def scan(models, pictures):
        try:
            for done in range(0, len(pictures), 16):
                yield ScanProgress(done, len(pictures))
        finally:
            seen.append("closed")

    monkeypatch.setattr(mistake_search, "scan", scan)
    session = Session()
    steps = tab._search(session, session.ask(replace(ASKED, question=Question(SET, 1024, MODELS))))
    next(steps), next(steps)
    steps.close()
    assert seen == ["closed"]


def test_a_model_that_cannot_take_part_leaves_the_others(tab):
    session, shown = worked(tab, View(Question(SET, 32, ("no_such_model", "demo:shortcut")), look=GRADIENT))
    assert session.search.result.models == ("demo:shortcut",) and session.case
    assert "There is no model called" in shown[tab.status] and "wrong about" in shown[tab.status]
    assert 'role="alert"' in shown[tab.status]


def test_a_scan_that_is_stopped_leaves_what_it_has_found_and_is_no_answer(tab):
    view = View(Question(SET, 64, ("demo:shortcut",)))
    session = Session()
    steps = tab._search(session, session.ask(view))
    next(step for step in steps if session.scanning and session.scanning.result)
    left = tab._stop({tab.session: session})
    assert list(steps) == []
    assert "Stopped after 16 pictures" in left[tab.status] and "data-picture" in left[tab.browser.list]
    assert len(session.search.result.items) == 16 and session.scanning is None and not session.found
    assert "Stopped." in tab._stop({tab.session: session})[tab.status]


def test_a_scan_that_fails_leaves_what_it_has_found(tab, monkeypatch):
    def failing(models, pictures):
        for step in mistakes.scan(models, pictures):
            yield step
            if step.done == 32:
                raise MemoryError

    monkeypatch.setattr(mistake_search, "scan", failing)
    session = Session()
    last = list(tab._search(session, session.ask(View(Question(SET, 64, ("demo:shortcut",))))))[-1]
    assert "not enough memory" in last[tab.status] and len(session.search.result.items) == 32
    assert "data-picture" in last[tab.browser.list]


def test_the_slider_shows_its_pictures_while_the_model_is_at_work(tab, session):
    model, looked = get_model("demo:shortcut"), []
    held = threading.Event()

    def busy():
        with jobs.turn(), model.lock:
            held.set()
            done.wait(60)

    done = threading.Event()
    threading.Thread(target=busy, daemon=True).start()
    held.wait(60)
    given_values = values(tab, session, share=5, model="demo:shortcut")
    look = threading.Thread(target=lambda: looked.append(tab._remove(given_values)), daemon=True)
    look.start()
    look.join(30)
    asked = tab.probe.ask(session)
    done.set()
    assert "Asking Demo tag reader" in looked[0][tab.probe.verdict] and "share=5" in looked[0][tab.address]
    assert "5% of its pixels removed" in looked[0][tab.probe.pictures]
    assert "Removing the 5% most" in text(joined(asked)[tab.probe.verdict])


def test_what_the_visitor_does_not_ask_any_more_is_not_shown(tab, session, monkeypatch):
    answers = views.answers

    def slow(*arguments):
        session.view = ASKED
        return answers(*arguments)

    monkeypatch.setattr(views, "answers", slow)
    assert tab.probe.verdict not in probed(tab, session, share=5.0)


# The visitor's own picture


@pytest.fixture
def star(tmp_path):
    """A picture that the demo models know."""
    path = tmp_path / "star.png"
    open_source("demo", 16)[0].picture().save(path)
    return str(path)


def own(label, models=("demo:resnet",)):
    return View(Question(YOURS, models=models, label=label), look=GRADIENT)


def test_a_picture_of_the_visitor_that_a_model_gets_wrong_is_explained(tab, star):
    session, shown = worked(tab, own("plain star"), path=star)
    assert "Demo ResNet is wrong about your picture." in shown[tab.status]
    assert shown[tab.browser.column] == gr.update(visible=False)
    assert shown[tab.case.title].endswith("It is plain star.</h3>") and shown[tab.case.maps].count("<figure") == 3
    assert "Removing the 2%" in text(shown[tab.probe.verdict])
    assert "Explain this picture in Saliency" in shown[tab.case.about]
    assert session.found


def test_a_picture_of_the_visitor_that_a_model_gets_right_is_told_with_its_runner_up(tab, star):
    session, shown = worked(tab, own("plain circle"), path=star)
    assert "Demo ResNet is right about your picture: plain circle." in shown[tab.status]
    assert "the maps show the runner-up" in shown[tab.status]
    (reading,) = session.case.readings
    assert (reading.true, reading.wrong) == tuple(index for index, *_ in reading.top[:2])
    assert "its runner-up" in shown[tab.case.maps] and "and is right" in shown[tab.case.title]
    assert "Visualize the runner-up" in shown[tab.case.about]
    assert "Removing the 2%" in text(shown[tab.probe.verdict])


def test_an_own_picture_needs_a_picture_and_a_class(tab, star):
    assert "There is no picture of yours" in worked(tab, own("plain star"))[1][tab.status]
    assert "Say what your picture shows" in worked(tab, own(""), path=star)[1][tab.status]
    assert "unicorn" in worked(tab, own("unicorn"), path=star)[1][tab.status]


def test_the_address_of_an_own_picture_opens_the_form_and_shows_it_again_where_it_is(tab, star):
    query = write(own("plain star"))
    _, shown = opened(tab, query)
    assert shown[tab.form.yours]["visible"] is True and not shown[tab.form.number]["interactive"]
    assert "Upload a picture" in shown[tab.status] and "lsd-error" not in shown[tab.status]
    _, shown = opened(tab, query, picture=star)
    assert "wrong about your picture" in shown[tab.status]


def test_another_picture_of_the_visitor_is_scanned(tab, star, tmp_path):
    session, _ = worked(tab, own("plain star"), path=star)
    other = tmp_path / "other.png"
    Image.new("RGB", (64, 64), "navy").save(other)
    session.path = str(other)
    assert not session.found


# The controls


def test_another_kind_of_set_suggests_models_that_know_it(monkeypatch):
    monkeypatch.setattr(controls, "default_models", lambda: ["resnet18.a1_in1k", "vit_tiny"])
    assert better_models("example-photos", list(MODELS)) == ["resnet18.a1_in1k", "vit_tiny"]
    assert better_models("demo", ["resnet18.a1_in1k"])[:2] == list(MODELS)
    assert better_models(YOURS, list(MODELS)) == []
    monkeypatch.setattr(controls, "default_models", lambda: list(MODELS))  # nothing else is ready
    assert better_models("demo", list(MODELS)) == better_models("example-photos", list(MODELS)) == []


# The quiz


@pytest.fixture
def puzzled(tab, session, monkeypatch):
    """The session with the quiz on, and squares for the mistake that is explained and for the last of the list: B did it."""
    listed = mistake_filters.find(session.search.result, session.view.filters)
    known = {(p.item.id, p.model): p for p in (session.case.said, listed[-1])}
    after = Answer(3, 0.6, 0.1)
    squares = [Square((k / 3, 0.2, (k + 1) / 3, 0.5), drop, after) for k, drop in enumerate((0.1, 2.5, -0.3))]

    def evidence(item, model):
        p = known.get((item.id, model))
        return p and Evidence(
            "crop", Answer(p.predicted, p.probability, p.true_probability), after, squares=tuple(squares)
        )

    monkeypatch.setattr(DemoItem, "evidence", evidence)
    session.guesses = {}
    return session, tab._quiz({tab.session: session, tab.quiz.on: True}), listed[-1]


def guessed(tab, session, told):
    return tab._guess({tab.session: session}, gr.EventData(None, told))


def test_the_quiz_shows_squares_and_hides_the_maps(tab, puzzled):
    session, updates, _ = puzzled
    assert updates[tab.quiz.puzzle].count("<button") == 3 and "quiz=on" in updates[tab.address]
    assert "B painted over" not in text(updates[tab.quiz.puzzle])
    off = tab._quiz({tab.session: session, tab.quiz.on: False})
    assert off[tab.quiz.puzzle] == "" and "quiz" not in off[tab.address]


def test_the_list_tells_the_cause_of_what_is_guessed_already_and_of_all_without_the_quiz(tab, puzzled):
    session, updates, _ = puzzled
    page = mistake_filters.find(session.search.result, session.view.filters)[:PAGE]
    causes = sum(p.evidence is not None for p in page)
    assert causes >= 1 and "fooled by the crop" not in updates[tab.browser.list]
    assert updates[tab.browser.list].count("data-picture") == len(page)
    assert guessed(tab, session, {"guess": 0})[tab.browser.list].count("fooled by the crop") == 1
    off = tab._quiz({tab.session: session, tab.quiz.on: False})
    assert off[tab.browser.list].count("fooled by the crop") == causes


@pytest.mark.parametrize(
    ("guess", "verdict", "score"), [(1, "Right: it was B.", "1 of 1"), (0, "No, not A: it was B.", "0 of 1")]
)
def test_a_guess_is_told_and_counted_once_and_shows_the_maps(tab, puzzled, guess, verdict, score):
    session, _, other = puzzled
    for told in ({"guess": guess}, {"guess": 1 - guess}):
        updates = guessed(tab, session, told)
        words = " ".join(text(updates[tab.quiz.puzzle]).split())
        assert verdict in words and f"{score} guessed right" in words and "B painted over" in words
        assert "data-guess" not in updates[tab.quiz.puzzle]  # by which the maps are hidden
    assert f'data-picture="{other.item.id}"' in updates[tab.quiz.puzzle]


@pytest.mark.parametrize("told", [None, {}, {"guess": 3}, {"guess": -1}, {"guess": "0"}, {"guess": None}])
def test_what_is_no_guess_counts_for_nothing(tab, puzzled, told):
    session, _, _ = puzzled
    assert guessed(tab, session, told)[tab.quiz.puzzle].count("<button") == 3
    assert session.guesses == {}


def test_after_the_last_the_quiz_says_so_and_the_score_stays(tab, puzzled):
    session, _, other = puzzled
    guessed(tab, session, {"guess": 1})
    session.guesses[other.item.id, other.model] = 0
    words = text(tab.quiz.show(session)[tab.quiz.puzzle])
    assert "1 of 2 guessed right" in words and texts.ALL_GUESSED in words


def test_the_next_puzzle_hides_the_maps_again_and_asks_for_no_scan(tab, puzzled, monkeypatch):
    session, _, other = puzzled
    guessed(tab, session, {"guess": 1})
    monkeypatch.setattr(mistake_search, "scan", None)
    event = gr.EventData(None, {"picture": other.item.id, "by": other.model})
    updates = tab._pick({tab.session: session}, event)
    shown = work(tab, session, updates[tab.asked])
    assert shown[tab.quiz.puzzle].count("data-guess") == 3
    assert session.case.said.item.id == other.item.id and "quiz=on" in updates[tab.address]


def test_causes_can_be_filtered_and_are_told_in_the_list(tab, puzzled):
    session, _, other = puzzled
    result = session.search.result
    assert ("the crop (2)", "crop") in mistake_filters.choices(result, Filters())["cause"]
    found = mistake_filters.find(result, Filters(cause="crop"))
    assert {p.item.id for p in found} == {session.case.said.item.id, other.item.id}
    assert "fooled by the crop" in texts.caption(found[0], with_model=True)


def test_a_debatable_label_is_not_what_one_sees_first(session, monkeypatch):
    session.view = replace(session.view, picture="", by="", filters=Filters())
    first, second = mistake_filters.find(session.search.result, session.view.filters)[:2]
    debated = Evidence("label", Answer(first.predicted, first.probability, first.true_probability))
    is_first = lambda item, model: (item.id, model) == (first.item.id, first.model)  # noqa: E731
    monkeypatch.setattr(DemoItem, "evidence", lambda *of: debated if is_first(*of) else None)
    assert session.choice == session.search.choice(second.item.id, second.model)
    session.view = replace(session.view, filters=Filters(cause="label"))
    assert session.choice == session.search.choice(first.item.id, first.model)  # where there is nothing else


def test_a_mistake_without_squares_has_nothing_to_guess(tab, session):
    updates = tab._quiz({tab.session: session, tab.quiz.on: True})
    assert texts.NO_SQUARES in updates[tab.quiz.puzzle] and "data-guess" not in updates[tab.quiz.puzzle]


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (("label", None, "domestic cat"), "“lynx” and “tabby” are both kinds of domestic cat"),
        (("label", None, ""), "“lynx” names the same thing"),
        (
            ("second", Answer(281, 0.6, 0.6), "palace", 0.5, 0.1),
            "the palace, 10% of the picture, has 50% of the map for lynx; with",
        ),
        (("context", Answer(281, 0.6, 0.6)), "in place of all but the cat, the answer is tabby (60%)"),
        (("texture", Answer(281, 0.6, 0.6)), "the fine detail of the cat is that of “Grass”"),
        (("crop", Answer(281, 0.6, 0.6)), "about the whole photo the answer is tabby (60%)"),
        (("turn", Answer(281, 0.6, 0.6)), "upright, the answer is tabby"),
        (("cover", Answer(281, 0.6, 0.6)), "without the grey box the answer is tabby"),
    ],
)
def test_what_fooled_a_model_is_said_with_its_measurement(evidence, words):
    cause, *rest = evidence
    names = class_names(1000)
    recipe = Recipe("Summer Palace", "cat", Paste("cat", 200, 0, 0), Detail("Grass", 4.0))
    found = Evidence(cause, Answer(287, 0.5, 0.1), *rest)
    item = ComposedItem("a", Label(names[281], synsets(1000)[281], 281, names), recipe, {"m": found}, {})
    p = Prediction("m", item, 281, "tabby", 287, "lynx", 0.5, 0.1, 1)
    assert text(texts.cause_sentence(p)).startswith(f"Fooled by {CAUSES[cause]}: ") and words in text(
        texts.cause_sentence(p)
    )
    assert texts.cause_sentence(replace(p, predicted=288)) == ""  # it says something else now


def test_names_are_escaped():
    table = top_table([(3, "<img src=x>", 0.5)], "tabby")
    assert "<img" not in table and "&lt;img" in table
