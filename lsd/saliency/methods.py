"""The list of attribution methods: what each is called, what it does, its settings, and why they are as they are.

The command line and the page are built from this list, so neither knows a method that the other does not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lsd.embedding import embedder
from lsd.errors import UndefinedError
from lsd.models import ImageModel
from lsd.saliency import attention_methods as attention
from lsd.saliency import cams
from lsd.saliency import captum_methods as captum
from lsd.saliency import gradients as own
from lsd.saliency.attribution import Attribution
from lsd.saliency.expected import expected_gradients
from lsd.saliency.libra import libragrad
from lsd.saliency.targets import AnyTarget, Similarity


@dataclass(frozen=True)
class Setting:
    """One knob of a method.

    Attributes:
        name, default: of the keyword argument; its type is the default's.
        why: what it does, and why the default is what it is.
        minimum, maximum, step: of a number.
        choices: of a text with fixed values.
    """

    name: str
    default: int | float | bool | str
    why: str
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()

    def parse(self, value) -> int | float | bool | str:
        """`value` as this setting's type.

        Raises:
            UndefinedError: not of that type, or out of range.
        """
        if isinstance(self.default, bool):
            if str(value).lower() not in ("true", "false", "1", "0"):
                raise UndefinedError(f"{self.name} is true or false, not “{value}”.")
            return str(value).lower() in ("true", "1")
        try:
            parsed = type(self.default)(value)
            if isinstance(value, bool) or (isinstance(parsed, int) and not isinstance(value, str) and parsed != value):
                raise ValueError("cut, not read")
        except (TypeError, ValueError, OverflowError):
            kind = "a whole number" if isinstance(self.default, int) else "a number"
            raise UndefinedError(f"{self.name} is {kind}, not “{value}”.") from None
        if self.choices and parsed not in self.choices:
            raise UndefinedError(f"{self.name} is one of {', '.join(self.choices)}, not “{value}”.")
        if self.minimum is not None and not self.minimum <= parsed <= self.maximum:
            raise UndefinedError(f"{self.name} lies between {self.minimum:g} and {self.maximum:g}, not {parsed:g}.")
        return parsed


@dataclass(frozen=True)
class Method:
    """One attribution method.

    Attributes:
        name: as in manifests and on the command line.
        title: as people read it.
        run: the function.
        what: one or two sentences for the page.
        source: the paper, or Captum's class.
        settings: its knobs.
        counterpart: the Captum method that computes the same thing, or "".
        sign: the `MapSettings.sign` that suits it.
        layer: True if its values lie over a layer's places rather than the pixels.
        values: "signed"; "magnitude", which says where and not in which direction; or "for", which is what speaks for the
            output, without what speaks against it.
        depths: True if it takes slopes at several layers, which a first look through all of them finds.
        watches_relus: True if what goes into every ReLU, and what comes back, is kept by hooks.
        for_transformers: True if it needs what transformers have: attention, or gates and norms.
    """

    name: str
    title: str
    run: Callable[..., Attribution]
    what: str
    source: str
    settings: tuple[Setting, ...] = ()
    counterpart: str = ""
    sign: str = "abs"
    layer: bool = False
    values: str = "signed"
    depths: bool = False
    watches_relus: bool = False
    for_transformers: bool = False

    def parse(self, values: dict) -> dict:
        """Defaults filled in, types and ranges checked.

        Raises:
            UndefinedError: a setting that this method does not have, or a value out of range.
        """
        known = {setting.name: setting for setting in self.settings}
        for name in values:
            if name not in known:
                raise UndefinedError(f"{self.title} has no setting “{name}”; it has {', '.join(known) or 'none'}.")
        return {name: s.parse(values[name]) if name in values else s.default for name, s in known.items()}


COUNTS = ("samples", "steps", "masks")
"""The settings that say how many passes a map takes; a method without any of them takes one."""


def passes(settings: Mapping[str, Any]) -> int:
    """How many passes of the network a map takes at the most, by its method's settings."""
    return next((settings[name] for name in COUNTS if name in settings), 1)


_BATCH = Setting("batch_size", 8, "Pictures in one pass: bounds the memory, changes nothing else.", 1, 256, 1)
_SAMPLES = Setting(
    "samples", 32, "Noisy copies. The error falls as 1/√n; the standard error is shown beside the map.", 2, 512, 2
)
_SIGMA = Setting(
    "sigma",
    0.15,
    "Noise, as a fraction of the pixels' range; 0.1 to 0.2 is what SmoothGrad's authors found.",
    0.01,
    1.0,
    0.01,
)
_SEED = Setting("seed", 0, "The same seed gives the same noise, on every device.", 0, 2**31 - 1, 1)
_ANTITHETIC = Setting(
    "antithetic", True, "Noise in pairs ε, −ε: what is linear in the noise cancels, so fewer copies serve."
)
_TOLERANCE = Setting(
    "tolerance", 0.0, "Stop when the map's relative standard error is this small; 0 takes all copies.", 0.0, 1.0, 0.01
)
_BASELINE = Setting(
    "baseline_kind", "mean",
    "What “nothing there” is. The network's mean colour is its own zero; with black, dark objects get no share.",
    choices=own.BASELINES,
)  # fmt: skip
_STEPS = Setting("steps", 32, "Points on the path; the completeness gap shows if they are enough.", 1, 512, 1)
_QUADRATURE = Setting(
    "quadrature_kind", "gauss_legendre", "How the points are placed and weighted.", choices=own.QUADRATURES
)
_LAYER = Setting("layer", "", "Empty: the deepest layer that still has places and whose places reach the output.")

_MASKS = Setting(
    "masks", 64,
    "Channels tried, a pass each: those that vary most over the picture. As many as the layer has are the paper's.", 1, 4096, 1,
)  # fmt: skip
_BASE = Setting(
    "base", "layer_cam", "Whose maps are multiplied. Grad-CAM++, the paper's first, is not defined at every layer.",
    choices=tuple(cams.MAPS),
)  # fmt: skip
_REFERENCES = Setting("references", 3, "Classes that it is held against: those with the nearest logits.", 1, 20, 1)
_STRENGTH = Setting("strength", 0.6, "Of the comparison; 0 gives Grad-CAM.", 0.0, 2.0, 0.05)
_PAIRS = Setting(
    "samples", 32, "Pairs of a photo and a point on the way from it. The standard error is shown beside the map.", 2, 512, 1
)  # fmt: skip
_PHOTOS = Setting(
    "photos", "", "A folder of photos to start from, for the command line and the library; empty: the example photos."
)

_SMOOTH = (_SAMPLES, _SIGMA, _SEED, _ANTITHETIC, _TOLERANCE, _BATCH)
_CAPTUM_SMOOTH = (_SAMPLES, _SIGMA, _SEED, _BATCH)
_PATH = (_STEPS, _BASELINE, _QUADRATURE, _BATCH)

_ALL = (
    Method(
        "gradient", "Gradient", own.gradient,
        "How much the target changes with each pixel: the raw slope, noisy, and nothing added to it.",
        "Simonyan, Vedaldi & Zisserman 2014", counterpart="captum:saliency",
    ),
    Method(
        "gradient_x_input", "Gradient × input", own.gradient_x_input,
        "The slope times the pixel. The picture itself shows through, which no network put there.",
        "Shrikumar et al. 2016", counterpart="captum:input_x_gradient",
    ),
    Method(
        "smoothgrad", "SmoothGrad", own.smoothgrad,
        "The slope averaged over noisy copies: what survives the noise is what the network relies on.",
        "Smilkov et al. 2017", _SMOOTH, "captum:smoothgrad",
    ),
    Method(
        "smoothgrad_squared", "SmoothGrad²", own.smoothgrad_squared,
        "The mean of the squared slope over noisy copies. Unsigned.",
        "Hooker et al. 2019", _SMOOTH, "captum:smoothgrad_squared", "positive", values="magnitude",
    ),
    Method(
        "vargrad", "VarGrad", own.vargrad,
        "How much the slope varies over noisy copies: where the network bends. Unsigned.",
        "Adebayo et al. 2018", _SMOOTH, "captum:vargrad", "positive", values="magnitude",
    ),
    Method(
        "integrated_gradients", "Integrated gradients", own.integrated_gradients,
        "Shares of the change of the target from a baseline to the picture; they add up to that change.",
        "Sundararajan, Taly & Yan 2017", _PATH, "captum:integrated_gradients",
    ),
    Method(
        "guided_backprop", "Guided backpropagation", own.guided_backprop,
        "Backpropagation that lets only positive gradients through each ReLU. Sharp, and largely independent of the "
        "class and of what was learned: it traces edges.",
        "Springenberg et al. 2015", counterpart="captum:guided_backprop",
    ),
    Method(
        "deconvnet", "Deconvnet", own.deconvnet,
        "Like guided backpropagation, but blind to which ReLUs were on.",
        "Zeiler & Fergus 2014", counterpart="captum:deconvolution",
    ),
    Method(
        "grad_cam", "Grad-CAM", own.grad_cam,
        "The activations of a deep layer, weighted by their mean slope: coarse, but it follows the class.",
        "Selvaraju et al. 2017", (_LAYER,), "captum:grad_cam", "positive", True,
    ),
    Method(
        "hires_cam", "HiResCAM", cams.hires_cam,
        "The slope times the activation at each place of a deep layer: what each place adds, without Grad-CAM's averaging.",
        "Draelos & Carin 2020", (_LAYER,), "", "positive", True,
    ),
    Method(
        "grad_cam_plus_plus", "Grad-CAM++", cams.grad_cam_plus_plus,
        "Grad-CAM with weights from rising slopes alone, so that several objects of the class all count.",
        "Chattopadhay et al. 2018", (_LAYER,), "", "positive", True,
    ),
    Method(
        "finer_cam", "Finer-CAM", cams.finer_cam,
        "Grad-CAM of the class less the classes most like it: what tells them apart.",
        "Zhang et al. 2025", (_REFERENCES, _STRENGTH, _LAYER), "", "positive", True,
    ),
    Method(
        "layer_cam", "LayerCAM", cams.layer_cam,
        "Rising slope × activation at several depths, the strongest of them at each pixel.",
        "Jiang et al. 2021", (), "", "positive", values="for", depths=True,
    ),
    Method(
        "refine_cam", "RefineCAM", cams.refine_cam,
        "Class activation maps of several depths multiplied: only what every depth points at is left.",
        "Domeniconi et al. 2026", (_BASE,), "", "positive", values="for", depths=True,
    ),
    Method(
        "score_cam", "Score-CAM", cams.score_cam,
        "A deep layer's channels, weighted by what the network says of the picture behind each of them. No gradients: slow.",
        "Wang et al. 2020", (_MASKS, _BASELINE, _LAYER, _BATCH), "", "positive", True,
    ),
    Method(
        "expected_gradients", "Expected gradients", expected_gradients,
        "Integrated gradients from many photos instead of one colour: shares of what sets this picture apart from them.",
        "Erion et al. 2021", (_PAIRS, _PHOTOS, _SEED, _BATCH),
    ),
    Method(
        "depth_fusion", "Depth fusion", own.depth_fusion,
        "Gradient × activation at several depths, added up, and kept to where the deepest layer sees the class (in transformers, "
        "where all of them do): as fine as a gradient, and about the class. One pass.",
        "LSD, docs/choices.md", (), "captum:depth_fusion", "positive", values="for", depths=True,
    ),
    Method(
        "libragrad", "LibraGrad × input", libragrad,
        "Gradient × input, behind a backward pass in which attention weights, gates and deviations are constants: with the shares "
        "of the biases it adds up to the output. For transformers, and others that normalise or gate.",
        "Mehri et al. 2025", for_transformers=True,
    ),
    Method(
        "attention_rollout", "Attention rollout", attention.attention_rollout,
        "Where the answer's token has looked, through all layers of a transformer. Unsigned, and the same for every class.",
        "Abnar & Zuidema 2020", sign="positive", layer=True, values="magnitude", for_transformers=True,
    ),
    Method(
        "gradient_rollout", "Gradient-weighted rollout", attention.gradient_rollout,
        "Rollout through the attention that speaks for the class: each head's weights times their slope, where that is positive.",
        "Chefer, Gur & Wolf 2021", sign="positive", layer=True, values="for", for_transformers=True,
    ),
    Method(
        "legrad", "LeGrad", attention.legrad,
        "Which attention would strengthen the class that each of the last blocks would name: the positive slopes of its weights.",
        "Bousselham et al. 2024",
        (
            Setting(
                "layers", attention.LEGRAD_LAYERS,
                "How many of the last blocks; 0 for all, which finds the class less often (docs/attention.md).", 0, 256, 1,
            ),
        ),
        sign="positive", layer=True, values="for", for_transformers=True,
    ),
    Method("captum:saliency", "Captum Saliency", captum.saliency, "The gradient, by Captum.", "captum.attr.Saliency"),
    Method(
        "captum:input_x_gradient", "Captum InputXGradient", captum.input_x_gradient, "Gradient × input, by Captum.",
        "captum.attr.InputXGradient",
    ),
    Method(
        "captum:smoothgrad", "Captum SmoothGrad", captum.smoothgrad, "SmoothGrad, by Captum.", "captum.attr.NoiseTunnel",
        _CAPTUM_SMOOTH,
    ),
    Method(
        "captum:smoothgrad_squared", "Captum SmoothGrad²", captum.smoothgrad_squared, "SmoothGrad², by Captum.",
        "captum.attr.NoiseTunnel", _CAPTUM_SMOOTH, sign="positive", values="magnitude",
    ),
    Method(
        "captum:vargrad", "Captum VarGrad", captum.vargrad, "VarGrad, by Captum.", "captum.attr.NoiseTunnel",
        _CAPTUM_SMOOTH, sign="positive", values="magnitude",
    ),
    Method(
        "captum:integrated_gradients", "Captum IntegratedGradients", captum.integrated_gradients,
        "Integrated gradients, by Captum.", "captum.attr.IntegratedGradients", _PATH,
    ),
    Method(
        "captum:guided_backprop", "Captum GuidedBackprop", captum.guided_backprop, "Guided backpropagation, by Captum.",
        "captum.attr.GuidedBackprop", watches_relus=True,
    ),
    Method(
        "captum:deconvolution", "Captum Deconvolution", captum.deconvolution, "The deconvnet, by Captum.",
        "captum.attr.Deconvolution", watches_relus=True,
    ),
    Method(
        "captum:grad_cam", "Captum LayerGradCam", captum.grad_cam, "Grad-CAM, by Captum; convolutional layouts only.",
        "captum.attr.LayerGradCam", (_LAYER,), sign="positive", layer=True,
    ),
    Method(
        "captum:depth_fusion", "Depth fusion by Captum", captum.depth_fusion,
        "Depth fusion, put together from Captum's pieces: a pass for the pixels and one for each layer.",
        "captum.attr.Saliency, captum.attr.LayerGradientXActivation", sign="positive", values="for", depths=True,
    ),
    Method(
        "captum:guided_grad_cam", "Captum GuidedGradCam", captum.guided_grad_cam,
        "Guided backpropagation times Grad-CAM, by Captum.", "captum.attr.GuidedGradCam", (_LAYER,), watches_relus=True,
    ),
    Method(
        "captum:occlusion", "Captum Occlusion", captum.occlusion,
        "What covering a square takes off the target. No gradients: slow, and honest about the square's size.",
        "captum.attr.Occlusion; Zeiler & Fergus 2014",
        (
            Setting("window", 32, "Side of the square, in pixels: finer is slower and noisier.", 1, 512, 1),
            Setting("stride", 16, "Step of the square, in pixels; half the window overlaps twice each way.", 1, 512, 1),
            _BASELINE, _BATCH,
        ),
        sign="positive",
    ),
    Method(
        "captum:gradient_shap", "Captum GradientShap", captum.gradient_shap,
        "Integrated gradients at random points and from random baselines (black, mean, white).",
        "captum.attr.GradientShap; Lundberg & Lee 2017",
        (_SAMPLES, Setting("sigma", 0.0, "Noise on the picture; none by default.", 0.0, 1.0, 0.01), _SEED, _BATCH),
    ),
    Method(
        "captum:deep_lift", "Captum DeepLift", captum.deep_lift,
        "Contributions to the change from a baseline, carried through each ReLU by its finite slope.",
        "captum.attr.DeepLift; Shrikumar et al. 2017", (_BASELINE,),
    ),
)  # fmt: skip

METHODS: dict[str, Method] = {method.name: method for method in _ALL}


def find_method(name: str) -> Method:
    """The method called `name`.

    Raises:
        UndefinedError: there is none.
    """
    if name not in METHODS:
        raise UndefinedError(f"There is no method “{name}”; choose one of {', '.join(METHODS)}.")
    return METHODS[name]


def why_zero(name: str) -> str:
    """What it means if a map of the method called `name` is zero everywhere, as the end of a sentence."""
    if METHODS[name].values == "for":
        return "nothing in the picture speaks for the target in the way that this method asks"
    return "the target does not react to any pixel"


def attribute(
    name: str,
    model: ImageModel,
    images: Tensor,
    target: AnyTarget | Sequence[AnyTarget],
    **settings,
) -> Attribution | list[Attribution]:
    """Run a method by name; several targets share its forward passes where the method can.

    Raises:
        UndefinedError: unknown method or setting, or a combination that is not defined for this model.
    """
    method = find_method(name)
    settings = method.parse(settings)
    model = asked(model, target)
    if not isinstance(target, Sequence) or not name.startswith("captum:"):
        return method.run(model, images, target, **settings)
    return [method.run(model, images, one, **settings) for one in target]


def asked(model: ImageModel, target: AnyTarget | Sequence[AnyTarget]) -> ImageModel:
    """The network of whose outputs a target is a function: the model, or what gives its embedding.

    Raises:
        UndefinedError: targets of both kinds, which share no pass, or an embedding that the model does not have.
    """
    kinds = {type(one) for one in (target if isinstance(target, Sequence) else [target])}
    if Similarity in kinds and len(kinds) > 1:
        raise UndefinedError(
            "A similarity and a class are different outputs of a network; ask for one after the other."
        )
    return embedder(model) if Similarity in kinds else model
