"""What is made first where time does not suffice for all."""

import pytest

from lsd.errors import LSDError
from precompute import plan as planning
from precompute import run as running
from precompute.budget import by_value, most_valuable, seconds_in
from precompute.cost import Costs
from precompute.run import run
from precompute.status import status
from precompute.storage import Storage

EACH = 10.0  # seconds that a task takes here


def seconds(task) -> float:
    return EACH


@pytest.fixture
def one_unit_a_task(monkeypatch):
    monkeypatch.setattr(planning, "UNITS", 1)


@pytest.mark.parametrize("text, expected", [
    ("90s", 90), ("30min", 1800), ("2h", 7200), ("1.5h", 5400), ("1d", 86400), (" 2 h ", 7200),
])  # fmt: skip
def test_a_budget_is_a_number_and_a_unit(text, expected):
    assert seconds_in(text) == expected


@pytest.mark.parametrize("text", ["", "2", "h", "0h", "0.0min", "-2h", "2 hours", "2h30", "1e3s", "nan", "inf h"])
def test_what_is_no_budget_is_told_in_a_sentence(text):
    with pytest.raises(LSDError, match="is not a budget; write for example 30min, 2h or 1d"):
        seconds_in(text)


def test_classes_come_first_then_channels_and_the_rest_last(plan_of, one_unit_a_task):
    plan = plan_of("class/0 + class/1", "layer3:channels:1", "class:0-1", models=["demo:resnet", "demo:shortcut"])
    assert [(task.model, task.units[0]) for task in by_value(plan.tasks)] == [
        (model, unit)
        for unit in ("class/0", "class/1", "layer3/channel/0", "class/0 + class/1")
        for model in ("demo:resnet", "demo:shortcut")
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13, 16])
def test_any_number_of_first_tasks_lies_spread_over_all(plan_of, one_unit_a_task, count):
    """No gap between neighbours is wider than twice what even steps would leave, rounded up to a power of two."""
    tasks = plan_of(f"class:0-{count - 1}").tasks
    ordered = by_value(tasks)
    assert sorted(ordered, key=tasks.index) == list(tasks)
    whole = 1 << max(count - 1, 1).bit_length()
    for some in range(1, count + 1):
        places = sorted(tasks.index(task) for task in ordered[:some])
        gaps = [after - before for before, after in zip(places, [*places[1:], count], strict=True)]
        assert max(gaps) <= whole >> (some.bit_length() - 1)


def test_the_same_budget_again_goes_on_with_the_next(plan_of, one_unit_a_task):
    plan = plan_of("class:0-4", "layer3:channels:2")
    order, missing, taken = by_value(plan.tasks), list(plan.tasks), []
    while missing:
        now = most_valuable(plan.tasks, missing, 2 * EACH, seconds)
        assert now == sorted(order[len(taken) : len(taken) + 2], key=plan.tasks.index)
        taken += now
        missing = [task for task in missing if task not in now]
    assert len(taken) == len(set(taken)) == 7 and most_valuable(plan.tasks, [], EACH, seconds) == []


def test_a_budget_ends_at_the_first_task_that_it_does_not_suffice_for(plan_of, one_unit_a_task):
    """Smaller ones that come later are not taken in its place, or the order would depend on the budget."""
    plan = plan_of("class:0-3")
    order = by_value(plan.tasks)
    costs = dict(zip(order, (5.0, 90.0, 1.0, 1.0), strict=True))
    assert most_valuable(plan.tasks, plan.tasks, 20.0, costs.get) == order[:1]
    assert most_valuable(plan.tasks, plan.tasks, 97.0, costs.get) == list(plan.tasks)


def test_a_budget_for_nothing_names_what_the_first_task_takes(plan_of):
    with pytest.raises(
        LSDError, match=r"does not suffice for the first task, demo:resnet, class/0, lsd: it takes about 0\.2 min"
    ):
        most_valuable((plan := plan_of("class:0")).tasks, plan.tasks, 5.0, seconds)


def test_runs_with_a_budget_make_the_whole_plan_bit_by_bit(plan_of, one_unit_a_task, tmp_path, rows_in, monkeypatch):
    plan = plan_of("class:0-2", "layer3:channels:2")
    run(plan, str(tmp_path / "whole"))
    monkeypatch.setattr(Costs, "seconds", lambda self, task: EACH)
    folder, made = tmp_path / "bits", []
    for left, budget in ((3, 25.0), (1, 25.0), (0, 25.0), (0, 1.0)):
        report = run(plan, str(folder), budget=budget)
        assert not report.failures and len(report.left) == left and report.pictures == 5 - left
        made.append(report.pictures - report.reused)
        found = status(Storage(str(folder)))
        assert (found.pictures_done, found.pictures) == (5 - left, 5)
    assert made == [2, 2, 1, 0]  # and where nothing is missing, no budget is too small
    assert rows_in(folder) == rows_in(tmp_path / "whole")
    assert len(list((folder / "plans").iterdir())) == 1


def test_progress_is_that_of_what_the_budget_suffices_for(plan_of, one_unit_a_task, tmp_path, monkeypatch):
    monkeypatch.setattr(Costs, "seconds", lambda self, task: EACH)
    shown, progress = [], running._progress
    monkeypatch.setattr(running, "_progress", lambda tasks, report: shown.append(len(tasks)) or progress(tasks, report))
    for _ in range(2):
        run(plan_of("class:0-3"), str(tmp_path), budget=2 * EACH)
    assert shown == [2, 4]
