"""The index: every row but for its pictures and long columns, and where the rest of it lies.

It is made from the shards alone and can be thrown away at any time.
"""

import os
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa

from gallery import shards
from gallery.schema import HEAVY, SCHEMA
from gallery.shards import ShardError
from lsd.errors import LSDError

NAME = "index.parquet"
SCRATCH = ".index-"  # how the folders begin in which an index is made
LIGHT = tuple(name for name in SCHEMA.names if name not in HEAVY)
# shard: its path below the gallery's folder; row_group: in the shard; row: in the row group.
PLACE = (("shard", pa.string()), ("row_group", pa.int32()), ("row", pa.int32()))
INDEX_SCHEMA = pa.schema([*(SCHEMA.field(name) for name in LIGHT), *PLACE])
ORDER = ("model", "depth", "kind", "index", "unit", "recipe", "seed")

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


def build(folder: str | Path) -> Built:
    """Make the gallery's `index.parquet`, sorted by `ORDER`, from its shards; an older one is replaced at once.

    Of rows with the same `unit_id` the one `created` last is kept, and a picture rather than a failure. A shard that
    cannot be read is left out. The rows are sorted on disk, so there may be many more of them than memory holds.

    Raises:
        LSDError: there is no such folder, or it cannot be written to.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise LSDError(f"There is no gallery at {folder}: no such folder.")
    for left in folder.glob(f"{SCRATCH}*"):  # by a build that was killed
        with suppress(FileNotFoundError):  # or one that ends just now
            if time.time() - left.stat().st_mtime > _STALE:
                shutil.rmtree(left, ignore_errors=True)
    try:
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder) as scratch:
            return _build(folder, Path(scratch))
    except (OSError, duckdb.Error) as error:  # a full disk is an IOException here and a TransactionException there
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise LSDError(f"No index can be written to {folder}: {reason}.") from error


def _build(folder: Path, scratch: Path) -> Built:
    used, damaged = 0, {}
    with duckdb.connect(str(scratch / "rows.duckdb")) as connection:
        connection.execute("SET memory_limit = '1GB'")
        connection.execute("SET preserve_insertion_order = false")
        connection.register("source", INDEX_SCHEMA.empty_table())
        connection.execute("CREATE TABLE rows AS SELECT * FROM source")
        for path in find_shards(folder):
            name = path.relative_to(folder).as_posix()
            try:
                connection.register("source", _light_rows(path, name))
            except ShardError as error:
                damaged[name] = str(error)
                continue
            connection.execute("INSERT INTO rows SELECT * FROM source")
            used += 1
        connection.unregister("source")
        ((total, rows),) = connection.execute("SELECT count(*), count(DISTINCT unit_id) FROM rows").fetchall()
        kept = connection.sql(
            f"SELECT * FROM rows QUALIFY row_number() OVER "
            f"(PARTITION BY unit_id ORDER BY status = 'failed', created DESC NULLS LAST, shard DESC, row_group DESC, row DESC) = 1 "
            f"ORDER BY {_ORDER}, unit_id"
        )
        kept.write_parquet(str(scratch / NAME), compression="zstd", row_group_size=65536)
    with open(scratch / NAME, "rb") as file:
        os.fsync(file.fileno())
    os.replace(scratch / NAME, folder / NAME)
    return Built(folder / NAME, rows, used, total - rows, damaged)


def _light_rows(path: Path, name: str) -> pa.Table:
    """The rows of one shard as the index has them."""
    with shards.open_shard(path) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    groups = [i for i, size in enumerate(sizes) for _ in range(size)]
    rows = [i for size in sizes for i in range(size)]
    table = shards.read_table(path, LIGHT)
    places = ([name] * len(rows), groups, rows)
    for (column, kind), values in zip(PLACE, places, strict=True):
        table = table.append_column(column, pa.array(values, kind))
    return table
