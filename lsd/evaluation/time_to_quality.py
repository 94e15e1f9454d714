"""What time buys: how many of a recipe's pictures other networks recognise, against the seconds or the views that one took."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lsd.catalogue import common_name

if TYPE_CHECKING:
    from lsd.evaluation.features import Score

_INK, _FAINT = "#1f2937", "#9ca3af"
# Okabe and Ito's colours, and a mark each: neither says alone what the other does not.
_LOOKS = (
    ("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "D"), ("#cc79a7", "^"), ("#56b4e9", "v"), ("#e69f00", "P"), ("#000000", "X"),
)  # fmt: skip
_COLUMNS = 3
_AXES = {"seconds": "seconds a picture, in batches of eight", "views": "views a picture"}


def interval(hits: np.ndarray, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Bootstrap 95% interval of the mean of `hits` (N,), over pictures."""
    generator = np.random.default_rng(seed)
    means = hits[generator.integers(0, len(hits), (draws, len(hits)))].mean(1)
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


def curves(scores: "Sequence[Score]", x: str) -> dict[str, dict[str, np.ndarray]]:
    """Source → recipe → (points, 4): what a picture cost, then the share recognised and its interval; by rising cost.

    Args:
        x: "seconds" or "views".
    """
    found: dict[str, dict[str, list]] = {}
    for score in scores:
        cost = score.seconds if x == "seconds" else score.image_steps
        point = (cost, score.recognised.mean(), *interval(score.recognised))
        found.setdefault(score.source, {}).setdefault(score.recipe, []).append(point)
    return {
        source: {recipe: np.array(sorted(points)) for recipe, points in recipes.items()}
        for source, recipes in found.items()
    }


def plot(scores: "Sequence[Score]", x: str) -> bytes:
    """A PNG: a panel for each source, a line for each recipe, with its 95% interval; costs on a logarithmic scale."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator, PercentFormatter

    found = curves(scores, x)
    recipes = list(dict.fromkeys(score.recipe for score in scores))
    columns = min(_COLUMNS, len(found))
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(3.9 * columns, 2.9 * rows + 0.5), dpi=110, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    costs = np.concatenate([points[:, 0] for of in found.values() for points in of.values()])
    for axes, (source, of) in zip(panels, found.items(), strict=False):
        for recipe, points in of.items():
            color, mark = _LOOKS[recipes.index(recipe) % len(_LOOKS)]
            cost, mean, low, high = points.T
            axes.fill_between(cost, low, high, color=color, alpha=0.15, linewidth=0)
            axes.plot(cost, mean, color=color, marker=mark, markersize=4.5, linewidth=1.7, label=recipe)
        axes.set_title(" + ".join(map(common_name, source.split(" + "))), loc="left", fontsize=10, color=_INK)
        axes.set_xscale("log")
        ticks = _ticks(costs.min(), costs.max())
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(color=_FAINT, alpha=0.25)
        axes.tick_params(colors=_INK, labelsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    for axes in list(figure.axes)[len(found) :]:
        axes.set_visible(False)
    figure.supxlabel(_AXES[x], fontsize=9, color=_INK)
    figure.supylabel("recognised by other networks", fontsize=9, color=_INK)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 7), frameon=False, fontsize=9)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, doubling or so."""
    steps = [a * 10.0**k for k in range(-2, 5) for a in (1, 2, 5)]
    return [step for step in steps if low * 0.7 <= step <= high * 1.4]
