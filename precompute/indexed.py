"""The index of a run's folder, wherever that is: of a bucket, only the light columns of its shards are fetched."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from gallery import index
from gallery.bucket import Ranges
from gallery.shards import ShardError
from precompute.storage import Storage


def build(storage: Storage) -> index.Built:
    """Make the folder's `index.parquet` from its shards, as `gallery.index.build` does.

    Nobody else may make one of a bucket meanwhile.

    Raises:
        LSDError: it cannot be written.
    """
    if storage.local:
        return index.build(storage.folder)
    listed = {name: size for name, size in storage.sizes("data").items() if name.endswith(".parquet")}
    damaged: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="lsd-index-") as scratch:
        total, rows = index.write(_tables(storage, listed, damaged), Path(scratch), listed)
        storage.put(index.NAME, Path(scratch, index.NAME).read_bytes())
    return index.Built(Path(index.NAME), rows, len(listed) - len(damaged), total - rows, damaged)


def _tables(storage: Storage, listed: dict[str, int], damaged: dict[str, str]) -> Iterator[pa.Table]:
    """The rows of each shard as the index has them; of those that cannot be read, `damaged` is told why."""

    def read(name: str) -> pa.Table | ShardError:
        try:
            part = lambda begin, end: storage.part(name, begin, end)  # noqa: E731
            return index.light_rows(Ranges(part, listed[name], name), name)
        except ShardError as error:
            return error

    for name, found in zip(listed, storage.each(read, listed), strict=True):
        if isinstance(found, ShardError):
            damaged[name] = str(found)
        else:
            yield found
