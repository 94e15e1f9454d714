"""Gentler gradients: what the backward pass lets through, changed so that a picture suits networks in general.

The exact gradient follows every fold of the one network it comes from. Two changes of the backward pass (the forward
pass, and so what is measured, stays as it is) make it follow what networks have in common:

- shortcuts before branches: where a residual branch is added to what it started from, the branch's share of the gradient
  is made smaller (skip gradient method; Wu et al., 2020);
- leaky activations: of what an activation function (ReLU, GELU, …) holds back, a share passes all the same (a mild form
  of linear backpropagation; Guo, Li & Chen, 2020).

Both were found by people who attack networks they cannot see; the same makes pictures that other networks, and people,
recognise. They are done on autograd's graph, so every architecture is served, and one without shortcuts has none.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields

from torch import Tensor
from torch.autograd.graph import Node

from lsd.errors import UndefinedError

_ADDITION = "AddBackward0"
_PRODUCTS = ("Convolution", "Addmm", "Mm", "Bmm")  # what has weights, or mixes what has
_ACTIVATIONS = frozenset(
    f"{name}Backward{i}"
    for name in ("Relu", "Hardtanh", "LeakyRelu", "PreluKernel", "Elu", "Gelu", "Silu", "Hardswish", "Mish")
    for i in (0, 1)
)


@dataclass(frozen=True)
class Softening:
    """How far: shares of the gradient, 0 to 1. The defaults change nothing.

    Attributes:
        branch: what passes through residual branches.
        leak: what passes of that which an activation function holds back.

    Raises UndefinedError for values outside.
    """

    branch: float = 1.0
    leak: float = 0.0

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UndefinedError(f"{field.name} is a share from 0 to 1, not {value!r}.")
            object.__setattr__(self, field.name, float(value))  # 0 and 0.0 are one recipe, with one hash

    def __bool__(self) -> bool:
        return (self.branch, self.leak) != (1.0, 0.0)


def soften(softening: Softening, outputs: Iterable[Tensor], inputs: Tensor) -> None:
    """Change every backward pass from `outputs` to `inputs`, which the network turned into them.

    An addition of two tensors that both depend on `inputs` is a shortcut and its branch; the branch is the summand with
    more convolutions and matrix products behind it, of equally many the one with more operations of any kind, and where
    these are as many too there is none. (Products first, so that a network and its twin with folded batch norms have the
    same branches.)

    Args:
        outputs: of the network, or of layers inside it, with their graph.
        inputs: (N, 3, h, w); what was done before it is left alone.
    """
    for node, branch in _places(outputs, inputs):
        if branch is None and softening.leak:
            node.register_hook(_leaking(softening.leak))
        elif branch is not None and softening.branch != 1:
            node.register_hook(_scaled(branch, softening.branch))


def changed(outputs: Iterable[Tensor], inputs: Tensor) -> tuple[int, int]:
    """How many (residual branches, activation functions) `soften` would find there."""
    found = [branch for _, branch in _places(outputs, inputs)]
    return len(found) - found.count(None), found.count(None)


def _places(outputs: Iterable[Tensor], inputs: Tensor) -> Iterator[tuple[Node, int | None]]:
    """Additions, with which of their summands is the branch, and activation functions, with None."""
    depth: dict[Node, tuple[int, int]] = {inputs.grad_fn: (0, 0)}
    for node in _between([output.grad_fn for output in outputs], inputs.grad_fn):
        parents = [parent for parent, _ in node.next_functions]
        name = node.name()
        products, operations = max(depth.get(parent, (0, 0)) for parent in parents)
        depth[node] = (products + (name.removesuffix("Backward0") in _PRODUCTS), operations + 1)
        if name == _ADDITION:
            known = [depth.get(p) for p in parents]
            if None not in known and known[0] != known[1]:
                yield node, int(known[1] > known[0])
        elif name in _ACTIVATIONS:
            yield node, None


def _between(roots: Iterable[Node], end: Node) -> list[Node]:
    """The nodes from `end` (left out) to `roots` that depend on it, each after all that it depends on."""
    depends: dict[Node | None, bool] = {end: True, None: False}
    found = []
    stack = [(root, False) for root in roots]
    while stack:
        node, parents_done = stack.pop()
        parents = [parent for parent, _ in node.next_functions] if node is not None else []
        if parents_done:
            depends[node] = any(depends[parent] for parent in parents)
            if depends[node]:
                found.append(node)
        elif node not in depends:
            depends[node] = False  # until its parents are known; a graph has no cycles, so nobody asks before
            stack.append((node, True))
            stack.extend((parent, False) for parent in parents if parent not in depends)
    return found


def _scaled(place: int, share: float) -> Callable:
    """A hook under which a node passes on `share` of the gradient to its summand at `place`."""

    def hook(passed: tuple, _):
        return tuple(g * share if i == place else g for i, g in enumerate(passed))

    return hook


def _leaking(share: float) -> Callable:
    """A hook under which an activation function passes on, of what it holds back or adds, `1 - share`."""

    def hook(passed: tuple, arriving: tuple):
        # In place: what an activation's backward pass puts out is nobody else's, and a copy would be one more large tensor.
        return (passed[0].lerp_(arriving[0].to(passed[0].dtype), share), *passed[1:])

    return hook
