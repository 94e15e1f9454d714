"""What the tab “Feature visualization” opens on: an ascent made beforehand, and the file that it is in."""

import io
import json
import logging
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from lsd.features.bundle import pixels_sha256
from lsd.features.judge import classify
from lsd.models import get_model
from lsd.packages import PACKAGES
from lsd.ui.features import first as feature_first
from lsd.ui.features import request as requests
from lsd.ui.features.first import FILE, shipped
from lsd.ui.features.record import from_bytes, to_bytes
from lsd.ui.features.runs import FRAMES, Cooking, advance, command, files
from lsd.ui.features.tab import FeaturesTab

SMALL = requests.Wish(("demo:resnet",), "class/13", Cooking("lucid", {"sd": "0.02"}, 45, 48))


@pytest.fixture(scope="module")
def tab():
    with gr.Blocks():
        return FeaturesTab()


@pytest.fixture(scope="module")
def first(tab):
    assert tab.first is not None, "run python -m lsd.ui.features.first"
    return tab.first


@pytest.fixture(scope="module")
def run():
    """(a finished session, what its column showed on the way, its networks)."""
    models = {}
    *_, session = requests.prepare(SMALL, models)
    steps = {lane.step: lane.live for lane in advance(session, models) if lane.frames[-1][0] == lane.step}
    list(requests.ask(session, models))
    return session, steps, models


def opened(tab, query="tab=features"):
    return tab.open(gr.EventData(None, {"query": query}))


def changed(change) -> bytes:
    """The shipped file with its contents, name → bytes, changed."""
    with zipfile.ZipFile(FILE) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    change(contents)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return data.getvalue()


def test_a_session_comes_back_from_its_file_as_it_was(run):
    session, steps, models = run
    again = from_bytes(to_bytes(session, steps, models["demo:resnet"]))
    (old,), (new,) = session.lanes, again.lanes
    assert (new.request, new.cooking, new.title, new.heading) == (old.request, old.cooking, old.title, old.heading)
    assert (new.traces, new.readings, new.step) == (old.traces, old.readings, old.step)
    assert (again.compare, again.judges, again.seconds) == (session.compare, session.judges, session.seconds)
    assert np.array_equal(new.live, old.live)
    assert [step for step, _ in new.frames] == [step for step, _ in old.frames]
    assert len(new.gif) > 0
    assert [[v.top[0][:2] for v in said] for said in new.others] == [
        [v.top[0][:2] for v in said] for said in old.others
    ]
    assert command(new, None) == command(old, None)
    mine, theirs = (files(s, models) for s in (again, session))
    assert set(mine) == set(theirs)
    assert all(mine[name] == theirs[name] for name in mine if name != "ascent.gif")  # the manifest among them


def test_the_steps_on_the_way_look_as_they_did(run):
    session, steps, models = run
    (lane,) = from_bytes(to_bytes(session, steps, models["demo:resnet"])).lanes
    for (_, old), (_, new) in zip(session.lanes[0].frames, lane.frames, strict=True):
        for one, other in zip(old, new, strict=True):
            one, other = (np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float) for data in (one, other))
            assert abs(one - other).mean() < 8  # of 255; WebP takes some of the finest noise


def test_what_is_shipped_is_what_the_tabs_controls_say(tab, first):
    wish = requests.read_wish({name: control.value for name, control in tab.controls.named.items()})
    assert wish == requests.default_wish()
    *_, asked = requests.prepare(wish, {})
    (shown,), (lane,) = first.lanes, asked.lanes
    assert shown.request == lane.request
    assert shown.request.recipe.hash == first.manifest["recipe_hash"] == lane.recipe.hash
    assert (shown.cooking, shown.title, shown.steps) == (lane.cooking, lane.title, requests.DEFAULT_STEPS)
    assert len(shown.pictures) == requests.DEFAULT_SEEDS
    assert shown.step == shown.steps and len(shown.frames) <= FRAMES


def test_its_weights_are_those_of_the_package(first):
    name = first.lanes[0].request.model
    assert first.manifest["weights"]["digest"] == PACKAGES[name].digest == get_model(name).identity.digest


def test_its_pictures_are_those_that_its_manifest_tells_of_and_its_network_still_says_the_same(first):
    (lane,) = first.lanes
    assert [pixels_sha256(p.pixels) for p in lane.pictures] == [r["sha256"] for r in first.manifest["results"]]
    again = classify([p.pixels for p in lane.pictures], get_model(lane.request.model))
    for old, new in zip(lane.own, again, strict=True):
        assert old.top[0][:2] == new.top[0][:2] == (207, lane.title)
        assert old.top[0][2] == pytest.approx(new.top[0][2], abs=1e-4)
    assert first.judges == list(PACKAGES)[1:]


def test_it_is_small():
    assert FILE.stat().st_size < 800_000


def test_the_page_opens_on_it(tab, first):
    updates, stage, column = opened(tab), tab.stage, tab.stage.columns[0]
    assert updates[tab.session].lanes is first.lanes
    for word in ("Made beforehand", "1 CPU thread", "press Visualize", 'role="status"'):
        assert word in updates[stage.status]
    assert "finished" in updates[column.picture] and "Score curve" in updates[column.curve]
    for word in ("golden retriever", "EfficientNet-Lite0", f"{requests.DEFAULT_STEPS} steps"):
        assert word in updates[column.head]
    for name in PACKAGES:
        assert name in updates[column.verdicts]
    assert updates[stage.download]["interactive"] and updates[column.seeds].count("<button") == 2
    assert updates[stage.scrub]["value"] == updates[stage.scrub]["maximum"] == requests.DEFAULT_STEPS
    assert "python -m lsd features --model" in updates[stage.command] and "with 1 CPU thread" in updates[stage.again]
    assert updates[tab.address] == "tab=features" and tab.asked not in updates


def test_its_ascent_can_be_looked_back_through_and_its_seeds_told_apart(tab):
    session, column = opened(tab)[tab.session], tab.stage.columns[0]
    shown = [tab.stage.at(session, step)[column.picture] for step in (1, 10, 20, 30, 38)]
    assert len(set(shown)) == 5
    assert "step 10 of 38" in shown[1] and "finished" in shown[-1]
    assert tab.stage.verdicts(session) != tab.stage.seed(session, 1, 38)
    assert opened(tab)[tab.session].seed == 0, "one visitor's seed is another's"


def test_its_download_says_where_it_was_made(tab, first):
    steps = tab.pack(first)
    next(steps)
    update = next(steps)
    assert "ready" in update[tab.stage.status]
    with zipfile.ZipFile(update[tab.stage.file]) as archive:
        assert {"class_207.0.png", "class_207.1.png", "sheet.png", "ascent.gif"} < set(archive.namelist())
        assert json.loads(archive.read("manifest.json")) == first.manifest


@pytest.mark.parametrize("query", ["tab=features", "tab=features&__theme=dark", "tab=features&recipe=no_such"])
def test_it_is_shown_where_the_address_asks_nothing(tab, query):
    updates = opened(tab, query)
    assert updates[tab.session].manifest and tab.asked not in updates
    assert ("no_such" in query) == ("There is no recipe" in updates[tab.stage.status])


@pytest.mark.parametrize(
    "query",
    ["unit=class/3", "model=demo:vit", "unit=class/207&recipe=lucid", "recipe=texture", "steps=64", "set=sd=0.5"],
)
def test_it_is_not_shown_where_the_address_asks_for_something_else(tab, query):
    updates = opened(tab, f"tab=features&{query}")
    assert updates[tab.session] is None and tab.asked in updates


def other_picture(contents):
    contents["class_207.0.png"] = contents["class_207.1.png"]


def other_weights(contents):
    contents["manifest.json"] = contents["manifest.json"].replace(b'"digest": "6', b'"digest": "0')


def other_recipe(contents):
    contents["manifest.json"] = contents["manifest.json"].replace(b'"learning_rate": 0.0', b'"learning_rate": 0.1')


def other_format(contents):
    contents["ascent.json"] = contents["ascent.json"].replace(b'"format": 1', b'"format": 2')


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lambda: None, "No such file"),
        (lambda: b"nonsense", "damaged"),
        (lambda: FILE.read_bytes()[:-1000], "damaged"),
        (lambda: FILE.read_bytes()[:100_000] + bytes(1000) + FILE.read_bytes()[101_000:], "damaged"),
        (lambda: changed(lambda contents: contents.pop("ascent.json")), "damaged"),
        (lambda: changed(other_picture), "not the picture"),
        (lambda: changed(other_weights), "other weights"),
        (lambda: changed(other_recipe), "not what the tab's controls say"),
        (lambda: changed(other_format), "format 2"),
    ],
)
def test_a_file_that_does_not_fit_leaves_the_tab_without_a_picture_and_one_line_in_the_log(
    tmp_path, caplog, data, reason
):
    file = tmp_path / "first.zip"
    if (content := data()) is not None:
        file.write_bytes(content)
    with caplog.at_level(logging.WARNING, "lsd"):
        assert shipped(file) is None
    (record,) = caplog.records
    assert reason in record.getMessage() and record.exc_info is None


def test_without_the_package_or_with_a_folder_of_that_name_nothing_is_shown(monkeypatch, caplog):
    monkeypatch.setattr(requests.controls, "default_models", lambda: ["demo:resnet"])
    assert shipped() is None
    monkeypatch.setattr(requests.controls, "default_models", lambda: [])
    assert shipped() is None
    monkeypatch.undo()
    monkeypatch.setattr(feature_first, "locate", lambda name: SimpleNamespace(source="local"))
    assert shipped() is None
    assert len(caplog.records) == 3


def test_a_tab_without_it_opens_on_the_shape_of_what_is_to_come(monkeypatch):
    monkeypatch.setattr(feature_first, "shipped", lambda: None)
    with gr.Blocks():
        tab = FeaturesTab()
    updates, column = opened(tab), tab.stage.columns[0]
    assert tab.asked not in updates and updates[tab.session] is None
    assert "lsd-f-empty" in updates[column.picture] and updates[column.seeds].count("disabled") == 2
    assert "press Visualize" in updates[tab.stage.status] and not updates[tab.stage.scrub]["interactive"]


def test_the_command_makes_the_file_again(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(requests, "default_wish", lambda: replace(SMALL, cooking=replace(SMALL.cooking, steps=3)))
    monkeypatch.setenv("LSD_MODEL_PATH", "")  # so that it is put back afterwards
    monkeypatch.setattr("sys.argv", ["feature_first", "--output", str(tmp_path / "new.zip")])
    feature_first.main()
    session = from_bytes((tmp_path / "new.zip").read_bytes())
    assert session.finished and session.lanes[0].step == 3
    assert "others say" in capsys.readouterr().out
