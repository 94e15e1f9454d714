"""The orders that all rows can be in: by each measure, by name, and by the path in their ids.

Each takes a whole pass over the index and a sort, so they are worked out when the index is made and lie in it as columns. Of an
index that has none they are worked out when they are first asked for.
"""

import base64
import json
import threading
import zlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gallery.rows import Rows, compact
from lsd.recent import Recent

MEASURES = {  # sort → its column, and whether the largest come first
    "own": ("own_probability", True),
    "agreement": ("agreement", True),
    "score": ("score", True),
    "fine": ("fine_energy", False),
}
SORTS = (*MEASURES, "name")
PATH = "path"  # rows of one path after another
WHOLE = "\0"  # begins the path of an id that does not begin with its model; no search has it

_KEY = "lsd_paths"  # under which an index states its paths, and that it has these columns


@dataclass(frozen=True)
class Paths:
    """What comes after the model and a slash in the ids, in lower case and with a slash after it: each distinct text once.

    Attributes:
        texts: those that begin with `WHOLE` are the whole id.
        begins: where the rows of each begin in the order `PATH`, and where those of the last one end, int64.
    """

    texts: pa.Array
    begins: np.ndarray


class Orders:
    """The orders of one index; many threads may use it at once.

    Args:
        rows: of the index.
    """

    def __init__(self, rows: Rows):
        self._rows = rows
        self._stated = _stated(rows)
        self._making = threading.Lock()
        self._made: Recent[np.ndarray] = Recent(len(SORTS))
        self._paths: Recent[tuple[Paths, np.ndarray]] = Recent(1)

    def paths(self) -> Paths:
        return self._stated or self._path_order()[0]

    def at(self, order: str, places: np.ndarray) -> np.ndarray:
        """The numbers of the rows at some places, ascending, of an order: one of `SORTS`, or `PATH`.

        Equal ones are ordered by number, and rows without a number come last.

        Raises:
            LSDError: the index is damaged.
        """
        if self._stated is None:
            made = self._path_order()[1] if order == PATH else self._made.get(order, lambda: self._sorted(order))
            return made[places]
        found = self._rows.numbers(_column(order), places)
        if len(found) and not 0 <= found.min() <= found.max() < self._rows.count:  # an index may come from anybody
            raise self._rows.unreadable()
        return found

    def sort(self, sort: str, numbers: np.ndarray) -> np.ndarray:
        """Some rows, given by their numbers, ascending, in one of the orders `SORTS`; read from the row groups they are in."""
        if sort == "name":
            keys = _alphabetical(*_distinct(_lower(self._rows.texts("title", numbers))))
        else:
            keys = _of_measure(sort, self._rows.numbers(MEASURES[sort][0], numbers))
        return numbers[np.argsort(keys, kind="stable")]

    def _path_order(self) -> tuple[Paths, np.ndarray]:
        return self._paths.get(PATH, self._sorted_paths)

    def _sorted(self, sort: str) -> np.ndarray:
        with self._making:
            if sort == "name":
                keys = _alphabetical(*self._rows.encoded(("title",), lambda table: _lower(table["title"])))
            else:
                name = MEASURES[sort][0]
                blocks = [table[name].to_numpy() for _, table in self._rows.blocks((name,))]
                keys = _of_measure(sort, np.concatenate([np.empty(0, np.float32), *blocks]))
            return np.argsort(keys, kind="stable").astype(np.int32)

    def _sorted_paths(self) -> tuple[Paths, np.ndarray]:
        with self._making:
            of_row, texts = self._rows.encoded(("unit_id", "model"), _paths_of_ids)
            begins = np.concatenate([[0], np.cumsum(np.bincount(of_row, minlength=len(texts)))])
            return Paths(texts, begins), np.argsort(of_row, kind="stable").astype(np.int32)


def columns(rows: Rows) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What an index is to have besides its rows: the orders as columns, and what is to stand in its metadata."""
    orders = Orders(rows)
    paths, by_path = orders._sorted_paths()
    stated = json.dumps([paths.texts.to_pylist(), np.diff(paths.begins).tolist()])
    packed = base64.b64encode(zlib.compress(stated.encode())).decode()
    return {_column(PATH): by_path} | {_column(sort): orders._sorted(sort) for sort in SORTS}, {_KEY: packed}


def _column(order: str) -> str:
    return f"by_{order}"


def _stated(rows: Rows) -> Paths | None:
    """The paths that an index states; None where it has no orders, or they are of other rows."""
    packed = rows.metadata.get(_KEY.encode())
    if packed is None or any(rows.type_of(_column(order)) != pa.int32() for order in (PATH, *SORTS)):
        return None
    try:
        texts, counts = json.loads(zlib.decompress(base64.b64decode(packed)))
        paths = Paths(pa.array(texts, pa.string()), np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]))
    except (ValueError, TypeError, zlib.error, pa.ArrowException):
        return None
    whole = len(texts) == len(counts) and paths.begins[-1] == rows.count and min(counts, default=0) >= 0
    return paths if whole else None


def _of_measure(sort: str, values: np.ndarray) -> np.ndarray:
    """A number for each row: the smaller, the earlier; those without one are nan."""
    values = np.where(np.isfinite(values), values, np.nan)
    return -values if MEASURES[sort][1] else values


def _alphabetical(of_row: np.ndarray, texts: pa.Array) -> np.ndarray:
    """For each row the place of its text among the sorted ones."""
    places = np.empty(len(texts), np.int64)
    places[pc.sort_indices(texts).to_numpy()] = np.arange(len(texts))
    return compact(places, len(texts))[of_row]


def _distinct(texts: pa.Array) -> tuple[np.ndarray, pa.Array]:
    found = texts.dictionary_encode()
    return found.indices.to_numpy(), found.dictionary


def _lower(column: pa.ChunkedArray) -> pa.Array:
    return pc.utf8_lower(_texts(column))


def _texts(column: pa.ChunkedArray) -> pa.Array:
    return pc.fill_null(column.cast(pa.string()), "").combine_chunks()


def _paths_of_ids(table: pa.Table) -> pa.Array:
    """For each row what `Paths` has of its id."""
    ids, models = _texts(table["unit_id"]), table["model"].combine_chunks()
    codes = models.indices.fill_null(len(models.dictionary)).to_numpy()
    names = [*models.dictionary.to_pylist(), ""]
    order = np.argsort(codes, kind="stable")  # model by model, as they mostly are
    found, begins = np.unique(codes[order], return_index=True)
    ends = []
    for code, places in zip(found.tolist(), np.split(order, begins[1:]), strict=True):
        of_model, before = ids.take(pa.array(places)), f"{names[code]}/"
        after = pc.utf8_slice_codeunits(of_model, len(before))
        whole = pc.binary_join_element_wise(WHOLE, of_model, "")
        ends.append(pc.if_else(pc.starts_with(of_model, before), after, whole))
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return pc.utf8_lower(pc.binary_join_element_wise(pa.concat_arrays(ends).take(pa.array(back)), "", "/"))
