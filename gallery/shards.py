"""Rows to parquet and back: one shard is one parquet file of `schema.SCHEMA`.

Row groups are small, so that a page of thumbnails is a short read; every page carries a checksum, so that a damaged
shard is noticed wherever it is damaged. The same rows give the same bytes.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from gallery.formats import why_not
from gallery.schema import REQUIRED, ROW_GROUP, SCHEMA
from lsd.errors import LSDError

Source = Path | bytes | BinaryIO  # of a shard: a file on a disk, what is in it, or a file elsewhere that is open
PICTURES = ("picture", "thumbnail")
CROPS = "crops"  # pictures, too, several in a row

_PICTURE_LEAVES = tuple(f"{name}.{part}" for name in (*PICTURES, f"{CROPS}.list.element") for part in ("bytes", "path"))
# Texts that repeat from row to row, which a dictionary shrinks to almost nothing.
REPEATING = (
    *("model", "architecture", "family", "layer", "kind", "class_name", "synset", "recipe", "recipe_hash", "status"),
    *("error", "flat", "weights_source", "weights_repo", "weights_revision", "weights_sha256", "weights_digest"),
    *("recipe_json", "environment", "created", "task", "said"),
)


class ShardError(LSDError):
    """A shard cannot be read: missing, cut short, damaged, or of another format."""


def to_table(rows: Sequence[dict]) -> pa.Table:
    """Rows as a table of exactly `schema.SCHEMA`; what a row leaves out is null.

    Args:
        rows: values by column; a picture is the bytes of its file, or {"bytes", "path"} as `datasets` has it.

    Raises:
        LSDError: a column that the schema has not, or a value of another type, naming it.
    """
    for row in rows:
        if unknown := sorted(row.keys() - set(SCHEMA.names)):
            raise LSDError(f"A row of the gallery has no column “{unknown[0]}”.")
    return pa.table([_column(field, [row.get(field.name) for row in rows]) for field in SCHEMA], schema=SCHEMA)


def _column(field: pa.Field, values: list) -> pa.Array:
    if field.name in PICTURES:
        values = [{"bytes": bytes(v)} if isinstance(v, bytes | bytearray) else v for v in values]
    try:
        return pa.array(values, field.type)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise LSDError(f"A value in column “{field.name}” of the gallery is not of its type, {field.type}.") from error


def table_bytes(table: pa.Table) -> bytes:
    """The parquet file of a table of `schema.SCHEMA`, in row groups of `schema.ROW_GROUP` rows.

    WebP is compressed already, so pictures lie there as they are, and without statistics, which would be pictures, too.
    """
    buffer = io.BytesIO()
    write([table], buffer)
    return buffer.getvalue()


def write(tables: Iterable[pa.Table], file: BinaryIO) -> int:
    """As `table_bytes`, of tables one after another, of which a row group's worth is held at a time; the number of rows."""
    leaves = [name for name in _leaves(SCHEMA) if name not in _PICTURE_LEAVES]
    rows = 0
    with pq.ParquetWriter(
        file,
        SCHEMA,
        use_dictionary=list(REPEATING),
        compression=dict.fromkeys(leaves, "zstd"),  # the others are not compressed
        compression_level=dict.fromkeys(leaves, 3),
        write_statistics=leaves,
        write_page_checksum=True,
    ) as writer:
        for group in in_groups(tables):
            writer.write_table(group, row_group_size=ROW_GROUP)
            rows += len(group)
    return rows


def in_groups(tables: Iterable[pa.Table], size: int = ROW_GROUP) -> Iterator[pa.Table]:
    """The same rows in tables of `size`, the last one of what is left."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += len(table)
        while rows >= size:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, size)
            waiting, rows = [joined.slice(size)], rows - size
    if rows:
        yield pa.concat_tables(waiting)


def _leaves(schema: pa.Schema) -> list[str]:
    """The columns as parquet has them, lists and structs taken apart: "picture.bytes"."""
    buffer = io.BytesIO()
    pq.write_table(schema.empty_table(), buffer)
    parquet = pq.ParquetFile(buffer).schema
    return [parquet.column(i).path for i in range(len(parquet))]


def open_shard(source: Source) -> pq.ParquetFile:
    """A shard, opened; its format is the gallery's, or an earlier one.

    Raises:
        ShardError: it cannot be read, is cut short, or is of a format that this version does not know.
    """
    name = _name(source)
    try:
        file = pq.ParquetFile(
            pa.BufferReader(source) if isinstance(source, bytes) else source,
            pre_buffer=not isinstance(source, Path | bytes),  # elsewhere, one long read is better than many short ones
            page_checksum_verification=True,
        )
    except (pa.ArrowException, OSError) as error:
        raise ShardError(f"{name} is no whole parquet file.") from error
    if reason := why_not(file.schema_arrow, SCHEMA, REQUIRED):
        file.close()
        raise ShardError(f"{name} {reason}.")
    return file


def read_group(source: Source, group: int) -> pa.Table:
    """The rows of one row group, with all columns.

    Raises:
        ShardError: as `read_table`.
    """
    with open_shard(source) as file:
        return _read_group(file, group, SCHEMA.names, _name(source))


def read_table(source: Source, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a shard as a table, with all columns or those named; those that it lacks are null.

    Raises:
        ShardError: as `open_shard`, or the rows are damaged.
    """
    with open_shard(source) as file:
        names = SCHEMA.names if columns is None else list(columns)
        # One after another: the pictures of a large shard do not fit into one array.
        groups = [_read_group(file, group, names, _name(source)) for group in range(file.num_row_groups)]
    return pa.concat_tables(groups or [_columns(names).empty_table()])


def _read_group(file: pq.ParquetFile, group: int, names: list[str], shard: str) -> pa.Table:
    try:
        wanted = [name for name in names if name in file.schema_arrow.names]
        table = file.read_row_group(group, wanted, use_threads=False)
    except (pa.ArrowException, OSError, IndexError) as error:
        raise ShardError(f"{shard} is damaged.") from error
    return with_nulls(table, _columns(names))


def _columns(names: Sequence[str]) -> pa.Schema:
    return pa.schema([SCHEMA.field(name) for name in names], SCHEMA.metadata)


def _name(source: Source) -> str:
    return source.name if isinstance(source, Path) else "The shard"


def with_nulls(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table in the order of `schema`, with nulls for the columns that it lacks."""
    there = set(table.column_names)
    for field in schema:
        if field.name not in there:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(schema.names).replace_schema_metadata(schema.metadata)


def read_rows(source: Source, columns: Sequence[str] | None = None) -> list[dict]:
    """As `read_table`, as dictionaries; pictures as the bytes of their files, None where there is none."""
    rows = read_table(source, columns).to_pylist()
    for row in rows:
        for name in row.keys() & set(PICTURES):
            row[name] = row[name] and row[name]["bytes"]
    return rows


def check(data: Source, rows: int) -> None:
    """Nothing, if `data` is a whole shard of that many rows, every page of it with the right checksum.

    One row group is held at a time.

    Raises:
        ShardError: what is wrong with it.
    """
    with open_shard(data) as file:
        found = sum(len(_read_group(file, group, SCHEMA.names, _name(data))) for group in range(file.num_row_groups))
    if found != rows:
        raise ShardError(f"The shard has {found} rows instead of {rows}.")
