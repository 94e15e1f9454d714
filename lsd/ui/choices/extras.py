"""What only the choice of the method has: whether it beats blurred noise, and whether it can be trusted. As HTML."""

from collections.abc import Mapping, Sequence

import numpy as np

from lsd.ui.choices import plot
from lsd.ui.choices.html import escape, picture, table
from lsd.ui.choices.plot import NARROW, WIDE
from lsd.ui.choices.texts import name, percent, share, side, unbroken

_SIDES = {1: ("lsd-c-up", "▲"), 0: ("lsd-c-same", "●"), -1: ("lsd-c-down", "▼")}
_TRUST = {
    "impossible": (
        "impossible",
        "share of the map in the one cell that the output can see; 1 is right, chance is 0.25",
    ),
    "sensitivity": ("sensitivity", "how far faint noise on the picture moves the map; low is stable"),
    "edges": ("edges", "likeness to the picture’s edges, which no network drew; 0 is none"),
}


def extras(summary: Mapping, factor: str) -> str:
    """What only the choice of the method has: whether it beats blurred noise, and whether it can be trusted."""
    return _against_blurred(summary) + _trust(summary) if factor == "method" else ""


def _against_blurred(summary: Mapping) -> str:
    told = summary["against_blurred"]
    letters = {model: chr(ord("a") + i) for i, model in enumerate(summary["models"])}
    metrics = [m for m in summary["metrics"] if any(m["name"] in own for own in told.values())]
    rows = []
    for method, own in told.items():
        cells = []
        for metric in metrics:
            chips = "".join(
                _chip(letters[model], model, figure) for model, figure in sorted(own.get(metric["name"], {}).items())
            )
            cells.append(f"<td>{chips or '–'}</td>")
        rows.append(f'<tr><th scope="row">{escape(name("method", method))}</th>{"".join(cells)}</tr>')
    heads = "".join(f"<th>{escape(unbroken(m['title']))}</th>" for m in metrics)
    legend = " · ".join(f"<b>{letter}</b> {escape(model)}" for model, letter in letters.items())
    return (
        "<section class=lsd-c-part><h3>Does it beat blurred noise?</h3>"
        '<p class="lsd-note">The share of pictures on which the method scores better than random blobs that know neither '
        "the picture nor the network. ▲ surely better: the whole interval lies above 50%; ● it includes 50%; "
        f"▼ surely worse.</p><p class=lsd-note>{legend}</p>{table(f'<th></th>{heads}', rows)}</section>"
    )


def _chip(letter: str, model: str, figure: Sequence[float]) -> str:
    css, sign = _SIDES[side(figure)]
    return (
        f'<span class="lsd-c-chip {css}" title="{escape(model)}: {share(figure)}"><i>{letter}</i> {sign} '
        f"{100 * figure[0]:.0f}</span>"
    )


def _trust(summary: Mapping) -> str:
    told = summary["trust"]
    if not told:
        return ""
    curves = {name("method", method): _curves(own) for method, own in told.items()}
    curves = {title: own for title, own in curves.items() if own}
    alt = "Likeness of each method’s map to itself, by strength, after the classifier is randomized and after all is: "
    alt += "; ".join(f"{title} {own['strength'][0]:.2f} and {own['strength'][-1]:.2f}" for title, own in curves.items())
    pictures = "".join(
        f'<div class="{css}">{picture(plot.randomization(curves, width=width), width, alt)}</div>'
        for css, width in (("lsd-c-wide", WIDE), ("lsd-c-narrow", NARROW))
    )
    rows = []
    for method, own in told.items():
        cells = "".join(_over_models(own.get(measure, {})) for measure in _TRUST)
        rows.append(f'<tr><th scope="row">{escape(name("method", method))}</th>{cells}</tr>')
    heads = "".join(f"<th>{title}<small>{escape(what)}</small></th>" for title, what in _TRUST.values())
    return (
        "<section class=lsd-c-part><h3>Trust: is it about what was learned?</h3>"
        '<p class="lsd-note">The network’s weights are drawn anew, first the classifier’s, then layer by layer down to the '
        "picture. A map of what was learned must change, so its likeness to the original map (rank correlation) must fall "
        "to 0. A line that stays up shows a method that draws the picture, or the architecture, instead.</p>"
        f"{pictures}<h4>Three more tests</h4>"
        '<p class="lsd-note">Means over models; in brackets, the lowest and the highest of them.</p>'
        f"{table(f'<th></th>{heads}', rows, css='lsd-c-trust')}{_completeness(told)}</section>"
    )


def _curves(own: Mapping) -> dict[str, list[float]]:
    """Likeness after each stage, the mean over models: by strength, and with its sign."""
    found = {}
    for what, key in (("strength", "rank_abs"), ("with sign", "rank_signed")):
        stages = sorted(int(name.partition("/")[2]) for name in own if name.startswith(f"{key}/"))
        if stages:
            found[what] = [float(np.mean(list(own[f"{key}/{stage}"].values()))) for stage in stages]
    return found if "strength" in found else {}


def _over_models(by_model: Mapping[str, float]) -> str:
    if not by_model:
        return "<td>–</td>"
    values = list(by_model.values())
    words = ", ".join(f"{model} {value:.2f}" for model, value in by_model.items())
    spread = f"<small>({_short(min(values))} to {_short(max(values))})</small>" if len(values) > 1 else ""
    return f'<td title="{escape(words)}">{_short(float(np.mean(values)))}{spread}</td>'


def _short(value: float) -> str:
    return f"{value + 0:.2f}".replace("-0.00", "0.00").replace("-", "−")


def _completeness(told: Mapping) -> str:
    """What integrated gradients leave out, by their steps."""
    own = told.get("integrated_gradients", {})
    steps = sorted(int(name.partition("/")[2]) for name in own if name.startswith("completeness/"))
    if not steps:
        return ""
    missed = ", ".join(f"{percent(np.mean(list(own[f'completeness/{n}'].values())))} at {n}" for n in steps)
    return (
        "<p>Integrated gradients promise shares that add up to the change of the output. They miss it by "
        f"{missed} steps.</p>"
    )
