"""The handlers of the tab “Feature visualization”, called as Gradio calls them."""

import asyncio
import contextlib
import json
import re
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.datastructures import QueryParams

from lsd.cli import main
from lsd.features import batch, networks
from lsd.features.judge import Verdict
from lsd.features.recipes import DEFAULT, RECIPES, find_recipe
from lsd.models import get_model
from lsd.said import Said
from lsd.tracing import run_to
from lsd.ui.features import address
from lsd.ui.features import request as requests
from lsd.ui.features import runs as feature_runs
from lsd.ui.features import units as feature_units
from lsd.ui.features.knobs import KNOBS, differences, knob_values
from lsd.ui.features.request import NONE, OUTPUTS, Wish, read_wish
from lsd.ui.features.runs import FRAMES, Cooking, Session, command, files
from lsd.ui.features.tab import FeaturesTab
from lsd.ui.features.units import CLASS, EXPRESSION, LAYER, NUMBERS
from lsd.ui.shared import jobs
from lsd.ui.shared.examples import examples

CHELSEA = str(examples()["Chelsea the cat"])


@pytest.fixture(scope="module")
def tab():
    with gr.Blocks():
        return FeaturesTab()


def inputs(*, models=("demo:resnet",), recipe="lucid", steps=6, seeds=1, size=0, start="noise", photo=None, outputs="", layouts="",
           compare="", what=CLASS, of="striped star", layer=None, kind="channel", numbers=(0, 0, 0, 0, 0), expression="",
           **knobs):  # fmt: skip
    """What the controls say, by name."""
    values = {
        "models": list(models), "recipe": recipe, "steps": steps, "seeds": seeds, "size": size, "start": start, "photo": photo,
        "outputs": outputs, "layouts": layouts, "compare": compare, "what": what, "of": of, "layer": layer, "kind": kind,
        "expression": expression, **dict(zip(NUMBERS, numbers, strict=True)), **knob_values(find_recipe(recipe)),
    }  # fmt: skip
    for knob in KNOBS:
        name = knob.name.replace(" ", "_").replace(",", "")
        values[knob.key] = knobs.pop(name, values[knob.key])
    assert not knobs, knobs
    return values


def values_of(tab, **changes):
    """The same, by component, as Gradio hands it over."""
    values = inputs(**changes)
    named = {component: values[name] for name, component in tab.controls.named.items()}
    return named | {tab.wrong: "", tab.looked: (0, None)}


def run(tab, compare="", **changes):
    return list(tab.make(values_of(tab, compare=compare, **changes)))


@contextlib.contextmanager
def packed(tab, session):
    """The download."""
    with contextlib.closing(tab.pack(session)) as steps:
        next(steps)
        with zipfile.ZipFile(next(steps)[tab.stage.file]) as archive:
            yield archive


def opened(tab, query):
    return tab.open(gr.EventData(None, {"query": query}))


def session_of(tab, updates) -> Session:
    return next(u[tab.session] for u in reversed(updates) if tab.session in u)


def last(part, updates):
    return next((u[part] for u in reversed(updates) if part in u), "")


def test_a_picture_forms_and_is_judged(tab):
    updates = run(tab, steps=12, seeds=2)
    column = tab.stage.columns[0]
    assert any("step 1 of 12" in u.get(column.progress, "") for u in updates)
    session = session_of(tab, updates)
    assert session.finished
    (lane,) = session.lanes
    assert [p.status for p in lane.pictures] == ["ok", "ok"]
    assert "Done in" in last(tab.stage.status, updates)
    said = last(column.verdicts, updates)
    for name in ("demo:resnet", "demo:vit", "demo:convnext"):
        assert name in said
    assert "striped star" in last(column.picture, updates)
    assert 'alt="Feature visualization of striped star in demo:resnet, demo:resnet, seed 0' in last(
        column.picture, updates
    )
    assert 'aria-label="Score curve' in last(column.curve, updates)


def test_a_finished_picture_has_an_address_that_a_browser_keeps(tab):
    """What forms is shown for half a second, and asked for by nobody again."""
    column, updates = tab.stage.columns[0], run(tab, steps=12, seeds=2)
    forming = next(u for u in updates if "step 1 of 12" in u.get(column.progress, ""))
    assert 'src="data:' in forming[column.picture] and 'src="data:' in forming[column.seeds]
    pictures = [last(column.picture, updates), tab.stage.at(session_of(tab, updates), 12)[column.picture]]
    shown, again = (re.findall(r'src="gradio_api/file=([^"]+)"', html) for html in pictures)
    assert shown == again and Path(*shown).is_file()  # so that the browser asks for nothing
    seeds = last(column.seeds, updates)
    assert len(set(re.findall(r'src="(gradio_api/file=[^"]+)"', seeds))) == 2 and "data:" not in seeds


def test_what_a_visitor_says_of_the_outputs_is_followed_kept_and_repeated(tab, tmp_path, capsys):
    """By the picture, by what the network says of it, by the manifest, and by the command line on the page."""
    said = run(tab, compare=OUTPUTS, steps=4, outputs="sigmoid")
    session = session_of(tab, said)
    lane = session.lanes[1]
    assert lane.own[0].top[0][2] + lane.own[0].top[1][2] > 1
    assert lane.readings["logit"] == lane.readings["log_odds"]
    assert lane.readings["probability"] == pytest.approx(1 / (1 + np.exp(-lane.readings["logit"])))
    assert last(tab.stage.command, said).count("--outputs sigmoid") == 3
    session.lanes, session.compare = [lane], ""
    for name, data in files(session, {"demo:resnet": get_model("demo:resnet")}).items():
        (tmp_path / name).write_bytes(data)
    assert json.loads((tmp_path / "manifest.json").read_text())["request"]["said"] == {"outputs": "sigmoid"}
    assert main(["features", "--from", str(tmp_path / "manifest.json")]) == 0
    assert "identical, bit for bit" in capsys.readouterr().out
    plain = session_of(tab, run(tab, compare=OUTPUTS, steps=4)).lanes[1]
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
    assert "demo:vit is left out" in last(tab.stage.reading, updates)
    assert "demo:vit" in last(tab.stage.columns[0].verdicts, updates)


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
        ({"what": LAYER, "layer": "layer2", "kind": "inversion"}, "There is no picture yet"),
        ({"what": EXPRESSION}, "expression is empty"),
        ({"what": EXPRESSION, "expression": "class/1 +"}, "ends too early"),
        ({"what": EXPRESSION, "expression": "<script>"}, "is not a unit"),
        ({"steps": 5000}, "between 1 and 1024"),
        ({"steps": None}, "whole number"),
        ({"seeds": 9}, "between 1 and 8"),
        ({"size": 4096}, "between 16 and 512"),
        ({"start": "photo"}, "There is no picture yet"),
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
    status = last(tab.stage.status, run(tab, **changes))
    assert sentence in status
    assert 'role="alert"' in status
    assert "<img" not in status and "<script" not in status


def test_a_damaged_photo_is_refused_before_anything_is_loaded(tab, tmp_path, monkeypatch):
    path = tmp_path / "note.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"nonsense" * 10)
    monkeypatch.setattr("lsd.ui.features.request.get_model", lambda name: pytest.fail("a model was loaded"))
    status = last(tab.stage.status, run(tab, start="photo", photo=str(path)))
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
    assert "did not respond to anything that was tried" in last(tab.stage.status, updates)
    assert "did not respond to anything that was tried" in last(tab.stage.columns[0].verdicts, updates)
    assert "no gradient" in last(tab.stage.columns[0].picture, updates)


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
    assert len(lane.live) == 4 and "Done in" in last(tab.stage.status, updates)
    record = json.loads(files(session, {"demo:resnet": get_model("demo:resnet")})["manifest.json"])
    assert record["batches"] == [2, 2] and len(record["results"]) == 4


def test_what_of_a_recipe_comes_to_nothing_is_said(tab):
    updates = run(tab, what=EXPRESSION, expression="conv1.0/channel/3", recipe="lsd", steps=2)
    said = last(tab.stage.columns[0].verdicts, updates)
    assert "no residual branch lies before this unit" in said and "no activation function" in said
    assert "lsd-trouble" not in last(tab.stage.columns[0].verdicts, run(tab, recipe="lsd", steps=2))


def test_no_regularization_beside_the_recipe(tab):
    updates = run(tab, NONE, steps=60, seeds=4)
    session = session_of(tab, updates)
    assert [lane.cooking.base for lane in session.lanes] == ["none", "jitter", "lucid"]
    assert {lane.recipe.output for lane in session.lanes} == {"logit"}
    assert {lane.request.seeds for lane in session.lanes} == {(0,)}
    assert "Without regularization" in last(tab.stage.reading, updates)
    status = last(tab.stage.status, run(tab, NONE, recipe="none", steps=3))
    assert "Done in" in status
    (first, *_) = session_of(tab, run(tab, NONE, recipe="jitter", steps=2)).lanes
    assert first.cooking.base == "none"


def test_the_three_outputs_share_noise_and_views(tab):
    updates = run(tab, OUTPUTS, steps=3)
    lanes = session_of(tab, updates).lanes
    assert [lane.recipe.output for lane in lanes] == ["logit", "log_odds", "probability"]
    assert all(set(lane.readings) == {"logit", "log_odds", "probability"} for lane in lanes)
    assert lanes[1].readings["log_odds"] == pytest.approx(lanes[1].pictures[0].score, abs=1e-3)
    assert lanes[2].readings["probability"] == pytest.approx(lanes[2].pictures[0].score, abs=1e-5)
    assert "made for the log-odds" in last(tab.stage.reading, updates)
    status = last(tab.stage.status, run(tab, OUTPUTS, what=LAYER, layer="layer2"))
    assert "belong to a class" in status


def test_closing_ends_every_ascent(tab, monkeypatch):
    steps = []
    monkeypatch.setattr(batch, "report", lambda done, total: steps.append(done))
    job = tab.make(values_of(tab, models=["demo:resnet", "demo:vit"], steps=1000))
    for update in job:
        if "step 1 of" in update.get(tab.stage.columns[1].progress, ""):
            break
    job.close()  # what Gradio does when Stop is pressed
    count = len(steps)
    assert 0 < count < 500
    for name in ("demo:resnet", "demo:vit"):
        assert get_model(name).lock.acquire(timeout=1), "a model is still held"
        get_model(name).lock.release()
    assert len(steps) == count


def test_stop_leaves_what_there_is_to_look_back_through(tab):
    job = tab.make(values_of(tab, steps=1000))
    session = None
    for update in job:
        session = update.get(tab.session, session)
        if "step " in update.get(tab.stage.columns[0].progress, ""):
            break
    job.close()
    left = tab.stage.stopped(session)
    assert "Stopped at step" in left[tab.stage.status]
    assert left[tab.stage.scrub]["interactive"] and left[tab.stage.scrub]["maximum"] > 1
    assert "img" in tab.stage.at(session, 1)[tab.stage.columns[0].picture]
    *_, last = tab.pack(session)
    assert "nothing to download" in last[tab.stage.status]


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
    assert "not enough memory" in last(tab.stage.columns[0].verdicts, updates)
    assert "demo:resnet" in last(tab.stage.columns[1].verdicts, updates)  # it still says what it sees
    status = last(tab.stage.status, updates)
    assert "Done in" in status and "demo:resnet: There is not enough memory" in status and 'role="alert"' in status
    with packed(tab, session) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {"demo_vit"}


def test_a_model_that_cannot_be_had_leaves_the_others(tab):
    updates = run(tab, models=["no_such_model", "demo:vit"], steps=2)
    assert session_of(tab, updates).lanes[0].done
    assert "no_such_model is left out: There is no model called" in last(tab.stage.reading, updates)
    updates = run(tab, models=["no_such_model", "nor_this_one"])
    assert "no_such_model" in last(tab.stage.status, updates) and "nor_this_one" in last(tab.stage.status, updates)


def test_the_layers_are_listed_while_somebody_else_has_the_place(tab):
    seen = []
    with jobs.turn():
        look = threading.Thread(
            target=lambda: seen.extend(tab.controls.unit.find_layers(LAYER, ["demo:vit"], None)), daemon=True
        )
        look.start()
        look.join(60)
    assert seen[-1][tab.controls.unit.layers]


@pytest.mark.parametrize("name", ["sheet.png", "class_13.0.PNG", "manifest.json"])
def test_an_upload_replaces_nothing_in_the_download(tab, tmp_path, name):
    photo = tmp_path / name
    photo.write_bytes(Path(CHELSEA).read_bytes())
    updates = run(tab, steps=2, start="photo", photo=str(photo))
    with packed(tab, session_of(tab, updates)) as archive:
        names = archive.namelist()
        record = json.loads(archive.read("manifest.json"))
        kept = archive.read(record["request"]["photo"]["file"])
    assert len({one.lower() for one in names}) == len(names) and kept == photo.read_bytes()


def test_looking_back(tab):
    session = session_of(tab, run(tab, steps=60, seeds=4))
    (lane,), column = session.lanes, tab.stage.columns[0]
    assert len(lane.frames) <= FRAMES
    first, early, end = (tab.stage.at(session, step)[column.picture] for step in (1, 20, 60))
    assert len({first, early, end}) == 3
    assert "step 20 of 60" in early and "finished" in end
    assert tab.stage.at(None, 3) == {tab.stage.columns[0].picture: gr.skip()}


def test_a_seeds_thumbnail_shows_its_picture_large_at_the_same_step_and_its_verdicts(tab):
    updates = run(tab, steps=12, seeds=4)
    session, column = session_of(tab, updates), tab.stage.columns[0]
    strip = last(column.seeds, updates)
    assert strip.count("<button") == 4 and strip.count('aria-pressed="true"') == 1
    shown = [tab.show_seed(session, step, gr.EventData(None, {"seed": seed})) for seed in (0, 3) for step in (4, 12)]
    assert len({one[column.picture] for one in shown}) == 4
    assert "seed 3, step 4 of 12" in shown[2][column.picture] and session.seed == 3
    assert shown[0][column.verdicts] != shown[3][column.verdicts]
    for odd in ({"seed": 99}, {"seed": "x"}, {}, None):
        assert column.picture in tab.show_seed(session, 12, gr.EventData(None, odd))
    assert tab.show_seed(None, 1, gr.EventData(None, {"seed": 1})) == {column.picture: gr.skip()}


def test_the_film_is_every_frame_once(tab, monkeypatch):
    session = session_of(tab, run(tab, steps=5))
    monkeypatch.setattr("lsd.ui.features.stage._FRAME_SECONDS", 0)

    async def played():
        return [update async for update in tab.stage.film(session)]

    assert [update[tab.stage.scrub] for update in asyncio.run(played())] == [1, 2, 3, 4, 5]


def test_the_download_is_what_the_command_line_writes(tab, tmp_path, monkeypatch):
    updates = run(tab, steps=5, seeds=2, shift=0.2, size=64)
    line = last(tab.stage.command, updates)
    with packed(tab, session_of(tab, updates)) as archive:
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
    updates = run(tab, NONE, steps=2, start="photo", photo=CHELSEA)
    with packed(tab, session_of(tab, updates)) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {
        "none_no_regularization", "jitter_only_a_shift", "lucid", "chelsea.png"
    }  # fmt: skip
    assert "--photo chelsea.png --start photo" in last(tab.stage.command, updates)


@pytest.mark.parametrize("name", RECIPES)
def test_choosing_a_recipe_sets_every_knob_exactly(tab, name):
    update = tab.controls.show_recipe(name)
    assert update[tab.controls.about] == find_recipe(name).about
    values = {key: update[knob] for key, knob in tab.controls.knobs.items()}
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
    picker = tab.controls.unit
    *_, last = picker.find_layers(LAYER, ["demo:vit"], None)
    found = last[picker.layers]
    assert last[picker.layer]["value"] in found
    update = picker._kinds({picker.layers: found, picker.layer: "blocks.0.attn", picker.kind: "head"})
    assert update[picker.kind]["value"] == "head"
    assert [name for name, number in picker.numbers.items() if update[number]["visible"]] == ["head"]
    assert list(picker.find_layers(CLASS, ["demo:vit"], None)) == []
    *_, last = picker.find_layers(LAYER, ["demo:nothing"], None)
    assert "There is no model" in last[picker.told]


# ------------------------------------------------------------------------------------------------- addresses


SETTINGS = st.sampled_from(
    [{}, {"sd": "0.5"}, {"transforms.shift": "0.25", "squash": "clamp", "transforms.zoom": "[0.5, 1.1]"}]
)
UNITS = ("class/13", "contrast/1/2", "layer2/channel/3", "layer1/neuron/3/4/5", "layer3/layer", "similarity",
         "class/1 + 0.5 * layer2/channel/3", "layer2/inversion", "layer2/direction/1:1,4:-0.5", "nonsense")  # fmt: skip


@st.composite
def wishes(draw):
    base = draw(st.sampled_from(["lsd", "lucid", "none"]))
    steps = draw(st.one_of(st.just(requests.steps_of(base)), st.integers(1, 1024)))
    cooking = Cooking(base, draw(SETTINGS) if base == "lucid" else {}, steps, draw(st.sampled_from([None, 64, 512])))
    example = draw(st.sampled_from(["", "Chelsea the cat"]))
    models = draw(st.sampled_from([("demo:resnet",), ("demo:resnet", "demo:vit"), ("hf-hub:a/b",)]))
    return Wish(
        models, draw(st.sampled_from(UNITS)), cooking, draw(st.integers(1, 8)), draw(st.sampled_from(["noise", "photo"])),
        draw(st.sampled_from(["", NONE, OUTPUTS])), draw(st.sampled_from(["", "sigmoid"])),
        draw(st.sampled_from(["", "layer2=nhwc", "demo:resnet=layer2=nhwc, demo:vit=blocks.1=tokens:1"])),
        examples()[example] if example else None, example,
    )  # fmt: skip


@given(wishes(), st.data())
@settings(max_examples=200, deadline=None)
def test_an_address_is_read_as_it_was_written(wish, data):
    seed = data.draw(st.integers(0, wish.seeds - 1))
    step = data.draw(st.none() | st.integers(1, wish.cooking.steps))
    found = address.read(QueryParams(address.write(wish, seed, step)))
    assert (found.wish, found.seed, found.step) == (wish, seed, step) and not found.wrong


def test_an_address_opens_a_run_at_a_seed_and_a_step(tab):
    update = opened(tab, "tab=features&model=demo:resnet&unit=class/3&steps=12&seeds=3&seed=2&step=5")
    assert update[tab.address].endswith("&seeds=3&seed=2&step=5")
    updates = list(tab.make(values_of(tab, steps=12, seeds=3) | {tab.looked: update[tab.looked]}))
    column = tab.stage.columns[0]
    assert "seed 2, step 5 of 12" in updates[-1][column.picture]
    assert updates[-1][tab.stage.scrub]["value"] == 5 and updates[-1][tab.stage.scrub]["maximum"] == 12
    assert 'data-seed="2" aria-pressed="true"' in updates[-1][column.seeds]
    assert tab.ask("", values_of(tab))[tab.looked] == (0, None)  # what is asked for next begins as ever


@given(wishes())
@settings(max_examples=60, deadline=None)
def test_the_controls_say_what_the_address_says(tab, wish):
    """So that going back restores exactly: the controls, set from an address, make the same address again."""
    update = tab.controls.updates(wish)
    values = {}
    for name, component in tab.controls.named.items():
        value = update.get(component)
        values[name] = value.get("value") if isinstance(value, dict) else value
    again = feature_units.read(values)
    assert feature_units.portable(again, wish.models) == wish.unit
    uses_photo = wish.start == "photo" or feature_units.needs_photo(wish.unit)
    if wish.unit != "nonsense" and not (wish.layouts and "=layer2" in wish.layouts and len(wish.models) < 2):
        expected = wish if uses_photo else replace(wish, photo=None, example="")
        assert read_wish(values) == expected


def test_what_the_controls_say_becomes_the_address(tab):
    values = values_of(
        tab, models=["demo:resnet", "demo:vit"], steps=64, seeds=3, size=128, shift=0.2, start="photo", photo=CHELSEA,
        outputs="sigmoid", layouts="demo:resnet=layer2=nhwc,demo:vit=blocks.1=tokens:1",
    )  # fmt: skip
    asked = tab.ask(NONE, values)
    query = asked[tab.address]
    assert query.startswith("tab=features&model=demo:resnet&model=demo:vit&unit=class/13&recipe=lucid")
    assert "compare=none" in query and "example=Chelsea+the+cat" in query
    assert address.read(QueryParams(query)).wish.photo == examples()["Chelsea the cat"]
    assert (asked[tab.compare], asked[tab.wrong]) == (NONE, "")
    nothing = tab.ask("", values_of(tab, models=[]))
    assert nothing[tab.address] == "" and nothing[tab.asked] > asked[tab.asked]  # the run says why


def test_an_address_sets_all_controls_and_asks(tab):
    update = opened(tab, "tab=features&model=demo:resnet&unit=class/3&recipe=jitter&set=sd=0.5&compare=outputs")
    controls = tab.controls
    assert update[controls.models] == ["demo:resnet"] and update[controls.unit.of]["value"] == "checkered circle"
    assert update[controls.steps]["value"] == requests.steps_of("jitter") and update[controls.knobs["sd"]] == 0.5
    assert (update[tab.compare], update[tab.session], update[tab.wrong]) == (OUTPUTS, None, "")
    assert tab.asked in update and 'data-lanes="3"' in update[tab.stage.columns[0].head]
    again = opened(tab, "tab=features&model=demo:resnet")  # what is not named is the default
    assert again[controls.recipe] == DEFAULT and again[controls.seeds] == requests.DEFAULT_SEEDS
    assert again[controls.unit.of]["value"] == "striped star" and again[tab.compare] == ""
    assert controls.picture not in again  # a visitor's picture survives


def test_a_units_address_opens_its_layer_and_numbers(tab):
    update = opened(tab, "tab=features&model=demo:resnet&unit=layer2/neuron/3/4/5")
    picker = tab.controls.unit
    assert (update[picker.what], update[picker.layer], update[picker.kind]["value"]) == (LAYER, "layer2", "neuron")
    assert [update[picker.numbers[name]]["value"] for name in ("channel", "row", "column")] == [3, 4, 5]
    assert update[picker.group]["visible"] and not update[picker.of]["visible"]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("recipe=../x", "There is no recipe “../x”"),
        ("steps=²", "“steps” is a whole number"),
        ("steps=99999999999", "“steps” lies between"),
        ("seeds=x", "“seeds” is a whole number"),
        ("size=-1", "“size” lies between"),
        ("seed=2", "“seed” lies between 0 and 1"),
        ("step=²", "“step” is a whole number"),
        ("set=a=b", "“a” is not a setting"),
        ("set=learning_rate=-1", "learning_rate lies between"),
        ("example=/etc/passwd", "There is no example “/etc/passwd”"),
        ("compare=<script>", "There is no compare “<script>”"),
        ("start=x", "There is no start"),
        ("outputs=x", "There is no outputs"),
        ("model=a&model=b&model=c&model=d", "At most 3 models"),
    ],
)
def test_what_an_address_names_wrongly_is_said_and_the_rest_is_shown(tab, query, sentence):
    update = opened(tab, f"tab=features&unit=class/3&{query}")
    assert sentence in update[tab.wrong]
    assert update[tab.controls.recipe] == DEFAULT and tab.asked in update
    values = values_of(tab, steps=2) | {tab.wrong: update[tab.wrong]}
    status = list(tab.make(values))[-1][tab.stage.status]
    assert "Done in" in status and 'role="alert"' in status and "<script" not in status


def test_a_hostile_unit_is_refused_in_a_sentence(tab):
    update = opened(tab, "tab=features&model=&unit=<script>")
    assert update[tab.controls.unit.what] == EXPRESSION
    assert update[tab.controls.unit.expression]["value"] == "<script>"  # that will be refused, in a text box


def test_where_the_picture_leads_on_to(tab):
    links = last(tab.stage.questions, run(tab, steps=2))
    assert "?tab=saliency&amp;model=demo:resnet&amp;of=striped+star" in links and "tab=gallery" not in links
    assert last(tab.stage.questions, run(tab, steps=2, what=EXPRESSION, expression="layer2/channel/3")) == ""
    first = opened(tab, "tab=features")[tab.stage.questions]
    assert "?tab=gallery&amp;view=class&amp;class=golden+retriever" in first


def test_a_picture_of_the_visitor_is_used_only_where_it_is_asked_for(tab):
    assert read_wish(inputs(photo=CHELSEA)).photo is None
    assert read_wish(inputs(photo=CHELSEA, start="photo")).example == "Chelsea the cat"
    assert read_wish(inputs(photo=CHELSEA, what=feature_units.SIMILAR)).photo == Path(CHELSEA)
    assert tab.picture is tab.controls.named["photo"]


def test_a_public_space_opens_no_folder_of_the_machine(tab, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "somebody/lsd")
    for changes in (
        {"models": ["local-dir:/etc"]},
        {"what": EXPRESSION, "expression": "local-dir:/etc::class/1 + class/2"},
    ):
        assert "loads the models of its list" in last(tab.stage.status, run(tab, **changes))


def test_a_judge_that_is_missing_spoils_nothing(tab, monkeypatch):
    monkeypatch.setattr(requests, "ready_models", lambda: ["demo:vit", "demo:gone"])
    updates = run(tab, steps=2)
    assert session_of(tab, updates).judges == ["demo:vit"]
