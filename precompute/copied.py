"""A run's shards on this machine's disk, wherever the run's folder is, for what reads them over and over."""

from pathlib import Path

from lsd.errors import LSDError
from precompute.storage import AT_ONCE, Storage

_MEMORY = 512 * 2**20  # bytes of files under way


def on_disk(storage: Storage, copy: Path) -> Path:
    """The run's folder, if it is on a disk; else `copy`, with the same shards in it and no others.

    What is in the copy already, with the same number of bytes, is not fetched again.

    Raises:
        StorageError: one of the two cannot be used; the same can be done again later.
        LSDError: there are no shards.
    """
    if storage.local:
        return storage.folder
    here, wanted = Storage(str(copy)), storage.sizes("data")
    if not wanted:
        raise LSDError(f"There are no pictures in {storage.url}; python -m precompute run makes some.")
    here.clean()
    there = here.sizes("data")
    for path in there.keys() - wanted.keys():
        here.delete(path)
    missing = [path for path, size in wanted.items() if there.get(path) != size]

    def copy_one(path: str) -> None:
        data = storage.get(path)
        if data is not None:  # else it is gone by now
            here.put(path, data)

    at_once = _MEMORY // max(wanted.values())
    for _ in storage.each(copy_one, missing, max(1, min(at_once, AT_ONCE))):
        pass
    return copy
