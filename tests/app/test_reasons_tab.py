"""The Reasons tab's handlers, called as Gradio calls them."""

import asyncio
import io
import json
import re
import threading
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import torch
from hypothesis import given as given_any
from hypothesis import strategies as st
from PIL import Image
from starlette.datastructures import QueryParams

from lsd import cli
from lsd.errors import LSDError
from lsd.evaluation.labelled import open_set
from lsd.features.judge import Verdict
from lsd.images import open_image
from lsd.models import get_model
from lsd.reasons.explain import find_reasons, flips, switched, together
from lsd.reasons.switch import means
from lsd.recent import Recent
from lsd.saliency.explain import TargetSpec, to_input
from lsd.ui.reasons import address, html
from lsd.ui.reasons import run as reasons_run
from lsd.ui.reasons.request import CHANNELS, GROUPS, Request, Wish
from lsd.ui.reasons.session import Session
from lsd.ui.reasons.tab import ReasonsTab
from lsd.ui.shared import jobs, log, reasoned, unit_pictures
from lsd.ui.shared.examples import drawn, examples
from lsd.ui.shared.long_event import long_event
from lsd.ui.shared.reason_words import decided, lasting
from lsd.ui.shared.reasoned import MEAN, OTHERS, ZERO, Account, Question, decision

DRAWN = drawn()[0]
PICTURE = str(examples()[DRAWN])


@pytest.fixture(scope="module")
def tab():
    with gr.Blocks():
        return ReasonsTab()


@pytest.fixture(autouse=True)
def quick_pictures(monkeypatch):
    """Two steps are enough to see that there is one."""
    monkeypatch.setattr(unit_pictures, "OF_UNITS", replace(unit_pictures.OF_UNITS, steps=2))
    monkeypatch.setattr(unit_pictures.draw, "__defaults__", (unit_pictures.OF_UNITS,))


@pytest.fixture
def nothing_answered(monkeypatch):
    monkeypatch.setattr(reasoned, "_kept", Recent(reasoned.MAX_BYTES, reasoned._size))
    monkeypatch.setattr(unit_pictures, "_kept", Recent(2**20, len))


@pytest.fixture(scope="module")
def account() -> Account:
    return account_of("demo:resnet")


def account_of(model, of="", against="", layer="", fill=ZERO, path=PICTURE) -> Account:
    question = Question(path, decision(of, against), layer, fill)
    return reasoned.reasoned(get_model(model), open_image(path), question)


def given(tab, session=None, *, picture=PICTURE, view=GROUPS, doubts=(), origin=None, **changes):
    """The values of the tab's inputs: a drawn picture and one demo model, where nothing else is said."""
    asked = {"models": ["demo:resnet"], "of": "", "against": "", "layer": "", "fill": ZERO} | changes
    assert set(asked) == set(tab.asking)
    found = {control: asked[name] for name, control in tab.asking.items()}
    return found | {
        tab.session: Session() if session is None else session, tab.picture: picture, tab.view: view, tab.doubts: doubts,
        tab.origin: origin, tab.mine: None,
    }  # fmt: skip


def ask(tab, session=None, **changes):
    """All updates of a run, and what is on the page in the end."""
    updates = list(tab._find(given(tab, session, **changes)))
    return updates, page_after(updates)


def page_after(updates):
    return {control: value for update in updates for control, value in update.items()}


def event(**data):
    return gr.EventData(None, data)


def switch(tab, session, *names, off=True, place=0):
    """A visitor's switch, and what the network then says."""
    first = tab._switch({tab.session: session}, event(place=place, names=list(names), off=off))
    return [first, *tab._try({tab.session: session})]


def rows_of(text):
    return re.findall(r'<li class="lsd-r-row[^"]*" data-place="\d" data-name="([^"]*)"', text)


def test_it_shows_the_reasons_of_the_decision(tab):
    session = Session()
    _, shown = ask(tab, session)
    found = find_reasons(get_model("demo:resnet"), to_input(get_model("demo:resnet"), open_image(PICTURE)))
    account = session.run.accounts[0]
    assert [thing.reason.share for thing in account.groups] == pytest.approx([r.share for r in found.groups], rel=1e-4)
    assert rows_of(shown[tab.panels[0].rows]) == [f"g{i + 1}" for i in range(len(found.groups))]
    assert f"{DRAWN.capitalize()} rather than" in re.sub("<[^>]*>", "", shown[tab.panels[0].said]).capitalize()
    assert f"{found.groups[0].part:.0%}" in shown[tab.panels[0].said]
    assert "Done." in shown[tab.status] and "lsd-r-photo" in shown[tab.stage]
    assert shown[tab.asking["layer"]]["choices"][1:] and found.layer in dict(shown[tab.asking["layer"]]["choices"])


def test_channels_are_the_other_view_and_what_speaks_against_comes_second(tab):
    session = Session()
    ask(tab, session)
    shown = tab._look({tab.session: session, tab.view: CHANNELS})
    account = session.run.accounts[0]
    text = shown[tab.panels[0].rows]
    assert rows_of(text) == [thing.name for thing in (*account.channels, *account.against)]
    assert text.index("What speaks against it") > text.index(f'data-name="{account.channels[-1].name}"')
    assert 1 <= len(account.against) <= reasoned.OPPOSED
    assert all(thing.reason.share < 0 for thing in account.against)


def test_what_is_switched_off_is_gone_and_as_much_at_random_stands_beside(tab):
    session = Session()
    ask(tab, session)
    model, account = get_model("demo:resnet"), session.run.accounts[0]
    updates = switch(tab, session, "g1", "g2")
    assert "Asking the network" in updates[0][tab.panels[0].answers]
    off = together([account.groups[0].reason.off, account.groups[1].reason.off])
    (trial,) = switched(model, to_input(model, open_image(PICTURE)), account.reasons, [off])
    switching = session.run.switchings[0]
    torch.testing.assert_close(switching.trial.logits, trial.logits)
    assert len(switching.random) == 8 and len({float(t.score) for t in switching.random}) > 1
    shown = page_after(updates)
    p = trial.logits.softmax(0)[account.reasons.target.index]
    assert f"{float(p):.1%}" in shown[tab.panels[0].answers] and "2 off" in shown[tab.panels[0].answers]
    assert shown[tab.panels[0].rows].count('aria-checked="false"') == 2
    assert session.off == ((0, "g1"), (0, "g2"))
    again = page_after(switch(tab, session, off=False))
    assert session.off == () and "Switch a reason off" in again[tab.panels[0].answers]
    assert 'aria-checked="false"' not in again[tab.panels[0].rows]


@pytest.mark.parametrize(
    "data",
    [{}, {"place": 9, "names": ["g1"]}, {"place": [], "names": ["g1"]}, {"place": 0}, {"place": 0, "names": "g1"}],
)
def test_a_switch_of_nothing_changes_nothing(tab, data):
    session = Session()
    ask(tab, session)
    tab._switch({tab.session: session}, event(**data, off=True))
    tab._switch({tab.session: session}, event(place=0, names=["g99", 3, "999999", ""], off=True))
    assert session.off == ()
    tab._switch({tab.session: Session()}, event(place=0, names=["g1"], off=True))


def test_the_download_is_what_the_command_line_makes_again_bit_for_bit(tab, tmp_path, capsys):
    session = Session()
    ask(tab, session, models=["demo:resnet", "demo:convnext"])
    list(tab._draw({tab.session: session}))
    for update in tab._pack({tab.session: session}):
        packed = update.get(tab.file) or None
        if packed:
            zipfile.ZipFile(packed).extractall(tmp_path)
    assert {"report.html", "numbers.npz", "manifest.json"} < {path.name for path in tmp_path.iterdir()}
    record = json.loads((tmp_path / "manifest.json").read_text())
    assert record["request"]["target"] == {"kind": "contrast", "of": "top1", "against": "top2"}
    assert len(record["results"]) == 2 and record["matched"]["nodes"]
    assert all("picture" in group for result in record["results"] for group in result["groups"])
    assert cli.main(["reasons", "--from", str(tmp_path / "manifest.json")]) == 0
    assert capsys.readouterr().out.count("identical, bit for bit") == 2


def test_a_question_is_written_as_the_command_line_has_it_or_the_download_says_why_not(tab):
    session = Session()
    ask(tab, session, of="striped square", against=OTHERS)
    record = json.loads(tab._files(session.run)["manifest.json"])
    assert record["request"]["target"] == {"kind": "log_odds", "of": "striped square", "against": None}
    ask(tab, session, of="striped square")
    record = json.loads(tab._files(session.run)["manifest.json"])
    target = session.run.accounts[0].reasons.target
    assert record["request"]["target"] == {"kind": "contrast", "of": target.index, "against": target.against}
    ask(tab, session, fill=MEAN)
    with pytest.raises(LSDError, match="set “Switched off means” to zero"):
        tab._files(session.run)
    with pytest.raises(LSDError, match="nothing to download"):
        tab._files(None)


def test_the_first_that_flip_the_decision_are_named(account):
    for view, so_far in ((GROUPS, account.tried.groups_so_far), (CHANNELS, account.tried.channels_so_far)):
        first = flips(so_far)
        words = lasting(account, view)
        if first is None:
            assert f"All {len(so_far)} {view} off, it still says {DRAWN}." in words
        else:
            assert f"{first} {view} off" in words and account.class_names[so_far[first - 1].first] in words
    assert "at random change that in 0 of 8" in lasting(account, CHANNELS)


def test_the_sentence_says_how_much_is_told(account):
    words = str(decided(account))
    assert words.startswith(f"{DRAWN} rather than plain square: group 1 ({account.groups[0].reason.part:.0%})")
    together_ = sum(thing.reason.part for thing in account.groups[:3])
    assert words.endswith(f"and {1 - together_:.0%} in others of {account.reasons.layer}.")
    assert "perhaps “volcano”" in str(decided(account, CHANNELS, {account.channels[0].reason.unit: "volcano"}))


def test_where_no_share_is_positive_that_is_said(tab, account):
    none = replace(account, groups=(), channels=(), reasons=replace(account.reasons, groups=(), channels=()))
    for view in (GROUPS, CHANNELS):
        assert f"nothing in {account.reasons.layer} speaks for it" in str(decided(none, view))
        run = SimpleNamespace(accounts={0: none}, view=view, off={}, pictures={}, forming={}, extra=lambda place: [])
        run.is_off, run.names = lambda place, name: False, lambda place: {}
        assert "speaks for it" in html.said(run, 0)
        assert "nothing to list" in html.rows(run, 0, "")


def test_a_reason_whose_absence_changes_nothing_is_marked(account):
    thing = account.channels[0]
    little = replace(thing.alone, score=account.before - 0.05 * thing.reason.share, changed=False)
    idle = replace(thing, alone=little)
    assert "nothing changes" in html._alone(account, idle) and "Off alone" in html._alone(account, thing)


def test_a_map_is_read_from_its_picture():
    values = np.array([[0.5, -1.0], [0.0, 0.25]], dtype=np.float32)
    pixels = np.asarray(Image.open(io.BytesIO(html.map_png(values))))
    assert pixels[..., 3].tolist() == [[128, 255], [0, 64]]
    assert tuple(pixels[0, 0, :3]) == html.FOR and tuple(pixels[0, 1, :3]) == html.AGAINST


def test_a_class_is_held_against_another_or_the_one_beside_it_or_all(account):
    model = get_model("demo:resnet")
    ranking = [3, 5, 1]
    ask_ = lambda *texts: decision(*texts).resolve(model, ranking)  # noqa: E731
    assert (ask_().index, ask_().against) == (3, 5)
    assert (ask_("5").index, ask_("5").against) == (5, 3)
    assert (ask_("1", "5").index, ask_("1", "5").against) == (1, 5)
    assert (ask_("", OTHERS).kind, ask_("", OTHERS).index) == ("log_odds", 3)
    with pytest.raises(LSDError, match="two different"):
        ask_("1", "1")
    told = model.outputs
    try:
        model.outputs = "sigmoid"
        assert ask_().kind == "log_odds"
    finally:
        model.outputs = told
    assert decided(account).decision == f"{DRAWN} rather than plain square"


def test_off_may_mean_the_mean_over_the_examples(account):
    model = get_model("demo:resnet")
    mean = account_of("demo:resnet", fill=MEAN)
    assert [t.name for t in mean.channels] == [t.name for t in account.channels]
    images = torch.cat([to_input(model, open_image(path)) for path in examples().values()])
    fill = means(model, images, account.reasons.shares.layer)
    image = to_input(model, open_image(PICTURE))
    (trial,) = switched(model, image, account.reasons, [mean.channels[0].reason.off], fill=fill)
    torch.testing.assert_close(mean.channels[0].alone.logits, trial.logits)
    assert mean.channels[0].alone.score != account.channels[0].alone.score


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"picture": None}, "no picture"),
        ({"models": []}, "No model is chosen"),
        ({"models": ["demo:resnet"] * 5}, "at most 4"),
        ({"models": ["<img src=x onerror=alert(1)>"]}, "There is no model called"),
        ({"of": "zebra crossing"}, "No class of this model"),
        ({"of": "99"}, "out of range"),
        ({"of": "1", "against": "1"}, "two different classes"),
        ({"layer": "nowhere"}, "has no layer"),
        ({"layer": "<b>"}, "has no layer"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(tab, changes, words):
    _, shown = ask(tab, **changes)
    said = " ".join(str(shown.get(part, "")) for part in (tab.status, tab.panels[0].said))
    assert words in said and "lsd-error" in shown[tab.status]
    assert "<img src=x" not in said and "<b>;" not in said


def test_one_model_that_fails_leaves_the_others(tab):
    session = Session()
    _, shown = ask(tab, session, models=["demo:vit", "demo:resnet"], layer="layer3")
    assert "has no layer" in shown[tab.panels[0].said] and rows_of(shown[tab.panels[1].rows])
    assert "1 of 2 models" in shown[tab.status]
    assert all(not word for word in (shown[tab.panels[0].rows], shown[tab.panels[0].answers]))


def test_pictures_come_after_the_rows_and_are_kept(tab, nothing_answered):
    session = Session()
    _, shown = ask(tab, session)
    assert 'class="lsd-r-none lsd-r-coming"' in shown[tab.panels[0].rows]
    updates = list(tab._draw({tab.session: session}))
    drawn_ = page_after(updates)[tab.panels[0].rows]
    count = len(session.run.accounts[0].groups)
    assert "lsd-r-coming" not in drawn_ and drawn_.count('<img src="gradio_api/file=') == 2 * count
    assert [update[tab.panels[0].rows].count("lsd-r-coming") for update in updates[:2]] != [0, 0]
    again = Session()
    assert "lsd-r-coming" not in ask(tab, again)[1][tab.panels[0].rows]  # the next visitor has them at once


def test_what_was_drawn_for_somebody_else_meanwhile_is_not_drawn_again(tab, nothing_answered, monkeypatch):
    first, second = Session(), Session()
    ask(tab, first), ask(tab, second)
    list(tab._draw({tab.session: first}))
    monkeypatch.setattr(unit_pictures, "draw", lambda *a, **k: pytest.fail("drawn"))
    updates = [update for update, _ in zip(tab._draw({tab.session: second}), range(9), strict=False)]
    assert "lsd-r-coming" not in page_after(updates)[tab.panels[0].rows]


def test_pictures_of_the_gallery_are_not_drawn(tab, nothing_answered, monkeypatch):
    asked = []

    def find(model, units):
        asked.append(model.name)
        return {unit: f"gallery-picture?u={place}" for place, unit in enumerate(units)}

    with gr.Blocks():
        tab = ReasonsTab(find)
    monkeypatch.setattr(unit_pictures, "draw", lambda *a, **k: pytest.fail("drawn"))
    session = Session()
    _, shown = ask(tab, session)
    assert asked == ["demo:resnet"] and 'src="gallery-picture?u=0"' in shown[tab.panels[0].rows]
    list(tab._draw({tab.session: session}))


def test_a_picture_that_cannot_be_drawn_is_told_and_the_rows_stay(tab, nothing_answered, monkeypatch):
    def fails(*arguments):
        raise LSDError("There is no memory.")
        yield

    monkeypatch.setattr(unit_pictures, "draw", fails)
    session = Session()
    ask(tab, session)
    shown = page_after(tab._draw({tab.session: session}))
    assert "There is no memory." in shown[tab.status] and "no picture" in shown[tab.panels[0].rows]


def test_stop_leaves_what_there_is(tab, nothing_answered, monkeypatch):
    monkeypatch.setattr(Request, "is_answered", False)
    session = Session()
    steps = tab._find(given(tab, session, models=["demo:resnet", "demo:vit"]))
    next(step for step in steps if session.run and session.run.accounts)
    steps.close()
    shown = tab._stopped({tab.session: session})
    assert rows_of(shown[tab.panels[0].rows]) and "Stopped before" in shown[tab.panels[1].said]
    assert "lsd-r-coming" not in shown[tab.panels[0].rows]


def test_it_is_a_job_that_leaving_ends(tab, nothing_answered, monkeypatch):
    kinds = []
    monkeypatch.setattr(log.Account, "close", lambda account, stopped=False: kinds.append((account.kind, stopped)))

    async def leave():
        steps = long_event(tab._find, tab.status, "reasons")(given(tab, models=["demo:resnet", "demo:vit"]))
        async for update in steps:
            if tab.stage in update:
                break
        await steps.aclose()

    asyncio.run(leave())
    model = get_model("demo:resnet")
    assert model.lock.acquire(timeout=5)
    model.lock.release()
    for _ in range(100):
        if kinds:
            break
        asyncio.run(asyncio.sleep(0.1))
    assert kinds == [("reasons", True)]


def test_what_is_answered_waits_for_nobody(tab):
    ask(tab)
    seen = []
    with jobs.turn():  # somebody else has the place
        visitor = threading.Thread(target=lambda: seen.append(ask(tab)[1]), daemon=True)
        visitor.start()
        visitor.join(60)
        assert not Request(examples()[DRAWN], ("demo:vit",), "13", "", "", ZERO).is_answered
        assert Request(examples()[DRAWN], ("demo:resnet",), "", "", "", ZERO).is_answered
    assert "Done." in seen[0][tab.status]


def test_the_first_view_is_there_before_anybody_comes(tab, nothing_answered, monkeypatch):
    monkeypatch.setattr(reasons_run, "Wish", lambda: Wish(("demo:resnet",)))
    reasons_run.ask_first(lambda model, units: {})
    run = reasons_run.begun(reasons_run.request_of(Wish(("demo:resnet",)), examples()[DRAWN]))
    assert run.request.is_answered
    _, shown = ask(tab)
    assert "lsd-r-coming" not in shown[tab.panels[0].rows]


def test_asking_anew_gives_up_what_is_under_way():
    with gr.Blocks() as page:
        tab = ReasonsTab()
    events = list(page.fns.values())
    running = {e._id for e in events if tab.session in e.inputs and tab.status in e.outputs and e.queue is not False}
    running -= {e._id for e in events if tab.file in e.outputs}  # a download goes on
    assert len(running) == 4
    for component, name, cancelled in (
        (tab.run, "click", 4), (tab.picture, "upload", 4), (tab.gallery, "select", 4), (tab.stop, "click", 4),
        (tab.stage, "switched", 3), (tab.view, "input", 3),
    ):  # fmt: skip
        cancels = {one for e in events if (component._id, name) in e.targets for one in e.cancels}
        assert len(cancels & running) == cancelled, name


class TestAddress:
    wish = Wish(
        ("demo:resnet", "demo:vit"), DRAWN, of="plain star", against="3", layer="layer3", fill=MEAN, view=CHANNELS, unit="7",
        off=((0, "12"), (1, "g2")),
    )  # fmt: skip

    def test_says_everything(self):
        query = address.write(self.wish)
        assert query.startswith("tab=reasons&model=demo:resnet&model=demo:vit&example=") and "off=12&off=2:g2" in query
        assert address.read(QueryParams(query)) == address.Reading(self.wish)
        own = replace(self.wish, example="", source="demo:misleading-tags", item="0003-plain-star")
        assert address.read(QueryParams(address.write(own))) == address.Reading(own)

    @given_any(
        st.dictionaries(
            st.sampled_from(["model", "example", "of", "view", "fill", "off", "unit", "set", "x"]), st.text()
        )
    )
    def test_is_read_whatever_it_says(self, pairs):
        reading = address.read(QueryParams(pairs))
        again = address.read(QueryParams(address.write(reading.wish)))
        assert again.wish == reading.wish

    def test_what_it_names_wrongly_is_told(self):
        query = QueryParams(
            "example=nothing&view=rows&fill=half&off=9:g1&off=5:&model=a&model=b&model=c&model=d&model=e"
        )
        reading = address.read(query)
        assert len(reading.doubts) == 6 and reading.wish.models == ("a", "b", "c", "d")
        assert (reading.wish.example, reading.wish.view, reading.wish.fill, reading.wish.off) == ("", GROUPS, ZERO, ())

    def test_is_shown(self, tab):
        session = Session()
        query = address.write(replace(self.wish, models=("demo:resnet",), off=((0, "12"), (0, "g1"), (0, "999"))))
        values = {tab.session: session, tab.picture: None, tab.mine: None}
        shown = tab._restore(values, event(query=query))
        assert shown[tab.picture] == PICTURE and shown[tab.view] == CHANNELS
        assert shown[tab.asking["against"]]["value"] == "checkered circle"  # by its name
        _, page = ask(
            tab,
            session,
            of="plain star",
            against="3",
            layer="layer3",
            fill=MEAN,
            view=CHANNELS,
            doubts=shown[tab.doubts],
        )
        assert rows_of(page[tab.panels[0].rows])[:2] == ["7", "12"]
        assert "2 off" in page[tab.panels[0].answers] and session.run.switchings[0].off == ("12", "g1")
        assert "“999” is nothing that can be switched off" in page[tab.status]
        told = tab._write(given(tab, session, of="plain star", layer="layer3", view=CHANNELS))
        assert address.read(QueryParams(told)).wish.unit == "7"

    def test_a_picture_of_a_set_is_opened_by_the_run(self, tab):
        item = open_set("demo:misleading-tags", limit=32)[3]
        session = Session()
        query = f"tab=reasons&model=demo:shortcut&set=demo:misleading-tags&item={item.id}"
        shown = tab._restore({tab.session: session, tab.picture: PICTURE, tab.mine: None}, event(query=query))
        origin = shown[tab.origin]
        values = {"origin": origin, "models": ["demo:shortcut"]}
        assert f"item={item.id}" in tab._write(given(tab, session, **values))
        _, page = ask(tab, session, **values)
        assert open_image(page[tab.picture]) == item.picture() and session.run.accounts
        later = {"origin": page[tab.origin], "models": ["demo:shortcut"]}
        assert f"set=demo:misleading-tags&item={item.id}" in tab._write(
            given(tab, session, picture=page[tab.picture], **later)
        )
        assert "item=" not in tab._write(given(tab, session, **later))  # another picture
        _, page = ask(tab, origin=("", "demo", "nothing"))
        assert "demo has no picture “nothing”" in page[tab.status] and page[tab.origin] is None


def test_the_spec_of_the_library_is_what_is_asked(account):
    model = get_model("demo:resnet")
    asked = find_reasons(model, to_input(model, open_image(PICTURE)), TargetSpec("3", "contrast", "1"), layer="layer3")
    own = account_of("demo:resnet", "3", "1", "layer3")
    assert own.reasons.target == asked.target
    torch.testing.assert_close(own.reasons.shares.values, asked.shares.values)


def test_a_region_is_drawn_told_by_the_address_and_off_there_alone(tab):
    session = Session()
    ask(tab, session=session)
    run, touch = session.run, {tab.session: session}
    tab._switch(touch, event(**{"place": 0, "names": ["g1"], "off": True}))
    list(tab._try(touch))
    everywhere = run.switchings[0].trial.score
    tab._mark(touch, event(**{"corners": [1.0, 0.6, 0.5, 0.0]}))
    assert run.region == session.region == (0.5, 0.0, 1.0, 0.6) and not run.switchings
    list(tab._try(touch))
    assert run.switchings[0].trial.score != everywhere
    wish = replace(Wish(models=("demo:resnet",), example="", off=(), source="demo", item="1"), region=run.region)
    assert "region=0.5,0,1,0.6" in address.write(wish)
    assert "No place of" in tab._mark(touch, event(**{"corners": [0.0, 0.0, 0.001, 0.001]}))[tab.status]
    assert run.region == (0.5, 0.0, 1.0, 0.6)  # what is refused changes nothing
    tab._mark(touch, event(**{"corners": []}))
    assert run.region is None
    list(tab._try(touch))
    assert run.switchings[0].trial.score == pytest.approx(everywhere)


def test_a_region_that_holds_no_place_leaves_the_answer(tab):
    session = Session(off=((0, "g1"),), region=(0.0, 0.0, 0.001, 0.001))
    _, page = ask(tab, session=session)
    assert (
        "No place of" in page[tab.status]
        and session.run.accounts
        and session.run.switchings
        and not session.run.troubles
    )


def test_an_address_with_a_region_reads_back_and_nonsense_is_told():
    wish = address.read(QueryParams("off=g1&region=0.9,0.1,0.5,0.4")).wish
    assert wish.region == (0.5, 0.1, 0.9, 0.4)
    assert address.read(QueryParams(address.write(wish))).wish.region == wish.region
    for text in ("half", "1,2,3,4", "0.1,0.1,0.1,0.9", "0,1"):
        reading = address.read(QueryParams(f"region={text}"))
        assert reading.wish.region is None and f"“{text}” is no region" in reading.doubts[0]


def test_groups_of_two_networks_are_matched_and_units_named_by_the_other(tab, monkeypatch):
    session = Session()
    _, page = ask(tab, session=session, models=["demo:resnet", "demo:vit"])
    shown = page[tab.graph]
    assert shown["visible"] and "ResNet" in shown["value"] and "alike by where they lie" in shown["value"]
    run = session.run
    run.view = GROUPS
    for _ in reasons_run.draw(run, lambda name, content: name):
        pass
    assert all(
        run.verdicts[account.model, group.reason.unit] for account in run.accounts.values() for group in account.groups
    )
    unit = run.accounts[0].groups[0].reason.unit
    run.verdicts["demo:resnet", unit] = (Verdict("demo:vit", ((3, "plain star", 0.9),)),)
    assert run.names(0)[unit] == "plain star" and "perhaps “plain star”" in html.said(run, 0)
    assert "as other networks see its picture" in html.rows(run, 0, "")
    alone = Session()
    _, page = ask(tab, session=alone)
    assert not page[tab.graph]["visible"]
