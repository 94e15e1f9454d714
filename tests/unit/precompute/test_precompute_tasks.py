"""A task is JSON, and its name depends on all that determines its rows."""

import json
from dataclasses import replace

import pytest

from lsd.errors import LSDError
from lsd.features.recipes import LUCID
from lsd.said import Said
from precompute.tasks import Task


def test_a_task_survives_json(task):
    task = replace(
        task,
        verifiers=(("demo:vit", "cd" * 32), ("mine", None)),
        others=(("demo:vit", "cd" * 32),),
        said=(("demo:vit", Said("sigmoid", {"a": "nchw"})),),
    )
    again = Task.from_dict(json.loads(json.dumps(task.to_dict())))
    assert again == task and again.hash == task.hash and again.recipe.name == "lucid"


def test_the_hash_is_the_same_on_every_machine_and_in_every_version():
    """A change here makes every run begin anew: it is to be meant."""
    assert Task("m", None, ("class/0",), LUCID, (0,)).hash == "9451c40b4bfec430"


@pytest.mark.parametrize("change", [
    {"model": "demo:vit"},
    {"weights_digest": "cd" * 32},
    {"units": ("class/1", "class/0")},
    {"units": ("class/0",)},
    {"recipe": replace(LUCID, steps=3)},
    {"recipe": replace(LUCID, steps=2, name="mine")},
    {"seeds": (0,)},
    {"verifiers": (("demo:vit", "cd" * 32),)},
    {"others": (("demo:vit", "cd" * 32),)},
    {"said": (("demo:resnet", Said("sigmoid")),)},
    {"batch_size": 4},
    {"quality": 50},
], ids=str)  # fmt: skip
def test_whatever_determines_the_rows_makes_another_task(task, change):
    other = replace(task, **change)
    assert other.hash != task.hash and other.shard != task.shard and other.marker != task.marker


def test_what_is_only_said_about_a_recipe_does_not(task):
    assert replace(task, recipe=replace(task.recipe, about="a remark")).hash == task.hash


def test_another_format_of_the_rows_makes_another_task(task, monkeypatch):
    before = task.hash
    monkeypatch.setattr("precompute.tasks.FORMAT", 99)
    assert task.hash != before


def test_files_are_named_after_the_model_and_the_hash(task):
    task = replace(task, model="hf-hub:timm/resnet50.a1_in1k")
    assert task.shard == f"data/hf-hub_timm_resnet50.a1_in1k/{task.hash}.parquet"
    assert task.marker == f"done/{task.hash}.json" and task.pictures == 4


def test_people_call_a_task_by_its_model_units_and_recipe(task):
    assert task.title == "demo:resnet, class/0 to class/1, lucid"
    assert replace(task, units=("class/0",)).title == "demo:resnet, class/0, lucid"


@pytest.mark.parametrize("damage", [
    {"recipe": []},
    {"recipe": {"steps": "many"}},
    {"units": 7},
    {"verifiers": [["only a name"]]},
    {"colour": "red"},
    {"seeds": None},
], ids=str)  # fmt: skip
def test_what_is_no_task_is_refused_in_a_sentence(task, damage):
    with pytest.raises(LSDError):
        Task.from_dict(task.to_dict() | damage)


def test_a_task_without_a_part_is_refused(task):
    values = task.to_dict()
    del values["units"]
    with pytest.raises(LSDError, match="plan the run again"):
        Task.from_dict(values)
