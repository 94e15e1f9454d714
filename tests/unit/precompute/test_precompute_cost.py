"""What tasks cost: bytes by their pictures' size, seconds by steps that are taken to find out."""

import math

import numpy as np
import pytest
from PIL import Image

from lsd.errors import LSDError
from lsd.models import get_model
from precompute import cost, exemplars
from precompute import plan as planning
from precompute.cost import Costs, kind_of
from precompute.exemplars import PassCost


def seconds_of(plan) -> float:
    return sum(map(Costs(plan.tasks).seconds, plan.tasks))


def test_bytes_go_by_the_size_of_the_pictures(plan_of):
    tasks = [plan_of("class:0-3", **size).tasks[0] for size in ({"size": 48}, {"size": 96}, {})]
    small, large, own = map(Costs(tasks).bytes, tasks)
    assert 0 < 4 * small == pytest.approx(large, abs=4) and own == large


def test_a_step_of_a_picture_is_measured_and_multiplied_by_steps_and_pictures(plan_of, monkeypatch):
    few, many = plan_of("class:0-3", steps=10), plan_of("class:0-3", steps=20, seeds=2)
    monkeypatch.setattr(cost, "_seconds_a_step", lambda task: 0.5)
    assert seconds_of(few) == 0.5 * 10 * 4 and seconds_of(many) == 0.5 * 20 * 8


@pytest.mark.parametrize("units, batch_size, pictures", [
    ("class:0-3", None, 4), ("class:0-15", None, 8), ("class:0-15", 2, 2), ("class:0-15", 16, 8),
])  # fmt: skip
def test_a_step_is_measured_in_the_first_batch_alone(plan_of, monkeypatch, units, batch_size, pictures):
    class Shown:
        def __init__(self, batch, finished):
            self.jobs, self.finished = batch, batch * finished

    asked = []

    def ascend(model, jobs, recipe, **options):
        asked.append((len(jobs), recipe.steps, options["batch_size"]))
        for half in (jobs[::2], jobs[1::2]):  # as if the memory had not sufficed for all at once
            for step in range(recipe.steps):
                now[0] += 3.0 if half is not jobs and step else 100.0  # whatever prepares the first step is not counted
                yield Shown(half, step + 1 == recipe.steps)

    now = [0.0]
    monkeypatch.setattr(cost, "ascend_jobs", ascend)
    monkeypatch.setattr(cost.time, "perf_counter", lambda: now[0])
    (task,) = plan_of(units, **({} if batch_size is None else {"batch_size": batch_size})).tasks
    assert cost._seconds_a_step(task) == 3.0 / (pictures / 2)
    assert asked == [(pictures, 4, batch_size)]


def test_each_network_recipe_and_kind_is_measured_once_by_the_task_in_its_middle(plan_of, monkeypatch):
    monkeypatch.setattr(planning, "UNITS", 4)
    plan = plan_of("class:all", "layer1:channels:8", "layer3:channels:4", recipe=["lsd", "none"])
    tried = []
    monkeypatch.setattr(cost, "_seconds_a_step", lambda task: tried.append(task) or 1.0)
    seconds_of(plan)
    assert [(task.recipe.name, task.units[0]) for task in tried] == [
        (recipe, unit) for recipe in ("lsd", "none") for unit in ("class/8", "layer1/channel/16")
    ]


def test_units_of_several_models_are_measured_too(plan_of):
    assert seconds_of(plan_of("class/0 + demo:vit::class/0")) > 0


@pytest.mark.parametrize("unit, kind", [
    ("class/0", "class"), ("layer3/channel/1", "channel"), ("class/0 + class/1", "expression"), ("0.5 * class/1", "expression"),
])  # fmt: skip
def test_a_tasks_kind_is_that_of_its_first_unit(plan_of, unit, kind):
    assert kind_of(plan_of(unit, "class/2").tasks[0]) == kind


def test_where_no_step_can_be_taken_it_is_a_sentence(plan_of, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("It broke.")

    monkeypatch.setattr(cost, "ascend_jobs", broken)
    with pytest.raises(LSDError, match=r"How long demo:resnet, class/0, lsd takes cannot be measured: .*It broke"):
        seconds_of(plan_of("class:0"))


@pytest.fixture
def photos(tmp_path) -> str:
    """A folder of twenty photos."""
    for number in range(20):
        Image.fromarray(np.full((40, 60, 3), 10 * number, np.uint8)).save(tmp_path / f"{number}.png")
    return str(tmp_path)


def test_a_look_at_the_photos_is_counted_once_for_each_task_and_where_pictures_are_there_it_alone(
    plan_of, photos, monkeypatch
):
    monkeypatch.setattr(planning, "UNITS", 4)
    monkeypatch.setattr(cost, "_seconds_a_step", lambda task: 1.0)
    tried = []
    monkeypatch.setattr(cost, "pass_cost", lambda units, *_: tried.append(units) or PassCost(0.5, 0.01, 1000.0))
    plan = plan_of("class:0-7", steps=3, seeds=2, recipe=["lsd", "none"], photos=photos, crops=True)
    each = 20 * 0.5 + 4 * 0.01 * (18 * (1 + math.log(20 / 18)) + 20)
    costs = Costs(plan.tasks, {plan.tasks[0].hash})
    assert costs.seconds(plan.tasks[0]) == pytest.approx(each)
    assert costs.seconds(plan.tasks[1]) == pytest.approx(each + 3 * 8)
    assert len(tried) == 1  # whatever the recipe
    plain = plan_of("class:0-7", steps=3, seeds=2, photos=photos).tasks[0]
    assert costs.bytes(plan.tasks[0]) == Costs([plain]).bytes(plain) + 8 * 9 * 1000


def test_what_a_look_at_photos_takes_is_measured_photo_by_photo_and_place_by_place(plan_of, photos, monkeypatch):
    """With a clock that only moves where a photo is opened (1 s), and where a place is looked at closely (10 s)."""
    now = [0.0]
    opened, spot = exemplars.open_image, exemplars._spot
    monkeypatch.setattr(exemplars.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(exemplars, "open_image", lambda path: (now.__setitem__(0, now[0] + 1), opened(path))[1])
    monkeypatch.setattr(exemplars, "_spot", lambda *given: (now.__setitem__(0, now[0] + 10), spot(*given))[1])
    (task,) = plan_of("class:0-2", "layer3/channel/1", photos=photos).tasks
    found = exemplars.pass_cost(task.units, get_model(task.model), task.photos, task.photos.files())
    assert (found.a_photo, found.a_spot) == (1, 10) and found.a_crop > 0


def test_a_network_that_breaks_at_photos_costs_its_ascents_alone(plan_of, photos, monkeypatch):
    def broken(*_):
        raise RuntimeError("It broke.")

    monkeypatch.setattr(cost, "_seconds_a_step", lambda task: 1.0)
    monkeypatch.setattr(cost, "pass_cost", broken)
    assert seconds_of(plan_of("class:0", steps=3, photos=photos)) == 3


def test_photos_of_which_none_can_be_read_cost_nothing(plan_of, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (task,) = plan_of("class:0", photos=str(tmp_path)).tasks
    assert exemplars.pass_cost(task.units, get_model(task.model), task.photos, task.photos.files()) is None
