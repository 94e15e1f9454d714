"""`python -m gallery index DIR`: make the index of a gallery again."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gallery.index import build
from lsd.errors import LSDError
from lsd.process import print_anywhere


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 1 if a shard had to be left out, 2 for an error."""
    parser = argparse.ArgumentParser("gallery", description="A gallery of feature visualizations in parquet files.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    index = commands.add_parser("index", help="make the index from the shards, while nothing or much is added to them")
    index.add_argument("folder", type=Path, help="the gallery, with its shards below data/")
    options = parser.parse_args(arguments)
    try:
        built = build(options.folder)
    except LSDError as error:
        print(f"gallery: {error}", file=sys.stderr)
        return 2
    print(f"{built.rows} rows from {built.shards} shards: {built.path}")
    if built.dropped:
        print(f"{built.dropped} rows left out: later ones have their ids")
    for reason in built.damaged.values():
        print(f"gallery: a shard is left out: {reason}", file=sys.stderr)
    return 1 if built.damaged else 0


if __name__ == "__main__":
    print_anywhere()
    sys.exit(main())
