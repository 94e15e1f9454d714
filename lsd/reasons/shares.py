"""How much each channel of a layer speaks for a target: its share of the decision.

With A the layer's output, c a channel, and p its places (prefix tokens among them), the share of c is

- `gradient_x_activation`: Σ_p A_cp · ∂f/∂A_cp, what the target loses, to first order, when the channel is switched off
  (Shrikumar et al., 2016; at a layer: Selvaraju et al., 2017, before the channels are added up);
- `integrated`: Σ_p A_cp · ∫₀¹ ∂f/∂A_cp(αA) dα, so that all shares together are f(A) − f(0) (Sundararajan et al., 2017; at a layer:
  Dhamdhere et al., 2019);
- `joint`: the same on the way from A to A with only the first `JOINT` channels at zero, so that their shares together are what the
  target loses when these are switched off: as one goes, others step in, and the way to a layer that is all zero leads through
  what no picture does to it. Which channels are the first is said by `gradient_x_activation`, and then again by what came of that;
- `ablation`: f(A) − f(A with c at zero), channel by channel: the slow truth about one channel, not about several together;
- `activation`: Σ_p A_cp, which knows nothing of the target: a control.

Where a mean over places and a linear map follow, f a logit, the first three agree, and shares + bias = logit.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.layers import find_layer
from lsd.layout import Layer, flat_to_grid, from_flat, to_flat
from lsd.models import ImageModel
from lsd.precision import undisturbed
from lsd.progress import report
from lsd.reasons.switch import goes_on, without
from lsd.resumed import Before, kept_before, resumed
from lsd.saliency.attribution import finite
from lsd.saliency.gradients import quadrature, slopes_at
from lsd.saliency.targets import Target
from lsd.tracing import capture, replaced

METHODS = ("gradient_x_activation", "joint", "integrated", "ablation", "activation")
JOINT = 20  # channels that are switched off together on the way of `joint`
STEPS = {"joint": 2, "integrated": 16}  # points on the way, of `joint` its end among them, whose slopes are known
_CHOICES = 2  # how often the first channels of `joint` are chosen
_ONE_BY_ONE = ("joint", "integrated", "ablation")  # picture by picture


@dataclass(frozen=True)
class Shares:
    """Of N pictures.

    Attributes:
        layer: whose channels are meant.
        target: what they speak for.
        values: (N, C), in units of the target (nats for log-odds).
        parts: (N, C, P) what each place adds to them, as `layout.to_flat` has places; None of methods that know no places.
        scores: (N,) the target's value at the pictures.
        zero: (N,) its value with the whole layer at zero.
    """

    layer: Layer
    target: Target
    method: str
    values: Tensor
    parts: Tensor | None
    scores: Tensor
    zero: Tensor

    @property
    def maps(self) -> Tensor | None:
        """(N, C, h, w) the parts on the grid, which add up to `values` but for what lies at prefix tokens; None without places."""
        return None if self.parts is None or not self.layer.height else flat_to_grid(self.layer, self.parts)

    @property
    def places(self) -> Tensor | None:
        """(N, h, w) the share of each place, all its channels together; None without places."""
        maps = self.maps
        return None if maps is None else maps.sum(1)

    @property
    def gap(self) -> Tensor:
        """(N,) what the shares leave unexplained: f(A) − f(0) − their sum."""
        return self.scores - self.zero - self.values.sum(1)

    def of(self, n: int) -> "Shares":
        """Those of one of the pictures."""
        one = slice(n, n + 1)
        parts = None if self.parts is None else self.parts[one]
        return replace(self, target=self.target.of(n), values=self.values[one], parts=parts,
                       scores=self.scores[one], zero=self.zero[one])  # fmt: skip

    def order(self) -> Tensor:
        """(N, C) channels, from the one that speaks most for the target to the one that speaks most against it."""
        return self.values.argsort(dim=1, descending=True, stable=True)


def shares(
    model: ImageModel,
    images: Tensor,
    targets: Sequence[Target],
    layers: Sequence[str],
    *,
    method: str = "gradient_x_activation",
    steps: int | None = None,
    batch_size: int = 16,
) -> dict[str, list[Shares]]:
    """Layer's name → the shares of its channels for each of the targets.

    `gradient_x_activation` takes one forward pass for all layers and targets, and a backward pass for each target from the output
    to the layers only. All else goes on from the layer, where a network can (`goes_on`): what the target is with the layer at
    zero, and the points on the way.

    Args:
        images: (N, 3, H, W), RGB in [0, 1].
        layers: modules, or runs of them.
        method: one of `METHODS`.
        steps: points on the way of `joint` (2 at least) and `integrated`; by default `STEPS`.
        batch_size: points or channels in a pass of `joint`, `integrated` and `ablation`; bounds the memory.

    Raises:
        UndefinedError: no such method or layer, a layer whose channels are not known, too few points, or
            numbers that are not finite.
    """
    if method not in METHODS:
        raise UndefinedError(f"Shares are not found by “{method}”; choose one of {', '.join(METHODS)}.")
    found = [find_layer(model, name) for name in layers]
    with undisturbed(model.device), model.lock:
        images = model.take(images)
        if method in _ONE_BY_ONE and len(images) > 1:
            each = [
                shares(model, image[None], [target.of(n) for target in targets], layers, method=method, steps=steps,
                       batch_size=batch_size)
                for n, image in enumerate(images)
            ]  # fmt: skip
            return {
                layer.name: [_joined([one[layer.name][k] for one in each], own) for k, own in enumerate(targets)]
                for layer in found
            }
        with ExitStack() as keeping:
            befores: list[Before] = [
                keeping.enter_context(kept_before(model, layer.name))
                if len(images) == 1 and goes_on(model, layer) else ()
                for layer in found
            ]  # fmt: skip
            activations, slopes, scores = _slopes(model, images, targets, found)
        answers = {}
        for i, (layer, before) in enumerate(zip(found, befores, strict=True)):
            zero = without(
                model, images, layer, torch.ones(len(images), layer.channels, dtype=torch.bool), before=before
            )
            answers[layer.name] = own = []
            parts: Sequence[Tensor | None] = [None] * len(targets)
            if method == "gradient_x_activation":
                parts = [activations[i] * of_target[i] for of_target in slopes]
            elif method == "activation":
                parts = [activations[i]] * len(targets)
            elif method in STEPS:
                way = _Way(model, images, targets, layer, before, batch_size)
                of_targets = torch.stack([of_target[i] for of_target in slopes])
                mean = _joint if method == "joint" else _integrated
                parts = [activations[i] * one for one in mean(way, activations[i], of_targets, steps or STEPS[method])]
            for target, part, score in zip(targets, parts, scores, strict=True):
                flat = None if part is None else to_flat(layer, part)
                values = (
                    _ablated(model, images, target, layer, before, score, batch_size) if flat is None else flat.sum(2)
                )
                finite(values, model, method)
                own.append(Shares(layer, target, method, values, flat, score, target(zero)))
    return answers


def _joined(each: Sequence[Shares], target: Target) -> Shares:
    """The shares of several pictures as those of one batch."""
    values, parts, scores, zero = (
        None if getattr(each[0], name) is None else torch.cat([getattr(one, name) for one in each])
        for name in ("values", "parts", "scores", "zero")
    )
    return replace(each[0], target=target, values=values, parts=parts, scores=scores, zero=zero)


@torch.enable_grad()
def _slopes(
    model: ImageModel, images: Tensor, targets: Sequence[Target], layers: Sequence[Layer]
) -> tuple[list[Tensor], list[list[Tensor]], list[Tensor]]:
    """Activations of each layer, their slopes by target and layer, and scores by target."""
    with capture(model, [layer.name for layer in layers]) as captured:
        logits = model(images.detach().requires_grad_(True))  # so that there is a graph: the parameters are frozen
    activations = [captured[layer.name] for layer in layers]
    found = list(slopes_at(activations, logits, targets))
    return [a.detach() for a in activations], [slopes for _, slopes in found], [scores for scores, _ in found]


@dataclass(frozen=True)
class _Way:
    """Where slopes are taken on the way to what a layer puts out, of one picture."""

    model: ImageModel
    image: Tensor
    targets: Sequence[Target]
    layer: Layer
    before: Before
    batch_size: int

    @torch.enable_grad()
    def mean(self, away: Tensor, positions: np.ndarray, weights: np.ndarray) -> Tensor:
        """(targets, 1, …) as the layer's output: for each target the weighted sum of its slopes at some positions, 0 where its
        channels `away` (targets, C) are at zero and 1 where they are as they were."""
        whose = torch.arange(len(self.targets), device=away.device).repeat_interleave(len(positions))
        at_all, of_all = (
            torch.as_tensor(values, dtype=away.dtype, device=away.device).repeat(len(self.targets))
            for values in (positions, weights)
        )
        total: Tensor | float = 0.0
        for some in torch.arange(len(whose), device=away.device).split(self.batch_size):
            points: list[Tensor] = []
            left = 1 - (1 - at_all[some])[:, None] * away[whose[some]]  # of each channel

            def scaled(output: Tensor, left: Tensor = left, points: list[Tensor] = points) -> Tensor:
                many = output.expand(len(left), *output.shape[1:])
                at = from_flat(self.layer, to_flat(self.layer, output) * left[..., None].to(output), many)
                points.append(at.detach().requires_grad_(True))
                return points[0].clone()

            images = self.image if self.before else self.image.expand(len(some), -1, -1, -1)
            with resumed(self.model, self.before), replaced(self.model, self.layer.name, scaled):
                logits = self.model(images)
            asked = [(self.targets[k], whose[some] == k) for k in whose[some].unique().tolist()]
            (slopes,) = torch.autograd.grad(sum(own(logits[rows]).sum() for own, rows in asked), points)
            weighted = slopes * of_all[some].view(-1, *[1] * (slopes.ndim - 1))
            empty = slopes.new_zeros(len(self.targets), *slopes.shape[1:])
            total = total + empty.index_add(0, whose[some], weighted)
        return total[:, None]


def _integrated(way: _Way, activation: Tensor, _slopes: Tensor, steps: int) -> Tensor:
    """The mean slopes on the way from zero."""
    return way.mean(activation.new_ones(len(way.targets), way.layer.channels), *quadrature("gauss_legendre", steps))


def _joint(way: _Way, activation: Tensor, slopes: Tensor, steps: int) -> Tensor:
    """The mean slopes on the way from where the first channels are at zero; which these are is chosen again by what comes out.

    Args:
        slopes: (targets, 1, …) at the way's end, as the picture is.
    """
    positions, weights = radau(steps)
    mean = slopes
    for _ in range(_CHOICES):
        values = torch.cat([to_flat(way.layer, activation * one).sum(2) for one in mean])
        mean = float(weights[-1]) * slopes + way.mean(_first(values, JOINT), positions[:-1], weights[:-1])
    return mean


def radau(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in (0, 1], the last of which is 1, and weights (summing to 1) of a mean over the way, both (points,): exact for
    polynomials of a degree up to 2 · points − 2 (Radau, 1880).

    Raises:
        UndefinedError: fewer than two points.
    """
    if points < 2:
        raise UndefinedError(f"The way has at least 2 points, its end among them, and not {points}.")
    legendre = np.polynomial.legendre
    x = legendre.legroots([0] * (points - 1) + [1, 1])[::-1]
    weights = (1 - x) / (points * legendre.legval(x, [0] * (points - 1) + [1])) ** 2
    return (1 - x) / 2, weights / 2


def _first(values: Tensor, count: int) -> Tensor:
    """(N, C) 1 at the largest of each row's `values` that are above zero, so many at most, else 0."""
    top, channels = values.topk(min(count, values.shape[1]), dim=1)
    return torch.zeros_like(values).scatter(1, channels, (top > 0).to(values))


@torch.no_grad()
def _ablated(
    model: ImageModel,
    images: Tensor,
    target: Target,
    layer: Layer,
    before: Before,
    scores: Tensor,
    batch_size: int,
) -> Tensor:
    """(1, C) what the target loses when each channel alone is at zero."""
    left = []
    for channels in torch.arange(layer.channels).split(batch_size):
        off = torch.zeros(len(channels), layer.channels, dtype=torch.bool)
        off[torch.arange(len(channels)), channels] = True
        left.append(target(without(model, images, layer, off, before=before)))
        report(int(channels[-1]) + 1, layer.channels)
    return scores[:, None] - torch.cat(left)[None]
