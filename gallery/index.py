"""The index: every row but for its pictures and long columns, and where the rest of it lies.

It is made from the shards alone and can be thrown away at any time. It says which shards it covers, so that whoever opens it
sees whether others have been added, and of two that are made at the same time the one that began later stays.
"""

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gallery import orders, shards
from gallery.formats import FORMAT, KEY
from gallery.rows import INDEX_SCHEMA, LIGHT, PLACE, Rows
from gallery.shards import ShardError
from lsd.errors import LSDError

NAME = "index.parquet"
ROW_GROUP = 4096  # rows: a page of a search may have its rows in as many row groups
SCRATCH = ".index-"  # how the folders begin in which an index is made
ORDER = ("model", "depth", "kind", "index", "unit", "recipe", "seed")

_SORTED = "sorted.parquet"  # the rows in a scratch folder, before they have their orders
_COVERED = "lsd_shards"  # under which an index says which shards it covers
_STALE = 24 * 3600  # seconds after which nobody is still at work in a scratch folder

_ORDER = ", ".join(f'"{name}"' for name in ORDER)


@dataclass(frozen=True)
class Built:
    """What became of the shards.

    Attributes:
        path: of the index.
        rows: in it.
        shards: that it was made from.
        dropped: rows left out because another has their `unit_id`.
        damaged: shards left out, and why, by their path below the folder.
    """

    path: Path
    rows: int
    shards: int
    dropped: int
    damaged: dict[str, str] = field(default_factory=dict)


def find_shards(folder: Path) -> list[Path]:
    """The shards of a gallery, sorted; names that begin with a dot are somebody's unfinished work."""
    below = (path.relative_to(folder) for path in (folder / "data").rglob("*.parquet"))
    return sorted(folder / path for path in below if not any(part.startswith(".") for part in path.parts))


def shard_sizes(folder: Path) -> dict[str, int]:
    """The bytes in number of a gallery's shards, by their path below the folder."""
    found = {}
    for path in find_shards(folder):
        with contextlib.suppress(FileNotFoundError):  # it is gone by now
            found[path.relative_to(folder).as_posix()] = path.stat().st_size
    return found


def covered(path: Path) -> dict[str, int] | None:
    """The shards that an index was made from, as `shard_sizes` had them; None if it does not say, or cannot be read."""
    try:
        stated = json.loads((pq.read_metadata(path).metadata or {})[_COVERED.encode()])
        return {str(name): int(size) for name, size in stated.items()}
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError, AttributeError):
        return None


def behind(folder: Path) -> int:
    """How many shards have been added, replaced or removed since the folder's index was made; 0 if it does not say."""
    known = covered(folder / NAME)
    if known is None:
        return 0
    return len({name for name, _ in known.items() ^ shard_sizes(folder).items()})


def build(folder: str | Path) -> Built:
    """Make the gallery's `index.parquet`, sorted by `ORDER`, from its shards; an older one is replaced at once.

    One that covers more of what is there by now, because it was begun later by somebody else, stays as it is.

    Of rows with the same `unit_id` the one `created` last is kept, and a picture rather than a failure. A shard that
    cannot be read is left out. The rows are sorted on disk, so there may be many more of them than memory holds.

    Raises:
        LSDError: there is no such folder, or it cannot be written to.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise LSDError(f"There is no gallery at {folder}: no such folder.")
    for left in folder.glob(f"{SCRATCH}*"):  # by a build that was killed
        with contextlib.suppress(FileNotFoundError):  # or one that ends just now
            if time.time() - left.stat().st_mtime > _STALE:
                shutil.rmtree(left, ignore_errors=True)
    try:
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder) as scratch:
            return _build(folder, Path(scratch))
    except (OSError, duckdb.Error) as error:  # a full disk is an IOException here and a TransactionException there
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise LSDError(f"No index can be written to {folder}: {reason}.") from error


def _build(folder: Path, scratch: Path) -> Built:
    damaged, listed = {}, shard_sizes(folder)
    total, rows = write(_readable(folder, listed, damaged), scratch, listed)
    with open(scratch / NAME, "rb") as file:
        os.fsync(file.fileno())
    with _locked(folder):
        newer = _up_to_date(covered(folder / NAME), folder) > _up_to_date(listed, folder)
        if not newer:
            os.replace(scratch / NAME, folder / NAME)
    if newer:
        rows = pq.read_metadata(folder / NAME).num_rows
    return Built(folder / NAME, rows, len(listed) - len(damaged), max(0, total - rows), damaged)


def write(tables: Iterable[pa.Table], folder: Path, listed: dict[str, int]) -> tuple[int, int]:
    """Write the index of some rows into a folder, as `build` does; how many rows there were, and how many it has.

    Args:
        tables: of `INDEX_SCHEMA`, one after another.
        listed: the shards that it is to say it covers, as `shard_sizes` has them.

    Raises:
        OSError, duckdb.Error: the folder cannot be written to.
    """
    with duckdb.connect(str(folder / "rows.duckdb")) as connection:
        connection.execute("SET memory_limit = '1GB'")
        connection.execute("SET preserve_insertion_order = false")
        connection.execute("BEGIN")  # or the disk is waited for after each of them
        connection.register("source", INDEX_SCHEMA.empty_table())
        connection.execute("CREATE TABLE rows AS SELECT * FROM source")
        for table in tables:
            connection.register("source", table)
            connection.execute("INSERT INTO rows SELECT * FROM source")
        connection.unregister("source")
        connection.execute("COMMIT")
        ((total, rows),) = connection.execute("SELECT count(*), count(DISTINCT unit_id) FROM rows").fetchall()
        connection.execute(
            f"COPY (SELECT * FROM rows QUALIFY row_number() OVER "
            f"(PARTITION BY unit_id ORDER BY status = 'failed', created DESC NULLS LAST, shard DESC, row_group DESC, row DESC) = 1 "
            f"ORDER BY {_ORDER}, unit_id) TO '{_quoted(folder / _SORTED)}' (FORMAT parquet, ROW_GROUP_SIZE {ROW_GROUP})"
        )
    columns, stated = orders.columns(Rows(folder / _SORTED))
    _add(columns, {KEY: str(FORMAT), _COVERED: json.dumps(listed), **stated}, folder / _SORTED, folder / NAME)
    (folder / _SORTED).unlink()
    return total, rows


def _add(columns: dict[str, np.ndarray], stated: dict[str, str], source: Path, target: Path) -> None:
    """Write the rows of a parquet file with more columns and metadata, a row group at a time."""
    with pq.ParquetFile(source) as file:
        more = [(name, pa.int32()) for name in columns]
        schema = pa.schema([*file.schema_arrow, *more])
        repeating = [*shards.REPEATING, "shard"]
        begin = 0
        with pq.ParquetWriter(
            target, schema, compression="zstd", compression_level=3, store_schema=False,
            use_dictionary=[name for name in repeating if name in schema.names],
        ) as writer:  # fmt: skip
            writer.add_key_value_metadata(stated)
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                for name, numbers in columns.items():
                    table = table.append_column(name, pa.array(numbers[begin : begin + len(table)]))
                writer.write_table(table.cast(schema))
                begin += len(table)


def _readable(folder: Path, listed: Iterable[str], damaged: dict[str, str]) -> Iterator[pa.Table]:
    """The rows of each shard as the index has them; of those that cannot be read, `damaged` is told why."""
    for name in listed:
        try:
            yield light_rows(folder / name, name)
        except ShardError as error:
            damaged[name] = str(error)


def _quoted(text: str | Path) -> str:
    """As the inside of a text in SQL."""
    return str(text).replace("'", "''")


def _up_to_date(known: dict[str, int] | None, folder: Path) -> tuple[int, int]:
    """How much of what is there now an index covers, and how little that is gone: the larger, the newer."""
    if known is None:
        return -1, 0
    now = shard_sizes(folder)
    return len(known.items() & now.items()), -len(known.keys() - now.keys())


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Nobody else is in such a block for this folder meanwhile, where the system and the disk can do that."""
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def light_rows(source: shards.Source, name: str) -> pa.Table:
    """The rows of one shard, by name, as the index has them.

    Raises:
        ShardError: it cannot be read.
    """
    with shards.open_shard(source) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    groups = [i for i, size in enumerate(sizes) for _ in range(size)]
    rows = [i for size in sizes for i in range(size)]
    table = shards.read_table(source, LIGHT)
    places = ([name] * len(rows), groups, rows)
    for (column, kind), values in zip(PLACE, places, strict=True):
        table = table.append_column(column, pa.array(values, kind))
    return table
