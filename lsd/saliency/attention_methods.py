"""Maps made of a transformer's attention; `attention` says for which networks it can be read.

Every function takes `(model, images, target, **settings)` as those of `gradients` do, and gives (N, 1, h, w) over the places of
the tokens, not negative.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lsd.errors import UndefinedError
from lsd.models import ImageModel
from lsd.precision import at_least_fp32
from lsd.saliency.attention import Reading, over_places, read, reading_tokens
from lsd.saliency.attribution import Attribution
from lsd.saliency.gradients import method, slopes_at
from lsd.saliency.targets import Target
from lsd.tracing import capture

LEGRAD_LAYERS = 4


@method
def attention_rollout(model: ImageModel, images: Tensor, targets: Sequence[Target]) -> list[Attribution]:
    """Π_l ½ (mean over heads of A_l + 1), the last layer first (Abnar & Zuidema, ACL 2020): where the answer's token has looked,
    through all layers, each of whose residual paths counts as much as its attention. The same for every target; a forward pass.

    Raises:
        UndefinedError: attention that cannot be read.
    """
    readers = reading_tokens(model)
    with torch.no_grad():
        found = read(model, images)
        flow = _rolled([one.weights.mean(1) for one in found.attentions], residual=0.5)
    values = _read_out(found, flow, readers)
    return [Attribution(values, "attention_rollout", {}, t, t(found.logits), passes=1) for t in targets]


@method
def gradient_rollout(model: ImageModel, images: Tensor, targets: Sequence[Target]) -> list[Attribution]:
    """Π_l (mean over heads of max(A_l ⊙ ∂f/∂A_l, 0) + 1), the last layer first (Chefer, Gur & Wolf, ICCV 2021, rules 5 and 6): as
    rollout, but only through attention that speaks for the target.

    Raises:
        UndefinedError: attention that cannot be read.
    """
    readers = reading_tokens(model)
    found = read(model, images.requires_grad_(True))
    weights = [one.weights for one in found.attentions]
    attributions = []
    for target, (scores, slopes) in zip(targets, slopes_at(weights, found.logits, targets), strict=True):
        layers = [(w.detach() * s).clamp(min=0).mean(1) for w, s in zip(weights, slopes, strict=True)]
        values = _read_out(found, _rolled(layers, residual=None), readers)
        attributions.append(Attribution(values, "gradient_rollout", {}, target, scores, passes=1))
    return attributions


def _rolled(layers: Sequence[Tensor], residual: float | None) -> Tensor:
    """(N, queries, keys): matrices (N, queries, keys) of all layers, each with its residual path, multiplied from the last to the
    first. A layer that pools has no residual path.

    Args:
        residual: share of the residual path, the layer having the rest; None to add it whole, to the layer as it is.
    """
    eye = torch.eye(layers[0].shape[-1], dtype=layers[0].dtype, device=layers[0].device)
    flow = eye.expand_as(layers[0])
    for layer in layers:
        through = layer @ flow
        if layer.shape[1] != layer.shape[2]:
            flow = through
        else:
            flow = flow + through if residual is None else residual * flow + (1 - residual) * through
    return flow


def _read_out(found: Reading, flow: Tensor, readers: Tensor) -> Tensor:
    """(N, 1, h, w): the mean row of those tokens of which the outputs are made, over places."""
    return over_places(found.tokens, at_least_fp32(flow[:, readers].mean(1, keepdim=True)))


@method
def legrad(
    model: ImageModel, images: Tensor, targets: Sequence[Target], *, layers: int = LEGRAD_LAYERS
) -> list[Attribution]:
    """Σ_l mean over heads and queries of max(∂f_l/∂A_l, 0) (LeGrad; Bousselham et al., ICCV 2025, arXiv 2404.03214), f_l being the
    target of the logits that the network's own head makes of what block l puts out: of the mean over its tokens, class token
    included, in networks that read the class token, else of what the network itself averages. The authors' map is scaled to [0, 1].

    Args:
        layers: how many of the last blocks; 0 for all.

    Raises:
        UndefinedError: attention that cannot be read, or a network whose head cannot be put behind each block.
    """
    names, decode = _decoder(model)
    names = names[-layers:] if layers else names
    with capture(model, names) as captured:
        found = read(model, images.requires_grad_(True))
    weights = {name: one.weights for name in names for one in found.attentions if f"{one.name}.".startswith(f"{name}.")}
    if len(weights) < len(names):
        raise UndefinedError(
            f"{model.name} has blocks without attention, so LeGrad is not defined for it; choose depth fusion."
        )
    attributions = []
    for target in targets:
        total = 0.0
        for name in names:
            score = target(at_least_fp32(decode(captured[name]))).sum()
            (slope,) = torch.autograd.grad(score, weights[name], retain_graph=True)
            total = total + at_least_fp32(slope).clamp(min=0).mean((1, 2))
        values = over_places(found.tokens, total)[:, None]
        settings = {"layers": len(names)}
        attributions.append(Attribution(values, "legrad", settings, target, target(found.logits).detach(), passes=1))
    return attributions


def _decoder(model: ImageModel) -> tuple[list[str], Callable[[Tensor], Tensor]]:
    """The blocks' names, and what makes logits (N, C) of what one puts out (N, tokens, channels)."""
    net = model.net
    head = getattr(net, "head", None)
    pool = getattr(net, "global_pool", None)
    if not (
        isinstance(getattr(net, "blocks", None), nn.Sequential | nn.ModuleList)
        and isinstance(getattr(net, "norm", None), nn.Module)
        and isinstance(head, nn.Linear)
        and getattr(net, "attn_pool", None) is None
        and pool in ("token", "avg")
    ):
        raise UndefinedError(
            f"LeGrad is defined for transformers that are one row of blocks and whose head fits behind each of them, and "
            f"{model.name} is not built so; choose depth fusion."
        )
    first = 0 if pool == "token" else model.num_prefix_tokens
    second_norm, other_head = getattr(net, "fc_norm", None), getattr(net, "head_dist", None)

    def decode(tokens: Tensor) -> Tensor:
        pooled = net.norm(tokens[:, first:].mean(1))
        pooled = pooled if second_norm is None else second_norm(pooled)
        return head(pooled) if other_head is None else (head(pooled) + other_head(pooled)) / 2

    return [f"blocks.{i}" for i in range(len(net.blocks))], decode
