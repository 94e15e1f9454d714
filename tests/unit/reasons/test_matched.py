"""Groups of several networks, matched."""

import numpy as np
import pytest
import torch

from lsd.errors import UndefinedError
from lsd.reasons.explain import Reason
from lsd.reasons.matched import Network, matched, overlap

SIZE = (96, 96)
WHOLE = (0, 0, *SIZE)


def group(name, rows, columns, part=0.5, side=4):
    """A reason that lies evenly in some rows and columns of a grid."""
    lying = torch.zeros(side, side)
    lying[rows, columns] = 1
    return Reason(f"layer/direction/{name}:1", part, part, lying, torch.zeros(1, 1))


LEFT, RIGHT = slice(0, 2), slice(2, 4)


def test_maps_have_in_common_what_both_cover():
    a, b = np.array([[1.0, 1, 0, 0]]), np.array([[0.0, 3, 3, -5]])
    assert overlap(a, b) == pytest.approx(0.5)
    assert overlap(a, 7 * a) == pytest.approx(1)
    assert overlap(a, np.zeros((1, 4))) == 0


def test_groups_are_matched_by_where_they_lie_on_grids_of_two_sizes():
    one = Network("one", [group("1", slice(None), LEFT), group("2", slice(None), RIGHT)], WHOLE, {})
    fine = [group("3", slice(None), slice(4, 8), side=8), group("4", slice(None), slice(0, 4), side=8)]
    found = matched([one, Network("other", fine, WHOLE, {})], SIZE)
    assert found.networks == ("one", "other") and [node.network for node in found.nodes] == [0, 0, 1, 1]
    assert [(edge.a, edge.b) for edge in found.edges] == [(0, 3), (1, 2)]
    assert all(edge.where > 0.85 and edge.seen is None for edge in found.edges)


def test_the_part_of_the_picture_that_a_network_saw_counts():
    everywhere = group("1", slice(None), slice(None))
    left = group("2", slice(None), LEFT)
    found = matched([Network("one", [left], WHOLE, {}), Network("other", [everywhere], (0, 0, 48, 96), {})], SIZE)
    assert found.edges[0].where > 0.9  # all of what the other saw is the left half
    elsewhere = Network("other", [everywhere], (48, 0, 96, 96), {})
    assert matched([Network("one", [left], WHOLE, {}), elsewhere], SIZE).edges == ()


def test_what_judges_see_decides_between_two_that_lie_at_one_place():
    here = [group("1", slice(None), LEFT), group("2", slice(None), LEFT)]
    there = [group("3", slice(None), LEFT), group("4", slice(None), LEFT)]
    seen = ({here[0].unit: {"wolf": 0.9}, here[1].unit: {"snow": 0.8}}, {there[0].unit: {"snow": 0.7, "wolf": 0.1}})
    found = matched([Network("one", here, WHOLE, seen[0]), Network("other", there, WHOLE, seen[1])], SIZE)
    assert [(edge.a, edge.b) for edge in found.edges] == [(0, 3), (1, 2)]
    (unjudged, judged) = found.edges
    assert unjudged.seen is None and unjudged.weight == pytest.approx(1, abs=1e-6)
    assert judged.seen == pytest.approx(0.7) and judged.weight == pytest.approx(0.85)


def test_what_judges_see_alike_at_other_places_is_not_the_same():
    here, there = group("1", slice(None), LEFT), group("2", slice(None), RIGHT)
    networks = [Network(name, [one], WHOLE, {one.unit: {"wolf": 1.0}}) for name, one in (("a", here), ("b", there))]
    assert matched(networks, SIZE).edges == ()


def test_a_group_has_one_counterpart_in_each_network_and_none_elsewhere():
    here = [group("1", slice(None), LEFT), group("2", slice(None), LEFT)]
    networks = [Network(n, here if n == "a" else [group("3", slice(None), LEFT)], WHOLE, {}) for n in "abc"]
    networks.append(Network("d", [group("4", slice(None), RIGHT)], WHOLE, {}))
    found = matched(networks, SIZE)
    assert len(found.nodes) == 5
    pairs = [{found.nodes[edge.a].network, found.nodes[edge.b].network} for edge in found.edges]
    assert pairs == [{0, 1}, {0, 2}, {1, 2}]


def test_without_maps_nothing_is_alike_and_one_network_alone_is_refused():
    none = Reason("fc/channel/1", 1.0, 1.0, None, torch.zeros(1, 1))
    assert matched([Network(n, [none], WHOLE, {}) for n in "ab"], SIZE).edges == ()
    for count in (1, 5):
        with pytest.raises(UndefinedError, match=f"not {count}"):
            matched([Network("a", [none], WHOLE, {})] * count, SIZE)
