"""Are the shares of a picture's channels still what they were when the picture is changed a little?

    python -m lsd.evaluation stability --models A B --images SRC

For each picture, a network's first choice against its runner-up (a contrast), which stays the question whatever is done to the
picture: it is moved down and to the right, what is uncovered being the border drawn out, or noise is added to each pixel. The
shares of a layer's channels before and after are held against one another: Spearman's rank correlation, and how many of the first
ten are among the first ten. As a control, the shares of another photo for the same question.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lsd.catalogue import common_name
from lsd.errors import LSDError
from lsd.evaluation.labelled import open_set
from lsd.evaluation.metrics import perturbed, rank_correlation
from lsd.evaluation.reasons import every
from lsd.evaluation.time_to_quality import interval
from lsd.layers import find_layer
from lsd.layout import Layer
from lsd.models import ImageModel, get_model
from lsd.reasons.defaults import METHOD, default_layer
from lsd.reasons.shares import METHODS, shares
from lsd.saliency.explain import to_input
from lsd.saliency.targets import of_class

FIRST = 10
SHIFTS, NOISES = (1, 4, 16), (0.02, 0.1)  # pixels; of a range of 1, either way
ANOTHER = "another photo"


@dataclass(frozen=True)
class Row:
    """One picture, method and change.

    Attributes:
        correlation: Spearman's, of the shares of all channels, from −1 to 1.
        overlap: part of the first `FIRST` channels that are among the first still.
        same: whether the first choice is.
    """

    method: str
    change: str
    correlation: float
    overlap: float
    same: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--images", required=True, metavar="SRC", help="pictures, as the Mistakes tab takes them")
    parser.add_argument("--every", default="0::1", metavar="A::B", help="pictures A, A + B, … (default: all)")
    parser.add_argument("--layer", help="default: the one that reasons are told of")
    parser.add_argument("--methods", nargs="+", default=[METHOD, "gradient_x_activation"], choices=METHODS)


def run(options: argparse.Namespace) -> None:
    """Print the table."""
    pictures = open_set(options.images)
    chosen = every(options.every, len(pictures))
    if len(chosen) < 2:
        raise LSDError("At least two pictures are needed: each is another photo to the one before it.")
    print(
        "| network | layer | ranking | change | pictures | same answer | rank correlation | of the first ten still there |"
    )
    print(f"|{'---|' * 8}")
    for name in options.models:
        model = get_model(name)
        layer = find_layer(model, options.layer or default_layer(model))
        images = torch.cat([to_input(model, pictures[i].picture()) for i in chosen])
        rows = list(stability(model, layer, images, options.methods))
        for method in options.methods:
            for change in dict.fromkeys(row.change for row in rows):
                own = [row for row in rows if (row.method, row.change) == (method, change)]
                cells = [common_name(model.name), layer.name, method, change, str(len(own))]
                cells += [f"{np.mean([row.same for row in own]):.0%}"]
                cells += [_cell([row.correlation for row in own]), _cell([row.overlap for row in own])]
                print(f"| {' | '.join(cells)} |", flush=True)


def stability(model: ImageModel, layer: Layer, images: Tensor, methods: Sequence[str]) -> Iterator[Row]:
    """The rows of pictures (N, 3, H, W), N ≥ 2."""
    for n, image in enumerate(images.split(1)):
        with torch.no_grad():
            first, second = model(image)[0].topk(2).indices.tolist()
        target = of_class(model, first, "contrast", second)
        batch = torch.cat([image, *changed(image), images[(n + 1) % len(images)][None]])
        for method in methods:
            (found,) = shares(model, batch, [target], [layer.name], method=method)[layer.name]
            with torch.no_grad():
                answers = model(batch).argmax(1)
            ranked, values = found.order(), found.values.cpu().numpy()
            for i, name in enumerate(_NAMES, 1):
                kept = np.intersect1d(ranked[0, :FIRST].cpu(), ranked[i, :FIRST].cpu())
                yield Row(method, name, rank_correlation(values[0], values[i]), len(kept) / FIRST,
                          bool(answers[i] == first))  # fmt: skip


_NAMES = (*(f"{s} px" for s in SHIFTS), *(f"noise ± {r}" for r in NOISES), ANOTHER)


def changed(image: Tensor) -> list[Tensor]:
    """A picture (1, 3, H, W) moved by each of `SHIFTS`, and with each of `NOISES`."""
    moved = [torch.nn.functional.pad(image, (s, 0, s, 0), mode="replicate")[..., :-s, :-s] for s in SHIFTS]
    return [*moved, *(next(perturbed(image, radius, 1, seed=0)) for radius in NOISES)]


def _cell(values: Sequence[float]) -> str:
    low, high = interval(np.array(values))
    return f"{np.mean(values):.2f} {low:.2f}–{high:.2f}"
