"""How much each head of an attention layer speaks for a target, and what the network says without some of them.

The heads' outputs stand side by side where they enter the layer's projection (`lsd.features.objectives.tap`). A head's share is
Σ A · ∂f/∂A over its numbers there, tokens without a place among them: what the target loses, to first order, when the head is
switched off, as `gradient_x_activation` of a channel (`lsd.reasons.shares`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.layers import attention_heads
from lsd.models import ImageModel
from lsd.precision import undisturbed
from lsd.saliency.attribution import finite
from lsd.saliency.gradients import slopes_at
from lsd.saliency.targets import Target
from lsd.tracing import Tap, of_run, replaced, run_to, split_run


@dataclass(frozen=True)
class HeadShares:
    """Of N pictures.

    Attributes:
        layer: the attention module.
        target: what its heads speak for.
        values: (N, heads), in units of the target.
        scores: (N,) the target's value.
    """

    layer: str
    target: Target
    values: Tensor
    scores: Tensor


def head_shares(model: ImageModel, images: Tensor, targets: Sequence[Target], layer: str) -> list[HeadShares]:
    """The shares of an attention layer's heads for each of the targets: one forward pass, and a backward pass for each target.

    Args:
        images: (N, 3, H, W), RGB in [0, 1].

    Raises:
        UndefinedError: no attention layer whose heads can be told apart, or numbers that are not finite.
    """
    heads, where = attention_heads(model, layer), Tap(_projection(layer), inside=True)
    with undisturbed(model.device), torch.enable_grad():
        images = model.take(images).detach().requires_grad_(True)  # so that there is a graph: the parameters are frozen
        found = run_to(model, images, [where, Tap("")])
        activation = found[where]
        answers = []
        for target, (scores, (slope,)) in zip(targets, slopes_at([activation], found[Tap("")], targets), strict=True):
            values = _by_head(activation.detach() * slope, len(images), heads).sum((1, 3))
            answers.append(HeadShares(layer, target, finite(values, model, "gradient_x_activation"), scores))
    return answers


@torch.no_grad()
def without_heads(model: ImageModel, images: Tensor, layer: str, off: Tensor) -> Tensor:
    """Logits (N, classes) with heads of an attention layer at zero.

    Args:
        images: (N, 3, H, W), RGB in [0, 1].
        off: (N, heads) True and False, or how far, from 0 to 1.

    Raises:
        UndefinedError: no attention layer whose heads can be told apart, or another number of them.
    """
    heads = attention_heads(model, layer)
    if off.shape != (len(images), heads):
        raise UndefinedError(f"{layer} has {heads} heads, and which are off is said of {off.shape[-1]}.")

    def change(given: Tensor) -> Tensor:
        left = 1 - off.to(given)
        return (_by_head(given, len(images), heads) * left[:, None, :, None]).reshape(given.shape)

    with undisturbed(model.device), replaced(model, _projection(layer), change, inside=True):
        return model(model.take(images))


def _projection(layer: str) -> str:
    module, run = split_run(layer)
    return of_run(f"{module}.proj", run)


def _by_head(values: Tensor, pictures: int, heads: int) -> Tensor:
    """What enters the projection → (N, tokens, heads, …); where attention goes by windows, a picture has several rows."""
    return values.reshape(pictures, -1, heads, values.shape[-1] // heads)
