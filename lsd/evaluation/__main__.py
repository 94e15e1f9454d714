"""`python -m lsd.evaluation features …`: the studies behind the defaults."""

import argparse
import sys

from lsd.errors import LSDError
from lsd.evaluation import (
    accuracy,
    channels,
    conformance,
    features,
    flip_study,
    fooled,
    networks,
    pretrained_tags,
    reasons,
    reasons_stability,
    saliency,
    steadiness,
)  # fmt: skip
from lsd.memory import keep_freed_memory
from lsd.process import print_anywhere


def main(arguments: list[str] | None = None) -> int:
    """Run one study; its exit status."""
    parser = argparse.ArgumentParser("lsd.evaluation", description=__doc__)
    studies = parser.add_subparsers(required=True, metavar="STUDY")
    for name, module, help in (
        ("accuracy", accuracy, "how often are models right about labelled pictures?"),
        ("features", features, "do other networks recognise feature visualizations?"),
        ("channels", channels, "do pictures of hidden channels excite them more than photos do?"),
        ("saliency", saliency, "which choices make a saliency map better, and by which measure?"),
        ("reasons", reasons, "do the channels that are said to carry a decision carry it?"),
        ("stability", reasons_stability, "are a picture's reasons the same when it is changed a little?"),
        ("steadiness", steadiness, "how far do saliency maps move when the picture is changed a little?"),
        ("networks", networks, "can a score of saliency maps compare networks?"),
        ("conformance", conformance, "does everything hold on every architecture of timm?"),
        ("tags", pretrained_tags, "is what is said of each of timm's pretrained networks true?"),
        ("mistakes", flip_study, "which map of a mistake changes the decision with the fewest pixels removed?"),
        ("fooled", fooled, "what fooled networks about made pictures: the crop, the context, a second thing, …?"),
    ):
        study = studies.add_parser(name, help=help, description=module.__doc__.partition("\n")[0])
        module.add_arguments(study)
        study.set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except LSDError as error:
        print(f"lsd: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    keep_freed_memory()
    print_anywhere()
    sys.exit(main())
