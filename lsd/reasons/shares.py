"""How much each channel of a layer speaks for a target: its share of the decision.

With A the layer's output, c a channel, and p its places (prefix tokens among them), the share of c is

- `gradient_x_activation`: Σ_p A_cp · ∂f/∂A_cp, what the target loses, to first order, when the channel is switched off
  (Shrikumar et al., 2016; at a layer: Selvaraju et al., 2017, before the channels are added up);
- `integrated`: Σ_p A_cp · ∫₀¹ ∂f/∂A_cp(αA) dα, so that all shares together are f(A) − f(0) (Sundararajan et al., 2017; at a layer:
  Dhamdhere et al., 2019);
- `joint`: the same on the way from A to A with only the first `JOINT` channels by `gradient_x_activation` at zero, so that their
  shares together are what the target loses when these are switched off: as one goes, others step in, and the way to a layer that
  is all zero leads through what no picture does to it;
- `ablation`: f(A) − f(A with c at zero), channel by channel: the slow truth about one channel, not about several together;
- `activation`: Σ_p A_cp, which knows nothing of the target: a control.

Where a mean over places and a linear map follow, f a logit, the first three agree, and shares + bias = logit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.layers import find_layer
from lsd.layout import Layer, flat_to_grid, from_flat, to_flat
from lsd.models import ImageModel
from lsd.precision import undisturbed
from lsd.progress import report
from lsd.reasons.switch import goes_on, without
from lsd.saliency.attribution import finite
from lsd.saliency.gradients import quadrature, slopes_at
from lsd.saliency.targets import Target
from lsd.tracing import capture, replaced

METHODS = ("gradient_x_activation", "joint", "integrated", "ablation", "activation")
JOINT = 20  # channels that are switched off together on the way of `joint`
STEPS = {"joint": 3, "integrated": 16}  # points on the way


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
    to the layers only; one more forward pass a layer says what the target is with the layer at zero.

    Args:
        images: (N, 3, H, W), RGB in [0, 1].
        layers: modules, or runs of them.
        method: one of `METHODS`.
        steps: points on the way of `joint` and `integrated`; by default `STEPS`.
        batch_size: pictures in a pass of `joint`, `integrated` and `ablation`; bounds the memory.

    Raises:
        UndefinedError: no such method or layer, a layer whose channels are not known, or numbers that are not finite.
    """
    if method not in METHODS:
        raise UndefinedError(f"Shares are not found by “{method}”; choose one of {', '.join(METHODS)}.")
    found = [find_layer(model, name) for name in layers]
    with undisturbed(model.device), model.lock:
        images = model.take(images)
        activations, slopes, scores = _slopes(model, images, targets, found)
        answers = {}
        for i, layer in enumerate(found):
            zero = without(model, images, layer, torch.ones(len(images), layer.channels, dtype=torch.bool))
            answers[layer.name] = own = []
            products = [activations[i] * own_slopes[i] for own_slopes in slopes]
            parts: Sequence[Tensor | None] = [None] * len(targets)
            if method == "gradient_x_activation":
                parts = products
            elif method == "activation":
                parts = [activations[i]] * len(targets)
            elif method in STEPS:
                gone = [torch.ones(len(images), layer.channels)] * len(targets)
                if method == "joint":
                    gone = [_first(to_flat(layer, product).sum(2), JOINT) for product in products]
                means = _mean_slopes(model, images, targets, layer, gone, steps or STEPS[method], batch_size)
                parts = [activations[i] * mean for mean in means]
            for target, part, score in zip(targets, parts, scores, strict=True):
                flat = None if part is None else to_flat(layer, part)
                values = _ablated(model, images, target, layer, score, batch_size) if flat is None else flat.sum(2)
                finite(values, model, method)
                own.append(Shares(layer, target, method, values, flat, score, target(zero)))
    return answers


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


def _first(values: Tensor, count: int) -> Tensor:
    """(N, C) 1 at the largest of each row's `values` that are above zero, so many at most, else 0."""
    top, channels = values.topk(min(count, values.shape[1]), dim=1)
    return torch.zeros_like(values).scatter(1, channels, (top > 0).to(values))


@torch.enable_grad()
def _mean_slopes(
    model: ImageModel,
    images: Tensor,
    targets: Sequence[Target],
    layer: Layer,
    gone: Sequence[Tensor],
    steps: int,
    batch_size: int,
) -> Tensor:
    """For each target the mean of its slopes along the straight path from a layer with channels `gone` (N, C) at zero to what it
    puts out: (targets, N, …) as its output."""
    positions, weights = (
        torch.as_tensor(a, dtype=images.dtype, device=images.device).repeat(len(targets))
        for a in quadrature("gauss_legendre", steps)
    )
    whose = torch.arange(len(targets), device=images.device).repeat_interleave(steps)
    away = torch.stack([one.to(images) for one in gone])
    once = goes_on(model, layer)
    means = []
    for n in range(len(images)):
        total = 0.0
        for some in torch.arange(len(whose), device=images.device).split(batch_size):
            points: list[Tensor] = []
            left = 1 - (1 - positions[some])[:, None] * away[whose[some], n]  # of each channel

            def scaled(output: Tensor, left: Tensor = left, points: list[Tensor] = points) -> Tensor:
                many = output.expand(len(left), *output.shape[1:])
                at = from_flat(layer, to_flat(layer, output) * left[..., None].to(output), many)
                points.append(at.detach().requires_grad_(True))
                return points[0].clone()

            with replaced(model, layer.name, scaled):
                logits = model(images[n : n + 1] if once else images[n : n + 1].expand(len(some), -1, -1, -1))
            asked = [(targets[k].of(n), whose[some] == k) for k in whose[some].unique().tolist()]
            (slopes,) = torch.autograd.grad(sum(own(logits[rows]).sum() for own, rows in asked), points)
            weighted = slopes * weights[some].view(-1, *[1] * (slopes.ndim - 1))
            total = total + slopes.new_zeros(len(targets), *slopes.shape[1:]).index_add(0, whose[some], weighted)
            report(n * steps, len(images) * steps)
        means.append(total)
    return torch.stack(means, 1)


@torch.no_grad()
def _ablated(
    model: ImageModel, images: Tensor, target: Target, layer: Layer, scores: Tensor, batch_size: int
) -> Tensor:
    """(N, C) what the target loses when each channel alone is at zero."""
    lost = []
    for n, image in enumerate(images):
        own, left = target.of(n), []
        for channels in torch.arange(layer.channels).split(batch_size):
            off = torch.zeros(len(channels), layer.channels, dtype=torch.bool)
            off[torch.arange(len(channels)), channels] = True
            left.append(own(without(model, image[None], layer, off)))
            report(n * layer.channels + int(channels[-1]) + 1, len(images) * layer.channels)
        lost.append(scores[n] - torch.cat(left))
    return torch.stack(lost)
