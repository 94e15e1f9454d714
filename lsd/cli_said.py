"""What the commands have in common about what a network does not say of itself: two options that say it, and a line that warns."""

import argparse
from collections.abc import Iterable

from lsd.sayings import Sayings


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add both to a command that takes `--model`."""
    parser.add_argument(
        "--outputs", action="append", default=[], metavar="[MODEL=]WHAT",
        help="what the models' outputs are, or those of one of them: classes (one of several), sigmoid (each a question of "
        "its own) or embedding (a vector, no classes); default: what their number and its configuration say (several times)",
    )  # fmt: skip
    parser.add_argument(
        "--layout", action="append", default=[], metavar="[MODEL=]NAME=HOW",
        help="how a layer's output is laid out, where no places or wrong ones are found: nchw, nhwc, tokens, tokens:1, "
        "tokens:1:14x14 (several times)",
    )  # fmt: skip


def sayings(options: argparse.Namespace) -> Sayings:
    """What the options say. Raises LSDError for a text that says nothing."""
    return Sayings.read(options.outputs, options.layout)


def print_notes(models: Iterable) -> None:
    """A line for each model whose class names are to be doubted."""
    for model in dict.fromkeys(models):
        if model.names_note:
            print(f"{model.name}: {model.names_note}")
