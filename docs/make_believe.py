"""Write docs/believe.md from the figures of the saliency study that ship: `python -m docs.make_believe`."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from lsd import markdown
from lsd.evaluation.choices import summary
from lsd.ui.choices import texts as choices_texts

PAGE = Path(__file__).parent / "believe.md"
SHOWN = (
    "guided_backprop", "deconvnet", "smoothgrad_squared", "gradient", "smoothgrad", "grad_cam", "hires_cam", "grad_cam_plus_plus",
    "finer_cam", "layer_cam", "refine_cam", "libragrad", "attention_rollout", "gradient_rollout", "legrad", "depth_fusion",
)  # fmt: skip

SATURATION = """## A sure network has no probability gradient

∂p/∂x = p (1 − p) ∂(log-odds)/∂x: the same direction, times a number that goes to nothing as the network becomes sure. In
single precision the softmax loses its digits first. `python -m benchmarks.softmax_saturation` holds each gradient against the
exact direction, in double precision, by the cosine (demo networks, drawn pictures):

{table}

The gradient of the log-odds keeps its direction, since no 1 − p is ever formed. So the log-odds are the default.
"""


def _mean(own: Mapping, key: str) -> float | None:
    return sum(own[key].values()) / len(own[key]) if key in own else None


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value + 0:.2f}".replace("-0.00", "0.00").replace("-", "−")


def _forgetting(trust: Mapping) -> Iterator[str]:
    stages = range(6)
    guided, plain, squared = trust["guided_backprop"], trust["gradient"], trust["smoothgrad_squared"]
    yield "## A map of a network that has forgotten everything\n"
    yield (
        "Draw the parameters anew, from the classifier (0) down to the whole network (5): a map that says what was "
        "learned must "
        "become another one. Told is the rank correlation of the maps before and after, as drawn, over the "
        "networks for which a "
        "method is defined; 0 is what one wants. The last column is explained further down; 1 is what one wants there.\n"
    )
    rows = [
        [
            choices_texts.name("method", name),
            *(_number(_mean(trust[name], f"rank_abs/{i}")) for i in stages),
            _number(_mean(trust[name], "impossible")),
        ]
        for name in SHOWN
        if name in trust
    ]
    yield from markdown.table(["method", *(str(i) for i in stages), "in the right cell"], rows)
    yield ""
    yield (
        f"**Guided backpropagation** hardly notices that its network has no classifier any more "
        f"({_number(_mean(guided, 'rank_abs/0'))}), and is still like itself "
        f"({_number(_mean(guided, 'rank_abs/4'))}) when only the first "
        f"layers are as they were. It is sharp because it traces edges (rank correlation with Sobel's filter "
        f"{_number(_mean(guided, 'edges'))}; the plain gradient {_number(_mean(plain, 'edges'))}), not because the "
        f"network looks there. "
        "It scores well in several of the tables of [choices.md](choices.md): scores alone do not show this.\n"
    )
    yield "## The trap of the absolute value\n"
    yield (
        "With their signs, the same gradients before and after the classifier is drawn anew have a rank "
        "correlation of "
        f"{_number(_mean(plain, 'rank_signed/0'))}; their magnitudes one of {_number(_mean(plain, 'rank_abs/0'))}. "
        f"Averages of squares "
        f"(SmoothGrad²) have {_number(_mean(squared, 'rank_abs/0'))}. Where a gradient is large is in good part "
        f"decided by the picture "
        "and by the architecture, whatever the class. Two maps of strength that look alike do not yet say the same "
        "thing: look at the "
        "sign, or at the contrast between two classes.\n"
    )


def _impossible(trust: Mapping) -> Iterator[str]:
    cam, fused, plain = (_mean(trust[name], "impossible") for name in ("grad_cam", "depth_fusion", "gradient"))
    yield "## Grad-CAM points where nothing can come from\n"
    yield (
        "In a network that is built so that a logit hangs on one quarter of the picture and on nothing else, the "
        "share of the map in "
        f"that quarter should be 1. Gradients have {_number(plain)} and depth fusion {_number(fused)} (the smoothing by a pixel "
        f"reaches over the border), Grad-CAM {_number(cam)}: "
        f"chance would be .25. "
        "Its weights are means over all places, so they light up whatever excites the same channels elsewhere. In "
        "ordinary networks "
        "it is right more often than not (see the grids in [choices.md](choices.md)), but a warm spot is no proof "
        "that the output "
        "depends on it.\n"
    )


def _completeness(trust: Mapping) -> Iterator[str]:
    own = trust["integrated_gradients"]
    steps = sorted({int(key.partition("/")[2]) for key in own if key.startswith("completeness/")})
    yield "## Shares that do not add up\n"
    yield (
        "Integrated gradients share out the change of the output between a baseline and the picture, if the "
        "integral is computed well "
        "enough. The part of the change that is missed, by the number of steps:\n"
    )
    models = list(own[f"completeness/{steps[0]}"])
    rows = [[f"`{model}`", *(f"{own[f'completeness/{n}'][model]:.0%}" for n in steps)] for model in models]
    yield from markdown.table(["network", *(f"{n} steps" for n in steps)], rows)
    yield ""
    yield "The gap is told beside each map. Where it is large, take more steps, or do not read the numbers as shares.\n"


def _blur(figures: Mapping) -> Iterator[str]:
    noise = figures["noise"]["blur"]
    levels = [level for level in ("0", "1", "8") if level in noise]
    yield "## Blurring is worth something, even for noise\n"
    yield "Random noise that has never seen a network, under a Gaussian of so many pixels:\n"
    rows = []
    for metric in figures["metrics"]:
        values = [noise[level].get(metric["name"]) for level in levels]
        if all(values):
            arrow = "↑" if metric["better"] == "higher" else "↓"
            rows.append([f"{metric['title']} {arrow}", *(f"{value['pooled'][0]:.3f}" for value in values)])
    yield from markdown.table(["", *(f"{level} px" for level in levels)], rows)
    yield ""
    yield (
        "Whatever a smoothed map gains must be held against this. The study takes it off before a smoothing may "
        "count as better.\n"
    )


def page(figures: Mapping, saturation: str) -> str:
    """docs/believe.md as Markdown; `saturation` is the table of `benchmarks.softmax_saturation`."""
    trust = figures["trust"]
    lines = [
        "# What to believe of a saliency map\n",
        "<!-- Made by `python -m docs.make_believe` from lsd/evaluation/choices.json: change these, not the page. "
        "-->\n",
        "Maps look convincing whether or not they are right. Here is where they mislead, by our own numbers; how "
        "each is computed is "
        "in [metrics.md](metrics.md).\n",
        *_forgetting(trust), *_impossible(trust), SATURATION.format(table=saturation), *_completeness(trust), *_blur(figures),
        "## In short\n",
        "- Hold a map against the same map of another class, and against one of another network.\n"
        "- A sharp map is not a faithful one, and a map that covers the object is not yet one of what the network "
        "used.\n"
        "- Remove what the map points at and see whether the answer changes: the Mistakes tab does, beside "
        "removing as much at random.\n"
        "- Read the numbers beside the map: standard error, completeness gap, agreement with Captum.",
    ]  # fmt: skip
    return "\n".join(lines).replace("\u00a0", " ") + "\n"


if __name__ == "__main__":
    from benchmarks.softmax_saturation import table

    PAGE.write_text(page(summary(), "\n".join(table())), "utf-8")
