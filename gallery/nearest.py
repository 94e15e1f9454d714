"""The rows nearest to one: by what networks take its picture for, or by how the picture looks to a network.

Both are cosines, 1 for the same. All shards are gone through, one after another, and no picture is read: answers lie in them,
and how pictures look lies in files beside them, one for each, which `gallery.embeddings` makes.
"""

import heapq
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gallery import shards
from gallery.index import find_shards
from lsd.errors import LSDError

FOLDER = "embeddings"
SHARD_BYTES = "lsd_shard_bytes"  # under which a file of embeddings states the size of its shard

Likeness = Iterator[tuple[pa.ChunkedArray, np.ndarray]]


def nearest(folder: Path, unit_id: str, by: str, count: int) -> list[tuple[str, float]]:
    """The ids of the rows of a gallery's folder that are most like one of them, and their cosines with it, the largest first.

    Args:
        by: one of `WAYS`: "answers", the mean of what its own network and its verifiers take the picture for, five classes
            each, by their names; "picture", the network's embedding of the thumbnail.

    Raises:
        LSDError: there is no such way or row, it has nothing to go by, or not all shards have their embeddings.
    """
    if by not in WAYS:
        raise LSDError(f"Rows cannot be near by “{by[:60]}”; choose one of {', '.join(WAYS)}.")
    found: dict[str, float] = {}
    for ids, likeness in WAYS[by](folder, unit_id):
        likeness = np.nan_to_num(likeness, nan=-np.inf)
        best = np.argsort(-likeness, kind="stable")[: count + 1]  # one may be itself
        found |= zip(ids.take(pa.array(best)).to_pylist(), likeness[best].tolist(), strict=True)
        found.pop(unit_id, None)
        found = {name: value for name, value in heapq.nlargest(count, found.items(), _value) if np.isfinite(value)}
    return list(found.items())


def _value(pair: tuple[str, float]) -> float:
    return pair[1]


def embedding_file(folder: Path, shard: Path) -> Path:
    """Where the embeddings of a shard of a gallery's folder lie."""
    return folder / FOLDER / shard.relative_to(folder / "data")


def has_embeddings(folder: Path, shard: Path) -> bool:
    """Whether they are there, and are of the shard as it is now."""
    try:
        stated = (pq.read_metadata(embedding_file(folder, shard)).metadata or {}).get(SHARD_BYTES.encode())
    except (OSError, pa.ArrowException):
        return False
    return stated == str(shard.stat().st_size).encode()


def _by_picture(folder: Path, unit_id: str) -> Likeness:
    paths = find_shards(folder)
    if lacking := sum(not has_embeddings(folder, path) for path in paths):
        raise LSDError(
            f"Of {lacking:,} of {len(paths):,} files it is not known how their pictures look to a network; "
            f"python -m gallery embed {folder} finds out."
        )
    files = [embedding_file(folder, path) for path in paths]
    mine = [vectors[0] for file in files for _, vectors in _embeddings(file, pc.field("unit_id") == unit_id)]
    if not mine:
        raise LSDError(f"{unit_id} has no picture in {folder}.")
    for file in files:
        for ids, vectors in _embeddings(file):
            yield ids, vectors @ mine[0]


def _embeddings(file: Path, fits: pc.Expression | None = None) -> Iterator[tuple[pa.ChunkedArray, np.ndarray]]:
    """Ids, and vectors (N, D) of length one, of a file or of its rows that fit."""
    table = pq.read_table(file, filters=fits)
    if len(table):
        vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(table), -1).astype(np.float32)
        yield table["unit_id"], vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _by_answers(folder: Path, unit_id: str) -> Likeness:
    tables = [shards.read_table(path, ("unit_id",)) for path in find_shards(folder)]
    at = next((i for i, table in enumerate(tables) if pc.index(table["unit_id"], unit_id).as_py() >= 0), None)
    if at is None:
        raise LSDError(f"{folder} has no row {unit_id}.")
    table = _answers(find_shards(folder)[at])
    mine = table.filter(pc.equal(table["unit_id"], unit_id)).slice(0, 1)
    _, names, weights = _summed(mine)
    if not len(weights):
        raise LSDError(f"Nothing is known of what networks take the picture of {unit_id} for.")
    wanted = dict(zip(names.to_pylist(), (weights / np.linalg.norm(weights)).tolist(), strict=True))
    for path in find_shards(folder):
        table = _answers(path)
        rows, names, weights = _summed(table)
        of_names = np.array([wanted.get(name, 0.0) for name in names.dictionary.to_pylist()] or [0.0])
        dots = np.bincount(rows, weights * of_names[names.indices.to_numpy()], len(table))
        with np.errstate(invalid="ignore"):  # rows without answers
            yield table["unit_id"], dots / np.sqrt(np.bincount(rows, weights**2, len(table)))


def _answers(path: Path) -> pa.Table:
    return shards.read_table(path, ("unit_id", "own_top", "verifiers"))


def _summed(table: pa.Table) -> tuple[np.ndarray, pa.DictionaryArray, np.ndarray]:
    """Of each row and each class that any network takes its picture for: (row, name, the sum of the probabilities)."""
    own, verifiers = (table[name].combine_chunks() for name in ("own_top", "verifiers"))
    tops = pc.struct_field(verifiers.flatten(), "top")
    rows = np.concatenate([_parents(own), _parents(verifiers)[_parents(tops)]])
    answers = pa.concat_arrays([own.flatten(), tops.flatten()])
    names = pc.fill_null(pc.struct_field(answers, "name"), "").dictionary_encode()
    weights = pc.fill_null(pc.struct_field(answers, "probability"), 0).to_numpy(zero_copy_only=False)
    count = max(1, len(names.dictionary))
    pairs, place = np.unique(rows * count + names.indices.to_numpy(), return_inverse=True)
    of_names = pa.DictionaryArray.from_arrays(pa.array(pairs % count, pa.int32()), names.dictionary)
    return pairs // count, of_names, np.bincount(place, weights, len(pairs))


def _parents(lists: pa.ListArray) -> np.ndarray:
    return pc.list_parent_indices(lists).to_numpy().astype(np.int64)


WAYS: dict[str, Callable[[Path, str], Likeness]] = {"answers": _by_answers, "picture": _by_picture}
