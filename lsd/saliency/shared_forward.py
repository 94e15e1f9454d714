"""Gradients of several scores of one forward pass.

The backward passes go through the network together, in groups: each node of the graph is visited once a group. What
that gains is little and depends on the network; see docs/benchmarks.md.
"""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# What the passes of a group may hold of one layer. It lets the layers of small transformers into groups, and keeps those
# of convolutional networks on 224 pixels out, where groups were slower (docs/benchmarks.md).
GROUP_BYTES = 6 * 2**20


class Watched(TorchFunctionMode):
    """Within the block, `largest` grows to the bytes of the largest result of a torch function."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.largest = max(self.largest, result.nbytes)
        return result


def gradients(scores: Sequence[Tensor], images: Tensor, largest: int) -> Tensor:
    """∂ Σ score / ∂ images for each score (N,): (K, *images.shape).

    Args:
        largest: bytes of the largest result of the forward pass, from `Watched`; it bounds the groups.
    """
    sums = torch.stack([score.sum() for score in scores])
    chosen = torch.eye(len(sums), dtype=sums.dtype, device=sums.device)
    group = min(max(GROUP_BYTES // max(largest, 1), 1), len(sums))
    if group == 1:
        return torch.stack([_backward(sums, images, one, keep=k + 1 < len(sums)) for k, one in enumerate(chosen)])
    with warnings.catch_warnings():
        # Of operations that vmap runs one by one, such as the attention of the CPU: no slower than without a group.
        warnings.filterwarnings("ignore", message="There is a performance drop")
        return torch.func.vmap(lambda one: _backward(sums, images, one, keep=True), chunk_size=group)(chosen)


def _backward(sums: Tensor, images: Tensor, weights: Tensor, *, keep: bool) -> Tensor:
    return torch.autograd.grad(sums, images, weights, retain_graph=keep)[0]
