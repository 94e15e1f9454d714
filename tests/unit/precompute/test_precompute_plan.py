"""From settings to tasks: models, units, and what cannot be done."""

import re
from collections import Counter
from pathlib import Path

import pytest
from pyarrow import parquet

from lsd.curated import CURATED
from lsd.errors import LSDError
from lsd.features.recipes import LSD
from lsd.features.units import parse
from lsd.models import get_model, ready_models
from lsd.said import Said
from precompute import plan as planning
from precompute.plan import joined, make_plan, matching
from precompute.settings import read, read_parts


def test_a_wildcard_stands_for_models_here_and_of_timm():
    assert set(matching("demo:*")) == {"demo:resnet", "demo:vit", "demo:convnext", "demo:shortcut"}
    assert "resnet50.a1_in1k" in matching("resnet50.a*")
    assert matching("demo:vi?") == ["demo:vit"] and matching("whatever") == ["whatever"]


def test_models_of_ones_own_are_matched_too(small_model):
    small_model("mine.first")
    assert matching("mine.*") == ["mine.first"]


def test_a_wildcard_without_a_match_says_so():
    with pytest.raises(LSDError, match=r"No model matches nosuch_\*"):
        matching("nosuch_*")


def test_a_folder_of_this_machine_is_refused():
    with pytest.raises(LSDError, match="which nobody else could name; put it under LSD_MODEL_PATH"):
        matching("local-dir:/models/mine")


def test_tasks_are_made_model_by_model_recipe_by_recipe(plan_of, monkeypatch):
    monkeypatch.setattr(planning, "UNITS", 2)
    plan = plan_of("class:0-2", models=["demo:resnet", "demo:vit"], recipe=["lucid", "none"], seeds=3)
    assert [(t.model, t.recipe.name, t.units) for t in plan.tasks] == [
        (model, recipe, units)
        for model in ("demo:resnet", "demo:vit")
        for recipe in ("lucid", "none")
        for units in (("class/0", "class/1"), ("class/2",))
    ]
    assert plan.pictures == 3 * 3 * 4 and not plan.problems
    assert all(task.seeds == (0, 1, 2) for task in plan.tasks)
    assert plan.tasks[0].weights_digest == get_model("demo:resnet").identity.digest


def test_a_unit_asked_for_twice_is_made_once(plan_of):
    (task,) = plan_of("class:0-2", "class:2,1", "class/triangle", "class/0").tasks
    assert len(task.units) == len(set(task.units))


def test_no_model_judges_its_own_pictures(plan_of):
    plan = plan_of("class:0", models=["demo:resnet", "demo:vit"], verifiers=["demo:resnet", "demo:vit"])
    assert [[name for name, _ in task.verifiers] for task in plan.tasks] == [["demo:vit"], ["demo:resnet"]]
    assert plan.tasks[0].verifiers[0][1] == get_model("demo:vit").identity.digest


def test_a_unit_of_several_models_makes_them_part_of_the_task(plan_of):
    (task,) = plan_of("class/0 + demo:vit::class/0", "class/1 + demo:resnet::class/0").tasks
    assert task.others == (("demo:vit", get_model("demo:vit").identity.digest),)


@pytest.mark.parametrize("values, words", [
    ({"models": ["demo:nosuch", "demo:resnet"]}, "There is no model demo:nosuch"),
    ({"models": ["nosuch_*", "demo:resnet"]}, "No model matches nosuch_"),
    ({"units": ["class:0", "class:999"]}, "demo:resnet: Class 999 is out of range"),
    ({"units": ["class:0", "layer9:channels"]}, "demo:resnet: .*has no layer"),
    ({"units": ["class:0", "layer3/inversion"]}, "layer3/inversion needs a photo, which rows cannot carry"),
    ({"units": ["class:0", "class/0 + demo:vit::class/999"]}, "demo:resnet: Class 999 is out of range"),
    ({"units": ["class:0", "class/0 + demo:nosuch::class/1"]}, "demo:resnet: There is no model demo:nosuch"),
    ({"verifiers": ["demo:nosuch"]}, "There is no model demo:nosuch"),
])  # fmt: skip
def test_what_cannot_be_done_is_told_and_the_rest_is_planned(plan_of, values, words):
    plan = plan_of(*values.pop("units", ["class:0"]), **values)
    (task,) = plan.tasks
    assert task.units == ("class/0",)
    (problem,) = plan.problems
    assert re.search(words, problem)


def test_what_is_said_of_a_networks_is_part_of_its_tasks(plan_of):
    """Of all that are asked, of one, of a verifier, and of another model of a unit."""
    plan = plan_of(
        "class/1 + demo:vit::class/1", models=["demo:resnet", "demo:convnext"], verifiers=["demo:shortcut"],
        outputs=["sigmoid", "demo:convnext=classes", "demo:vit=classes", "demo:shortcut=sigmoid"],
        layout=["demo:resnet=layer2=nhwc"],
    )  # fmt: skip
    resnet, convnext = (dict(task.said) for task in plan.tasks)
    others = {"demo:vit": Said("classes"), "demo:shortcut": Said("sigmoid")}
    assert resnet == {"demo:resnet": Said("sigmoid", {"layer2": "nhwc"})} | others
    assert convnext == {"demo:convnext": Said("classes")} | others
    assert [task.said for task in plan_of("class/1").tasks] == [()]


@pytest.mark.parametrize("values, words", [
    ({"outputs": ["tanh"]}, "The outputs of demo:resnet are classes, sigmoid or an embedding, not “tanh”"),
    ({"layout": ["layer9=nchw"]}, "has no layer “layer9”"),
    ({"layout": ["layer1=tokens"]}, "cannot be laid out as tokens"),
    ({"outputs": ["demo:vit=sigmoid"]}, "Something is said of demo:vit, which is not asked; asked are demo:resnet."),
    ({"verifiers": ["demo:vit"], "layout": ["demo:vit=layer9=nchw"]}, "demo:vit has no layer “layer9”"),
])  # fmt: skip
def test_what_is_said_wrongly_refuses_the_whole_plan(plan_of, values, words):
    with pytest.raises(LSDError, match=words):
        plan_of("class/1", **values)


def test_one_model_under_two_names_is_made_once(plan_of, monkeypatch):
    monkeypatch.setattr(planning, "get_model", lambda name: get_model("demo:resnet"))
    assert len(plan_of("class:0", models=["demo:resnet", "resnet"]).tasks) == 1


def test_plans_are_joined_one_after_another_and_nothing_twice(plan_of):
    first, second = plan_of("class:0", "class:99"), plan_of("layer3:channels:2", "class:99", recipe=["texture"])
    plan = joined([first, second, first])
    assert plan.tasks == first.tasks + second.tasks and plan.problems == first.problems == second.problems


def test_every_model_is_told_before_it_is_loaded():
    heard = []
    make_plan(read({"models": ["demo:resnet"], "units": ["class:0"], "verifiers": ["demo:vit"]}), heard.append)
    assert heard == ["demo:vit", "demo:resnet"]


def test_the_default_recipe_is_our_own():
    assert make_plan(read({"models": ["demo:resnet"], "units": ["class:0"]})).tasks[0].recipe == LSD


SAMPLE = Path(__file__).parents[3]
CHANNELS = sorted((SAMPLE / "precompute").glob("sample_*_channels*.toml"))


@pytest.mark.parametrize("file", CHANNELS, ids=lambda file: file.stem)
def test_the_channels_of_the_sample_that_ships_are_those_that_its_files_ask_for(file, request, monkeypatch):
    """Whatever `layer:curated` may come to stand for."""
    settings = read({}, file)
    if not set(settings.models) <= set(ready_models()):
        monkeypatch.setenv("LSD_MODEL_PATH", str(request.getfixturevalue("real_models")))
    plan = make_plan(settings)
    asked = sorted((task.model, unit) for task in plan.tasks for unit in task.units)
    index = parquet.read_table(SAMPLE / "gallery" / "sample" / "index.parquet", columns=["model", "recipe", "unit"])
    made = {
        (r["model"], r["unit"]) for r in index.to_pylist() if r["recipe"] == "texture" and r["model"] in settings.models
    }
    assert not plan.problems and asked == sorted(made)


PUBLIC = SAMPLE / "precompute" / "public.toml"


def test_the_public_gallery_is_of_all_the_networks_of_the_catalogue_and_of_no_others():
    classes, channels = read_parts({}, PUBLIC)
    assert classes.models == channels.models == tuple(network.name for network in CURATED)
    assert classes.units == ("class:all",) and channels.units == ("layer:curated:16",)
    assert set(classes.verifiers) < set(classes.models) and not channels.verifiers


def test_the_public_gallerys_part_of_a_network_that_everybody_has():
    """All of its classes by the recipe for classes, and its curated channels by that for channels."""
    only = {"models": ["tf_efficientnet_lite0.in1k"], "verifiers": []}
    plan = joined([make_plan(part) for part in read_parts(only, PUBLIC)])
    made = Counter((task.recipe.name, parse(unit).kind) for task in plan.tasks for unit in task.units)
    assert made == {("lsd", "class"): 1000, ("texture", "channel"): 256} and not plan.problems


def test_every_network_of_the_sample_has_a_file_of_its_channels():
    asked = [name for file in CHANNELS for name in read({}, file).models]
    index = parquet.read_table(SAMPLE / "gallery" / "sample" / "index.parquet", columns=["model"])
    assert sorted(asked) == sorted(set(index["model"].to_pylist()))
