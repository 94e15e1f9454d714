"""How steady are the maps of each method on photos, and what is a steadiness to be held against?

    python -m lsd.evaluation steadiness --models A B --images SRC --output DIR --summary lsd/saliency/steadiness.json

For each photo, network and method that is defined for it: the steadiness of the map of the network's first choice
(`lsd.saliency.steadiness`), and the same measure between that map and the map of the next photo, of its own first choice. That
is what two maps have in common without a picture in common: the middle, the rim, the grid of a layer. All of it by SSIM, too,
to see which of the two measures tells a photo's own copies better from other photos. Beside the methods stand maps that have
never seen a network (`lsd.evaluation.controls`).

A row a photo, network and method is kept in DIR as it is made, and an interrupted run goes on where it was; `--report` only makes
the table.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lsd import markdown
from lsd.errors import LSDError, UndefinedError
from lsd.evaluation.controls import CONTROLS
from lsd.evaluation.labelled import LabelledSet, open_set
from lsd.evaluation.metrics import similarity
from lsd.models import ImageModel, get_model
from lsd.provenance import environment, slug, write_files
from lsd.saliency.explain import to_input
from lsd.saliency.likeness import rank_correlation
from lsd.saliency.methods import METHODS, attribute, find_method
from lsd.saliency.steadiness import NOISE, aligned, changed, drawn, for_copies
from lsd.saliency.targets import of_class

ONCE = tuple(
    name for name, m in METHODS.items() if not name.startswith("captum:") and not m.parse({}).get("batch_size")
)
DEAR = tuple(name for name, m in METHODS.items() if not name.startswith("captum:") and name not in ONCE)


@dataclass(frozen=True)
class Row:
    """One photo's map by one network and method.

    Attributes:
        shift, noise: mean likeness to the maps of the moved and of the grainy copies; `other` to the map of the next photo. By
            rank correlation; `ssim_…` by SSIM.
        score: the log-odds that are explained.
    """

    model: str
    item: str
    method: str
    shift: float
    noise: float
    other: float
    ssim_shift: float
    ssim_noise: float
    ssim_other: float
    score: float
    passes: int

    @property
    def value(self) -> float:
        """The steadiness."""
        return (self.shift + self.noise) / 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--images", required=True, metavar="SRC", help="photos, as the Mistakes tab takes them")
    parser.add_argument("--photos", type=int, default=12, metavar="N", help="photos (default: %(default)s)")
    parser.add_argument(
        "--few", type=int, default=1, metavar="N", help="of these, for methods of many passes (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--report", action="store_true", help="make the table of what is there; run nothing")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="also write the figures to this JSON file")


def run(options: argparse.Namespace) -> None:
    """Make what is missing, and print the table."""
    pictures = open_set(options.images)
    if not 1 <= options.few <= options.photos < len(pictures):
        raise LSDError(
            f"Give 1 ≤ --few ≤ --photos < {len(pictures)}, the number of photos there, since each is held against another."
        )
    order = np.random.default_rng(0).permutation(len(pictures))[: options.photos + 1]
    chosen = LabelledSet(pictures.name, tuple(pictures[i] for i in order))
    names = list(dict.fromkeys(options.models))
    if not options.report:
        _run(names, chosen, options)
    rows = [row for name in names for row in _read(_file(options, name))]
    if not rows:
        raise LSDError(f"There are no rows of these models in {options.output}: run the study without --report first.")
    told = summarise(rows)
    told |= {"noise": NOISE, "networks": names, "environment": environment(get_model(names[0]).device)}
    if options.summary:
        write_files(options.summary.parent, {options.summary.name: (json.dumps(told, indent=1) + "\n").encode()})
    print("\n".join(table(told)))


def _file(options: argparse.Namespace, name: str) -> Path:
    return options.output / f"{slug(name)}.jsonl"


def _read(file: Path) -> list[Row]:
    """The rows of a file; a last line that was not finished is not there."""
    if not file.is_file():
        return []
    whole = file.read_text("utf-8").rpartition("\n")[0]
    return [Row(**json.loads(line)) for line in whole.splitlines()]


def _run(names: Sequence[str], chosen: LabelledSet, options: argparse.Namespace) -> None:
    """Photo by photo, so that all networks have the same ones whenever it is interrupted; what takes many passes last."""
    models, there = [get_model(name) for name in names], set()
    for name in names:
        known = _read(_file(options, name))
        write_files(options.output, {_file(options, name).name: "".join(map(_line, known)).encode()})
        there |= {(row.model, row.item, row.method) for row in known}
    for methods, count in (((*CONTROLS, *ONCE), options.photos), (DEAR, options.few)):
        for i, item in enumerate(chosen[:count]):
            for name, model in zip(names, models, strict=True):
                wanted = [method for method in methods if (model.name, item.id, method) not in there]
                own, other = (to_input(model, one.picture()) for one in (item, chosen[i + 1]))
                with _file(options, name).open("a", encoding="utf-8") as out:
                    for row in rows_of(model, own, other, wanted):
                        out.write(_line(replace(row, item=item.id)))
                        out.flush()
            print(f"{len(methods)} maps: {i + 1} of {count} photos", flush=True)


def _line(row: Row) -> str:
    return json.dumps(asdict(row)) + "\n"


def rows_of(model: ImageModel, image: Tensor, other: Tensor, names: Sequence[str]) -> Iterator[Row]:
    """The rows of a picture (1, 3, H, W), held against another one; `names` are of methods and of controls.

    A method that is not defined for the network, or whose map is zero everywhere, has none.
    """
    if not names:
        return
    with torch.no_grad():
        first, firsts = (model(one).argmax(1).item() for one in (image, other))
    steps, copies = changed(image)
    pictures = torch.cat([image, copies, other])
    for name in names:
        try:
            maps, score, passes = _maps(model, pictures, name, first, firsts)
        except UndefinedError:
            continue
        if not maps[0].any():
            continue
        pairs = [aligned(maps[0], one, step) for one, step in zip(maps[1:], [*steps, 0], strict=True)]
        likeness = {}
        for prefix, measure in (("", rank_correlation), ("ssim_", similarity)):
            values = [measure(*pair) for pair in pairs]
            likeness |= {
                f"{prefix}shift": float(np.mean(values[:2])), f"{prefix}noise": float(np.mean(values[2:4])),
                f"{prefix}other": values[4],
            }  # fmt: skip
        yield Row(model.name, "", name, **likeness, score=score, passes=passes)


def _maps(model: ImageModel, pictures: Tensor, name: str, first: int, other: int) -> tuple[np.ndarray, float, int]:
    """Maps of a picture, its four copies and another picture; the first one's score; and passes of the four copies."""
    if name in CONTROLS:
        # "random" is drawn anew for each, as a map would be that has nothing to do with its picture.
        maps = np.stack([CONTROLS[name](one.cpu().numpy(), seed) for seed, one in enumerate(pictures)])
        return drawn(torch.from_numpy(maps)[:, None], "gradient", maps.shape[1:]), 0.0, 0
    size = tuple(pictures.shape[2:])
    target, usual = of_class(model, first), METHODS[name].parse({})
    mine = attribute(name, model, pictures[:1], target, **usual)
    found = attribute(name, model, pictures[1:5], target, **for_copies(usual, mine))
    last = attribute(name, model, pictures[5:], of_class(model, other), **usual)
    maps = np.concatenate([drawn(one.values, name, size) for one in (mine, found, last)])
    return maps, mine.scores[0].item(), 4 * found.passes


def summarise(rows: Sequence[Row]) -> dict:
    """ "methods" and "controls": name → its figures (`_figures`)."""
    figures = {name: _figures([row for row in rows if row.method == name]) for name in (*METHODS, *CONTROLS)}
    figures = {name: own for name, own in figures.items() if own}
    return {
        part: {name: own for name, own in figures.items() if name in known}
        for part, known in (("methods", METHODS), ("controls", CONTROLS))
    }


def _figures(rows: Sequence[Row]) -> dict:
    """Of one method: "pooled" (`lsd.saliency.steadiness.Usual`), "maps", how many, "shift" and "noise", means, "passes" of one
    steadiness, "networks": network → mean steadiness; "rank" and "ssim": `told_apart`; "score": rank correlation of the steadiness
    with what is explained. Networks count alike, however many photos they have; {} of no rows."""
    networks: dict[str, list[Row]] = {}
    for row in rows:
        networks.setdefault(row.model, []).append(row)
    if not networks:
        return {}

    def mean(figure: Callable[[list[Row]], float]) -> float:
        return round(float(np.mean([figure(own) for own in networks.values()])), 4) + 0.0

    values, weights = [row.value for row in rows], [1 / len(networks[row.model]) for row in rows]
    low, middle, high = (_quantile(values, weights, q) for q in (0.25, 0.5, 0.75))
    return {
        "pooled": {"low": low, "middle": middle, "high": high, "other": mean(lambda own: np.mean([r.other for r in own]))},
        "maps": len(rows),
        "shift": mean(lambda own: np.mean([r.shift for r in own])),
        "noise": mean(lambda own: np.mean([r.noise for r in own])),
        "passes": rows[0].passes,
        "networks": {name: round(float(np.mean([r.value for r in own])), 4) for name, own in networks.items()},
        "rank": mean(lambda own: told_apart([r.value for r in own], [r.other for r in own])),
        "ssim": mean(lambda own: told_apart([(r.ssim_shift + r.ssim_noise) / 2 for r in own], [r.ssim_other for r in own])),
        "score": mean(lambda own: rank_correlation(np.array([r.value for r in own]), np.array([r.score for r in own]))),
    }  # fmt: skip


def told_apart(own: Sequence[float], other: Sequence[float]) -> float:
    """The chance that a photo's own copy is more alike than another photo (the area under the ROC curve), in [0, 1]."""
    own, other = np.asarray(own)[:, None], np.asarray(other)
    return float(((own > other) + 0.5 * (own == other)).mean())


def _quantile(values: Sequence[float], weights: Sequence[float], q: float) -> float:
    """The smallest value up to which a share `q` of the weight lies."""
    order = np.argsort(values)
    reached = np.cumsum(np.asarray(weights)[order]) / np.sum(weights)
    return round(float(np.asarray(values)[order][np.searchsorted(reached, q - 1e-12)]), 4) + 0.0


def table(told: Mapping) -> Iterator[str]:
    """The figures as a table in Markdown, the steadiest first; controls in italics."""
    heads = ["map", "passes", "maps", "steadiness: median, middle half", "moved", "grainy", "maps of two photos",
             "told apart", "told apart by SSIM"]  # fmt: skip
    rows = []
    for part, title in (("methods", lambda name: find_method(name).title), ("controls", "*{}*".format)):
        for name, own in sorted(told[part].items(), key=lambda pair: -pair[1]["pooled"]["middle"]):
            p, of_a_method = own["pooled"], part == "methods"
            figures = [f"{value:.2f}" for value in (own["shift"], own["noise"], p["other"])]
            # A control has no network that could tell photos apart.
            figures += [f"{own[key]:.2f}" if of_a_method else "–" for key in ("rank", "ssim")]
            middle = f"{p['middle']:.2f} [{p['low']:.2f}–{p['high']:.2f}]"
            rows.append([title(name), str(own["passes"]) if of_a_method else "–", str(own["maps"]), middle, *figures])
    yield from (line.replace("-0.00", "0.00").replace("| -", "| −") for line in markdown.table(heads, rows))
