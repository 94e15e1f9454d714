"""The Features tab's handlers, called as Gradio calls them."""

import contextlib
import io
import json
import threading
import zipfile
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image
from starlette.datastructures import QueryParams

from lsd.cli import main
from lsd.features import batch, networks
from lsd.features.judge import Verdict
from lsd.features.recipes import DEFAULT, RECIPES, find_recipe
from lsd.models import get_model
from lsd.said import Said
from lsd.tracing import run_to
from lsd.ui.features import runs as feature_runs
from lsd.ui.features import tab as features_tab
from lsd.ui.features import units as feature_units
from lsd.ui.features.knobs import KNOBS, differences, knob_values
from lsd.ui.features.request import read_address, read_wish, write_address
from lsd.ui.features.runs import FRAMES, Session, command, files, mosaic
from lsd.ui.features.tab import FeaturesTab, _look_back, _pack, _read_address, _say, _show_recipe, _write_address
from lsd.ui.features.units import CLASS, EXPRESSION, LAYER
from lsd.ui.shared import jobs
from lsd.ui.shared.examples import examples

CHELSEA = str(examples()["Chelsea the cat"])


@pytest.fixture(scope="module")
def tab():
    with gr.Blocks():
        return FeaturesTab()


def inputs(*, models=("demo:resnet",), recipe="lucid", steps=6, seeds=1, size=0, start="noise", photo=None, example="", outputs="",
           layouts="", what=CLASS, of="striped star", layer=None, kind="channel", numbers=(0, 0, 0, 0, 0), expression="",
           **knobs):  # fmt: skip
    values = knob_values(find_recipe(recipe))
    for i, knob in enumerate(KNOBS):
        name = knob.name.replace(" ", "_").replace(",", "")
        values[i] = knobs.pop(name, values[i])
    assert not knobs, knobs
    unit = [what, of, layer, kind, *numbers, expression]
    return [list(models), recipe, steps, seeds, size, start, photo, example, outputs, layouts, *unit, *values]


def run(tab, columns="models", **changes):
    return list(tab._make(columns, inputs(**changes)))


@contextlib.contextmanager
def packed(session):
    """The download."""
    with contextlib.closing(_pack(session)) as steps:
        update, _ = next(steps)
        with zipfile.ZipFile(update["value"]) as archive:
            yield archive


def session_of(tab, updates) -> Session:
    return next(u[tab.session] for u in reversed(updates) if tab.session in u)


def last(part, updates):
    return next((u[part] for u in reversed(updates) if part in u), "")


def test_a_picture_forms_and_is_judged(tab):
    updates = run(tab, steps=12, seeds=2)
    column = tab.columns[0]
    assert any("step 1 of 12" in u.get(column.progress, "") for u in updates)
    session = session_of(tab, updates)
    assert session.finished
    (lane,) = session.lanes
    assert [p.status for p in lane.pictures] == ["ok", "ok"]
    assert "Done in" in last(tab.status, updates)
    said = last(column.verdicts, updates)
    for name in ("demo:resnet", "demo:vit", "demo:convnext"):
        assert name in said
    assert "striped star" in last(column.picture, updates)
    assert 'alt="2 feature visualizations of striped star' in last(column.picture, updates)
    assert 'alt="Score curve' in last(column.curve, updates)


def test_what_a_visitor_says_of_the_outputs_is_followed_kept_and_repeated(tab, tmp_path, capsys):
    """By the picture, by what the network says of it, by the manifest, and by the command line on the page."""
    said = run(tab, columns="outputs", steps=4, outputs="sigmoid")
    session = session_of(tab, said)
    lane = session.lanes[1]
    assert lane.own[0].top[0][2] + lane.own[0].top[1][2] > 1
    assert lane.readings["logit"] == lane.readings["log_odds"]
    assert lane.readings["probability"] == pytest.approx(1 / (1 + np.exp(-lane.readings["logit"])))
    assert last(tab.command, said).count("--outputs sigmoid") == 3
    session.lanes, session.kind = [lane], "models"
    for name, data in files(session, {"demo:resnet": get_model("demo:resnet")}).items():
        (tmp_path / name).write_bytes(data)
    assert json.loads((tmp_path / "manifest.json").read_text())["request"]["said"] == {"outputs": "sigmoid"}
    assert main(["features", "--from", str(tmp_path / "manifest.json")]) == 0
    assert "identical, bit for bit" in capsys.readouterr().out
    plain = session_of(tab, run(tab, columns="outputs", steps=4)).lanes[1]
    assert plain.readings["logit"] > plain.readings["log_odds"] and sum(p for *_, p in plain.own[0].top) <= 1


def test_what_a_visitor_says_of_one_networks_layer_is_followed_and_repeated(tab):
    layer = {"what": LAYER, "layer": "layer2", "steps": 4, "models": ["demo:resnet", "demo:vit"]}
    lane, *_ = session_of(
        tab, run(tab, layouts="demo:resnet=layer2=nhwc, demo:resnet=layer1=nchw", **layer, numbers=(0, 1, 0, 0, 0))
    ).lanes
    assert lane.request.said == Said(layouts={"layer2": "nhwc", "layer1": "nchw"})
    assert "--layout layer1=nchw --layout layer2=nhwc" in command(lane, None)


def test_assumed_names_are_told_below_what_a_network_says():
    from lsd.ui.features.texts import says

    top = ((281, "tabby", 0.9),)
    assert "are assumed &amp; told" in says(Verdict("other", top, "They are assumed & told."), "another network", None)
    assert 'lsd-note"></div>' not in says(Verdict("other", top), "another network", None)


def test_models_stand_side_by_side_and_judge_each_other(tab):
    session = session_of(tab, run(tab, models=["demo:resnet", "demo:vit"], steps=3))
    assert [lane.heading for lane in session.lanes] == ["demo:resnet", "demo:vit"]
    assert "demo:vit" in [v[0].model for v in session.lanes[0].others]
    assert "demo:resnet" in [v[0].model for v in session.lanes[1].others]


def test_a_layer_that_only_one_model_has_is_made_for_that_one(tab):
    updates = run(
        tab, models=["demo:resnet", "demo:vit"], what=LAYER, layer="layer2", kind="channel", numbers=(0, 3, 0, 0, 0)
    )
    (lane,) = session_of(tab, updates).lanes
    assert lane.request.units == ("layer2/channel/3",)
    assert "demo:vit is left out" in last(tab.reading, updates)
    assert "demo:vit" in last(tab.columns[0].verdicts, updates)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"models": []}, "No model is chosen"),
        ({"models": ["demo:resnet", "demo:vit", "demo:convnext", "demo:shortcut"]}, "at most 3"),
        ({"models": ["no_such_model"]}, "There is no model called"),
        ({"models": ["<img src=x onerror=alert(1)>"]}, "There is no model called"),
        ({"of": None}, "No class is chosen"),
        ({"of": "zebra crossing"}, "No class of this model"),
        ({"of": "99"}, "out of range"),
        ({"what": LAYER}, "No layer is chosen"),
        ({"what": LAYER, "layer": "layer9"}, "has no layer"),
        ({"what": LAYER, "layer": "layer2", "numbers": (0, 9999, 0, 0, 0)}, "out of range"),
        ({"what": LAYER, "layer": "layer2", "numbers": (0, -1, 0, 0, 0)}, "out of range"),
        ({"what": LAYER, "layer": "layer2", "numbers": (0, None, 0, 0, 0)}, "channel is empty"),
        ({"what": LAYER, "layer": "layer2", "kind": "head"}, "no attention heads"),
        ({"what": LAYER, "layer": "layer2", "kind": "token"}, "no prefix tokens"),
        ({"what": LAYER, "layer": "layer2", "kind": "inversion"}, "There is no photo yet"),
        ({"what": EXPRESSION}, "expression is empty"),
        ({"what": EXPRESSION, "expression": "class/1 +"}, "ends too early"),
        ({"what": EXPRESSION, "expression": "<script>"}, "is not a unit"),
        ({"steps": 5000}, "between 1 and 1024"),
        ({"steps": None}, "whole number"),
        ({"seeds": 9}, "between 1 and 8"),
        ({"size": 4096}, "between 16 and 512"),
        ({"start": "photo"}, "There is no photo yet"),
        ({"recipe": "lucid", "learning_rate": None}, "“learning rate” is empty"),
        ({"recipe": "lucid", "learning_rate": -1}, "learning_rate lies between"),
        ({"recipe": "lucid", "views": 200}, "At most 32 views"),
        ({"recipe": "lucid", "stages": "[[1"}, "not valid JSON"),
        ({"recipe": "lucid", "zoom_least": 3}, "zoom is (least, most)"),
        ({"recipe": "lucid", "diversity": 1}, "diversity"),
        ({"layouts": "layer2"}, "“layer2” is not a layout"),
        ({"layouts": "layer9=nchw"}, "has no layer “layer9”"),
        ({"layouts": "layer1=tokens"}, "cannot be laid out as tokens"),
        ({"layouts": "demo:vit=blocks.1=tokens"}, "Something is said of demo:vit, which is not asked"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_in_the_page(tab, changes, sentence):
    status = last(tab.status, run(tab, **changes))
    assert sentence in status
    assert 'role="alert"' in status
    assert "<img" not in status and "<script" not in status


def test_a_damaged_photo_is_refused_before_anything_is_loaded(tab, tmp_path, monkeypatch):
    path = tmp_path / "note.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"nonsense" * 10)
    monkeypatch.setattr("lsd.ui.features.request.get_model", lambda name: pytest.fail("a model was loaded"))
    status = last(tab.status, run(tab, start="photo", photo=str(path)))
    assert 'role="alert"' in status and "wrong on our side" not in status


def test_a_dream_starts_at_the_photo(tab):
    updates = run(tab, what=LAYER, layer="layer3", kind="layer", start="photo", photo=CHELSEA, steps=1, recipe="lucid")
    (lane,) = session_of(tab, updates).lanes
    photo = Image.open(CHELSEA).convert("RGB")
    side = min(photo.size)
    box = ((photo.width - side) // 2, (photo.height - side) // 2, (photo.width + side) // 2, (photo.height + side) // 2)
    expected = np.asarray(photo.crop(box).resize((96, 96), Image.Resampling.BICUBIC), dtype=float)
    made = lane.pictures[0].pixels.astype(float)
    assert np.corrcoef(expected.ravel(), made.ravel())[0, 1] > 0.9


def test_a_dead_unit_is_said_to_be_dead(tab):
    updates = run(tab, what=EXPRESSION, expression="0 * class/3", steps=70)
    assert "did not respond to anything that was tried" in last(tab.status, updates)
    assert "did not respond to anything that was tried" in last(tab.columns[0].verdicts, updates)
    assert "no gradient" in last(tab.columns[0].picture, updates)


def test_no_picture_is_lost_where_memory_gives_out(tab, monkeypatch):
    """Halved in the middle of an ascent: the batches come one after the other, and the download says which they were."""

    def scarce(network, images, taps):
        calls.append(len(images))
        if len(images) == 4 and len(calls) > 3:
            raise torch.OutOfMemoryError("not enough")
        return run_to(network, images, taps)

    calls = []
    monkeypatch.setattr(networks, "run_to", scarce)
    updates = run(tab, seeds=4, steps=5)
    session = session_of(tab, updates)
    (lane,) = session.lanes
    assert [p.job.seed for p in lane.pictures] == [0, 1, 2, 3] and [len(t) for t in lane.traces] == [5] * 4
    assert len(lane.live) == 4 and "Done in" in last(tab.status, updates)
    record = json.loads(files(session, {"demo:resnet": get_model("demo:resnet")})["manifest.json"])
    assert record["batches"] == [2, 2] and len(record["results"]) == 4


def test_what_of_a_recipe_comes_to_nothing_is_said(tab):
    updates = run(tab, what=EXPRESSION, expression="conv1.0/channel/3", recipe="lsd", steps=2)
    said = last(tab.columns[0].verdicts, updates)
    assert "no residual branch lies before this unit" in said and "no activation function" in said
    assert "lsd-trouble" not in last(tab.columns[0].verdicts, run(tab, recipe="lsd", steps=2))


def test_no_regularization_beside_the_recipe(tab):
    updates = run(tab, "recipes", steps=60, seeds=4)
    session = session_of(tab, updates)
    assert [lane.cooking.base for lane in session.lanes] == ["none", "jitter", "lucid"]
    assert {lane.recipe.output for lane in session.lanes} == {"logit"}
    assert {lane.request.seeds for lane in session.lanes} == {(0,)}
    assert "Without regularization" in last(tab.reading, updates)
    status = last(tab.status, run(tab, "recipes", recipe="none", steps=3))
    assert "Done in" in status
    (first, *_) = session_of(tab, run(tab, "recipes", recipe="jitter", steps=2)).lanes
    assert first.cooking.base == "none"


def test_the_three_outputs_share_noise_and_views(tab):
    updates = run(tab, "outputs", steps=3)
    lanes = session_of(tab, updates).lanes
    assert [lane.recipe.output for lane in lanes] == ["logit", "log_odds", "probability"]
    assert all(set(lane.readings) == {"logit", "log_odds", "probability"} for lane in lanes)
    assert lanes[1].readings["log_odds"] == pytest.approx(lanes[1].pictures[0].score, abs=1e-3)
    assert lanes[2].readings["probability"] == pytest.approx(lanes[2].pictures[0].score, abs=1e-5)
    assert "made for the log-odds" in last(tab.reading, updates)
    status = last(tab.status, run(tab, "outputs", what=LAYER, layer="layer2"))
    assert "belong to a class" in status


def test_closing_ends_every_ascent(tab, monkeypatch):
    steps = []
    monkeypatch.setattr(batch, "report", lambda done, total: steps.append(done))
    job = tab._make("models", inputs(models=["demo:resnet", "demo:vit"], steps=1000))
    for update in job:
        if "step 1 of" in update.get(tab.columns[1].progress, ""):
            break
    job.close()  # what Gradio does when Stop is pressed
    count = len(steps)
    assert 0 < count < 500
    for name in ("demo:resnet", "demo:vit"):
        assert get_model(name).lock.acquire(timeout=1), "a model is still held"
        get_model(name).lock.release()
    assert len(steps) == count


def test_stop_leaves_what_there_is_to_look_back_through(tab):
    job = tab._make("models", inputs(steps=1000))
    session = None
    for update in job:
        session = update.get(tab.session, session)
        if "step " in update.get(tab.columns[0].progress, ""):
            break
    job.close()
    left = tab._stopped(session)
    assert "Stopped at step" in left[tab.status]
    assert left[tab.after]["visible"]
    assert "img" in _look_back(session, 1)[0]
    assert "nothing to download" in next(_pack(session))[1]


def test_a_model_that_fails_leaves_the_others(tab, monkeypatch):
    """In the middle of its ascent; what the others have made is judged and downloaded."""
    ascend = feature_runs.ascend

    def failing(model, *arguments, **options):
        for snapshot in ascend(model, *arguments, **options):
            yield snapshot
            if model.name == "demo:resnet":
                raise torch.OutOfMemoryError("not enough")

    monkeypatch.setattr(feature_runs, "ascend", failing)
    updates = run(tab, models=["demo:resnet", "demo:vit"], steps=3)
    session = session_of(tab, updates)
    assert [lane.done for lane in session.lanes] == [False, True]
    assert "OutOfMemoryError" in last(tab.columns[0].verdicts, updates)
    assert "demo:resnet" in last(tab.columns[1].verdicts, updates)  # it still says what it sees
    status = last(tab.status, updates)
    assert "Done in" in status and "demo:resnet: Something went wrong" in status and 'role="alert"' in status
    with packed(session) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {"demo_vit"}


def test_a_model_that_cannot_be_had_leaves_the_others(tab):
    updates = run(tab, models=["no_such_model", "demo:vit"], steps=2)
    assert session_of(tab, updates).lanes[0].done
    assert "no_such_model is left out: There is no model called" in last(tab.reading, updates)
    updates = run(tab, models=["no_such_model", "nor_this_one"])
    assert "no_such_model" in last(tab.status, updates) and "nor_this_one" in last(tab.status, updates)


def test_the_layers_are_listed_while_somebody_else_has_the_place(tab):
    seen = []
    with jobs.turn():
        look = threading.Thread(
            target=lambda: seen.extend(tab.unit._find_layers(tab.status, LAYER, ["demo:vit"], None)), daemon=True
        )
        look.start()
        look.join(60)
    assert seen[-1][tab.unit.layers]


@pytest.mark.parametrize("name", ["sheet.png", "class_13.0.PNG", "manifest.json"])
def test_an_upload_replaces_nothing_in_the_download(tab, tmp_path, name):
    photo = tmp_path / name
    photo.write_bytes(Path(CHELSEA).read_bytes())
    updates = run(tab, steps=2, start="photo", photo=str(photo))
    with packed(session_of(tab, updates)) as archive:
        names = archive.namelist()
        record = json.loads(archive.read("manifest.json"))
        kept = archive.read(record["request"]["photo"]["file"])
    assert len({one.lower() for one in names}) == len(names) and kept == photo.read_bytes()


def test_looking_back(tab):
    session = session_of(tab, run(tab, steps=60, seeds=4))
    (lane,) = session.lanes
    assert len(lane.frames) <= FRAMES
    first, early, end = (_look_back(session, step)[0] for step in (1, 20, 60))
    assert len({first, early, end}) == 3
    assert "step 20 of 60" in early and "finished" in end
    assert _say(session, 0)[0] != _say(session, 3)[0]
    assert _look_back(None, 3) == [gr.skip()] * 3


def test_the_download_is_what_the_command_line_writes(tab, tmp_path, monkeypatch):
    updates = run(tab, steps=5, seeds=2, shift=0.2, size=64)
    line = last(tab.command, updates).split("<pre")[1].split(">")[1].split("<")[0]
    with packed(session_of(tab, updates)) as archive:
        ours = {name: archive.read(name) for name in archive.namelist()}
    monkeypatch.chdir(tmp_path)
    assert line.startswith("python -m lsd features ")
    assert main(line.removeprefix("python -m lsd ").split()) == 0
    theirs = {path.name: path.read_bytes() for path in (tmp_path / "features").iterdir()}
    assert set(ours) == set(theirs) == {"class_13.0.png", "class_13.1.png", "sheet.png", "ascent.gif", "manifest.json"}
    for name in sorted(set(ours) - {"manifest.json"}):
        assert ours[name] == theirs[name], name
    mine, other = (json.loads(files["manifest.json"]) for files in (ours, theirs))
    for result in (*mine["results"], *other["results"]):
        del result["seconds"]
    assert mine == other


def test_several_columns_go_into_folders_with_the_photo_beside(tab):
    updates = run(tab, "recipes", steps=2, start="photo", photo=CHELSEA)
    with packed(session_of(tab, updates)) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {
        "none_no_regularization", "jitter_only_a_shift", "lucid", "chelsea.png"
    }  # fmt: skip
    assert "--photo chelsea.png --start photo" in last(tab.command, updates)


@pytest.mark.parametrize("name", RECIPES)
def test_choosing_a_recipe_sets_every_knob_exactly(name):
    about, _, *values = _show_recipe(name)
    assert about == find_recipe(name).about
    assert differences(find_recipe(name), json.loads(json.dumps(values))) == {}


def test_a_changed_knob_is_a_setting_of_the_command_line(tab):
    wish = read_wish(inputs(shift=0.25, zoom_least=0.5, squash="clamp", flip=True))
    assert wish.cooking.settings == {
        "squash": "clamp", "transforms.shift": "0.25", "transforms.flip": "true", "transforms.zoom": "[0.5, 1.1]"
    }  # fmt: skip
    recipe = wish.cooking.recipe()
    assert (recipe.transforms.shift, recipe.transforms.zoom, recipe.squash) == (0.25, (0.5, 1.1), "clamp")


def test_every_knob_of_a_recipe_is_there():
    recipe = find_recipe("maco").to_dict()
    there = {knob.path for knob in KNOBS} | {"name", "size", "steps", "transforms", "gradient"}
    assert set(recipe) <= there
    assert {f"{table}.{key}" for table in ("transforms", "gradient") for key in recipe[table]} <= there
    assert all(knob.info.endswith(".") for knob in KNOBS)


def test_the_layers_of_a_model_and_the_kinds_they_have(tab):
    layers = feature_units.describe_layers(get_model("demo:vit"))
    assert feature_units.kinds_of(layers["blocks.0.attn"]) == [
        "channel", "neuron", "position", "layer", "head", "inversion", "caricature"
    ]  # fmt: skip
    picker, status = tab.unit, tab.status
    *_, last = picker._find_layers(status, LAYER, ["demo:vit"], None)
    found = last[picker.layers]
    assert last[picker.layer]["value"] in found
    kind, *numbers = feature_units._show_kinds(found, "blocks.0.attn", "head")
    assert kind["value"] == "head"
    assert [n["visible"] for n in numbers] == [False, False, False, False, True]
    assert list(picker._find_layers(status, CLASS, ["demo:vit"], None)) == []
    *_, last = picker._find_layers(status, LAYER, ["demo:nothing"], None)
    assert "There is no model" in last[status]


def test_the_address_shows_the_same_again():
    values = inputs(
        models=["demo:resnet", "demo:vit"], steps=64, seeds=3, size=128, shift=0.2, start="photo", photo=CHELSEA,
        example="Chelsea the cat", outputs="sigmoid", layouts="demo:resnet=layer2=nhwc,demo:vit=blocks.1=tokens:1",
    )  # fmt: skip
    query = _write_address(*values)
    assert query.startswith("tab=features&model=demo:resnet&model=demo:vit&unit=class/13&recipe=lucid")
    asked = read_address(QueryParams(query))
    assert (asked.models, asked.of, asked.expression) == (["demo:resnet", "demo:vit"], "13", None)
    assert (asked.steps, asked.seeds, asked.size, asked.start) == (64, 3, 128, "photo")
    assert asked.recipe.transforms.shift == 0.2
    assert (asked.example, asked.outputs) == ("Chelsea the cat", "sigmoid")
    assert asked.layouts == "demo:resnet=layer2=nhwc, demo:vit=blocks.1=tokens:1"
    again = inputs(
        models=asked.models, of=asked.of, steps=asked.steps, seeds=asked.seeds, size=asked.size, start=asked.start,
        photo=CHELSEA, example=asked.example, outputs=asked.outputs, layouts=asked.layouts, shift=asked.recipe.transforms.shift,
    )  # fmt: skip
    assert write_address(read_wish(again)) == query
    assert _write_address(*inputs(models=[])) == ""


class Request:
    def __init__(self, query):
        self.query_params = QueryParams(query)


def test_an_address_of_another_tab_changes_nothing_here():
    updates = _read_address(Request("model=demo:vit&method=grad_cam"))
    assert updates == [gr.skip()] * (15 + len(KNOBS))


def test_a_hostile_address_is_harmless():
    updates = _read_address(
        Request(
            "tab=features&model=&unit=<script>&recipe=../x&steps=²&seeds=99999999999&size=-1&set=a=b&example=/etc&outputs=a"
        )
    )
    assert updates[0]["selected"] == "features"
    assert updates[4] == "<script>"  # an expression that will be refused, in a text box
    assert updates[5] == DEFAULT
    assert updates[8:15] == [gr.skip()] * 7
    assert updates[15:] == knob_values(find_recipe(DEFAULT))


def test_an_address_of_this_tab_does_not_run_the_other():
    from lsd.ui.saliency.tab import _read_address as other

    updates = other(Request("tab=features&model=demo:vit&unit=class/3"))
    assert not any(isinstance(update, list) for update in updates)


def test_mosaic():
    pixels = np.zeros((5, 40, 40, 3), np.uint8)
    assert mosaic(pixels, 1000).size == (3 * 42 - 2, 2 * 42 - 2)
    assert max(mosaic(pixels, 60).size) == 60
    buffer = io.BytesIO()
    mosaic(pixels[:1], 1000).save(buffer, "PNG")
    assert mosaic(pixels[:1], 1000).size == (40, 40)


def test_a_public_space_opens_no_folder_of_the_machine(tab, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "somebody/lsd")
    for changes in (
        {"models": ["local-dir:/etc"]},
        {"what": EXPRESSION, "expression": "local-dir:/etc::class/1 + class/2"},
    ):
        assert "Folders of this machine" in last(tab.status, run(tab, **changes))


def test_a_judge_that_is_missing_spoils_nothing(tab, monkeypatch):
    monkeypatch.setattr(features_tab.requests, "ready_models", lambda: ["demo:vit", "demo:gone"])
    updates = run(tab, steps=2)
    assert session_of(tab, updates).judges == ["demo:vit"]
