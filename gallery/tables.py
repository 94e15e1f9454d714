"""What is kept in memory of an index: numbers for whatever rows are found by, some ten bytes a row.

Models, layers, kinds, recipes and classes are few however many rows there are, so each combination of them has a number.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gallery.rows import BLOCK, Rows, compact

CELL = ("model", "family", "layer", "depth", "kind", "recipe", "status")

_CLASS = ("class_name", "synset")


@dataclass(frozen=True)
class Tables:
    """Numbers of rows are int32, in the index's order.

    Attributes:
        cells: the combinations of `CELL` that occur, sorted; texts that are missing are "", a depth is -1.
        values: for each of `CELL` the values that occur, sorted.
        codes: for each of `CELL` the places of the cells' values among them.
        sizes: the cells' numbers of rows.
        first, last: the first and the last row of each.
        cell: for each row, the place of its cell.
        classes: (all synonyms, WordNet id or "") of the classes that occur, sorted.
        pictures: the rows that are of a class, class by class, those of one in the index's order.
        begins: where those of each class begin among them, and where the last one's end.
        index, seed: for each row, -1 if it has none.
        names_assumed: the models whose class names only their number speaks for, by name.
    """

    cells: list[tuple]
    values: dict[str, list]
    codes: dict[str, np.ndarray]
    sizes: np.ndarray
    first: np.ndarray
    last: np.ndarray
    cell: np.ndarray
    classes: list[tuple[str, str]]
    pictures: np.ndarray
    begins: np.ndarray
    index: np.ndarray
    seed: np.ndarray
    names_assumed: tuple[str, ...]

    def having(self, name: str, wanted: Collection) -> np.ndarray:
        """For each cell, whether it has one of these values in a column of `CELL`."""
        return np.array([value in wanted for value in self.values[name]], bool)[self.codes[name]]

    def of_class(self, number: int) -> np.ndarray:
        """The rows of a class, given by its place."""
        return self.pictures[self.begins[number] : self.begins[number + 1]]

    def of_cells(self, wanted: np.ndarray) -> np.ndarray:
        """The rows of some cells, given as a truth value for each."""
        places = np.flatnonzero(wanted)
        if not len(places):
            return np.empty(0, np.int32)
        begin, end = int(self.first[places].min()), int(self.last[places].max()) + 1
        return np.concatenate(
            [numbered(wanted[self.cell[i : min(i + BLOCK, end)]], i) for i in range(begin, end, BLOCK)]
        )


def numbered(fits: np.ndarray, first: int = 0) -> np.ndarray:
    """The numbers of the rows for which this holds; `first` is that of the first row."""
    return (np.flatnonzero(fits) + first).astype(np.int32)


def read(rows: Rows) -> Tables:
    """The tables of an index, read a block at a time.

    Raises:
        LSDError: it cannot be read.
    """
    cells, classes = _Numbers(), _Numbers()
    cell, class_, index, seed = ([np.empty(0, np.int32)] for _ in range(4))
    assumed: set[str] = set()
    for _, table in rows.blocks([*CELL, *_CLASS, "index", "seed", "names_assumed"]):
        cell.append(cells.of(table, CELL))
        class_.append(classes.of(table, _CLASS))
        for name, numbers in (("index", index), ("seed", seed)):
            numbers.append(_small(pc.fill_null(table[name], -1).to_numpy()))
        assumed.update(_assumed(table))
    cell_of, of_cells = cells.sorted(cell)
    class_of, of_classes = classes.sorted(class_)
    values = {name: sorted({cell[place] for cell in of_cells}) for place, name in enumerate(CELL)}
    places = {name: {value: place for place, value in enumerate(of_name)} for name, of_name in values.items()}
    codes = {
        name: np.array([places[name][cell[place]] for cell in of_cells], np.int64) for place, name in enumerate(CELL)
    }
    first, last = _ends(cell_of, len(of_cells))
    unnamed = sum(not name for name, _ in of_classes)  # no class; they come first
    pictures, begins = _by_class(class_of, len(of_classes))
    return Tables(
        cells=of_cells,
        values=values,
        codes=codes,
        sizes=np.bincount(cell_of, minlength=len(of_cells)),
        first=first,
        last=last,
        cell=cell_of,
        classes=of_classes[unnamed:],
        pictures=pictures[begins[unnamed] :].copy(),
        begins=begins[unnamed:] - begins[unnamed],
        index=_small(np.concatenate(index)),
        seed=_small(np.concatenate(seed)),
        names_assumed=tuple(sorted(assumed)),
    )


class _Numbers:
    """Numbers for combinations of values, in the order in which they come."""

    def __init__(self):
        self._known: dict[tuple, int] = {}

    def of(self, table: pa.Table, names: Sequence[str]) -> np.ndarray:
        """The number of each row's combination."""
        combined, found = np.zeros(len(table), np.int64), [()]
        for name in names:
            codes, values = _codes(table[name], -1 if name == "depth" else "")
            pairs = pa.array(combined * len(values) + codes).dictionary_encode()
            split = (divmod(pair, len(values)) for pair in pairs.dictionary.to_pylist())
            found = [(*found[before], values[code]) for before, code in split]
            combined = pairs.indices.to_numpy()
        numbers = [self._known.setdefault(combination, len(self._known)) for combination in found]
        return np.array(numbers, np.int32)[combined]

    def sorted(self, parts: list[np.ndarray]) -> tuple[np.ndarray, list[tuple]]:
        """All numbers that were given, as places among the sorted combinations, and these. `parts` is used up."""
        combinations = sorted(self._known)
        places = np.empty(len(combinations), np.int32)
        places[[self._known[combination] for combination in combinations]] = np.arange(len(combinations))
        places = compact(places, len(combinations))
        for i, part in enumerate(parts):
            parts[i] = places[part]
        return np.concatenate(parts), combinations


def _codes(column: pa.ChunkedArray, missing: object) -> tuple[np.ndarray, list]:
    """A column in numbers, and the value of each number."""
    array = column.combine_chunks()
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    values = array.dictionary.to_pylist()
    return array.indices.fill_null(len(values)).to_numpy(), [*values, missing]


def _small(numbers: np.ndarray) -> np.ndarray:
    """In as few bytes as hold them."""
    if not len(numbers):
        return numbers.astype(np.int8)
    return numbers.astype(np.result_type(np.min_scalar_type(numbers.min()), np.min_scalar_type(numbers.max())))


def _ends(numbers: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The places at which each number below `count` is first and last."""
    first, last = np.zeros(count, np.int32), np.zeros(count, np.int32)
    starts = range(0, len(numbers), BLOCK)
    for ends, step in ((last, 1), (first, -1)):
        for start in starts[::step]:  # of several assignments to one place the last one stays
            part = numbers[start : start + BLOCK][::step]
            places = np.arange(start, start + len(part), dtype=np.int32)[::step]
            ends[part] = places
    return first, last


def _by_class(numbers: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """All places, by the number there, and where those of each number begin, and the last ones end."""
    begins = np.concatenate([[0], np.cumsum(np.bincount(numbers, minlength=count))])
    return np.argsort(numbers, kind="stable").astype(np.int32), begins


def _assumed(table: pa.Table) -> list[str]:
    """The models that are among the `names_assumed` of a row of theirs."""
    lists = table["names_assumed"].combine_chunks()
    models = table["model"].combine_chunks().take(pc.list_parent_indices(lists)).cast(pa.string())
    return models.filter(pc.equal(models, pc.list_flatten(lists))).unique().to_pylist()
