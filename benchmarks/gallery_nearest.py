"""By what a picture's nearest neighbours are best found: how often they show the same class in another network.

    python -m benchmarks.gallery_nearest [--folder gallery/sample --classes 60]

Of the first so many classes that all networks with a thousand of them have pictures of, each picture's nearest one among those
of the other networks, and its five nearest: the share that is of its class. By answers it is an upper bound, since whose
pictures these are is also among whom they convince.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from gallery import pictures, shards
from gallery.embeddings import NETWORK, of_pictures
from gallery.index import find_shards
from gallery.source import SAMPLE
from lsd.models import get_model

_COLUMNS = ("model", "kind", "class_name", "synset", "thumbnail", "own_top", "verifiers")


def pictures_of(folder: Path, classes: int) -> list[dict]:
    """The rows of the first so many classes that every network with ImageNet's classes has."""
    rows = [row for path in find_shards(folder) for row in shards.read_table(path, _COLUMNS).to_pylist()]
    rows = [row for row in rows if row["kind"] == "class" and row["synset"] and row["thumbnail"]]
    models = len({row["model"] for row in rows})
    times = Counter(row["class_name"] for row in rows)
    chosen = sorted(name for name, count in times.items() if count >= models)[:classes]
    return [row for row in rows if row["class_name"] in chosen]


def small(pixels: list[np.ndarray], side: int) -> np.ndarray:
    """Side x side pixels, less those of the mean picture."""
    found = [np.asarray(Image.fromarray(p).resize((side, side), Image.Resampling.BOX), np.float32) for p in pixels]
    flat = np.stack(found).reshape(len(found), -1)
    return flat - flat.mean(0)


def colours(pixels: list[np.ndarray]) -> np.ndarray:
    """The square roots of how often each of 64 colours occurs."""
    edges = [(0, 256)] * 3
    return np.sqrt([np.histogramdd(p.reshape(-1, 3), bins=(4, 4, 4), range=edges)[0].ravel() for p in pixels])


def answers(rows: list[dict], own: bool) -> np.ndarray:
    """The sums of probabilities by the names of classes, of the verifiers, and of the network itself if `own`."""
    sums = [Counter() for _ in rows]
    for row, of_row in zip(rows, sums, strict=True):
        for top in [*([row["own_top"]] if own else []), *(judge["top"] for judge in row["verifiers"] or [])]:
            for answer in top or []:
                of_row[answer["name"]] += answer["probability"]
    names = sorted({name for of_row in sums for name in of_row})
    return np.array([[of_row[name] for name in names] for of_row in sums]) + 1e-9


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=SAMPLE)
    parser.add_argument("--classes", type=int, default=60)
    options = parser.parse_args()
    rows = pictures_of(options.folder, options.classes)
    pixels = [pictures.pixels(row["thumbnail"]["bytes"]) for row in rows]
    model = get_model(NETWORK)
    ways = {
        "8 x 8 pixels": small(pixels, 8),
        "64 colours": colours(pixels),
        NETWORK: np.concatenate([of_pictures(pixels[i : i + 32], model) for i in range(0, len(pixels), 32)]),
        "verifiers' answers": answers(rows, own=False),
        "its own as well": answers(rows, own=True),
    }
    names, models = (np.array([row[column] for row in rows]) for column in ("class_name", "model"))
    print(f"{len(rows)} pictures of {len(set(names))} classes by {len(set(models))} networks")
    for way, vectors in ways.items():
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        likeness = np.where(models[:, None] == models, -np.inf, vectors @ vectors.T)
        same = names[np.argsort(-likeness, axis=1)[:, :5]] == names[:, None]
        print(f"{way:28} nearest {same[:, 0].mean():6.1%}   five nearest {same.mean():6.1%}")


if __name__ == "__main__":
    main()
