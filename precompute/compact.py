"""The shards of a run put together: few large files in place of one a task.

First it is written down which tasks are put together, then comes the large shard, then the markers of its tasks are made to name
it, and only then the small ones go. So a kill at any instant loses no row, and the next time begins by finishing what was begun.
Rows that are there twice meanwhile are shown and published once.
"""

import io
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gallery import shards
from lsd.errors import LSDError
from lsd.provenance import slug
from precompute.run import planned
from precompute.storage import Storage, sha256
from precompute.tasks import Task
from precompute.work import Record, all_finished

PACKED = "packed-"  # how the names of large shards begin
_BEGUN = "packing"  # the folder in which it is written down what is being put together
SHARD_BYTES = 256 * 2**20  # of a large shard, about


@dataclass(frozen=True)
class Compacted:
    """How many files of shards there were, and how many there are."""

    before: int
    after: int


def compact(storage: Storage, shard_bytes: int = SHARD_BYTES) -> Compacted:
    """Put the shards of all finished tasks together, model by model, up to so many bytes each.

    No run may be under way in the folder, and no other compaction.

    Raises:
        StorageError: the folder cannot be used; the same can be done again later.
        LSDError: no run has been started there, or a shard is damaged.
    """
    tasks = planned(storage)
    before = storage.sizes("data")
    records = all_finished(tasks, storage)
    for journal in storage.names(_BEGUN, ".json"):
        _finish(journal, tasks, records, storage)
    own = [task for task in tasks if task.hash in records and records[task.hash].shard == task.shard]
    for group in _groups(own, records, shard_bytes):
        _pack(group, records, storage)
    return Compacted(len(before), len(storage.sizes("data")))


def _groups(tasks: Sequence[Task], records: dict[str, Record], most: int) -> Iterator[list[Task]]:
    """Tasks of one model whose shards together have at most so many bytes; alone none is worth the work."""
    by_model: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        by_model[task.model].append(task)
    for of_model in by_model.values():
        group, total = [], 0
        for task in of_model:
            size = records[task.hash].bytes
            if len(group) > 1 and total + size > most:
                yield group
                group, total = [], 0
            group.append(task)
            total += size
        if len(group) > 1:
            yield group


def _pack(tasks: Sequence[Task], records: dict[str, Record], storage: Storage) -> None:
    buffer = io.BytesIO()
    parts = storage.each(lambda task: _whole(task, records, storage), tasks)
    rows = shards.write(map(shards.read_table, parts), buffer)
    data = buffer.getvalue()
    del buffer
    expected = sum(records[task.hash].outcome.pictures for task in tasks)
    if rows != expected:
        raise LSDError(
            f"{len(tasks):,} shards of {tasks[0].model} have {rows:,} rows, and their markers say {expected:,}."
        )
    hashes = {task.hash: records[task.hash].sha256 for task in tasks}
    name = sha256(json.dumps(hashes).encode())[:16]
    path = f"data/{slug(tasks[0].model)}/{PACKED}{name}.parquet"
    journal = f"{_BEGUN}/{name}.json"
    storage.put(journal, json.dumps({"shard": path, "rows": rows, "tasks": hashes}).encode())
    storage.put(path, data, lambda stored: shards.check(stored, rows))
    del data
    _finish(journal, tasks, records, storage)


def _finish(journal: str, tasks: Sequence[Task], records: dict[str, Record], storage: Storage) -> None:
    """Have the markers of a large shard's tasks name it, if it was written, and remove what it was made from.

    Args:
        records: of all finished tasks, by hash; they name it then as well.
    """
    try:
        begun = json.loads(storage.get(journal) or b"")
        path, hashes = str(begun["shard"]), dict(begun["tasks"])
    except (ValueError, KeyError, TypeError) as error:
        raise LSDError(f"{journal} in {storage.url} is damaged; delete it, and run the same command again.") from error
    data = storage.get(path)
    if data is not None:
        if "rows" in begun:  # nothing goes before what was written is read again
            shards.check(data, begun["rows"])
        packed = {"shard": path, "bytes": len(data), "sha256": sha256(data)}

        def move(task: Task) -> None:
            record = records[task.hash]
            if record.shard == task.shard and record.sha256 == hashes[task.hash]:  # not made again since
                values = record.values | packed
                storage.put(task.marker, json.dumps(values, indent=1).encode())
                records[task.hash] = replace(
                    record, shard=path, bytes=len(data), sha256=packed["sha256"], values=values
                )

        packing = [task for task in tasks if task.hash in hashes and task.hash in records]
        list(storage.each(move, packing))
        gone = [task.shard for task in packing if records[task.hash].shard == path]
        list(storage.each(storage.delete, gone))
    storage.delete(journal)


def _whole(task: Task, records: dict[str, Record], storage: Storage) -> bytes:
    """The bytes of a task's own shard.

    Raises:
        LSDError: they are not those that its marker tells of.
    """
    data = storage.get(task.shard)
    if data is None or sha256(data) != records[task.hash].sha256:
        raise LSDError(f"{task.shard} in {storage.url} is damaged; delete it, and run the run's command again.")
    return data
