"""Questions to a gallery: what there is, what fits a filter, what belongs to a row, and its pictures.

Of the index only some numbers a row lie in memory (`tables`). Filters and facets are worked out on its cells, of which there
are some thousands; `find` says which rows are meant, and `rows` reads them.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow.parquet as pq

from gallery import index, tables
from gallery.filters import FACETS, SORTS, Filters
from gallery.find import Finder
from gallery.nearest import nearest
from gallery.reader import Reader
from gallery.rows import Rows
from gallery.search import split
from lsd.errors import LSDError
from lsd.features.recipes import DEFAULT
from lsd.recent import Recent

_FACETS = 256  # questions whose facets are remembered
_FOUND = 64 * 2**20  # bytes of numbers of found rows that are remembered
_SHOWN = 10_000  # rows of pages that are remembered


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
        path = _find_index(folder)
        again = f"make it again: python -m gallery index {folder}."
        self._folder: Path | None = folder
        self._load(Rows(path, str(path), again), Reader(locate or folder.joinpath))
        if self.is_local and (shards := index.behind(folder)):
            many = f"{shards:,} of its files have" if shards > 1 else "One of its files has"
            self.origin += f" {many} changed since its index was made: python -m gallery index {folder} makes it again."

    @classmethod
    def empty(cls, origin: str) -> "Gallery":
        """A gallery without rows; `origin` says why there are none."""
        gallery = cls.__new__(cls)
        gallery.origin = origin
        gallery.is_local = True
        gallery._folder = None
        nothing = io.BytesIO()
        pq.write_table(index.INDEX_SCHEMA.empty_table(), nothing)
        gallery._load(Rows(nothing.getvalue()), Reader(Path))
        return gallery

    def _load(self, rows: Rows, reader: Reader) -> None:
        self._rows, self._reader = rows, reader
        self._tables = tables.read(rows)
        self._finder = Finder(rows, self._tables)
        self._facets: Recent[dict[str, list[tuple[str, int]]]] = Recent(_FACETS)
        self._found: Recent[np.ndarray] = Recent(_FOUND, lambda numbers: 1000 + numbers.nbytes)
        self._sizes: Recent[np.ndarray] = Recent(_FACETS)
        self._pages: Recent[list[Entry]] = Recent(_SHOWN, lambda entries: 1 + len(entries))
        self._class_hits = [
            ClassHit(name, synset, self._models_among(self._tables.of_class(place)))
            for place, (name, synset) in enumerate(self._tables.classes)
        ]
        self.rows, self.names_assumed = rows.count, self._tables.names_assumed

    def _entries(self, numbers: Sequence[int]) -> list[Entry]:
        """The rows of these numbers, in this order."""
        return [Entry(*values) for values in self._rows.at(numbers)]

    def _models_among(self, numbers: np.ndarray) -> int:
        """How many models have some of these rows."""
        return len(np.unique(self._tables.codes["model"][self._tables.cell[numbers]]))

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
        facets = self._facets.get(_key(filters), lambda: self._new_facets(filters))
        return {name: list(found) for name, found in facets.items()}

    def _new_facets(self, filters: Filters) -> dict[str, list[tuple[str, int]]]:
        sizes = self._matching(filters.search)
        fits = {name: self._fits(filters, name) for name in FACETS}
        facets = {}
        for name in FACETS:
            others = np.logical_and.reduce([fits[other] for other in FACETS if other != name])
            values, codes = self._tables.values[name], self._tables.codes[name]
            counts = np.bincount(codes[others], weights=sizes[others], minlength=len(values)).astype(int)
            places = np.flatnonzero(counts).tolist()
            if name == "layer":
                places.sort(key=self._layer_order(others))
            elif name not in ("model", "family"):
                places.sort(key=lambda place, counts=counts: -counts[place])
            facets[name] = [(values[place], int(counts[place])) for place in places]
        return facets

    def _layer_order(self, cells: np.ndarray) -> Callable[[int], tuple]:
        """A sorting key for places of layers: classes last, then by depth in the first of these cells, then by name."""
        layers, codes = self._tables.values["layer"], self._tables.codes["layer"][cells]
        found, first = np.unique(codes, return_index=True)
        depths = self._tables.codes["depth"][cells][first]  # as their values are sorted, so are these
        depth = dict(zip(found.tolist(), depths.tolist(), strict=True))
        return lambda place: (layers[place] == "", depth[place], layers[place])

    def _fits(self, filters: Filters, name: str) -> np.ndarray:
        """Which cells fit one filter."""
        wanted = getattr(filters, name)
        anything = None if name == "layer" else ""
        if wanted == anything:
            return np.ones(len(self._tables.cells), bool)
        return self._tables.having(name, (wanted,))

    def _matching(self, search: str) -> np.ndarray:
        """For each cell, the number of its rows that fit the search."""
        words = split(search)
        if not words:
            return self._tables.sizes

        def count() -> np.ndarray:
            cells = self._tables.cell[self._numbers(Filters(search))]
            return np.bincount(cells, minlength=len(self._tables.cells))

        return self._sizes.get(tuple(words), count)

    def _numbers(self, filters: Filters) -> np.ndarray:
        """The numbers of the rows that fit, ascending."""
        return self._found.get(_key(filters), lambda: self._find(filters))

    def _find(self, filters: Filters) -> np.ndarray:
        cells = self._fitting_cells(filters)
        if not split(filters.search):
            return self._tables.of_cells(cells)
        if filters == Filters(filters.search):
            return self._finder.search(filters.search)
        numbers = self._numbers(Filters(filters.search))
        return numbers[cells[self._tables.cell[numbers]]]

    def _fitting_cells(self, filters: Filters) -> np.ndarray:
        return np.logical_and.reduce([self._fits(filters, name) for name in FACETS])

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
        fits = self._fitting_cells(filters)
        total = int(self._matching(filters.search)[fits].sum())
        pages = max(1, -(-total // size))
        number = min(max(1, number), pages)
        if not total:
            return Page([], 0, number, pages)

        def read() -> list[Entry]:
            numbers = None if total == self.rows else self._numbers(filters)
            return self._entries(self._finder.page(sort, numbers, (number - 1) * size, size))

        entries = self._pages.get((_key(filters), sort, number, size), read)
        return Page(list(entries), total, number, pages)

    def classes(self, search: str = "", limit: int = 200) -> list[ClassHit]:
        """The first `limit` classes that fit a search, by name; all of them for an empty one."""
        return [self._class_hits[place] for place in self._finder.vocabulary.find_all_classes(search)[:limit]]

    # One row and what belongs to it

    def entry(self, unit_id: str) -> Entry | None:
        """The row of that id, None if there is none."""
        number = self._rows.find(unit_id.encode(errors="ignore").decode())
        return None if number is None else self._entries([number])[0]

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

    def crops(self, entry: Entry) -> list[bytes]:
        """The copies that a row has of the parts of photos that excite its unit, as WebP, in their order; mostly none.

        Raises:
            ShardError: as `details`.
        """
        return self._reader.crops(entry.shard, entry.row_group, entry.unit_id)

    def thumbnails(self, entries: Sequence[Entry]) -> list[bytes]:
        """The rows' thumbnails as WebP, b"" where a row has none.

        Raises:
            ShardError: as `details`.
        """
        return self._reader.thumbnails([(e.shard, e.row_group, e.unit_id) for e in entries])

    def same_class(self, entry: Entry) -> "Entries":
        """The same class (by WordNet id, or by name where one has none) in the other models: one row each, by model.

        Of several the one of the same kind is taken, then of the same recipe, then of the lowest seed.
        """
        numbers, (kinds, recipes) = self._of_class(entry.class_name, entry.synset)
        wanted = [self._code("kind", entry.kind), self._code("recipe", entry.recipe)]
        first = self._first_of_models(numbers, [kinds != wanted[0], recipes != wanted[1]])
        first.pop(entry.model, None)
        return Entries(tuple(first), list(first.values()), self._entries)

    def variants(self, entry: Entry) -> list[Entry]:
        """The same unit of the same model with other recipes and seeds, by recipe and seed."""
        return [other for other in self.of_units(entry.model, [entry.unit]) if other.unit_id != entry.unit_id]

    def of_units(self, model: str, units: Sequence[str]) -> list[Entry]:
        """All rows of a model's units, by recipe and seed: of one unit there may be several, or none."""
        texts = [unit.encode(errors="ignore").decode() for unit in units]
        return self._entries(
            self._rows.having("unit", texts, self._tables.of_cells(self._tables.having("model", (model,))))
        )

    def neighbours(self, entry: Entry, count: int = 12) -> list[Entry]:
        """Up to `count` rows around this one in its layer and kind, of the same recipe and seed, by index.

        As many before it as after it, where there are so many.
        """
        like = {name: getattr(entry, name) for name in ("model", "layer", "kind", "recipe")}
        around = self._tables.of_cells(
            np.logical_and.reduce([self._tables.having(name, (value,)) for name, value in like.items()])
        )
        # The index's order is by index and unit within a layer's kind.
        around = around[self._tables.seed[around] == entry.seed]
        (itself,) = self._rows.having("unit_id", [entry.unit_id], around)[:1]
        place = int(np.searchsorted(around, itself))
        before, after = around[:place], around[place + 1 :]
        first = min(len(before), max(count // 2, count - len(after)))
        return self._entries([*before[len(before) - first :], *after[: count - first]])

    def nearest(self, entry: Entry, by: str = "answers", count: int = 12) -> list[tuple[Entry, float]]:
        """The rows most like this one, of any model, with their cosines, the largest first; see `gallery.nearest`.

        Args:
            by: "answers", what networks take its picture for; "picture", how it looks to one.

        Raises:
            LSDError: as `gallery.nearest.nearest`, or the shards are not in the gallery's folder.
        """
        if self._folder is None or not self.is_local:
            raise LSDError("What is like a row is found where the gallery's shards are: download the whole data set.")
        found = [(self.entry(unit_id), near) for unit_id, near in nearest(self._folder, entry.unit_id, by, count)]
        return [(other, near) for other, near in found if other is not None]  # whatever the index has left out

    def compare(self, models: Sequence[str], class_names: Sequence[str], recipe: str = "") -> list[list[Entry | None]]:
        """Classes side by side: a row for each of `class_names`, in it a column for each of `models`.

        Args:
            class_names: all synonyms, as `ClassHit.class_name` has them, or WordNet ids, where two classes share a name.
            recipe: the only one that counts; "" for any, the default one first.

        Returns:
            In each cell the entry of the lowest seed, of a plain class unit if there is one; None where there is none.
        """
        found = [self._of_models(name, models, recipe) for name in class_names]
        rows = [[first.get(model) for model in models] for first in found]
        entries = iter(self._entries([number for row in rows for number in row if number is not None]))
        return [[None if number is None else next(entries) for number in row] for row in rows]

    def in_models(self, class_name: str) -> "Entries":
        """A class in every model that has it: the rows that `compare` chooses, by model."""
        first = self._of_models(class_name, self._tables.values["model"])
        return Entries(tuple(first), list(first.values()), self._entries)

    def _of_models(self, class_name: str, models: Sequence[str], recipe: str = "") -> dict[str, int]:
        """Of each of some models that have a class, by name, the row that `compare` chooses."""
        named = (hit for hit in self._tables.classes if class_name and class_name in hit and hit[1])
        numbers, (kinds, recipes) = self._of_class(*next(named, (class_name, "")))
        wanted = self._tables.having("model", models)
        if recipe:
            wanted &= self._tables.having("recipe", (recipe,))
        kept = wanted[self._tables.cell[numbers]]
        numbers, kinds, recipes = numbers[kept], kinds[kept], recipes[kept]
        keys = [kinds != self._code("kind", "class"), recipes != self._code("recipe", DEFAULT), recipes]
        return self._first_of_models(numbers, keys)

    def _of_class(self, class_name: str, synset: str) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """The rows of the class of that name or WordNet id, ascending, and the codes of their kinds and recipes."""
        classes = [
            number
            for number, (name, other) in enumerate(self._tables.classes)
            # Two ids are two classes, though both may be called crane.
            if (synset and other == synset) or (class_name and name == class_name and not (synset and other))
        ]
        numbers = np.concatenate([np.empty(0, np.int32), *map(self._tables.of_class, classes)])
        cells = self._tables.cell[numbers]
        return numbers, (self._tables.codes["kind"][cells], self._tables.codes["recipe"][cells])

    def _first_of_models(self, numbers: np.ndarray, keys: list[np.ndarray]) -> dict[str, int]:
        """For each model, by name, the first of these rows by some keys, then by seed and number."""
        keys = [*keys, self._tables.seed[numbers], numbers]
        models = self._tables.codes["model"][self._tables.cell[numbers]]
        order = np.lexsort([*keys[::-1], models])
        found, first = np.unique(models[order], return_index=True)
        names = self._tables.values["model"]
        return {
            names[code]: number for code, number in zip(found.tolist(), numbers[order][first].tolist(), strict=True)
        }

    def _code(self, name: str, value: str) -> int:
        """The code of a value of `tables.CELL`, -1 if it does not occur."""
        values = self._tables.values[name]
        return values.index(value) if value in values else -1


class Entries(Sequence[Entry]):
    """Rows that are read when they are looked at, and not all of them if not all are.

    Attributes:
        models: of each row its model, which costs nothing.
    """

    def __init__(self, models: tuple[str, ...], numbers: list[int], read: Callable[[Sequence[int]], list[Entry]]):
        self.models, self._numbers, self._read = models, numbers, read

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> Entry: ...

    @overload
    def __getitem__(self, place: slice) -> list[Entry]: ...

    def __getitem__(self, place: int | slice) -> Entry | list[Entry]:
        if isinstance(place, slice):
            return self._read(self._numbers[place])
        return self._read([self._numbers[place]])[0]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self[:])


def _key(filters: Filters) -> tuple:
    """The same for filters that mean the same."""
    return tuple(split(filters.search)), replace(filters, search="")


def _find_index(folder: Path) -> Path:
    """The index of a gallery; made if it is missing."""
    path = folder / index.NAME
    if not path.is_file():
        if not folder.is_dir() or not index.find_shards(folder):
            raise LSDError(f"There is no gallery at {folder}: it has neither an index nor shards below data/.")
        index.build(folder)
    return path
