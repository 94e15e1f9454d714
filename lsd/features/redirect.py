"""A way past closed ReLUs, for the first steps of a picture that no gradient reaches.

A unit behind a ReLU that starts below zero has no gradient, and its picture would stay grey for ever. Lucid's remedy
(`misc/redirected_relu_grad.py`): where nothing of a picture's gradient passes a ReLU, let pass whatever would raise its
input, as if the ReLU were not there.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_RELUS = {F.relu, torch.relu, Tensor.relu, F.relu_, torch.relu_, Tensor.relu_}


class _Redirected(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, high: float, mode: "ReluRedirect") -> Tensor:
        ctx.save_for_backward(x)
        ctx.high, ctx.mode = high, mode
        return x.clamp(0, high)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (x,) = ctx.saved_tensors
        plain = gradient * ((x > 0) & (x < ctx.high))
        # The loss falls along −gradient: a positive one below zero only pushes further down, a negative one above `high` up.
        useless = ((x <= 0) & (gradient > 0)) | ((x >= ctx.high) & (gradient < 0))
        useful = torch.where(useless, 0, gradient)
        shut = ctx.mode.blocked & (plain.flatten(1).abs().amax(1) == 0)
        ctx.mode.shut |= shut
        return torch.where(shut.view(-1, *[1] * (x.ndim - 1)), useful, plain), None, None


class ReluRedirect(TorchFunctionMode):
    """Within this context the ReLUs (and ReLU6) of the marked pictures redirect their gradient; the others' do not.

    Args:
        blocked: (N,) booleans, one for each picture of the batch.

    The graph of a loss that is to fall must be built within it. `shut` then says, once the backward pass has run, for
    which pictures some ReLU let nothing through by itself: (N,) booleans.
    """

    def __init__(self, blocked: Tensor):
        super().__init__()
        self.blocked = blocked
        self.shut = torch.zeros_like(blocked)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        high = self._high(func, kwargs)
        if high is None or len(args[0]) != len(self.blocked):  # windows in place of pictures are left alone
            return func(*args, **kwargs)
        return _Redirected.apply(args[0], high, self)

    @staticmethod
    def _high(func, kwargs: dict) -> float | None:
        """Where the rectifier `func` saturates; None for any other function."""
        if func in _RELUS:
            return float("inf")
        if func is F.relu6:
            return 6.0
        if func is F.hardtanh and kwargs.get("min_val") == 0:  # what nn.ReLU6 calls
            return float(kwargs["max_val"])
        return None
