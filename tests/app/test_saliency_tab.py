"""The Saliency tab's handlers, called as Gradio calls them."""

import json
import zipfile

import gradio as gr
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from lsd.cli import main
from lsd.packages import PACKAGES
from lsd.recent import Recent
from lsd.saliency.maps import MapSettings
from lsd.ui import answers, controls, saliency_tab
from lsd.ui.controls import CONTRAST, FIRST_CHOICE, OWN_CLASS, SETTINGS, SIMILAR
from lsd.ui.examples import drawn, examples
from lsd.ui.saliency_tab import SaliencyTab, _draw, _pack, _read_address, explain_first

DRAWN = drawn()[0]
MAP_VALUES = ["abs", "max", "image", 99.0, 0.0, "bilinear", "heatmap", 0.7, True]


@pytest.fixture(scope="module")
def tab():
    with gr.Blocks():
        return SaliencyTab()


def run(tab, *, path=None, models=("demo:resnet",), target=FIRST_CHOICE, of=None, against=None, like=None,
        method="gradient", kind="log_odds", outputs="", layouts="", check=False, **settings):  # fmt: skip
    values = [settings.get(name, setting.default) for name, setting in SETTINGS.items()]
    path = str(examples()[DRAWN]) if path is None else path
    return list(
        tab._explain(path, list(models), target, of, against, like, method, kind, outputs, layouts, check, *values)
    )


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


def test_progress_is_shown_and_closing_stops_the_work(tab):
    values = [{"samples": 512, "batch_size": 2}.get(name, s.default) for name, s in SETTINGS.items()]
    job = tab._explain(
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
        *values,
    )
    for update in job:
        if "of 512 passes" in update.get(tab.status, ""):
            break
    job.close()  # what Gradio does when Stop is pressed
    model = saliency_tab.get_model("demo:resnet")
    assert model.lock.acquire(timeout=5), "the work goes on after it was closed"
    model.lock.release()


def test_drawing_again_runs_no_model(tab, monkeypatch):
    session = session_of(tab, run(tab, models=["demo:resnet", "demo:vit"]))
    monkeypatch.setattr(saliency_tab, "get_model", lambda name: pytest.fail("a model was asked for"))
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
    update, _ = _pack(session, *MAP_VALUES)
    with zipfile.ZipFile(update["value"]) as archive:
        names = set(archive.namelist())
        record = json.loads(archive.read("manifest.json"))
        with archive.open("attributions.npz") as file:
            arrays = dict(np.load(file))
    assert {"demo_resnet.png", "demo_vit.png", "comparison.png"} <= names
    assert record["request"]["models"] == ["demo:resnet", "demo:vit"]
    np.testing.assert_array_equal(arrays["demo_vit"], session.explanations[1].attribution.values.numpy())


def test_likeness_to_another_picture_needs_no_class_and_goes_into_the_bundle(tab, tmp_path, capsys):
    other = examples()[drawn()[1]]
    session = session_of(tab, updates := run(tab, target=SIMILAR, like=str(other), models=["demo:resnet", "demo:vit"]))
    (target,) = {e.attribution.target.kind for e in session.explanations}
    assert target == "similarity"
    assert "similarity to reference.png = " in updates[-1][tab.results[0].head]
    assert "Demo XCiT: similarity -0." in last_status(tab, updates)
    update, _ = _pack(session, *MAP_VALUES)
    with zipfile.ZipFile(update["value"]) as archive:
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
        update, _ = _pack(session, *MAP_VALUES)
        with zipfile.ZipFile(update["value"]) as archive:
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
    update, _ = _pack(said, *MAP_VALUES)
    with zipfile.ZipFile(update["value"]) as archive:
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
    monkeypatch.setattr(saliency_tab, "get_model", lambda name: 1 / 0)
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
