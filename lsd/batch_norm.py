"""Batch norm with fixed statistics as what it is: a multiplication and an addition of constants.

torch differentiates it by the kernel that serves training. On the CPU that kernel reads a gradient of one picture in
the wrong order where its strides are those of tokens and the input's are not, and says nothing: with torch 2.14.1 and
random weights, the gradients of XCiT and LeViT come out wrong by more than their largest value, while central finite
differences agree with the plain form. That form also costs less to differentiate, and need not keep its input.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class FixedBatchNorm(TorchFunctionMode):
    """Within the block, `F.batch_norm` in eval mode is x · s + b."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def has_batch_norm(net: nn.Module) -> bool:
    """Whether `FixedBatchNorm` could change anything for `net`."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules())


def _batch_norm(
    input: Tensor, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
) -> Tensor:
    """`F.batch_norm` with its own names for its arguments."""
    if training or running_mean is None:
        return torch.batch_norm(
            input, weight, bias, running_mean, running_var, training, momentum, eps, torch.backends.cudnn.enabled
        )
    # In single precision at least, as torch does it, and back: the statistics of a half-precision network often are not half.
    wide = torch.promote_types(input.dtype, torch.float32)
    scale = (running_var.to(wide) + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -running_mean * scale if bias is None else bias - running_mean * scale
    shape = (-1, *[1] * (input.dim() - 2))
    return torch.addcmul(shift.view(shape), input.to(wide), scale.view(shape)).to(input.dtype)
