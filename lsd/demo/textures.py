"""The shapes and the textures of the drawn objects, as yes-or-no functions of a point.

Coordinates are in units of the picture's side and relative to the object's centre: `x` is (W,), `y` is (H, 1), and each
function gives (H, W) bool.
"""

import numpy as np

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star")
TEXTURES: tuple[str, ...] = ("plain", "striped", "dotted", "checkered")

REACH = 0.68
"""No shape reaches further from its centre than this many diameters."""

_STAR_POINTS = 5
_STAR_TIP, _STAR_NOTCH = 0.68, 0.33  # radii in diameters; a fat star, so that its texture stays visible


def inside_shape(shape: str, x: np.ndarray, y: np.ndarray, diameter: float, rotation: float) -> np.ndarray:
    """Which points lie in a shape.

    Args:
        shape: one of `SHAPES`.
        x, y: coordinates as this module's introduction says.
        diameter: the circle's diameter; the other shapes are scaled to look about as large.
        rotation: in radians.
    """
    if shape == "circle":
        return x * x + y * y <= (diameter / 2) ** 2
    u, v = _rotate(x, y, rotation)
    if shape == "square":
        half_side = 0.46 * diameter
        return (np.abs(u) <= half_side) & (np.abs(v) <= half_side)
    if shape == "triangle":
        # An equilateral triangle is where three directions all stay below the radius of its inner circle.
        inner_radius = 0.34 * diameter
        slanted = np.float32(np.sqrt(3) / 2) * np.abs(u) - 0.5 * v
        return np.maximum(slanted, v) <= inner_radius
    # Folding the plane into one half of one arm leaves a single edge, from the notch to the tip.
    sector = 2 * np.pi / _STAR_POINTS
    angle = np.arctan2(v, u)
    angle = np.abs(angle - sector * np.round(angle / sector))
    radius = np.sqrt(u * u + v * v)
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    notch_x, notch_y = _STAR_NOTCH * np.cos(sector / 2), _STAR_NOTCH * np.sin(sector / 2)
    return (along - _STAR_TIP * diameter) * notch_y - across * (notch_x - _STAR_TIP) <= 0


def second_colour_mask(
    texture: str, x: np.ndarray, y: np.ndarray, period: float, angle: float, phase: tuple[float, float]
) -> np.ndarray:
    """Which points of a textured surface have the second of its two colours; none of a plain one.

    Args:
        texture: one of `TEXTURES`.
        x, y: coordinates as this module's introduction says.
        period: distance after which the texture repeats, in sides of the picture.
        angle: direction of the texture in radians.
        phase: shift along both directions, in periods.
    """
    if texture == "plain":
        return np.zeros(np.broadcast_shapes(x.shape, y.shape), dtype=bool)
    u, v = _rotate(x, y, angle)
    u, v = u / period + phase[0], v / period + phase[1]
    if texture == "striped":
        return u - np.floor(u) < 0.5
    if texture == "checkered":
        return (u - np.floor(u) < 0.5) ^ (v - np.floor(v) < 0.5)
    du, dv = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    return du * du + dv * dv < 0.31**2


def _rotate(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cosine * x + sine * y, cosine * y - sine * x
