"""What the saliency study compares: each choice that a saliency map asks for, as a factor with its levels.

A *variant* is one way from a picture to a map: an attribution (method, output, settings) and how it is drawn. One factor
is varied at a time, all others staying at the defaults that ship; `grid` varies those together that share attributions.
Lengths are fractions of the picture's side, so that a level means the same for every model.
"""

import itertools
from dataclasses import dataclass, field, replace

import numpy as np

from lsd.evaluation.controls import CONTROLS
from lsd.images import resample
from lsd.saliency.maps import MapSettings, to_map
from lsd.saliency.methods import METHODS

DEFAULT_METHOD = "gradient"
SMOOTH_SIGMA, SMOOTH_SAMPLES = 0.15, 32  # the defaults of `lsd.saliency.methods`
PIXEL = 1 / 224


@dataclass(frozen=True)
class Source:
    """An attribution, or a control.

    Attributes:
        method: a name among `METHODS`, or "control:" and one among `CONTROLS`.
        kind: the output that is differentiated; "contrast" is against the runner-up. Unused for controls.
        settings: of the method, as pairs.
    """

    method: str
    kind: str = "log_odds"
    settings: tuple[tuple[str, int | float | str], ...] = ()

    @property
    def control(self) -> str:
        """The control's name, "" for an attribution."""
        return self.method.partition("control:")[2]

    @property
    def dear(self) -> bool:
        """Whether it takes many passes, or Captum's one by one, and is therefore run on fewer pictures."""
        return self.method.startswith("captum:") or any(name in ("samples", "steps") for name, _ in self.settings)


@dataclass(frozen=True)
class Drawing:
    """How an attribution becomes a map (H, W): `MapSettings` with lengths relative to the side, and the resolution.

    Attributes:
        blur: standard deviation of a Gaussian over the finished map.
        times_input: multiply by the picture first.
        coarse: the map is shrunk by so much for a picture of 224 pixels, antialiased, and enlarged again; 1 leaves it.
        upsampling: how a map that is coarser than the picture is enlarged: "bilinear", "nearest", "bicubic".
    """

    sign: str = MapSettings.sign
    channels: str = MapSettings.channels
    clip: float = MapSettings.clip
    blur: float = MapSettings.blur
    times_input: bool = False
    coarse: int = 1
    upsampling: str = "bilinear"


@dataclass(frozen=True)
class Variant:
    """One level of one factor. `name` is "factor/level"; the shipped default is level `default` of each factor."""

    factor: str
    level: str
    source: Source
    drawing: Drawing = field(default_factory=Drawing)

    @property
    def name(self) -> str:
        """As in the study's tables."""
        return f"{self.factor}/{self.level}"


@dataclass(frozen=True)
class Factor:
    """One choice.

    Attributes:
        name: in tables and links.
        default: the level that ships.
        levels: all of them, in a readable order.
        drawn: whether only the drawing differs, so that noise drawn in the same way says what the drawing alone brings.
    """

    name: str
    default: str
    levels: tuple[Variant, ...]
    drawn: bool = False


def _factor(name: str, default: str, levels: dict[str, tuple[Source, Drawing]], drawn: bool = False) -> Factor:
    assert default in levels, f"{default} is no level of {name}"
    return Factor(name, default, tuple(Variant(name, level, *what) for level, what in levels.items()), drawn)


def _of(method: str, **settings) -> tuple[Source, Drawing]:
    """A method with the sign that suits it."""
    return Source(method, settings=tuple(settings.items())), Drawing(sign=METHODS[method].sign)


_BASE = Source("gradient")
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
    "captum:guided_grad_cam": _of("captum:guided_grad_cam"),
    "captum:deep_lift": (Source("captum:deep_lift", "logit"), Drawing()),
    "captum:gradient_shap": _of("captum:gradient_shap", samples=16),
    "captum:occlusion": _of("captum:occlusion", window=32, stride=16),
}

FACTORS: dict[str, Factor] = {
    f.name: f
    for f in (
        _factor("method", DEFAULT_METHOD, _METHODS),
        _factor(
            "output", "log_odds",
            {kind: (replace(_BASE, kind=kind), Drawing()) for kind in ("log_odds", "logit", "probability", "contrast")},
        ),
        _factor("sign", "abs", {s: (_BASE, Drawing(sign=s)) for s in ("abs", "positive", "negative")}, True),
        _factor("channels", "max", {c: (_BASE, Drawing(channels=c)) for c in ("max", "l2", "sum_abs", "sum")}, True),
        _factor("input", "off", {t: (_BASE, Drawing(times_input=t == "on")) for t in ("off", "on")}),
        _factor("clip", "99", {f"{c:g}": (_BASE, Drawing(clip=c)) for c in (95.0, 99.0, 99.9, 100.0)}, True),
        _factor("blur", "0", {f"{b}": (_BASE, Drawing(blur=b * PIXEL)) for b in (0, 1, 2, 4, 8)}, True),
        _factor("resolution", "1", {f"{c}": (_BASE, Drawing(coarse=c)) for c in (1, 4, 8, 16)}, True),
        _factor(
            "upsampling", "bilinear",
            {u: (Source("grad_cam"), Drawing("positive", upsampling=u)) for u in ("bilinear", "nearest", "bicubic")},
        ),
        _factor(
            "smoothing", "none",
            {"none": (_BASE, Drawing()), **{m: _METHODS[m] for m in ("smoothgrad", "smoothgrad_squared", "vargrad")}},
        ),
        _factor(
            "samples", f"{SMOOTH_SAMPLES}",
            {f"{n}": _of("smoothgrad", samples=n, sigma=SMOOTH_SIGMA) for n in (4, 16, SMOOTH_SAMPLES)},
        ),
        _factor(
            "sigma", f"{SMOOTH_SIGMA:g}",
            {f"{s:g}": _of("smoothgrad", samples=SMOOTH_SAMPLES, sigma=s) for s in (0.05, SMOOTH_SIGMA, 0.3)},
        ),
    )
}  # fmt: skip
"""Every factor by its name. The default levels are those that ship; a test holds them to the code that uses them."""

CONTROL_VARIANTS = tuple(Variant("control", name, Source(f"control:{name}")) for name in CONTROLS)
"""Maps that never saw the network, drawn with the defaults."""


def random_twin(variant: Variant) -> Variant:
    """Noise drawn as the variant's attribution is: what the drawing alone is worth to a score."""
    return Variant("random", variant.name, Source("control:random"), variant.drawing)


def variants() -> list[Variant]:
    """All that the study scores: the levels of every factor, the controls, and noise drawn as each drawn level is."""
    levels = [variant for factor in FACTORS.values() for variant in factor.levels]
    twins = [random_twin(variant) for factor in FACTORS.values() if factor.drawn for variant in factor.levels]
    return [*levels, *CONTROL_VARIANTS, *twins]


GRID = {
    "output": ("log_odds", "logit", "probability", "contrast"),
    "sign": ("abs", "positive", "negative"),
    "channels": ("max", "l2", "sum_abs", "sum"),
    "input": ("off", "on"),
    "blur": ("0", "2", "8"),
}
"""The full grid: factors whose levels share attributions, varied together. "How often does each default win?" """


def grid() -> list[Variant]:
    """Every combination of `GRID`; `level` is the levels joined by commas, in the order of `GRID`."""
    return [
        Variant(
            "grid",
            ",".join(levels),
            Source("gradient", levels[0]),
            Drawing(levels[1], levels[2], blur=float(levels[4]) * PIXEL, times_input=levels[3] == "on"),
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
    if drawing.upsampling != "bilinear" and values.shape[1:] != (height, width):
        values = _enlarged(values, (height, width), drawing.upsampling)
    settings = MapSettings(drawing.sign, drawing.channels, drawing.clip, drawing.blur * side)
    saliency = to_map(values[None], settings, (height, width))[0]
    block = round(drawing.coarse * side * PIXEL)
    return saliency if block <= 1 else _coarse(saliency, block)


def _coarse(saliency: np.ndarray, block: int) -> np.ndarray:
    """Shrunk to one value for so many pixels, with antialiasing, and enlarged bilinearly."""
    height, width = saliency.shape
    small = resample(saliency[None], (max(1, round(height / block)), max(1, round(width / block))))
    return resample(small, (height, width))[0]


def _enlarged(values: np.ndarray, size: tuple[int, int], how: str) -> np.ndarray:
    """(C, h, w) to (C, height, width)."""
    import torch
    from torch.nn.functional import interpolate

    corners = {"align_corners": False} if how == "bicubic" else {}
    return interpolate(torch.from_numpy(values)[None].double(), size=size, mode=how, **corners)[0].numpy()
