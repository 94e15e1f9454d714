"""Tables in Markdown."""

from collections.abc import Iterable, Iterator, Sequence


def row(cells: Iterable[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"


def table(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """The lines of a table, as they come; nothing in it may hold a bar or a line break."""
    yield row(heads)
    yield "|---" * len(heads) + "|"
    for cells in rows:
        yield row(cells)
