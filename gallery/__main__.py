"""`python -m gallery`: make the index of a gallery again, and find what is like one of its rows."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gallery.index import build
from gallery.nearest import WAYS
from gallery.queries import Gallery
from lsd.errors import LSDError
from lsd.process import print_anywhere
from lsd.progress import bar


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 1 if a shard had to be left out, 2 for an error."""
    parser = argparse.ArgumentParser("gallery", description="A gallery of feature visualizations in parquet files.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    index = commands.add_parser("index", help="make the index from the shards, while nothing or much is added to them")
    index.set_defaults(run=_index)
    embed = commands.add_parser(
        "embed", help="find out how the pictures look to a network, for neighbours --by picture"
    )
    embed.set_defaults(run=_embed)
    near = commands.add_parser("neighbours", help="the rows most like one of them")
    near.set_defaults(run=_neighbours)
    for command in (index, embed, near):
        command.add_argument("folder", type=Path, help="the gallery, with its shards below data/")
    near.add_argument("unit", help="its id, such as resnet50.a1_in1k/class/207/lsd/0")
    near.add_argument("--by", choices=list(WAYS), default="answers", help="what networks take it for, or how it looks")
    near.add_argument("--count", type=int, default=12, help="how many rows (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except LSDError as error:
        print(f"gallery: {error}", file=sys.stderr)
        return 2


def _index(options: argparse.Namespace) -> int:
    built = build(options.folder)
    print(f"{built.rows} rows from {built.shards} shards: {built.path}")
    if built.dropped:
        print(f"{built.dropped} rows left out: later ones have their ids")
    for reason in built.damaged.values():
        print(f"gallery: a shard is left out: {reason}", file=sys.stderr)
    return 1 if built.damaged else 0


def _embed(options: argparse.Namespace) -> int:
    from gallery import embeddings  # which takes torch

    with bar("embed", "picture"):
        written = embeddings.make(options.folder)
    print(f"{written} files written" if written else "nothing to do: every shard has its embeddings")
    return 0


def _neighbours(options: argparse.Namespace) -> int:
    if options.count < 1:
        raise LSDError(f"--count {options.count}: ask for one row or more.")
    gallery = Gallery(options.folder)
    entry = gallery.entry(options.unit)
    if entry is None:
        raise LSDError(f"{options.folder} has no row {options.unit}.")
    for other, near in gallery.nearest(entry, options.by, options.count):
        print(f"{near:.3f}  {other.unit_id}  {other.title}")
    return 0


if __name__ == "__main__":
    print_anywhere()
    sys.exit(main())
