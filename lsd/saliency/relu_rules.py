"""Guided backpropagation and the "deconvnet": ordinary backward passes, but for a changed rule at every ReLU.

With g the gradient arriving at a ReLU from above and x its input:

    backpropagation   g · 1[x > 0]
    deconvnet         max(g, 0)                 (Zeiler & Fergus, ECCV 2014)
    guided            max(g, 0) · 1[x > 0]      (Springenberg et al., ICLR 2015 workshop)

ReLU6, min(max(x, 0), 6), is taken as the rectifier that it is: its mask is 1[0 < x < 6].

The rule is put in place by a `TorchFunctionMode`, which catches every call of a ReLU in this thread, whether it comes
from a module or from a function, and touches neither the network nor anybody else who is using it. Both methods are
defined by what a rectifier does, and on a network that has none, or that rectifies only some of its paths, they would
silently be the plain gradient or half of one. Such networks are refused: the mode refuses activation functions by name,
wherever they stand, and comparisons, by which masks are made; what is put together from elementary operations is found
on the graph (`nonlinearities`). Sigmoid and softmax, where they are gates or attention weights, and what scales by a
statistic, have ordinary derivatives and are left alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lsd.errors import UndefinedError
from lsd.models import ImageModel
from lsd.saliency.nonlinearities import others

TITLES = {"guided": "Guided backpropagation", "deconvnet": "The deconvnet rule"}

_RELUS = {F.relu, torch.relu, Tensor.relu}
_RELUS_IN_PLACE = {F.relu_, torch.relu_, Tensor.relu_}
_OTHERS = {
    F.gelu: "GELU", F.silu: "SiLU", F.hardswish: "HardSwish", F.mish: "Mish", F.elu: "ELU", F.selu: "SELU",
    F.celu: "CELU", F.leaky_relu: "LeakyReLU", F.prelu: "PReLU", F.rrelu: "RReLU", F.softplus: "Softplus",
    torch.selu: "SELU", torch.celu: "CELU", torch.prelu: "PReLU", torch.rrelu: "RReLU",
}  # fmt: skip
_COMPARISONS = {
    getattr(space, name) for space in (torch, Tensor) for name in ("gt", "ge", "lt", "le", "sign", "heaviside")
}
_COMPARISONS |= {Tensor.__gt__, Tensor.__ge__, Tensor.__lt__, Tensor.__le__}


class _Rectifier(torch.autograd.Function):
    """clamp(x, 0, high) whose backward pass keeps positive gradients only; behind the mask, or not."""

    @staticmethod
    def forward(ctx, x: Tensor, high: float, masked: bool) -> Tensor:
        if masked:
            ctx.save_for_backward((x > 0) & (x < high))
        ctx.masked = masked
        return x.clamp(0, high)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        gradient = gradient.clamp(min=0)
        if ctx.masked:
            gradient = gradient * ctx.saved_tensors[0]
        return gradient, None, None


class ReluRule(TorchFunctionMode):
    """Within this context, ReLUs follow "guided" or "deconvnet" in the backward pass; see `rectified_logits`.

    Args:
        rule: "guided" or "deconvnet".

    `found` counts the ReLUs that were met.

    Raises:
        UndefinedError (from the forward pass): a function that is known to be no rectifier.
    """

    def __init__(self, rule: str):
        super().__init__()
        self._rule = rule
        self.found = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _OTHERS:
            raise UndefinedError(refusal(self._rule, _OTHERS[func]))
        if func in _COMPARISONS and any(isinstance(arg, Tensor) and arg.requires_grad for arg in args):
            raise UndefinedError(refusal(self._rule, "a comparison"))
        if func in _RELUS_IN_PLACE:
            raise UndefinedError(refusal(self._rule, "an in-place ReLU whose result is not passed on"))
        if func in _RELUS:
            return self._rectify(args[0], float("inf"))
        if func is F.relu6:
            return self._rectify(args[0], 6.0)
        if func is F.hardtanh:  # what nn.ReLU6 calls
            if kwargs["min_val"] != 0:
                raise UndefinedError(refusal(self._rule, "Hardtanh"))
            return self._rectify(args[0], float(kwargs["max_val"]))
        return func(*args, **kwargs)

    def _rectify(self, x: Tensor, high: float) -> Tensor:
        self.found += 1
        return _Rectifier.apply(x, high, self._rule == "guided")


def rectified_logits(model: ImageModel, images: Tensor, rule: str) -> tuple[Tensor, int]:
    """A pass whose backward pass follows "guided" or "deconvnet".

    Args:
        images: (N, 3, H, W), with a gradient to ask for.

    Returns:
        logits (N, C), and how many ReLUs were met.

    Raises:
        UndefinedError: a non-linearity that is no rectifier, or no rectifier at all.
    """
    with ReluRule(rule) as mode:
        logits = model(images)
    if not mode.found:
        raise UndefinedError(refusal(rule, "none"))
    other = next(others(logits, _Rectifier), "")
    if other:
        raise UndefinedError(refusal(rule, other))
    return logits, mode.found


def refusal(rule: str, found: str) -> str:
    """Why `rule` is not defined for a network that uses `found`."""
    return (
        f"{TITLES[rule]} is defined for networks whose non-linearities are ReLUs, and this one uses {found}; "
        "choose the gradient, SmoothGrad or integrated gradients."
    )
