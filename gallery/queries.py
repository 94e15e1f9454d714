"""Questions to a gallery: what there is, what fits a filter, what belongs to a row, and its pictures.

The index lies in memory, as `tables` lays it out: filters and facets are worked out on its cells, of which there are
some thousands, so they cost the same for a hundred thousand rows as for a million.
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gallery import index, tables
from gallery.filters import FACETS, SORTS, Filters
from gallery.reader import Reader
from gallery.search import Meaning, Vocabulary, split
from gallery.tables import CELL
from lsd.errors import LSDError
from lsd.features.recipes import DEFAULT
from lsd.recent import Recent

_SORTS = {
    "order": "n",
    "own": "own_probability DESC NULLS LAST, n",
    "agreement": "agreement DESC NULLS LAST, n",
    "score": "score DESC NULLS LAST, n",
    "fine": "fine_energy NULLS LAST, n",
    "name": "name, n",
}
_SEARCHES = 256  # that are remembered
_PICTURES = 100_000  # of classes that are remembered, by place, not by pixels
_SPELLED_OUT = ("contrast", "expression")  # kinds whose units name several things


@dataclass(frozen=True)
class Entry:
    """One row of the index: the columns of `schema.FEATURES` but for the heavy ones, and where the rest of it lies.

    Numbers that were not measured are None, texts "", lists ().
    """

    unit_id: str
    model: str
    architecture: str
    family: str
    layer: str
    depth: int
    kind: str
    index: int
    unit: str
    title: str
    class_name: str
    synset: str
    recipe: str
    recipe_hash: str
    seed: int
    width: int | None
    height: int | None
    status: str
    error: str
    score: float | None
    own_probability: float | None
    agreement: float | None
    spread: float | None
    fine_energy: float | None
    contrast: float | None
    clipped: float | None
    flat: str
    restarts: int | None
    weights_source: str
    weights_repo: str
    weights_revision: str
    weights_sha256: str
    weights_digest: str
    steps: int | None
    batch: int | None
    batch_size: int | None
    batch_place: int | None
    pixels_sha256: str
    seconds: float | None
    created: str
    task: str
    names_assumed: tuple[str, ...]
    shard: str
    row_group: int
    row: int


@dataclass(frozen=True)
class Page:
    """Some of the rows that were found.

    Attributes:
        entries: of this page.
        total: rows found.
        number, pages: which page this is, from 1, of how many (one, if nothing was found).
    """

    entries: list[Entry]
    total: int
    number: int
    pages: int


@dataclass(frozen=True)
class ClassHit:
    """A class: all its synonyms, its WordNet id or "", and the number of models with pictures of it."""

    class_name: str
    synset: str
    models: int


class Gallery:
    """A gallery that can be asked; many threads may do so at once.

    Args:
        folder: with `index.parquet`, which is made if it is missing, and the shards.
        locate: the file of a shard, given its path below the folder; by default it lies there.
        origin: where the gallery is from, for people.

    Attributes:
        rows: how many.
        origin: see above.
        names_assumed: the models whose class names only their number speaks for, by name.
        is_local: whether the shards lie in the folder, so that looking into one is no download.

    Raises:
        LSDError: there is no index and none can be made, or it is damaged or of another format.
    """

    def __init__(self, folder: str | Path, locate: Callable[[str], Path] | None = None, origin: str = ""):
        folder = Path(folder)
        self.origin = origin or f"The folder {folder}."
        self.is_local = locate is None
        self._reader = Reader(locate or folder.joinpath)
        self._load(tables.read(_find_index(folder)))
        if self.is_local and (shards := index.behind(folder)):
            many = f"{shards:,} of its files have" if shards > 1 else "One of its files has"
            self.origin += f" {many} changed since its index was made: python -m gallery index {folder} makes it again."

    @classmethod
    def empty(cls, origin: str) -> "Gallery":
        """A gallery without rows; `origin` says why there are none."""
        gallery = cls.__new__(cls)
        gallery.origin = origin
        gallery.is_local = True
        gallery._reader = Reader(Path)
        gallery._load(tables.empty())
        return gallery

    def _load(self, loaded: tables.Tables) -> None:
        self._connection, self._table = loaded.connection, loaded.rows
        self._lock = threading.Lock()
        self._found: Recent[np.ndarray] = Recent(_SEARCHES)
        self._conditions: Recent[tuple[str, list]] = Recent(_SEARCHES)
        self._classes: Recent[list[_Picture]] = Recent(_PICTURES, lambda pictures: 1 + len(pictures))
        cells = self._rows(f"SELECT {', '.join(CELL)}, rows FROM cells ORDER BY cell")
        self._cells = {name: np.array([cell[i] for cell in cells], dtype=object) for i, name in enumerate(CELL)}
        self._sizes = np.array([cell[-1] for cell in cells], dtype=np.int64)
        self.rows = int(self._sizes.sum())
        doubtful = loaded.rows.filter(pc.greater(pc.list_value_length(loaded.rows["names_assumed"]), 0))
        pairs = zip(doubtful["model"].to_pylist(), doubtful["names_assumed"].to_pylist(), strict=True)
        self.names_assumed = tuple(sorted({model for model, assumed in pairs if model in assumed}))
        self._class_models = self._rows("SELECT class_name, synset, models FROM classes ORDER BY class")
        self._vocabulary = Vocabulary(
            [(name, synset) for name, synset, _ in self._class_models],
            *(self._cells[name] for name in ("model", "layer", "kind", "recipe")),
        )
        self._spelled_out = np.flatnonzero([kind in _SPELLED_OUT for kind in self._cells["kind"]]).tolist()
        # Values of each facet as numbers, so that counting is one pass over the cells.
        self._values = {name: np.unique(self._cells[name].astype(str), return_inverse=True) for name in FACETS}

    def _rows(self, sql: str, values: Sequence = ()) -> list[tuple]:
        with self._lock:
            cursor = self._connection.cursor()
        with cursor:
            return cursor.execute(sql, list(values)).fetchall()

    def _entries(self, sql: str, values: Sequence = ()) -> list[Entry]:
        """The rows whose numbers `sql` selects, in its order."""
        return self._by_number([n for (n,) in self._rows(sql, values)])

    def _by_number(self, numbers: list[int]) -> list[Entry]:
        """The rows of these numbers, in this order."""
        if not numbers:
            return []
        found = self._table.take(numbers)
        columns = [_cleaned(field, found[field.name]) for field in index.INDEX_SCHEMA]
        return [Entry(*values) for values in zip(*columns, strict=True)]

    # What there is

    def models(self) -> list[tuple[str, int]]:
        """The models and their numbers of rows, by name."""
        return self.facets(Filters())["model"]

    def layers(self, model: str) -> list[tuple[str, int]]:
        """A model's layers and their numbers of rows, in the order of the network; "", the classes, last."""
        return self.facets(Filters(model=model))["layer"]

    def facets(self, filters: Filters) -> dict[str, list[tuple[str, int]]]:
        """For model, family, layer, kind, recipe and status: the values there are, with their numbers of rows.

        The rows counted are those that fit all of `filters` but the one of the same name, so that another value can be
        chosen. Models and families come by name, layers from the input to the output and "" (classes) last, the rest
        by number of rows.
        """
        sizes = self._matching(filters.search)
        fits = {name: self._fits(filters, name) for name in FACETS}
        facets = {}
        for name in FACETS:
            others = np.logical_and.reduce([fits[other] for other in FACETS if other != name])
            values, places = self._values[name]
            counts = np.bincount(places, weights=np.where(others, sizes, 0), minlength=len(values)).astype(int)
            found = [(str(value), int(count)) for value, count in zip(values, counts, strict=True) if count]
            if name == "layer":
                found.sort(key=self._layer_order(others))
            elif name not in ("model", "family"):
                found.sort(key=lambda pair: -pair[1])
            facets[name] = found
        return facets

    def _layer_order(self, cells: np.ndarray) -> Callable[[tuple[str, int]], tuple]:
        """A sorting key for (layer, count): classes last, then by depth in the first of these cells, then by name."""
        depths: dict[str, int] = {}
        for layer, depth in zip(self._cells["layer"][cells], self._cells["depth"][cells], strict=True):
            depths.setdefault(layer, depth)
        return lambda pair: (pair[0] == "", depths[pair[0]], pair[0])

    def _fits(self, filters: Filters, name: str) -> np.ndarray:
        """Which cells fit one filter."""
        wanted = getattr(filters, name)
        anything = None if name == "layer" else ""
        return np.ones(len(self._sizes), bool) if wanted == anything else self._cells[name] == wanted

    def _matching(self, search: str) -> np.ndarray:
        """For each cell, the number of its rows that fit the search."""
        words = split(search)
        if not words:
            return self._sizes

        def count() -> np.ndarray:
            sizes = np.zeros(len(self._sizes), np.int64)
            where, values = self._condition(search)
            for cell, rows in self._rows(f"SELECT cell, count(*) FROM rows WHERE {where} GROUP BY cell", values):
                sizes[cell] = rows
            return sizes

        return self._found.get(tuple(words), count)

    def _condition(self, search: str) -> tuple[str, list]:
        """SQL for the rows that fit a search, and its parameters. No part of the search is in the SQL."""
        return self._conditions.get(tuple(split(search)), lambda: self._new_condition(search))

    def _new_condition(self, search: str) -> tuple[str, list]:
        conditions, values = ["true"], []
        for meaning in self._vocabulary.meanings(search):
            alternatives = ["false"]
            for column, meant in (("cell", self._meant_cells(meaning)), ("class", sorted(meaning.classes))):
                if meant:
                    alternatives.append(f"{column} IN (SELECT unnest(?::INTEGER[]))")
                    values.append(meant)
            if meaning.index is not None:
                alternatives.append('"index" = ?')
                values.append(meaning.index)
            if meaning.path:
                alternatives.append("contains(lower(unit_id) || '/', ?)")
                # channel/12 is not channel/120
                values.append(meaning.path + ("/" if meaning.path[-1].isdecimal() else ""))
            if meaning.text and self._spelled_out:
                alternatives.append(
                    "(cell IN (SELECT unnest(?::INTEGER[])) AND contains(lower(unit) || ' ' || name, ?))"
                )
                values += [self._spelled_out, meaning.text]
            conditions.append(f"({' OR '.join(alternatives[1:] or alternatives)})")
        return " AND ".join(conditions), values

    def _meant_cells(self, meaning: Meaning) -> list[int]:
        names = (("model", meaning.models), ("layer", meaning.layers), ("kind", meaning.kinds))
        meant = np.zeros(len(self._sizes), bool)
        for name, wanted in (*names, ("recipe", meaning.recipes)):
            meant |= np.array([value in wanted for value in self._cells[name]], bool)
        return np.flatnonzero(meant).tolist()

    # What fits

    def page(self, filters: Filters, sort: str = "order", number: int = 1, size: int = 48) -> Page:
        """One page of the rows that fit, sorted.

        Args:
            sort: one of `SORTS`; rows without a number come last.
            number: from 1; beyond the end it is the last page.
            size: rows on a page.

        Raises:
            LSDError: no such sort.
        """
        if sort not in SORTS:
            raise LSDError(f"The gallery cannot be sorted by “{sort[:60]}”; choose one of {', '.join(SORTS)}.")
        fits = np.logical_and.reduce([self._fits(filters, name) for name in FACETS])
        total = int(self._matching(filters.search)[fits].sum())
        pages = max(1, -(-total // size))
        number = min(max(1, number), pages)
        if not total:
            return Page([], 0, number, pages)
        where, values = self._condition(filters.search)
        if not fits.all():
            where += " AND cell IN (SELECT unnest(?::INTEGER[]))"
            values = [*values, np.flatnonzero(fits).tolist()]
        entries = self._entries(
            f"SELECT n FROM rows WHERE {where} ORDER BY {_SORTS[sort]} LIMIT ? OFFSET ?",
            [*values, size, (number - 1) * size],
        )
        return Page(entries, total, number, pages)

    def classes(self, search: str = "", limit: int = 200) -> list[ClassHit]:
        """The first `limit` classes that fit a search, by name; all of them for an empty one."""
        return [ClassHit(*self._class_models[i]) for i in self._vocabulary.find_all_classes(search)[:limit]]

    # One row and what belongs to it

    def entry(self, unit_id: str) -> Entry | None:
        """The row of that id, None if there is none."""
        text = unit_id.encode(errors="ignore").decode()
        return next(iter(self._entries("SELECT n FROM rows WHERE unit_id = ?", [text])), None)

    def details(self, entry: Entry) -> dict:
        """The whole row by the names of `schema.FEATURES`, without its pictures.

        Raises:
            ShardError: the shard cannot be read, or has changed since the index was made.
        """
        return self._reader.row(entry.shard, entry.row_group, entry.unit_id)

    def picture(self, entry: Entry) -> bytes:
        """A row's picture as WebP; b"" if it has none, because it failed.

        Raises:
            ShardError: as `details`.
        """
        return self._reader.picture(entry.shard, entry.row_group, entry.unit_id)

    def thumbnails(self, entries: Sequence[Entry]) -> list[bytes]:
        """The rows' thumbnails as WebP, b"" where a row has none.

        Raises:
            ShardError: as `details`.
        """
        return self._reader.thumbnails([(e.shard, e.row_group, e.unit_id) for e in entries])

    def same_class(self, entry: Entry) -> list[Entry]:
        """The same class (by WordNet id, or by name where one has none) in the other models: one row each, by model.

        Of several the one of the same kind is taken, then of the same recipe, then of the lowest seed.
        """
        pictures = self._of_class(entry.class_name, entry.synset)
        pictures.sort(key=lambda one: (one.kind != entry.kind, one.recipe != entry.recipe, one.seed, one.n))
        first: dict[str, int] = {}
        for one in pictures:
            first.setdefault(one.model, one.n)
        return self._by_number([first[model] for model in sorted(first) if model != entry.model])

    def variants(self, entry: Entry) -> list[Entry]:
        """The same unit of the same model with other recipes and seeds, by recipe and seed."""
        cells = np.flatnonzero(self._cells["model"] == entry.model).tolist()
        return self._entries(
            "SELECT n FROM rows WHERE cell IN (SELECT unnest(?::INTEGER[])) AND unit = ? AND unit_id != ? ORDER BY n",
            [cells, entry.unit, entry.unit_id],
        )

    def of_units(self, model: str, units: Sequence[str]) -> list[Entry]:
        """All rows of a model's units, by recipe and seed: of one unit there may be several, or none."""
        cells = np.flatnonzero(self._cells["model"] == model).tolist()
        return self._entries(
            "SELECT n FROM rows WHERE cell IN (SELECT unnest(?::INTEGER[])) AND unit IN (SELECT unnest(?::VARCHAR[])) ORDER BY n",
            [cells, list(units)],
        )

    def neighbours(self, entry: Entry, count: int = 12) -> list[Entry]:
        """Up to `count` rows around this one in its layer and kind, of the same recipe and seed, by index.

        As many before it as after it, where there are so many.
        """
        like = {name: getattr(entry, name) for name in ("model", "layer", "kind", "recipe")}
        cells = np.logical_and.reduce([self._cells[name] == value for name, value in like.items()])
        # The index's order is by index and unit within a layer's kind.
        around = self._rows(
            "SELECT n, unit_id = ? FROM rows WHERE cell IN (SELECT unnest(?::INTEGER[])) AND seed = ? ORDER BY n",
            [entry.unit_id, np.flatnonzero(cells).tolist(), entry.seed],
        )
        numbers = [n for n, _ in around]
        place = next(place for place, (_, itself) in enumerate(around) if itself)
        before, after = numbers[:place], numbers[place + 1 :]
        first = min(len(before), max(count // 2, count - len(after)))
        return self._by_number(before[len(before) - first :] + after[: count - first])

    def compare(self, models: Sequence[str], class_names: Sequence[str], recipe: str = "") -> list[list[Entry | None]]:
        """Classes side by side: a row for each of `class_names`, in it a column for each of `models`.

        Args:
            class_names: all synonyms, as `ClassHit.class_name` has them, or WordNet ids, where two classes share a name.
            recipe: the only one that counts; "" for any, the default one first.

        Returns:
            In each cell the entry of the lowest seed, of a plain class unit if there is one; None where there is none.
        """
        return [self._compared(models, name, recipe) for name in class_names]

    def _compared(self, models: Sequence[str], class_name: str, recipe: str) -> list[Entry | None]:
        named = (hit[:2] for hit in self._class_models if class_name and class_name in hit[:2] and hit[1])
        pictures = [one for one in self._of_class(*next(named, (class_name, ""))) if recipe in ("", one.recipe)]
        pictures.sort(key=lambda one: (one.kind != "class", one.recipe != DEFAULT, one.recipe, one.seed, one.n))
        first: dict[str, int] = {}
        for one in pictures:
            first.setdefault(one.model, one.n)
        found = {entry.model: entry for entry in self._by_number([first[m] for m in {*models} & first.keys()])}
        return [found.get(model) for model in models]

    def _of_class(self, class_name: str, synset: str) -> list["_Picture"]:
        """All pictures of the class of that name or WordNet id, in a list of their own."""
        return list(self._classes.get((class_name, synset), lambda: self._read_class(class_name, synset)))

    def _read_class(self, class_name: str, synset: str) -> list["_Picture"]:
        classes = [
            number
            for number, (name, other, _) in enumerate(self._class_models)
            # Two ids are two classes, though both may be called crane.
            if (synset and other == synset) or (class_name and name == class_name and not (synset and other))
        ]
        found = self._rows("SELECT n, seed, cell FROM rows WHERE class IN (SELECT unnest(?::INTEGER[]))", [classes])
        of_cell = [self._cells[name] for name in ("model", "kind", "recipe")]
        return [_Picture(n, seed, *(values[cell] for values in of_cell)) for n, seed, cell in found]


class _Picture(NamedTuple):
    n: int
    seed: int
    model: str
    kind: str
    recipe: str


def _find_index(folder: Path) -> Path:
    """The index of a gallery; made if it is missing."""
    path = folder / index.NAME
    if not path.is_file():
        if not folder.is_dir() or not index.find_shards(folder):
            raise LSDError(f"There is no gallery at {folder}: it has neither an index nor shards below data/.")
        index.build(folder)
    return path


def _cleaned(field: pa.Field, column: pa.ChunkedArray) -> list:
    """The values of a column as `Entry` promises them."""
    if column.type != field.type:
        column = column.cast(field.type)  # a dictionary, which is slow to read value by value
    values = column.to_pylist()
    if pa.types.is_string(field.type):
        return [value or "" for value in values]
    if pa.types.is_list(field.type):
        return [tuple(value or ()) for value in values]
    if pa.types.is_floating(field.type):
        return [value if value is not None and math.isfinite(value) else None for value in values]
    if field.name in ("depth", "index", "seed"):
        return [-1 if value is None else value for value in values]
    return values
