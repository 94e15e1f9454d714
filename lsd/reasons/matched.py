"""Several networks on one picture: which of their groups are the same thing.

Two groups may be the same if they lie at the same places of the picture; which of those are is said by how far they do and, where
other networks were asked, by how far these see the same in the groups' own pictures. Between any two networks each group has one
counterpart at most, so that all pairs together are as alike as can be (Kuhn, 1955).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from lsd.errors import UndefinedError
from lsd.images import lay_on
from lsd.reasons.explain import Reason

MOST = 4  # networks: with more, nobody sees which line goes where
SAME_PLACES = 0.4  # from here on; two groups of one network have .04 to .37 in common, in one photo
_SIDE = 48  # of the grid that maps are compared on, the picture's longer side


@dataclass(frozen=True)
class Network:
    """One network's groups.

    Attributes:
        name: of the model.
        groups: with a map each, as `Reasons.groups` has them.
        box: what it saw of the picture, (left, top, right, bottom) in pixels.
        seen: unit → what judges see in its picture, class's name → probability; units may be left out.
    """

    name: str
    groups: Sequence[Reason]
    box: tuple[float, float, float, float]
    seen: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Node:
    """A group: of which of the networks, by number; its unit, and its part of what speaks for the target there."""

    network: int
    unit: str
    part: float


@dataclass(frozen=True)
class Edge:
    """Two groups that are alike.

    Attributes:
        a, b: their numbers among the nodes, a < b.
        where: how far they lie at the same places, from 0 to 1.
        seen: how far judges see the same in their pictures, from 0 to 1; None where not both have been judged.
    """

    a: int
    b: int
    where: float
    seen: float | None

    @property
    def weight(self) -> float:
        """How alike they are, from 0 to 1: the mean of what is known."""
        return self.where if self.seen is None else (self.where + self.seen) / 2


@dataclass(frozen=True)
class Graph:
    """Groups of several networks, and which are alike."""

    networks: tuple[str, ...]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def to_dict(self) -> dict:
        """As plain JSON values."""
        return {
            "networks": [*self.networks],
            "nodes": [vars(node) for node in self.nodes],
            "edges": [vars(edge) | {"weight": edge.weight} for edge in self.edges],
        }


def matched(networks: Sequence[Network], size: tuple[int, int]) -> Graph:
    """The groups of two to four networks, each network's in its own order, and the pairs among them.

    Groups without a map are nodes without edges.

    Args:
        size: (width, height) of the picture.

    Raises:
        UndefinedError: fewer networks, or more.
    """
    if not 2 <= len(networks) <= MOST:
        raise UndefinedError(f"Groups are matched across two to {MOST} networks, not {len(networks)}.")
    found = [(n, group) for n, network in enumerate(networks) for group in network.groups]
    laid = [_laid(group, networks[n].box, size) for n, group in found]
    edges = []
    for one, other in combinations(range(len(networks)), 2):
        rows, columns = ([i for i, (n, _) in enumerate(found) if n == network] for network in (one, other))
        edges += _pairs(
            [
                [Edge(a, b, overlap(laid[a], laid[b]), _seen_alike(networks, found[a], found[b])) for b in columns]
                for a in rows
            ]
        )
    nodes = tuple(Node(n, group.unit, group.part) for n, group in found)
    return Graph(tuple(network.name for network in networks), nodes, tuple(edges))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """What two maps of one size, each of its own sum, have in common: 0 for nothing, 1 where they are the same.

    Negative values count as 0; a map without others has nothing in common with any.
    """
    a, b = np.clip(a, 0, None), np.clip(b, 0, None)
    if not (a.sum() > 0 and b.sum() > 0):
        return 0.0
    return float(np.minimum(a / a.sum(), b / b.sum()).sum())


def _laid(group: Reason, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    """A group's map on a small copy of the picture, 0 where its network saw nothing; an empty one without a map."""
    scale = _SIDE / max(size)
    small = tuple(max(1, round(edge * scale)) for edge in size)
    if group.map is None:
        return np.zeros(small[::-1], np.float32)
    return lay_on(group.map.numpy(), tuple(edge * scale for edge in box), small)


def _seen_alike(networks: Sequence[Network], one: tuple[int, Reason], other: tuple[int, Reason]) -> float | None:
    a, b = (networks[n].seen.get(group.unit) for n, group in (one, other))
    return None if a is None or b is None else float(sum(min(a[name], b[name]) for name in a.keys() & b.keys()))


def _pairs(table: list[list[Edge]]) -> list[Edge]:
    from scipy.optimize import linear_sum_assignment

    if not table or not table[0]:
        return []
    weights = np.array([[edge.weight if edge.where >= SAME_PLACES else 0.0 for edge in row] for row in table])
    chosen = zip(*linear_sum_assignment(weights, maximize=True), strict=True)
    return [table[i][j] for i, j in chosen if weights[i, j] > 0]
