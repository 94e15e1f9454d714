"""The rows of the saliency study as parquet: one value of one metric, of one variant's map of one picture by one model."""

import io
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lsd.errors import LSDError

_TEXT = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [("part", _TEXT), ("model", _TEXT), ("item", _TEXT), ("variant", _TEXT), ("metric", _TEXT), ("value", pa.float32())]
)


def cell_item(grid: int, item: str) -> str:
    """The item of a row about one cell of a grid: which grid, and whose picture is in the cell."""
    return f"{grid}|{item}"


def picture_of(item: str) -> str:
    """What names the picture that a row is about: the grid for a cell of it, else the item itself."""
    grid, bar, _ = item.partition("|")
    return f"{grid}|" if bar else item


def rows_bytes(part: str, model: str, rows: Sequence[tuple[str, str, str, float]]) -> bytes:
    """(item, variant, metric, value) rows of one part and model as the bytes of a parquet file."""
    items, names, metrics, values = zip(*rows, strict=True)
    columns = [[part] * len(rows), [model] * len(rows), items, names, metrics]
    arrays = [pa.array(column, pa.string()).dictionary_encode() for column in columns]
    table = pa.table([*arrays, pa.array(values, pa.float32())], schema=SCHEMA)
    return table_bytes(table)


def table_bytes(table: pa.Table) -> bytes:
    """A table of `SCHEMA` as a parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def read_rows(files: Sequence[Path]) -> pa.Table:
    """All rows of these files.

    Raises:
        LSDError: no file, or a damaged one, by its name.
    """
    if not files:
        raise LSDError("There are no results of this study yet: run it without --report first.")
    tables = []
    for file in files:
        try:
            tables.append(pq.read_table(file, schema=SCHEMA, page_checksum_verification=True))
        except (pa.ArrowException, OSError) as error:
            raise LSDError(
                f"{file.name} is damaged; delete it and run the study again, it makes what is missing."
            ) from error
    return pa.concat_tables(tables).unify_dictionaries()
