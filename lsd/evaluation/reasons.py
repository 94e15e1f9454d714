"""Do the channels that are said to carry a decision carry it? Channels are switched off, or all others are.

    python -m lsd.evaluation reasons --models A B --images SRC --output DIR

For each picture, a network's first choice against its runner-up (a contrast). The channels of a layer are ranked by methods of
`lsd.reasons.shares`, of which `activation` knows nothing of the class, and at random; then the first k are switched off, and then
all but the first k. A decision has changed when the first choice is another class. The rows of a network and layer are kept in DIR
as they are made, and an interrupted run goes on where it was.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lsd.catalogue import common_name
from lsd.errors import LSDError
from lsd.evaluation.labelled import LabelledSet, open_set
from lsd.evaluation.time_to_quality import interval
from lsd.layers import curated_layers, find_layer
from lsd.layout import Layer
from lsd.models import ImageModel, get_model
from lsd.provenance import write_files
from lsd.reasons.shares import METHODS, shares
from lsd.reasons.switch import without
from lsd.saliency.explain import to_input
from lsd.saliency.targets import of_class

COUNTS = (1, 3, 5, 10, 20, 50)  # channels that are switched off, or kept
RANDOM = "random"
RANKINGS = ("gradient_x_activation", "integrated", "activation", RANDOM)
_PICTURES = 8  # in one pass of `gradient_x_activation`


@dataclass(frozen=True)
class Row:
    """One picture, layer and ranking.

    Attributes:
        picture: the file's name.
        ranking: one of `METHODS`, or `RANDOM`.
        shares: part of the sum of the positive shares that the first ten have; NaN for a ranking without shares.
        off, lost: by `COUNTS`, whether the decision changes when so many are switched off, and how much of the contrast is lost.
        kept: by `COUNTS`, whether the decision is the same when only so many are kept.
    """

    picture: str
    ranking: str
    shares: float
    off: tuple[bool, ...]
    lost: tuple[float, ...]
    kept: tuple[bool, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--images", required=True, metavar="SRC", help="pictures, as the Mistakes tab takes them")
    parser.add_argument("--every", default="0::1", metavar="A::B", help="pictures A, A + B, … (default: all)")
    parser.add_argument(
        "--layers", nargs="+", help="of every network (default: its stages and blocks, the deepest six)"
    )
    parser.add_argument("--rankings", nargs="+", default=list(RANKINGS), choices=[*METHODS, RANDOM], metavar="R",
                        help=f"of {', '.join([*METHODS, RANDOM])} (default: all but ablation)")  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")


def run(options: argparse.Namespace) -> None:
    """Make the rows that are missing, and print the table."""
    pictures = open_set(options.images)
    first, _, step = options.every.partition("::")
    if not (first.isdecimal() and step.isdecimal() and int(step)):
        raise LSDError(f"--every is written as in 3::20, and not as “{options.every}”.")
    chosen = range(int(first), len(pictures), int(step))
    text = [_HEAD]
    for name in options.models:
        model = get_model(name)
        for layer in _layers(model, options.layers):
            rows = _rows(model, layer, pictures, chosen, options.rankings, options.output)
            text += _lines(model, layer, rows)
            print(*text[-len(options.rankings) :], sep="\n", flush=True)
    write_files(options.output, {"table.md": "\n".join(text).encode()})


def _layers(model: ImageModel, names: Sequence[str] | None) -> list[Layer]:
    if names:
        return [find_layer(model, name) for name in names]
    return [layer for layer in curated_layers(model) if layer.channels][-6:]


def _rows(
    model: ImageModel, layer: Layer, pictures: LabelledSet, chosen: Sequence[int], rankings: Sequence[str], folder: Path
) -> list[Row]:
    file = folder / model.name.replace("/", "_") / f"{layer.name}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    known = {(row.picture, row.ranking): row for row in _read(file)}
    with file.open("a") as lines:
        for batch in _batches(chosen, _PICTURES):
            items = [pictures[i] for i in batch]
            missing = [r for r in rankings if any((item.id, r) not in known for item in items)]
            if missing:
                images = torch.cat([to_input(model, item.picture()) for item in items])
                for row in study(model, layer, images, [item.id for item in items], missing):
                    known[row.picture, row.ranking] = row
                    lines.write(json.dumps(asdict(row)) + "\n")
                lines.flush()
    wanted = {pictures[i].id for i in chosen}
    return [row for (picture, ranking), row in known.items() if picture in wanted and ranking in rankings]


def _batches(numbers: Sequence[int], size: int) -> Iterable[Sequence[int]]:
    return (numbers[i : i + size] for i in range(0, len(numbers), size))


def _read(file: Path) -> list[Row]:
    if not file.exists():
        return []
    rows = (json.loads(line) for line in file.read_text().splitlines())
    return [Row(**{key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}) for row in rows]


def study(model: ImageModel, layer: Layer, images: Tensor, names: Sequence[str], rankings: Sequence[str]) -> list[Row]:
    """The rows of some pictures (N, 3, H, W), named `names`."""
    with torch.no_grad():
        before = model(images)
    first, second = before.topk(2, dim=1).indices.T.tolist()
    target = of_class(model, first, "contrast", second)
    contrast = target(before)
    rows = []
    for ranking in rankings:
        if ranking == RANDOM:
            ranked, top = _shuffled(names, layer.channels), np.full(len(names), np.nan)
        else:
            (own,) = shares(model, images, [target], [layer.name], method=ranking)[layer.name]
            ranked = own.order()
            for_it = own.values.clamp(min=0).gather(1, ranked)
            top = (for_it[:, :10].sum(1) / for_it.sum(1)).tolist()
        for n, name in enumerate(names):
            off = torch.zeros(2 * len(COUNTS), layer.channels, dtype=torch.bool)
            for i, count in enumerate(COUNTS):
                off[i, ranked[n, :count]] = True
                off[len(COUNTS) + i] = ~off[i]
            logits = without(model, images[n : n + 1].expand(len(off), -1, -1, -1), layer, off)
            same, lost = logits.argmax(1) == first[n], contrast[n] - target.of(n)(logits)
            off_rows, kept_rows = slice(len(COUNTS)), slice(len(COUNTS), None)
            rows.append(
                Row(name, ranking, float(top[n]), off=tuple((~same[off_rows]).tolist()),
                    lost=tuple(lost[off_rows].tolist()), kept=tuple(same[kept_rows].tolist()))
            )  # fmt: skip
    return rows


def _shuffled(names: Sequence[str], channels: int) -> Tensor:
    """(N, C) channels in an order that a picture's name determines."""
    orders = [np.random.default_rng(list(name.encode())).permutation(channels) for name in names]
    return torch.from_numpy(np.stack(orders))


_HEAD = "\n".join(
    (
        f"| network | layer (channels) | ranking | pictures | top 10's part | {' | '.join(f'changed at {k}' for k in COUNTS)} "
        f"| {' | '.join(f'kept by {k}' for k in COUNTS)} |",
        f"|---|---|---|---|---|{'---|' * 2 * len(COUNTS)}",
    )
)


def _lines(model: ImageModel, layer: Layer, rows: Sequence[Row]) -> list[str]:
    lines = []
    for ranking in dict.fromkeys(row.ranking for row in rows):
        own = [row for row in rows if row.ranking == ranking]
        off, kept = (np.array([getattr(row, what) for row in own], float) for what in ("off", "kept"))
        part = np.mean([row.shares for row in own])
        cells = [common_name(model.name), f"{layer.name} ({layer.channels})", ranking, str(len(own))]
        cells += ["" if np.isnan(part) else f"{part:.0%}"]
        cells += [_cell(column, COUNTS[i] < layer.channels) for what in (off, kept) for i, column in enumerate(what.T)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(hits: np.ndarray, asked: bool) -> str:
    """A share and its interval; empty where there are not so many channels."""
    low, high = interval(hits)
    return f"{hits.mean():.0%} {low:.0%}–{high:.0%}".replace("%", "", 1).replace("%–", "–") if asked else ""
