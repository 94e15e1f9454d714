"""How much memory it takes to publish very many pictures of one model, and how long.

    python -m benchmarks.publish_memory --pictures 200000 --folder /tmp/publish

A run's shards are made up in the folder, unless they are there: as many rows as asked for, each with random bytes in place of
its picture and thumbnail, of the lengths that they have in the sample (11 and 3 kB). Then, in a process of its own,
`precompute.publish.assemble` puts the data set together beside them; that process's greatest resident memory is told.
"""

import argparse
import multiprocessing
import random
import resource
import time
from pathlib import Path

from gallery import shards
from gallery.index import find_shards
from precompute.publish import assemble

PICTURE, THUMBNAIL = 11_000, 3_000  # bytes
SHARD = 1000  # rows
MODEL = "resnet50.a1_in1k"


def make(folder: Path, pictures: int) -> None:
    """Write the shards of a made-up run."""
    generator = random.Random(0)
    below = folder / "data" / MODEL
    below.mkdir(parents=True, exist_ok=True)
    for first in range(0, pictures, SHARD):
        rows = [
            {
                "unit_id": f"{MODEL}/layer3/channel/{number}/lsd/0", "model": MODEL, "architecture": "resnet50",
                "family": "resnet", "layer": "layer3", "depth": 3, "kind": "channel", "index": number,
                "unit": f"layer3/channel/{number}", "title": f"layer3/channel/{number}", "class_name": "", "synset": "",
                "recipe": "lsd", "recipe_hash": "0" * 16, "seed": 0, "picture": generator.randbytes(PICTURE),
                "thumbnail": generator.randbytes(THUMBNAIL), "status": "ok", "error": "", "recipe_json": "{}" * 300,
                "trace": [generator.random() for _ in range(64)], "created": "2026-01-01T00:00:00Z",
                "weights_repo": f"timm/{MODEL}", "weights_revision": "0" * 40, "weights_digest": "2" * 64,
            }
            for number in range(first, min(first + SHARD, pictures))
        ]  # fmt: skip
        (below / f"part-{first:07d}.parquet").write_bytes(shards.table_bytes(shards.to_table(rows)))


def publish(folder: Path, output: Path, answer) -> None:
    """Put the data set together; send back its rows, the seconds, and this process's greatest memory before and after."""
    before, start = _most(), time.perf_counter()
    rows = assemble(folder, "user/name", output)
    answer.send((rows, time.perf_counter() - start, before, _most()))


def _most() -> float:
    """The greatest resident memory of this process so far in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Make the run if need be, publish it, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    run = options.folder / "run"
    if not find_shards(run):
        make(run, options.pictures)
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=publish, args=(run, options.folder / "published", there))
    process.start()
    there.close()
    rows, seconds, before, after = here.recv()
    process.join()
    size = sum(path.stat().st_size for path in find_shards(run))
    print(f"pictures                      {rows:8,}, {size / 2**30:.1f} GiB")
    print(f"published in                  {seconds:8.0f} s")
    print(f"most memory                   {after:8.0f} MiB, {before:.0f} of it before anything was read")


if __name__ == "__main__":
    main()
