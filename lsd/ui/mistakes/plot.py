"""What is left without some pixels, drawn with matplotlib without its global state, so that two visitors' plots never meet."""

import io

import numpy as np
from PIL import Image

from lsd.evaluation.probe import ProbeResult

_INK, _FAINT = "#1f2937", "#9ca3af"
_LINES = {"the map": "#dc2626", "random pixels": "#6b7280", "random blobs": "#2563eb"}
_TICKS = (0, 0.5, 2, 5, 10, 20, 30, 50)  # per cent


def probe_plot(result: ProbeResult, names: tuple[str, str], fraction: float) -> Image.Image:
    """Probability against the share of the pixels removed, one panel for each of the two classes watched.

    Args:
        result: of `probe` for two classes.
        names: of these classes, for the headings.
        fraction: the share that is shown on the page, marked by a line.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 3.5), dpi=130, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    for k, (axes, name) in enumerate(zip(panels, names, strict=True)):
        _panel(axes, result, k, fraction)
        axes.set_title(name, fontsize=11, color=_INK, loc="left")
    panels[0].set_ylabel("probability", color=_INK)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=8.5, columnspacing=1.4
    )
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return Image.open(buffer).convert("RGB")


def _panel(axes, result: ProbeResult, k: int, fraction: float) -> None:
    """The lines of class `k`, from the whole picture on."""
    x = np.concatenate([[0], 100 * np.array(result.fractions)])
    for name, control in result.controls.items():
        start, color = result.before[k : k + 1], _LINES[name]
        low, mean, high = (np.concatenate([start, part[:, k]]) for part in (control.low, control.mean, control.high))
        axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(x, mean, color=color, linewidth=1.6, linestyle="--", label=f"{name} (mean, range)")
    after = np.concatenate([result.before[k : k + 1], result.probability[:, k]])
    axes.plot(x, after, color=_LINES["the map"], linewidth=2.6, marker="o", markersize=4, label="most salient pixels")
    axes.axvline(100 * fraction, color=_INK, linewidth=1.4, linestyle=":", label="the slider")
    if result.flip_fraction is not None:
        axes.axvline(
            100 * result.flip_fraction, color=_LINES["the map"], linewidth=1.2, alpha=0.7, label="answer changes"
        )
    # The root spreads the first few per cent, where the answer changes, and keeps the rest in view.
    axes.set_xscale("function", functions=(lambda v: np.sqrt(np.maximum(v, 0)), np.square))
    axes.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    axes.minorticks_off()
    axes.set(xlim=(0, max(x)), ylim=(-0.02, 1.02))
    axes.set_xlabel("pixels removed, %", color=_INK)
    axes.grid(color=_FAINT, alpha=0.25)
    axes.tick_params(colors=_INK, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
