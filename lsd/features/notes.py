"""What has to be said of a finished picture, in whole sentences for people: why nothing reaches it, what came to nothing.

Read off autograd's graph of one pass over the finished picture, so it is true of the very network and unit.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.autograd.graph import Node

from lsd.features import objectives
from lsd.features.recipes import Recipe
from lsd.features.soften import Softening, changed
from lsd.features.units import SIMILARITY, Leaf, Unit
from lsd.tracing import Tap

DEAD = "This unit did not respond to anything that was tried: no gradient reaches the picture, so it says nothing."
HIGHEST = (
    "This objective is as high as it can get, like the negative of a rectified channel wherever that is 0: no gradient "
    "reaches the picture, so it says nothing."
)
FAILED = "The numbers ran out of range; a smaller learning rate may help."
UNSTARTED = (
    "What the network puts out for the picture that the ascent begins with is no finite number; another start may help, or another "
    "network."
)
NO_NORMS = (
    "The recipe's batch_norm counts for nothing here: the network has no batch normalisation with running statistics."
)
NO_BRANCH = "The recipe's gradient.branch changes nothing here: no residual branch lies before this unit."
NO_ACTIVATION = (
    "The recipe's gradient.leak changes nothing here: no activation function known by name lies before this unit."
)

Activations = Mapping[str, Mapping[Tap, Tensor]]  # model name → tap → activation, with its graph


def of_status(
    unit: Unit, status: str, score: float, trace: Sequence[float], output: str, activations: Activations
) -> tuple[str, ...]:
    """Why a picture is not "ok"; () if it is.

    Args:
        status, score, trace: as in `Picture`.
        output: the recipe's.
    """
    if status == "dead":
        reach = unit.value({leaf: _range(leaf, output, activations) for leaf in unit.leaves()})
        return (HIGHEST if reach.low < reach.high <= score else DEAD,)
    if status == "failed":
        return (FAILED if math.isfinite(trace[0]) else UNSTARTED,)
    return ()


def of_recipe(
    units: Sequence[Unit], recipe: Recipe, activations: Activations, shown: Tensor, norms: bool
) -> list[tuple]:
    """For each unit, what of its recipe comes to nothing in the network.

    Args:
        activations: what the networks make of `shown`.
        shown: (N, 3, h, w), with a node of the graph of its own.
        norms: whether the network has batch norms to be listened to.
    """
    common = (NO_NORMS,) if recipe.batch_norm and not norms else ()
    taps = [frozenset((leaf.model, objectives.tap(leaf)) for leaf in unit.leaves()) for unit in units]
    found = {which: _of_softening(recipe.gradient, [activations[m][t] for m, t in which], shown) for which in set(taps)}
    return [common + found[which] for which in taps]


def _of_softening(softening: Softening, outputs: Sequence[Tensor], inputs: Tensor) -> tuple[str, ...]:
    if not softening:
        return ()
    branches, functions = changed(outputs, inputs)
    idle = ((softening.branch != 1 and not branches, NO_BRANCH), (softening.leak and not functions, NO_ACTIVATION))
    return tuple(note for applies, note in idle if applies)


@dataclass(frozen=True)
class _Range:
    """What a value can be, with a unit's arithmetic."""

    low: float = -math.inf
    high: float = math.inf

    def __add__(self, other: "_Range") -> "_Range":
        return _Range(self.low + other.low, self.high + other.high)

    def __sub__(self, other: "_Range") -> "_Range":
        return self + -1.0 * other

    def __mul__(self, other: "_Range") -> "_Range":
        ends = [a * b if a and b else 0.0 for a in (self.low, self.high) for b in (other.low, other.high)]
        return _Range(min(ends), max(ends))

    def __rmul__(self, factor: float) -> "_Range":
        return _Range(factor, factor) * self


def _range(leaf: Leaf, output: str, activations: Activations) -> _Range:
    kind = output if leaf.kind == "class" else leaf.kind
    if kind in ("layer", "position", "head"):  # squares
        return _Range(low=0.0)
    if kind == "probability":
        return _Range(0.0, 1.0)
    if kind == SIMILARITY:
        return _Range(-1.0, 1.0)
    if kind in ("log_probability", "inversion"):
        return _Range(high=0.0)
    linear = kind in ("channel", "neuron", "token", "direction")
    if not linear or not _never_negative(activations[leaf.model][objectives.tap(leaf)].grad_fn):
        return _Range()
    weights = [weight for _, weight in leaf.weights] or [1.0]
    ranges = [weight * _Range(low=0.0) for weight in weights]
    return sum(ranges[1:], ranges[0])


_RECTIFIED = ("Relu", "Sigmoid", "Hardsigmoid", "Softplus", "Softmax")
_KEEPING = (  # the sign
    "MaxPool2DWithIndices", "AvgPool2D", "AdaptiveAvgPool2D", "Mean", "View", "UnsafeView", "Permute", "Transpose", "Clone",
    "ToCopy", "Cat",
)  # fmt: skip


def _never_negative(node: Node | None) -> bool:
    """Whether what a node of the graph put out is at least 0 whatever the picture: rectified, or pooled from what was."""
    if node is None:
        return False
    name = node.name().partition("Backward")[0]
    if name == "Hardtanh":  # ReLU6 among others
        return node._saved_min_val >= 0
    parents: Sequence[Node | None] = [parent for parent, _ in node.next_functions]
    return name in _RECTIFIED or (name in _KEEPING and all(map(_never_negative, parents)))
