"""From the rows of the saliency study to tables and verdicts.

**How levels are compared.** Always on the same pictures, and by *wins*: the share of pictures on which a level scores better
than the default (ties count half). That needs no common scale between metrics, and no picture weighs more than another.
Wins are averaged over models and bases, then over metrics, all alike; their 95% interval is a bootstrap over pictures. The
same pictures are drawn for all models, metrics and bases of a part, since a picture that is easy is so for all of them;
the maps of one grid are drawn together, since they explain one and the same picture.

**What smoothing brings by itself.** Where levels differ in the drawing alone (blur, resolution, …), each score has the
score of random noise, drawn in the same way, taken off first. Blurring noise raises some scores; only what a level gains
beyond that counts for it.

**The rule.** A default stays unless some other level of its factor wins more than half of the time against it, with the
whole interval above one half, the interval widened for the number of levels (Bonferroni). If several do, the one with the
largest lower bound is to take its place. A level that some of the models cannot have (guided backpropagation without
ReLUs), or that takes many passes of the network where the default takes one, is told, and takes no default's place: the
first answer has to come at once, for every network.
"""

import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lsd import markdown
from lsd.evaluation.saliency_rows import picture_of
from lsd.evaluation.variants import CONTROL_VARIANTS, FACTORS, GRID, Factor, Variant, random_twin

DRAWS = 2000
BLURRED = "control/random blurred"


@dataclass(frozen=True)
class Metric:
    """One score. `sign` is 1 where more is better; `chance` what noise gets, None where it depends on the picture."""

    part: str
    key: str
    title: str
    what: str
    sign: int = 1
    chance: float | None = None

    @property
    def name(self) -> str:
        """Part and key."""
        return f"{self.part}/{self.key}"


METRICS = (
    Metric("photos", "mu_fidelity", "μ-fidelity, photos",
           "rank correlation between the map summed over random regions and what removing them takes off the log-odds", chance=0),
    Metric("photos", "deletion", "deletion, photos", "area under the probability while the most salient pixels go first", -1),
    Metric("photos", "insertion", "insertion, photos", "area under the probability while they come first"),
    Metric("photos", "shown", "levels shown, photos",
           "entropy of the map's strengths in 16 steps, in bits: how much of its order can be seen; of clipping alone, which "
           "is there to be seen"),
    Metric("grid2", "grid2", "grid 2 × 2", "share of the map in the right one of 4 cells", chance=1 / 4),
    Metric("grid3", "grid3", "grid 3 × 3", "share of the map in the right one of 9 cells", chance=1 / 9),
    Metric("demo", "mu_fidelity", "μ-fidelity, drawn", "the same on drawn pictures, by the demo networks", chance=0),
    Metric("demo", "deletion", "deletion, drawn", "the same on drawn pictures, by the demo networks", -1),
    Metric("demo", "insertion", "insertion, drawn", "the same on drawn pictures, by the demo networks"),
    Metric("demo", "shown", "levels shown, drawn", "the same on drawn pictures, by the demo networks"),
    Metric("demo", "energy", "energy inside, drawn", "share of the map on the object's own pixels"),
    Metric("demo", "pointing", "pointing game, drawn", "whether the strongest pixel lies on the object"),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Cell:
    """One metric on one model: values (variants, items), nan where there is none, and its bootstrap (DRAWS, items).

    `pictures` (items,) is alike for the cells of one grid, which are maps of one picture.
    """

    metric: Metric
    model: str
    items: tuple[str, ...]
    pictures: np.ndarray
    index: dict[str, int]
    values: np.ndarray
    draws: np.ndarray

    def of(self, name: str) -> np.ndarray:
        """(items,) of a variant."""
        row = self.index.get(name)
        return np.full(len(self.items), np.nan) if row is None else self.values[row]


def cells(table: pa.Table) -> list[Cell]:
    """The rows of `saliency_rows` by metric and model; a value that is there twice counts once."""
    table = table.filter(pc.not_equal(table["metric"].cast(pa.string()), "seconds"))
    columns = {name: table[name].combine_chunks() for name in ("part", "model", "item", "variant", "metric")}
    codes = {name: np.asarray(c.indices) for name, c in columns.items()}
    words = {name: c.dictionary.to_pylist() for name, c in columns.items()}
    value = np.asarray(table["value"])
    found = []
    for metric in METRICS:
        if metric.part not in words["part"] or metric.key not in words["metric"]:
            continue
        part = codes["part"] == words["part"].index(metric.part)
        here = part & (codes["metric"] == words["metric"].index(metric.key))
        if not here.any():
            continue
        group, draws = _drawn(metric.part, words["item"], np.unique(codes["item"][part]))
        for model in np.unique(codes["model"][here]):
            rows = here & (codes["model"] == model)
            items, item = np.unique(codes["item"][rows], return_inverse=True)
            names, name = np.unique(codes["variant"][rows], return_inverse=True)
            values = np.full((len(names), len(items)), np.nan)
            values[name, item] = value[rows]
            index = {words["variant"][n]: i for i, n in enumerate(names)}
            shown = tuple(words["item"][i] for i in items)
            own = group[items]
            found.append(Cell(metric, words["model"][model], shown, own, index, values, draws[:, own]))
    return found


def interval(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The middle `level` of bootstrap draws."""
    low, high = np.nanpercentile(draws, [50 * (1 - level), 100 - 50 * (1 - level)])
    return float(low), float(high)


def _drawn(part: str, words: Sequence[str], items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often each picture of a part is in each bootstrap sample, for all models and metrics alike.

    Args:
        words: all items' names.
        items: the positions of the part's own among them.

    Returns:
        (len(words),): position → its picture, meaningless for items of other parts; and (DRAWS, pictures). The cells of
        a grid are one picture.
    """
    names, pictures = np.unique([picture_of(words[i]) for i in items], return_inverse=True)
    group = np.zeros(len(words), dtype=int)
    group[items] = pictures
    seed = zlib.crc32(part.encode())
    return group, np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)


def _resampled(cell: "Cell", values: np.ndarray) -> np.ndarray:
    """Means of `values` (items,) of a cell over its bootstrap samples, what is nan left out: (DRAWS,)."""
    there = ~np.isnan(values)
    weights = cell.draws[:, there]
    total = weights.sum(1)
    return np.divide(weights @ values[there], total, out=np.full(DRAWS, values[there].mean()), where=total > 0)


@dataclass(frozen=True)
class Figure:
    """A number with its 95% interval, and of how many pictures."""

    mean: float
    low: float
    high: float
    count: int

    def as_list(self) -> list[float]:
        """For JSON."""
        return [round(self.mean, 4), round(self.low, 4), round(self.high, 4), self.count]


Values = tuple["Cell", np.ndarray]  # one number a picture of the cell, nan where there is none


def figure(parts: Sequence[Values], level: float = 0.95) -> Figure | None:
    """The mean over parts of their means, with its interval; None where nothing is there."""
    return pooled([parts], level)


def wins(cell: Cell, level: np.ndarray, default: np.ndarray) -> np.ndarray:
    """(items,) 1 where `level` is better than `default`, ½ where alike, 0 where worse, nan where one is missing."""
    difference = cell.metric.sign * (level - default)
    return np.where(np.isnan(difference), np.nan, 0.5 + 0.5 * np.sign(difference))


def compared(cell: Cell, factor: Factor, level: str, base: str = "") -> np.ndarray:
    """`wins` of one level of a factor over the default on one of its bases, after what the drawing alone brings."""
    pair = factor.on(base, level), factor.on(base, factor.default)
    scores = [cell.of(variant.name) for variant in pair]
    if factor.drawn:
        scores = [s - cell.of(random_twin(v).name) for s, v in zip(scores, pair, strict=True)]
    return wins(cell, *scores)


def pooled(metrics: Iterable[Sequence[Values]], level: float) -> Figure | None:
    """The mean over metrics of the mean over models, with its interval; None where nothing is there.

    What is there of one picture only is left out: nobody knows how far that varies.
    """
    there = [
        [(cell, values) for cell, values in parts if len(np.unique(cell.pictures[~np.isnan(values)])) > 1]
        for parts in metrics
    ]
    there = [parts for parts in there if parts]
    if not there:
        return None
    draws = [np.mean([_resampled(*part) for part in parts], axis=0) for parts in there]
    means = [np.mean([np.nanmean(values) for _, values in parts]) for parts in there]
    count = max(sum(int((~np.isnan(values)).sum()) for _, values in parts) for parts in there)
    return Figure(float(np.mean(means)), *interval(np.mean(draws, axis=0), level), count)


def verdict(found: Sequence[Cell], factor: Factor) -> dict:
    """Every level against the default, by metric, by base and pooled, and whether the default stays."""
    default = factor.on("", factor.default)
    others = [v for v in factor.levels if v.level != factor.default]
    level = 1 - 0.05 / len(others)
    told, beaten = {}, {}
    for variant in others:
        by_base: dict[str, dict[Metric, list[Values]]] = {}
        for base, mark in zip(factor.bases or ("",), ("", *factor.bases[1:]), strict=True):
            own = by_base.setdefault(base, {})
            for cell in found:
                own.setdefault(cell.metric, []).append((cell, compared(cell, factor, variant.level, mark)))
        shares: dict[Metric, list[Values]] = {}
        for own in by_base.values():
            for metric, parts in own.items():
                shares.setdefault(metric, []).extend(parts)
        total = pooled(shares.values(), level)
        by_metric = {m.name: f.as_list() for m, parts in shares.items() if (f := figure(parts))}
        bases = {base: f.as_list() for base, own in by_base.items() if base and (f := pooled(own.values(), level))}
        scored = {cell.model for parts in shares.values() for cell, values in parts if not np.isnan(values).all()}
        everywhere = scored == {cell.model for cell in found}
        dear = variant.source.dear and not default.source.dear
        told[variant.level] = {
            "pooled": total and total.as_list(), "everywhere": everywhere, "dear": dear, "metrics": by_metric,
            "bases": bases,
        }  # fmt: skip
        if total and everywhere and not dear and total.low > 0.5:
            beaten[variant.level] = total.low
    return {
        "default": factor.default,
        "beaten_by": max(beaten, key=beaten.__getitem__) if beaten else None,
        "against": told,
    }


def scores(found: Sequence[Cell], variant: Variant) -> dict:
    """Mean scores of a variant with intervals: by metric, pooled over models and for each."""
    told: dict = {}
    for metric in METRICS:
        own = [cell for cell in found if cell.metric == metric]
        total = figure([(cell, cell.of(variant.name)) for cell in own])
        if total:
            each = {cell.model: f.as_list() for cell in own if (f := figure([(cell, cell.of(variant.name))]))}
            told[metric.name] = {"pooled": total.as_list(), "models": each}
    return told


def against(found: Sequence[Cell], name: str, other: str) -> dict:
    """Wins of one variant over another: by metric, and by model within it."""
    told: dict = {}
    for cell in found:
        own = figure([(cell, wins(cell, cell.of(name), cell.of(other)))])
        if own:
            told.setdefault(cell.metric.name, {})[cell.model] = own.as_list()
    return told


def grid_wins(found: Sequence[Cell]) -> dict:
    """How often each default is the best of its levels in the full grid, over all settings of the other factors.

    factor → metric → share of (model, settings of the others) in which the default's mean score is the highest; and
    "chance", 1 over the number of levels.
    """
    combinations = list(itertools.product(*GRID.values()))
    told = {}
    for place, (name, levels) in enumerate(GRID.items()):
        default = levels.index(FACTORS[name].default)
        by_metric: dict[str, list[float]] = {}
        for cell in found:
            means = {
                key: cell.metric.sign * np.nanmean(row)
                for key in combinations
                if not np.isnan(row := cell.of(f"grid/{','.join(key)}")).all()
            }
            if not means:
                continue
            won = []
            for key in combinations:
                if key[place] != levels[0]:
                    continue
                row = [means.get((*key[:place], one, *key[place + 1 :]), -np.inf) for one in levels]
                best = np.flatnonzero(np.isclose(row, np.max(row), rtol=1e-6))
                won.append((default in best) / len(best))
            by_metric.setdefault(cell.metric.name, []).append(float(np.mean(won)))
        told[name] = {"chance": 1 / len(levels), **{m: float(np.mean(v)) for m, v in by_metric.items()}}
    return told


def trust(table: pa.Table) -> dict:
    """Method → measure of the part "trust" → model → mean over its pictures."""
    rows = table.filter(pc.equal(table["part"].cast(pa.string()), "trust")).to_pylist()
    values: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for row in rows:
        if row["metric"] != "seconds":
            own = values.setdefault(row["variant"].removeprefix("method/"), {}).setdefault(row["metric"], {})
            own.setdefault(row["model"], {})[row["item"]] = row["value"]
    return {
        method: {
            metric: {model: round(float(np.mean(list(items.values()))), 4) for model, items in by_model.items()}
            for metric, by_model in sorted(measures.items())
        }
        for method, measures in values.items()
    }


def seconds(table: pa.Table) -> dict:
    """Part → model → seconds of its tasks together, on one of the study's processes."""
    rows = table.filter(pc.equal(table["metric"].cast(pa.string()), "seconds"))
    told: dict = {}
    for row in rows.to_pylist():
        own = told.setdefault(row["part"], {})
        own[row["model"]] = own.get(row["model"], 0) + row["value"]
    return {part: {model: round(spent, 1) for model, spent in own.items()} for part, own in told.items()}


def summarise(table: pa.Table) -> dict:
    """All figures of the study, as plain JSON values."""
    found = cells(table)
    methods = FACTORS["method"].levels
    return {
        "metrics": [
            {
                "name": m.name,
                "title": m.title,
                "what": m.what,
                "better": "higher" if m.sign > 0 else "lower",
                "chance": m.chance,
            }
            for m in METRICS
            if any(cell.metric == m for cell in found)
        ],
        "models": sorted({cell.model for cell in found}),
        "pictures": {m.name: max((len(c.items) for c in found if c.metric == m), default=0) for m in METRICS},
        "factors": {
            name: verdict(found, factor) | {"levels": {v.level: scores(found, v) for v in factor.levels}}
            for name, factor in FACTORS.items()
        },
        "controls": {v.level: scores(found, v) for v in CONTROL_VARIANTS},
        "noise": {
            name: {v.level: scores(found, random_twin(v)) for v in factor.levels}
            for name, factor in FACTORS.items()
            if factor.drawn
        },
        "against_blurred": {v.level: against(found, v.name, BLURRED) for v in methods},
        "grid_wins": grid_wins(found),
        "trust": trust(table),
        "seconds": seconds(table),
    }


def _cell(value: Sequence[float] | None, percent: bool = False) -> str:
    if value is None:
        return "–"
    mean, low, high, _ = value
    return f"{mean:.0%} [{low:.0%}–{high:.0%}]" if percent else f"{mean:.3f} [{low:.3f}–{high:.3f}]"


def tables(summary: dict) -> Iterator[str]:
    """Markdown: a table of scores and a verdict for each factor, then controls, wins, trust."""
    names = [m["name"] for m in summary["metrics"]]
    titles = [m["title"] + (" ↓" if m["better"] == "lower" else "") for m in summary["metrics"]]

    def shown(own: dict) -> list[str]:
        return [_cell(own[n]["pooled"]) if n in own else "–" for n in names]

    for factor, told in summary["factors"].items():
        bases = FACTORS[factor].told_apart
        rows = []
        for level, own in told["levels"].items():
            mark = f"**{level}**" if level == told["default"] else level
            won = told["against"].get(level, {"pooled": None, "bases": {}})
            wins_ = [won["pooled"], *(won["bases"].get(base) for base in bases)]
            rows.append([mark, *(_cell(one, True) for one in wins_), *shown(own)])
        if factor == "method":
            rows += [[f"*{level}*", "", *shown(own)] for level, own in summary["controls"].items()]
        yield f"### {factor}\n"
        yield from markdown.table(["", "wins against the default", *(f"on {base}" for base in bases), *titles], rows)
        beaten = told["beaten_by"]
        yield f"\n{'Beaten by ' + beaten if beaten else 'Not beaten'}.\n"
    yield "### How often the default is the best level of the full grid\n"
    yield from markdown.table(
        ["", "chance", *titles],
        (
            [factor, f"{own['chance']:.0%}", *(f"{own[n]:.0%}" if n in own else "–" for n in names)]
            for factor, own in summary["grid_wins"].items()
        ),
    )
    yield "\n### Trust\n"
    measures = sorted({m for own in summary["trust"].values() for m in own})
    yield from markdown.table(
        ["", *measures],
        (
            [method, *(f"{np.mean(list(own[m].values())):.2f}" if m in own else "–" for m in measures)]
            for method, own in summary["trust"].items()
        ),
    )


def report(table: pa.Table) -> tuple[str, dict]:
    """The tables as Markdown, and all figures."""
    summary = summarise(table)
    return "\n".join(tables(summary)) + "\n", summary
