"""Maps as pictures: colours, overlays on the original, colour bars and contact sheets.

Pictures that are blended are uint8 arrays (H, W, 3); what carries text is a Pillow picture. Unsigned maps hold [0, 1],
signed ones [-1, 1]. matplotlib gives colour maps and a font, and is imported on first use because that is slow.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from lsd.errors import LSDError

STYLES = ("heatmap", "mask", "contours", "map")
SEQUENTIAL = "inferno"  # even in lightness, so that equal steps of the map look equal
DIVERGING = "bwr"  # blue opposes, red supports, white at 0; vivid at its ends, where "RdBu_r" darkens

CATEGORIES = {"red": "#d55e00", "blue": "#56b4e9", "yellow": "#f0e442", "green": "#009e73", "pink": "#cc79a7"}
"""Colours that say which: told apart on a grey picture, by the colour-blind too (Okabe & Ito, 2008)."""

LEVELS = (0.25, 0.5, 0.75)

_BACKGROUND = (250, 250, 248)
_INK = (34, 34, 34)
_FAINT = (150, 150, 150)
_DIMMED = 0.6  # a picture in grey, so that colours stand out on it
_SUPERSAMPLING = 3  # Pillow's lines are not antialiased: they are drawn larger and averaged


def colorize(map2d: np.ndarray, signed: bool, cmap: str | None = None) -> np.ndarray:
    """Colours of a map (H, W): uint8 (H, W, 3). `cmap` is a matplotlib name, by default `SEQUENTIAL` or `DIVERGING`.

    Values outside the range are shown as its ends. A signed 0 gets the very middle of the colour map.
    Raises `LSDError` for an unknown name.
    """
    table = _table(cmap or (DIVERGING if signed else SEQUENTIAL))
    unit = (np.clip(map2d, -1, 1) + 1) / 2 if signed else np.clip(map2d, 0, 1)
    return table[np.round(unit * (len(table) - 1)).astype(np.intp)]


@lru_cache
def _table(name: str) -> np.ndarray:
    """A colour map as uint8 (255, 3): an odd length, so that there is a middle."""
    from matplotlib import colormaps

    if name not in colormaps:
        raise LSDError(f"colour map '{name}' is unknown: choose one of matplotlib's, such as '{SEQUENTIAL}'.")
    return np.round(colormaps[name](np.linspace(0, 1, 255))[:, :3] * 255).astype(np.uint8)


def overlay(
    image: np.ndarray,
    map2d: np.ndarray,
    style: str,
    *,
    signed: bool,
    opacity: float = 0.6,
    box: tuple[float, float, float, float] | None = None,
    cmap: str | None = None,
) -> np.ndarray:
    """Show a map (H, W) on its picture, uint8 (H, W, 3), as uint8 (H, W, 3).

    style: "heatmap" blends the map's colour in with a weight of `opacity` times its magnitude (unsigned: the root of
        its magnitude), so that unimportant places keep the picture's own colours; "mask" darkens places by `opacity`
        times what their magnitude lacks of 1; "contours" draws lines where the magnitude passes `LEVELS`, which a
        noisy map needs `MapSettings.blur` for; "map" shows the map alone.
    opacity: strength of "heatmap" and "mask", in [0, 1].
    box: the region that the model saw, (left, top, right, bottom) in pixels: it is outlined, and its outside dimmed.

    Raises `LSDError` for an unknown style.
    """
    magnitude = np.clip(np.abs(map2d), 0, 1)[..., None]
    if style == "heatmap":
        # The root keeps middling places visible; a signed map is near white there, and would lie on them as a haze.
        weight = magnitude if signed else np.sqrt(magnitude)
        shown = _blend(image, colorize(map2d, signed, cmap), opacity * weight)
    elif style == "mask":
        shown = _blend(image, (0, 0, 0), opacity * (1 - magnitude))
    elif style == "contours":
        shown = _draw_contours(image, map2d, signed, cmap)
    elif style == "map":
        shown = colorize(map2d, signed, cmap)
    else:
        raise LSDError(f"style '{style}' is unknown: choose one of {', '.join(STYLES)}.")
    return shown if box is None else _frame(shown, box)


def categories(
    image: np.ndarray,
    which: np.ndarray,
    strength: np.ndarray,
    lead: np.ndarray,
    opacity: float,
    *,
    alone: bool = False,
    box: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
    """Colours of `CATEGORIES` over a picture in dark grey, uint8 (H, W, 3), as uint8 (H, W, 3).

    Args:
        which: (H, W), places in `CATEGORIES`.
        strength: (H, W) in [0, 1], how opaque the colour is.
        lead: (H, W) in [0, 1], how full the colour is: white at 0, where which of them is undecided.
        opacity: of the colour at full strength, in [0, 1].
        alone: over black in place of the picture.
        box: as for `overlay`.
    """
    grey = np.asarray(Image.fromarray(image).convert("L"), np.float32)[..., None].repeat(3, 2)
    below = np.zeros_like(grey) if alone else _DIMMED * grey
    colours = np.array([ImageColor.getrgb(colour) for colour in CATEGORIES.values()], np.float32)[which]
    tinted = _blend(np.full_like(colours, 255), colours, np.sqrt(lead)[..., None])
    shown = _blend(below, tinted, (1 if alone else opacity) * strength[..., None])
    return shown if box is None else _frame(shown, box)


def _blend(below: np.ndarray, above, weight) -> np.ndarray:
    """Mix `above`, an array or one colour, over `below` with a weight in [0, 1]."""
    below = below.astype(np.float32)
    return np.round(below + (np.asarray(above, np.float32) - below) * np.asarray(weight, np.float32)).astype(np.uint8)


def _draw_contours(image: np.ndarray, map2d: np.ndarray, signed: bool, cmap: str | None) -> np.ndarray:
    """Level lines in the colour of their level, each on a wider dark line so that it is seen on any picture."""
    from skimage.measure import find_contours

    width = max(1.0, max(map2d.shape) / 300)
    levels = [sign * level for level in LEVELS for sign in ((1, -1) if signed else (1,))]
    # A border of zeros closes the lines that run off the picture.
    padded = np.pad(map2d, 1)
    lines = {level: find_contours(padded, level) for level in levels}
    everything = [line for group in lines.values() for line in group]
    shown = _blend(image, (0, 0, 0), 0.6 * _coverage(map2d.shape, everything, 2.5 * width))
    for level, group in lines.items():
        shown = _blend(shown, _contour_color(level, signed, cmap), _coverage(map2d.shape, group, width))
    return shown


def _contour_color(level: float, signed: bool, cmap: str | None) -> np.ndarray:
    """Colour of a level line, taken from the upper half of an unsigned map, whose lower half is near black."""
    return colorize(np.array([[level if signed else 0.5 + level / 2]]), signed, cmap)[0, 0]


def _coverage(shape: tuple[int, int], lines: list[np.ndarray], width: float) -> np.ndarray:
    """How much of each pixel the lines cover: (H, W, 1) in [0, 1]. Lines are (row, column) in a map padded by one."""
    canvas = Image.new("L", (shape[1] * _SUPERSAMPLING, shape[0] * _SUPERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    for line in lines:
        # find_contours counts from pixel centres: -1 undoes the padding, +0.5 makes the coordinates continuous.
        points = (line[:, ::-1] - 0.5) * _SUPERSAMPLING
        draw.line([tuple(point) for point in points], fill=255, width=round(width * _SUPERSAMPLING))
    return np.asarray(canvas.reduce(_SUPERSAMPLING), np.float32)[..., None] / 255


def _frame(image: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Outline the part of `box` that lies on the picture with a thin line, and dim what is outside."""
    height, width = image.shape[:2]
    left, right = (round(min(max(x, 0), width)) for x in box[::2])
    top, bottom = (round(min(max(y, 0), height)) for y in box[1::2])
    shown = _blend(image, (0, 0, 0), 0.45)
    shown[top:bottom, left:right] = image[top:bottom, left:right]
    picture = Image.fromarray(shown)
    thickness = max(1, max(height, width) // 400)
    outline = (left, top, max(left, right - 1), max(top, bottom - 1))
    ImageDraw.Draw(picture).rectangle(outline, outline="white", width=thickness)
    return np.asarray(picture)


def color_bar(
    signed: bool,
    cmap: str | None = None,
    width: int = 320,
    height: int = 44,
    labels: Sequence[str] | None = None,
) -> Image.Image:
    """A horizontal colour bar, RGB of (width, height) pixels, with labels at even distances under it.

    `labels` are from left to right; by default the numbers at the ends and in the middle.
    """
    labels = labels or (("−1", "0", "+1") if signed else ("0", "0.5", "1"))
    font = _font(max(9, round(height * 0.3)))
    margin = 8
    bar_width, bar_height = width - 2 * margin, round(height * 0.45)
    picture = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    ramp = np.linspace(-1 if signed else 0, 1, bar_width)
    bar = colorize(np.tile(ramp, (bar_height, 1)), signed, cmap)
    picture.paste(Image.fromarray(bar), (margin, 2))
    draw.rectangle((margin - 1, 1, margin + bar_width, 2 + bar_height), outline=_FAINT)
    for i, label in enumerate(labels):
        x = margin + round(i / max(1, len(labels) - 1) * (bar_width - 1))
        draw.line((x, 2 + bar_height, x, 5 + bar_height), fill=_INK)
        # The outer labels stay inside the picture.
        half = font.getlength(label) / 2
        draw.text((min(max(x, half + 1), width - half - 1), 6 + bar_height), label, fill=_INK, font=font, anchor="ma")
    return picture


def contact_sheet(
    rows: Sequence[Sequence[Image.Image | None]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    title: str = "",
    cell: int = 224,
) -> Image.Image:
    """A labelled grid of pictures as one RGB picture on a light background.

    Each picture is fitted into `cell` × `cell` pixels, a row being as high as its highest; None leaves its place
    empty. Labels are wrapped, and what does not fit in three lines ends with "…". An empty list of labels takes no
    room.
    """
    gap, margin = max(4, cell // 28), max(10, cell // 14)
    font, title_font = _font(max(10, cell // 16)), _font(max(13, cell // 11))
    columns = max((len(row) for row in rows), default=0)
    label_width = round(cell * 0.62) if any(row_labels) else 0
    left = margin + (label_width + gap if label_width else 0)
    width = left + columns * (cell + gap) - gap + margin
    fitted = [[picture and _fit_cell(picture, cell) for picture in row] for row in rows]
    title_lines = _wrap(title, title_font, width - 2 * margin, 2)
    head = [_wrap(label, font, cell, 3) for label in column_labels]
    side = [_wrap(label, font, label_width, 3) for label in row_labels]

    head_top = margin + _text_height(title_lines, title_font) + (gap if title_lines else 0)
    y = head_top + max((_text_height(lines, font) for lines in head), default=0) + (gap if head else 0)
    tops, heights = [], []
    for i, row in enumerate(fitted):
        label_height = _text_height(side[i], font) if i < len(side) else 0
        tops.append(y)
        heights.append(max([label_height, *(picture.height for picture in row if picture)]))
        y += heights[-1] + gap

    sheet = Image.new("RGB", (width, y - gap + margin), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    _text(draw, (margin, margin), title_lines, title_font, "left")
    for j, lines in enumerate(head):
        # Set on the row of pictures, not hung from the title.
        head_y = tops[0] - gap - _text_height(lines, font) if tops else head_top
        _text(draw, (left + j * (cell + gap) + cell // 2, head_y), lines, font, "center")
    for i, (top, height) in enumerate(zip(tops, heights, strict=True)):
        if i < len(side):
            _text(
                draw, (margin + label_width, top + (height - _text_height(side[i], font)) // 2), side[i], font, "right"
            )
        for j, picture in enumerate(fitted[i]):
            if picture:
                x = left + j * (cell + gap) + (cell - picture.width) // 2
                sheet.paste(picture, (x, top + (height - picture.height) // 2))
    return sheet


def text_cell(lines: Sequence[str], cell: int = 224) -> Image.Image:
    """Lines of text as a picture of `cell` × `cell` pixels for a contact sheet, each wrapped, the first one larger."""
    fonts = [_font(max(13, cell // 10)), *[_font(max(10, cell // 15))] * (len(lines) - 1)]
    wrapped = [_wrap(line, font, cell, 4) for line, font in zip(lines, fonts, strict=True)]
    picture = Image.new("RGB", (cell, cell), _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    gap = cell // 40
    height = sum(_text_height(own, font) + gap for own, font in zip(wrapped, fonts, strict=True))
    y = max(0, (cell - height) // 2)
    for own, font in zip(wrapped, fonts, strict=True):
        _text(draw, (0, y), own, font, "left")
        y += _text_height(own, font) + gap
    return picture


def stacked(sheets: Sequence[Image.Image]) -> Image.Image:
    """Sheets below each other, on the background of all."""
    whole = Image.new("RGB", (max(s.width for s in sheets), sum(s.height for s in sheets)), _BACKGROUND)
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    return whole


def wrapped_sheet(
    rows: Sequence[Sequence[Image.Image | None]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    title: str = "",
    *,
    columns: int,
    cell: int = 224,
) -> Image.Image:
    """A `contact_sheet` of any number of columns, one label each, that goes on below after so many `columns`."""
    strips = []
    for start in range(0, len(column_labels), columns):
        part = slice(start, start + columns)
        head = "" if start else title
        strips.append(contact_sheet([row[part] for row in rows], row_labels, column_labels[part], head, cell))
    return stacked(strips)


def _fit_cell(picture: Image.Image, cell: int) -> Image.Image:
    """Enlarge or shrink until the longer edge is `cell`. Small maps keep their square pixels when enlarged."""
    longest = max(picture.size)
    size = tuple(max(1, round(edge * cell / longest)) for edge in picture.size)
    method = Image.Resampling.NEAREST if longest * 4 <= cell else Image.Resampling.LANCZOS
    return picture.convert("RGB").resize(size, method)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which ships with matplotlib and so looks the same everywhere."""
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _line_height(font: ImageFont.FreeTypeFont) -> int:
    return round(font.size * 1.3)


def _text_height(lines: list[str], font: ImageFont.FreeTypeFont) -> int:
    return len(lines) * _line_height(font)


def _text(draw: ImageDraw.ImageDraw, at: tuple[int, int], lines: list[str], font, align: str) -> None:
    """Draw lines of text downwards from `at`, which is their left end, centre or right end."""
    anchor = {"left": "la", "center": "ma", "right": "ra"}[align]
    for i, text in enumerate(lines):
        draw.text((at[0], at[1] + i * _line_height(font)), text, fill=_INK, font=font, anchor=anchor)


def _wrap(text: str, font, width: int, most: int) -> list[str]:
    """Break text into at most `most` lines of `width` pixels, between words or else within; a cut ends with "…"."""
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        while font.getlength(word) > width and len(word) > 1:
            fits = max(1, sum(font.getlength(word[:n]) <= width for n in range(1, len(word))))
            lines.append(word[:fits])
            word = word[fits:]
        lines.append(word)
    if len(lines) > most:
        last = lines[most - 1]
        while last and font.getlength(last + "…") > width:
            last = last[:-1]
        lines = [*lines[: most - 1], last + "…"]
    return lines
