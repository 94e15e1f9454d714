"""How the pictures of a gallery look to a network: its embedding of each thumbnail, in a file for each shard.

The network is one that every machine has. On the 360 pictures that six networks of the sample that ships have of 60 classes,
the nearest one of another network is of the same class in 98% by it, in 31% by a histogram of 64 colours and in 17% by 8 x 8
pixels (`python -m benchmarks.gallery_nearest`).
"""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gallery import pictures, shards
from gallery.index import find_shards
from gallery.nearest import SHARD_BYTES, embedding_file, has_embeddings
from lsd.embedding import embed
from lsd.errors import LSDError
from lsd.features.judge import to_batch
from lsd.models import ImageModel, get_model
from lsd.progress import report

NETWORK = "tf_efficientnet_lite0.in1k"

_BATCH = 32


def make(folder: Path) -> int:
    """Write the embeddings of those shards that have none, and return how many files were written.

    What is there stays if the work is stopped. Reports pictures.

    Raises:
        LSDError: there is no gallery, a shard cannot be read, or the folder cannot be written to.
    """
    paths = find_shards(folder)
    if not paths:
        raise LSDError(f"There is no gallery at {folder}: it has no shards below data/.")
    wanted = [path for path in paths if not has_embeddings(folder, path)]
    total = sum(pq.read_metadata(path).num_rows for path in wanted)
    model, done = get_model(NETWORK), 0
    for path in wanted:
        table = shards.read_table(path, ("unit_id", "thumbnail"))
        ids, vectors = [], []
        for begin in range(0, len(table), _BATCH):
            rows = [row for row in table.slice(begin, _BATCH).to_pylist() if row["thumbnail"]]
            if rows:
                ids += [row["unit_id"] for row in rows]
                vectors.append(of_pictures([pictures.pixels(row["thumbnail"]["bytes"]) for row in rows], model))
            report(done + begin + len(rows), total)
        done += len(table)
        _write(embedding_file(folder, path), ids, vectors, path.stat().st_size)
    return len(wanted)


def of_pictures(pixels: list[np.ndarray], model: ImageModel) -> np.ndarray:
    """Embeddings, float32 (N, D), of RGB pictures, uint8 (H, W, 3), of any sizes."""
    return embed(model, torch.cat([to_batch([one], model) for one in pixels])).float().cpu().numpy()


def _write(path: Path, ids: list[str], vectors: list[np.ndarray], shard_bytes: int) -> None:
    flat = np.concatenate([*vectors, np.empty((0, vectors[0].shape[1] if vectors else 1), np.float32)])
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(flat.astype(np.float16).ravel()), flat.shape[1])
    table = pa.table({"unit_id": pa.array(ids, pa.string()), "embedding": embedding})
    stated = {SHARD_BYTES: str(shard_bytes), "lsd_network": NETWORK}
    unfinished = path.with_name(f".{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.replace_schema_metadata(stated), unfinished, compression="zstd")
        os.replace(unfinished, path)
    except OSError as error:
        raise LSDError(f"{path} cannot be written: {error.strerror or error}.") from error
