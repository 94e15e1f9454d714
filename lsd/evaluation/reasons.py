"""Do the channels and groups that are said to carry a decision carry it? They are switched off, or all others are.

    python -m lsd.evaluation reasons --models A B --images SRC --output DIR [--wrong]

For each picture, a network's first choice against its runner-up (a contrast). With `--wrong`, only those about which a network is
wrong, and its wrong choice against the right class: a mistake is mended when the first choice is the right class. The channels of a
layer are ranked by methods of `lsd.reasons.shares`, of which `activation` knows nothing of the class, and at random; `told` are by
the default method, the ten that are told before all others (`lsd.reasons.choice`). Then the first k are switched off, and then all
but the first k. A decision has changed when the first choice is another class. The rows of a network and layer are kept in DIR as
they are made, and an interrupted run goes on where it was.

`position/joint` ranks the places of a layer, all channels of each together, and `head/ablation` the heads of an attention layer, by
the default the last but one; `position/random` and `head/activation` are controls as those of channels.

`groups` are those of a picture (`lsd.reasons.groups`), from the one that speaks most for the target, and `groups/4` four of them.
They have two controls, each group as it was but for one thing: `groups/elsewhere` is the same masks on other channels, drawn at
random, and says what so much damage does at all; `groups/scattered` is as much of what speaks for the target, at random places of
random channels that do, and says what is gained by a group's hanging together.

Of demo pictures with tags, that which speaks most for the target is told where it lies: how much of what speaks for it there is in
the places of the layer that the tag touches.
"""

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lsd.catalogue import common_name
from lsd.errors import LSDError
from lsd.evaluation.labelled import Item, LabelledSet, open_set, true_indices
from lsd.evaluation.mistakes import scan
from lsd.evaluation.reasons_trials import (
    ELSEWHERE,
    GROUPED,
    GROUPS,
    RANDOM,
    SCATTERED,
    TOLD,
    Row,
    counts,
    kind_of,
    study,
    unit_count,
)
from lsd.evaluation.time_to_quality import interval
from lsd.images import prepare
from lsd.layers import attention_heads, attention_layers, curated_layers, find_layer
from lsd.layout import Layer
from lsd.models import ImageModel, get_model
from lsd.provenance import write_files
from lsd.reasons.defaults import default_layer
from lsd.reasons.explain import CHANNEL, HEAD, POSITION
from lsd.reasons.heads import METHODS as HEAD_METHODS
from lsd.reasons.heads import default_heads
from lsd.reasons.shares import METHODS
from lsd.saliency.explain import to_input

RANKINGS = (TOLD, "joint", "gradient_x_activation", "activation", RANDOM, GROUPS, f"{GROUPS}/{ELSEWHERE}")
WAYS = {CHANNEL: (*METHODS, TOLD), POSITION: tuple(way for way in METHODS if way != "ablation"), HEAD: HEAD_METHODS}
ALL, CHOOSING, JUDGING = "all", "choosing", "judging"
_EACH = 5  # of so many classes one chooses
_PICTURES = 8  # in one pass of `gradient_x_activation`


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--images", required=True, metavar="SRC", help="pictures, as the Mistakes tab takes them")
    parser.add_argument("--every", default="0::1", metavar="A::B", help="pictures A, A + B, … (default: all)")
    parser.add_argument(
        "--split", choices=(ALL, CHOOSING, JUDGING), default=ALL,
        help="pictures of the classes 0, 5, 10, …, on which settings are chosen, or of the others, counted by --every alone",
    )  # fmt: skip
    parser.add_argument(
        "--layers",
        nargs="+",
        help="of every network (default: the one that reasons are told of; `all`: its deepest six)",
    )
    parser.add_argument("--rankings", nargs="+", default=list(RANKINGS), type=_ranking, metavar="R",
                        help=f"of {', '.join([*METHODS, TOLD, RANDOM])}, {GROUPS}, {GROUPS}/N, …/{ELSEWHERE}, …/{SCATTERED}, "
                        f"{POSITION}/… and {HEAD}/… (default: {', '.join(RANKINGS)})")  # fmt: skip
    parser.add_argument("--wrong", action="store_true", help="only wrong answers, against the right ones")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")


def run(options: argparse.Namespace) -> None:
    """Make the rows that are missing, and print the table."""
    pictures = split(open_set(options.images), options.split)
    chosen = every(options.every, len(pictures))
    text: dict[tuple[int, ...], list[str]] = {}
    for name in options.models:
        model = get_model(name)
        truth = true_indices(pictures, model) if options.wrong else None
        asked = chosen if truth is None else _wrong(model, pictures, chosen, truth)
        for layer, rankings in _asked(model, options.layers, options.rankings):
            file = options.output / model.name.replace("/", "_") / f"{layer.name}{'.wrong' * options.wrong}.jsonl"
            rows = _rows(model, layer, pictures, asked, rankings, file, truth)
            for head, lines in _lines(model, layer, rows).items():
                text.setdefault(head, [head, re.sub(r"[^|]+", "---", head)]).extend(lines)
                print(*lines, sep="\n", flush=True)
    write_files(options.output, {"table.md": "\n\n".join("\n".join(lines) for lines in text.values()).encode()})


def split(pictures: LabelledSet, part: str) -> LabelledSet:
    """The pictures of the classes whose numbers are multiples of five, of the others, or all."""
    wanted = [
        item for item in pictures if part == ALL or (item.label.number % _EACH == 0) == (part == CHOOSING)
    ]  # fmt: skip
    return LabelledSet(pictures.name, tuple(wanted))


def every(text: str, count: int) -> range:
    """Which of so many pictures: 3::20 is 3, 23, … Raises LSDError."""
    first, _, step = text.partition("::")
    if not (first.isdecimal() and step.isdecimal() and int(step)):
        raise LSDError(f"--every is written as in 3::20, and not as “{text}”.")
    return range(int(first), count, int(step))


def _wrong(model: ImageModel, pictures: LabelledSet, chosen: Sequence[int], truth: np.ndarray) -> list[int]:
    """Those about which the model is wrong."""
    some = LabelledSet(pictures.name, tuple(pictures[i] for i in chosen))
    *_, progress = scan([model], some)
    wrong = {item.id for item, own in zip(progress.result.items, progress.result.wrong[0], strict=True) if own}
    return [i for i in chosen if pictures[i].id in wrong]


def _ranking(text: str) -> str:
    """A ranking as it is written. Raises ArgumentTypeError."""
    kind, way = kind_of(text)
    if way not in (*WAYS[kind], RANDOM) and not GROUPED.fullmatch(text):
        raise argparse.ArgumentTypeError(f"there is no ranking “{text}”")
    return text


def _asked(
    model: ImageModel, names: Sequence[str] | None, rankings: Sequence[str]
) -> list[tuple[Layer, Sequence[str]]]:
    """The layers, each with those of the rankings that are of its units."""
    of_heads = [ranking for ranking in rankings if kind_of(ranking)[0] == HEAD]
    others = [ranking for ranking in rankings if ranking not in of_heads]
    asked: list[tuple[Layer, Sequence[str]]] = []
    if others and names == ["all"]:
        asked += [(layer, others) for layer in curated_layers(model) if layer.channels][-6:]
    elif others:
        asked += [(find_layer(model, name), others) for name in names or [default_layer(model)]]
    if of_heads:
        attention = list(attention_layers(model))[-6:] if names == ["all"] else names or [default_heads(model)]
        asked += [(Layer(name, "heads", attention_heads(model, name)), of_heads) for name in attention]
    return asked


def _rows(
    model: ImageModel,
    layer: Layer,
    pictures: LabelledSet,
    chosen: Sequence[int],
    rankings: Sequence[str],
    file: Path,
    truth: np.ndarray | None,
) -> list[Row]:
    file.parent.mkdir(parents=True, exist_ok=True)
    known = {(row.picture, row.ranking): row for row in read_rows(file)}
    lacking = {}  # rankings that are missing → the pictures that lack just these
    for i in chosen:
        missing = tuple(ranking for ranking in rankings if (pictures[i].id, ranking) not in known)
        lacking.setdefault(missing, []).append(i)
    lacking.pop((), None)
    with file.open("a") as lines:
        for missing, batch in [(r, batch) for r, some in lacking.items() for batch in _batches(some, _PICTURES)]:
            items = [pictures[i] for i in batch]
            images = torch.cat([to_input(model, item.picture()) for item in items])
            tags = [_tag(model, item) for item in items]
            right = None if truth is None else truth[batch].tolist()
            for row in study(model, layer, images, [item.id for item in items], missing, right=right, tags=tags):
                known[row.picture, row.ranking] = row
                lines.write(json.dumps(asdict(row)) + "\n")
            lines.flush()
    wanted = {pictures[i].id for i in chosen}
    return [row for (picture, ranking), row in known.items() if picture in wanted and ranking in rankings]


def _tag(model: ImageModel, item: Item) -> np.ndarray | None:
    """(H, W) bool, where the tag is in the picture as the model sees it; None without a tag."""
    mask = item.tag_mask()
    if mask is None:
        return None
    return prepare(Image.fromarray(np.uint8(mask[..., None].repeat(3, 2)) * 255), model.spec)[0] > 0.5


def _batches(numbers: Sequence[int], size: int) -> Iterable[Sequence[int]]:
    return (numbers[i : i + size] for i in range(0, len(numbers), size))


def read_rows(file: Path) -> list[Row]:
    """The rows that are kept in a file; none where there is no such file."""
    if not file.exists():
        return []
    rows = (json.loads(line) for line in file.read_text().splitlines())
    return [Row(**{key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}) for row in rows]


def _lines(model: ImageModel, layer: Layer, rows: Sequence[Row]) -> dict[str, list[str]]:
    """Head of a table → its lines."""
    found: dict[str, list[str]] = {}
    for ranking in dict.fromkeys(row.ranking for row in rows):
        own, asked = [row for row in rows if row.ranking == ranking], counts(ranking)
        cells = {
            "network": common_name(model.name), "layer (channels)": f"{layer.name} ({layer.channels})", "ranking": ranking,
            "pictures": str(len(own)), "part": _mean([row.shares for row in own]),
        }  # fmt: skip
        told = (
            {"changed at": "off", "mended at": "mended"} if own[0].mended else {"changed at": "off", "kept by": "kept"}
        )
        for title, what in told.items():
            for i, k in enumerate(asked):
                hits = np.array([getattr(row, what)[i] for row in own], float)
                cells[f"{title} {k}"] = _cell(hits, k < unit_count(layer, kind_of(ranking)[0]))
        if own[0].mended:
            cells["on the tag"] = _mean([row.inside for row in own])
        found.setdefault(f"| {' | '.join(cells)} |", []).append(f"| {' | '.join(cells.values())} |")
    return found


def _mean(values: Sequence[float]) -> str:
    """Empty where there is none."""
    known = [value for value in values if not np.isnan(value)]
    return f"{np.mean(known):.0%}" if known else ""


def _cell(hits: np.ndarray, asked: bool) -> str:
    """A share and its interval; empty where there are not so many channels."""
    low, high = interval(hits)
    return f"{hits.mean():.0%} {low:.0%}–{high:.0%}".replace("%", "", 1).replace("%–", "–") if asked else ""
