"""How often models are right about labelled pictures: the class among the first one, and among the first five.

python -m lsd.evaluation accuracy --models A B --images SET --view evaluated squashed padded
"""

import argparse
from collections.abc import Sequence

import numpy as np
import torch

from lsd import markdown
from lsd.catalogue import common_name
from lsd.errors import UndefinedError
from lsd.evaluation.labelled import LabelledSet, open_set, true_indices
from lsd.evaluation.mistakes import Accuracy, accuracy
from lsd.images import prepare
from lsd.models import ImageModel, get_model
from lsd.view import EVALUATED, View

RANKS = (1, 5)
_BATCH = 16


def accuracies(model: ImageModel, pictures: LabelledSet, view: View = EVALUATED) -> dict[int, Accuracy]:
    """Rank → the share of pictures whose class is among so many of the model's first choices, with Wilson's interval.

    Args:
        view: what of each picture the model is shown.

    Raises:
        LSDError: a square that reaches beyond a picture.
        UndefinedError: the labels are not classes of the model, or it gives numbers that are not finite.
        ImageError: a picture cannot be read.
    """
    truth = true_indices(pictures, model)
    ranks = np.concatenate(
        [
            _ranks(model, pictures[start : start + _BATCH], truth[start : start + _BATCH], view)
            for start in range(0, len(truth), _BATCH)
        ]
    )
    return {rank: accuracy(int((ranks < rank).sum()), len(ranks)) for rank in RANKS}


def _ranks(model: ImageModel, items: Sequence, truth: np.ndarray, view: View) -> np.ndarray:
    """How many classes each picture's model puts before the true one."""
    batch = torch.from_numpy(np.stack([prepare(item.picture(), model.spec, view) for item in items]))
    p = model.probabilities(batch).double().cpu().numpy()
    if not np.isfinite(p).all():
        raise UndefinedError(f"{model.name} gives numbers that are not finite for {items[0].id} or its neighbours.")
    return (np.argsort(-p, axis=1, kind="stable") == truth[:, None]).argmax(1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME")
    parser.add_argument("--images", required=True, metavar="SET", help="a folder, hf:NAME, or a set that ships")
    parser.add_argument(
        "--view", nargs="+", default=["evaluated"], metavar="WHAT",
        help="what of each picture the models are shown: evaluated, squashed, padded or LEFT,TOP,SIDE (default: evaluated)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Print a table."""
    views = [View.parse(text) for text in options.view]
    pictures = open_set(options.images)
    rows = []
    for name in options.models:
        for view in views:
            found = accuracies(get_model(name), pictures, view)
            shares = [f"{a.value:.1%} [{a.low:.1%}–{a.high:.1%}]" for a in found.values()]
            rows.append([common_name(name), name, str(view), str(len(pictures)), *shares])
    header = ["network", "name", "view", "pictures", *(f"top-{rank}, 95%" for rank in RANKS)]
    print("\n".join(markdown.table(header, rows)))
