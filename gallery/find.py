"""Which rows are meant by a search, and which of them are on a page: passes over the numbers of `tables`, and parts of `orders`."""

import contextlib
import threading

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gallery.orders import PATH, WHOLE, Orders
from gallery.rows import BLOCK, Rows
from gallery.search import Meaning, Vocabulary
from gallery.tables import Tables, numbered
from lsd.recent import Recent

SCANS = 2  # passes over all rows at a time: each takes some ten bytes a row meanwhile
SPARSE = 64  # where fewer rows than one in so many fit, no pass over all is made
STEP = 2**14  # places of an order that are looked through at a time

_SPELLED_OUT = ("contrast", "expression")  # kinds whose units name several things


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
        self._orders = Orders(rows)
        self._texts: Recent[tuple[np.ndarray, pa.ChunkedArray]] = Recent(1)

    def search(self, search: str) -> np.ndarray:
        """The numbers of the rows that fit a search, ascending."""
        meanings = self.vocabulary.meanings(search)
        if any(meaning.path for meaning in meanings):
            self._orders.paths()  # if they have to be worked out, others may search meanwhile
        named = [self._named(meaning) for meaning in meanings]
        if len(meanings) == 1 and meanings[0].index is None:
            (cells, rows), *_ = named
            if not cells.any() and sum(map(len, rows)) * SPARSE <= self._rows.count:
                return np.unique(np.concatenate([np.empty(0, np.int32), *rows]))
        with self._scans:
            fits = np.ones(self._rows.count, bool)
            for meaning, (cells, rows) in zip(meanings, named, strict=True):
                of_meaning = self._in(cells)
                if meaning.index is not None:
                    of_meaning |= self._tables.index == meaning.index
                for found in rows:
                    of_meaning[found] = True
                fits &= of_meaning
            return numbered(fits)

    def page(self, sort: str, numbers: np.ndarray | None, start: int, size: int) -> np.ndarray:
        """Those from `start` on of the rows of these numbers, ascending (None: of all), sorted by one of `filters.SORTS`."""
        if sort == "order":
            if numbers is None:
                return np.arange(start, min(start + size, self._rows.count))
            return numbers[start : start + size]
        if numbers is None:
            return self._orders.at(sort, np.arange(start, min(start + size, self._rows.count)))
        end = min(start + size, len(numbers))
        with self._scans if len(numbers) > BLOCK else contextlib.nullcontext():
            # Either way takes a read for each row group: those of the rows, or those of the order up to the last one wanted.
            if self._rows.groups(numbers) * len(numbers) <= self._rows.row_groups * end:
                return self._orders.sort(sort, numbers)[start:end]
            return self._pick(sort, numbers, end)[start:]

    def _pick(self, sort: str, numbers: np.ndarray, count: int) -> np.ndarray:
        """The first `count` of the rows of these numbers in an order, which is looked through until they are found."""
        wanted = np.zeros(self._rows.count, bool)
        wanted[numbers] = True
        found, left = [], count
        for begin in range(0, self._rows.count, STEP):
            part = self._orders.at(sort, np.arange(begin, min(begin + STEP, self._rows.count)))
            found.append(part[wanted[part]][:left])
            left -= len(found[-1])
            if not left:
                break
        return np.concatenate(found)

    def _named(self, meaning: Meaning) -> tuple[np.ndarray, list[np.ndarray]]:
        """What a word can stand for, but for its number: cells, as a truth value for each, and numbers of rows."""
        tables = self._tables
        named = (
            ("model", meaning.models),
            ("layer", meaning.layers),
            ("kind", meaning.kinds),
            ("recipe", meaning.recipes),
        )
        cells = np.logical_or.reduce([tables.having(name, wanted) for name, wanted in named])
        rows = [tables.of_class(number) for number in meaning.classes]
        if meaning.path:
            # channel/12 is not channel/120
            rows += self._with_path(meaning.path + ("/" if meaning.path[-1].isdecimal() else ""))
        if meaning.text and self._spelled_out.any():
            numbers, texts = self._texts.get("spelled out", self._spell_out)
            rows.append(numbers[np.asarray(pc.match_substring(texts, meaning.text))])
        return cells, rows

    def _in(self, cells: np.ndarray) -> np.ndarray:
        """For each row, whether its cell is one of these, given as a truth value for each."""
        return cells[self._tables.cell] if cells.any() else np.zeros(self._rows.count, bool)

    def _with_path(self, part: str) -> list[np.ndarray]:
        """The rows whose ids, in lower case and with a slash after them, have this part."""
        texts = self._orders.paths().texts
        found = [self._of_paths(np.asarray(pc.match_substring(texts, part)))]
        whole = np.asarray(pc.starts_with(texts, WHOLE))
        # Or the part begins in the model: it lies in it, or goes on after one of its slashes.
        cuts = [place + 1 for place, character in enumerate(part[:-1]) if character == "/"]
        for begin, end in [(part, ""), *((part[:cut], part[cut:]) for cut in cuts)]:
            fitting = str.endswith if end else str.__contains__
            models = frozenset(model for model, lower in self._models.items() if fitting(f"{lower}/", begin))
            if not models:
                continue
            of_models = self._tables.having("model", models)
            if end:
                rows = self._of_paths(np.asarray(pc.starts_with(texts, end)) & ~whole)
                found.append(rows[of_models[self._tables.cell[rows]]])
            else:
                found.append(np.setdiff1d(self._tables.of_cells(of_models), self._of_paths(whole), assume_unique=True))
        return found

    def _of_paths(self, wanted: np.ndarray) -> np.ndarray:
        """The rows of some paths, given as a truth value for each."""
        begins = self._orders.paths().begins
        first, counts = begins[:-1][wanted], np.diff(begins)[wanted]
        before = np.cumsum(counts) - counts
        return self._orders.at(PATH, np.arange(counts.sum()) + np.repeat(first - before, counts))

    def _spell_out(self) -> tuple[np.ndarray, pa.ChunkedArray]:
        """The rows whose units name several things, and how they are written and called."""
        numbers = self._tables.of_cells(self._spelled_out)
        written, called = (pc.utf8_lower(self._rows.texts(name, numbers)) for name in ("unit", "title"))
        return numbers, pc.binary_join_element_wise(written, called, " ")
