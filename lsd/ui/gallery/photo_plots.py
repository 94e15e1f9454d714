"""Where a picture stands among photos, as SVGs in the page's own colours: by the unit's answer, and layer by layer."""

from collections.abc import Sequence

from lsd.evaluation.trust_path import Step
from lsd.ui.gallery.plot import ticks
from lsd.ui.shared.markup import escape

_WIDTH, _HEIGHT = 460, 150
_LEFT, _RIGHT, _TOP = 46, _WIDTH - 12, 22
_NAMES = 6  # layers that are named below the plot, as many as have room


def number(value: float) -> str:
    """Three digits, with a minus as texts have it."""
    return f"{value:.3g}".replace("-", "−")


def answers_plot(quantiles: Sequence[float], value: float, label: str) -> str:
    """The share of photos that a unit answers less to than to some value, and the picture's own place; "" if it answers all alike.

    Args:
        quantiles: of its answers to the photos, evenly spaced from the least to the largest.
        value: its answer to the picture.
        label: what the plot shows, as HTML-safe text.
    """
    if len(quantiles) < 2 or quantiles[0] == quantiles[-1]:
        return ""
    low, high = min(quantiles[0], value), max(quantiles[-1], value)
    room = (high - low) * 0.03
    low, high, floor = low - room, high + room, _HEIGHT - 34

    def x(answer: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (answer - low) / (high - low)

    def y(share: float) -> float:
        return floor - (floor - _TOP) * share

    line = "L".join(f"{x(answer):.1f} {y(i / (len(quantiles) - 1)):.1f}" for i, answer in enumerate(quantiles))
    grid = "".join(_level(y(share), f"{share:.0%}") for share in (0, 0.5, 1)) + "".join(
        f'<text x="{x(tick):.1f}" y="{floor + 15}" text-anchor="middle">{number(tick)}</text>'
        for tick in ticks(low, high)
    )
    anchor = "end" if x(value) > _WIDTH / 2 else "start"
    mark = (
        f'<line x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{_TOP - 6}" y2="{floor}" class="own"/>'
        f'<text x="{x(value) + (-5 if anchor == "end" else 5):.1f}" y="{_TOP - 9}" text-anchor="{anchor}" class="own">'
        "this picture</text>"
    )
    axis = f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">the unit’s answer</text>'
    return _svg(f'{grid}<path d="M{line}"/>{mark}{axis}', label)


def path_plot(steps: Sequence[Step], label: str) -> str:
    """Layer by layer how much a picture is like its unit's exemplars, from other photos (0) to them (1); "" if nothing tells.

    Args:
        label: what the plot shows, as HTML-safe text.
    """
    known = [(i, step) for i, step in enumerate(steps) if step.likeness is not None]
    if not known:
        return ""
    floor = _HEIGHT - 34

    def x(place: int) -> float:
        return _LEFT + 14 + (_RIGHT - _LEFT - 28) * place / max(len(steps) - 1, 1)

    def y(likeness: float) -> float:
        return floor - (floor - _TOP) * min(max(likeness, 0), 1)

    grid = _level(y(1), "1") + _level(y(0.5), "½") + _level(y(0), "0")
    grid += f'<text x="{_LEFT}" y="{_TOP - 7}">as these photos are like each other</text>'
    grid += f'<text x="{_RIGHT}" y="{floor - 5}" text-anchor="end">as any photo is like them</text>'
    every = -(-len(steps) // _NAMES)
    names = "".join(
        f'<text x="{x(i):.1f}" y="{floor + 15}" text-anchor="middle">{escape(_short(step.layer))}</text>'
        for i, step in enumerate(steps)
        if i % every == 0
    )
    line = "L".join(f"{x(i):.1f} {y(step.likeness):.1f}" for i, step in known)
    dots = "".join(
        _dot(
            x(i),
            y((step.next - step.apart) / (step.alike - step.apart)),
            f"{step.layer}: the photos that come next",
            "next",
        )
        + _dot(x(i), y(step.likeness), f"{step.layer}: {step.likeness:.2f}")
        for i, step in known
    )
    axis = (
        f'<text x="{_LEFT}" y="{_HEIGHT - 4}">input</text>'
        f'<text x="{_RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">the unit</text>'
    )
    return _svg(f'{grid}<path d="M{line}"/>{dots}{names}{axis}', label)


def _dot(x: float, y: float, told: str, kind: str = "own") -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" class="{kind}"><title>{escape(told)}</title></circle>'


def _short(layer: str) -> str:
    """What fits below a plot: the end of a name."""
    return layer if len(layer) <= 10 else f"…{layer[-9:]}"


def _level(y: float, text: str) -> str:
    return (
        f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="g"/>'
        f'<text x="{_LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{text}</text>'
    )


def _svg(content: str, label: str) -> str:
    return f'<svg class="lsd-g-plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{content}</svg>'
