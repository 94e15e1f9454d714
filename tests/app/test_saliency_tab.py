"""The Saliency tab's handlers, called as Gradio calls them."""

import asyncio
import base64
import contextlib
import html
import io
import json
import re
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import timm
import torch
from hypothesis import given as given_any
from hypothesis import strategies as st
from PIL import Image, ImageColor
from safetensors.torch import save_file
from starlette.datastructures import QueryParams

from lsd.cli import main
from lsd.errors import UndefinedError
from lsd.images import open_image
from lsd.models import get_model
from lsd.packages import PACKAGES
from lsd.provenance import write_files
from lsd.recent import Recent
from lsd.reference import open_reference
from lsd.render import CATEGORIES
from lsd.saliency import defaults
from lsd.saliency.explain import SimilarTo, TargetSpec, explain
from lsd.saliency.maps import MapSettings
from lsd.saliency.methods import METHODS
from lsd.saliency.views import Look
from lsd.sayings import NOTHING_OF_ANY
from lsd.ui.saliency import address
from lsd.ui.saliency import results as results_html
from lsd.ui.saliency import run as saliency_run
from lsd.ui.saliency.drawing import allowed_channels
from lsd.ui.saliency.request import Request, Wish
from lsd.ui.saliency.run import explain_first
from lsd.ui.saliency.session import draw, files
from lsd.ui.saliency.square import square_on, within
from lsd.ui.saliency.tab import SaliencyTab, _show_targets
from lsd.ui.shared import answers, controls, evidence, jobs, markup
from lsd.ui.shared.controls import CONTRAST, FIRST_CHOICE, FIRST_CLASSES, GROUP, OWN_CLASS, SETTINGS, SIMILAR, WITHIN
from lsd.ui.shared.examples import drawn as drawn_examples
from lsd.ui.shared.examples import examples
from lsd.ui.shared.long_event import long_event
from lsd.view import EVALUATED, View

DRAWN = drawn_examples()[0]
LITE = "tf_efficientnet_lite0.in1k"


MAPS, LOOK = MapSettings(), Look()


@pytest.fixture(scope="module")
def tab():
    with gr.Blocks():
        return SaliencyTab()


def run(tab, **changes):
    return list(tab._explain(given(tab, **changes)))


def page_after(updates):
    """What is on the page in the end."""
    return {control: value for update in updates for control, value in update.items()}


def given(tab, *, path=None, doubts=(), mine=None, session=None, **changes):
    """The values of the tab's inputs: a drawn picture and one demo model, where nothing else is said."""
    asked = {
        "picture": str(examples()[DRAWN]) if path is None else path, "models": ["demo:resnet"], "target": FIRST_CHOICE,
        "of": None, "against": None, "group": None, "count": 3, "like": None, "both": False, "method": "gradient",
        "kind": "log_odds", "outputs": "", "layouts": "",
        "check": False, "steady": False, "view": "evaluated", "square": None,
    }  # fmt: skip
    settings = {name: setting.default for name, setting in SETTINGS.items()}
    drawn = {name: getattr(MAPS if hasattr(MAPS, name) else LOOK, name) for name in tab.drawing}
    values = asked | settings | drawn | changes
    controls_of = tab.asking | tab.settings | tab.drawing
    assert set(values) == set(controls_of)
    found = {control: values[name] for name, control in controls_of.items()}
    return found | {tab.doubts: doubts, tab.mine: mine, tab.session: session}


def drawn(tab, session, **changes):
    return tab._draw(given(tab, session=session, **changes))


def stage(tab, updates, place=0):
    return updates[tab.results[place].stage]


@contextlib.contextmanager
def packed(tab, session):
    """The download."""
    with contextlib.closing(tab._pack(given(tab, session=session))) as steps:
        next(steps)
        with zipfile.ZipFile(next(steps)[tab.file]) as archive:
            yield archive


def session_of(tab, updates):
    return next(u[tab.session] for u in reversed(updates) if u.get(tab.session) is not None)


def last_status(tab, updates):
    return next(u[tab.status] for u in reversed(updates) if tab.status in u)


def test_each_model_is_shown_as_soon_as_it_is_done(tab, monkeypatch):
    monkeypatch.setattr(Request, "is_answered", False)
    updates = run(tab, models=["demo:resnet", "demo:vit"])
    shown = [["lsd-map" in stage(tab, u, place) for place in (0, 1)] for u in updates[:-1]]
    assert shown == [[False, False], [True, False], [True, True]]
    assert all("lsd-plain" in stage(tab, u, 1) for u in updates[:-1])  # the picture waits for its map
    session = session_of(tab, updates)
    assert session.models == ["demo:resnet", "demo:vit"]
    assert [e.top[0][1] for e in session.explanations] == [DRAWN, DRAWN]
    assert f"All say {DRAWN}" in last_status(tab, updates)


def test_the_badge_says_that_captum_agrees(tab, monkeypatch):
    monkeypatch.setattr(Request, "is_answered", False)
    updates = run(tab, check=True)
    assert ["Captum agrees" in u[tab.results[0].text] for u in updates[:-1]] == [False, False, True]


def test_how_steady_the_maps_are_is_told_when_it_is_asked_for_and_measured_once(tab, monkeypatch):
    models = {"models": ["demo:resnet", "demo:vit"], "method": "gradient_x_input"}
    assert "Steadiness" not in run(tab, **models)[-2][tab.results[0].text]
    updates = run(tab, steady=True, **models)
    shown = [["Steadiness 0." in u[tab.results[place].text] for place in (0, 1)] for u in updates[:-1]]
    assert shown == [[False, False], [True, False], [True, True]]
    session = session_of(tab, updates)
    assert [found.passes for found in session.steadinesses] == [4, 4]
    monkeypatch.setattr(answers, "steadiness_of_each", lambda *_: pytest.fail("measured again"))
    assert session_of(tab, run(tab, steady=True, **models)).answers == session.answers
    with packed(tab, session) as archive:
        results = json.loads(archive.read("manifest.json"))["results"]
    assert [r["steadiness"]["value"] for r in results] == [found.value for found in session.steadinesses]


def test_of_several_maps_each_has_its_own_steadiness(tab):
    session = session_of(tab, updates := run(tab, target=FIRST_CLASSES, count=3, steady=True))
    (answer,), text = session.answers, page_after(updates)[tab.results[0].text]
    assert len({found.value for found in answer.steadinesses}) == 3 and session.steadinesses == list(
        answer.steadinesses
    )
    for explanation, found in zip(answer.explanations, answer.steadinesses, strict=True):
        name = markup.describe_target(explanation, answer.class_names)
        assert f"{html.escape(name[1:])}: steadiness {found.value:.2f} (moved" in text
    assert text.count("Usual for this method") == 1
    empty = replace(answer, steadinesses=(None, *answer.steadinesses[1:]))
    assert results_html.text(empty, "").count("no steadiness, as its map is zero everywhere") == 1
    with packed(tab, session) as archive:
        results = json.loads(archive.read("manifest.json"))["results"]
    assert [r["steadiness"] for r in results] == [found.to_dict() for found in session.steadinesses]


def test_which_method_did_best_on_its_like_is_told_with_the_evidence(tab):
    shown = page_after(run(tab))[tab.results[0].text]
    assert "On the resnet networks of the study (Demo ResNet, ResNet-50 (tf_uint8_in1k))" in shown
    assert f'href="{html.escape(evidence.address("method"))}"' in shown


def test_a_map_whose_steadiness_cannot_be_measured_stays(tab, monkeypatch):
    def refuse(*_):
        raise UndefinedError("The map is zero everywhere, so there is nothing that could move.")

    monkeypatch.setattr(answers, "steadiness_of_each", refuse)
    updates = run(tab, steady=True, method="gradient_x_input", kind="logit")
    assert "lsd-map" in stage(tab, page_after(updates))
    assert "nothing that could move" in updates[-2][tab.results[0].text]
    assert session_of(tab, updates).answers[0].steadinesses == ()


def test_captum_is_asked_after_all_maps_and_after_another_visitors(tab, nothing_answered, monkeypatch):
    order, maps, compare = [], answers.explain_each, answers.crosscheck_explanation

    def explain_(model, *arguments, **settings):
        order.append(("map", model.name, arguments[2]))
        return maps(model, *arguments, **settings)

    def compare_(model, *arguments):
        order.append(("Captum", model.name))
        if len(order) == 3:  # while it runs, somebody else comes
            other.start()
            while len(jobs.LINE._tickets) < 2:
                other.join(0.01)
        return compare(model, *arguments)

    monkeypatch.setattr(answers, "explain_each", explain_)
    monkeypatch.setattr(answers, "crosscheck_explanation", compare_)
    other = threading.Thread(target=lambda: run(tab, method="gradient_x_input"))
    updates = run(tab, models=["demo:resnet", "demo:vit"], check=True)
    other.join(60)
    assert order == [
        ("map", "demo:resnet", "gradient"), ("map", "demo:vit", "gradient"), ("Captum", "demo:resnet"),
        ("map", "demo:resnet", "gradient_x_input"), ("Captum", "demo:vit"),
    ]  # fmt: skip
    drawn_at = [tab.results[0].stage in update for update in updates]
    assert drawn_at == [True, True, True, False, False, False]  # a comparison changes what is said, not the maps
    assert "Captum is asked too" in updates[2][tab.status]
    shown = page_after(updates)
    assert all("Captum agrees" in shown[tab.results[place].text] for place in (0, 1))


def test_where_captum_cannot_compare_the_badge_says_why(tab):
    updates = run(tab, models=["demo:vit"], method="grad_cam", check=True)
    assert "laid out as tokens" in page_after(updates)[tab.results[0].text]


def test_a_contrast_takes_names_and_indices(tab):
    session = session_of(tab, run(tab, target=CONTRAST, of="striped star", against="3"))
    target = session.explanations[0].attribution.target
    assert (target.kind, target.against) == ("contrast", 3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"path": ""}, "no picture"),
        ({"models": []}, "No model is chosen"),
        ({"models": ["demo:resnet"] * 5}, "at most 4"),
        ({"models": ["no_such_model"]}, "There is no model called"),
        ({"models": ["<img src=x onerror=alert(1)>"]}, "There is no model called"),
        ({"target": OWN_CLASS}, "No class is chosen"),
        ({"target": OWN_CLASS, "of": "zebra crossing"}, "No class of this model"),
        ({"target": OWN_CLASS, "of": "16"}, "out of range"),
        ({"target": CONTRAST, "of": "1"}, "needs a second class"),
        ({"target": CONTRAST, "of": "1", "against": "1"}, "two different classes"),
        ({"models": ["demo:vit"], "method": "guided_backprop"}, "uses GELU"),
        ({"method": "smoothgrad", "samples": 3}, "even"),
        ({"method": "smoothgrad", "sigma": 7}, "lies between"),
        ({"method": "grad_cam", "layer": "nowhere"}, "has no layer"),
        ({"layouts": "layer2"}, "“layer2” is not a layout"),
        ({"layouts": "layer9=nchw"}, "has no layer “layer9”"),
        ({"layouts": "demo:vit=blocks.1=tokens"}, "Something is said of demo:vit, which is not asked"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_in_the_page(tab, changes, sentence):
    status = last_status(tab, run(tab, **changes))
    assert sentence in status
    assert 'role="alert"' in status
    assert "<img" not in status


def test_a_file_that_is_no_picture_is_refused(tab, tmp_path):
    path = tmp_path / "note.png"
    path.write_text("not a picture")
    assert 'role="alert"' in last_status(tab, run(tab, path=str(path)))


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_choosing_a_method_shows_its_settings_and_no_files_of_the_machine(tab, method):
    assert "photos" not in SETTINGS
    updates = tab._show_method(method.name)
    own = {setting.name: setting for setting in method.settings if setting.name in SETTINGS}
    for name, control in tab.settings.items():
        assert updates[control]["visible"] == (name in own)
        if name in own:
            assert updates[control]["value"] == own[name].default and updates[control]["info"].startswith(own[name].why)


def test_progress_is_shown_and_leaving_stops_the_work(tab):
    request = given(tab, method="smoothgrad", samples=512, batch_size=2)

    async def leave():
        steps = long_event(tab._explain, tab.status, "saliency")(request)
        async for update in steps:
            if isinstance(update.get(tab.status), str) and "of 512 passes" in update[tab.status]:
                break
        await steps.aclose()  # what Gradio does when Stop is pressed, or the visitor has gone

    asyncio.run(leave())
    model = get_model("demo:resnet")
    assert model.lock.acquire(timeout=5), "the work goes on after it was closed"
    model.lock.release()


def test_a_model_for_which_the_method_is_not_defined_leaves_the_others(tab):
    """Its sentence is in the place of its map; what the others have found is drawn and downloaded."""
    models = ["demo:resnet", "demo:vit", "demo:shortcut"]
    shown = page_after(run(tab, models=models, method="guided_backprop", check=True))
    session = shown[tab.session]
    assert session.models == ["demo:resnet", "demo:shortcut"] and [a.place for a in session.answers] == [0, 2]
    assert "uses GELU" in shown[tab.results[1].text] and "Demo XCiT" in shown[tab.results[1].head]
    assert ["lsd-map" in stage(tab, shown, i) for i in range(3)] == [True, False, True]
    assert "lsd-waiting" not in stage(tab, shown, 1)
    assert "Done in" in shown[tab.status] and "Demo XCiT: " in shown[tab.status] and 'role="alert"' in shown[tab.status]
    again = drawn(tab, session)
    assert "Saliency map of demo:shortcut" in stage(tab, again, 2)
    assert stage(tab, again, 1) == stage(tab, shown, 1)
    with packed(tab, session) as archive:
        assert json.loads(archive.read("manifest.json"))["request"]["models"] == session.models


def test_a_defect_in_one_model_leaves_the_others(tab, nothing_answered, monkeypatch):
    explain = answers.explain_each

    def defect(model, *arguments, **settings):
        return 1 / 0 if model.name == "demo:resnet" else explain(model, *arguments, **settings)

    monkeypatch.setattr(answers, "explain_each", defect)
    shown = page_after(run(tab, models=["demo:resnet", "demo:vit"]))
    assert shown[tab.session].models == ["demo:vit"] and "ZeroDivisionError" in shown[tab.results[0].text]


def test_what_was_finished_before_stop_is_drawn_and_downloaded(tab, monkeypatch):
    monkeypatch.setattr(Request, "is_answered", False)
    steps = tab._explain(given(tab, models=["demo:resnet", "demo:vit"]))
    session = next(u[tab.session] for u in steps if tab.session in u and u[tab.session].answers)
    steps.close()
    assert session.models == ["demo:resnet"]
    stopped = tab._stopped(given(tab, session=session))
    assert "1 of 2 models were asked" in stopped[tab.status]
    assert "lsd-map" in stage(tab, stopped) and "lsd-waiting" not in stage(tab, stopped, 1)
    with packed(tab, session) as archive:
        assert "demo_resnet.png" in archive.namelist()
    assert tab._stopped(given(tab)) == {tab.status: markup.status("Stopped.")}


def test_asking_anew_gives_up_what_is_under_way():
    with gr.Blocks() as page:
        tab = SaliencyTab()
    events = list(page.fns.values())
    (explain,) = (e for e in events if (tab.asked._id, "change") in e.targets and tab.session in e.outputs)
    assert explain.trigger_mode == "multiple"
    asks = ((tab.run, "click"), (tab.sure, "click"), (tab.gallery, "select"), (tab.picture, "upload"))
    for component, name in (*asks, (tab.stop, "click")):
        assert any(explain._id in e.cancels for e in events if (component._id, name) in e.targets), name
    asking = [e for e in events if e.outputs == [tab.asked]]
    assert len(asking) == 4 and asking[0].fn() != asking[0].fn()


def test_what_is_answered_already_waits_for_nobody(tab):
    run(tab)
    with jobs.turn():  # somebody else has the place
        finished = threading.Thread(target=lambda: seen.append(run(tab)), daemon=True)
        seen = []
        finished.start()
        finished.join(60)
    assert "Done in" in last_status(tab, seen[0])


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_legend_of_several_classes_ends_in_the_colours_of_their_figure(count):
    one, several = results_html.legend(MAPS), results_html.legend(MAPS, count)
    assert "one class alone" not in one and one[len('<div class="lsd-legend">') :] in several
    (bar, _) = re.findall(r"base64,([^\"]+)", several)
    (colours,) = np.asarray(Image.open(io.BytesIO(base64.b64decode(bar))))
    firsts, lasts = np.split(colours, count), [ImageColor.getrgb(c) for c in list(CATEGORIES.values())[:count]]
    for ramp, colour in zip(firsts, lasts, strict=True):
        assert tuple(ramp[0]) == (255, 255, 255) and tuple(ramp[-1]) == colour


def test_drawing_again_runs_no_model(tab, monkeypatch):
    session = session_of(tab, run(tab, models=["demo:resnet", "demo:vit"]))
    monkeypatch.setattr(saliency_run, "get_model", lambda name: pytest.fail("a model was asked for"))
    first, again = drawn(tab, session), drawn(tab, session)
    signed = drawn(tab, session, sign="signed")
    assert stage(tab, first) == stage(tab, again)  # so that the browser asks for nothing
    assert 'data-signed="1"' in stage(tab, signed) and map_of(stage(tab, first)) != map_of(stage(tab, signed))
    assert "Saliency map of demo:resnet" in stage(tab, first)
    assert "against" in signed[tab.legend] and "against" not in first[tab.legend]


def map_of(html):
    return re.search(r'class="lsd-map" src="gradio_api/file=([^"]+)"', html)[1]


def test_a_map_is_read_under_the_pointer_where_the_model_saw_it(tab):
    session = session_of(tab, run(tab, path=str(examples()["Summer Palace"])))
    (shown,) = draw(session, MAPS, LOOK)
    values, seen = np.moveaxis(np.asarray(shown.values), -1, 0)
    assert max(values.shape) == 160 and values.shape[1] > values.shape[0]
    assert seen[:, values.shape[1] // 2].all() and not seen[:, 0].any()  # of a wide picture the middle
    assert values.max() == 255 and not values[seen == 0].any()
    (signed,) = draw(session, MapSettings(sign="signed"), LOOK)
    assert np.asarray(signed.values)[..., 0].min() < 127 < np.asarray(signed.values)[..., 0].max()


def test_a_picture_that_is_shown_already_is_not_written_again(tab):
    """Somebody may be reading it."""
    first = Path(map_of(stage(tab, page_after(run(tab)))))
    node = first.stat().st_ino
    assert Path(map_of(stage(tab, page_after(run(tab))))) == first and first.stat().st_ino == node
    assert str(first) in tab.legend.temp_files  # so it goes after an hour


def test_an_empty_map_says_which_sign_shows_something(tab):
    path = str(examples()["dotted square"])
    shown = page_after(run(tab, models=["demo:resnet", "demo:vit"], path=path, method="grad_cam", sign="positive"))
    assert "Choose the sign “against”" in stage(tab, shown, 1) and "lsd-empty" not in stage(tab, shown, 0)
    for sign, expected in (("positive", True), ("negative", False), ("abs", False), ("signed", False)):
        again = drawn(tab, shown[tab.session], sign=sign)
        assert ("counts <b>for</b> the target" in stage(tab, again, 1)) == expected
        assert "lsd-empty" not in stage(tab, again, 0)


def test_a_map_that_is_not_defined_is_a_sentence(tab):
    session = session_of(tab, run(tab))
    assert "leaves no sign" in drawn(tab, session, sign="signed", channels="l2")[tab.status]


def test_the_bundle_holds_pictures_values_and_manifest(tab):
    session = session_of(tab, run(tab, models=["demo:resnet", "demo:vit"]))
    with packed(tab, session) as archive:
        names = set(archive.namelist())
        record = json.loads(archive.read("manifest.json"))
        with archive.open("attributions.npz") as file:
            arrays = dict(np.load(file))
    assert {"demo_resnet.png", "demo_vit.png", "comparison.png"} <= names
    assert record["request"]["models"] == ["demo:resnet", "demo:vit"]
    np.testing.assert_array_equal(arrays["demo_vit"], session.explanations[1].attribution.values.numpy())


@pytest.mark.parametrize("name", ["comparison.png", "Manifest.JSON", "demo_resnet.png"])
def test_an_upload_replaces_nothing_in_the_bundle(tab, tmp_path, name, capsys):
    upload = tmp_path / name
    upload.write_bytes(examples()[DRAWN].read_bytes())
    session = session_of(tab, run(tab, path=str(upload)))
    with packed(tab, session) as archive:
        archive.extractall(tmp_path / "bundle")
        names = archive.namelist()
    assert len({one.lower() for one in names}) == len(names) == 5
    record = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert (tmp_path / "bundle" / record["image"]["file"]).read_bytes() == upload.read_bytes()
    assert (tmp_path / "bundle" / "comparison.png").read_bytes() != upload.read_bytes()
    assert main(["saliency", "--from", str(tmp_path / "bundle" / "manifest.json")]) == 0
    assert "identical" in capsys.readouterr().out


def test_the_page_keeps_no_download(tab):
    """Gradio makes a copy of what it is given, and forgets it after an hour."""
    steps = tab._pack(given(tab, session=session_of(tab, run(tab))))
    next(steps)
    path = Path(next(steps)[tab.file])
    assert path.exists()
    assert list(steps) == [] and not path.parent.exists()


def test_without_a_result_nothing_is_downloaded(tab):
    first, last = tab._pack(given(tab))
    assert first[tab.file] is None and tab.file not in last
    assert "nothing to download" in last[tab.status]


def test_likeness_to_another_picture_needs_no_class_and_goes_into_the_bundle(tab, tmp_path, capsys):
    other = examples()[drawn_examples()[1]]
    session = session_of(tab, updates := run(tab, target=SIMILAR, like=str(other), models=["demo:resnet", "demo:vit"]))
    (target,) = {e.attribution.target.kind for e in session.explanations}
    assert target == "similarity"
    assert "similarity to reference.png = " in page_after(updates)[tab.results[0].text]
    assert "lsd-next" not in page_after(updates)[tab.results[0].text]  # there is no class to go on with
    assert "Demo XCiT: similarity -0." in last_status(tab, updates)
    with packed(tab, session) as archive:
        archive.extractall(tmp_path)
    # Where it lies on the server is nobody's business.
    assert str(other) not in (tmp_path / "manifest.json").read_text()
    assert main(["saliency", "--from", str(tmp_path / "manifest.json")]) == 0
    assert capsys.readouterr().out.count("identical, bit for bit") == 2


def test_likeness_is_explained_over_both_pictures(tab, tmp_path, capsys):
    other = examples()[drawn_examples()[1]]
    asked = {"target": SIMILAR, "like": str(other), "both": True, "models": ["demo:resnet", "demo:vit"], "check": True}
    session = session_of(tab, updates := run(tab, **asked))
    shown = page_after(updates)
    for place in (0, 1):
        assert stage(tab, shown, place).count("<img") == 3 and "what in it makes it like this one" in stage(
            tab, shown, place
        )
        assert (
            "similarity to the picture = " in shown[tab.results[place].text]
            and "Captum agrees" in shown[tab.results[place].text]
        )
    there, back = session.answers[0].explanations
    alone = explain(
        get_model("demo:resnet"), open_image(other), SimilarTo(open_reference(examples()[DRAWN])), "gradient"
    )
    assert torch.equal(back.attribution.values, alone.attribution.values) and there.part < back.part
    with packed(tab, session) as archive:
        archive.extractall(tmp_path)
    assert main(["saliency", "--from", str(tmp_path / "manifest.json")]) == 0
    assert capsys.readouterr().out.count("identical, bit for bit") == 4


def test_first_choices_are_one_figure_and_a_map_each(tab, tmp_path, capsys):
    models = ["demo:resnet", "demo:vit"]
    session = session_of(tab, updates := run(tab, target=FIRST_CLASSES, count=3, models=models, check=True))
    shown = page_after(updates)
    assert [len(answer.explanations) for answer in session.answers] == [3, 3] and session.models == models
    assert stage(tab, shown).count("<figure>") == 3 and "The colour says which class" in stage(tab, shown)
    text = shown[tab.results[0].text]
    assert text.count("log-odds of") == 3 and "1 pass each in" in text and "Captum agrees" in text
    first, second, _ = session.answers[0].explanations
    assert [e.attribution.target.index for e in (first, second)] == [c for c, *_ in first.top[:2]]
    figure, *_ = draw(session, MAPS, LOOK)
    assert len(figure.others) == 3 and figure.image.tobytes() != figure.others[0].tobytes()
    signed = drawn(tab, session, sign="signed", channels="sum")
    assert 'data-signed="0"' in stage(tab, signed)  # colours say which class, and not for or against
    told = shown[tab.legend]
    assert told.index("one class alone") < told.index("Each by itself") < told.index("strongest, ")
    with packed(tab, session) as archive:
        archive.extractall(tmp_path)
    assert len(list(tmp_path.glob("*-classes.png"))) == 2
    assert main(["saliency", "--from", str(tmp_path / "manifest.json")]) == 0
    assert capsys.readouterr().out.count("identical, bit for bit") == 6


def test_a_group_and_a_class_within_it(tab):
    asked = {"models": [LITE, "demo:resnet"], "path": str(examples()["Chelsea the cat"]), "group": "true cat"}
    shown = page_after(run(tab, target=GROUP, **asked))
    assert "log-odds of cat (7 classes) = 2.65" in shown[tab.results[0].text]
    assert "lsd-next" not in shown[tab.results[0].text]  # no one class to go on with
    assert "The classes of demo:resnet are not ImageNet" in shown[tab.results[1].text]
    shown = page_after(run(tab, target=WITHIN, of="tabby", **asked))
    assert "log-odds of tabby among the 7 classes of cat = " in shown[tab.results[0].text]
    first = page_after(run(tab, target=WITHIN, **asked))[tab.results[0].text]
    assert "log-odds of tiger cat among the 7 classes of cat = " in first and "See tiger cat in the gallery" in first


def test_what_is_no_one_group_says_what_to_say_instead(tab):
    assert "say “true cat” (7 classes" in last_status(tab, run(tab, target=GROUP, group="cat", models=[LITE]))
    assert "No group is chosen" in last_status(tab, run(tab, target=GROUP))
    assert "How many classes is a whole number" in last_status(tab, run(tab, target=FIRST_CLASSES, count=None))


def test_the_controls_of_a_question_are_shown_with_it():
    of, against, group, count, like = _show_targets(WITHIN, [LITE])
    assert of["visible"] and not against["visible"] and not count["visible"] and not like["visible"]
    assert group["visible"] and ("dog  ·  118 classes", "dog") in group["choices"] and len(group["choices"]) == 471
    assert _show_targets(GROUP, ["demo:vit"])[2]["choices"] == []  # whose classes are not ImageNet's
    assert "choices" not in _show_targets(FIRST_CHOICE, [LITE])[2] and _show_targets(FIRST_CLASSES, [])[3]["visible"]


def test_without_the_other_picture_likeness_is_a_sentence(tab):
    assert "There is no other picture yet" in last_status(tab, run(tab, target=SIMILAR))


def test_what_a_visitor_says_of_the_outputs_is_followed_kept_and_nobody_elses(tab):
    said = session_of(tab, run(tab, outputs="sigmoid", check=True))
    plain = session_of(tab, run(tab, check=True))
    assert said.checks[0].agrees and plain.checks[0].agrees
    told, own = (session.explanations[0] for session in (said, plain))
    assert (told.attribution.target.outputs, own.attribution.target.outputs) == ("sigmoid", "classes")
    assert sum(p for *_, p in told.top) > 1 > sum(p for *_, p in own.top) and told.top[0][0] == own.top[0][0]
    for session, kept in ((said, {"outputs": "sigmoid"}), (plain, None)):
        with packed(tab, session) as archive:
            (result,) = json.loads(archive.read("manifest.json"))["results"]
        assert result.get("said") == kept


def test_what_a_visitor_says_of_one_networks_layer_is_followed_and_kept(tab):
    models = ["demo:resnet", "demo:shortcut"]
    said, plain = (
        session_of(tab, run(tab, models=models, method="grad_cam", layer="layer2", layouts=layouts))
        for layouts in ("demo:resnet=layer2=nhwc", "")
    )
    told, own = ([e.attribution.values for e in session.explanations] for session in (said, plain))
    assert not torch.equal(told[0], own[0]) and torch.equal(told[1], own[1])
    with packed(tab, said) as archive:
        first, second = json.loads(archive.read("manifest.json"))["results"]
    assert first["said"] == {"layouts": {"layer2": "nhwc"}} and "said" not in second


def test_assumed_names_are_told_below_the_predictions(tab, tmp_path):
    net = timm.create_model("test_resnet", num_classes=1000)
    about = {"architecture": "test_resnet", "num_classes": 1000, "pretrained_cfg": net.pretrained_cfg | {"tag": None}}
    (tmp_path / "config.json").write_text(json.dumps(about))
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    updates = run(tab, models=["demo:resnet", f"local-dir:{tmp_path}"])
    known, assumed = (page_after(updates)[tab.results[i].text] for i in (0, 1))
    assert "The class names are assumed: it has 1000 classes as ImageNet-1k has" in assumed and "assumed" not in known


@pytest.fixture
def nothing_answered(monkeypatch):
    monkeypatch.setattr(answers, "_answers", Recent(answers.MAX_BYTES, answers._size))
    monkeypatch.delenv("LSD_MODEL_PATH", raising=False)


def opened(tab, query="tab=saliency", *, picture=None, mine=None, models=None):
    """What an address does to the tab: the updates, and the values that a run finds then."""
    models = controls.default_models() if models is None else models
    before = {tab.picture: picture, tab.mine: mine, tab.asking["models"]: models}
    updates = tab._restore(before, gr.EventData(None, {"query": query}))
    values = dict(given(tab, path=picture or ""))
    for control, update in updates.items():
        if not isinstance(update, dict):
            values[control] = update
        elif "value" in update:
            values[control] = update["value"]
    return updates, values


def test_it_opens_on_a_photo_that_three_networks_have_explained(tab, nothing_answered, monkeypatch):
    explain_first()
    monkeypatch.setattr(answers, "explain_each", lambda *_, **__: pytest.fail("computed again"))
    monkeypatch.setattr(answers, "crosscheck_explanation", lambda *_: pytest.fail("compared again"))
    _, values = opened(tab)
    shown = page_after(tab._explain(values))
    assert shown[tab.session].models == list(PACKAGES)
    assert all("lsd-map" in stage(tab, shown, i) for i in range(3))
    assert all("Captum agrees" in shown[result.text] for result in tab.results[:3])
    assert "Done in" in shown[tab.status] and "EfficientNet-Lite0" in shown[tab.results[0].head]


def test_a_first_view_that_cannot_be_explained_leaves_the_page_running(nothing_answered, monkeypatch, caplog):
    monkeypatch.setattr(saliency_run, "get_model", lambda name: 1 / 0)
    explain_first()
    assert "not explained beforehand" in caplog.text


def test_the_same_question_is_answered_once(tab, nothing_answered, monkeypatch):
    computed = []

    def counted(*arguments, **settings):
        computed.append(arguments)
        return saliency_explain(*arguments, **settings)

    saliency_explain = answers.explain_each
    monkeypatch.setattr(answers, "explain_each", counted)
    first, again = session_of(tab, run(tab)), session_of(tab, run(tab))
    assert len(computed) == 1 and first.explanations == again.explanations
    run(tab, method="gradient_x_input")
    run(tab, path=str(examples()[drawn_examples()[1]]))
    run(tab, target=OWN_CLASS, of="3")
    run(tab, models=["demo:vit"])
    assert len(computed) == 5


def test_the_same_question_at_the_same_moment_is_answered_once_and_both_get_it(tab, nothing_answered, monkeypatch):
    """The second leaves the line as soon as the first has the answer, though somebody else is before him."""
    computed, maps, second_waits = [], answers.explain_each, threading.Event()

    def explain_(*arguments, **settings):
        computed.append(arguments)
        assert second_waits.wait(30)
        return maps(*arguments, **settings)

    def long_work():
        with jobs.turn():
            long.wait(30)

    monkeypatch.setattr(answers, "explain_each", explain_)
    found, long = {}, threading.Event()
    ask = {n: threading.Thread(target=lambda n=n: found.update({n: run(tab)})) for n in ("first", "second")}
    between = threading.Thread(target=long_work)
    for number, thread in enumerate((ask["first"], between, ask["second"]), start=1):
        thread.start()
        while len(jobs.LINE._tickets) < number:
            thread.join(0.01)
    second_waits.set()
    ask["second"].join(60)
    assert "second" in found, "he waits for work that has nothing to do with him"
    long.set()
    ask["first"].join(60), between.join(60)
    first, second = (session_of(tab, found[name]) for name in ("first", "second"))
    assert len(computed) == 1 and first.explanations[0] is second.explanations[0]


def test_what_is_said_of_a_network_is_part_of_the_question(tab, nothing_answered):
    plain = session_of(tab, run(tab)).explanations[0]
    assert session_of(tab, run(tab, outputs="sigmoid")).explanations[0] is not plain
    assert session_of(tab, run(tab)).explanations[0] is plain


def test_answers_are_bounded_in_bytes(tab, nothing_answered, monkeypatch):
    """Nobody's question can fill the memory: the oldest answer goes."""
    one = answers._size(session_of(tab, run(tab)).answers[0].explanations)
    assert one > 3 * 96 * 96 * 4
    monkeypatch.setattr(answers, "_answers", Recent(2 * one, answers._size))
    for path in drawn_examples()[:3]:
        run(tab, path=str(examples()[path]))
    assert answers._answers._total <= 2 * one and len(answers._answers._values) == 2


def test_two_views_of_a_picture_never_share_an_answer_and_each_goes_into_its_bundle(nothing_answered, tmp_path):
    path = tmp_path / "wide.png"
    Image.open(examples()[DRAWN]).resize((200, 96)).save(path)
    found = {}
    for view in map(View.parse, ("evaluated", "squashed", "padded", "60,8,80", "60,9,80")):
        request = Request(path, ("demo:resnet",), TargetSpec(), "gradient", {}, NOTHING_OF_ANY, True, view=view)
        assert not request.is_answered
        *_, session = saliency_run.explain_all(request)
        assert request.is_answered and session.checks[0].agrees
        (explanation,) = session.explanations
        assert torch.equal(
            explanation.attribution.values,
            explain(get_model("demo:resnet"), open_image(path), TargetSpec(), "gradient", view=view).attribution.values,
        )
        found[view] = explanation.box
        folder = tmp_path / str(view)
        write_files(folder, files(session, MapSettings(), Look()))
        assert json.loads((folder / "manifest.json").read_text())["request"]["view"] == str(view)
        assert main(["saliency", "--from", str(folder / "manifest.json")]) == 0
    assert len(set(found.values())) == len(found)


def test_a_square_beyond_the_picture_is_told_beside_each_model(tmp_path):
    request = Request(
        Path(examples()[DRAWN]), ("demo:resnet",), TargetSpec(), "gradient", {}, NOTHING_OF_ANY, False, view=View((0, 0, 9999))
    )  # fmt: skip
    *_, session = saliency_run.explain_all(request)
    assert "reaches beyond the picture" in session.troubles[0]


def test_a_followed_link_keeps_the_visitors_picture(tab, tmp_path):
    mine = tmp_path / "mine.png"
    mine.write_bytes(examples()[DRAWN].read_bytes() + b"another")
    example = str(examples()[DRAWN])
    updates, _ = opened(tab, "tab=saliency&model=demo:vit&of=3", picture=str(mine))
    assert updates[tab.picture] == gr.skip() and updates[tab.mine] == str(mine)
    updates, _ = opened(tab, f"tab=saliency&example={DRAWN}", picture=str(mine))
    assert updates[tab.picture] == example and updates[tab.mine] == str(mine)  # the way back leads to it
    updates, _ = opened(tab, "tab=saliency", picture=example, mine=str(mine))
    assert updates[tab.picture] == str(mine)
    mine.unlink()
    updates, _ = opened(tab, "tab=saliency&model=demo:vit", picture=example, mine=str(mine))
    assert updates[tab.picture] == gr.skip() and updates[tab.mine] is None  # an example is there


def test_a_picture_that_another_tab_has_put_there_is_what_the_next_run_explains(tab, tmp_path):
    other = tmp_path / "other.png"
    other.write_bytes(examples()[DRAWN].read_bytes() + b"another")
    updates = run(tab, path=str(other))
    assert updates[0] == {tab.mine: str(other)} and session_of(tab, updates).request.path == other
    assert "example" not in tab._write(given(tab, path=str(other)))


def test_an_address_sets_every_control(tab):
    query = (
        f"tab=saliency&model=demo:resnet&model=demo:vit&example={DRAWN}&method=smoothgrad&set=samples=8&set=antithetic=off"
        "&of=3&against=5&view=0,10,200&check=off&steady=on&outputs=sigmoid&layout=demo:vit=a=nchw&sign=signed&channels=max&opacity=0.5"
    )
    updates, values = opened(tab, query)
    assert updates[tab.asking["target"]] == CONTRAST and updates[tab.asking["against"]]["visible"]
    assert updates[tab.settings["samples"]]["visible"] and not updates[tab.settings["layer"]]["visible"]
    assert updates[tab.asking["square"]]["value"]["side"] == 200 and updates[tab.sees]["open"]
    assert updates[tab.drawing["channels"]]["choices"] == ["max", "sum"]
    assert updates[tab.doubts] == ()
    shown = tab._write(values | {tab.picture: str(examples()[DRAWN])})
    assert address.read(QueryParams(shown)) == address.read(QueryParams(query))


TARGETS = st.one_of(
    st.just({}),
    st.builds(lambda of: {"target": OWN_CLASS, "of": of}, st.sampled_from(["tabby", "a & b = c?", "207"])),
    st.builds(lambda of: {"target": CONTRAST, "of": of, "against": "lynx"}, st.sampled_from(["tabby", "3"])),
    st.builds(
        lambda like, both: {"target": SIMILAR, "like": like, "both": both}, st.sampled_from(["", DRAWN]), st.booleans()
    ),
    st.builds(lambda count: {"target": FIRST_CLASSES, "count": count}, st.integers(2, 5)),
    st.builds(lambda group: {"target": GROUP, "group": group}, st.sampled_from(["dog", "n02084071", "a & b"])),
    st.builds(lambda of: {"target": WITHIN, "group": "true cat", "of": of}, st.sampled_from(["", "tabby", "281"])),
)
METHOD_SETTINGS = st.sampled_from([
    {}, {"method": "gradient"}, {"method": "smoothgrad", "settings": {"samples": 8, "antithetic": False, "sigma": 0.2}},
    {"method": "grad_cam", "settings": {"layer": "layer2.0"}},
])  # fmt: skip
WISHES = st.builds(
    lambda target, method, rest: Wish(**target, **method, **rest), TARGETS, METHOD_SETTINGS,
    st.fixed_dictionaries({}, optional={
        "models": st.lists(st.sampled_from(["demo:vit", "hf-hub:a/b", "x+y"]), min_size=1, max_size=4).map(tuple),
        "example": st.sampled_from(["", DRAWN]), "kind": st.sampled_from(["logit", "probability"]),
        "outputs": st.sampled_from(["", "sigmoid"]), "layouts": st.sampled_from(["", "a=nchw, m=b=tokens:1:14x14"]),
        "check": st.booleans(), "steady": st.booleans(), "view": st.sampled_from([EVALUATED, View("padded"), View((3, 0, 50))]),
    }),
)  # fmt: skip
MAP_SETTINGS = st.builds(
    lambda sign, channels, rest: MapSettings(sign, channels, **rest), st.sampled_from(["abs", "positive", "negative"]),
    st.sampled_from(["max", "l2", "sum"]),
    st.fixed_dictionaries({
        "clip": st.floats(90, 100), "blur": st.sampled_from([0.0, 1.0, 2.5]), "scale": st.sampled_from(["image", "rank"]),
        "upsampling": st.sampled_from(["nearest", "bicubic"]),
    }),
) | st.just(MapSettings("signed", "max"))  # fmt: skip
LOOKS = st.builds(Look, st.sampled_from(["heatmap", "mask"]), st.floats(0, 1), st.booleans())


@given_any(WISHES, MAP_SETTINGS, LOOKS)
def test_an_address_says_all_of_what_is_shown(wish, maps, look):
    assert address.read(QueryParams(address.write(wish, maps, look))) == address.Reading(wish, maps, look)


def test_what_is_at_its_default_is_not_in_the_address():
    wish = Wish(models=("demo:vit",), example=DRAWN)
    text = address.write(wish, MapSettings(sign=METHODS[defaults.METHOD].sign), Look())
    assert text == f"tab=saliency&model=demo:vit&example={DRAWN.replace(' ', '+')}"


@pytest.mark.parametrize(("query", "doubt"), [
    ("method=../../etc", "no method “../../etc”"), ("example=<script>", "no example “<script>”"), ("kind=x", "no output “x”"),
    ("set=samples=4", "no setting “samples”"), ("view=5,5", "“5,5” is no view"), ("check=maybe", "check is on or off"),
    ("steady=maybe", "steady is on or off"),
    ("sign=both", "sign 'both' is unknown"), ("channels=l2&sign=signed", "leaves no sign to show"), ("style=x", "no overlay “x”"),
    ("opacity=2", "opacity lies between 0 and 1"), ("blur=nan", "blur lies between"), ("clip=x", "clip lies between"),
    ("classes=9", "Two to 5 classes are shown together, not 9"), ("classes=many", "classes is a whole number, not “many”"),
    ("classes=²", "classes is a whole number"),
    ("like=/etc/passwd", "no example “/etc/passwd”"), ("model=a&model=b&model=c&model=d&model=e", "5 models are named"),
])  # fmt: skip
def test_what_is_named_wrongly_leaves_the_default(query, doubt):
    reading = address.read(QueryParams(query))
    assert len(reading.doubts) == 1 and doubt in reading.doubts[0]
    assert reading.wish.target == FIRST_CHOICE and reading.look == Look() and reading.wish.view == EVALUATED


def test_what_an_address_does_not_name_is_the_default(tab):
    updates, _ = opened(tab, "tab=saliency&model=demo:vit")
    assert updates[tab.asking["method"]] == defaults.METHOD and updates[tab.asking["target"]] == FIRST_CHOICE
    assert updates[tab.asking["of"]]["value"] is None and not updates[tab.asking["of"]]["visible"]
    assert updates[tab.drawing["sign"]] == METHODS[defaults.METHOD].sign and updates[tab.asking["check"]] is True
    assert "choices" in updates[tab.asking["of"]]
    assert "choices" not in opened(tab, "tab=saliency&model=demo:vit", models=["demo:vit"])[0][tab.asking["of"]]


def test_what_an_address_names_wrongly_is_said_with_what_is_shown(tab):
    updates, values = opened(tab, "tab=saliency&model=demo:resnet&example=nope&method=magic&clip=7")
    assert len(updates[tab.doubts]) == 3
    status = last_status(tab, list(tab._explain(values | {tab.picture: str(examples()[DRAWN])})))
    assert "no example “nope”" in status and "no method “magic”" in status and "Done in" in status


def test_what_cannot_be_run_leaves_the_address(tab):
    assert tab._write(given(tab, target=OWN_CLASS)) == ""
    assert tab._write(given(tab, method="smoothgrad", sigma=7)) == ""


def test_a_result_leads_on_to_its_class(tab):
    text = page_after(run(tab))[tab.results[0].text]
    links = [QueryParams(html.unescape(link)[1:]) for link in re.findall(r'href="([^"]+)"', text)]
    assert [link.get("tab") for link in links] == ["choices", "gallery", "features"]
    assert links[1].multi_items()[1:] == [("view", "class"), ("class", DRAWN)]
    assert links[2].get("model") == "demo:resnet" and links[2].get("unit") == "class/0"
    assert links[2].get("example") == DRAWN
    both = page_after(run(tab, target=CONTRAST, of="3", against="5"))[tab.results[0].text]
    assert "view=compare" in both and "class=checkered+circle&amp;class=striped+square" in both


@pytest.mark.parametrize(("view", "square", "box"), [
    ("squashed", None, (0, 0, 480, 480)), ("square", {"left": 40, "top": 8, "side": 200}, (40, 8, 240, 208)),
])  # fmt: skip
def test_what_the_model_sees_is_chosen(tab, view, square, box):
    (explanation,) = session_of(tab, run(tab, view=view, square=square)).explanations
    np.testing.assert_allclose(explanation.box, box)


def test_a_square_lies_on_the_picture():
    picture, serve = examples()["Summer Palace"], lambda name, content: name
    largest = square_on(picture, None, serve)
    assert largest["side"] == largest["height"] < largest["width"] and largest["left"] > 0
    moved = largest | {"left": 3, "top": 4, "side": 50}
    assert square_on(picture, moved, serve) == moved
    assert square_on(examples()[DRAWN], moved, serve)["side"] == 480  # of another size: begun anew
    far = within(View((9000, 0, 9000)), largest)
    assert far["left"] + far["side"] == largest["width"] and far["side"] == largest["height"]
    assert square_on(None, None, None) is None


def test_the_choices_name_each_class_once():
    values = [value for _, value in controls.class_choices(["demo:resnet", "demo:vit"])]
    assert len(values) == len(set(values)) == 16
    imagenet = dict(controls.class_choices(["resnet50.a1_in1k"]))
    assert {imagenet["crane  ·  134"], imagenet["crane  ·  517"]} == {"134", "517"}  # a name that two classes share


def test_an_embedding_offers_no_classes(monkeypatch):
    monkeypatch.setattr(controls, "ready_models", lambda: ["tower"])
    monkeypatch.setattr(controls, "locate", lambda name: name)
    monkeypatch.setattr(controls, "read_config", lambda _: {"architecture": "test_vit", "num_classes": 0})
    controls._names_of.cache_clear()
    assert controls.class_choices(["tower"]) == []
    controls._names_of.cache_clear()


def test_a_sign_that_rules_a_choice_of_channels_out_leads_to_the_default():
    default = MapSettings().channels
    assert allowed_channels("signed", "l2")["value"] == default == "sum"
    assert allowed_channels("signed", "max")["value"] == "max"
    assert allowed_channels("abs", "l2")["value"] == "l2"
