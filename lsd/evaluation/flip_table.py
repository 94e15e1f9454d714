"""The tables of `flips`: which map changes the decision, and which mends it, with the fewest pixels removed.

What never changes within the ladder counts as more than its top: a median that falls there is told as such, and it loses
against every map that does change. Mistakes are what is resampled for the intervals; of several models together, pictures,
since models that are wrong about the same picture are not independent.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from lsd import markdown
from lsd.evaluation.flips import LADDER, MAPS, Flip, Row
from lsd.evaluation.probe import CONTROLS

DRAWS = 2000
NEVER = np.inf
PIXELS, BLOBS = CONTROLS

Figure = tuple[float, float, float]  # a mean and its 95% interval


def flipped(flip: Flip) -> float:
    """The fraction until the answer is another, infinite where it never is."""
    return NEVER if flip.fraction is None else flip.fraction


def mended(flip: Flip) -> float:
    """The fraction until the answer is right, infinite where it never is."""
    return NEVER if flip.mended is None else flip.mended


def right_away(flip: Flip) -> float:
    """1 where the first other answer is the true class, 0 where it is not, or never comes."""
    return float(flip.fraction is not None and flip.mended == flip.fraction)


def wins(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """1 where `own` takes fewer pixels, ½ where both take as many or neither ever changes, 0 where more."""
    return np.where(own == other, 0.5, own < other)


def fewest(fractions: np.ndarray) -> np.ndarray:
    """(N, maps) each map's share of having the fewest pixels of its row, ties split evenly: rows sum to 1."""
    least = fractions == fractions.min(axis=1, keepdims=True)
    return least / least.sum(axis=1, keepdims=True)


def mean(values: np.ndarray, pictures: Sequence[str], seed: int = 0) -> Figure:
    """The mean of (N,) with its bootstrap 95% interval over pictures, of which several values may be of one."""
    _, place = np.unique(np.asarray(pictures), return_inverse=True)
    count = place.max() + 1
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS)[:, place]
    low, high = np.percentile(weights @ values / weights.sum(axis=1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


class Group:
    """The rows of one method, of one model or several, with every map of each mistake there.

    Attributes:
        pictures: the N mistakes' pictures.
        flips: what removed by → map → N flips.
    """

    def __init__(self, rows: Sequence[Row]):
        mistakes: dict[tuple[str, str], dict[str, Row]] = {}
        for row in rows:
            mistakes.setdefault((row.model, row.item), {})[row.map] = row
        whole = {key: maps for key, maps in mistakes.items() if len(maps) == len(MAPS)}
        self.pictures = [item for _, item in whole]
        self.flips = {
            by: {name: [maps[name].flips[by] for maps in whole.values()] for name in MAPS}
            for by in ("map", PIXELS, BLOBS)
        }

    def values(self, told: Callable[[Flip], float], name: str, by: str = "map") -> np.ndarray:
        """(N,) what `told` says of each flip of one map."""
        return np.array([told(flip) for flip in self.flips[by][name]])


def median(fractions: np.ndarray) -> float:
    """The middle one, of an even number the higher of the middle two, as `probe` takes it: always a rung."""
    return float(np.sort(fractions)[len(fractions) // 2])


def percent(fraction: float) -> str:
    """A rung of the ladder as in "≤ 0.1%", which is the lowest, "0.25%", "7.5%", "> 50%"."""
    if not np.isfinite(fraction):
        return f"> {100 * LADDER[-1]:g}%"
    return f"{'≤ ' if fraction <= LADDER[0] else ''}{100 * fraction:.3g}%"


def share(figure: Figure) -> str:
    """ "41% [36–45]"."""
    value, low, high = (100 * f for f in figure)
    return f"{value:.0f}% [{low:.0f}–{high:.0f}]"


def table(methods: dict[str, Group]) -> Iterator[str]:
    """Markdown: a row for each method and map, and under them the controls."""
    top = f"{100 * LADDER[-1]:g}%"
    head = [
        "method", "map", "removed until another answer", f"none by {top}", "fewest of the three", "beats random blobs",
        "first other answer is right", "removed until right", f"right by {top}", "fewest of the three",
    ]  # fmt: skip
    yield from markdown.table(head, _rows(methods))


def _rows(methods: dict[str, Group]) -> Iterator[list[str]]:
    for method, group in methods.items():
        least, least_right = (
            fewest(np.stack([group.values(told, name) for name in MAPS], axis=1)) for told in (flipped, mended)
        )
        blobs = group.values(flipped, MAPS[0], BLOBS)
        for k, name in enumerate(MAPS):
            won = (least[:, k], wins(group.values(flipped, name), blobs), least_right[:, k])
            yield _line(method, name, group, "map", [share(mean(values, group.pictures)) for values in won])
        yield _line(method, f"*{BLOBS}*", group, BLOBS)
    if methods:  # random pixels are the same for every method
        yield _line("", f"*{PIXELS}*", next(iter(methods.values())), PIXELS)


def _line(method: str, name: str, group: Group, by: str, won: Sequence[str] = ("", "", "")) -> list[str]:
    """One row of `table`; `won` are its cells on the other maps and on chance."""
    of = name if name in MAPS else MAPS[0]  # a control is the same for a method's three maps
    until, right = (group.values(told, of, by) for told in (flipped, mended))
    return [
        method, name, percent(median(until)), f"{np.isinf(until).mean():.0%}", *won[:2],
        share(mean(group.values(right_away, of, by), group.pictures)), percent(median(right)),
        share(mean(np.isfinite(right).astype(float), group.pictures)), won[2],
    ]  # fmt: skip


def pairs(methods: dict[str, Group]) -> Iterator[str]:
    """Markdown: how often one map needs fewer pixels than another, ties counting half."""
    rows = (
        [
            method, f"{one} against {other}",
            *(
                share(mean(wins(group.values(told, one), group.values(told, other)), group.pictures))
                for told in (flipped, mended)
            ),
        ]
        for method, group in methods.items()
        for one, other in (("contrast", "predicted"), ("contrast", "true"), ("predicted", "true"))
    )  # fmt: skip
    yield from markdown.table(["method", "map against map", "until another answer", "until right"], rows)


def _shown(title: str, rows: Sequence[Row]) -> Iterator[str]:
    """All tables of one model, or of all."""
    groups = {
        method: Group([r for r in rows if r.method == method]) for method in dict.fromkeys(r.method for r in rows)
    }
    groups = {method: group for method, group in groups.items() if group.pictures}
    if not groups:
        return
    counts = sorted({len(group.pictures) for group in groups.values()})
    empty = sum(row.empty for row in rows)
    yield f"## {title}\n\n{' to '.join(map(str, counts[:1] + counts[1:][-1:]))} mistakes"
    yield f"({empty} of {len(rows)} maps are empty, so that their pixels go at random).\n" if empty else ""
    yield from table(groups)
    yield "\nHow often the first map of the pair needs fewer pixels than the second:\n"
    yield from pairs(groups)
    yield ""


def report(rows: Sequence[Row]) -> str:
    """Markdown: the tables of all models together, then of each. Mistakes of which a map is missing are left out."""
    models = list(dict.fromkeys(row.model for row in rows))
    parts = [("All models", rows)] if len(models) > 1 else []
    parts += [(model, [row for row in rows if row.model == model]) for model in models]
    return "\n".join(line for title, own in parts for line in _shown(title, own))
