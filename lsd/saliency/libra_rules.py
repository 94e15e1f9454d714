"""LibraGrad's backward pass: what scales or gates the values of a network counts as constant (Mehri et al., CVPR 2025).

A network of convolutions, linear maps, additions, pooling and ReLUs is affine around each picture: its output is the sum of
input × gradient and of bias × gradient, nothing left over ("FullGrad-complete"; Srinivas & Fleuret, 2019). A transformer's
is not. The rules make its backward pass that of a network that is, without changing the forward pass:

    attention              A · V            the weights A, and with them queries and keys, are constant
    layer, group, RMS norm (x − μ) / σ      σ is constant, μ is not
    GELU, SiLU, …          x · gate(x)      the gate is constant
    sigmoid, softmax       whatever they scale goes on, they are constant
    a · b of two paths     (SwiGLU, …)      half of the slope to each

They are put in place by a `TorchFunctionMode`, as in `relu_rules`: in this thread, for this pass, without touching the network.
That nothing else bends the output is read off autograd's graph afterwards; a network in which something does is refused.
"""

import math
import weakref
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lsd.errors import UndefinedError
from lsd.layers import depth_layers
from lsd.models import ImageModel
from lsd.precision import undisturbed
from lsd.saliency.affine import bends
from lsd.tracing import blank


def libra_logits(model: ImageModel, images: Tensor) -> Tensor:
    """Logits (N, C), the model's own to within rounding, whose backward pass follows the rules.

    Args:
        images: (N, 3, H, W), with a gradient to ask for.

    Raises:
        UndefinedError: a network in which the rules change nothing, or one that they leave bent.
    """
    with LibraRule() as mode:
        logits = model(images)
    if not mode.found:
        raise UndefinedError(
            f"LibraGrad changes what attention, normalisation and gates hand back, and {model.name} has none of them: its gradient "
            "is balanced as it is; choose gradient × input or depth fusion."
        )
    other = next(bends(logits), "")
    if other:
        raise UndefinedError(
            f"LibraGrad has no rule for {other}, which {model.name} uses, so its shares would not add up; choose depth fusion or "
            "integrated gradients."
        )
    return logits


_balanced: "weakref.WeakKeyDictionary[ImageModel, bool]" = weakref.WeakKeyDictionary()


def balances(model: ImageModel) -> bool:
    """Whether it is a transformer that the rules make affine: tokens on one grid, attention, and no operation without a rule; found
    once a model, by trying.

    Raises:
        UndefinedError: the network has no layer whose places reach the output.
    """
    if model not in _balanced:
        layouts = [(layer.layout, layer.height, layer.width) for layer in depth_layers(model)]
        on_one_grid = len(layouts) > 1 and len(set(layouts)) == 1 and layouts[0][0] == "tokens"
        _balanced[model] = on_one_grid and _is_affine_behind_the_rules(model)
    return _balanced[model]


def _is_affine_behind_the_rules(model: ImageModel) -> bool:
    with model.lock, undisturbed(model.device), torch.enable_grad(), LibraRule() as mode:
        logits = model(blank(model).to(model.dtype).requires_grad_(True))
    return mode.attended and not any(bends(logits))


def _attention(func, query, key, value, attn_mask=None, *args, **kwargs) -> Tensor:
    mask = attn_mask if attn_mask is None else attn_mask.detach()
    return func(query.detach(), key.detach(), value, mask, *args, **kwargs)


def _constant(func, *args, **kwargs) -> Tensor:
    return func(*args, **kwargs).detach()


def _layer_norm(_func, input, normalized_shape, weight=None, bias=None, eps=1e-5) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    centred = input - input.mean(axes, keepdim=True)
    found = centred * (centred.detach().square().mean(axes, keepdim=True) + eps).rsqrt()
    found = found if weight is None else found * weight
    return found if bias is None else found + bias


def _group_norm(_func, input, num_groups, weight=None, bias=None, eps=1e-5) -> Tensor:
    groups = input.unflatten(1, (num_groups, -1)).flatten(2)
    found = _layer_norm(None, groups, groups.shape[2:], eps=eps).reshape(input.shape)
    shape = (-1, *[1] * (input.ndim - 2))
    found = found if weight is None else found * weight.view(shape)
    return found if bias is None else found + bias.view(shape)


def _rms_norm(_func, input, normalized_shape, weight=None, eps=None) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    found = input * (input.detach().square().mean(axes, keepdim=True) + eps).rsqrt()
    return found if weight is None else found * weight


def _gated(gate: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def rule(_func, input, *_args, **_kwargs) -> Tensor:
        return input * gate(input.detach())

    return rule


def _gelu(_func, input, approximate="none") -> Tensor:
    x = input.detach()
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return input * 0.5 * (1 + (torch.tanh(inner) if approximate == "tanh" else torch.erf(x * math.sqrt(0.5))))


def _product(func, first, second) -> Tensor:
    """Half of the slope to each of two paths; the plain product where there is but one."""
    if not (_moves(first) and _moves(second)):
        return func(first, second)
    return (func(first, second.detach()) + func(first.detach(), second)) / 2


def _quotient(func, first, second, **kwargs) -> Tensor:
    return func(first, second.detach() if _moves(second) else second, **kwargs)


def _moves(value) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


_SOFTMAX = {F.softmax, torch.softmax, Tensor.softmax}
_GATES = {F.sigmoid, torch.sigmoid, Tensor.sigmoid, F.hardsigmoid}
_STATISTICS = {torch.rsqrt, Tensor.rsqrt}
_PRODUCTS = {
    torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__, torch.multiply, Tensor.multiply,
    torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm,
}  # fmt: skip
_QUOTIENTS = {torch.div, Tensor.div, Tensor.__truediv__, torch.true_divide}
_ALWAYS: dict[Callable, Callable] = {
    F.scaled_dot_product_attention: _attention,
    **dict.fromkeys(_SOFTMAX | _GATES | _STATISTICS, _constant),
    F.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    F.group_norm: _group_norm,
    F.rms_norm: _rms_norm,
    F.gelu: _gelu,
    F.silu: _gated(torch.sigmoid),
    F.mish: _gated(lambda x: torch.tanh(F.softplus(x))),
    F.hardswish: _gated(F.hardsigmoid),
}
_OF_TWO = dict.fromkeys(_PRODUCTS, _product) | dict.fromkeys(_QUOTIENTS, _quotient)
_RULES = _ALWAYS | _OF_TWO


class LibraRule(TorchFunctionMode):
    """Within this context, backward passes follow LibraGrad's rules.

    `found` counts what they changed; `attended` is whether that was attention, among others.
    """

    def __init__(self):
        super().__init__()
        self.found, self.attended = 0, False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        rule = _RULES.get(func)
        if rule is None or not any(map(_moves, args)):
            return func(*args, **(kwargs or {}))
        self.found += func in _ALWAYS or sum(map(_moves, args)) > 1
        self.attended |= rule is _attention or func in _SOFTMAX
        return rule(func, *args, **(kwargs or {}))
