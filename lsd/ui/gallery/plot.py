"""The ascent's scores as an SVG: it is sharp at any width, follows the page's colours, and needs no matplotlib."""

import math
from collections.abc import Sequence

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 460, 150, 46, 20, 10


def trace_plot(trace: Sequence[float | None], steps: int, label: str) -> str:
    """A line of scores over the steps of an ascent, which they are spread over evenly; "" if there are too few.

    Args:
        trace: where no number is, the line has a gap.
        steps: that were taken.
        label: what the plot shows, as HTML-safe text.
    """
    numbers = [value for value in trace if value is not None and math.isfinite(value)]
    if len(numbers) < 2:
        return ""
    low, high = min(numbers), max(numbers)
    room = (high - low) * 0.04 or 1
    low, high = low - room, high + room
    right, floor = _WIDTH - 8, _HEIGHT - _BOTTOM

    def x(step: float) -> float:
        return _LEFT + (right - _LEFT) * step / max(steps, 1)

    def y(value: float) -> float:
        return floor - (floor - _TOP) * (value - low) / (high - low)

    points, pen = [], "M"
    for i, value in enumerate(trace):
        if value is None or not math.isfinite(value):
            pen = "M"
            continue
        points.append(f"{pen}{x(1 + i * (steps - 1) / (len(trace) - 1)):.1f} {y(value):.1f}")
        pen = "L"
    grid = "".join(
        f'<line x1="{_LEFT}" x2="{right}" y1="{y(v):.1f}" y2="{y(v):.1f}" class="g"/>'
        f'<text x="{_LEFT - 5}" y="{y(v) + 3.5:.1f}" text-anchor="end">{v:.3g}</text>'
        for v in ticks(low, high)
    ) + "".join(
        f'<text x="{x(s):.1f}" y="{floor + 15}" text-anchor="middle">{s:g}</text>'
        for s in ticks(0, steps)
        if s <= steps
    )
    return (
        f'<svg class="lsd-g-plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{grid}'
        f'<path d="{"".join(points)}"/></svg>'
    )


def ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers between two others, of which the second is the larger."""
    rough = (high - low) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough * 0.8)
    return [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
