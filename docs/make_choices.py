"""Write docs/choices.md from the figures of the saliency study that ship: `python -m docs.make_choices`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lsd import markdown
from lsd.evaluation.choices import CHOICES, summary
from lsd.evaluation.variants import FACTORS
from lsd.ui.choices import texts as choices_texts

PAGE = Path(__file__).parent / "choices.md"

INTRO = """# Every default of a saliency map, and why

<!-- Made by `python -m docs.make_choices` from lsd/evaluation/choices.json: change these, not the page. -->

The principle of a saliency map is simple: differentiate the output by the pixels. The details are where it gets hard. This
page holds each choice against its alternatives, by measurements and not by taste; the page's **Evidence** tab shows the same
with plots, and on a picture of yours.

`python -m lsd.evaluation saliency --models resnet50.tf_uint8_in1k vit_tiny_patch16_224.augreg_in1k
mobilenetv2_100.tflite_qat_in1k --images DIR --output DIR --summary lsd/evaluation/choices.json` makes all figures: photos of
ImageNet that all three networks get right, grids of those that they are sure of, and drawn pictures with exact masks through
three demo networks. It can be interrupted and goes on where it was; more pictures can be added.

## How it was judged

- **One choice at a time**, all others at their defaults. What concerns every method was tried on the default method and on
  the plain gradient, and both count alike; colour channels and signs on the gradient, which has them.
- **Wins.** A level is held against the default on the same pictures: in which share of them does it score better? Ties count
  half. Shares are averaged over networks and methods, then over metrics. Intervals are 95% bootstraps over pictures, all
  networks, methods and metrics of a picture drawn together, and all cells of a grid.
- **Noise drawn alike.** Blurring raises some scores of pure noise. Where levels differ in how the map is drawn, the score of
  noise, drawn in the same way, is taken off first.
- **The rule.** A default stays unless another level, which all networks can have at the cost of a few passes, wins more than half
  of the time with the whole interval above 50%, widened for the number of levels (Bonferroni). Otherwise it changes.
- **Controls.** A Gaussian in the middle, the picture's edges, noise, and blurred noise are scored with everything else.

**Chosen and judged on different photos.** Methods and defaults were chosen on photos whose class is a multiple of 5
(`--choosing`); everything below is measured on the others.

[metrics.md](metrics.md) says how each score is computed, and where other libraries compute it differently;
[rivals.md](rivals.md) what the rivals are that were added later (`--beside docs/saliency_study.parquet --methods …`);
[believe.md](believe.md) what all this means for somebody who looks at a map.
"""


def _figure(value: Sequence[float] | None) -> str:
    return "–" if value is None else f"{value[0]:.3f} ± {(value[2] - value[1]) / 2:.3f}"


def _scores(told: Mapping, metrics: Sequence[Mapping], factor: str, figures: Mapping) -> Iterator[str]:
    """A table of levels × metrics, the default in bold, controls in italics."""
    heads = [f"{m['title']} {'↑' if m['better'] == 'higher' else '↓'}" for m in metrics]
    bases = FACTORS[factor].told_apart
    own_wins = [f"on {choices_texts.name('method', base)}" for base in bases]

    def shown(own: Mapping) -> list[str]:
        return [_figure(own[m["name"]]["pooled"] if m["name"] in own else None) for m in metrics]

    rows = []
    for level, own in told["levels"].items():
        name = choices_texts.name(factor, level)
        against = told["against"].get(level, {"pooled": None, "bases": {}})
        wins = [against["pooled"], *(against["bases"].get(base) for base in bases)]
        mark = f"**{name}**" if level == told["default"] else name
        rows.append([mark, *(choices_texts.share(one) if one else "" for one in wins), *shown(own)])
    if factor == "method":
        rows += [[f"*{control}*", "", *shown(own)] for control, own in figures["controls"].items()]
    yield from markdown.table(["", "wins against the default", *own_wins, *heads], rows)
    if bases:
        yield f"\nScores are those of {choices_texts.name('method', bases[0])}."


def _blurred(figures: Mapping) -> Iterator[str]:
    """In how many (metric, network) pairs each method beats blurred noise, is not told apart from it, or loses."""
    yield "### Against blurred noise\n"
    yield "Of all pairs of metric and network, how many a method wins against noise in blobs, with the whole interval.\n"
    titles = {m["name"]: m["title"] for m in figures["metrics"]}
    rows = []
    for method, by_metric in figures["against_blurred"].items():
        pairs = [
            (titles[m], model, choices_texts.side(f)) for m, models in by_metric.items() for model, f in models.items()
        ]
        counts = [str(sum(side == wanted for *_, side in pairs)) for wanted in (1, 0, -1)]
        failed = sorted({f"{title} ({model.partition('.')[0]})" for title, model, side in pairs if side < 1})
        shown = "; ".join(failed) if len(failed) <= 4 else f"{len(failed)} pairs"
        rows.append([choices_texts.name("method", method), *counts, shown])
    yield from markdown.table(["", "wins", "undecided", "loses", "where it does not win"], rows)
    yield ""


def _by_metric(told: Mapping, metrics: Sequence[Mapping]) -> Iterator[str]:
    """On which metrics each method beats the default, is not told apart from it, or loses, over all networks."""
    yield "### Metric by metric\n"
    yield "On how many metrics a method beats the default, with the whole interval, and on which.\n"
    titles = {m["name"]: m["title"] for m in metrics}
    rows = []
    for level, own in told["against"].items():
        if own["metrics"]:
            sides = [choices_texts.side(figure) for figure in own["metrics"].values()]
            won = [
                f"{titles[m]} {choices_texts.share(f)}" for m, f in own["metrics"].items() if choices_texts.side(f) > 0
            ]
            rows.append(
                [choices_texts.name("method", level), *(str(sides.count(one)) for one in (1, 0, -1)), "; ".join(won)]
            )
    yield from markdown.table(["", "wins", "undecided", "loses", "where it wins"], rows)
    yield ""


def _grid(figures: Mapping, metrics: Sequence[Mapping]) -> Iterator[str]:
    shown = [m for m in metrics if any(m["name"] in own for own in figures["grid_wins"].values())]
    yield "## How often each default wins\n"
    yield (
        "Output, sign, channels, times the picture and smoothing, all varied together on the plain gradient, which has all of "
        "them: the share of networks and settings of the others in which the default has the best mean score of its levels. "
        "Here smoothing is not held against noise.\n"
    )
    rows = (
        [
            CHOICES[factor].title, f"{own['chance']:.0%}",
            *(f"{own[m['name']]:.0%}" if m["name"] in own else "–" for m in shown),
        ]
        for factor, own in figures["grid_wins"].items()
    )  # fmt: skip
    yield from markdown.table(["", "chance", *(m["title"] for m in shown)], rows)
    yield ""


def _seconds(figures: Mapping) -> str:
    parts = [
        f"{part} {sum(models.values()) / 60:.0f} min" for part, models in sorted(figures["seconds"].items()) if models
    ]
    total = sum(sum(models.values()) for models in figures["seconds"].values()) / 60
    return (
        f"## What it cost\n\nOne process's minutes, two side by side on two cores with other work beside them: {', '.join(parts)}; "
        f"{total:.0f} min together.\n"
    )


def page(figures: Mapping) -> str:
    """docs/choices.md as Markdown."""
    metrics = figures["metrics"]
    lines = [
        INTRO,
        f"Here: {choices_texts.extent(figures)} {choices_texts.standing(figures)}. {choices_texts.moved()}\n",
    ]
    for factor, choice in CHOICES.items():
        told = figures["factors"][factor]
        lines += [
            f"## {choice.title}\n",
            f"*{choice.question}* {choice.meaning}\n",
            f"**{choices_texts.headline(factor, told)}** {choices_texts.verdict(factor, told)} {choices_texts.tried(factor)}\n",
            *_scores(told, metrics, factor, figures),
            "",
        ]
        if choice.aside:
            lines.append(f"{choice.aside}\n")
        if factor == "method":
            lines += [*_by_metric(told, metrics), *_blurred(figures)]
    lines += [*_grid(figures, metrics), _seconds(figures)]
    return "\n".join(lines).replace("\u00a0", " ")


if __name__ == "__main__":
    PAGE.write_text(page(summary()), "utf-8")
