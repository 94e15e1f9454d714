"""Pictures made of the example photos by a recipe: a part of one, turned, covered, with another's detail, or a thing of one
photo in another's scene.

A recipe is a few numbers, and makes the same picture wherever the photos are. What lies where is known, since the outlines of
the things in the photos were drawn by hand (`THINGS`), and go through every step with the picture.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from lsd.errors import ImageError
from lsd.evaluation.photos import Box
from lsd.images import example_images, open_image

GREY = (128, 128, 128)  # of what covers
TURNS = (0, 90, 180, 270)


@dataclass(frozen=True)
class Thing:
    """Something in an example photo that ImageNet has a class for.

    Attributes:
        name: in words, unique.
        photo: the example photo's name.
        number: of the class in ImageNet-1k that fits best.
        outline: corners (x, y) of the polygon around it, in the photo's pixels.
        fits: further classes that name it rightly.
        kind: a word of WordNet; whatever is of this kind is as good an answer, though another class. "" where there is none.
        core: the polygon of the part that it is recognised by; () where any part will do.
    """

    name: str
    photo: str
    number: int
    outline: tuple[tuple[int, int], ...]
    fits: tuple[int, ...] = ()
    kind: str = ""
    core: tuple[tuple[int, int], ...] = ()


def _ellipse(x: int, y: int, rx: int, ry: int, corners: int = 40) -> tuple[tuple[int, int], ...]:
    angles = 2 * np.pi * np.arange(corners) / corners
    return tuple((round(x + rx * np.cos(a)), round(y + ry * np.sin(a))) for a in angles)


THINGS = {
    thing.name: thing
    for thing in (
        Thing("cat", "Chelsea the cat", 281, (
            (38, 0), (392, 0), (360, 62), (357, 115), (350, 150), (330, 185), (318, 220), (300, 258), (275, 280), (235, 284),
            (195, 262), (130, 235), (70, 205), (42, 165), (30, 110), (31, 60),
        ), kind="domestic cat"),
        Thing("clock", "Clock in motion", 892, _ellipse(212, 153, 74, 61), kind="clock"),
        # The cup with its saucer and what is in it; ImageNet has classes for the cup too.
        Thing("espresso", "Coffee cup", 967, _ellipse(277, 205, 201, 182), (504, 968), core=_ellipse(290, 140, 85, 52)),
        # The Tower of Buddhist Incense, a temple: ImageNet's “monastery” fits as well.
        Thing("palace", "Summer Palace", 698, (
            (196, 29), (214, 29), (218, 55), (264, 96), (322, 120), (303, 138), (301, 156), (332, 172), (321, 188), (321, 230),
            (352, 256), (344, 308), (374, 336), (308, 390), (208, 388), (198, 358), (168, 348), (76, 344), (80, 286), (62, 270),
            (98, 242), (98, 192), (84, 180), (118, 160), (118, 140), (95, 130), (98, 108), (170, 88), (194, 55),
        ), (663,)),
        Thing("tripod", "Cameraman", 872, (
            (262, 138), (326, 136), (330, 168), (322, 190), (312, 196), (313, 300), (346, 298), (345, 308), (328, 318),
            (406, 500), (405, 511), (382, 511), (318, 352), (312, 490), (240, 508), (230, 505), (276, 320), (290, 300),
            (290, 195), (272, 184),
        )),
        Thing("coat", "Cameraman", 869, (
            (160, 110), (182, 150), (200, 210), (240, 200), (292, 235), (296, 262), (262, 310), (225, 300), (140, 385),
            (25, 380), (28, 290), (8, 250), (30, 210), (55, 170), (80, 140), (130, 122),
        ), (834,)),
        Thing("space shuttle", "Astronaut", 812, (
            (404, 0), (442, 0), (452, 40), (450, 195), (457, 240), (440, 266), (445, 282), (368, 282), (366, 268), (351, 246),
            (366, 200), (386, 130), (386, 62), (398, 32),
        )),
        Thing("helmet", "Astronaut", 518, (
            (350, 352), (400, 344), (440, 354), (475, 385), (500, 440), (508, 511), (280, 511), (284, 450), (300, 395),
        ), kind="helmet"),
    )
}  # fmt: skip
"""By name. Outlines and labels are by hand."""


@dataclass(frozen=True)
class Paste:
    """A thing put into another photo's scene: so high, and there, in the scene's pixels; its width follows."""

    thing: str
    height: int
    left: int
    top: int


@dataclass(frozen=True)
class Detail:
    """The fine detail of another photo on the thing, in place of its own: all that a blur of `sigma` pixels takes away."""

    photo: str
    sigma: float


@dataclass(frozen=True)
class Recipe:
    """How a picture is made, step by step in this order.

    Attributes:
        photo: the example photo that it begins with.
        thing: what the picture is labelled as.
        paste: a thing of another photo that is put into it.
        detail: on the labelled thing.
        cover: a grey box (left, top, right, bottom) over it.
        crop: the box that is taken of it.
        turn: degrees against the clock, one of `TURNS`.
    """

    photo: str
    thing: str
    paste: Paste | None = None
    detail: Detail | None = None
    cover: Box | None = None
    crop: Box | None = None
    turn: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it, without what is not done."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """The inverse of `to_dict`."""
        values = dict(values)
        for name, kind in (("paste", Paste), ("detail", Detail)):
            if name in values:
                values[name] = kind(**values[name])
        for name in ("cover", "crop"):
            if name in values:
                values[name] = tuple(values[name])
        return cls(**values)

    @property
    def photos(self) -> tuple[str, ...]:
        """The example photos that it needs."""
        others = (self.paste and THINGS[self.paste.thing].photo, self.detail and self.detail.photo)
        return tuple(dict.fromkeys([self.photo, *filter(None, others)]))


@dataclass(frozen=True, eq=False)
class Composed:
    """A picture, RGB, and where its things are: (height, width) bool by name; what cannot be seen of them is left out."""

    picture: Image.Image
    masks: dict[str, np.ndarray]


def compose(recipe: Recipe) -> Composed:
    """Make the picture.

    Raises:
        ImageError: a photo is not there.
    """
    pixels = _photo(recipe.photo)
    masks = {name: inside(one.outline, pixels.shape) for name, one in THINGS.items() if one.photo == recipe.photo}
    if recipe.paste:
        pixels, pasted = _pasted(pixels, recipe.paste)
        masks = {name: mask & ~pasted for name, mask in masks.items()} | {recipe.paste.thing: pasted}
    if recipe.detail:
        pixels = _detailed(pixels, masks[recipe.thing], recipe.detail)
    if recipe.cover:
        left, top, right, bottom = recipe.cover
        pixels = pixels.copy()
        pixels[top:bottom, left:right] = GREY
        for mask in masks.values():
            mask[top:bottom, left:right] = False
    if recipe.crop:
        left, top, right, bottom = recipe.crop
        pixels = pixels[top:bottom, left:right]
        masks = {name: mask[top:bottom, left:right] for name, mask in masks.items()}
    turns = recipe.turn // 90
    picture = Image.fromarray(np.ascontiguousarray(np.rot90(pixels, turns)))
    return Composed(picture, {name: np.rot90(mask, turns) for name, mask in masks.items() if mask.any()})


def blurred(picture: Image.Image, sigma: float) -> Image.Image:
    """Without the detail that a Gaussian blur of `sigma` pixels takes away; shapes stay."""
    return Image.fromarray(_low(np.asarray(picture), sigma).round().clip(0, 255).astype(np.uint8))


@functools.lru_cache(maxsize=16)
def _photo(name: str) -> np.ndarray:
    """(height, width, 3) uint8, for reading only."""
    files = example_images()
    if name not in files:
        raise ImageError(f"The example photo “{name}” is not there: pip install scikit-image scikit-learn.")
    return np.asarray(open_image(files[name]))


def inside(outline: Sequence[tuple[int, int]], shape: tuple[int, ...]) -> np.ndarray:
    """(height, width) bool, the pixels of a polygon; none where it has no corners."""
    drawn = Image.new("1", (shape[1], shape[0]))
    if outline:
        ImageDraw.Draw(drawn).polygon(list(outline), fill=1)
    return np.array(drawn)


def _pasted(scene: np.ndarray, paste: Paste) -> tuple[np.ndarray, np.ndarray]:
    """The scene with the thing in it, its edge one pixel soft; and the thing's mask, where it lies inside."""
    thing = THINGS[paste.thing]
    source = _photo(thing.photo)
    mask = inside(thing.outline, source.shape)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    size = (max(1, round(paste.height * (box[2] - box[0]) / (box[3] - box[1]))), paste.height)
    cut = Image.fromarray(source).crop(box).resize(size, Image.Resampling.LANCZOS)
    alpha = Image.fromarray(mask.astype(np.uint8) * 255).crop(box).resize(size, Image.Resampling.LANCZOS)
    picture, where = Image.fromarray(scene), Image.new("L", (scene.shape[1], scene.shape[0]))
    picture.paste(cut, (paste.left, paste.top), alpha)
    where.paste(alpha, (paste.left, paste.top))
    return np.asarray(picture), np.asarray(where) > 127


def _detailed(pixels: np.ndarray, mask: np.ndarray, detail: Detail) -> np.ndarray:
    """Inside the mask: what the blur leaves of the picture, and what it takes away of the other photo, tiled."""
    other = _photo(detail.photo).astype(np.float64)
    height, width = pixels.shape[:2]
    tiles = (-(-height // other.shape[0]), -(-width // other.shape[1]), 1)
    fine = np.tile(other - _low(other, detail.sigma), tiles)[:height, :width]
    made = (_low(pixels, detail.sigma) + fine).round().clip(0, 255).astype(np.uint8)
    return np.where(mask[..., None], made, pixels)


def _low(pixels: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(pixels.astype(np.float64), (sigma, sigma, 0))
