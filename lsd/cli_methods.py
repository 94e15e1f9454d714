"""The command line's advice on methods: `python -m lsd methods …`."""

import argparse
from pathlib import Path

from lsd.errors import LSDError

EXAMPLE = "example:Coffee cup"


def add_parser(commands) -> None:
    """Add the command to those of `lsd.cli`."""
    parser = commands.add_parser("methods", help="which saliency method for this network?")
    parser.add_argument(
        "image", nargs="?", default=EXAMPLE, help="the picture that they are tried on, or example:NAME (default: %(default)s)"
    )  # fmt: skip
    parser.add_argument("--model", action="append", default=[], metavar="NAME", help="may be given several times")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Try every method on each network, and print what did best on its like; its exit status."""
    from lsd.catalogue import common_name
    from lsd.evaluation.recommend import recommend, refusals
    from lsd.images import open_image, picture_path
    from lsd.models import get_model
    from lsd.progress import bar
    from lsd.saliency.explain import to_input
    from lsd.saliency.methods import METHODS

    if not options.model:
        raise LSDError("Which model? Give --model NAME; python -m lsd models lists them.")
    picture = open_image(picture_path(Path(options.image)))
    for name in options.model:
        model = get_model(name)
        with bar(name, "pass"):
            refused = refusals(model, to_input(model, picture))
        told = recommend(model, refused)
        print(f"{common_name(model.name)}: {told}")
        print("  ahead  passes  method (docs/choices.md; blind: it hardly notices another classifier, docs/believe.md)")
        for place in told.places:
            mark = "  not defined here" if place.method in refused else "  blind" if place.is_blind else ""
            print(f"  {place.ahead:>5.0%}  {place.passes:>6}  {place.level}{mark}")
        scored = {place.method for place in told.places}
        print(
            f"  defined, not scored: {', '.join(m for m in METHODS if m not in scored and m not in refused) or 'none'}"
        )
        for method, reason in refused.items():
            print(f"  {method}: {reason}")
    return 0
