"""The attention of a transformer, read as the network runs: each head's weights, with the gradients that reach them.

Fused kernels never write the weights down. Within `AttentionReader` this thread's calls of them are calculated in two steps
instead, and products with the result of a softmax are recognised where a network takes the two steps itself. Neither the network
nor anybody else who uses it is touched; nothing has to be switched back.

Only weights that multiply values as they come out of the softmax count as read. Where a network does more to them, or has
windows, coarser keys or several streams, what is read would not say where in the picture it points, and the network is refused.
"""

import math
import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lsd.errors import UndefinedError
from lsd.layers import list_layers
from lsd.layout import Layer
from lsd.models import ImageModel
from lsd.precision import undisturbed
from lsd.tracing import blank

_SOFTMAX = {F.softmax, torch.softmax, Tensor.softmax}
_PRODUCTS = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm}


@dataclass(frozen=True)
class Attention:
    """One attention layer of one pass.

    Attributes:
        name: of its module.
        weights: (N, heads, queries, keys), each query's adding up to 1; part of the graph.
    """

    name: str
    weights: Tensor


@dataclass(frozen=True)
class Reading:
    """What a pass gave.

    Attributes:
        logits: (N, C).
        attentions: in the order in which they ran. All are over the same tokens, but for a last one that may pool them.
        tokens: how the keys lie over the picture.
    """

    logits: Tensor
    attentions: tuple[Attention, ...]
    tokens: Layer


class AttentionReader(TorchFunctionMode):
    """Within this context, the attention weights of this thread's passes are kept.

    `found` has the weights and the module that was running, `lost` the modules whose softmax was not multiplied with values as
    it came out, and `hidden` is whether torch's own `nn.MultiheadAttention` ran, inside of which nothing is seen. Call `enter` and
    `leave` as modules begin and end.
    """

    def __init__(self):
        super().__init__()
        self.hidden = False
        self.found: list[Attention] = []
        self._pending: dict[int, Attention] = {}
        self._running: list[str] = []

    @property
    def lost(self) -> list[str]:
        return [one.name for one in self._pending.values()]

    def enter(self, name: str) -> None:
        self._running.append(name)

    def leave(self) -> None:
        self._running.pop()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._in_steps(*args, **kwargs)
        self.hidden |= func is F.multi_head_attention_forward
        if func in _PRODUCTS and isinstance(args[0], Tensor):
            kept = self._pending.pop(args[0].data_ptr(), None)
            if kept is not None:
                self.found.append(kept)
        found = func(*args, **kwargs)
        if func in _SOFTMAX and found.ndim >= 3:
            self._pending[found.data_ptr()] = Attention(self._here(), found)
        return found

    def _here(self) -> str:
        return self._running[-1] if self._running else ""

    def _in_steps(
        self, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
    ) -> Tensor:
        """softmax(q kᵀ · scale + mask) v, as the fused kernel calculates it in eval mode."""
        if enable_gqa:
            key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
        answers = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            later = torch.ones(answers.shape[-2:], dtype=torch.bool, device=answers.device).triu(1)
            answers = answers.masked_fill(later, -math.inf)
        if attn_mask is not None:
            is_bool = attn_mask.dtype == torch.bool
            answers = answers.masked_fill(~attn_mask, -math.inf) if is_bool else answers + attn_mask
        weights = answers.softmax(-1)
        self.found.append(Attention(self._here(), weights))
        return weights @ value


def read(model: ImageModel, images: Tensor) -> Reading:
    """One pass that keeps the attention weights; the caller holds the model's lock.

    Args:
        images: (N, 3, H, W) in [0, 1], with a gradient to ask for if slopes are wanted.

    Raises:
        UndefinedError: no attention, or one that cannot be read, or whose keys have no known place in the picture.
    """
    list_layers(model)  # which takes passes of its own: before those that somebody listens to
    reader = AttentionReader()
    handles = []
    for name, module in model.net.named_modules():
        handles.append(module.register_forward_pre_hook(lambda _m, _i, name=name: reader.enter(name)))
        handles.append(module.register_forward_hook(lambda _m, _i, _o: reader.leave()))
    try:
        with reader:
            logits = model(images)
    finally:
        for handle in handles:
            handle.remove()
    return Reading(logits, tuple(reader.found), _places(model, reader, len(images)))


def _places(model: ImageModel, reader: AttentionReader, pictures: int) -> Layer:
    """How the tokens that all attention is over lie in the picture."""
    why = _why_not(reader, pictures)
    count = 0 if why else reader.found[0].weights.shape[-1]
    tokens = (layer for layer in list_layers(model) if layer.layout == "tokens")
    chosen = next((one for one in tokens if one.prefix + one.height * one.width == count), None)
    if chosen is None or chosen.order:
        why = why or f"which of its {count} tokens is which place of the picture is not known"
        raise UndefinedError(
            f"The attention of {model.name} cannot be read as a map: {why}. Choose depth fusion, which needs none."
        )
    return chosen


def _why_not(reader: AttentionReader, pictures: int) -> str:
    """What keeps the attention of a pass from being one row of matrices over the same tokens; "" if nothing does."""
    if reader.hidden:
        return "torch's nn.MultiheadAttention does not show its weights"
    if reader.lost:
        return f"{reader.lost[0]} does more with its softmax than to multiply values with it"
    if not reader.found:
        return "it has none"
    shapes = [one.weights.shape for one in reader.found]
    if any(len(shape) != 4 or shape[0] != pictures for shape in shapes):
        return "it looks at windows, or at parts of the picture, and not at the whole"
    pooled = len(shapes) > 1 and shapes[-1][2] != shapes[-1][3] == shapes[0][3]
    if len({tuple(shape[2:]) for shape in (shapes[:-1] if pooled else shapes)}) > 1:
        return "its layers are over different tokens"
    if shapes[0][2] != shapes[0][3]:
        return "its tokens do not look at each other"
    blocks = [re.match(r"\D*\d+|.*", one.name)[0] for one in reader.found]
    twice = next((block for block in blocks if blocks.count(block) > 1), None)
    if twice is not None:
        return f"{twice} has several attentions side by side"
    return ""


_known: "weakref.WeakKeyDictionary[ImageModel, tuple[Tensor, tuple[str, ...]]]" = weakref.WeakKeyDictionary()


def attention_layers(model: ImageModel) -> tuple[str, ...]:
    """The names of its attention's modules, in the order in which they run; found once a model.

    Raises:
        UndefinedError: as `read`.
    """
    return _known_of(model)[1]


def reading_tokens(model: ImageModel) -> Tensor:
    """(queries,) bool: which queries of the last attention the outputs are made of; found once a model.

    The class token in most transformers, all places in those that average over them; of an attention that pools, what it asks
    by. It is tried, on noise, and not guessed from the family's name.

    Raises:
        UndefinedError: as `read`.
    """
    return _known_of(model)[0]


def _known_of(model: ImageModel) -> tuple[Tensor, tuple[str, ...]]:
    """`reading_tokens` and `attention_layers`."""
    if model not in _known:
        noise = torch.rand(blank(model).shape, generator=torch.Generator().manual_seed(0)).to(model.device, model.dtype)
        with model.lock, undisturbed(model.device), torch.enable_grad():
            found = read(model, noise.requires_grad_(True))
            direction = torch.linspace(
                -1, 1, found.logits.numel(), dtype=found.logits.dtype, device=found.logits.device
            )
            last = found.attentions[-1].weights
            (slope,) = torch.autograd.grad((found.logits.flatten() * direction).sum(), last, materialize_grads=True)
        _known[model] = slope.abs().sum((0, 1, 3)) > 0, tuple(one.name for one in found.attentions)
    return _known[model]


def over_places(tokens: Layer, values: Tensor) -> Tensor:
    """(…, keys) → (…, h, w): what concerns places, without class tokens and registers."""
    return values[..., tokens.prefix :].unflatten(-1, (tokens.height, tokens.width))


def head_maps(
    model: ImageModel, images: Tensor, layer: str = "", place: Sequence[int] | None = None
) -> tuple[str, Tensor]:
    """Where each head of an attention layer looks.

    Args:
        images: (N, 3, H, W) in [0, 1].
        layer: name of the attention's module ("blocks.3.attn"); empty for the last.
        place: (row, column) of the place that looks; None for what the outputs are made of: the class token, or the mean over
            all places in networks that average them (and in the layers before, the same tokens).

    Returns:
        the layer's name, and weights (N, heads, h, w) in [0, 1]; a head's add up to at most 1, the rest is for tokens without a
        place.

    Raises:
        UndefinedError: attention that cannot be read, no such layer, or no such place.
    """
    readers = reading_tokens(model) if place is None else None
    with model.lock, undisturbed(model.device), torch.no_grad():
        found = read(model, model.take(images))
    names = [one.name for one in found.attentions]
    if layer and layer not in names:
        raise UndefinedError(f"{model.name} has no attention layer “{layer}”; it has {', '.join(names)}.")
    attention = found.attentions[names.index(layer) if layer else -1]
    tokens, weights = found.tokens, attention.weights
    if place is not None:
        row, column = place
        if not (0 <= row < tokens.height and 0 <= column < tokens.width):
            raise UndefinedError(
                f"{model.name} has {tokens.height} × {tokens.width} places, counted from 0, and none at {row}, {column}."
            )
        if weights.shape[2] != weights.shape[3]:
            raise UndefinedError(
                f"{attention.name} pools all places, so no place of it looks at others; name another layer."
            )
        rows = weights[:, :, tokens.prefix + row * tokens.width + column]
    elif weights.shape[2] == len(readers):
        rows = weights[:, :, readers].mean(2)
    else:  # the layers before one that pools
        rows = weights[:, :, tokens.prefix :].mean(2)
    return attention.name, over_places(tokens, rows)
