"""The Saliency tab's handlers, called as Gradio calls them."""

import asyncio
import contextlib
import json
import threading
import zipfile
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from lsd.cli import main
from lsd.images import open_image
from lsd.models import get_model
from lsd.packages import PACKAGES
from lsd.provenance import write_files
from lsd.recent import Recent
from lsd.saliency.explain import TargetSpec, explain
from lsd.saliency.maps import MapSettings
from lsd.saliency.views import Look
from lsd.sayings import NOTHING_OF_ANY
from lsd.ui.saliency import run as saliency_run
from lsd.ui.saliency import tab as saliency_tab
from lsd.ui.saliency.tab import SaliencyTab, _draw, _pack, _read_address, explain_first
from lsd.ui.shared import answers, controls, jobs, markup
from lsd.ui.shared.controls import CONTRAST, FIRST_CHOICE, OWN_CLASS, SETTINGS, SIMILAR
from lsd.ui.shared.examples import drawn, examples
from lsd.ui.shared.long_event import long_event
from lsd.view import View

DRAWN = drawn()[0]
MAP_VALUES = ["abs", "max", "image", 99.0, 0.0, "bilinear", "heatmap", 0.7, True]


@pytest.fixture(scope="module")
def tab():
    with gr.Blocks():
        return SaliencyTab()


def run(tab, **changes):
    return list(tab._explain(*request_of(**changes)))


def request_of(*, path=None, models=("demo:resnet",), target=FIRST_CHOICE, of=None, against=None, like=None,
               method="gradient", kind="log_odds", outputs="", layouts="", check=False, **settings):  # fmt: skip
    """The values of the tab's inputs."""
    values = [settings.get(name, setting.default) for name, setting in SETTINGS.items()]
    path = str(examples()[DRAWN]) if path is None else path
    return [path, list(models), target, of, against, like, method, kind, outputs, layouts, check, *values]


@contextlib.contextmanager
def packed(session):
    """The download."""
    with contextlib.closing(_pack(session, *MAP_VALUES)) as steps:
        update, _ = next(steps)
        with zipfile.ZipFile(update["value"]) as archive:
            yield archive


def session_of(tab, updates):
    return next(u[tab.session] for u in reversed(updates) if u.get(tab.session) is not None)


def last_status(tab, updates):
    return next(u[tab.status] for u in reversed(updates) if tab.status in u)


def test_each_model_is_shown_as_soon_as_it_is_done(tab):
    updates = run(tab, models=["demo:resnet", "demo:vit"])
    order = [i for u in updates for i in (0, 1) if isinstance(u.get(tab.results[i].head), str)]
    assert order == [0, 1, 0, 1]  # one by one, and all with the last word, in case the page was not ready for the first
    assert all(updates[-1][tab.results[i].image]["value"] for i in (0, 1))
    session = session_of(tab, updates)
    assert session.models == ["demo:resnet", "demo:vit"]
    assert [e.top[0][1] for e in session.explanations] == [DRAWN, DRAWN]
    assert f"All say {DRAWN}" in last_status(tab, updates)


def test_the_badge_says_that_captum_agrees(tab):
    updates = run(tab, check=True)
    assert sum("Captum agrees" in (u.get(tab.results[0].badge) or "") for u in updates) == 2
    assert "Captum agrees" in updates[-1][tab.results[0].badge]


def test_where_captum_cannot_compare_the_badge_says_why(tab):
    updates = run(tab, models=["demo:vit"], method="grad_cam", check=True)
    assert any("laid out as tokens" in (u.get(tab.results[0].badge) or "") for u in updates)


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


def test_progress_is_shown_and_leaving_stops_the_work(tab):
    values = [{"samples": 512, "batch_size": 2}.get(name, s.default) for name, s in SETTINGS.items()]
    request = [
        str(examples()[DRAWN]),
        ["demo:resnet"],
        FIRST_CHOICE,
        None,
        None,
        None,
        "smoothgrad",
        "log_odds",
        "",
        "",
        False,
    ]

    async def leave():
        steps = tab_event(tab)(*request, *values)
        async for update in steps:
            if isinstance(update.get(tab.status), str) and "of 512 passes" in update[tab.status]:
                break
        await steps.aclose()  # what Gradio does when Stop is pressed, or the visitor has gone

    asyncio.run(leave())
    model = get_model("demo:resnet")
    assert model.lock.acquire(timeout=5), "the work goes on after it was closed"
    model.lock.release()


def tab_event(tab):
    return long_event(tab._explain, tab.status)


def test_a_model_for_which_the_method_is_not_defined_leaves_the_others(tab):
    """Its sentence is in the place of its map; what the others have found is drawn and downloaded."""
    models = ["demo:resnet", "demo:vit", "demo:shortcut"]
    last = run(tab, models=models, method="guided_backprop", check=True)[-1]
    session = last[tab.session]
    assert session.models == ["demo:resnet", "demo:shortcut"] and session.places == [0, 2]
    assert "uses GELU" in last[tab.results[1].note] and "Demo XCiT" in last[tab.results[1].head]
    assert all(last[tab.results[i].image]["value"] for i in (0, 2))
    assert "Done in" in last[tab.status] and "Demo XCiT: " in last[tab.status] and 'role="alert"' in last[tab.status]
    assert last[tab.which]["choices"] == [("Demo ResNet", 0), ("Demo tag reader", 1)]
    drawn = dict(zip(tab.pictures, _draw(session, 1, *MAP_VALUES), strict=True))
    assert drawn[tab.results[2].image]["alt_text"].startswith("Saliency map of demo:shortcut")
    assert drawn[tab.results[1].image] == drawn[tab.results[1].note] == gr.skip()
    with packed(session) as archive:
        assert json.loads(archive.read("manifest.json"))["request"]["models"] == session.models


def test_a_defect_in_one_model_leaves_the_others(tab, nothing_answered, monkeypatch):
    explain = answers.explain

    def defect(model, *arguments, **settings):
        return 1 / 0 if model.name == "demo:resnet" else explain(model, *arguments, **settings)

    monkeypatch.setattr(answers, "explain", defect)
    last = run(tab, models=["demo:resnet", "demo:vit"])[-1]
    assert last[tab.session].models == ["demo:vit"] and "ZeroDivisionError" in last[tab.results[0].note]


def test_what_was_finished_before_stop_is_drawn_and_downloaded(tab):
    steps = tab._explain(*request_of(models=["demo:resnet", "demo:vit"]))
    session = next(update[tab.session] for update in steps if update.get(tab.session))
    steps.close()
    assert session.models == ["demo:resnet"]
    assert "1 of 2 models were asked" in saliency_tab._stopped(session)
    drawn = dict(zip(tab.pictures, _draw(session, 0, *MAP_VALUES), strict=True))
    assert drawn[tab.results[0].image]["value"] and drawn[tab.results[1].image] == gr.skip()
    with packed(session) as archive:
        assert "demo_resnet.png" in archive.namelist()
    assert saliency_tab._stopped(None) == markup.status("Stopped.")


def test_asking_anew_gives_up_what_is_under_way():
    """By the button too, which the page presses itself for its first view: a visitor's click is not taken for it."""
    with gr.Blocks() as page:
        tab = SaliencyTab()
    events = list(page.fns.values())
    (explain,) = (e for e in events if (tab.asked._id, "change") in e.targets)
    assert explain.trigger_mode == "multiple"
    for component, name in ((tab.run, "click"), (tab.gallery, "select"), (tab.image, "upload"), (tab.stop, "click")):
        assert any(explain._id in e.cancels for e in events if (component._id, name) in e.targets), name
    asking = [e for e in events if e.outputs == [tab.asked]]
    assert len(asking) == 3 and asking[0].fn() != asking[0].fn()


def test_what_is_answered_already_waits_for_nobody(tab):
    run(tab)
    with jobs.turn():  # somebody else has the place
        finished = threading.Thread(target=lambda: seen.append(run(tab)), daemon=True)
        seen = []
        finished.start()
        finished.join(60)
    assert "Done in" in last_status(tab, seen[0])


def test_drawing_again_runs_no_model(tab, monkeypatch):
    session = session_of(tab, run(tab, models=["demo:resnet", "demo:vit"]))
    monkeypatch.setattr(saliency_run, "get_model", lambda name: pytest.fail("a model was asked for"))
    first = _draw(session, 0, *MAP_VALUES)
    signed = _draw(session, 0, "signed", *MAP_VALUES[1:])
    assert np.any(np.asarray(first[0]["value"]) != np.asarray(signed[0]["value"]))
    assert "demo:resnet" in first[0]["alt_text"]


def test_an_empty_map_says_which_sign_shows_something(tab):
    updates = run(tab, models=["demo:resnet", "demo:vit"], path=str(examples()["dotted square"]), method="grad_cam")
    assert any("Choose the sign “against”" in (u.get(tab.results[1].note) or "") for u in updates)
    assert not any(u.get(tab.results[0].note) for u in updates)
    session = session_of(tab, updates)
    for sign, expected in (("positive", True), ("negative", False), ("abs", False), ("signed", False)):
        drawn = dict(zip(tab.pictures, _draw(session, 0, sign, *MAP_VALUES[1:]), strict=True))
        assert ("counts <b>for</b> the target" in drawn[tab.results[1].note]) == expected
        assert drawn[tab.results[0].note] == ""


def test_a_map_that_is_not_defined_is_a_sentence(tab):
    session = session_of(tab, run(tab))
    assert "leaves no sign" in _draw(session, 0, "signed", "l2", *MAP_VALUES[2:])[-1]


def test_the_bundle_holds_pictures_values_and_manifest(tab):
    session = session_of(tab, run(tab, models=["demo:resnet", "demo:vit"]))
    with packed(session) as archive:
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
    with packed(session) as archive:
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
    steps = _pack(session_of(tab, run(tab)), *MAP_VALUES)
    path = Path(next(steps)[0]["value"])
    assert path.exists()
    assert list(steps) == [] and not path.parent.exists()


def test_likeness_to_another_picture_needs_no_class_and_goes_into_the_bundle(tab, tmp_path, capsys):
    other = examples()[drawn()[1]]
    session = session_of(tab, updates := run(tab, target=SIMILAR, like=str(other), models=["demo:resnet", "demo:vit"]))
    (target,) = {e.attribution.target.kind for e in session.explanations}
    assert target == "similarity"
    assert "similarity to reference.png = " in updates[-1][tab.results[0].head]
    assert "Demo XCiT: similarity -0." in last_status(tab, updates)
    with packed(session) as archive:
        archive.extractall(tmp_path)
    # Where it lies on the server is nobody's business.
    assert str(other) not in (tmp_path / "manifest.json").read_text()
    assert main(["saliency", "--from", str(tmp_path / "manifest.json")]) == 0
    assert capsys.readouterr().out.count("identical, bit for bit") == 2


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
        with packed(session) as archive:
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
    with packed(said) as archive:
        first, second = json.loads(archive.read("manifest.json"))["results"]
    assert first["said"] == {"layouts": {"layer2": "nhwc"}} and "said" not in second


def test_assumed_names_are_told_below_the_predictions(tab, tmp_path):
    net = timm.create_model("test_resnet", num_classes=1000)
    about = {"architecture": "test_resnet", "num_classes": 1000, "pretrained_cfg": net.pretrained_cfg | {"tag": None}}
    (tmp_path / "config.json").write_text(json.dumps(about))
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    updates = run(tab, models=["demo:resnet", f"local-dir:{tmp_path}"])
    known, assumed = (updates[-1][tab.results[i].table] for i in (0, 1))
    assert "The class names are assumed: it has 1000 classes as ImageNet-1k has" in assumed and "assumed" not in known


def first_view(tab, session=None, opened=False):
    """What the handler of the tab's first opening gives, for the controls as a fresh page has them."""
    values = [c.value["path"] if isinstance(c.value, dict) else c.value for c in tab.inputs]
    values[0] = str(examples()[controls.default_example(controls.default_models())])
    return tab._first(opened, session, *values)


@pytest.fixture
def nothing_answered(monkeypatch):
    monkeypatch.setattr(answers, "_answers", Recent(answers.MAX_BYTES, answers._size))
    monkeypatch.delenv("LSD_MODEL_PATH", raising=False)


def test_it_opens_on_a_photo_that_three_networks_have_explained(tab, nothing_answered, monkeypatch):
    explain_first()
    monkeypatch.setattr(answers, "explain", lambda *_, **__: pytest.fail("computed again"))
    monkeypatch.setattr(answers, "crosscheck_explanation", lambda *_: pytest.fail("compared again"))
    shown = first_view(tab)
    assert shown[tab.ask] == "" and shown[tab.session].models == list(PACKAGES)
    assert all(shown[result.image]["value"] for result in tab.results[:3])
    assert all("Captum agrees" in shown[result.badge] for result in tab.results[:3])
    assert "Done in" in shown[tab.status] and "EfficientNet-Lite0" in shown[tab.results[0].head]


def test_a_first_view_that_cannot_be_explained_leaves_the_page_running(nothing_answered, monkeypatch, caplog):
    monkeypatch.setattr(saliency_run, "get_model", lambda name: 1 / 0)
    explain_first()
    assert "not explained beforehand" in caplog.text


def test_where_it_is_not_explained_yet_the_button_is_pressed(tab, nothing_answered):
    assert first_view(tab) == {tab.opened: True, tab.ask: "run"}
    assert first_view(tab, opened=True) == {tab.opened: True, tab.ask: ""}  # coming back begins nothing


def test_what_a_visitor_made_is_not_replaced_by_the_first_view(tab):
    assert first_view(tab, session_of(tab, run(tab))) == {tab.opened: True, tab.ask: ""}


def test_the_same_question_is_answered_once(tab, nothing_answered, monkeypatch):
    computed = []

    def counted(*arguments, **settings):
        computed.append(arguments)
        return saliency_explain(*arguments, **settings)

    saliency_explain = answers.explain
    monkeypatch.setattr(answers, "explain", counted)
    first, again = session_of(tab, run(tab)), session_of(tab, run(tab))
    assert len(computed) == 1 and first.explanations == again.explanations
    run(tab, method="gradient_x_input")
    run(tab, path=str(examples()[drawn()[1]]))
    run(tab, target=OWN_CLASS, of="3")
    run(tab, models=["demo:vit"])
    assert len(computed) == 5


def test_two_views_of_a_picture_never_share_an_answer_and_each_goes_into_its_bundle(nothing_answered, tmp_path):
    path = tmp_path / "wide.png"
    Image.open(examples()[DRAWN]).resize((200, 96)).save(path)
    found = {}
    for view in map(View.parse, ("evaluated", "squashed", "padded", "60,8,80", "60,9,80")):
        request = saliency_run.Request(
            path, ("demo:resnet",), TargetSpec(), "gradient", {}, NOTHING_OF_ANY, True, view=view
        )
        assert not request.is_answered
        *_, (_, _, session) = saliency_run.explain_all(request)
        assert request.is_answered and session.checks[0].agrees
        (explanation,) = session.explanations
        assert torch.equal(
            explanation.attribution.values,
            explain(get_model("demo:resnet"), open_image(path), TargetSpec(), "gradient", view=view).attribution.values,
        )
        found[view] = explanation.box
        folder = tmp_path / str(view)
        write_files(folder, saliency_run.files(session, MapSettings(), Look()))
        assert json.loads((folder / "manifest.json").read_text())["request"]["view"] == str(view)
        assert main(["saliency", "--from", str(folder / "manifest.json")]) == 0
    assert len(set(found.values())) == len(found)


def test_a_square_beyond_the_picture_is_told_beside_each_model(tmp_path):
    request = saliency_run.Request(
        Path(examples()[DRAWN]), ("demo:resnet",), TargetSpec(), "gradient", {}, NOTHING_OF_ANY, False, view=View((0, 0, 9999))
    )  # fmt: skip
    *_, (_, _, session) = saliency_run.explain_all(request)
    assert "reaches beyond the picture" in session.troubles[0]


class Request:
    def __init__(self, query):
        from starlette.datastructures import QueryParams

        self.query_params = QueryParams(query)


def test_the_address_restores_the_controls():
    updates = _read_address(Request("model=demo:vit&model=demo:resnet&method=grad_cam&of=3&against=5&example=" + DRAWN))
    assert updates[0] == ["demo:vit", "demo:resnet"]
    assert updates[1] == "grad_cam"
    assert updates[3] == DRAWN
    assert updates[4] == CONTRAST


def test_the_address_restores_what_was_said():
    updates = _read_address(Request("model=demo:vit&outputs=sigmoid&layout=blocks.1%3Dtokens:1&layout=a%3Dnchw"))
    assert updates[10:12] == ["sigmoid", "blocks.1=tokens:1, a=nchw"]
    assert _read_address(Request("model=demo:vit&outputs=tanh"))[10:12] == [gr.skip()] * 2


def test_the_address_restores_the_other_picture():
    updates = _read_address(Request(f"model=demo:vit&like={DRAWN}"))
    assert updates[4] == SIMILAR and updates[8] == str(examples()[DRAWN]) and updates[9] == DRAWN
    assert _read_address(Request("model=demo:vit&like=/etc/passwd"))[4] != SIMILAR


def test_a_hostile_address_changes_nothing():
    updates = _read_address(Request("method=../../etc&example=<script>&model="))
    assert not any(isinstance(u, str | list) for u in updates[1:])


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
    assert saliency_tab._allowed_channels("signed", "l2")["value"] == default == "sum"
    assert saliency_tab._allowed_channels("signed", "max")["value"] == "max"
    assert "value" not in saliency_tab._allowed_channels("abs", "l2")
