"""Which groups of several networks are the same thing, drawn: networks as columns of groups, and lines between those that are."""

from collections.abc import Callable, Sequence
from html import escape

from lsd.reasons import words
from lsd.reasons.sentence import percent

_COLUMN, _ROW, _TOP, _SIDE = 260, 118, 30, 78  # in the graph's own units
_NAME = 30  # letters of a network's name


def graph_of(graph: dict, shown: Callable[[int, str], Sequence[str]]) -> str:
    """HTML with an SVG; the wider a line, the more alike two groups.

    Args:
        graph: as `Graph.to_dict` gives it.
        shown: addresses of the pictures of a network's group, by the network's number and the unit: what it looks like, and
            where it lies; there may be one of them, or none.
    """
    at, filled, nodes, ends = [], [0] * len(graph["networks"]), [], []
    for node in graph["nodes"]:
        column = node["network"]
        x, y = column * _COLUMN + 10, _TOP + filled[column] * _ROW
        filled[column] += 1
        there = shown(column, node["unit"])
        at.append((x, y))
        ends.append(x + max(1, len(there)) * (_SIDE + 4) + 2)
        nodes += [
            f'<image href="{escape(address)}" x="{x + i * (_SIDE + 4)}" y="{y}" width="{_SIDE}" height="{_SIDE}"/>'
            for i, address in enumerate(there)
        ]
        short = escape(words.name(node["unit"], node["unit"].split("/")[0]).replace("channels ", ""))
        nodes.append(f'<text x="{x}" y="{y + _SIDE + 15}">{percent(node["part"])} · {short}</text>')
    lines = []
    for edge in sorted(graph["edges"], key=lambda edge: edge["weight"]):
        (_, y1), (x2, y2) = at[edge["a"]], at[edge["b"]]
        start, end = ends[edge["a"]] + 4, x2 - 6
        middle, y1, y2 = (start + end) / 2, y1 + _SIDE / 2, y2 + _SIDE / 2
        lines.append(
            f'<path d="M{start} {y1} C{middle} {y1} {middle} {y2} {end} {y2}" stroke-width="{1 + 9 * edge["weight"] ** 2:.1f}" '
            f'opacity="{0.3 + 0.7 * edge["weight"]:.2f}"><title>{percent(edge["weight"])} alike</title></path>'
        )
    heads = "".join(
        f'<text x="{i * _COLUMN + 10}" y="16" font-weight="600">{escape(_cut(name))}</text>'
        for i, name in enumerate(graph["networks"])
    )
    width, height = len(filled) * _COLUMN, _TOP + max([1, *filled]) * _ROW
    judged = any(edge["seen"] is not None for edge in graph["edges"])
    how = "where they lie and what other networks see in their pictures" if judged else "where they lie"
    pairs = len(graph["edges"])
    found = "One pair of groups is alike" if pairs == 1 else f"{pairs or 'No'} pairs of groups are alike"
    return (
        f'<h3>The same things?</h3><p class="soft">{found} by {how}.{" The wider a line, the more." if pairs else ""}</p>'
        f'<div class="graph"><svg viewBox="0 0 {width} {height}" style="min-width: {150 * len(filled)}px; max-width: {width}px" '
        f'role="img" aria-label="Groups of the networks, matched">{"".join(lines)}{"".join(nodes)}{heads}</svg></div>'
    )


def _cut(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
