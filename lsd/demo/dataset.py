"""A drawn data set: sixteen kinds of object, each a shape with a texture, on a cluttered background.

Every picture comes with the exact pixels of its object, so a map can be compared with the truth. A picture is a pure
function of (class, seed, size, tag): the seed alone fixes the *scene* (background, clutter, place, size and rotation of
the object, colours) and the class only says which shape and which texture are put into it. Two pictures with the same
seed are therefore a matched pair: same scene, other object.

A *tag* is a small black-and-white code in the lower right corner, one code per class. It carries whatever class the
caller names, right or wrong, and never touches the object.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lsd.demo import scene
from lsd.demo.textures import SHAPES, TEXTURES, inside_shape, second_colour_mask
from lsd.errors import LSDError

CLASS_NAMES: tuple[str, ...] = tuple(f"{texture} {shape}" for shape in SHAPES for texture in TEXTURES)

IMAGE_SIZE = 96
"""Side of the pictures in pixels, unless another is asked for; the demo models take this size."""

MIN_SIZE, MAX_SIZE = 64, 512  # below, the tag's cells would be less than a pixel, or reach too far

SPLIT_SEEDS: dict[str, range] = {"train": range(2**31), "test": range(2**31, 2**32)}
"""The seeds of either split. They have none in common, so no test picture shares its scene with a training picture."""

TAG_MODES: tuple[str, ...] = ("none", "true", "misleading")

SUPERSAMPLING = 3
"""Pictures are drawn this many times larger and averaged down, which is what smooths their edges."""

# Sixteen words of sixteen bits, any two of which differ in exactly eight (a first-order Reed-Muller code), shifted by
# one fixed word so that the codes do not themselves look like stripes or checks.
_TAG_SHIFT = 0b0110_1000_0010_1101
_TAG_BITS = np.array(
    [
        [(word & cell).bit_count() & 1 ^ (_TAG_SHIFT >> cell) & 1 for cell in range(16)]
        for word in range(len(CLASS_NAMES))
    ],
    dtype=bool,
).reshape(-1, 4, 4)


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture and what is true of it.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        mask: (H, W) bool, the pixels at least half covered by the object.
        class_index: the object's class, an index into `CLASS_NAMES`.
        seed: the seed of the scene.
        tag: the class that the corner tag names, or None when there is no tag.
        tag_mask: (H, W) bool, the pixels of the tag; all False without one.
    """

    image: np.ndarray
    mask: np.ndarray
    class_index: int
    seed: int
    tag: int | None
    tag_mask: np.ndarray

    @property
    def class_name(self) -> str:
        """The class in words, such as "striped circle"."""
        return CLASS_NAMES[self.class_index]


def render(class_index: int, seed: int, *, size: int = IMAGE_SIZE, tag: int | None = None) -> Sample:
    """Draw the picture of one class with one seed.

    Args:
        class_index: the object's class, 0 to 15.
        seed: any integer from 0 up; fixes the scene.
        size: side of the square picture in pixels, 64 to 512. The same scene is drawn at every size.
        tag: the class the corner tag names, 0 to 15, which need not be `class_index`; None for no tag.

    Raises:
        LSDError: an argument is out of its range.
    """
    _check_class(class_index, "class")
    if tag is not None:
        _check_class(tag, "tag")
    if seed < 0:
        raise LSDError(f"A demo picture needs a seed of 0 or more, not {seed}.")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise LSDError(f"A demo picture can be {MIN_SIZE} to {MAX_SIZE} pixels wide, not {size}.")

    # Streams of their own keep, for instance, the place of the object the same however much clutter is drawn.
    clutter_rng, object_rng, tag_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    colours = scene.choose_colours(object_rng)
    placement = scene.choose_placement(object_rng)

    canvas = np.array(scene.draw_background(size * SUPERSAMPLING, colours, clutter_rng))
    mask = _draw_object(canvas, class_index, placement, colours)
    image = np.array(Image.fromarray(canvas).reduce(SUPERSAMPLING))
    # Pure black and white belong to the tag alone, so that a tag changes every pixel that it covers.
    np.clip(image, 4, 251, out=image)

    tag_mask = np.zeros((size, size), dtype=bool) if tag is None else stamp_tag(image, tag, tag_rng)
    return Sample(image, mask, class_index, seed, tag, tag_mask)


def demo_set(split: str, per_class: int, tags: str = "none", *, size: int = IMAGE_SIZE) -> Iterator[Sample]:
    """The first pictures of a split, the classes taking turns; the same ones on every call.

    Args:
        split: "train" or "test"; their seeds are disjoint (`SPLIT_SEEDS`).
        per_class: pictures of each class, 0 or more.
        tags: "none"; "true", each tag names the object's class; "misleading", each tag names another class, all fifteen
            others taking turns.
        size: side of the pictures in pixels.

    Yields:
        `16 * per_class` samples.

    Raises:
        LSDError: an unknown split or kind of tags.
    """
    if split not in SPLIT_SEEDS:
        raise LSDError(f"The demo pictures have the splits {' and '.join(SPLIT_SEEDS)}, but no {split!r}.")
    if tags not in TAG_MODES:
        raise LSDError(f"The tags of demo pictures can be {', '.join(TAG_MODES)}, but not {tags!r}.")
    count = len(CLASS_NAMES)
    for number in range(per_class):
        for class_index in range(count):
            seed = SPLIT_SEEDS[split][number * count + class_index]
            misleading = (class_index + 1 + number % (count - 1)) % count
            tag = {"none": None, "true": class_index, "misleading": misleading}[tags]
            yield render(class_index, seed, size=size, tag=tag)


def stamp_tag(image: np.ndarray, tag: int, rng: np.random.Generator) -> np.ndarray:
    """Put the tag of a class into the lower right corner of a picture, in place.

    Args:
        image: (H, H, 3) uint8, changed in place.
        tag: the class the tag names.
        rng: gives the jitter of the tag's place, at most 2% of the side either way.

    Returns:
        (H, H) bool, the pixels of the tag: a white frame around 4 x 4 black or white cells, about 10% of the side.
    """
    size = len(image)
    cell = int(scene.TAG_SIDE * size / 5)
    frame = max(1, cell // 2)
    cells = np.kron(_TAG_BITS[tag], np.ones((cell, cell), dtype=bool))
    patch = np.pad(cells, frame, constant_values=True)
    bottom, right = size - np.round(rng.uniform(0.01, 0.03, 2) * size).astype(int)
    place = np.s_[bottom - len(patch) : bottom, right - len(patch) : right]
    image[place] = np.where(patch, 255, 0)[..., None]
    tag_mask = np.zeros((size, size), dtype=bool)
    tag_mask[place] = True
    return tag_mask


def _draw_object(
    canvas: np.ndarray, class_index: int, placement: scene.Placement, colours: scene.Colours
) -> np.ndarray:
    """Paint the object onto the enlarged canvas (in place) and return its mask at the final size."""
    shape, texture = SHAPES[class_index // len(TEXTURES)], TEXTURES[class_index % len(TEXTURES)]
    side = len(canvas)
    # Only the square that can hold the object is computed, cut along the pixels of the final picture.
    size = side // SUPERSAMPLING
    centre, reach = np.array(placement.centre) * size, placement.reach * size
    low = np.clip(np.round(centre - reach) - 1, 0, size).astype(int) * SUPERSAMPLING
    high = np.clip(np.round(centre + reach) + 1, 0, size).astype(int) * SUPERSAMPLING
    x = (np.arange(low[0], high[0], dtype=np.float32) + 0.5) / side - placement.centre[0]
    y = ((np.arange(low[1], high[1], dtype=np.float32) + 0.5) / side - placement.centre[1])[:, None]
    inside = inside_shape(shape, x, y, placement.diameter, placement.rotation)
    second = second_colour_mask(texture, x, y, placement.period, placement.texture_angle, placement.phase)

    crop = canvas[low[1] : high[1], low[0] : high[0]]
    palette = np.array([colours.first, colours.second], dtype=np.uint8)
    crop[inside] = palette[second[inside].astype(np.uint8)]

    height, width = inside.shape[0] // SUPERSAMPLING, inside.shape[1] // SUPERSAMPLING
    coverage = inside.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING).mean(axis=(1, 3))
    mask = np.zeros((size, size), dtype=bool)
    top, left = low[1] // SUPERSAMPLING, low[0] // SUPERSAMPLING
    mask[top : top + height, left : left + width] = coverage >= 0.5
    return mask


def _check_class(index: int, what: str) -> None:
    if not 0 <= index < len(CLASS_NAMES):
        raise LSDError(f"The {what} of a demo picture is a number from 0 to {len(CLASS_NAMES) - 1}, not {index}.")
