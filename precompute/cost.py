"""What tasks cost before they are done: bytes, and hours on this machine, from a little of it that is done to find out."""

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

from lsd import precision
from lsd.errors import LSDError
from lsd.features.ascent import ascend_jobs, batch_of
from lsd.features.pictures import Job, picture_size
from lsd.features.units import Leaf, parse
from lsd.layers import as_said
from lsd.models import ImageModel, get_model
from lsd.said import NOTHING
from precompute.exemplars import COUNT, PassCost, pass_cost
from precompute.photos import Photo, Photos
from precompute.tasks import Task
from precompute.work import one_sentence

# At quality 90 a ResNet-50's pictures of the sample take .60 with their thumbnails; the other columns are on top.
_BYTES_A_PIXEL = 0.62
_STEPS = 4  # taken to measure; the first and the last, which prepare and finish, are not counted
_CPU_PICTURES = 8  # at most so many at once while measuring on a CPU, where more take longer in proportion

Cost = TypeVar("Cost")


def kind_of(task: Task) -> str:
    """The kind of its first unit: "class", "channel", …; "expression" for sums and products."""
    unit = parse(task.units[0])
    return unit.kind if isinstance(unit, Leaf) else "expression"


class _Tried(Generic[Cost]):
    """What is measured when it is first asked for, once for all tasks that are alike.

    Deeper layers cost more, and units come from the first layer to the last, so the task in the middle of its kind stands for all.
    """

    def __init__(self, tasks: Sequence[Task], alike: Callable[[Task], Hashable], measure: Callable[[Task], Cost]):
        groups: dict[Hashable, list[Task]] = defaultdict(list)
        for task in tasks:
            groups[alike(task)].append(task)
        self._middle = {key: group[len(group) // 2] for key, group in groups.items()}
        self._alike, self._measure = alike, measure
        self._found: dict[Hashable, Cost] = {}

    def of(self, task: Task) -> Cost:
        """As measured with the task in the middle of its kind."""
        key = self._alike(task)
        if key not in self._found:
            self._found[key] = self._measure(self._middle[key])
        return self._found[key]


class Costs:
    """About what tasks take: bytes, and seconds on this machine with one worker.

    Measured once for each network, recipe and kind of unit: two steps of one batch at the recipe's full size. And with photos for
    each network and kind of unit: a look at some of them. Loading, judging and writing are not in it.

    Args:
        tasks: all that will be asked about.
        made: the hashes of those whose pictures are there without the photos: they take the look at the photos alone.
    """

    def __init__(self, tasks: Sequence[Task], made: Collection[str] = ()):
        self._paces = _Tried(tasks, lambda task: (task.model, task.recipe, kind_of(task)), _pace)
        self._passes = _Tried(
            [task for task in tasks if task.photos],
            lambda task: (task.model, kind_of(task), task.photos.digest),
            lambda task: _look(task, self._files(task.photos)),
        )
        self._files = functools.cache(Photos.files)
        self._made = made

    def seconds(self, task: Task) -> float:
        """Of all its pictures, one batch after the other, and of its photos.

        Raises:
            LSDError: not one step can be taken, or the photos are others by now.
        """
        ascent = 0.0 if task.hash in self._made else self._paces.of(task) * task.recipe.steps * task.pictures
        look = self._pass(task)
        return ascent + (look.seconds(len(task.units), len(self._files(task.photos))) if look else 0.0)

    def bytes(self, task: Task) -> int:
        """About how much its shard takes. Raises LSDError as `seconds` does."""
        height, width = picture_size(task.recipe, get_model(task.model).spec)
        look = self._pass(task) if task.photos and task.photos.crops else None
        crops = min(COUNT, len(self._files(task.photos))) * look.a_crop if look else 0.0
        return round(task.pictures * (_BYTES_A_PIXEL * height * width + crops))

    def _pass(self, task: Task) -> PassCost | None:
        return self._passes.of(task) if task.photos else None


def _model(task: Task) -> ImageModel:
    return as_said(get_model(task.model), dict(task.said).get(task.model, NOTHING))


def _pace(task: Task) -> float:
    """`_seconds_a_step`, or a sentence."""
    try:
        return _seconds_a_step(task)
    except LSDError:
        raise
    except Exception as error:  # whatever a network raises at a unit that it was not made for
        raise LSDError(f"How long {task.title} takes cannot be measured: {one_sentence(error)}") from error


def _look(task: Task, files: Sequence[Photo]) -> PassCost | None:
    """Of the task's units; None where its rows will have nothing but the reason why not."""
    try:
        return pass_cost(task.units, _model(task), task.photos, files)
    except Exception:  # whatever a network raises at photos, as it will in the run
        return None


def _seconds_a_step(task: Task) -> float:
    """Of one picture of the task's first batch."""
    precision.from_environment()
    said = dict(task.said)
    model = _model(task)
    others = [as_said(get_model(name), said.get(name, NOTHING)) for name, _ in task.others]
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
