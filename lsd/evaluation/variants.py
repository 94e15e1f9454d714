"""What the saliency study compares: each choice that a saliency map asks for, as a factor with its levels.

A *variant* is one way from a picture to a map: an attribution (method, output, settings) and how it is drawn. One factor
is varied at a time, all others staying at the defaults that ship; `grid` varies those together that share attributions.
A factor that concerns every method is varied on two *bases*: the default method, and the plain gradient, whose maps are of
another kind.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from lsd.evaluation.controls import CONTROLS
from lsd.images import ENLARGING, resample
from lsd.saliency import defaults
from lsd.saliency.maps import CHANNELS, MapSettings, to_map
from lsd.saliency.methods import COUNTS, METHODS
from lsd.saliency.targets import KINDS

SMOOTH_SIGMA, SMOOTH_SAMPLES = 0.15, 32  # the defaults of `lsd.saliency.methods`
PIXEL = 1 / 224  # of the side: `Drawing.coarse` means the same part of every picture


@dataclass(frozen=True)
class Source:
    """An attribution, or a control.

    Attributes:
        method: a name among `METHODS`, or "control:" and one among `CONTROLS`.
        kind: the output that is differentiated; "contrast" is against the runner-up. Unused for controls.
        settings: of the method, as pairs.
    """

    method: str
    kind: str = defaults.KIND
    settings: tuple[tuple[str, int | float | str], ...] = ()

    @property
    def control(self) -> str:
        """The control's name, "" for an attribution."""
        return self.method.partition("control:")[2]

    @property
    def dear(self) -> bool:
        """Whether it takes many passes, or Captum's one by one, and is therefore run on fewer pictures."""
        return self.method.startswith("captum:") or any(name in COUNTS for name, _ in self.settings)


@dataclass(frozen=True)
class Drawing:
    """How an attribution becomes a map (H, W): what `MapSettings` says, and what only the study varies.

    Attributes:
        times_input: multiply by the picture first.
        coarse: the map is shrunk by so much for a picture of 224 pixels, antialiased, and enlarged again; 1 leaves it.
    """

    sign: str = MapSettings.sign
    channels: str = MapSettings.channels
    clip: float = MapSettings.clip
    blur: float = MapSettings.blur
    times_input: bool = False
    coarse: int = 1
    upsampling: str = MapSettings.upsampling


@dataclass(frozen=True)
class Variant:
    """One level of one factor on one base.

    `name`, as in the study's tables, is "factor/level", and "factor/level@base" on all bases but the factor's first.
    """

    factor: str
    level: str
    source: Source
    drawing: Drawing = field(default_factory=Drawing)
    base: str = ""

    @property
    def name(self) -> str:
        """As in the study's tables."""
        return f"{self.factor}/{self.level}" + (f"@{self.base}" if self.base else "")


@dataclass(frozen=True)
class Factor:
    """One choice.

    Attributes:
        name: in tables and links.
        default: the level that ships.
        bases: the methods on which the levels are tried, the one that is shown first; none where the levels are methods.
        variants: the levels in a readable order, on the first base, then on the others.
        drawn: whether only the drawing differs, so that noise drawn in the same way says what the drawing alone brings.
    """

    name: str
    default: str
    bases: tuple[str, ...]
    variants: tuple[Variant, ...]
    drawn: bool = False

    @property
    def levels(self) -> tuple[Variant, ...]:
        """Every level once, on the first base."""
        return tuple(variant for variant in self.variants if not variant.base)

    @property
    def told_apart(self) -> tuple[str, ...]:
        """The bases whose wins are also told each by itself: all, where there is more than one."""
        return self.bases if len(self.bases) > 1 else ()

    def on(self, base: str, level: str) -> Variant:
        """A level on one of the bases, "" being the first, as in `Variant.base`."""
        return next(v for v in self.variants if v.level == level and v.base == base)


Levels = dict[str, tuple[Source, Drawing]]


def _factor(
    name: str, default: str, bases: Sequence[str], levels: Callable[[str], Levels], drawn: bool = False
) -> Factor:
    """`levels` says what each is on a base."""
    found = [
        Variant(name, level, *what, "" if base == bases[0] else base)
        for base in bases
        for level, what in levels(base).items()
    ]
    assert default in {v.level for v in found}, f"{default} is no level of {name}"
    return Factor(name, default, tuple(filter(None, bases)), tuple(found), drawn)


def _of(method: str, **settings) -> tuple[Source, Drawing]:
    """A method with the sign that suits it."""
    return Source(method, settings=tuple(settings.items())), _drawing(method)


def _drawing(method: str, **changes) -> Drawing:
    return Drawing(sign=METHODS[method].sign, **changes)


_EVERY, _COLOURED = (defaults.METHOD, "gradient"), ("gradient",)  # only the latter has colour channels and signs
_SMOOTH = {"samples": SMOOTH_SAMPLES, "sigma": SMOOTH_SIGMA}
# Captum's versions of handwritten methods give the same values (docs/crosscheck.md), so only its others are here.
_METHODS = {
    "gradient": _of("gradient"),
    "gradient_x_input": _of("gradient_x_input"),
    "guided_backprop": _of("guided_backprop"),
    "deconvnet": _of("deconvnet"),
    "grad_cam": _of("grad_cam"),
    "depth_fusion": _of("depth_fusion"),
    "smoothgrad": _of("smoothgrad", **_SMOOTH),
    "smoothgrad_squared": _of("smoothgrad_squared", **_SMOOTH),
    "vargrad": _of("vargrad", **_SMOOTH),
    "integrated_gradients": _of("integrated_gradients", steps=16),
    "hires_cam": _of("hires_cam"),
    "grad_cam_plus_plus": _of("grad_cam_plus_plus"),
    "finer_cam": (Source("finer_cam", "logit"), _drawing("finer_cam")),
    "layer_cam": _of("layer_cam"),
    "refine_cam": _of("refine_cam"),
    "refine_cam:grad_cam_plus_plus": _of("refine_cam", base="grad_cam_plus_plus"),
    "score_cam": _of("score_cam", masks=64),
    "expected_gradients": _of("expected_gradients", samples=16),
    "libragrad": _of("libragrad"),
    "attention_rollout": _of("attention_rollout"),
    "gradient_rollout": _of("gradient_rollout"),
    "legrad": _of("legrad"),
    "captum:guided_grad_cam": _of("captum:guided_grad_cam"),
    "captum:deep_lift": (Source("captum:deep_lift", "logit"), Drawing()),
    "captum:gradient_shap": _of("captum:gradient_shap", samples=16),
    "captum:occlusion": _of("captum:occlusion", window=32, stride=16),
}

FACTORS: dict[str, Factor] = {
    f.name: f
    for f in (
        _factor("method", defaults.METHOD, [""], lambda _: _METHODS),
        _factor(
            "output", Source.kind, _EVERY,
            lambda base: {kind: (Source(base, kind), _drawing(base)) for kind in KINDS},
        ),
        _factor(
            "sign", Drawing.sign, _COLOURED,
            lambda base: {s: (Source(base), Drawing(sign=s)) for s in ("abs", "positive", "negative")}, True,
        ),
        _factor(
            "channels", Drawing.channels, _COLOURED,
            lambda base: {c: (Source(base), Drawing(channels=c)) for c in CHANNELS}, True,
        ),
        _factor(
            "input", "off", _COLOURED,
            lambda base: {t: (Source(base), Drawing(times_input=t == "on")) for t in ("off", "on")}, True,
        ),
        _factor(
            "clip", f"{Drawing.clip:g}", _EVERY,
            lambda base: {f"{c:g}": (Source(base), _drawing(base, clip=c)) for c in (95.0, 99.0, 99.9, 100.0)}, True,
        ),
        _factor(
            "blur", f"{MapSettings.blur:g}", _EVERY,
            lambda base: {f"{b}": (Source(base), _drawing(base, blur=float(b))) for b in (0, 1, 2, 4, 8)}, True,
        ),
        _factor(
            "resolution", "1", _EVERY,
            lambda base: {f"{c}": (Source(base), _drawing(base, coarse=c)) for c in (1, 4, 8, 16)}, True,
        ),
        _factor(
            "upsampling", Drawing.upsampling, ("grad_cam",),
            lambda base: {how: (Source(base), _drawing(base, upsampling=how)) for how in ENLARGING}, True,
        ),
        _factor(
            "smoothing", "none", _COLOURED,
            lambda base: {
                "none": _of(base), **{m: _METHODS[m] for m in ("smoothgrad", "smoothgrad_squared", "vargrad")}
            },
        ),
        _factor(
            "samples", f"{SMOOTH_SAMPLES}", ("smoothgrad",),
            lambda base: {f"{n}": _of(base, samples=n, sigma=SMOOTH_SIGMA) for n in (4, 16, SMOOTH_SAMPLES)},
        ),
        _factor(
            "sigma", f"{SMOOTH_SIGMA:g}", ("smoothgrad",),
            lambda base: {f"{s:g}": _of(base, samples=SMOOTH_SAMPLES, sigma=s) for s in (0.05, SMOOTH_SIGMA, 0.3)},
        ),
    )
}  # fmt: skip
"""Every factor by its name. The default levels are those that ship; a test holds them to the code that uses them."""

CONTROL_VARIANTS = tuple(Variant("control", name, Source(f"control:{name}")) for name in CONTROLS)
"""Maps that never saw the network, drawn with the defaults."""


def random_twin(variant: Variant) -> Variant:
    """Noise drawn as the variant's attribution is: what the drawing alone is worth to a score. One for all bases.

    As coarse as Grad-CAM's maps where it is their enlarging that varies.
    """
    first = FACTORS[variant.factor].on("", variant.level)
    noise = "random coarse" if variant.factor == "upsampling" else "random"
    return Variant("random", first.name, Source(f"control:{noise}"), first.drawing)


def variants() -> list[Variant]:
    """All that the study scores: the levels of every factor, the controls, and noise drawn as each drawn level is."""
    levels = [variant for factor in FACTORS.values() for variant in factor.variants]
    twins = [random_twin(variant) for factor in FACTORS.values() if factor.drawn for variant in factor.levels]
    return [*levels, *CONTROL_VARIANTS, *twins]


GRID = {
    "output": ("log_odds", "logit", "probability", "contrast"),
    "sign": ("abs", "positive", "negative"),
    "channels": ("max", "l2", "sum_abs", "sum"),
    "input": ("off", "on"),
    "blur": ("0", "1", "8"),
}
"""The full grid: factors whose levels share attributions, varied together. "How often does each default win?" """


def grid() -> list[Variant]:
    """Every combination of `GRID`; `level` is the levels joined by commas, in the order of `GRID`."""
    return [
        Variant(
            "grid",
            ",".join(levels),
            Source("gradient", levels[0]),
            Drawing(levels[1], levels[2], blur=float(levels[4]), times_input=levels[3] == "on"),
        )
        for levels in itertools.product(*GRID.values())
    ]


def draw(values: np.ndarray, drawing: Drawing, image: np.ndarray) -> np.ndarray:
    """An attribution (C, h, w) as a map, float32 (H, W) in [0, 1].

    Args:
        image: (3, H, W), [0, 1], the picture that it explains.

    Raises:
        LSDError: values that are not finite.
    """
    height, width = image.shape[1:]
    side = min(height, width)
    if drawing.times_input:
        values = values * image
    settings = MapSettings(
        drawing.sign, drawing.channels, drawing.clip, drawing.blur, upsampling=drawing.upsampling
    )  # fmt: skip
    saliency = to_map(values[None], settings, (height, width))[0]
    block = round(drawing.coarse * side * PIXEL)
    return saliency if block <= 1 else _coarse(saliency, block)


def _coarse(saliency: np.ndarray, block: int) -> np.ndarray:
    """Shrunk to one value for so many pixels, with antialiasing, and enlarged bilinearly."""
    height, width = saliency.shape
    small = resample(saliency[None], (max(1, round(height / block)), max(1, round(width / block))))
    return resample(small, (height, width))[0]
