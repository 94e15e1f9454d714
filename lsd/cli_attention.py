"""The command line of attention: `python -m lsd attention …`."""

import argparse
import io
import json
from pathlib import Path

from lsd import cli_said
from lsd.errors import LSDError


def add_parser(commands) -> None:
    """Add the command to those of `lsd.cli`."""
    parser = commands.add_parser("attention", help="where does each head of a transformer look?")
    parser.add_argument("image", nargs="?", type=Path, help="the picture, or example:NAME")
    parser.add_argument("--model", metavar="NAME", help="a transformer whose attention can be read (docs/attention.md)")
    parser.add_argument(
        "--layer", default="", metavar="NAME", help="whose heads (default: the last; see --list-layers)"
    )
    parser.add_argument("--list-layers", action="store_true", help="name the model's attention layers")
    parser.add_argument(
        "--place", default="", metavar="ROW,COLUMN",
        help="the place that looks, counted from 0 (default: the tokens that the output is made of)",
    )  # fmt: skip
    parser.add_argument(
        "--view", default="evaluated", metavar="WHAT",
        help="what of the picture the model is shown, as for saliency (default: %(default)s)",
    )  # fmt: skip
    cli_said.add_options(parser)
    parser.add_argument(
        "--output", type=Path, default=Path("lsd-attention"), metavar="DIR",
        help="where the files go (default: %(default)s)",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from lsd.layers import as_said
    from lsd.models import get_model
    from lsd.saliency.attention import attention_layers
    from lsd.saliency.heads import parse_place

    if not options.model:
        raise LSDError("Which model? Give --model NAME; python -m lsd models lists them.")
    if options.image is None and not options.list_layers:
        raise LSDError("Which picture? Give its path: python -m lsd attention IMAGE --model NAME.")
    place = parse_place(options.place)
    sayings = cli_said.sayings(options)
    sayings.check([options.model])
    model = as_said(get_model(options.model), sayings.of(options.model))
    if options.list_layers:
        print("\n".join(attention_layers(model)))
        return 0
    return _look(model, place, options)


def _look(model, place: tuple[int, int] | None, options: argparse.Namespace) -> int:
    import numpy as np

    from lsd.images import file_sha256, open_image, picture_path
    from lsd.provenance import environment, png, write_files
    from lsd.saliency.bundle import values_sha256
    from lsd.saliency.heads import heads_of, in_words, sheet
    from lsd.view import View

    path = picture_path(options.image)
    picture = open_image(path)
    found = heads_of(model, picture, options.layer, place, View.parse(options.view))
    record = found.to_dict() | {
        "image": {"file": path.name, "path": str(path), "sha256": file_sha256(path)},
        "weights": model.identity.to_dict(),
        "attention_sha256": values_sha256(found.weights),
        "environment": environment(model.device),
    }
    values = io.BytesIO()
    np.save(values, found.weights.numpy())
    files = {
        "heads.png": png(sheet(picture, found)), "attention.npy": values.getvalue(),
        "attention.json": (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode(),
    }  # fmt: skip
    write_files(options.output, files)
    print(f"wrote {options.output}/: {', '.join(files)}")
    print(f"{found.model}, {found.layer}")
    for line in in_words(found):
        print(f"  {line}")
    return 0
