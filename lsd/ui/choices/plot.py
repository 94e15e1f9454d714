"""The tab “Evidence”'s plots, drawn with matplotlib without its global state, so that two visitors' plots never meet.

Each is made for one width on the page and placed in CSS pixels, in one pair of axes that cover the whole picture: that
keeps text at the size at which it is read, and is ten times as fast as forty pairs of axes and a layout that is solved
for. Colours are Okabe and Ito's, which colour-blind people tell apart, and never say alone what a shape does not say too.
"""

import io
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lsd.ui.choices.texts import side, unbroken

WIDE, NARROW = 1180, 344  # CSS pixels

_INK, _FAINT, _GRID = "#1f2937", "#9ca3af", "#e9ebee"
_BETTER, _UNKNOWN, _WORSE, _TINT = "#0072b2", "#6b7280", "#d55e00", "#eef5fa"
_MARKS = {
    1: ("D", _BETTER, _BETTER, "better than the default"),
    0: ("o", _UNKNOWN, "white", "unclear: the interval includes 50%"),
    -1: ("s", _WORSE, _WORSE, "worse than the default"),
}
_CURVES = {"strength": (_BETTER, "o", "-"), "with sign": (_WORSE, "s", "--")}
_FINE = 2  # dots to a CSS pixel
_POINT = 0.75  # of an inch's 96 pixels
_LETTER = 7.1  # mean width of a letter at 13 pixels
_LINE = 16  # from one line of text to the next

Interval = Sequence[float]  # mean, low, high, count


@dataclass(frozen=True)
class Panel:
    """One part of a forest plot: its heading, and a figure for each row, None where there is none."""

    title: str
    figures: Sequence[Interval | None]


class _Sheet:
    """A white picture with text, lines and marks at places in CSS pixels from its upper left corner.

    Lines and marks are gathered, and drawn together by their looks: a thousand artists would take a second.
    """

    def __init__(self, width: float, height: float):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width / 96, height / 96), dpi=96 * _FINE, facecolor="white")
        self._canvas = FigureCanvasAgg(figure)
        self._axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        self._axes.set_axis_off()
        self._lines: dict[tuple[str, float], list] = defaultdict(list)
        self._marks: dict[int, list] = defaultdict(list)

    def text(self, x: float, y: float, words: str, *, size: float = 12, bold: bool = False, at: str = "left") -> None:
        """Centred on `y`. A dollar is a dollar."""
        self._axes.text(
            x, y, words, fontsize=size * _POINT, color=_INK, fontweight="bold" if bold else "normal", ha=at,
            va="center_baseline", linespacing=1.15, parse_math=False, clip_on=False,
        )  # fmt: skip

    def line(self, x: tuple[float, float], y: tuple[float, float], color: str = _FAINT, width: float = 1) -> None:
        """Between two points."""
        self._lines[color, width].append(tuple(zip(x, y, strict=True)))

    def mark(self, x: float, y: float, kind: int) -> None:
        """The mark of better, worse, or neither."""
        self._marks[kind].append((x, y))

    def curve(self, x: Sequence[float], y: Sequence[float], look: tuple[str, str, str]) -> None:
        """Through points, in a colour, with marks of a shape, dashed or not."""
        color, shape, dash = look
        self._axes.plot(x, y, dash, color=color, marker=shape, linewidth=2.2 * _POINT, markersize=4, zorder=3)

    def tint(self, left: float, top: float, right: float, bottom: float) -> None:
        """A pale rectangle, under all else."""
        self._axes.fill([left, right, right, left], [top, top, bottom, bottom], color=_TINT, linewidth=0, zorder=0)

    def png(self) -> bytes:
        """In a few dozen colours, which are enough, and a third of the bytes."""
        from matplotlib.collections import LineCollection

        for (color, width), parts in self._lines.items():
            self._axes.add_collection(LineCollection(parts, colors=color, linewidths=width * _POINT, zorder=1))
        for kind, places in self._marks.items():
            shape, color, inside, _ = _MARKS[kind]
            x, y = zip(*places, strict=True)
            self._axes.scatter(x, y, s=28, marker=shape, facecolor=inside, edgecolor=color, linewidths=1.3, zorder=2)
        self._canvas.draw()
        picture = Image.fromarray(np.asarray(self._canvas.buffer_rgba())).convert("RGB")
        buffer = io.BytesIO()
        picture.quantize(64, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(buffer, "PNG")
        return buffer.getvalue()


def forest(rows: Sequence[str], panels: Sequence[Panel], *, width: int = WIDE) -> bytes:
    """Shares of wins with their intervals as a PNG; the line is at one half.

    Args:
        rows: what each row is called.
        panels: the first with its figures written beside it. Side by side if `width` is `WIDE`, else one under another.
    """
    return (_side_by_side if width == WIDE else _stacked)(rows, panels, width)


def _side_by_side(rows: Sequence[str], panels: Sequence[Panel], width: int) -> bytes:
    labels, left = _labels(rows, 26)
    pooled, written, row = 210, 118, 26
    start = left + pooled + written
    pitch = min(150, (width - start - 12) / max(1, len(panels) - 1))
    gap = 16 if pitch < 100 else 32  # room for the numbers under the ends
    titles = [_wrapped(unbroken(panel.title), int((pitch - 4) / 6.8)) for panel in panels[1:]]
    top = 12 + _LINE * max([2, *(title.count("\n") + 1 for title in titles)])
    bottom = top + row * len(rows)
    sheet = _Sheet(width, bottom + 80)
    _names(sheet, labels, left, top, row)
    sheet.text(left, top - 30, panels[0].title, size=13, bold=True)
    _sides(sheet, left, pooled, top - 10, ("← default better", "level better →"))
    _panel(sheet, panels[0], (left, left + pooled), top, row, written=True)
    sheet.text(left + pooled / 2, bottom + 36, "% of comparisons won", at="center")
    for k, (panel, title) in enumerate(zip(panels[1:], titles, strict=True)):
        place = start + k * pitch
        sheet.text(place, top - 6 - _LINE * (title.count("\n") + 1) / 2, title)
        _panel(sheet, panel, (place, place + pitch - gap), top, row)
    _legend(sheet, panels, bottom + 64, [12, 200, 450])
    return sheet.png()


def _stacked(rows: Sequence[str], panels: Sequence[Panel], width: int) -> bytes:
    labels, left = _labels(rows, 17)
    row = 36 if any("\n" in label for label in labels) else 27
    right, head, foot = width - 112, 44, 34
    each = head + row * len(rows) + foot
    sheet = _Sheet(width, each * len(panels) + 24 + 20 * len(_kinds(panels)))
    for k, panel in enumerate(panels):
        top = k * each + head
        sheet.text(4, top - 32, panel.title, size=13, bold=True)
        _sides(sheet, left, right - left, top - 11, ("← default", "level →"))
        _names(sheet, labels, left, top, row)
        _panel(sheet, panel, (left, right), top, row, written=True)
    sheet.text((left + right) / 2, each * len(panels) + 4, "% of comparisons won", at="center")
    _legend(sheet, panels, each * len(panels) + 30, [8])
    return sheet.png()


def _labels(rows: Sequence[str], letters: int) -> tuple[list[str], float]:
    """The rows' names in lines, and where the panel beside them begins."""
    labels = [_wrapped(row, letters) for row in rows]
    return labels, 22 + _LETTER * max(len(line) for label in labels for line in label.split("\n"))


def _wrapped(words: str, letters: int) -> str:
    return textwrap.fill(words, max(letters, 8), break_on_hyphens=False, break_long_words=False)


def _names(sheet: _Sheet, labels: Sequence[str], right: float, top: float, row: float) -> None:
    for i, label in enumerate(labels):
        sheet.text(right - 8, top + row * (i + 0.5), label, size=13, at="right")


def _sides(sheet: _Sheet, left: float, width: float, y: float, words: tuple[str, str]) -> None:
    """Who is better on which side of the line."""
    for away, side_words, at in zip((-6, 6), words, ("right", "left"), strict=True):
        sheet.text(left + width / 2 + away, y, side_words, at=at)


def _panel(
    sheet: _Sheet, panel: Panel, ends: tuple[float, float], top: float, row: float, *, written: bool = False
) -> None:
    """Every row's share between two ends, 0 and 1; written out to the right, if wished."""
    left, right = ends
    bottom = top + row * len(panel.figures)

    def x(share: float) -> float:
        return left + (right - left) * share

    sheet.tint(x(0.5), top, right, bottom)
    for i in range(len(panel.figures)):
        sheet.line(ends, (top + row * (i + 0.5),) * 2, _GRID)
    sheet.line(ends, (bottom, bottom))
    sheet.line((x(0.5), x(0.5)), (top, bottom), _INK)
    for share in (0, 0.5, 1) if right - left > 70 else (0.5,):
        sheet.line((x(share), x(share)), (bottom, bottom + 4))
        sheet.text(x(share), bottom + 14, f"{100 * share:.0f}", at="center")
    for i, figure in enumerate(panel.figures):
        y = top + row * (i + 0.5)
        if figure is None:
            if written:
                sheet.text(right + 10, y, "not scored")
            continue
        mean, low, high = figure[:3]
        kind = side(figure)
        sheet.line((x(low), x(high)), (y, y), _MARKS[kind][1], 2.4)
        sheet.mark(x(mean), y, kind)
        if written:
            sheet.text(right + 10, y, f"{100 * mean:.0f}% [{100 * low:.0f}–{100 * high:.0f}]")


def _legend(sheet: _Sheet, panels: Sequence[Panel], y: float, places: Sequence[float]) -> None:
    """The marks that there are: beside each other at `places`, or one under another."""
    for i, kind in enumerate(_kinds(panels)):
        x, down = (places[i], 0) if len(places) > 1 else (places[0], i * 20)
        sheet.line((x, x + 22), (y + down, y + down), _MARKS[kind][1], 2.4)
        sheet.mark(x + 11, y + down, kind)
        sheet.text(x + 30, y + down, _MARKS[kind][3])


def _kinds(panels: Sequence[Panel]) -> list[int]:
    """Those of `_MARKS` that the panels have."""
    there = {side(figure) for panel in panels for figure in panel.figures if figure is not None}
    return [kind for kind in _MARKS if kind in there]


def randomization(methods: Mapping[str, Mapping[str, Sequence[float]]], *, width: int = WIDE) -> bytes:
    """Likeness of each method's map to itself while the network is randomized, a small panel for each, as a PNG.

    Args:
        methods: title → "strength" and "with sign" → likeness after each stage, from the classifier alone to everything.
    """
    columns = 4 if width == WIDE else 2
    left, pitch, head, high = 40, (width - 44) / columns, 46, 118
    lines = -(-len(methods) // columns)
    sheet = _Sheet(width, lines * (head + high + 16) + 50)
    for i, (title, own) in enumerate(methods.items()):
        line, column = divmod(i, columns)
        x, top = left + column * pitch, line * (head + high + 16) + head
        label = _wrapped(title, 17 if columns == 2 else 34)
        sheet.text(x, top - 8 - _LINE * (label.count("\n") + 1) / 2, label, bold=True)
        _likeness(sheet, own, (x, x + pitch - 26), (top, top + high), numbered=column == 0)
    y = lines * (head + high + 16) + 30
    for i, (what, look) in enumerate(_CURVES.items()):
        x = 12 + 120 * i
        sheet.curve([x, x + 14, x + 28], [y] * 3, look)
        sheet.text(x + 36, y, what)
    return sheet.png()


def _likeness(
    sheet: _Sheet, own: Mapping[str, Sequence[float]], across: tuple[float, float], down: tuple[float, float],
    *, numbered: bool,
) -> None:  # fmt: skip
    """One method's curves between a likeness of 1, above, and of -0.5."""
    (left, right), (top, bottom) = across, down

    def y(value: float) -> float:
        return top + (bottom - top) * (1 - value) / 1.5

    for value in (-0.5, 0, 0.5, 1):
        sheet.line(across, (y(value), y(value)), _INK if value == 0 else _GRID)
        if numbered:
            sheet.text(left - 6, y(value), f"{value:g}".replace("-", "−"), at="right")
    sheet.text(left, bottom + 12, "classifier")
    sheet.text(right, bottom + 12, "all", at="right")
    for what, values in own.items():
        step = (right - left - 12) / max(1, len(values) - 1)
        places = [left + 6 + step * k for k in range(len(values))]
        sheet.curve(places, [y(v) for v in values], _CURVES[what])
