"""What tasks cost before they are done: bytes, and hours on this machine, from a few steps that are taken to find out."""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from lsd import precision
from lsd.errors import LSDError
from lsd.features.ascent import ascend_jobs, batch_of
from lsd.features.pictures import Job, picture_size
from lsd.features.units import Leaf, parse
from lsd.layers import as_said
from lsd.models import get_model
from lsd.said import NOTHING
from precompute.tasks import Task
from precompute.work import one_sentence

# At quality 90 a ResNet-50's pictures of the sample take .60 with their thumbnails; the other columns are on top.
_BYTES_A_PIXEL = 0.62
_STEPS = 4  # taken to measure; the first and the last, which prepare and finish, are not counted
_CPU_PICTURES = 8  # at most so many at once while measuring on a CPU, where more take longer in proportion


def bytes_of(task: Task) -> int:
    """About how much its shard takes."""
    height, width = picture_size(task.recipe, get_model(task.model).spec)
    return round(task.pictures * _BYTES_A_PIXEL * height * width)


def kind_of(task: Task) -> str:
    """The kind of its first unit: "class", "channel", …; "expression" for sums and products."""
    unit = parse(task.units[0])
    return unit.kind if isinstance(unit, Leaf) else "expression"


class Costs:
    """About how long tasks take on this machine, with one worker.

    Measured when first asked, once for each network, recipe and kind of unit: two steps of one batch at the recipe's full
    size. Deeper layers cost more, and units come from the first layer to the last, so the task in the middle of its kind
    stands for all. Loading, judging and writing are not in it.

    Args:
        tasks: all that will be asked about.
    """

    def __init__(self, tasks: Sequence[Task]):
        kinds: dict[tuple, list[Task]] = defaultdict(list)
        for task in tasks:
            kinds[_key(task)].append(task)
        self._tried = {key: alike[len(alike) // 2] for key, alike in kinds.items()}
        self._paces: dict[tuple, float] = {}

    def seconds(self, task: Task) -> float:
        """Of all its pictures, one batch after the other.

        Raises:
            LSDError: not one step can be taken.
        """
        key = _key(task)
        if key not in self._paces:
            tried = self._tried[key]
            try:
                self._paces[key] = _seconds_a_step(tried)
            except LSDError:
                raise
            except Exception as error:  # whatever a network raises at a unit that it was not made for
                raise LSDError(f"How long {tried.title} takes cannot be measured: {one_sentence(error)}") from error
        return self._paces[key] * task.recipe.steps * task.pictures


def _key(task: Task) -> tuple:
    return task.model, task.recipe, kind_of(task)


def _seconds_a_step(task: Task) -> float:
    """Of one picture of the task's first batch."""
    precision.from_environment()
    said = dict(task.said)
    model, *others = (
        as_said(get_model(name), said.get(name, NOTHING)) for name in (task.model, *(name for name, _ in task.others))
    )
    at_once = task.batch_size or batch_of(model)
    if model.device.type == "cpu":
        at_once = min(at_once, _CPU_PICTURES)
    jobs = [Job(parse(unit), seed) for unit in task.units for seed in task.seeds][:at_once]
    recipe = replace(task.recipe, steps=_STEPS, stages=((1.0, 1.0),), tolerance=0.0)
    half = precision.halves(model.device)
    times, pictures = [], 0
    for snapshot in ascend_jobs(
        model, jobs, recipe, others=others, every=1, batch_size=task.batch_size, half=half
    ):  # where the memory does not suffice there are several batches: the first is measured
        if len(times) < _STEPS - 1 and not snapshot.finished:
            times.append(time.perf_counter())
            pictures = len(snapshot.jobs)
    return (times[-1] - times[0]) / (len(times) - 1) / pictures
