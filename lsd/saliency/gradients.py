"""Handwritten attribution methods: everything that is a gradient, or a mean of gradients.

Every function takes `(model, images, target, **settings)` and returns an `Attribution`; given a list of targets it
returns a list, and all of them share each forward pass. Images are (N, 3, H, W), RGB in [0, 1]; gradients are with
respect to these pixels, so noise levels and baselines are in fractions of the full range.

Each picture's result depends on that picture and the settings alone, not on what else is in the batch.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.layers import deepest_grid, depth_layers, find_layer
from lsd.layout import Layer, to_grid
from lsd.models import ImageModel
from lsd.precision import at_least_fp32, undisturbed
from lsd.progress import report
from lsd.saliency.attribution import Attribution, finite
from lsd.saliency.libra_rules import LibraRule, balances
from lsd.saliency.relu_rules import rectified_logits
from lsd.saliency.targets import Target
from lsd.tracing import capture

BASELINES = ("black", "white", "mean", "blur")
QUADRATURES = ("gauss_legendre", "midpoint")
DEPTH_FLOOR = 0.1  # of the deepest layer's mean


def method(function: Callable) -> Callable:
    """Make a function over a list of targets accept one target too, and hold the model's lock while it runs."""

    @functools.wraps(function)
    def attribute(model: ImageModel, images: Tensor, target: Target | Sequence[Target], **settings):
        targets = list(target) if isinstance(target, Sequence) else [target]
        if not targets:
            return []
        with undisturbed(model.device), model.lock, torch.enable_grad():
            attributions = function(model, model.take(images), targets, **settings)
        for attribution in attributions:
            finite(attribution.values, model, attribution.method)
            finite(attribution.scores, model, attribution.method)  # a ReLU's derivative hides a NaN
        return attributions if isinstance(target, Sequence) else attributions[0]

    return attribute


def differentiate(
    model: Callable[[Tensor], Tensor], images: Tensor, targets: Sequence[Target]
) -> tuple[Tensor, Tensor]:
    """One forward pass, and a backward pass for each target.

    Returns:
        gradients (K, N, 3, H, W) and scores (K, N) of K targets at N pictures. Pictures do not meet inside a network in
        eval mode, so the gradient of the sum over the batch holds each picture's own.
    """
    images = images.detach().requires_grad_(True)
    logits = model(images)
    scores = [target(logits) for target in targets]
    gradients = [
        torch.autograd.grad(score.sum(), images, retain_graph=k + 1 < len(scores))[0] for k, score in enumerate(scores)
    ]
    return torch.stack(gradients), torch.stack([score.detach() for score in scores])


def slopes_at(
    tensors: Sequence[Tensor], logits: Tensor, targets: Sequence[Target]
) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """A backward pass for each target, to tensors within the network (`capture`) or the pictures themselves.

    Yields:
        the target's scores (N,), and its slope at each tensor: zero at what does not reach the output, and at what does not depend
        on the picture, a table of positions, say.
    """
    moving = [tensor for tensor in tensors if tensor.requires_grad]
    for k, target in enumerate(targets):
        scores = target(logits)
        found = iter(())
        if moving:
            found = iter(
                torch.autograd.grad(
                    scores.sum(), moving, retain_graph=k + 1 < len(targets), allow_unused=True, materialize_grads=True
                )
            )
        yield scores.detach(), [next(found) if t.requires_grad else torch.zeros_like(t) for t in tensors]


@torch.no_grad()
def logits_of(model: ImageModel, images: Tensor) -> Tensor:
    """Picture by picture, so that the memory stays within `batch_size` however many pictures there are."""
    return torch.cat([model(image[None]) for image in images])


@method
def gradient(model: ImageModel, images: Tensor, targets: Sequence[Target]) -> list[Attribution]:
    """∂f/∂x (Simonyan et al., 2014): how the output changes with each pixel."""
    gradients, scores = differentiate(model, images, targets)
    return [Attribution(g, "gradient", {}, t, s, passes=1) for g, t, s in zip(gradients, targets, scores, strict=True)]


@method
def gradient_x_input(model: ImageModel, images: Tensor, targets: Sequence[Target]) -> list[Attribution]:
    """x · ∂f/∂x (Shrikumar et al., 2016), x in [0, 1]: a first-order guess at what blackening a pixel would cost."""
    gradients, scores = differentiate(model, images, targets)
    return [
        Attribution(g * images, "gradient_x_input", {}, t, s, passes=1)
        for g, t, s in zip(gradients, targets, scores, strict=True)
    ]


@method
def guided_backprop(model: ImageModel, images: Tensor, targets: Sequence[Target]) -> list[Attribution]:
    """Guided backpropagation (Springenberg et al., 2015); see `relu_rules`. Raises UndefinedError without ReLUs."""
    return _rectified(model, images, targets, "guided", "guided_backprop")


@method
def deconvnet(model: ImageModel, images: Tensor, targets: Sequence[Target]) -> list[Attribution]:
    """The deconvnet (Zeiler & Fergus, 2014); see `relu_rules`. Raises UndefinedError without ReLUs."""
    return _rectified(model, images, targets, "deconvnet", "deconvnet")


def _rectified(model: ImageModel, images: Tensor, targets: Sequence[Target], rule: str, name: str) -> list[Attribution]:
    gradients, scores = differentiate(lambda shown: rectified_logits(model, shown, rule)[0], images, targets)
    return [Attribution(g, name, {}, t, s, passes=1) for g, t, s in zip(gradients, targets, scores, strict=True)]


class Moments:
    """Running sum, and sum of squares, of independent samples of one shape."""

    def __init__(self):
        self.count, self.total, self.squares = 0, 0.0, 0.0

    def add(self, samples: Tensor) -> None:
        """Add samples (n, …)."""
        self.count += len(samples)
        self.total = self.total + samples.sum(0)
        self.squares = self.squares + samples.square().sum(0)

    @property
    def mean(self) -> Tensor:
        return self.total / self.count

    @property
    def relative_error(self) -> Tensor:
        """‖standard error of the mean‖ / ‖mean‖; infinite until there are two samples."""
        if self.count < 2:
            return torch.full_like(self.total.sum(), float("inf"))
        variance = (self.squares / self.count - self.mean.square()).clamp(min=0) / (self.count - 1)
        error = variance.sum().sqrt()
        return torch.where(error == 0, torch.zeros_like(error), error / self.mean.norm())


def _noise(
    shape: Sequence[int], sigma: float, samples: int, seed: int, antithetic: bool, chunk: int
) -> Iterator[Tensor]:
    """Gaussian noise in chunks of at most `chunk` samples of `shape`; antithetic noise comes in pairs ε, −ε.

    It is drawn on the CPU in fp32, so that a seed means the same noise on every device and at every precision, and
    sample by sample: what one call draws for several depends on how many they are.
    """
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, samples, chunk):
        count = min(chunk, samples - start)
        own = count // 2 if antithetic else count
        drawn = torch.stack([torch.randn(shape, generator=generator) for _ in range(own)]) * sigma
        yield torch.stack([drawn, -drawn], 1).flatten(0, 1) if antithetic else drawn


def _sampled(
    name: str,
    statistic: Callable[[Tensor], Tensor],
    finish: Callable[[Tensor, Tensor], Tensor],
) -> Callable:
    """A method of the SmoothGrad family: `finish(mean of the statistic, mean of the gradient)` over noisy copies."""

    @method
    def attribute(
        model: ImageModel,
        images: Tensor,
        targets: Sequence[Target],
        *,
        samples: int = 32,
        sigma: float = 0.15,
        seed: int = 0,
        antithetic: bool = True,
        tolerance: float = 0.0,
        batch_size: int = 8,
    ) -> list[Attribution]:
        _check(samples >= 1, f"samples must be at least 1, not {samples}.")
        _check(sigma > 0, f"sigma must be greater than 0, not {sigma}.")
        _check(batch_size >= 1, f"batch_size must be at least 1, not {batch_size}.")
        _check(tolerance >= 0, f"tolerance must not be negative, and is {tolerance}.")
        if antithetic:
            _check(samples % 2 == 0, f"Antithetic noise comes in pairs, so samples must be even, not {samples}.")
            batch_size = max(2, batch_size - batch_size % 2)  # a pair stays together
        settings = {
            "samples": samples, "sigma": sigma, "seed": seed, "antithetic": antithetic, "tolerance": tolerance,
            "batch_size": batch_size,
        }  # fmt: skip
        values, errors, passes = [], [], [0] * len(targets)
        for i, image in enumerate(images):
            own = [target.of(i) for target in targets]
            moments, first = [Moments() for _ in own], [Moments() for _ in own]
            active = list(range(len(own)))  # the targets that still want samples
            for noise in _noise(image.shape, sigma, samples, seed, antithetic, batch_size):
                noisy = image + noise.to(image)
                del noise  # each chunk that has a name adds to the peak
                gradients = differentiate(model, noisy, [own[k] for k in active])[0]
                for k, drawn in zip(active, gradients, strict=True):
                    first[k].add(drawn)
                    drawn = statistic(drawn)
                    # The two of an antithetic pair are not independent: their mean is one sample.
                    moments[k].add(drawn.unflatten(0, (-1, 2)).mean(1) if antithetic else drawn)
                del noisy, gradients, drawn  # before the next pass, not after it
                report(i * samples + max(f.count for f in first), len(images) * samples)
                if tolerance:
                    active = [k for k in active if not moments[k].relative_error <= tolerance]
                if not active:
                    break
            values.append(torch.stack([finish(m.mean, f.mean) for m, f in zip(moments, first, strict=True)]))
            errors.append(torch.stack([m.relative_error for m in moments]))
            passes = [max(before, f.count) for before, f in zip(passes, first, strict=True)]
        logits = logits_of(model, images)
        return [
            Attribution(v, name, settings, t, t(logits), passes=p, standard_error=e)
            for v, t, p, e in zip(torch.stack(values, 1), targets, passes, torch.stack(errors, 1), strict=True)
        ]

    attribute.__name__ = attribute.__qualname__ = name
    return attribute


smoothgrad = _sampled("smoothgrad", lambda g: g, lambda mean, _: mean)
smoothgrad.__doc__ = """E[g(x + ε)], ε ~ N(0, σ²) (Smilkov et al., 2017): the gradient, averaged over noisy copies.

Args:
    samples: noisy copies at most; even with antithetic noise.
    sigma: standard deviation of the noise, as a fraction of the pixels' range.
    antithetic: draw noise in pairs ε, −ε, which cancels the part of the error that is linear in the noise.
    tolerance: stop as soon as the standard error of the map, relative to the map, is at most this (0: never).
    batch_size: noisy copies in one pass; bounds the memory.
"""
smoothgrad_squared = _sampled("smoothgrad_squared", torch.square, lambda mean, _: mean)
smoothgrad_squared.__doc__ = """E[g(x + ε)²] (Hooker et al., 2019): unsigned; settings as for `smoothgrad`."""
vargrad = _sampled("vargrad", torch.square, lambda mean, first: (mean - first.square()).clamp(min=0))
vargrad.__doc__ = """Var[g(x + ε)] (Adebayo et al., 2018), over the samples; settings as for `smoothgrad`, and the
standard error reported is that of E[g²]."""


def noisy_statistics(
    model: ImageModel, image: Tensor, targets: Sequence[Target], *, sigma: float, counts: Sequence[int], seed: int = 0
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """SmoothGrad, SmoothGrad² and VarGrad after several numbers of noisy copies, from one stream of passes.

    The values are those of the three methods with as many samples, antithetic and without a tolerance, since the noise
    of a seed begins alike however long it goes on. The caller holds the model's lock.

    Args:
        image: (3, H, W).
        counts: ascending, even.

    Yields:
        (count, method's name → (K, 3, H, W)) for each count.
    """
    chunk = math.gcd(8, *counts)  # so that every count is the end of a chunk
    total, squares, done = 0.0, 0.0, 0
    for noise in _noise(image.shape, sigma, counts[-1], seed, True, chunk):
        with torch.enable_grad():
            gradients = differentiate(model, image + noise.to(image), targets)[0]
        total, squares, done = total + gradients.sum(1), squares + gradients.square().sum(1), done + chunk
        report(done, counts[-1])
        if done in counts:
            mean, square = total / done, squares / done
            variance = (square - mean.square()).clamp(min=0)
            yield done, {"smoothgrad": mean, "smoothgrad_squared": square, "vargrad": variance}


def baseline(model: ImageModel, images: Tensor, kind: str) -> Tensor:
    """What "nothing there" means: (N, 3, H, W) in [0, 1].

    "black", "white"; "mean", the colour that the network's normalisation takes to zero; "blur", the picture itself
    under a Gaussian of a tenth of its side (Fong & Vedaldi, 2017).

    Raises:
        UndefinedError: another kind.
    """
    _check(kind in BASELINES, f"There is no baseline “{kind}”; choose one of {', '.join(BASELINES)}.")
    if kind == "blur":
        from torchvision.transforms.functional import gaussian_blur

        sigma = min(images.shape[-2:]) / 10
        radius = min(int(3 * sigma), min(images.shape[-2:]) - 1)
        return gaussian_blur(images, [2 * radius + 1, 2 * radius + 1], [sigma, sigma])
    values = {"black": torch.zeros_like(model.mean), "white": torch.ones_like(model.mean), "mean": model.mean}
    return values[kind].expand_as(images)


def quadrature(kind: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in (0, 1) and weights (summing to 1) of a rule for the integral along the path, both (steps,).

    Raises:
        UndefinedError: another kind, or no steps.
    """
    _check(kind in QUADRATURES, f"There is no quadrature “{kind}”; choose one of {', '.join(QUADRATURES)}.")
    _check(steps >= 1, f"steps must be at least 1, not {steps}.")
    if kind == "midpoint":
        return (np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps)
    positions, weights = np.polynomial.legendre.leggauss(steps)
    return (positions + 1) / 2, weights / 2


@method
def integrated_gradients(
    model: ImageModel,
    images: Tensor,
    targets: Sequence[Target],
    *,
    steps: int = 32,
    baseline_kind: str = "mean",
    quadrature_kind: str = "gauss_legendre",
    batch_size: int = 8,
) -> list[Attribution]:
    """(x − b) ∫₀¹ ∂f/∂x(b + α(x − b)) dα (Sundararajan et al., 2017): shares of f(x) − f(b), pixel by pixel.

    Args:
        steps: points on the path.
        baseline_kind: b, see `baseline`.
        quadrature_kind: "gauss_legendre", or "midpoint" (equal weights).
        batch_size: points in one pass; bounds the memory.

    The completeness gap Σ − (f(x) − f(b)) is what the quadrature missed: the attributions of the exact integral sum
    to f(x) − f(b).
    """
    _check(batch_size >= 1, f"batch_size must be at least 1, not {batch_size}.")
    settings = {
        "steps": steps, "baseline_kind": baseline_kind, "quadrature_kind": quadrature_kind, "batch_size": batch_size
    }  # fmt: skip
    positions, weights = (
        torch.as_tensor(a, dtype=images.dtype, device=images.device) for a in quadrature(quadrature_kind, steps)
    )
    base = baseline(model, images, baseline_kind)
    per_image, done = [], 0
    for i, (image, start) in enumerate(zip(images, base, strict=True)):
        own = [target.of(i) for target in targets]
        total = torch.zeros(len(targets), *image.shape, dtype=images.dtype, device=images.device)
        for at, weight in zip(positions.split(batch_size), weights.split(batch_size), strict=True):
            path = start + at.view(-1, 1, 1, 1) * (image - start)
            gradients = differentiate(model, path, own)[0]
            for step, share in enumerate(
                weight
            ):  # one by one: a product of matrices rounds by how many targets there are
                total += share * gradients[:, step]
            del path, gradients  # before the next pass, not after it
            done += len(at)
            report(done, len(images) * steps)
        per_image.append(total * (image - start))
    values = torch.stack(per_image, 1)
    at_image, at_base = logits_of(model, images), logits_of(model, base)
    return [
        Attribution(
            v, "integrated_gradients", settings, t, t(at_image), passes=steps,
            completeness_gap=v.sum((1, 2, 3)) - (t(at_image) - t(at_base)),
        )
        for v, t in zip(values, targets, strict=True)
    ]  # fmt: skip


@method
def grad_cam(model: ImageModel, images: Tensor, targets: Sequence[Target], *, layer: str = "") -> list[Attribution]:
    """Σ_c ā_c A_c, ā_c the mean over places of ∂f/∂A_c (Selvaraju et al., 2017): coarse, (N, 1, h, w), signed.

    The paper keeps the positive part; that is a choice of the map here (`sign`), so that nothing is thrown away.

    Args:
        layer: whose activations A; empty for the deepest one that still has places (`lsd.layers.deepest_grid`).

    Raises:
        UndefinedError: no such layer, no places in it, or places that do not reach the output.
    """
    return at_one_layer(model, images, targets, layer, "grad_cam", grad_cam_map)


def grad_cam_map(grid: Tensor, slope: Tensor) -> Tensor:
    """Σ_c ā_c A_c of activations and slopes (N, C, h, w): (N, 1, h, w)."""
    return (slope.mean((2, 3), keepdim=True) * grid).sum(1, keepdim=True)


def at_one_layer(
    model: ImageModel,
    images: Tensor,
    targets: Sequence[Target],
    layer: str,
    name: str,
    combine: Callable[[Tensor, Tensor], Tensor],
    *,
    settings: Mapping[str, Any] | None = None,
    objectives: Sequence[Callable[[Tensor], Tensor]] | None = None,
) -> list[Attribution]:
    """A class activation map of one layer, `combine(activations, slopes)` of (N, C, h, w) each, signed, for each target.

    The caller holds the model's lock, and gradients are on.

    Args:
        layer: whose activations; empty for the deepest one that still has places (`lsd.layers.deepest_grid`).
        name, settings: of the method, beside `layer`.
        objectives: functions of the logits that are differentiated instead of the targets themselves.

    Raises:
        UndefinedError: no such layer, no places in it, or places that do not reach the output.
    """
    chosen = find_layer(model, layer) if layer else deepest_grid(model)
    attributions, told = [], {"layer": chosen.name, **(settings or {})}
    logits, (grid,), slopes = on_grids(model, images, [chosen], objectives or targets)
    for target, (slope,) in zip(targets, slopes, strict=True):
        if not slope.any():
            raise UndefinedError(
                f"The places of {chosen.name} do not reach the output of {model.name}, so its map would be empty; "
                "choose an earlier layer, or none to have it chosen."
            )
        attributions.append(Attribution(combine(grid, slope), name, told, target, target(logits), passes=1))
    return attributions


def on_grids(
    model: ImageModel, images: Tensor, layers: Sequence[Layer], objectives: Sequence[Callable[[Tensor], Tensor]]
) -> tuple[Tensor, list[Tensor], Iterator[list[Tensor]]]:
    """One forward pass, and a backward pass for each objective, seen on the grids of some layers.

    Returns:
        the logits (N, C); each layer's activations (N, c, h, w); and for each objective its slopes at the layers, shaped alike.
    """
    with capture(model, [layer.name for layer in layers]) as captured:
        logits = model(images.requires_grad_(True))
    tensors = [captured[layer.name] for layer in layers]

    def laid_out(values: Sequence[Tensor]) -> list[Tensor]:
        return [to_grid(layer, at_least_fp32(one)) for layer, one in zip(layers, values, strict=True)]

    slopes = (laid_out(own) for _, own in slopes_at(tensors, logits, objectives))
    return logits.detach(), laid_out([tensor.detach() for tensor in tensors]), slopes


@method
def depth_fusion(model: ImageModel, images: Tensor, targets: Sequence[Target]) -> list[Attribution]:
    """Our own: gradient × activation at several depths, fused: (N, 1, H, W) over the pixels, not negative; one pass.

    With a_l = max(Σ_c A_c · ∂f/∂A_c, 0) of layer l, enlarged to the picture, and a_0 = max_c |∂f/∂x_c|, each divided by
    its mean over the picture, and L the deepest layer that still has places (`lsd.layers.depth_layers`):

        (a_0 + a_1 + … + a_L) · (a_L + DEPTH_FLOOR)

    The deepest layer says where the class is, but coarsely; the shallower ones say what of it, but of every class. The
    sum keeps what any of them points at; the product with the deepest keeps it to the class, and the floor keeps the
    order of what the deepest does not see at all. benchmarks/depth_fusion.py holds it against its neighbours.

    In transformers (`libra_rules.balances`) the slopes are those of LibraGrad's backward pass, in which gradient × activation of
    any layer adds up to the output but for biases. So one map more joins the sum and takes the deepest's place in the product:
    max(Σ_l Σ_c A_c · ∂f/∂A_c, 0), of all layers l together. Still one pass; docs/depth_fusion.md has what that brings.

    Raises:
        UndefinedError: the network has no layer whose places reach the output.
    """
    names, parts, scores = depth_parts(model, images, targets, balanced=balances(model))
    return [
        Attribution(fuse(own), "depth_fusion", {"layers": names}, target, score, passes=1)
        for own, target, score in zip(parts, targets, scores, strict=True)
    ]


def fuse(parts: Sequence[Tensor]) -> Tensor:
    """(a_0 + … + a_L) · (a_L + DEPTH_FLOOR) of maps of one shape."""
    return sum(parts) * (parts[-1] + DEPTH_FLOOR)


def depth_parts(
    model: ImageModel, images: Tensor, targets: Sequence[Target], *, balanced: bool
) -> tuple[list[str], list[list[Tensor]], list[Tensor]]:
    """What `depth_fusion` fuses: the layers' names; for each target its maps, each (N, 1, H, W); and its scores (N,).

    The maps are a_0 … a_L, and with `balanced`, as in transformers, that of all layers together, all behind LibraGrad's rules. The
    caller holds the model's lock, and gradients are on.
    """
    layers = depth_layers(model)
    names = [layer.name for layer in layers]
    with capture(model, names) as captured, LibraRule() if balanced else contextlib.nullcontext():
        logits = model(images.requires_grad_(True))
    layers = [layer for layer in layers if captured[layer.name].requires_grad]
    names = [layer.name for layer in layers]
    grids = [to_grid(layer, at_least_fp32(captured[layer.name].detach())) for layer in layers]
    parts, told = [], []
    for scores, slopes in slopes_at([images, *(captured[name] for name in names)], logits, targets):
        products = [
            (grid * to_grid(layer, at_least_fp32(slope))).sum(1, keepdim=True)
            for layer, grid, slope in zip(layers, grids, slopes[1:], strict=True)
        ]
        if balanced:
            products.append(sum(products))  # transformers keep their grid
        enlarged = (F.interpolate(p.clamp(min=0), size=images.shape[-2:], mode="bilinear") for p in products)
        parts.append([_over_mean(one) for one in (slopes[0].abs().amax(1, keepdim=True), *enlarged)])
        told.append(scores)
    return names, parts, told


def _over_mean(values: Tensor) -> Tensor:
    """Maps (N, 1, H, W), not negative, divided by their means; a map of zeros stays one."""
    return values / values.mean((2, 3), keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise UndefinedError(message)
