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
            self._add_with_path(fits, meaning.path + ("/" if meaning.path[-1].isdecimal() else ""))
        if meaning.text and self._spelled_out.any():
            numbers, texts = self._texts.get("spelled out", self._spell_out)
            fits[numbers[np.asarray(pc.match_substring(texts, meaning.text))]] = True
        return fits

    def _in(self, cells: np.ndarray) -> np.ndarray:
        """For each row, whether its cell is one of these, given as a truth value for each."""
        return cells[self._tables.cell] if cells.any() else np.zeros(self._rows.count, bool)

    def _add_with_path(self, fits: np.ndarray, part: str) -> None:
        """Let those rows fit whose id, in lower case and with a slash after it, has this part."""
        texts = self._orders.paths().texts
        fits[self._of_paths(np.asarray(pc.match_substring(texts, part)))] = True
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
                fits[rows[of_models[self._tables.cell[rows]]]] = True
            else:
                in_models = self._in(of_models)
                in_models[self._of_paths(whole)] = False
                fits |= in_models

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
