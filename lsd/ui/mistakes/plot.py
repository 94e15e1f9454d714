"""What is left without some pixels, as an SVG in the page's own colours: two panels, one under the other on a phone."""

from collections.abc import Iterable
from math import sqrt

import numpy as np

from lsd.evaluation.probe import ProbeResult
from lsd.ui.shared.markup import escape

_WIDTH, _HEIGHT = 420, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 408, 30, 208  # the edges of what is plotted
_TICKS = (0, 0.5, 2, 5, 10, 20, 30, 50)  # per cent
_LINES = {"the map": "map", "random pixels": "pixels", "random blobs": "blobs"}
_LEGEND = {
    "map": "most salient pixels", "pixels": "random pixels (mean, range)", "blobs": "random blobs (mean, range)",
    "slider": "pixels removed now", "flip": "the answer changes",
}  # fmt: skip


def probe_plot(result: ProbeResult, names: tuple[str, str], fraction: float) -> str:
    """Probability against the share of the pixels removed, one panel for each of the two classes watched.

    Args:
        result: of `probe` for two classes.
        names: of these classes, for the headings.
        fraction: the share that is shown on the page, marked by a line.
    """
    panels = "".join(_panel(result, k, name, fraction) for k, name in enumerate(names))
    shown = _LEGEND if result.flip_fraction is not None else {k: v for k, v in _LEGEND.items() if k != "flip"}
    legend = "".join(f'<li class="lsd-m-{kind}">{words}</li>' for kind, words in shown.items())
    return f'<div class="lsd-m-plot">{panels}<ul>{legend}</ul></div>'


def _panel(result: ProbeResult, k: int, name: str, fraction: float) -> str:
    """The lines of class `k`, from the whole picture on."""
    shares = [0, *result.fractions]
    start = result.before[k : k + 1]
    parts = [_axes(max(shares))]
    for kind, control in result.controls.items():
        low, mean, high = (np.concatenate([start, part[:, k]]) for part in (control.low, control.mean, control.high))
        band = [*_points(shares, high), *reversed(_points(shares, low))]
        parts.append(f'<polygon class="lsd-m-{_LINES[kind]}" points="{_joined(band)}"/>')
        parts.append(f'<polyline class="lsd-m-{_LINES[kind]}" points="{_joined(_points(shares, mean))}"/>')
    after = _points(shares, np.concatenate([start, result.probability[:, k]]))
    parts.append(f'<polyline class="lsd-m-map" points="{_joined(after)}"/>')
    parts += [f'<circle class="lsd-m-map" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in after]
    parts.append(_upright("slider", fraction, max(shares)))
    if result.flip_fraction is not None:
        parts.append(_upright("flip", result.flip_fraction, max(shares)))
    words = f"Probability of {name} against the share of pixels removed"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(words)}">'
        f'<text class="lsd-m-heading" x="{_LEFT}" y="18">{escape(name)}</text>{"".join(parts)}</svg>'
    )


def _x(share: float, most: float) -> float:
    """The root spreads the first few per cent, where the answer changes, and keeps the rest in view."""
    return _LEFT + (_RIGHT - _LEFT) * sqrt(share / most)


def _y(probability: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * probability


def _points(shares: list[float], probabilities: Iterable[float]) -> list[tuple[float, float]]:
    return [(_x(share, max(shares)), _y(p)) for share, p in zip(shares, probabilities, strict=True)]


def _joined(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _upright(kind: str, share: float, most: float) -> str:
    x = _x(share, most)
    return f'<line class="lsd-m-{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_BOTTOM}"/>'


def _axes(most: float) -> str:
    """Grid lines with their numbers."""
    parts = []
    for tick in (tick for tick in _TICKS if tick <= 100 * most):
        x = _x(tick / 100, most)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{_BOTTOM + 15}" text-anchor="middle">{tick:g}</text>')
    for probability in (0, 0.5, 1):
        y = _y(probability)
        parts.append(f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{probability:g}</text>')
    middle = (_TOP + _BOTTOM) / 2
    parts.append(f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">pixels removed, %</text>')
    parts.append(
        f'<text x="11" y="{middle}" text-anchor="middle" transform="rotate(-90 11 {middle})">probability</text>'
    )
    return f'<g class="lsd-m-axes">{"".join(parts)}</g>'
