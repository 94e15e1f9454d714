"""The score at each step as a small drawing (SVG), in the colours of the page's theme."""

from collections.abc import Sequence

from lsd.ui.shared.markup import escape

_WIDTH, _HEIGHT = 320, 96
_POINTS = 160  # of a line: more are not seen


def score_curve(traces: Sequence[Sequence[float]], steps: int, what: str, alt: str) -> str:
    """One line for each seed, and the range of the scores beside them; "" before the second step.

    Args:
        traces: one a seed, a number a step taken.
        steps: of the whole ascent, so that the axis does not move while the lines grow.
        what: the score's name.
        alt: the same for those who do not see it.
    """
    values = [value for trace in traces for value in trace]
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    if not high > low:  # nothing to draw yet, or numbers that are none
        return ""
    lines = "".join(
        f'<polyline class="lsd-seed{k}" points="{_points(t, steps, low, high)}"/>' for k, t in enumerate(traces)
    )
    return (
        f'<figure class="lsd-curve"><figcaption>{escape(what.capitalize())} at each step</figcaption>'
        f'<span class="lsd-curve-high" aria-hidden="true">{high:.3g}</span>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{escape(alt)}">{lines}</svg>'
        f'<span class="lsd-curve-low" aria-hidden="true">{low:.3g}</span>'
        f'<span class="lsd-curve-end" aria-hidden="true">{steps}</span></figure>'
    )


def _points(trace: Sequence[float], steps: int, low: float, high: float) -> str:
    apart = max(1, len(trace) // _POINTS)
    places = sorted({*range(0, len(trace), apart), *([len(trace) - 1] if trace else [])})
    return " ".join(
        f"{_WIDTH * i / max(steps - 1, 1):.1f},{_HEIGHT - 2 - (_HEIGHT - 4) * (trace[i] - low) / (high - low):.1f}"
        for i in places
    )
