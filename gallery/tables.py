"""The index in memory: its rows as they are, in Arrow, and what questions are asked about, in DuckDB.

DuckDB finds numbers of rows and Arrow gives the rows of those numbers: planning a query over all columns takes DuckDB
longer than running it. DuckDB has three tables:

- `cells`: the combinations of model, layer, kind, recipe and status that occur, each with a number and its rows' count
- `classes`: the classes that occur, each with a number and the count of models that have pictures of it
- `rows`: for each row its number (n), its place in the index's order; the numbers of its cell and class (-1: none); and
  what is searched and sorted by
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gallery.formats import why_not
from gallery.index import INDEX_REQUIRED, INDEX_SCHEMA
from gallery.shards import REPEATING, with_nulls
from lsd.errors import LSDError

CELL = ("model", "family", "layer", "depth", "kind", "recipe", "status")

_MEASURES = ("score", "own_probability", "agreement", "fine_energy")


@dataclass(frozen=True)
class Tables:
    """The index in memory.

    Attributes:
        rows: all of it, in its order.
        connection: to the three tables.
    """

    rows: pa.Table
    connection: duckdb.DuckDBPyConnection


def read(path: Path) -> Tables:
    """The tables of an index.

    Raises:
        LSDError: it cannot be read, or is of a format that this version does not know.
    """
    again = f"make it again: python -m gallery index {path.parent}."
    repeating = [name for name in (*REPEATING, "shard") if name in INDEX_SCHEMA.names]
    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow
        if reason := why_not(found, INDEX_SCHEMA, INDEX_REQUIRED):
            raise LSDError(f"{path} is an index of another version: it {reason}, or {again}")
        with pq.ParquetFile(path, read_dictionary=[name for name in repeating if name in found.names]) as file:
            rows = file.read([name for name in INDEX_SCHEMA.names if name in found.names], use_threads=False)
            return _tables(with_nulls(rows, INDEX_SCHEMA).combine_chunks())
    except (pa.ArrowException, OSError) as error:
        raise LSDError(f"{path} cannot be read; {again}") from error


def empty() -> Tables:
    """The tables of an index without rows."""
    return _tables(INDEX_SCHEMA.empty_table())


def _tables(rows: pa.Table) -> Tables:
    # Many visitors share the cores better than the threads of one visitor's query do.
    connection = duckdb.connect(config={"threads": 1})
    connection.register("source", rows.append_column("n", pa.array(np.arange(len(rows), dtype=np.int32))))
    cell = ", ".join(CELL)
    cleaned = ", ".join(
        [
            f"coalesce({name}, {-1 if name == 'depth' else repr('')}) AS {name}"
            for name in (*CELL, "class_name", "synset")
        ]
        + [f"CASE WHEN isfinite({name}) THEN {name} END AS {name}" for name in _MEASURES]  # a NaN would be the largest
    )
    connection.execute(
        f'CREATE VIEW clean AS SELECT {cleaned}, n, coalesce("index", -1) AS "index", coalesce(seed, -1) AS seed, '
        "coalesce(unit, '') AS unit, coalesce(unit_id, '') AS unit_id, lower(coalesce(title, '')) AS name FROM source"
    )
    connection.execute(
        f"CREATE TABLE groups AS SELECT {cell}, class_name, synset, count(*) AS rows FROM clean GROUP BY ALL"
    )
    connection.execute(
        f"CREATE TABLE cells AS SELECT (row_number() OVER (ORDER BY {cell}) - 1)::INTEGER AS cell, * "
        f"FROM (SELECT {cell}, sum(rows)::BIGINT AS rows FROM groups GROUP BY ALL)"
    )
    connection.execute(
        "CREATE TABLE classes AS SELECT (row_number() OVER (ORDER BY class_name, synset) - 1)::INTEGER AS class, * FROM "
        "(SELECT class_name, synset, count(DISTINCT model) AS models FROM groups WHERE class_name != '' GROUP BY ALL)"
    )
    connection.execute(
        f'CREATE TABLE rows AS SELECT n, cell, coalesce(class, -1) AS class, "index", seed, unit, unit_id, name, '
        f"{', '.join(_MEASURES)} FROM clean JOIN cells USING ({cell}) LEFT JOIN classes USING (class_name, synset)"
    )
    connection.execute("DROP VIEW clean")
    connection.execute("DROP TABLE groups")
    connection.unregister("source")
    return Tables(rows, connection)
