"""Which tasks come first where time does not suffice for all of them."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

from lsd.errors import LSDError
from precompute.cost import kind_of
from precompute.tasks import Task

_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_FIRST = ("class", "channel")  # all other kinds come after them


def seconds_in(text: str) -> float:
    """A duration, such as "90s", "30min", "2h", "1.5h" or "1d", in seconds.

    Raises:
        LSDError: none, or no time at all.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(s|min|h|d)", text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0
    if not seconds:
        raise LSDError(f"“{text}” is not a budget; write for example 30min, 2h or 1d.")
    return seconds


def by_value(tasks: Sequence[Task]) -> list[Task]:
    """All tasks, the most valuable ones first, so that wherever one stops there is something of everything.

    Classes come before channels, and those before all other kinds. Within a kind each network and recipe has a task in turn, in
    the plan's order; and of one network and recipe any number of first tasks lies spread over all that it has.
    """
    groups: dict[tuple, list[Task]] = defaultdict(list)
    for task in tasks:
        kind = kind_of(task)
        groups[_FIRST.index(kind) if kind in _FIRST else len(_FIRST), task.model, task.recipe].append(task)
    placed = [
        ((group[0], turn, number), task)
        for number, (group, alike) in enumerate(groups.items())
        for turn, task in enumerate(_spread(alike))
    ]
    return [task for _, task in sorted(placed, key=lambda pair: pair[0])]


def _spread(tasks: Sequence[Task]) -> list[Task]:
    """In the order of their places' bits read backwards: the first, one in the middle, one in each half's middle, …"""
    bits = max(len(tasks) - 1, 1).bit_length()
    return [tasks[i] for i in sorted(range(len(tasks)), key=lambda i: f"{i:0{bits}b}"[::-1])]


def most_valuable(
    tasks: Sequence[Task], missing: Collection[Task], budget: float, seconds: Callable[[Task], float]
) -> list[Task]:
    """Of the tasks that are still missing the most valuable ones, as many as the budget suffices for; in the order of `tasks`.

    Those are the next ones of one and the same order, however often it is asked; only how far it goes is measured.

    Args:
        tasks: of the whole plan.
        budget: in seconds.
        seconds: about how long a task takes.

    Raises:
        LSDError: it does not suffice for the first.
    """
    missing = set(missing)
    chosen: set[Task] = set()
    left = budget
    for task in (task for task in by_value(tasks) if task in missing):
        takes = seconds(task)
        if takes > left:
            if not chosen:
                raise LSDError(
                    f"The budget does not suffice for the first task, {task.title}: it takes about {takes / 60:.1f} min."
                )
            break
        left -= takes
        chosen.add(task)
    return [task for task in tasks if task in chosen]
