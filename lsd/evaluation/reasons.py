"""Do the channels and groups that are said to carry a decision carry it? They are switched off, or all others are.

    python -m lsd.evaluation reasons --models A B --images SRC --output DIR

For each picture, a network's first choice against its runner-up (a contrast). The channels of a layer are ranked by methods of
`lsd.reasons.shares`, of which `activation` knows nothing of the class, and at random; then the first k are switched off, and then
all but the first k. A decision has changed when the first choice is another class. The rows of a network and layer are kept in DIR
as they are made, and an interrupted run goes on where it was.

`groups/4` are the four groups of a picture (`lsd.reasons.groups`), from the one that speaks most for the target. They have two
controls, each group as it was but for one thing: `groups/4/elsewhere` is the same masks on other channels, drawn at random, and
says what so much damage does at all; `groups/4/scattered` is as much of what speaks for the target, at random places of random
channels that do, and says what is gained by a group's hanging together.
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
from lsd.reasons.defaults import METHOD
from lsd.reasons.groups import groups
from lsd.reasons.shares import METHODS, Shares, shares
from lsd.reasons.switch import without
from lsd.saliency.explain import to_input
from lsd.saliency.targets import of_class

COUNTS = (1, 3, 5, 10, 20, 50)  # channels that are switched off, or kept
GROUP_COUNTS = (1, 2, 3)  # groups that are
RANDOM, GROUPS = "random", "groups"
ELSEWHERE, SCATTERED = "elsewhere", "scattered"
RANKINGS = ("gradient_x_activation", "integrated", "activation", RANDOM, "groups/3", f"groups/3/{ELSEWHERE}")
_PICTURES = 8  # in one pass of `gradient_x_activation`


@dataclass(frozen=True)
class Row:
    """One picture, layer and ranking.

    Attributes:
        picture: the file's name.
        ranking: one of `METHODS`, `RANDOM`, or groups as they are named above.
        shares: part of the sum of the positive shares that the first ten channels, or all groups, have; NaN at random.
        off, lost: by `counts`, whether the decision changes when so many are switched off, and how much of the contrast is lost.
        kept: by `counts`, whether the decision is the same when only so many are kept.
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
    parser.add_argument("--rankings", nargs="+", default=list(RANKINGS), type=_ranking, metavar="R",
                        help=f"of {', '.join([*METHODS, RANDOM])}, {GROUPS}/N, {GROUPS}/N/{ELSEWHERE}, {GROUPS}/N/{SCATTERED}"
                        f" (default: {', '.join(RANKINGS)})")  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")


def run(options: argparse.Namespace) -> None:
    """Make the rows that are missing, and print the table."""
    pictures = open_set(options.images)
    first, _, step = options.every.partition("::")
    if not (first.isdecimal() and step.isdecimal() and int(step)):
        raise LSDError(f"--every is written as in 3::20, and not as “{options.every}”.")
    chosen = range(int(first), len(pictures), int(step))
    text: dict[tuple[int, ...], list[str]] = {}
    for name in options.models:
        model = get_model(name)
        for layer in _layers(model, options.layers):
            rows = _rows(model, layer, pictures, chosen, options.rankings, options.output)
            for asked, lines in _lines(model, layer, rows).items():
                text.setdefault(asked, list(_head(asked))).extend(lines)
                print(*lines, sep="\n", flush=True)
    write_files(options.output, {"table.md": "\n\n".join("\n".join(lines) for lines in text.values()).encode()})


def _ranking(text: str) -> str:
    """A ranking as it is written. Raises ArgumentTypeError."""
    first, *more = text.split("/")
    grouped = first == GROUPS and more and more[0].isdecimal() and int(more[0])
    if not (text in (*METHODS, RANDOM) or (grouped and more[1:] in ([], [ELSEWHERE], [SCATTERED]))):
        raise argparse.ArgumentTypeError(f"there is no ranking “{text}”")
    return text


def counts(ranking: str) -> tuple[int, ...]:
    """How many things of a ranking are switched off, or kept."""
    return GROUP_COUNTS if ranking.startswith(GROUPS) else COUNTS


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
    known: dict[str, Shares] = {}
    rows = []
    for ranking in rankings:
        method = METHOD if ranking.startswith(GROUPS) else ranking
        if method != RANDOM and method not in known:
            (known[method],) = shares(model, images, [target], [layer.name], method=method)[layer.name]
        for n, name in enumerate(names):
            numbers = np.random.default_rng(list(name.encode()))
            if ranking.startswith(GROUPS):
                part, off = _groups_off(known[method].of(n), ranking, numbers)
            elif ranking == RANDOM:
                part, off = np.nan, _channels_off(torch.from_numpy(numbers.permutation(layer.channels)))
            else:
                ranked, values = known[method].order()[n], known[method].values[n].clamp(min=0)
                part, off = float(values[ranked[:10]].sum() / values.sum()), _channels_off(ranked)
            logits = without(model, images[n : n + 1], layer, torch.cat([off, 1 - off]))
            same, lost = logits.argmax(1) == first[n], contrast[n] - target.of(n)(logits)
            rows.append(
                Row(name, ranking, part, off=tuple((~same[: len(off)]).tolist()), lost=tuple(lost[: len(off)].tolist()),
                    kept=tuple(same[len(off) :].tolist()))
            )  # fmt: skip
    return rows


def _channels_off(ranked: Tensor) -> Tensor:
    """(counts, C) of channels (C,) in their order, the first `COUNTS` off."""
    off = torch.zeros(len(COUNTS), len(ranked))
    for i, count in enumerate(COUNTS):
        off[i, ranked[:count]] = 1
    return off


def _groups_off(own: Shares, ranking: str, numbers: np.random.Generator) -> tuple[float, Tensor]:
    """The part that all groups of one picture explain, and (counts, C, P) how far what is off with the first `GROUP_COUNTS`."""
    _, count, *control = ranking.split("/")
    if not (own.parts > 0).any():
        return np.nan, torch.zeros(len(GROUP_COUNTS), *own.parts.shape[1:])
    found = groups(own, int(count))
    masks = found.masks
    if control == [ELSEWHERE]:
        masks = masks[:, torch.from_numpy(numbers.permutation(masks.shape[1]))]
    elif control == [SCATTERED]:
        masks = _scattered(own.parts[0], found.shares, numbers)
    return found.explained, torch.stack([masks[:k].sum(0).clamp(max=1) for k in GROUP_COUNTS])


def _scattered(parts: Tensor, sizes: Tensor, numbers: np.random.Generator) -> Tensor:
    """(k, C, P) of what speaks for the target in `parts` (C, P), pieces in a random order until each of k groups has its size."""
    where = (parts.flatten() > 0).nonzero()[:, 0]
    where = where[torch.from_numpy(numbers.permutation(len(where)))]
    reached, ends = parts.flatten()[where].cumsum(0), sizes.cumsum(0)
    masks = torch.zeros(len(sizes), parts.numel(), dtype=parts.dtype)
    belongs = torch.searchsorted(ends, reached)
    inside = belongs < len(sizes)
    masks[belongs[inside], where[inside]] = 1
    return masks.view(len(sizes), *parts.shape)


def _head(asked: Sequence[int]) -> tuple[str, str]:
    cells = ["network", "layer (channels)", "ranking", "pictures", "part"]
    cells += [f"{what} {k}" for what in ("changed at", "kept by") for k in asked]
    return f"| {' | '.join(cells)} |", f"|{'---|' * len(cells)}"


def _lines(model: ImageModel, layer: Layer, rows: Sequence[Row]) -> dict[tuple[int, ...], list[str]]:
    """Lines of a table for each of the `counts`."""
    lines: dict[tuple[int, ...], list[str]] = {}
    for ranking in dict.fromkeys(row.ranking for row in rows):
        own, asked = [row for row in rows if row.ranking == ranking], counts(ranking)
        off, kept = (np.array([getattr(row, what) for row in own], float) for what in ("off", "kept"))
        part = np.mean([row.shares for row in own])
        cells = [common_name(model.name), f"{layer.name} ({layer.channels})", ranking, str(len(own))]
        cells += ["" if np.isnan(part) else f"{part:.0%}"]
        cells += [_cell(column, asked[i] < layer.channels) for what in (off, kept) for i, column in enumerate(what.T)]
        lines.setdefault(asked, []).append(f"| {' | '.join(cells)} |")
    return lines


def _cell(hits: np.ndarray, asked: bool) -> str:
    """A share and its interval; empty where there are not so many channels."""
    low, high = interval(hits)
    return f"{hits.mean():.0%} {low:.0%}–{high:.0%}".replace("%", "", 1).replace("%–", "–") if asked else ""
