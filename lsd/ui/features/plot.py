"""The score at each step, drawn with matplotlib without its global state, so that two visitors' plots never meet."""

import io
from collections.abc import Sequence

_INK, _FAINT = "#1f2937", "#9ca3af"
_SEEDS = ("#c2410c", "#2563eb", "#15803d", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f", "#57534e")


def score_plot(traces: Sequence[Sequence[float]], steps: int, what: str) -> bytes:
    """A PNG of the score at each step so far, one line for each seed.

    Args:
        traces: one a seed, a number a step taken.
        steps: of the whole ascent, so that the axis does not move while the lines grow.
        what: the score's name.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 1.9), dpi=110, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    for k, trace in enumerate(traces):
        label = f"seed {k}" if len(traces) > 1 else None
        axes.plot(range(1, len(trace) + 1), trace, color=_SEEDS[k % len(_SEEDS)], linewidth=1.4, label=label)
    axes.set_xlim(0, steps)
    axes.set_xlabel("step", color=_INK, fontsize=8)
    axes.set_ylabel(what, color=_INK, fontsize=8)
    axes.grid(color=_FAINT, alpha=0.25)
    axes.tick_params(colors=_INK, labelsize=7.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(traces) > 1:
        axes.legend(fontsize=7, frameon=False, ncols=4, loc="upper left", columnspacing=1, handlelength=1.2)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()
