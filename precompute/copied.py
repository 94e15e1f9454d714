"""A run's shards on this machine's disk, wherever the run's folder is, for what reads them over and over."""

from pathlib import Path

from lsd.errors import LSDError
from precompute.storage import Storage


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
    for path, data in zip(missing, storage.each(storage.get, missing), strict=True):
        if data is not None:  # it is gone by now
            here.put(path, data)
    return copy
