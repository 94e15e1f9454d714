"""Every setting of a recipe as the page offers it: what it does, and why its default is what it is. No Gradio here.

Numbers are typed rather than dragged: a slider rounds to its steps, and a rounded setting is another recipe.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lsd.errors import UndefinedError
from lsd.features import parameterizations, transforms
from lsd.features.recipes import LEARNING_RATES, OPTIMIZERS, OUTPUTS, Recipe


@dataclass(frozen=True)
class Knob:
    """One control.

    Attributes:
        path: the setting's name, as `recipes.changed` and the command line take it.
        info: what it does, and why so.
        kind: "number", "whole", "check", "text", "json", or the choices.
        part: which of a pair's two numbers; None for settings that are no pairs.
        label: on the page; by default the end of the path.
    """

    path: str
    info: str
    kind: str | tuple[str, ...] = "number"
    part: int | None = None
    label: str = ""

    @property
    def key(self) -> str:
        """Its name among the page's controls."""
        return self.path if self.part is None else f"{self.path}/{self.part}"

    @property
    def name(self) -> str:
        """What it is called on the page."""
        return self.label or self.path.rpartition(".")[2].replace("_", " ")


GROUPS: dict[str, tuple[Knob, ...]] = {
    "What is maximized, and on what": (
        Knob("output", "What a plain class means. A logit alone can rise without the class gaining; log-odds say what the "
             "probability says and never fade; a probability stops pulling once it is near 1.", OUTPUTS),
        Knob("parameterization", "What is optimized: Fourier coefficients (large shapes come first), pixels (every frequency "
             "moves equally fast: noise), or phases alone (maco, with the magnitudes of photos).", parameterizations.KINDS),
        Knob("squash", "How numbers become colours: sigmoid never saturates abruptly, clamp keeps pixels as they are.",
             parameterizations.SQUASHES),
        Knob("decay_power", "Fourier only: how much less high frequencies move. 1 is the fall-off of natural pictures."),
        Knob("sd", "Strength of the noise it starts from; 0 is grey. Small, so that what forms is not the noise."),
        Knob("contrast", "The most that the picture's deviation may be before it is squashed; 0: no bound. Without one the "
             "whites burn in the end."),
    ),
    "The ascent": (
        Knob("optimizer", "adam adapts each number's step; nadam leans on the newest gradient; sgd follows the normalized one.",
             OPTIMIZERS),
        Knob("learning_rate", "Size of a step. Too large: the picture flickers; too small: it stays unfinished."),
        Knob("rate_power", "A shorter ascent takes larger steps: times (128 / steps) to this power; 0: the same."),
        Knob("betas", "How long the optimizer remembers the direction.", part=0, label="beta 1"),
        Knob("betas", "How long it remembers the gradient's size.", part=1, label="beta 2"),
        Knob("schedule", "Of the learning rate: constant, or down to 0 so that the last steps refine.", LEARNING_RATES),
        Knob("warmup", "Share of the steps in which the learning rate rises from 0."),
        Knob("stages", "Coarse to fine: [share of the steps, side as a fraction]; the last side is 1. A third number shows the "
             "network a smaller picture as well.", "json"),
        Knob("redirect_steps", "For so many first steps, a picture that no gradient reaches gets it past closed ReLUs. Lucid "
             "does it for 16; units deep in a network need more. Of no effect beside a leak, which opens them by itself.", "whole"),
        Knob("tolerance", "Stop early once the score rises by less than this share over “patience” steps; 0 never, so that "
             "pictures of one recipe have had the same steps."),
        Knob("patience", "How many steps the score may rest before that.", "whole"),
    ),
    "Gradient: what the backward pass lets through": (
        Knob("gradient.branch", "Share that passes residual branches; the rest of the weight is on shortcuts, which networks "
             "have in common. 1 is the exact gradient."),
        Knob("gradient.leak", "Of what ReLU, GELU and the like hold back, the share that passes. 0 is the exact gradient."),
    ),
    "Views: what the network is shown at each step": (
        Knob("transforms.views", "Views a step. More make a steadier gradient, and cost in proportion.", "whole"),
        Knob("transforms.shift", "Shift up to ± this fraction of the side. The cheapest cure for noise: what works at one "
             "pixel only is lost."),
        Knob("transforms.rotate", "Turn up to ± so many degrees."),
        Knob("transforms.zoom", "Below 1 a view shows the picture whole, smaller.", part=0, label="zoom, least"),
        Knob("transforms.zoom", "Above 1 a view is a crop, enlarged.", part=1, label="zoom, most"),
        Knob("transforms.centre_sd", "Spread of the views' centres, as a fraction of the side; for crops."),
        Knob("transforms.flip", "Mirror half of the views. Off: some units tell left from right.", "check"),
        Knob("transforms.fill", "What lies beyond the edges. grey says nothing; reflect avoids frames around the picture.",
             transforms.FILLS),
        Knob("transforms.noise", "Gaussian noise on each pixel: what is finer than it cannot count."),
        Knob("transforms.blur", "Blur up to this fraction of the side: high frequencies must not matter."),
        Knob("transforms.color_shift", "Colours are moved by up to ± this: the unit must not hang on one tint."),
        Knob("transforms.color_scale", "Contrast of each colour is scaled by up to e^± this."),
        Knob("transforms_end", "What the views have become at the last step, as JSON; null: they stay.", "json",
             label="views at the end"),
    ),
    "Regularizers: what the picture pays for": (
        Knob("tv", "Total variation: differences of neighbouring pixels. Smooth, and in excess flat."),
        Knob("tv_power", "1 keeps edges, 2 blurs them."),
        Knob("l2", "Squared distance from grey: nothing without need."),
        Knob("l1", "Distance from grey: most of the picture exactly grey."),
        Knob("spectral", "Power times squared frequency: against noise alone, shapes stay."),
        Knob("batch_norm", "Distance from the statistics that the network's batch norms remember of its training pictures; "
             "networks without them ignore it."),
        Knob("pixel_decay", "Share by which the numbers shrink towards grey at each step."),
        Knob("blur_every", "Blur the picture itself every so many steps; 0 never.", "whole"),
        Knob("blur", "By this standard deviation, a fraction of the side."),
        Knob("diversity", "Keeps the seeds apart, so that they show different sides of a unit; needs two seeds and a layer."),
        Knob("diversity_layer", "The layer at which they are kept apart.", "text"),
    ),
}  # fmt: skip

KNOBS: tuple[Knob, ...] = tuple(knob for group in GROUPS.values() for knob in group)


def knob_values(recipe: Recipe) -> dict[str, Any]:
    """The recipe's settings as the controls show them, by the knobs' keys."""
    whole = recipe.to_dict()
    values = {}
    for knob in KNOBS:
        value = _at(whole, knob.path)
        if knob.part is not None:
            value = value[knob.part]
        values[knob.key] = json.dumps(value) if knob.kind == "json" else value
    return values


def _at(values: Mapping, path: str):
    table, _, key = path.rpartition(".")
    return values[table][key] if table else values[key]


def differences(base: Recipe, values: Mapping[str, Any]) -> dict[str, str]:
    """Where the controls differ from `base`: setting → value as text, as `recipes.changed` and the command line take it.

    Args:
        values: of all controls, by name; those of the knobs are looked at.

    Raises:
        UndefinedError: an empty number, or JSON that cannot be read.
    """
    pairs: dict[str, list] = {}
    found: dict[str, Any] = {}
    whole = base.to_dict()
    for knob in KNOBS:
        value = _read(knob, values[knob.key])
        if knob.part is None:
            found[knob.path] = value
        else:
            pairs.setdefault(knob.path, [None, None])[knob.part] = value
    return {
        path: value if isinstance(value, str) else json.dumps(value)
        for path, value in (found | pairs).items()
        if value != _at(whole, path)
    }


def _read(knob: Knob, value: Any):
    if knob.kind == "json":
        try:
            return json.loads(value or "null")
        except (TypeError, ValueError):
            raise UndefinedError(f"“{knob.name}” is not valid JSON; choose the recipe again to get its own.") from None
    if knob.kind == "text":
        return str(value or "").strip()
    if knob.kind == "check":
        return bool(value)
    if value is None or value == "":
        raise UndefinedError(f"“{knob.name}” is empty; give a value, or choose the recipe again to get its own.")
    if isinstance(knob.kind, tuple):
        return value
    try:
        return int(value) if knob.kind == "whole" else float(value)
    except (TypeError, ValueError, OverflowError):
        raise UndefinedError(f"“{knob.name}” is a number, not {value!r}.") from None
