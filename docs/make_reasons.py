"""Write docs/reasons.md and its plot from the study of reasons.

    python -m docs.make_reasons [PART=DIR …]

Of each part that is given (`PARTS`) the rows of DIR, as `python -m lsd.evaluation reasons --output DIR` keeps them, are counted
anew and kept in docs/reasons.json; networks, layers and rankings that are not in DIR, and other parts, are as they were there.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

from lsd import markdown
from lsd.catalogue import common_name
from lsd.evaluation.mistakes import accuracy
from lsd.evaluation.reasons import read_rows
from lsd.evaluation.reasons_trials import RANDOM, TOLD, counts, kind_of
from lsd.reasons.defaults import METHOD
from lsd.reasons.explain import CHANNEL

HERE = Path(__file__).parent
FIGURES, PAGE, TEXT, PLOT = (
    HERE / "reasons.json", HERE / "reasons.md", HERE / "reasons.template.md", HERE / "pictures" / "reasons.svg",
)  # fmt: skip
PARTS = ("choosing", "judging", "wrong", "tags", "kinds")
NAMES = {
    TOLD: "told", METHOD: "joint shares", "gradient_x_activation": "gradient × activation", "integrated": "integrated",
    "activation": "activation alone", RANDOM: "at random", "groups": "groups (default number)", "groups/3": "three groups",
    "elsewhere": "the same masks on other channels", "scattered": "as much, scattered", "ablation": "one by one",
}  # fmt: skip
PLACES = ("position/joint", "position/activation", "position/random")
HEADS = ("head/ablation", "head/gradient_x_activation", "head/activation", "head/random")
GROUPED = ("groups", "groups/elsewhere", "groups/scattered", "groups/3", "groups/3/elsewhere")
LOOKS = {
    TOLD: "#0b6fb8",
    METHOD: "#3f9b63",
    "gradient_x_activation": "#d98200",
    "activation": "#8a5fb0",
    RANDOM: "#808080",
}


def count(folder: Path) -> list[dict]:
    """A line for each network, layer and ranking: hits by how many are switched off."""
    lines = []
    for file in sorted(folder.glob("*/*.jsonl")):
        rows = read_rows(file)
        for ranking in dict.fromkeys(row.ranking for row in rows):
            own = [row for row in rows if row.ranking == ranking]
            hits = {what: np.sum([getattr(row, what) for row in own], 0).tolist() for what in ("off", "kept", "mended")}
            means = {
                what: _mean([getattr(row, what) for row in own]) for what in ("shares", "inside")
            }  # NaN is no JSON
            lines.append({"network": file.parent.name, "layer": file.name.removesuffix(".jsonl").removesuffix(".wrong"),
                          "ranking": ranking, "pictures": len(own), **hits, **means})  # fmt: skip
    return lines


def merged(before: Sequence[dict], lines: Sequence[dict]) -> list[dict]:
    """The lines, and those of before of what these are not about, in the order of before."""
    known = {_about(line): line for line in before}
    return list((known | {_about(line): line for line in lines}).values())


def _about(line: Mapping) -> tuple[str, str, str]:
    return line["network"], line["layer"], line["ranking"]


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else None


def _share(lines: Sequence[Mapping], what: str, i: int) -> str:
    if not lines:
        return ""
    found = accuracy(sum(line[what][i] for line in lines), sum(line["pictures"] for line in lines))
    return f"{found.value:.0%} ({100 * found.low:.0f}–{100 * found.high:.0f})"


def _pooled(
    lines: Sequence[Mapping], what: str, rankings: Sequence[str], asked: Sequence[int], verb: str
) -> Iterator[str]:
    """A ranking a line, all networks together, each photo of each network once."""
    rows = []
    for ranking in rankings:
        own = [line for line in lines if line["ranking"] == ranking]
        if own:
            told = [counts(ranking).index(k) for k in asked]
            rows.append(
                [_name(ranking), str(sum(line["pictures"] for line in own)), *(_share(own, what, i) for i in told)]
            )
    yield from markdown.table(["", "decisions", *(f"{verb} at {k}" for k in asked)], rows)


def _name(ranking: str) -> str:
    kind, way = kind_of(ranking)
    if kind != CHANNEL:
        return NAMES[way]
    first, _, control = ranking.rpartition("/")
    return f"{NAMES[first]}: {NAMES[control]}" if control in NAMES and first else NAMES.get(ranking, ranking)


def _by_network(lines: Sequence[Mapping], what: str, columns: Sequence[tuple[str, int]]) -> Iterator[str]:
    """A network a line."""
    rows = []
    for network, layer in dict.fromkeys((line["network"], line["layer"]) for line in lines):
        own = [line for line in lines if (line["network"], line["layer"]) == (network, layer)]
        cells = []
        for ranking, k in columns:
            some = [line for line in own if line["ranking"] == ranking]
            cells.append(_share(some, what, counts(ranking).index(k)) if some else "–")
        rows.append([common_name(network), layer, str(max(line["pictures"] for line in own)), *cells])
    yield from markdown.table(
        ["network", "layer", "photos", *(f"{_name(ranking)}, {k}" for ranking, k in columns)], rows
    )


def _tags(lines: Sequence[Mapping]) -> Iterator[str]:
    rows = []
    for line in lines:
        asked = counts(line["ranking"])
        told = [asked.index(k) for k in (1, 2 if 2 in asked else 3)]
        inside = "" if line["inside"] is None else f"{line['inside']:.0%}"
        cells = [f"{asked[i]}: {_share([line], 'mended', i)}" for i in told]
        if 10 in asked:
            cells[-1] = f"10: {_share([line], 'mended', asked.index(10))}"
        rows.append([line["layer"], _name(line["ranking"]), str(line["pictures"]), inside, *cells])
    yield from markdown.table(
        ["layer", "", "wrong", "of the first one's map at the tag", "mended by the first", "mended by more"], rows
    )


TABLES: dict[str, Callable[[Mapping], Iterator[str]]] = {
    "layers": lambda f: _by_network(f["choosing"], "off", [("gradient_x_activation", 10), (METHOD, 10), (RANDOM, 10),
                                                          ("groups/3", 1), ("groups/3", 3)]),
    "pooled": lambda f: _pooled(f["judging"], "off", list(LOOKS), (1, 3, 5, 10, 20), "changed"),
    "networks": lambda f: _by_network(f["judging"], "off", [(TOLD, 5), (TOLD, 10), (TOLD, 20), (METHOD, 10),
                                                           ("gradient_x_activation", 10), (RANDOM, 10)]),
    "groups": lambda f: _pooled(f["judging"], "off", GROUPED, (1, 2, 3), "changed"),
    "kept": lambda f: _pooled(f["judging"], "kept", GROUPED, (1, 2, 3), "kept"),
    "group_networks": lambda f: _by_network(f["judging"], "off", [("groups", 1), ("groups", 3), ("groups/elsewhere", 3),
                                                                 ("groups/3", 3), ("groups/3/elsewhere", 3)]),
    "mended": lambda f: _pooled(f["wrong"], "mended", [METHOD, RANDOM], (1, 3, 5, 10), "mended"),
    "mended_groups": lambda f: _pooled(f["wrong"], "mended", ["groups", "groups/elsewhere"], (1, 2, 3), "mended"),
    "mended_networks": lambda f: _by_network(f["wrong"], "mended", [(METHOD, 3), (METHOD, 10), (RANDOM, 10), ("groups", 1)]),
    "tags": lambda f: _tags(f["tags"]),
    "places": lambda f: _pooled(f["kinds"], "off", PLACES, (1, 3, 5, 10, 20), "changed"),
    "places_kept": lambda f: _pooled(f["kinds"], "kept", PLACES, (1, 3, 5, 10, 20), "kept"),
    "heads": lambda f: _pooled(f["kinds"], "off", HEADS, (1, 2), "changed"),
    "place_networks": lambda f: _by_network([line for line in f["kinds"] if line["ranking"] in PLACES], "off",
                                            [(ranking, 10) for ranking in PLACES]),
}  # fmt: skip


def plot(lines: Sequence[Mapping], file: Path) -> None:
    """Write an SVG: decisions changed by how many channels are off, all networks and each."""
    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    networks = list(dict.fromkeys(line["network"] for line in lines))
    figure, panels = plt.subplots(2, 4, figsize=(11, 5), sharex=True, sharey=True, layout="constrained")
    for axes, network in zip(panels.flat, [None, *networks], strict=False):
        for ranking, color in LOOKS.items():
            own = [line for line in lines if line["ranking"] == ranking and network in (None, line["network"])]
            if not own:
                continue
            asked = counts(ranking)
            found = [accuracy(sum(line["off"][i] for line in own), sum(line["pictures"] for line in own))
                     for i in range(len(asked))]  # fmt: skip
            axes.fill_between(asked, [f.low for f in found], [f.high for f in found], color=color, alpha=0.15, lw=0)
            axes.plot(asked, [f.value for f in found], color=color, marker="o", ms=3, lw=1.5, label=_name(ranking))
        axes.set_title("all networks" if network is None else common_name(network), loc="left", fontsize=9)
        axes.set_xscale("log")
        axes.set_xticks(counts(TOLD), [str(k) for k in counts(TOLD)])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
        axes.grid(alpha=0.25)
        axes.tick_params(labelsize=8)
    for axes in panels.flat[len(networks) + 1 :]:
        axes.set_visible(False)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower right", frameon=False, fontsize=9)
    figure.supxlabel("channels switched off", fontsize=9)
    figure.supylabel("decisions changed", fontsize=9)
    plt.rcParams["svg.hashsalt"] = "reasons"
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def page(figures: Mapping) -> str:
    """docs/reasons.md as Markdown."""
    text = TEXT.read_text("utf-8")
    for name, table in TABLES.items():
        text = text.replace(f"{{{name}}}", "\n".join(table(figures)))
    return text


def main(arguments: Sequence[str]) -> None:
    """Count what is given, and write the page and the plot."""
    figures = json.loads(FIGURES.read_text("utf-8")) if FIGURES.exists() else {}
    for part, _, folder in (argument.partition("=") for argument in arguments):
        if part not in PARTS or not Path(folder).is_dir():
            sys.exit(f"Give parts as PART=DIR, PART one of {', '.join(PARTS)}.")
        figures[part] = merged(figures.get(part, []), count(Path(folder)))
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    PAGE.write_text(page(figures), "utf-8")
    plot(figures["judging"], PLOT)


if __name__ == "__main__":
    main(sys.argv[1:])
