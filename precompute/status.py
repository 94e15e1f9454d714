"""How far the runs in a folder are."""

from collections.abc import Iterable
from dataclasses import dataclass

from precompute.run import planned
from precompute.storage import Storage, sha256
from precompute.work import Record, all_finished


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
    records = all_finished(tasks, storage)
    done = [task for task in tasks if task.hash in records]
    outcomes = [records[task.hash].outcome for task in done]
    pictures = sum(task.pictures for task in done)
    seconds = sum(outcome.seconds for outcome in outcomes)
    return Status(
        len(tasks), len(done), sum(task.pictures for task in tasks), pictures,
        tuple(failure for outcome in outcomes for failure in outcome.failures),
        seconds / pictures if pictures else None,
        tuple(_damaged(records.values(), storage)) if deep else (),
    )  # fmt: skip


def _damaged(records: Iterable[Record], storage: Storage) -> list[str]:
    """The shards that are not what one of their markers says; each is read once."""
    said: dict[str, set[str]] = {}
    for record in records:
        said.setdefault(record.shard, set()).add(record.sha256)
    return [shard for shard, hashes in sorted(said.items()) if hashes != {sha256(storage.get(shard) or b"")}]
