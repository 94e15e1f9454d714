"""The scene around a drawn object: its place and colours, and the cluttered background.

Nothing here knows the object's class, so nothing in the background can give it away. Lengths are in units of the
picture's side, so a scene looks the same at every size.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from lsd.demo.textures import REACH, TEXTURES, second_colour_mask

TAG_SIDE = 0.1042
"""Side of the corner tag, at most."""

_TAG_CORNER = 0.851  # left and upper edge of the area that a tag may cover, with its jitter and rounding

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Placement:
    """Where and how the object lies: lengths in sides of the picture, angles in radians, `phase` in periods."""

    centre: tuple[float, float]
    diameter: float
    rotation: float
    period: float
    texture_angle: float
    phase: tuple[float, float]

    @property
    def reach(self) -> float:
        """Radius of a circle around the centre that holds the object, whatever its shape."""
        return REACH * self.diameter


@dataclass(frozen=True)
class Colours:
    """The object's two colours (RGB, 0 to 255) and the background's mean colour in OKLab."""

    first: Colour
    second: Colour
    background: np.ndarray


def choose_placement(rng: np.random.Generator) -> Placement:
    """Draw a placement for which any shape lies wholly in the picture and clear of the tag's corner."""
    diameter = rng.uniform(0.38, 0.6)
    reach = REACH * diameter
    while True:
        centre = rng.uniform(reach, 1 - reach, 2)
        # The distance to the nearest point of the corner, whose area starts at _TAG_CORNER in both directions.
        if np.hypot(*np.maximum(_TAG_CORNER - centre, 0)) > reach:
            break
    return Placement(
        centre=(float(centre[0]), float(centre[1])),
        diameter=diameter,
        rotation=rng.uniform(0, 2 * np.pi),
        period=diameter * rng.uniform(0.2, 0.26),
        texture_angle=rng.uniform(0, 2 * np.pi),
        phase=(rng.uniform(), rng.uniform()),
    )


def choose_colours(rng: np.random.Generator) -> Colours:
    """Draw a calm background colour and two object colours that stand out from it and from each other."""
    lightness = rng.choice([0.30, 0.62, 0.80, 0.90]) + rng.uniform(-0.05, 0.05)
    background = _oklab(lightness, 0.035, rng.uniform(0, 2 * np.pi))
    first = _oklab(rng.uniform(0.45, 0.92, 24), rng.uniform(0.09, 0.21, 24), rng.uniform(0, 2 * np.pi, 24))
    second = _oklab(rng.uniform(0.32, 0.97, 24), rng.uniform(0.04, 0.16, 24), rng.uniform(0, 2 * np.pi, 24))
    # The worst of the three contrasts, with the demands on each in proportion; a difference in brightness between the
    # two colours counts apart, since textures are seen by it.
    contrast = np.min(
        [
            np.linalg.norm(first - background, axis=1) / 0.26,
            np.linalg.norm(second - background, axis=1) / 0.2,
            np.abs(first[:, 0] - second[:, 0]) / 0.31,
        ],
        axis=0,
    )
    # The first pair that is good enough rather than the best one, which would always be near black and white.
    chosen = int(np.argmax(contrast >= 1)) if contrast.max() >= 1 else int(np.argmax(contrast))
    return Colours(_to_rgb(first[chosen]), _to_rgb(second[chosen]), background)


def draw_background(side: int, colours: Colours, rng: np.random.Generator) -> Image.Image:
    """Draw soft clouds of colour with clutter on them.

    Args:
        side: side of the picture in pixels.
        colours: gives the background's mean colour.
        rng: the only source of chance.

    Returns:
        An RGB picture of `side` x `side` pixels.
    """
    image = _clouds(side, colours.background, rng)
    draw = ImageDraw.Draw(image, "RGBA")
    paint = iter(_clutter_colours(colours.background, rng))
    for _ in range(rng.integers(7, 12)):
        _draw_blob(draw, side, next(paint), rng)
    for _ in range(rng.integers(4, 8)):
        _draw_curve(draw, side, next(paint), rng)
    for _ in range(rng.integers(3, 6)):
        _draw_outline(draw, side, next(paint), rng)
    for _ in range(rng.integers(4, 8)):
        _draw_fragment(image, side, (next(paint), next(paint)), rng)
    return image


def _clouds(side: int, mean: np.ndarray, rng: np.random.Generator) -> Image.Image:
    points = int(rng.integers(3, 6))
    lightness = mean[0] + rng.uniform(-0.09, 0.09, (points, points))
    hue = np.arctan2(mean[2], mean[1]) + rng.uniform(-0.9, 0.9, (points, points))
    small = _to_rgb_array(_oklab(lightness, rng.uniform(0.02, 0.075, (points, points)), hue))
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def _clutter_colours(background: np.ndarray, rng: np.random.Generator) -> list[Colour]:
    """Forty colours, most a little lighter or darker than the background, some strong ones as an object might have."""
    count = 40
    strong = rng.uniform(size=count) < 0.25
    shifted = np.clip(background[0] + rng.choice([-1, 1], count) * rng.uniform(0.1, 0.24, count), 0.15, 0.98)
    lightness = np.where(strong, rng.uniform(0.35, 0.95, count), shifted)
    chroma = np.where(strong, rng.uniform(0.08, 0.16, count), rng.uniform(0.03, 0.09, count))
    rgb = _to_rgb_array(_oklab(lightness, chroma, rng.uniform(0, 2 * np.pi, count)))
    return [tuple(colour) for colour in rgb.tolist()]


def _uneven_ring(radius: float, rng: np.random.Generator) -> np.ndarray:
    """(24, 2) points around the origin on an irregular closed line, which is none of the shapes."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    order = np.array([[2], [3], [4]])
    waves = rng.uniform(-0.22, 0.22, (3, 1)) * np.sin(order * angle + rng.uniform(0, 2 * np.pi, (3, 1)))
    waves = waves.sum(axis=0)
    return (radius * (1 + waves))[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _draw_blob(draw: ImageDraw.ImageDraw, side: int, colour: Colour, rng: np.random.Generator) -> None:
    ring = rng.uniform(0, 1, 2) + _uneven_ring(rng.uniform(0.015, 0.06), rng)
    draw.polygon(_pixels(ring, side), fill=(*colour, int(rng.integers(110, 220))))


def _draw_curve(draw: ImageDraw.ImageDraw, side: int, colour: Colour, rng: np.random.Generator) -> None:
    start, end = rng.uniform(-0.05, 1.05, (2, 2))
    end = start + (end - start) * min(1, 0.6 / max(np.hypot(*(end - start)), 1e-6))
    bend = (start + end) / 2 + rng.uniform(-0.15, 0.15, 2)
    t = np.linspace(0, 1, 14)[:, None]
    points = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
    width = max(1, round(rng.uniform(0.006, 0.014) * side))
    draw.line(_pixels(points, side), fill=(*colour, 200), width=width)


def _draw_outline(draw: ImageDraw.ImageDraw, side: int, colour: Colour, rng: np.random.Generator) -> None:
    """The thin empty outline of any of the shapes: an edge alone must not give a class away."""
    corners = int(rng.choice([3, 4, 10, 40]))
    angle = rng.uniform(0, 2 * np.pi) + np.arange(corners + 2) * 2 * np.pi / corners
    radius = rng.uniform(0.04, 0.12) * np.where((corners == 10) & (np.arange(corners + 2) % 2 == 1), 0.5, 1)
    points = rng.uniform(0, 1, 2) + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    width = max(1, round(rng.uniform(0.007, 0.012) * side))
    draw.line(_pixels(points, side), fill=(*colour, 210), width=width, joint="curve")


def _draw_fragment(image: Image.Image, side: int, pair: tuple[Colour, Colour], rng: np.random.Generator) -> None:
    """A small irregular scrap of any of the textures."""
    radius = rng.uniform(0.035, 0.07)
    half = int(1.7 * radius * side)
    axis = (np.arange(-half, half, dtype=np.float32) + 0.5) / side
    texture = str(rng.choice(TEXTURES))
    period, angle, phase = rng.uniform(0.05, 0.1), rng.uniform(0, 2 * np.pi), rng.uniform(0, 1, 2)
    second = second_colour_mask(texture, axis, axis[:, None], period, angle, phase)
    palette = np.array(pair, dtype=np.uint8)
    stencil = Image.new("L", (2 * half, 2 * half))
    ImageDraw.Draw(stencil).polygon(_pixels(_uneven_ring(radius, rng) + half / side, side), fill=235)
    corner = (rng.uniform(0, 1, 2) * side).astype(int) - half
    image.paste(Image.fromarray(palette[second.astype(np.uint8)]), (int(corner[0]), int(corner[1])), stencil)


def _pixels(points: np.ndarray, side: int) -> list[float]:
    return (points * side).ravel().tolist()


def _oklab(lightness, chroma, hue) -> np.ndarray:
    """OKLab colours (..., 3) from lightness (0 to 1), chroma (0 to about 0.3) and hue (radians)."""
    return np.stack(np.broadcast_arrays(lightness, chroma * np.cos(hue), chroma * np.sin(hue)), axis=-1)


_OKLAB_TO_LMS = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
_LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def _to_rgb_array(oklab: np.ndarray) -> np.ndarray:
    """sRGB uint8 (..., 3) of OKLab colours; what a screen cannot show is clipped."""
    linear = np.clip((oklab @ _OKLAB_TO_LMS.T) ** 3 @ _LMS_TO_RGB.T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * encoded).astype(np.uint8)


def _to_rgb(oklab: np.ndarray) -> Colour:
    red, green, blue = _to_rgb_array(oklab).tolist()
    return red, green, blue
