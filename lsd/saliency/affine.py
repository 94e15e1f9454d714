"""Whether an output is an affine function of the picture around it, read off autograd's graph.

Only then do input × gradient and bias × gradient add up to the output. What counts are the operations that the backward pass
goes through: what was taken as constant is no part of the graph.
"""

from collections.abc import Iterator

from torch import Tensor
from torch.autograd.graph import Node

from lsd.saliency.nonlinearities import name_of

_MOVES = {  # numbers laid out anew, chosen, repeated, or the largest of several
    "view", "unsafe_view", "reshape_alias", "permute", "transpose", "t", "unsqueeze", "squeeze", "to_copy", "expand", "clone",
    "cat", "stack", "split", "split_with_sizes", "chunk", "unbind", "select", "slice", "index", "index_select", "gather", "roll",
    "flip", "repeat", "unfold", "as_strided", "constant_pad_nd", "reflection_pad2d", "replication_pad2d", "pixel_shuffle",
    "pixel_unshuffle", "max_pool2d_with_indices", "max", "amax", "masked_fill", "alias", "im2col", "col2im", "copy_slices",
    "torch::autograd::copy_slices",
}  # fmt: skip
_SUMS = {
    "add", "sub", "rsub", "neg", "sum", "mean", "avg_pool2d", "adaptive_avg_pool2d", "upsample_bilinear2d", "upsample_nearest2d",
    "upsample_bicubic2d", "cumsum", "lerp",
}  # fmt: skip
_LEAKS = {
    "relu",
    "leaky_relu",
    "threshold",
    "hardtanh",
    "clamp",
    "clamp_min",
    "prelu_kernel",
}  # affine on either side of a bend
_PRODUCTS = {  # of what varies with what does not
    "mul", "div", "addcmul", "mm", "addmm", "bmm", "baddbmm", "mv", "dot", "convolution", "batch_norm",
    "native_batch_norm", "cudnn_batch_norm",
}  # fmt: skip
_ATTENTION = "scaled_dot_product"  # its kernels have many names
_END = "torch::autograd::accumulate_grad"


def bends(outputs: Tensor) -> Iterator[str]:
    """torch's names of the operations on the way to `outputs` that are not affine in what varies; none where all are."""
    stack, seen = [outputs.grad_fn], set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        name = name_of(node)
        varying = [parent for parent, _ in node.next_functions if parent is not None]
        linear = name in _PRODUCTS or name.startswith(_ATTENTION)
        if not (name in _MOVES | _SUMS | _LEAKS | {_END} or (linear and _factors(name, node) <= 1)):
            yield name
        stack += varying


def _factors(name: str, node: Node) -> int:
    """How many factors of a product vary; what is added to it, the first of `addmm`'s and the last of a convolution's, is none."""
    parents = [parent for parent, _ in node.next_functions]
    return sum(parent is not None for parent in (parents[1:] if name.startswith(("add", "badd")) else parents[:2]))
