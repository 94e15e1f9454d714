"""Recipes: everything that decides how a picture is made, but for the model, the unit and the seed.

A recipe is plain data: to JSON and back, with a hash by which results are told apart. The named ones follow what others
publish, with their source and with what is different here; all lengths are fractions of the picture's side.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from lsd.errors import LSDError, UndefinedError
from lsd.features import parameterizations
from lsd.features.soften import Softening
from lsd.features.transforms import Transforms

OPTIMIZERS = ("adam", "nadam", "sgd")
LEARNING_RATES = ("constant", "cosine", "linear")
_USUAL_STEPS = 128  # of the recipes made here
OUTPUTS = ("log_odds", "logit", "log_probability", "probability")


class Stage(NamedTuple):
    """A part of the steps: their share of all, the picture's side, and the side of what the network is shown, as fractions."""

    share: float
    side: float
    input: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """How a picture is made.

    Attributes:
        name, about: what people call it, and what it is and where it comes from; neither is part of the hash.
        size: longer side of the picture in pixels, in the proportions of what the model takes; None for its own size.
        steps: of gradient ascent.
        output: what a plain class unit means: "log_odds", "logit", "log_probability" or "probability".
        parameterization, squash, decay_power: see `parameterizations`; the power is for "fourier" alone.
        contrast: the most that a picture's standard deviation may be before it is squashed to [0, 1]; 0 for no bound.
        sd: standard deviation of the noise it starts from, in the parameterization's own numbers; 0 for grey.
        optimizer, learning_rate, betas: "adam", "nadam", or "sgd" on the gradient divided by its norm, picture by picture.
        rate_power: how much faster a shorter ascent goes: the learning rate is multiplied by (128 / steps) ** rate_power.
        schedule: of the learning rate: "constant", or down to 0 as "cosine" or "linear".
        warmup: share of the steps in which the rate rises from 0.
        transforms: what the network is shown; `transforms_end`, if any, what it has become at the last step.
        stages: (share of the steps, side as a fraction of the final one, side of the network's input as a fraction of its
            own), coarse to fine; shares add up to 1, and the third may be left out for 1. Networks that take one size alone,
            and units that have a place, are shown the whole input throughout (see `prepare`). What starts
            from a photo is made at the final side throughout.
        redirect_steps: for at most so many first steps a picture that no gradient reaches gets it past closed ReLUs
            (Lucid: 16 for every picture). With a leak never: what leaks opens them sooner.
        gradient: what the backward pass lets through; see `soften`.
        tv, tv_power, l2, l1, spectral, batch_norm, diversity: weights of the regularizers; `diversity_layer` is where the
            pictures of one unit are kept apart (seeds then depend on each other).
        blur_every, blur: every so many steps the picture is blurred by this standard deviation, a fraction of the side
            (Yosinski et al., 2015); 0 for never.
        pixel_decay: share by which the numbers shrink towards grey at each step.
        tolerance: a picture whose smoothed score rises by less than this share over `patience` steps is finished early;
            0 for never.

    Raises UndefinedError for values that have no meaning.
    """

    name: str = field(default="custom", compare=False)
    about: str = field(default="", compare=False, repr=False)
    size: int | None = None
    steps: int = 512
    output: str = "log_odds"
    parameterization: str = "fourier"
    squash: str = "sigmoid"
    decay_power: float = 1.0
    contrast: float = 0.0
    sd: float = 0.01
    optimizer: str = "adam"
    learning_rate: float = 0.05
    rate_power: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str = "constant"
    warmup: float = 0.0
    transforms: Transforms = field(default_factory=Transforms)
    transforms_end: Transforms | None = None
    stages: tuple[Stage, ...] = (Stage(1.0, 1.0),)
    redirect_steps: int = 48
    gradient: Softening = field(default_factory=Softening)
    tv: float = 0.0
    tv_power: float = 1.0
    l2: float = 0.0
    l1: float = 0.0
    spectral: float = 0.0
    batch_norm: float = 0.0
    diversity: float = 0.0
    diversity_layer: str = ""
    blur_every: int = 0
    blur: float = 0.0
    pixel_decay: float = 0.0
    tolerance: float = 0.0
    patience: int = 64

    def __post_init__(self):
        object.__setattr__(self, "betas", tuple(float(b) for b in self.betas))
        object.__setattr__(self, "stages", tuple(Stage(*map(float, stage)) for stage in self.stages))
        for name, allowed in (
            ("output", OUTPUTS), ("parameterization", parameterizations.KINDS), ("squash", parameterizations.SQUASHES),
            ("optimizer", OPTIMIZERS), ("schedule", LEARNING_RATES),
        ):  # fmt: skip
            if getattr(self, name) not in allowed:
                raise UndefinedError(f"There is no {name} “{getattr(self, name)}”; choose one of {', '.join(allowed)}.")
        for name, low, high in (
            ("size", 16, 2048), ("steps", 1, 100_000), ("learning_rate", 1e-8, 1e4), ("rate_power", 0, 2), ("decay_power", 0, 4),
            ("contrast", 0, 100), ("sd", 0, 100), ("warmup", 0, 1), ("redirect_steps", 0, 1000), ("tv", 0, 1e6), ("tv_power", 1, 4),
            ("l2", 0, 1e6), ("l1", 0, 1e6), ("spectral", 0, 1e6), ("batch_norm", 0, 1e6), ("diversity", 0, 1e6),
            ("blur_every", 0, 100_000), ("blur", 0, 0.5), ("pixel_decay", 0, 1), ("tolerance", 0, 1),
            ("patience", 1, 100_000),
        ):  # fmt: skip
            value = getattr(self, name)
            if name == "size" and value is None:
                continue
            whole = name in ("size", "steps", "redirect_steps", "blur_every", "patience")
            if whole and type(value) is not int:
                raise UndefinedError(f"{name} is a whole number, not {value!r}.")
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise UndefinedError(f"{name} lies between {low:g} and {high:g}, not {value!r}.")
            if not whole:
                object.__setattr__(self, name, float(value))  # 0 and 0.0 are one recipe, with one hash
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UndefinedError(f"betas are two numbers from 0 to below 1, not {self.betas}.")
        for name, value, kinds in (
            ("transforms", self.transforms, Transforms), ("transforms_end", self.transforms_end, Transforms | None),
            ("gradient", self.gradient, Softening), ("name", self.name, str), ("diversity_layer", self.diversity_layer, str),
        ):  # fmt: skip
            if not isinstance(value, kinds):
                raise UndefinedError(f"{name} cannot be {value!r}.")
        if not self.stages or not math.isclose(sum(stage.share for stage in self.stages), 1, abs_tol=1e-6):
            raise UndefinedError("The shares of the stages must add up to 1.")
        if any(s.share <= 0 or not 0.05 <= s.side <= 1 for s in self.stages) or self.stages[-1].side != 1:
            raise UndefinedError("A stage has a share above 0 and a side of 0.05 to 1; the last one's side is 1.")
        if any(not 0.25 <= s.input <= 1 for s in self.stages):
            raise UndefinedError("A stage's input is a fraction of the network's own, 0.25 to 1.")
        if self.diversity and not self.diversity_layer:
            raise UndefinedError("diversity needs a diversity_layer: the layer at which pictures are kept apart.")

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, without `about`."""
        values = json.loads(json.dumps(asdict(self)))
        del values["about"]
        values["stages"] = [stage[:2] if stage[2] == 1 else stage for stage in values["stages"]]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """The inverse of `to_dict`; what is missing takes its default.

        Raises:
            UndefinedError: an unknown key, by its name, or a value that has no meaning.
        """
        return _from_dict(cls, values, "recipe")

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that depend on everything but the name, the same on every machine.

        Settings that came later count only where they change something, so recipes of before keep their hashes.
        """
        values = self.to_dict()
        del values["name"]
        if not self.gradient:
            del values["gradient"]
        for name in ("contrast", "rate_power"):
            if not values[name]:
                del values[name]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]

    def stage_at(self, step: int) -> Stage:
        """The stage of a step, one of `stages`."""
        done = 0.0
        for stage in self.stages:
            done += stage.share
            if step < round(done * self.steps):
                return stage
        return self.stages[-1]

    def rate_at(self, step: int) -> float:
        """The learning rate of a step."""
        highest = self.learning_rate * (_USUAL_STEPS / self.steps) ** self.rate_power
        share = (step + 1) / self.steps
        if self.warmup and share < self.warmup:
            return highest * share / self.warmup
        done = (share - self.warmup) / max(1 - self.warmup, 1e-9)
        falling = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}
        return highest * max(falling[self.schedule], 1e-3)


_TABLES = (
    ("transforms", Transforms, "transform"), ("transforms_end", Transforms, "transform"), ("gradient", Softening, "gradient"),
)  # fmt: skip


def _from_dict(cls, values: Mapping[str, Any], what: str):
    if not isinstance(values, Mapping):
        raise UndefinedError(f"A {what} is a table of names and values, not {values!r}.")
    known = [f.name for f in fields(cls)]
    for key in values:
        if key not in known:
            raise UndefinedError(f"“{key}” is not a setting of a {what}; there are {', '.join(known)}.")
    values = dict(values)
    for key, table, kind in _TABLES:
        if isinstance(values.get(key), Mapping):
            values[key] = _from_dict(table, values[key], kind)
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        if isinstance(error, UndefinedError):
            raise
        raise UndefinedError(f"The {what} holds a value of the wrong kind: {error}.") from error


NONE = Recipe(
    "none", steps=512, parameterization="pixels", sd=0.01, learning_rate=0.05, output="logit",
    about=(
        "Gradient ascent on the pixels and nothing else: the honest baseline, which finds noise that only the "
        "network likes (Simonyan et al., 2014, without their L2 term; sigmoid and Adam as in the others, so that "
        "only regularisation differs)."
    ),
)  # fmt: skip

JITTER = replace(
    NONE, name="jitter", transforms=Transforms(shift=0.07),
    about=(
        "`none`, seen through a shift of up to 7% (16 of 224 pixels): what the simplest transform changes "
        "(Mordvintsev, Olah & Tyka, 2015)."
    ),
)  # fmt: skip

FOURIER = replace(
    JITTER, name="fourier", parameterization="fourier",
    about=(
        "`jitter` in Fourier space with decorrelated colour: what the parameterization changes (Olah et al., "
        "2017)."
    ),
)  # fmt: skip

LUCID = Recipe(
    "lucid", steps=512, parameterization="fourier", decay_power=1.0, sd=0.01, learning_rate=0.05, output="logit",
    transforms=Transforms(shift=12 / 128, rotate=10.0, zoom=(0.9, 1.1)),
    about=(
        "Lucid's defaults (Olah, Mordvintsev & Schubert, 2017; `optvis/transform.py`): at 128 pixels, padding 12 "
        "of grey, jitter 8, scale .9 to 1.1, rotation ±10°, jitter 4; 512 steps of Adam at .05; Fourier noise of "
        ".01. Here the two jitters are one uniform shift, scale and angle are drawn evenly rather than from a "
        "list, and all is one sampling."
    ),
)  # fmt: skip

WIDE = Recipe(
    "wide", steps=128, parameterization="fourier", decay_power=1.25, sd=0.01, learning_rate=0.03, output="log_odds",
    transforms=Transforms(
        shift=12 / 128, rotate=15.0, zoom=(0.5, 1.2), flip=True, noise=0.06, color_shift=0.1, color_scale=0.1
    ),
    about=(
        "Lucid's parameterization, seen in more ways: from half to 1.2 times its size, turned by up to 15°, mirrored, "
        "with a little noise and ColorShift (Ghiasi et al., 2021), towards the log-odds of the class. What survives "
        "all that is what other networks recognise too: on 8 tuning classes from MobileNetV2, 128 steps, a ResNet-50 "
        "and a ViT-tiny put 100 and 75% of its pictures first, of Lucid's 38 and 38%."
    ),
)  # fmt: skip

LSD = replace(
    WIDE, name="lsd", steps=128, learning_rate=0.04, rate_power=0.4, betas=(0.0, 0.999), contrast=1.3,
    gradient=Softening(branch=0.7, leak=0.05),
    transforms=replace(WIDE.transforms, zoom=(0.8, 2.0), noise=0.03),
    stages=((0.5, 0.5), (0.5, 1.0)),
    about=(
        "This project's own. Fourier space, coarse to fine, seen whole and in crops, turned, mirrored and recoloured, towards "
        "the log-odds of the class, along a gentler gradient: seven tenths of it pass a residual branch, and a twentieth of "
        "what an activation function holds back passes all the same (skip gradient method, Wu et al., 2020; linear "
        "backpropagation, Guo et al., 2020: both from attacks on unseen networks). Adam without momentum, so that each step "
        "follows the newest view; in larger steps where there are fewer; no harsher than photos are. It asks for what networks "
        "have in common. docs/recipe.md has the search."
    ),
)  # fmt: skip

TEXTURE = replace(
    LSD, name="texture", transforms=replace(LSD.transforms, fill="wrap", shift=0.5),
    about=(
        "`lsd` on a picture that goes on at its other side, moved anywhere: no place is nearer to an edge than another. For "
        "what looks for a pattern, channels of early layers above all: there `lsd` leaves a frame, since what lies near the "
        "edge is seen less often and beside grey. Objects, as classes want them, may be cut by the edge."
    ),
)  # fmt: skip

MACO = Recipe(
    "maco", steps=256, parameterization="maco", sd=1.0, optimizer="nadam", learning_rate=1.0, output="logit",
    transforms=Transforms(views=4, centre_sd=0.15, zoom=(1 / 0.55, 1 / 0.45), fill="reflect", noise=0.08),
    transforms_end=Transforms(views=4, centre_sd=0.15, zoom=(1 / 0.3, 1 / 0.2), fill="reflect", noise=0.08),
    about=(
        "MACO (Fel et al., 2023; Xplique's `maco.py`): phases alone, NAdam at 1.0, 256 steps, crops around the "
        "middle (σ .15) whose side falls from .5 on, noise .08. Theirs are 32 crops of a 512-pixel picture, down "
        "to a side of .05; at the network's own 224 pixels such crops would be 11 pixels wide, so here they end at "
        ".25, and there are 4 of them a step."
    ),
)  # fmt: skip

DEEPINVERSION = Recipe(
    "deepinversion", steps=1024, parameterization="pixels", squash="clamp", sd=0.2, learning_rate=0.05,
    betas=(0.5, 0.9), schedule="cosine", warmup=0.05, output="log_probability", stages=((2 / 3, 0.5), (1 / 3, 1.0)),
    transforms=Transforms(shift=30 / 224, flip=True, fill="reflect"), tv=0.3, tv_power=2.0, l2=0.001, batch_norm=2.0,
    about=(
        "DeepInversion (Yin et al., 2020; NVlabs/DeepInversion): cross-entropy, pixels, Adam (.5, .9) with a warmed-up cosine, "
        "two thirds of the steps at half resolution, jitter of 30 pixels, mirror images, total variation (L2), and "
        "batch-norm statistics with the first layer ten times as heavy. Theirs come over a batch of pictures and grow "
        "with the network; here each picture has its own, as proportions. Networks without batch normalisation get the rest."
    ),
)  # fmt: skip

VIT = Recipe(
    "vit", steps=400, parameterization="pixels", sd=0.2, learning_rate=0.1, schedule="cosine", output="logit",
    tv=1.0, tv_power=1.0,
    transforms=Transforms(views=8, shift=0.07, noise=0.1, color_shift=1.0, color_scale=1.0, fill="reflect"),
    about=(
        "“What do vision transformers learn?” (Ghiasi et al., 2022; vit-visualization): 400 steps of Adam at .1 "
        "with a cosine, on pixels, eight noisy copies a step under ColorShift, total variation."
    ),
)  # fmt: skip

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (LSD, TEXTURE, WIDE, LUCID, FOURIER, JITTER, NONE, MACO, DEEPINVERSION, VIT)
}
DEFAULT = "lsd"

EFFORTS = {"draft": 0.3, "normal": 1.0, "fine": 4.0}  # of a recipe's steps


def at_effort(recipe: Recipe, effort: str) -> Recipe:
    """`recipe` with the steps that go with an effort: "draft" takes three tenths of its own, "fine" four times as many.

    Raises:
        UndefinedError: another effort.
    """
    if effort not in EFFORTS:
        raise UndefinedError(f"There is no effort “{effort}”; choose one of {', '.join(EFFORTS)}.")
    return replace(recipe, steps=max(1, round(recipe.steps * EFFORTS[effort])))


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        UndefinedError: there is none.
    """
    if name not in RECIPES:
        raise UndefinedError(f"There is no recipe “{name}”; choose one of {', '.join(RECIPES)}.")
    return RECIPES[name]


def changed(recipe: Recipe, settings: Mapping[str, str]) -> Recipe:
    """`recipe` with settings given as text, as the command line has them; `transforms.shift` names a transform's.

    Raises:
        UndefinedError: an unknown setting, or a value that cannot be read.
    """
    values = recipe.to_dict()
    for name, text in settings.items():
        table, _, key = name.rpartition(".")
        where = values if not table else values.get(table)
        if not isinstance(where, dict) or key not in where:
            raise UndefinedError(
                f"“{name}” is not a setting of a recipe; write for example steps=256 or transforms.views=4."
            )
        try:
            where[key] = json.loads(text)
        except ValueError:
            where[key] = text
    made = Recipe.from_dict(values)
    return recipe if made == recipe else replace(made, name="custom")


def described(
    text: str,
    pairs: Sequence[str] = (),
    *,
    size: int | None = None,
    steps: int | None = None,
    effort: str | None = None,
) -> Recipe:
    """The recipe that a command line describes.

    Args:
        text: a name, or the path of a JSON file.
        pairs: settings, each as "NAME=VALUE".
        size, steps: if given, they replace the recipe's.
        effort: of `EFFORTS`; if given, it decides the steps.

    Raises:
        LSDError: a file that cannot be read, or both steps and an effort.
        UndefinedError: no such recipe or setting, or a value that has no meaning.
    """
    if text.endswith(".json"):
        try:
            recipe = Recipe.from_dict(json.loads(Path(text).read_text("utf-8")))
        except OSError as error:
            raise LSDError(f"{text} cannot be read: {error.strerror}.") from error
        except ValueError as error:
            if isinstance(error, LSDError):
                raise
            raise LSDError(f"{text} is not valid JSON; python -m lsd features --list-recipes shows recipes.") from error
    else:
        recipe = find_recipe(text)
    split = [pair.partition("=") for pair in pairs]
    if any(not equals for _, equals, _ in split):
        raise LSDError("A setting of the recipe is written NAME=VALUE, such as steps=256.")
    recipe = changed(recipe, {name: value for name, _, value in split})
    if effort is not None:
        if steps is not None:
            raise LSDError("Steps and an effort say the same thing twice; give one of them.")
        recipe = at_effort(recipe, effort)
    given = {k: v for k, v in (("size", size), ("steps", steps)) if v is not None}
    return replace(recipe, **given)
