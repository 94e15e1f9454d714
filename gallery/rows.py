"""The index's file: its rows by number, and single columns of it, read one row group at a time and kept for a while.

A row's number is its place in the index's order.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gallery.formats import why_not
from gallery.schema import HEAVY, REQUIRED, SCHEMA
from gallery.shards import REPEATING, with_nulls
from lsd.errors import LSDError
from lsd.recent import Recent

LIGHT = tuple(name for name in SCHEMA.names if name not in HEAVY)
# shard: its path below the gallery's folder; row_group: in the shard; row: in the row group.
PLACE = (("shard", pa.string()), ("row_group", pa.int32()), ("row", pa.int32()))
INDEX_SCHEMA = pa.schema([*(SCHEMA.field(name) for name in LIGHT), *PLACE])
INDEX_REQUIRED = (*REQUIRED, *(name for name, _ in PLACE))
BLOCK = 2**18  # rows that are read at a time where all of them are

_FEW = 16  # values of a column that are sooner read one by one
_KEPT = 160 * 2**20  # bytes of unpacked row groups kept
_ANSWER = TypeVar("_ANSWER")


class Rows:
    """An index, open; many threads may read it at once.

    The file stays open, so another one may be put in its place meanwhile.

    Args:
        source: its path, or its bytes.
        name: what it is called in errors, and how it is made again.

    Attributes:
        count, row_groups: how many there are.
        columns: those of `INDEX_SCHEMA` that it has; the others read as null.
        metadata: what its footer says besides.

    Raises:
        LSDError: it cannot be read, or is of a format that this version does not know.
    """

    def __init__(self, source: Path | bytes, name: str = "The index", again: str = "make it again."):
        self._name, self._again = name, again
        try:
            self._source = pa.OSFile(str(source)) if isinstance(source, Path) else pa.BufferReader(source)
            self._footer = pq.read_metadata(self._source)
            found = self._footer.schema.to_arrow_schema()
        except (pa.ArrowException, OSError) as error:
            raise self.unreadable() from error
        if reason := why_not(found, INDEX_SCHEMA, INDEX_REQUIRED):
            raise LSDError(f"{name} is an index of another version: it {reason}, or {again}")
        self.columns = tuple(column for column in INDEX_SCHEMA.names if column in found.names)
        self._repeating = [column for column in (*REPEATING, "shard") if column in self.columns]
        sizes = [self._footer.row_group(group).num_rows for group in range(self._footer.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
        self.count, self.row_groups = int(self._starts[-1]), len(sizes)
        self.metadata = found.metadata or {}
        self._types = {field.name: field.type for field in found if found.names.count(field.name) == 1}
        leaves = [self._footer.schema.column(place).path.partition(".")[0] for place in range(self._footer.num_columns)]
        self._leaves = {name: place for place, name in enumerate(leaves)}
        self._bounds = [self._bound(group) for group in range(len(sizes))]
        self._known_same: dict[int, dict[str, object]] = {}
        self._kept: Recent[pa.Table] = Recent(_KEPT, lambda table: 1000 + table.nbytes)

    def type_of(self, column: str) -> pa.DataType | None:
        """A column's type in the file, None where it has no such column, or several."""
        return self._types.get(column)

    def at(self, numbers: Sequence[int]) -> list[tuple]:
        """The rows of these numbers, in this order: values by `INDEX_SCHEMA`.

        Numbers that were not measured are None, texts "", lists ().
        """
        wanted = np.asarray(numbers, dtype=np.int64)
        rows: list[tuple] = [()] * len(wanted)
        for group, places in self._by_group(wanted):
            same = self._same(group)
            table = self._group(group, [name for name in INDEX_SCHEMA.names if name not in same])
            of_group = wanted[places] - self._starts[group]
            columns = [
                [same[name]] * len(places) if name in same else list(map(clean, _picked(table[name], of_group)))
                for name, clean in _CLEAN.items()
            ]
            for place, row in zip(places.tolist(), zip(*columns, strict=True), strict=True):
                rows[place] = row
        return rows

    def having(self, column: str, values: Sequence[str], numbers: np.ndarray) -> np.ndarray:
        """Those of some numbers, ascending, whose rows have one of these values in a column of texts."""
        wanted = pa.array(values, pa.string())
        found = [numbers[:0]]
        for group, places in self._by_group(numbers):
            fits = np.asarray(pc.is_in(self._texts(group, column), value_set=wanted))
            of_group = numbers[places]
            found.append(of_group[fits[of_group - self._starts[group]]])
        return np.concatenate(found)

    def find(self, unit_id: str) -> int | None:
        """The first row with that id, None without one.

        Only row groups are looked into whose least and greatest id let it be there.
        """
        for group, (least, greatest) in enumerate(self._bounds):
            if least is None or least <= unit_id <= greatest:
                place = pc.index(self._texts(group, "unit_id"), unit_id).as_py()
                if place >= 0:
                    return int(self._starts[group]) + place
        return None

    def texts(self, column: str, numbers: np.ndarray) -> pa.ChunkedArray:
        """The values in a column of texts of the rows of some numbers, ascending; "" for null."""
        found = [
            self._texts(group, column).take(pa.array(numbers[places] - self._starts[group]))
            for group, places in self._by_group(numbers)
        ]
        return pa.chunked_array(found, pa.string())

    def numbers(self, column: str, places: np.ndarray) -> np.ndarray:
        """The values at some places, ascending, of a column of numbers; nan for null, where there is one."""
        found = [
            self._group(group, [column])[column].to_numpy()[places[of_group] - self._starts[group]]
            for group, of_group in self._by_group(places)
        ]
        return (
            np.concatenate(found) if found else np.empty(0, self._schema_of([column]).field(0).type.to_pandas_dtype())
        )

    def groups(self, numbers: np.ndarray) -> int:
        """In how many row groups some rows lie, whose numbers are ascending."""
        return int(np.count_nonzero(np.diff(np.searchsorted(numbers, self._starts))))

    def blocks(self, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        """All rows, some `BLOCK` at a time, each with the number of its first row; texts that repeat as dictionaries."""
        groups: list[int] = []
        for group in range(len(self._starts) - 1):
            groups.append(group)
            after = int(self._starts[group + 1])
            if after - self._starts[groups[0]] >= BLOCK or after == self.count:
                yield int(self._starts[groups[0]]), self._read(groups, columns)
                groups = []

    def encoded(self, columns: Sequence[str], text: Callable[[pa.Table], pa.Array]) -> tuple[np.ndarray, pa.Array]:
        """Numbers for texts that are worked out from all rows: (that of each row, the texts), in no order, each text once.

        Args:
            text: from a table of `columns`, as `blocks` gives it, the text of each row, none of them null.
        """
        parts = [text(table).dictionary_encode() for _, table in self.blocks(columns)]
        if not parts:
            return np.empty(0, np.uint8), pa.array([], pa.string())
        whole = pa.chunked_array(parts).unify_dictionaries()
        texts = whole.chunk(0).dictionary
        return np.concatenate([compact(part.indices.to_numpy(), len(texts)) for part in whole.chunks]), texts

    def _by_group(self, numbers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """The row groups that numbers lie in, each with the places of its own among them."""
        if not len(numbers):
            return
        groups = np.searchsorted(self._starts, numbers, side="right") - 1
        order = np.argsort(groups, kind="stable")  # which costs nothing where they are ascending
        found, begins = np.unique(groups[order], return_index=True)
        yield from zip(found.tolist(), np.split(order, begins[1:]), strict=True)

    def _bound(self, group: int) -> tuple[str | None, str | None]:
        """The least and the greatest id in a row group; None for both where the file does not say, or some are null."""
        stated = self._footer.row_group(group).column(self._leaves["unit_id"]).statistics
        sure = stated is not None and stated.has_min_max and stated.null_count == 0
        return (stated.min, stated.max) if sure else (None, None)

    def _same(self, group: int) -> dict[str, object]:
        """The columns that are known to have one value in a whole row group, and it, as `Rows.at` promises it.

        Half of them are, and each would take as long to read as one that is not.
        """
        if group in self._known_same:
            return self._known_same[group]
        footer, same = self._footer.row_group(group), {}
        for name in INDEX_SCHEMA.names:
            stated = footer.column(self._leaves[name]).statistics if name in self._leaves else None
            if name not in self._leaves or (stated is not None and stated.null_count == footer.num_rows):
                same[name] = _CLEAN[name](None)
            elif (
                stated is not None
                and stated.has_min_max
                and stated.null_count == 0
                and stated.min == stated.max
                and not isinstance(stated.min, float)  # the least and the greatest leave out what is no number
            ):
                same[name] = _CLEAN[name](stated.min)
        self._known_same[group] = same
        return same

    def _texts(self, group: int, column: str) -> pa.Array:
        values = self._group(group, [column])[column]
        return pc.fill_null(values.cast(pa.string()), "").combine_chunks()

    def _group(self, group: int, columns: Sequence[str]) -> pa.Table:
        return self._kept.get((group, tuple(columns)), lambda: self._read([group], columns))

    def _read(self, groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Columns of row groups, one chunk each, with nulls for those that the file lacks."""
        try:
            with pq.ParquetFile(
                self._source, metadata=self._footer, pre_buffer=False, read_dictionary=self._repeating
            ) as file:
                table = file.read_row_groups(groups, [c for c in columns if c in self._types], use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise self.unreadable() from error
        return with_nulls(table, self._schema_of(columns)).combine_chunks()

    def _schema_of(self, columns: Sequence[str]) -> pa.Schema:
        return pa.schema([(c, self._types[c]) if c in self._types else INDEX_SCHEMA.field(c) for c in columns])

    def unreadable(self) -> LSDError:
        """What is raised where something of it is damaged."""
        return LSDError(f"{self._name} cannot be read; {self._again}")


def compact(numbers: np.ndarray, count: int) -> np.ndarray:
    """Numbers below `count`, none of them negative, in as few bytes as hold them."""
    return numbers.astype(np.min_scalar_type(max(0, count - 1)))


def _picked(column: pa.ChunkedArray, places: np.ndarray) -> list:
    """The values at some places."""
    if len(places) <= _FEW:
        return [column[place].as_py() for place in places.tolist()]
    taken = column.take(pa.array(places))
    if pa.types.is_dictionary(taken.type):
        taken = taken.cast(taken.type.value_type)  # which is slow to read value by value
    return taken.to_pylist()


def _cleaner(field: pa.Field) -> Callable[[object], object]:
    """What makes of a value of a column what `Rows.at` promises."""
    if pa.types.is_string(field.type):
        return lambda value: value or ""
    if pa.types.is_list(field.type):
        return lambda value: tuple(value or ())
    if pa.types.is_floating(field.type):
        return lambda value: value if value is not None and math.isfinite(value) else None
    if field.name in ("depth", "index", "seed"):
        return lambda value: -1 if value is None else value
    return lambda value: value


_CLEAN = {field.name: _cleaner(field) for field in INDEX_SCHEMA}
