"""Which rows are meant by a search, and the orders that they can be in: whole passes over the numbers of `tables`.

What takes all rows' texts is worked out when it is first asked for: an order, or the texts of which a path is a part.
"""

import contextlib
import threading
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gallery.rows import BLOCK, Rows, compact
from gallery.search import Meaning, Vocabulary
from gallery.tables import Tables, numbered
from lsd.recent import Recent

SCANS = 2  # passes over all rows at a time: each takes some ten bytes a row meanwhile

_MEASURES = {  # sort → its column, and whether the largest come first
    "own": ("own_probability", True),
    "agreement": ("agreement", True),
    "score": ("score", True),
    "fine": ("fine_energy", False),
}
_SPELLED_OUT = ("contrast", "expression")  # kinds whose units name several things
_WHOLE = "\0"  # begins the end of an id that does not begin with its model; no search has it


@dataclass(frozen=True)
class _Ends:
    """The ids in two parts, in lower case: the model with a slash, and all after it, here as distinct texts.

    Attributes:
        of_row: for each row, the place of its text.
        texts: each ends with a slash; those that begin with `_WHOLE` are the whole id.
    """

    of_row: np.ndarray
    texts: pa.Array


class Finder:
    """Finds rows; many threads may use it at once.

    Args:
        rows, tables: of one index.
    """

    def __init__(self, rows: Rows, tables: Tables):
        self._rows, self._tables = rows, tables
        self.vocabulary = Vocabulary(
            tables.classes, *(tables.values[name] for name in ("model", "layer", "kind", "recipe"))
        )
        models = pa.array(tables.values["model"], pa.string())
        self._models = dict(zip(models.to_pylist(), pc.utf8_lower(models).to_pylist(), strict=True))
        self._spelled_out = tables.having("kind", frozenset(_SPELLED_OUT))
        self._scans = threading.BoundedSemaphore(SCANS)
        self._making = threading.Lock()  # what takes all rows' texts or measures
        self._orders: Recent[np.ndarray] = Recent(len(_MEASURES) + 1)
        self._texts: Recent[_Ends | tuple[np.ndarray, pa.ChunkedArray]] = Recent(2)

    def search(self, search: str) -> np.ndarray:
        """The numbers of the rows that fit a search, ascending."""
        meanings = self.vocabulary.meanings(search)
        if any(meaning.path for meaning in meanings):
            self._ends()  # while it is made others may search
        with self._scans:
            fits = np.ones(self._rows.count, bool)
            for meaning in meanings:
                fits &= self._fits(meaning)
            return numbered(fits)

    def page(self, sort: str, numbers: np.ndarray | None, start: int, size: int) -> np.ndarray:
        """Those from `start` on of the rows of these numbers, ascending (None: of all), sorted by one of `filters.SORTS`."""
        if sort == "order":
            if numbers is None:
                return np.arange(start, min(start + size, self._rows.count))
            return numbers[start : start + size]
        places = self._orders.get(sort, lambda: self._places(sort))
        if numbers is None:
            found = np.flatnonzero((places >= start) & (places < start + size))
        else:
            with self._scans if len(numbers) > BLOCK else contextlib.nullcontext():
                of_these = places[numbers]
                ends = [start, min(start + size, len(numbers)) - 1]
                least, greatest = np.partition(of_these, ends)[ends]
                found = numbers[(of_these >= least) & (of_these <= greatest)]
        return found[np.argsort(places[found])]

    def _fits(self, meaning: Meaning) -> np.ndarray:
        """For each row, whether it fits what a word can stand for."""
        tables = self._tables
        named = (
            ("model", meaning.models),
            ("layer", meaning.layers),
            ("kind", meaning.kinds),
            ("recipe", meaning.recipes),
        )
        fits = self._in(np.logical_or.reduce([tables.having(name, wanted) for name, wanted in named]))
        for number in meaning.classes:
            fits[tables.of_class(number)] = True
        if meaning.index is not None:
            fits |= tables.index == meaning.index
        if meaning.path:
            # channel/12 is not channel/120
            fits |= self._with_path(meaning.path + ("/" if meaning.path[-1].isdecimal() else ""))
        if meaning.text and self._spelled_out.any():
            numbers, texts = self._texts.get("spelled out", self._spell_out)
            fits[numbers[np.asarray(pc.match_substring(texts, meaning.text))]] = True
        return fits

    def _in(self, cells: np.ndarray) -> np.ndarray:
        """For each row, whether its cell is one of these, given as a truth value for each."""
        return cells[self._tables.cell] if cells.any() else np.zeros(self._rows.count, bool)

    def _with_path(self, part: str) -> np.ndarray:
        """For each row, whether its id, in lower case and with a slash after it, has this part."""
        ends = self._ends()
        fits = np.asarray(pc.match_substring(ends.texts, part))[ends.of_row]
        apart = ~np.asarray(pc.starts_with(ends.texts, _WHOLE))
        # Or the part begins in the model: it lies in it, or goes on after one of its slashes.
        cuts = [place + 1 for place, character in enumerate(part[:-1]) if character == "/"]
        for begin, end in [(part, ""), *((part[:cut], part[cut:]) for cut in cuts)]:
            fitting = str.endswith if end else str.__contains__
            models = frozenset(model for model, lower in self._models.items() if fitting(f"{lower}/", begin))
            if models:
                goes_on = apart & np.asarray(pc.starts_with(ends.texts, end))
                fits |= self._in(self._tables.having("model", models)) & goes_on[ends.of_row]
        return fits

    def _ends(self) -> _Ends:
        return self._texts.get("ends", self._read_ends)

    def _read_ends(self) -> _Ends:
        with self._making:
            return _Ends(*self._rows.encoded(("unit_id", "model"), _ends_of_ids))

    def _spell_out(self) -> tuple[np.ndarray, pa.ChunkedArray]:
        """The rows whose units name several things, and how they are written and called."""
        numbers = self._tables.of_cells(self._spelled_out)
        written, called = (pc.utf8_lower(self._rows.texts(name, numbers)) for name in ("unit", "title"))
        return numbers, pc.binary_join_element_wise(written, called, " ")

    def _places(self, sort: str) -> np.ndarray:
        """For each row its place among all, sorted, equal ones by number, int32."""
        with self._making:
            rows = np.argsort(self._keys(sort), kind="stable")
            places = np.empty(len(rows), np.int32)
            places[rows] = np.arange(len(rows), dtype=np.int32)
            return places

    def _keys(self, sort: str) -> np.ndarray:
        """A number for each row: the smaller, the earlier; those without one are nan."""
        if sort == "name":
            of_row, titles = self._rows.encoded(("title",), lambda table: pc.utf8_lower(_texts(table["title"])))
            places = np.empty(len(titles), np.int64)
            places[pc.sort_indices(titles).to_numpy()] = np.arange(len(titles))
            return compact(places, len(titles))[of_row]
        name, largest_first = _MEASURES[sort]
        blocks = [table[name].to_numpy() for _, table in self._rows.blocks((name,))]
        values = np.concatenate([np.empty(0, np.float32), *blocks])
        values[~np.isfinite(values)] = np.nan
        return -values if largest_first else values


def _ends_of_ids(table: pa.Table) -> pa.Array:
    """For each row what comes after the model in its id, in lower case, as `_Ends` has it."""
    ids, models = _texts(table["unit_id"]), table["model"].combine_chunks()
    codes = models.indices.fill_null(len(models.dictionary)).to_numpy()
    names = [*models.dictionary.to_pylist(), ""]
    order = np.argsort(codes, kind="stable")  # model by model, as they mostly are
    found, begins = np.unique(codes[order], return_index=True)
    ends = []
    for code, places in zip(found.tolist(), np.split(order, begins[1:]), strict=True):
        of_model, before = ids.take(pa.array(places)), f"{names[code]}/"
        after = pc.utf8_slice_codeunits(of_model, len(before))
        whole = pc.binary_join_element_wise(_WHOLE, of_model, "")
        ends.append(pc.if_else(pc.starts_with(of_model, before), after, whole))
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return pc.utf8_lower(pc.binary_join_element_wise(pa.concat_arrays(ends).take(pa.array(back)), "", "/"))


def _texts(column: pa.ChunkedArray) -> pa.Array:
    return pc.fill_null(column.cast(pa.string()), "").combine_chunks()
