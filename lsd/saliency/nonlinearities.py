"""The non-linearities between a network's input and its output, read off autograd's graph, however they were written.

A module's class and a function's name tell little: x · σ(x) is an activation in whatever form, and σ a gate where it scales
something else. The graph has every operation. What is followed from the logits to the picture is the path of the values; what
merely scales them is not an activation on it:

- a gate (sigmoid, hard sigmoid, softmax) that is multiplied with something it is no pointwise function of; what the gate is
  computed from is followed in turn;
- a statistic: a factor with fewer numbers than what it scales, or a divisor (normalisations that are written out).

A product of a tensor with a pointwise function of itself is no scaling, but an activation.
"""

import re
from collections.abc import Iterator
from math import prod

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node

PRODUCT = "a product of a tensor with a function of itself, as x · sigmoid(x) is"

_GATES = {"sigmoid", "hardsigmoid", "softmax"}
_LINEAR = {"add", "sub", "rsub", "neg", "mul", "div", "addcmul", "lerp", "clone"}  # in each of their tensors
_NOT_POINTWISE = {"max", "min", "native_layer_norm"}  # though torch says so; max and min are those over an axis
_UNTAGGED = {"hardswish", "prelu_kernel", "rrelu_with_noise", "log_sigmoid"}  # pointwise, and torch does not say so
_SAME_NUMBERS = {
    "view", "unsafe_view", "reshape_alias", "permute", "transpose", "t", "unsqueeze", "squeeze", "to_copy", "expand",
}  # fmt: skip
_PRODUCTS = {"mul", "div", "addcmul", "bmm", "mm"}

_Output = tuple[Node, int]  # an operation, and which of its outputs


def others(outputs: Tensor, rectifier: type[torch.autograd.Function]) -> Iterator[str]:
    """The names of the non-linearities on the way to `outputs` that are no `rectifier`s; none where all are.

    Max pooling, softmax and normalisations are not counted. Names are torch's ("tanh"), or that of a
    `torch.autograd.Function`; `PRODUCT` is one.

    Args:
        outputs: of a network, with their graph.
    """
    stack, seen = [(outputs.grad_fn, 0)], set()
    while stack:
        output = stack.pop()
        node = output[0]
        if node in seen:
            continue
        seen.add(node)
        followed = _inputs(node)
        if name_of(node) in _PRODUCTS and len(_factors(node)) == 2:
            if _is_pointwise(node) and _share_a_source(*_factors(node), _size(output)):
                yield PRODUCT
            followed = [*_inputs(node)[:-2], *_values(node)]
        elif not _is_rectifier(node, rectifier) and _bends(node):
            yield name_of(node)
        stack += followed


def name_of(node: Node) -> str:
    """ "HardswishBackward0" → "hardswish"; the class's own name for a `torch.autograd.Function`."""
    if isinstance(node, BackwardCFunction):
        return type(node).__name__.removesuffix("Backward")
    words = re.sub(r"Backward\d*$", "", node.name())
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", words).lower()


def _inputs(node: Node) -> list[_Output]:
    """Those that depend on the picture; all others are constants to the graph."""
    return [(parent, place) for parent, place in node.next_functions if parent is not None]


def _factors(node: Node) -> list[_Output]:
    return [(parent, place) for parent, place in node.next_functions[-2:] if parent is not None]


def _size(output: _Output) -> int:
    node, place = output
    metadata = getattr(node, "_input_metadata", ())
    return prod(metadata[place].shape) if place < len(metadata) else 0


def _is_rectifier(node: Node, rectifier: type[torch.autograd.Function]) -> bool:
    return isinstance(node, BackwardCFunction) and type(node) is rectifier._backward_cls


def _is_pointwise(node: Node) -> bool:
    name = name_of(node)
    if isinstance(node, BackwardCFunction) or name in _UNTAGGED:
        return True
    packet = getattr(torch.ops.aten, name, None) or getattr(torch.ops.aten, f"_{name}", None)
    if packet is None or name in _NOT_POINTWISE:
        return False
    return any(torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads())


def _bends(node: Node) -> bool:
    return _is_pointwise(node) and name_of(node) not in _LINEAR


def _values(node: Node) -> list[_Output]:
    """What is followed of a product's two factors: those that are scaled, and what a gate is computed from."""
    factors = _factors(node)
    gates = [factor for factor in factors if name_of(_tip(factor)[0]) in _GATES]
    sizes = [_size(_tip(factor)) for factor in factors]
    if len(gates) == 1:
        scale = gates[0]
    elif name_of(node) == "div":
        scale = factors[1]
    elif _is_pointwise(node) and sizes[0] != sizes[1]:
        scale = factors[sizes.index(min(sizes))]
    else:
        return factors
    followed = [factor for factor in factors if factor is not scale]
    return followed + (_inputs(_tip(scale)[0]) if scale in gates else [])


def _tip(output: _Output) -> _Output:
    """The operation behind those that only lay its numbers out anew or repeat them, or add or multiply constants."""
    while name_of(output[0]) in _SAME_NUMBERS | _LINEAR and len(_inputs(output[0])) == 1:
        (output,) = _inputs(output[0])
    return output


def _share_a_source(first: _Output, second: _Output, size: int) -> bool:
    """Whether both are pointwise functions of one tensor of `size` numbers."""
    return bool(_sources(first, size) & _sources(second, size))


def _sources(output: _Output, size: int) -> set[_Output]:
    """What an output is a pointwise function of, itself included; tensors of `size` numbers."""
    found, stack = set(), [output]
    while stack:
        output = stack.pop()
        if output in found or _size(output) != size:
            continue
        found.add(output)
        if _is_pointwise(output[0]) or name_of(output[0]) in _SAME_NUMBERS:
            stack += _inputs(output[0])
    return found
