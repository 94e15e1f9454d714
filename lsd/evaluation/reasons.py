"""Do the channels and groups that are said to carry a decision carry it? They are switched off, or all others are.

    python -m lsd.evaluation reasons --models A B --images SRC --output DIR [--wrong]

For each picture, a network's first choice against its runner-up (a contrast). With `--wrong`, only those about which a network is
wrong, and its wrong choice against the right class: a mistake is mended when the first choice is the right class. The channels of a
layer are ranked by methods of `lsd.reasons.shares`, of which `activation` knows nothing of the class, and at random; `told` are by
the default method, the ten that are told before all others (`lsd.reasons.choice`). Then the first k are switched off, and then all
but the first k. A decision has changed when the first choice is another class. The rows of a network and layer are kept in DIR as
they are made, and an interrupted run goes on where it was.

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
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lsd.catalogue import common_name
from lsd.errors import LSDError
from lsd.evaluation.labelled import Item, LabelledSet, open_set, true_indices
from lsd.evaluation.mistakes import scan
from lsd.evaluation.time_to_quality import interval
from lsd.images import prepare
from lsd.layers import curated_layers, find_layer
from lsd.layout import Layer
from lsd.models import ImageModel, get_model
from lsd.provenance import write_files
from lsd.reasons.answer import COUNT
from lsd.reasons.choice import carry_most
from lsd.reasons.defaults import METHOD, default_layer
from lsd.reasons.groups import Groups, groups
from lsd.reasons.shares import METHODS, Shares, shares
from lsd.reasons.switch import goes_on, without
from lsd.resumed import kept_before
from lsd.saliency.explain import to_input
from lsd.saliency.targets import of_class

COUNTS = (1, 3, 5, 10, 20, 50)  # channels that are switched off, or kept
GROUP_COUNTS = (1, 2, 3)  # groups that are
TOLD, RANDOM, GROUPS = "told", "random", "groups"
ELSEWHERE, SCATTERED = "elsewhere", "scattered"
RANKINGS = (TOLD, "joint", "gradient_x_activation", "activation", RANDOM, GROUPS, f"{GROUPS}/{ELSEWHERE}")
_GROUPED = re.compile(rf"{GROUPS}(?:/([1-9][0-9]?))?(?:/({ELSEWHERE}|{SCATTERED}))?")
ALL, CHOOSING, JUDGING = "all", "choosing", "judging"
_EACH = 5  # of so many classes one chooses
_PICTURES = 8  # in one pass of `gradient_x_activation`


@dataclass(frozen=True)
class Row:
    """One picture, layer and ranking.

    Attributes:
        picture: the file's name.
        ranking: one of `METHODS`, `TOLD`, `RANDOM`, or groups as they are named above.
        shares: part of the sum of the positive shares that the first ten channels, or all groups, have; NaN at random.
        off, lost: by `counts`, whether the decision changes when so many are switched off, and how much of the contrast is lost.
        kept: by `counts`, whether the decision is the same when only so many are kept.
        mended: by `counts`, whether the right class is the first choice when so many are switched off; () where the true class is
            not asked for.
        inside: part of the first channel's or group's map that is at places that the tag touches; NaN without a tag or map.
    """

    picture: str
    ranking: str
    shares: float
    off: tuple[bool, ...]
    lost: tuple[float, ...]
    kept: tuple[bool, ...]
    mended: tuple[bool, ...] = ()
    inside: float = np.nan


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
                        help=f"of {', '.join([*METHODS, TOLD, RANDOM])}, {GROUPS}, {GROUPS}/N, …/{ELSEWHERE}, …/{SCATTERED}"
                        f" (default: {', '.join(RANKINGS)})")  # fmt: skip
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
        for layer in _layers(model, options.layers):
            file = options.output / model.name.replace("/", "_") / f"{layer.name}{'.wrong' * options.wrong}.jsonl"
            rows = _rows(model, layer, pictures, asked, options.rankings, file, truth)
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
    if text not in (*METHODS, TOLD, RANDOM) and not _GROUPED.fullmatch(text):
        raise argparse.ArgumentTypeError(f"there is no ranking “{text}”")
    return text


def counts(ranking: str) -> tuple[int, ...]:
    """How many things of a ranking are switched off, or kept."""
    return GROUP_COUNTS if ranking.startswith(GROUPS) else COUNTS


def _layers(model: ImageModel, names: Sequence[str] | None) -> list[Layer]:
    if names == ["all"]:
        return [layer for layer in curated_layers(model) if layer.channels][-6:]
    return [find_layer(model, name) for name in names or [default_layer(model)]]


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
    with file.open("a") as lines:
        for batch in _batches(chosen, _PICTURES):
            items = [pictures[i] for i in batch]
            missing = [r for r in rankings if any((item.id, r) not in known for item in items)]
            if missing:
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


def study(
    model: ImageModel,
    layer: Layer,
    images: Tensor,
    names: Sequence[str],
    rankings: Sequence[str],
    *,
    right: Sequence[int] | None = None,
    tags: Sequence[np.ndarray | None] | None = None,
) -> list[Row]:
    """The rows of some pictures (N, 3, H, W), named `names`.

    Args:
        right: the true classes, against which the first choices are held, rather than against the runners-up.
        tags: (H, W) bool each, where the tag is.
    """
    befores, said = [], []
    for image in images.split(1):
        with torch.no_grad(), kept_before(model, layer.name) as before:
            said.append(model(image))
        befores.append(before if goes_on(model, layer) else ())
    logits = torch.cat(said)
    first, second = logits.topk(2, dim=1).indices.T.tolist()
    target = of_class(model, first, "contrast", second if right is None else right)
    contrast = target(logits)
    known: dict[str, Shares] = {}
    grouped: dict[tuple[int, str], Groups] = {}  # by picture and count
    rows = []
    for ranking in rankings:
        method = METHOD if ranking == TOLD or ranking.startswith(GROUPS) else ranking
        if method != RANDOM and method not in known:
            (known[method],) = shares(model, images, [target], [layer.name], method=method)[layer.name]
        for n, name in enumerate(names):
            numbers = np.random.default_rng(list(name.encode()))
            where = None  # what speaks for the target lies, of the first thing of a ranking
            if ranking.startswith(GROUPS):
                own, count = known[method].of(n), _GROUPED.fullmatch(ranking)[1]
                if (own.parts > 0).any() and (n, count) not in grouped:
                    grouped[n, count] = groups(own, int(count) if count else None)
                part, off, where = _groups_off(own, grouped.get((n, count)), ranking, numbers)
            elif ranking == RANDOM:
                part, off = np.nan, _channels_off(torch.from_numpy(numbers.permutation(layer.channels)))
            else:
                ranked, values = known[method].order()[n], known[method].values[n].clamp(min=0)
                if ranking == TOLD:
                    ten = carry_most(model, images[n : n + 1], known[method].of(n), COUNT, before=befores[n])
                    ranked = torch.tensor(ten + [c for c in ranked.tolist() if c not in ten])
                part, off = float(values[ranked[:10]].sum() / values.sum()), _channels_off(ranked)
                where = known[method].maps[n, ranked[0]] if layer.height and known[method].parts is not None else None
            logits = without(model, images[n : n + 1], layer, torch.cat([off, 1 - off]), before=befores[n])
            now, lost = logits.argmax(1), contrast[n] - target.of(n)(logits)
            same, count = now == first[n], len(off)
            rows.append(
                Row(name, ranking, part, off=tuple((~same[:count]).tolist()), lost=tuple(lost[:count].tolist()),
                    kept=tuple(same[count:].tolist()),
                    mended=() if right is None else tuple((now[:count] == right[n]).tolist()),
                    inside=_inside(where, None if tags is None else tags[n]))
            )  # fmt: skip
    return rows


def _inside(where: Tensor | None, tag: np.ndarray | None) -> float:
    """Part of a map (h, w) that is above zero at the places that the tag touches."""
    if where is None or tag is None:
        return np.nan
    touched = torch.nn.functional.adaptive_max_pool2d(torch.from_numpy(tag)[None, None].float(), where.shape)[0, 0]
    above = where.clamp(min=0).cpu()
    return float((above * touched).sum() / above.sum())


def _channels_off(ranked: Tensor) -> Tensor:
    """(counts, C) of channels (C,) in their order, the first `COUNTS` off."""
    off = torch.zeros(len(COUNTS), len(ranked))
    for i, count in enumerate(COUNTS):
        off[i, ranked[:count]] = 1
    return off


def _groups_off(
    own: Shares, found: Groups | None, ranking: str, numbers: np.random.Generator
) -> tuple[float, Tensor, Tensor | None]:
    """The part that all groups of one picture explain, (counts, C, P) how far what is off with the first `GROUP_COUNTS`, and the
    first group's map; None of groups where nothing speaks for the target."""
    if found is None:
        return np.nan, torch.zeros(len(GROUP_COUNTS), *own.parts.shape[1:]), None
    control, masks = _GROUPED.fullmatch(ranking)[2], found.masks
    if control == ELSEWHERE:
        masks = masks[:, torch.from_numpy(numbers.permutation(masks.shape[1]))]
    elif control == SCATTERED:
        masks = _scattered(own.parts[0], found.shares, numbers)
    first = None if control or found.maps is None else found.maps[0]
    return found.explained, torch.stack([masks[:k].sum(0).clamp(max=1) for k in GROUP_COUNTS]), first


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
                cells[f"{title} {k}"] = _cell(hits, k < layer.channels)
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
