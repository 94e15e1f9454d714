"""The tab “Evidence” as HTML: overview, study, and for each choice its verdict, plots and tables. All text is escaped."""

from collections.abc import Callable, Mapping, Sequence

from lsd.evaluation.choices import CHOICES, passes
from lsd.evaluation.variants import FACTORS
from lsd.ui.choices import plot, texts
from lsd.ui.choices.plot import NARROW, WIDE, Panel
from lsd.ui.choices.texts import percent, unbroken
from lsd.ui.shared.evidence import address
from lsd.ui.shared.markup import data_url, escape

_BARRED = {
    " *": "is not defined for some of the models, and so cannot become the default",
    " †": "is slow, and so cannot become the default",
}
_ARROWS = {"higher": ("↑", "higher is better"), "lower": ("↓", "lower is better")}


# ------------------------------------------------------------------------------------------------- overview


def overview(summary: Mapping) -> str:
    """What the tab is, in a sentence, and how many defaults stay."""
    return (
        '<div class="lsd-c-intro"><h2>Why each default is what it is</h2>'
        "<p>Every default of the saliency maps was held against its alternatives, on the same pictures and networks and by "
        f"{len(summary['metrics'])} metrics: here is which won, and how surely.</p>"
        f"<p><b>{escape(texts.standing(summary))}.</b> ✓ the default stays; → something beats it. Choose one to see why.</p></div>"
    )


def about(summary: Mapping) -> str:
    """The rule, the extent of the study, what the metrics are."""
    rule = (
        "<p>A default stays unless another level that every network can have, in one pass, scores better in more than half of all "
        "comparisons, with the whole interval above 50%, widened for the number of levels tried. Where levels differ in "
        "the drawing alone, what random noise gains by being drawn so is taken off first.</p>"
        f'<p class="lsd-note">{escape(texts.extent(summary))} {escape(texts.moved())}</p>'
    )
    return (
        f"<section class=lsd-c-part><h3>About the study</h3>{details('How a default is decided', rule)}"
        f"{details('What the metrics measure', _metrics(summary))}"
        f"{details('How often each default is the best, whatever the other settings', _grid_wins(summary))}</section>"
    )


def _metrics(summary: Mapping) -> str:
    rows = []
    for metric in summary["metrics"]:
        arrow, words = _ARROWS[metric["better"]]
        chance = "depends on the picture" if metric["chance"] is None else f"{metric['chance']:.2g}"
        pictures = summary["pictures"].get(metric["name"], 0)
        rows.append(
            f'<tr><th scope="row">{escape(metric["title"])}</th><td class="lsd-c-words">{escape(metric["what"])}</td>'
            f"<td>{arrow} {words}</td><td>{chance}</td><td>{pictures}</td></tr>"
        )
    return table(
        "<th>metric</th><th class=lsd-c-words>what it is</th><th>better</th><th>chance</th><th>pictures</th>", rows
    )


def _grid_wins(summary: Mapping) -> str:
    told = summary["grid_wins"]
    metrics = [m for m in summary["metrics"] if any(m["name"] in own for own in told.values())]
    rows = []
    for factor, own in told.items():
        cells = []
        for metric in metrics:
            won = own.get(metric["name"])
            css = "" if won is None else ' class="lsd-c-best"' if won > own["chance"] else ""
            cells.append(f"<td{css}>{'–' if won is None else percent(won)}</td>")
        link = f'<a href="{escape(address(factor))}">{escape(CHOICES[factor].title)}</a>'
        rows.append(f'<tr><th scope="row">{link}</th><td>{percent(own["chance"])}</td>{"".join(cells)}</tr>')
    heads = "".join(f"<th>{escape(unbroken(m['title']))}</th>" for m in metrics)
    return (
        '<p class="lsd-note">These choices were also varied all together. Of every combination of the others, the share '
        "in which the default’s mean score is the highest; tinted where that is more than chance.</p>"
        f"{table(f'<th>choice</th><th>chance</th>{heads}', rows)}"
    )


# ------------------------------------------------------------------------------------------------- one choice


def head(summary: Mapping, factor: str) -> str:
    """What the choice means, and the verdict."""
    choice, told = CHOICES[factor], summary["factors"][factor]
    aside = f'<p class="lsd-note">{escape(choice.aside)}</p>' if choice.aside else ""
    css = "lsd-c-beaten" if told["beaten_by"] else "lsd-c-kept"
    return (
        f'<div class="lsd-c-head" data-factor="{escape(factor)}"><h2>{escape(choice.title)}</h2>'
        f'<p class="lsd-c-question">{escape(choice.question)}</p><p>{escape(choice.meaning)}</p>'
        f'<div class="lsd-verdict {css}"><b>{texts.mark(told)} {escape(texts.headline(factor, told))}</b> '
        f"{escape(texts.verdict(factor, told))} {escape(texts.tried(factor))}</div>{aside}</div>"
    )


def scores(summary: Mapping, factor: str) -> str:
    """Plots and tables of the choice."""
    return (
        f"<section class=lsd-c-part><h3>Who beats the default, and how often</h3>{_forest(summary, factor)}</section>"
        f"<section class=lsd-c-part><h3>The scores</h3>{_score_table(summary, factor)}"
        f"{details('The same for each model', _by_model(summary, factor))}</section>"
    )


def _forest(summary: Mapping, factor: str) -> str:
    told = summary["factors"][factor]
    against = told["against"]
    rows = [texts.name(factor, level) + _asterisk(own) for level, own in against.items()]
    pooled = [Panel("All metrics together", [own["pooled"] for own in against.values()])]
    pooled += [
        Panel(f"on {texts.name('method', base)}", [own["bases"].get(base) for own in against.values()])
        for base in FACTORS[factor].told_apart
    ]
    panels = [
        Panel(metric["title"], [own["metrics"].get(metric["name"]) for own in against.values()])
        for metric in summary["metrics"]
        if any(metric["name"] in own["metrics"] for own in against.values())
    ]
    alt = texts.plot_words(factor, told)

    def drawn(chosen: Sequence[Panel], width: int) -> bytes:
        return plot.forest(rows, chosen, width=width)

    marks = {_asterisk(own) for own in against.values()}
    notes = "".join(f" {mark.strip()} {words}." for mark, words in _BARRED.items() if mark in marks)
    return (
        '<p class="lsd-note">Each line is a level held against the default on the same pictures: in which share of them '
        "it scores better (ties count half), with its 95% interval. Right of the middle the level is better, left "
        "of it the default. The first column is the one that decides; its intervals are widened for the number of "
        f'levels.{notes}</p><div class="lsd-c-wide">{picture(drawn([*pooled, *panels], WIDE), WIDE, alt)}</div>'
        f'<div class="lsd-c-narrow">{picture(drawn(pooled, NARROW), NARROW, alt)}'
        f"{details('Each metric by itself', picture(drawn(panels, NARROW), NARROW, alt + ' Then for each metric.'))}</div>"
    )


def _asterisk(own: Mapping) -> str:
    """What marks a level that cannot become the default, however often it wins."""
    return " *" if not own["everywhere"] else " †" if own["dear"] else ""


def _score_table(summary: Mapping, factor: str) -> str:
    noise = summary["noise"].get(factor, {})
    controls = summary["controls"] if factor == "method" else {}
    notes = ["Means over pictures and models, with 95% intervals. ★ is the best of the column; the default is bold."]
    if bases := FACTORS[factor].told_apart:
        notes.append(f"The maps are {texts.name('method', bases[0])}'s.")
    if noise:
        notes.append("Below each score: what noise gets that is drawn alike; ★ goes to who is best above that.")
    if len({figure[3] for own in summary["factors"][factor]["levels"].values() if (figure := _first(own))}) > 1:
        notes.append("Slow levels were run on fewer pictures, so only the wins compare them on the same ones.")
    if controls:
        notes.append("In italics: maps that never saw the network, which any method must beat.")
    rows = _levels(summary, factor, lambda own, metric: own.get(metric, {}).get("pooled"), controls)
    return f'<p class="lsd-note">{" ".join(notes)}</p>{rows}'


def _first(own: Mapping) -> Sequence[float] | None:
    """A level's score by the first metric that it has, which tells of how many pictures it is."""
    return next((one["pooled"] for one in own.values()), None)


def _by_model(summary: Mapping, factor: str) -> str:
    parts = []
    for model in summary["models"]:

        def of(own: Mapping, metric: str, model: str = model) -> Sequence[float] | None:
            return own.get(metric, {}).get("models", {}).get(model)

        parts.append(f"<h4>{escape(model)}</h4>{_levels(summary, factor, of)}")
    return "".join(parts)


def _levels(summary: Mapping, factor: str, of: Callable, controls: Mapping | None = None) -> str:
    """Levels × metrics.

    Args:
        of: (a level's scores, a metric's name) → the figure, or None.
        controls: scores of maps that never saw the network, for rows of their own. None for the table of one model,
            which leaves out what belongs to all of them: how often a level beats the default.
    """
    told, noise = summary["factors"][factor], summary["noise"].get(factor, {})
    levels = told["levels"]
    metrics = [m for m in summary["metrics"] if any(of(own, m["name"]) for own in levels.values())]
    best = {m["name"]: _best(levels, m, of, noise) for m in metrics}
    over_all = controls is not None
    rows = []
    for level, own in levels.items():
        cells = [
            _score(of(own, m["name"]), of(noise.get(level, {}), m["name"]), best=level in best[m["name"]])
            for m in metrics
        ]
        css = ' class="lsd-c-default"' if level == told["default"] else ""
        first = _standing(told, factor, level) if over_all else ""
        rows.append(f'<tr{css}><th scope="row">{escape(texts.name(factor, level))}</th>{first}{"".join(cells)}</tr>')
    for control, own in (controls or {}).items():
        cells = [_score(of(own, m["name"]), None) for m in metrics]
        rows.append(
            f'<tr class="lsd-c-control"><th scope="row">{escape(control)}</th><td>–</td><td>0</td>{"".join(cells)}</tr>'
        )
    first = "<th>better than the default</th><th>passes</th>" if over_all else ""
    return table(f"<th></th>{first}{''.join(_metric_head(m) for m in metrics)}", rows)


def _standing(told: Mapping, factor: str, level: str) -> str:
    wins = told["against"].get(level, {}).get("pooled")
    shown = "default" if level == told["default"] else texts.share(wins) if wins else "–"
    return f"<td>{shown}</td><td>{passes(factor, level)}</td>"


def _metric_head(metric: Mapping) -> str:
    arrow, words = _ARROWS[metric["better"]]
    chance = "" if metric["chance"] is None else f"<small>chance {metric['chance']:.2g}</small>"
    title = f'{escape(unbroken(metric["title"]))}\u00a0<span title="{words}">{arrow}</span>'
    return f'<th title="{escape(metric["what"])}">{title}{chance}</th>'


def _best(levels: Mapping, metric: Mapping, of: Callable, noise: Mapping) -> set[str]:
    """The levels with the best score, above their noise's where there is one; none if all are alike."""
    sign = 1 if metric["better"] == "higher" else -1
    reached = {}
    for level, own in levels.items():
        if figure := of(own, metric["name"]):
            twin = of(noise.get(level, {}), metric["name"])
            reached[level] = round(sign * (figure[0] - (twin[0] if twin else 0)), 3)  # as it is shown
    best = max(reached.values(), default=0)
    winners = {level for level, value in reached.items() if value == best}
    return winners if len(winners) < len(reached) else set()


def _score(figure: Sequence[float] | None, noise: Sequence[float] | None, *, best: bool = False) -> str:
    if figure is None:
        return "<td>–</td>"
    mean, low, high, count = figure
    css, star = (' class="lsd-c-best"', "★\u00a0") if best else ("", "")
    twin = f"<small>noise {_number(noise[0])}</small>" if noise else ""
    return f"<td{css} title='{count:.0f} pictures'>{star}{_number(mean)}<small>[{_number(low)}–{_number(high)}]</small>{twin}</td>"


def _number(value: float) -> str:
    """Three decimals, and no zero with a minus."""
    return f"{value + 0:.3f}".replace("-0.000", "0.000").replace("-", "−")


# ------------------------------------------------------------------------------------------------- pieces


def table(heads: str, rows: Sequence[str], css: str = "") -> str:
    """A table in a box of its own, which scrolls where the page is too narrow for it; reachable by the keyboard."""
    return (
        f'<div class="lsd-c-scroll" tabindex="0"><table class="lsd-c-table {css}"><thead><tr>{heads}</tr></thead><tbody>'
        f"{''.join(rows)}</tbody></table></div>"
    )


def details(title: str, content: str) -> str:
    return f'<details class="lsd-c-details"><summary>{escape(title)}</summary>{content}</details>'


def picture(png: bytes, width: int, alt: str) -> str:
    return f'<img class="lsd-c-plot" src="{data_url("image/png", png)}" width="{width}" alt="{escape(alt)}">'


def reasons(missing: Mapping[str, str], model: str) -> str:
    """The levels that have no map of this model, and why."""
    if not missing:
        return ""
    rows = "".join(f"<li><b>{escape(title)}</b>: {escape(reason)}</li>" for title, reason in missing.items())
    return f'<div class="lsd-c-missing"><p>Not defined for {escape(model)}:</p><ul>{rows}</ul></div>'
