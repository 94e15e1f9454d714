"""How much each head of an attention layer speaks for a target, and what the network says without some of them.

The heads' outputs stand side by side where they enter the layer's projection (`lsd.features.objectives.tap`). A head's share is
Σ A · ∂f/∂A over its numbers there, tokens without a place among them: what the target loses, to first order, when the head is
switched off, as `gradient_x_activation` of a channel (`lsd.reasons.shares`); or `ablation`, what it really loses; or `activation`,
the length of its numbers, which knows nothing of the target: a control.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.layers import attention_heads, attention_layers
from lsd.layout import Layer
from lsd.models import ImageModel
from lsd.precision import undisturbed
from lsd.reasons.shares import Shares
from lsd.saliency.attribution import finite
from lsd.saliency.gradients import slopes_at
from lsd.saliency.targets import Target
from lsd.tracing import Tap, of_run, replaced, run_to, split_run

METHODS = ("gradient_x_activation", "ablation", "activation")


def default_heads(model: ImageModel) -> str:
    """The attention layer that is looked at where nobody says another: the last but one, as `defaults.default_layer` of channels.

    Raises:
        UndefinedError: a network without attention heads.
    """
    known = list(attention_layers(model))
    if not known:
        raise UndefinedError(f"{model.name} has no attention heads; ask for channels or positions.")
    return known[-2] if len(known) > 1 else known[0]


def head_shares(
    model: ImageModel, images: Tensor, targets: Sequence[Target], layer: str, *, method: str = METHODS[0]
) -> list[Shares]:
    """The shares of an attention layer's heads for each of the targets: one forward pass, and a backward pass for each target (of
    `ablation`, a forward pass for each head).

    Args:
        images: (N, 3, H, W), RGB in [0, 1].
        method: one of `METHODS`.

    Returns:
        shares whose layer has the layout "heads", its heads in place of channels; they have no parts by place.

    Raises:
        UndefinedError: no attention layer whose heads can be told apart, another method, or numbers that are not finite.
    """
    heads, where = attention_heads(model, layer), Tap(_projection(layer), inside=True)
    if method not in METHODS:
        raise UndefinedError(f"Shares of heads are not found by “{method}”; choose one of {', '.join(METHODS)}.")
    none = without_heads(model, images, layer, torch.ones(len(images), heads))
    alone = [
        without_heads(model, images, layer, one.expand(len(images), -1)) for one in torch.eye(heads)
    ] if method == "ablation" else []  # fmt: skip
    with undisturbed(model.device), torch.enable_grad():
        images = model.take(images).detach().requires_grad_(True)  # so that there is a graph: the parameters are frozen
        found = run_to(model, images, [where, Tap("")])
        activation = found[where]
        answers = []
        for target, (scores, (slope,)) in zip(targets, slopes_at([activation], found[Tap("")], targets), strict=True):
            if method == "ablation":
                values = torch.stack([scores - target(logits) for logits in alone], 1)
            elif method == "activation":
                values = _by_head(activation.detach(), len(images), heads).square().sum((1, 3)).sqrt()
            else:
                values = _by_head(activation.detach() * slope, len(images), heads).sum((1, 3))
            finite(values, model, method)
            answers.append(Shares(Layer(layer, "heads", heads), target, method, values, None, scores, target(none)))
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
