"""`python -m lsd.evaluation features …`: the studies behind the defaults."""

import argparse
import sys

from lsd.errors import LSDError
from lsd.evaluation import features


def main(arguments: list[str] | None = None) -> int:
    """Run one study; its exit status."""
    parser = argparse.ArgumentParser("lsd.evaluation", description=__doc__)
    studies = parser.add_subparsers(required=True, metavar="STUDY")
    study = studies.add_parser("features", help="do other networks recognise feature visualizations?")
    features.add_arguments(study)
    study.set_defaults(run=features.run)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except LSDError as error:
        print(f"lsd: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
