"""The tab “Evidence” in words: what the study says of each default, in sentences. Figures are [mean, low, high, count]."""

from collections.abc import Mapping, Sequence

from lsd.evaluation.choices import CHOICES, MOVED, passes
from lsd.evaluation.variants import FACTORS

_UNBROKEN = "\u00a0"


def name(factor: str, level: str) -> str:
    """What a level is called on the page."""
    return CHOICES[factor].levels.get(level, level)


def percent(value: float) -> str:
    """ "68%"."""
    return f"{value:.0%}"


def unbroken(title: str) -> str:
    """A metric's title that is not broken within "μ-fidelity" and "2 × 2", where it heads a narrow column."""
    return title.replace("-", "\u2011").replace(" × ", f"{_UNBROKEN}×{_UNBROKEN}")


def share(figure: Sequence[float]) -> str:
    """ "68% [52–82]"."""
    mean, low, high = (100 * value for value in figure[:3])
    return f"{mean:.0f}% [{low:.0f}–{high:.0f}]"


def side(figure: Sequence[float]) -> int:
    """1 where the whole interval lies above one half, -1 where it lies below, 0 where nobody knows."""
    return (figure[1] > 0.5) - (figure[2] < 0.5)


def mark(told: Mapping) -> str:
    """A sign before a factor's name: its default stays, or something beats it."""
    return "→" if told["beaten_by"] else "✓"


def label(factor: str, told: Mapping) -> str:
    """ "✓ Sign: strength"."""
    return f"{mark(told)} {CHOICES[factor].title}: {name(factor, told['default'])}"


def tried(factor: str) -> str:
    """On which methods the levels were tried, in a sentence; "" where the levels are the methods."""
    bases = [name("method", base) for base in FACTORS[factor].bases]
    return f"Tried on {' and on '.join(bases)}{', which count alike' * (len(bases) > 1)}." if bases else ""


def headline(factor: str, told: Mapping) -> str:
    """The verdict in one line."""
    default, beaten = name(factor, told["default"]), told["beaten_by"]
    return f"{default} is beaten by {name(factor, beaten)}." if beaten else f"{default} stays the default."


def verdict(factor: str, told: Mapping) -> str:
    """How it was decided: by which level, how surely, and at what cost; and who won but cannot take its place."""
    scored = {level: own for level, own in told["against"].items() if own["pooled"]}
    rivals = {level: own["pooled"] for level, own in scored.items() if own["everywhere"] and not own["dear"]}
    dear = [level for level, own in scored.items() if own["everywhere"] and own["dear"] and side(own["pooled"]) > 0]
    partial = [level for level, own in scored.items() if not own["everywhere"] and side(own["pooled"]) > 0]
    sentences = []
    if beaten := told["beaten_by"]:
        sentences.append(_beaten(factor, told["default"], beaten, rivals))
    elif rivals:
        sentences.append(_closest(factor, told["default"], max(rivals, key=lambda level: rivals[level][1]), rivals))
    else:
        sentences.append("No other level is to be had in one pass on every model.")
    if dear:
        won = ", ".join(f"{_priced(factor, level)} in {share(scored[level]['pooled'])}" for level in dear)
        sentences.append(f"Better, but slow, and so offered and not the first answer: {won}.")
    if partial:
        won = ", ".join(f"{name(factor, level)} in {share(scored[level]['pooled'])}" for level in partial)
        sentences.append(f"Better than the default, but not defined for every model and so no candidate: {won}.")
    return " ".join(sentences)


def _beaten(factor: str, default: str, beaten: str, rivals: Mapping) -> str:
    told = f"That one scores better in {share(rivals[beaten])} of the comparisons{_cost(factor, beaten, default)}."
    others = [level for level, figure in rivals.items() if level != beaten and side(figure) > 0]
    if others:
        told += f" So do {', '.join(f'{name(factor, level)} in {share(rivals[level])}' for level in others)}."
    return told


def _closest(factor: str, default: str, level: str, rivals: Mapping) -> str:
    figure = rivals[level]
    told = f"The closest rival is {name(factor, level)}: better in {share(figure)} of the comparisons"
    told += _cost(factor, level, default)
    if tuple(figure[1:3]) == (0.5, 0.5):
        return told + ", which means that they score alike."
    if side(figure) < 0:
        return told + ", so the default is better than all of them."
    return told + ". The interval includes 50%, so that may be chance."


def _cost(factor: str, level: str, default: str) -> str:
    """ ", at 32 passes of the network instead of 1"; nothing where they cost the same."""
    here, there = passes(factor, level), passes(factor, default)
    plural = "es" if here > 1 else ""
    return "" if here == there else f", at {here} pass{plural} of the network instead of {there}"


def _priced(factor: str, level: str) -> str:
    """ "SmoothGrad (32 passes)"."""
    count = passes(factor, level)
    return name(factor, level) + (f" ({count} passes)" if count > 1 else "")


def standing(summary: Mapping) -> str:
    """How many of the defaults stay."""
    told = summary["factors"].values()
    kept = sum(not one["beaten_by"] for one in told)
    return f"{kept} of {len(told)} defaults stay"


def extent(summary: Mapping) -> str:
    """How many metrics, models and pictures."""
    metrics, models = summary["metrics"], summary["models"]
    most = max((summary["pictures"].get(metric["name"], 0) for metric in metrics), default=0)
    return (
        f"{_count(len(metrics), 'metric')}, {_count(len(models), 'model')} ({', '.join(models)}), up to "
        f"{_count(most, 'picture')} a metric and model."
    )


def moved() -> str:
    """Which defaults are not those around which the other choices were measured; "" where all are."""
    if not MOVED:
        return ""
    told = ", ".join(
        f"{CHOICES[factor].title.lower()} from {name(factor, old)} to {name(factor, FACTORS[factor].default)}"
        for factor, old in MOVED.items()
    )
    return (
        f"These figures have moved {_count(len(MOVED), 'default')}: {told}. Each is held against its rivals where it is now; "
        "all other choices were measured while it was where it had been."
    )


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'s' * (number != 1)}"


def plot_words(factor: str, told: Mapping) -> str:
    """What the plot of wins shows, for those who do not see it."""
    default = name(factor, told["default"])
    won = [
        f"{name(factor, level)} {share(own['pooled'])}" if own["pooled"] else f"{name(factor, level)} not scored"
        for level, own in told["against"].items()
    ]
    return f"How often each level scores better than {default}, over all metrics: {'; '.join(won)}."
