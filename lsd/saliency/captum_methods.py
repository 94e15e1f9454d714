"""Captum's methods behind the same signature as the handwritten ones, and its traps turned into refusals.

Captum attaches its rules to modules by hooks and believes what it finds. On many networks that gives a map that is
wrong without a word: guided backpropagation on a network without `nn.ReLU` is the plain gradient; Grad-CAM takes the
second axis for the channels, which in transformers and channels-last networks it is not; DeepLift skips every
non-linearity that is not in its list. Each such combination raises here, and says why.

Pictures go through one by one, so that no method has to guess how targets belong to an expanded batch.
"""

import contextlib
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from lsd.errors import UndefinedError
from lsd.layers import deepest_grid, depth_layers, find_layer
from lsd.layout import Layer, to_grid
from lsd.models import ImageModel
from lsd.precision import undisturbed
from lsd.process import numpy_seed, quiet
from lsd.progress import report
from lsd.saliency.attribution import Attribution, finite
from lsd.saliency.gradients import DEPTH_FLOOR, baseline
from lsd.saliency.libra_rules import LibraRule, balances
from lsd.saliency.relu_rules import rectified_logits
from lsd.saliency.targets import Target
from lsd.tracing import split_run


class _Scalar(nn.Module):
    """The model with its target behind it: (n, 3, H, W) → (n,). A module, because some of Captum's methods ask for one."""

    def __init__(self, model: ImageModel, target: Target, passes: int):
        super().__init__()
        self.model, self.target = model, target
        self._passes, self._done = passes, 0

    def forward(self, images: Tensor) -> Tensor:
        self._done += len(images)
        report(min(self._done, self._passes), self._passes)
        return self.target(self.model(images))


def _captum(name: str, passes: Callable[[ImageModel, dict], int] = lambda model, settings: 1) -> Callable:
    """Wrap `function(scalar: _Scalar, image (1, 3, H, W), **settings) -> values (1, C, h, w)` as a method."""

    def decorate(function: Callable) -> Callable:
        defaults = function.__kwdefaults__ or {}

        @functools.wraps(function)
        def attribute(model: ImageModel, images: Tensor, target: Target, **settings) -> Attribution:
            settings = defaults | settings
            values, scores = [], []
            # Quiet, because Captum announces its own hooks at every call.
            with undisturbed(model.device), model.lock, quiet(), _out_of_place(model), torch.enable_grad():
                for i, image in enumerate(model.take(images)):
                    scalar = _Scalar(model, target.of(i), passes(model, settings))
                    values.append(function(scalar, image[None], **settings).detach().to(image))  # Occlusion gives fp32
                    with torch.no_grad():
                        scores.append(scalar(image[None]))
            result, score = (finite(torch.cat(tensors), model, name) for tensors in (values, scores))
            return Attribution(result, name, settings, target, score, passes=passes(model, settings))

        return attribute

    return decorate


@contextlib.contextmanager
def _out_of_place(model: ImageModel) -> Iterator[None]:
    """In-place activations overwrite what Captum's hooks have kept (captum #973); within the block none is in place."""
    changed = [m for m in model.net.modules() if getattr(m, "inplace", False)]
    for module in changed:
        module.inplace = False
    try:
        yield
    finally:
        for module in changed:
            module.inplace = True


@_captum("captum:saliency")
def saliency(scalar: _Scalar, image: Tensor) -> Tensor:
    """Captum's `Saliency`, signed (its default takes the absolute value; here that is a choice of the map)."""
    from captum.attr import Saliency

    return Saliency(scalar).attribute(image, abs=False)


@_captum("captum:input_x_gradient")
def input_x_gradient(scalar: _Scalar, image: Tensor) -> Tensor:
    """Captum's `InputXGradient`."""
    from captum.attr import InputXGradient

    return InputXGradient(scalar).attribute(image)


@_captum("captum:integrated_gradients", lambda _, s: s["steps"])
def integrated_gradients(
    scalar: _Scalar,
    image: Tensor,
    *,
    steps: int = 32,
    baseline_kind: str = "mean",
    quadrature_kind: str = "gauss_legendre",
    batch_size: int = 8,
) -> Tensor:
    """Captum's `IntegratedGradients`. It rounds its quadrature weights to fp32, whatever the precision."""
    from captum.attr import IntegratedGradients

    names = {"gauss_legendre": "gausslegendre", "midpoint": "riemann_middle"}
    if quadrature_kind not in names:
        raise UndefinedError(f"There is no quadrature “{quadrature_kind}”; choose one of {', '.join(names)}.")
    return IntegratedGradients(scalar).attribute(
        image, baseline(scalar.model, image, baseline_kind), n_steps=steps, method=names[quadrature_kind],
        internal_batch_size=min(batch_size, steps),
    )  # fmt: skip


class _OwnNormal(TorchFunctionMode):
    """Within this context, `torch.normal` of this thread draws from a generator of its own, the numbers of a global seed.

    For code that takes no generator. The global one is neither read nor set, so nobody else's draws shift these, nor these
    theirs.

    Args:
        seed: of the generator.
        device: where the numbers are drawn.
    """

    def __init__(self, seed: int, device: torch.device):
        super().__init__()
        self._generator = torch.Generator(device).manual_seed(seed)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.normal:
            kwargs = kwargs | {"generator": self._generator}
        return func(*args, **kwargs)


def _noise_tunnel(name: str, kind: str) -> Callable:
    @_captum(name, lambda _, s: s["samples"])
    def attribute(
        scalar: _Scalar, image: Tensor, *, samples: int = 32, sigma: float = 0.15, seed: int = 0, batch_size: int = 8
    ) -> Tensor:
        from captum.attr import NoiseTunnel, Saliency

        with _OwnNormal(seed, image.device):
            # abs=False: Saliency's default would average |g|, which is another method.
            return NoiseTunnel(Saliency(scalar)).attribute(
                image, nt_type=kind, nt_samples=samples, nt_samples_batch_size=min(batch_size, samples),
                stdevs=float(sigma), abs=False,
            )  # fmt: skip

    attribute.__doc__ = f"Captum's `NoiseTunnel` over its `Saliency`, type {kind}; noise without antithetic pairs."
    return attribute


smoothgrad = _noise_tunnel("captum:smoothgrad", "smoothgrad")
smoothgrad_squared = _noise_tunnel("captum:smoothgrad_squared", "smoothgrad_sq")
vargrad = _noise_tunnel("captum:vargrad", "vargrad")


def _check_modules_rectify(scalar: _Scalar, image: Tensor, rule: str) -> None:
    """Captum changes the rule of `nn.ReLU` modules and of nothing else: refuse where that is not every non-linearity.

    And it does so at the tensor that goes into one, where all gradients of that tensor have met: refuse where it goes elsewhere as
    well, as into the shortcut around a block that begins with a ReLU.
    """
    model = scalar.model
    modules = [m for m in model.net.modules() if isinstance(m, nn.ReLU)]
    rectified: list[Tensor] = []
    handles = [m.register_forward_hook(lambda _module, inputs, _output: rectified.append(inputs[0])) for m in modules]
    try:
        logits, found = rectified_logits(model, image.detach().requires_grad_(True), rule)  # refuses all others
    finally:
        for handle in handles:
            handle.remove()
    if len(rectified) != found:
        raise UndefinedError(
            f"Captum changes the rule of nn.ReLU modules only, and {len(rectified)} of the {found} rectifiers of "
            f"{model.name} are such modules; choose the handwritten method, which sees every one."
        )
    uses = _uses(logits)
    shared = sum(uses[one.grad_fn, one.output_nr] > 1 for one in rectified)
    if shared:
        raise UndefinedError(
            f"Captum changes the gradient of all that goes into a ReLU, and what goes into {shared} of the {found} of {model.name} "
            "goes elsewhere as well (as a shortcut does), whose gradient it would change too; choose the handwritten method."
        )


def _uses(output: Tensor) -> Counter[tuple[Node | None, int]]:
    """How many operations on the way to a tensor take each output of each operation."""
    stack, seen, uses = [output.grad_fn], set(), Counter()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        uses.update(node.next_functions)
        stack.extend(before for before, _ in node.next_functions)
    return uses


@_captum("captum:guided_backprop")
def guided_backprop(scalar: _Scalar, image: Tensor) -> Tensor:
    """Captum's `GuidedBackprop`; refused unless every non-linearity is an `nn.ReLU`, with an input of its own."""
    from captum.attr import GuidedBackprop

    _check_modules_rectify(scalar, image, "guided")
    return GuidedBackprop(scalar).attribute(image)


@_captum("captum:deconvolution")
def deconvolution(scalar: _Scalar, image: Tensor) -> Tensor:
    """Captum's `Deconvolution`; refused unless every non-linearity is an `nn.ReLU`, with an input of its own."""
    from captum.attr import Deconvolution

    _check_modules_rectify(scalar, image, "deconvnet")
    return Deconvolution(scalar).attribute(image)


def _cam_layer(model: ImageModel, name: str) -> tuple[Layer, nn.Module]:
    layer = find_layer(model, name) if name else deepest_grid(model)
    if split_run(layer.name)[1]:
        raise UndefinedError(
            f"Captum does not tell the runs of a module apart, so it has no {layer.name}; choose the handwritten Grad-CAM."
        )
    if layer.layout != "nchw":
        raise UndefinedError(
            f"Captum's Grad-CAM takes the second axis for the channels, and {layer.name} of {model.name} is laid out as "
            f"{layer.layout}; choose the handwritten Grad-CAM, which knows where the channels are."
        )
    return layer, model.net.get_submodule(layer.name)


@_captum("captum:grad_cam")
def grad_cam(scalar: _Scalar, image: Tensor, *, layer: str = "") -> Tensor:
    """Captum's `LayerGradCam`, signed; refused on token and channels-last layers."""
    from captum.attr import LayerGradCam

    return LayerGradCam(scalar, _cam_layer(scalar.model, layer)[1]).attribute(image)


@_captum("captum:guided_grad_cam", lambda *_: 2)
def guided_grad_cam(scalar: _Scalar, image: Tensor, *, layer: str = "") -> Tensor:
    """Captum's `GuidedGradCam`: guided backpropagation × Grad-CAM's positive part, upsampled; refused as both are."""
    from captum.attr import GuidedGradCam

    module = _cam_layer(scalar.model, layer)[1]
    _check_modules_rectify(scalar, image, "guided")
    return GuidedGradCam(scalar, module).attribute(image, interpolate_mode="bilinear")


@_captum("captum:depth_fusion", lambda model, _: 1 + len(depth_layers(model)))
def depth_fusion(scalar: _Scalar, image: Tensor) -> Tensor:
    """`gradients.depth_fusion` put together from Captum's `Saliency` and `LayerGradientXActivation`, a layer a pass."""
    from captum.attr import LayerAttribution, LayerGradientXActivation, Saliency

    together, products = balances(scalar.model), []
    with LibraRule() if together else contextlib.nullcontext():
        maps = [Saliency(scalar).attribute(image).amax(1, keepdim=True)]
        for layer in depth_layers(scalar.model):
            module = scalar.model.net.get_submodule(layer.name)
            product = to_grid(layer, LayerGradientXActivation(scalar, module).attribute(image))
            products.append(product.sum(1, keepdim=True))
    for product in [*products, sum(products)] if together else products:
        maps.append(LayerAttribution.interpolate(product.clamp(min=0), tuple(image.shape[-2:]), "bilinear"))
    relative = [one / one.mean() if one.any() else one for one in maps]
    return sum(relative) * (relative[-1] + DEPTH_FLOOR)


def _windows(model: ImageModel, settings: dict) -> int:
    """Positions of the occluding square: one forward pass each."""
    sides = (model.spec.height, model.spec.width)
    return math.prod(1 + -(-(side - settings["window"]) // max(settings["stride"], 1)) for side in sides)


@_captum("captum:occlusion", _windows)
def occlusion(
    scalar: _Scalar,
    image: Tensor,
    *,
    window: int = 32,
    stride: int = 16,
    baseline_kind: str = "mean",
    batch_size: int = 8,
) -> Tensor:
    """Captum's `Occlusion` (Zeiler & Fergus, 2014): what covering a square with the baseline takes off the output."""
    from captum.attr import Occlusion

    side = min(image.shape[-2:])
    if not 1 <= stride <= window <= side:
        raise UndefinedError(f"Occlusion needs 1 ≤ stride ≤ window ≤ {side}, not stride {stride} and window {window}.")
    with torch.no_grad():
        return Occlusion(scalar).attribute(
            image, (3, window, window), (3, stride, stride), baseline(scalar.model, image, baseline_kind),
            perturbations_per_eval=batch_size,
        )  # fmt: skip


@_captum("captum:gradient_shap", lambda _, s: s["samples"])
def gradient_shap(
    scalar: _Scalar, image: Tensor, *, samples: int = 32, sigma: float = 0.0, seed: int = 0, batch_size: int = 8
) -> Tensor:
    """Captum's `GradientShap` (Lundberg & Lee, 2017), baselines black, mean colour and white."""
    from captum.attr import GradientShap

    model = scalar.model
    baselines = torch.cat([baseline(model, image, kind) for kind in ("black", "mean", "white")])
    total, done = torch.zeros_like(image), 0
    with _OwnNormal(seed, image.device), numpy_seed(seed):  # by NumPy it chooses the baselines, and places between
        while done < samples:
            count = min(batch_size, samples - done)
            total += count * GradientShap(scalar).attribute(image, baselines, n_samples=count, stdevs=float(sigma))
            done += count
    return total / samples


@_captum("captum:deep_lift")
def deep_lift(scalar: _Scalar, image: Tensor, *, baseline_kind: str = "mean") -> Tensor:
    """Captum's `DeepLift`, rescale rule (Shrikumar et al., 2017); refused where its own completeness fails.

    DeepLift's contributions sum to f(x) − f(b) by construction, for a target that is linear in the logits. Captum
    leaves every module that is not in its list, and every product (attention, gates), with its plain derivative; then
    the sum is off, and that is what is checked.
    """
    from captum.attr import DeepLift

    model = scalar.model
    if scalar.target.kind not in ("logit", "contrast"):
        raise UndefinedError(
            f"DeepLift has no rule for the {scalar.target.kind.replace('_', '-')}, which is not linear in the logits; "
            "choose the logit or a contrast as the target."
        )
    base = baseline(model, image, baseline_kind)
    try:
        values = DeepLift(scalar).attribute(image, base)
    except Exception as error:  # Captum's hooks assert, and fail in many ways, on networks they were not made for
        raise UndefinedError(f"Captum's DeepLift does not run on {model.name} ({type(error).__name__}).") from error
    with torch.no_grad():
        difference = (scalar(image) - scalar(base)).item()
    missing = abs(values.sum().item() - difference)
    if missing > 1e-3 * max(abs(difference), 1e-3):
        raise UndefinedError(
            f"DeepLift does not hold on {model.name}: its contributions miss the output's change by "
            f"{missing / max(abs(difference), 1e-12):.0%}, because Captum has no exact rule for some of its layers."
        )
    return values
