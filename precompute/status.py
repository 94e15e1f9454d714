"""How far the runs in a folder are."""

import json
from dataclasses import dataclass

from precompute.run import planned
from precompute.storage import Storage, sha256
from precompute.work import finished


@dataclass(frozen=True)
class Status:
    """Sums over every plan that was run in a folder.

    Attributes:
        tasks, tasks_done, pictures, pictures_done: planned, and there.
        failures: (unit_id, sentence) of rows without a picture.
        seconds_a_picture: mean over what is done, with all its overhead, on one worker; None before the first.
        damaged: shards that are not what their markers say, if that was looked for.
    """

    tasks: int
    tasks_done: int
    pictures: int
    pictures_done: int
    failures: tuple[tuple[str, str], ...]
    seconds_a_picture: float | None
    damaged: tuple[str, ...] = ()


def status(storage: Storage, deep: bool = False) -> Status:
    """What is done of all that was planned.

    Args:
        deep: read every shard and compare its SHA-256 with its marker.

    Raises:
        LSDError: no run has been started there.
    """
    tasks = planned(storage)
    done = {task: outcome for task in tasks if (outcome := finished(task, storage)) is not None}
    pictures = sum(task.pictures for task in done)
    seconds = sum(outcome.seconds for outcome in done.values())
    return Status(
        len(tasks), len(done), sum(task.pictures for task in tasks), pictures,
        tuple(failure for outcome in done.values() for failure in outcome.failures),
        seconds / pictures if pictures else None,
        tuple(task.shard for task in done if _damaged(task, storage)) if deep else (),
    )  # fmt: skip


def _damaged(task, storage: Storage) -> bool:
    data, marker = storage.get(task.shard), storage.get(task.marker)
    return data is None or marker is None or json.loads(marker)["sha256"] != sha256(data)
