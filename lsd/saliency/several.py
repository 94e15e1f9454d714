"""Several classes' maps of one picture in one figure, where the colour says which class and its strength how much."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from lsd import render
from lsd.saliency.explain import Explanation
from lsd.saliency.maps import MapSettings, to_maps
from lsd.saliency.views import Look, laid_on


def strongest(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of several maps has most to say at each pixel.

    Maps of different classes have no unit in common, so each counts by shares: its values divided by their sum, how much of all
    that it shows is here.

    Args:
        maps: (K, H, W), not negative.

    Returns:
        winner: int (H, W), the map with the largest share, the first of equal ones.
        strength: (H, W), that map's own value.
        lead: (H, W) in [0, 1], how clearly it wins: 0 where all have the same share, or none has any, 1 where it has the only one.
    """
    totals = maps.sum((1, 2), keepdims=True, dtype=np.float64)
    shares = maps / np.where(totals > 0, totals, 1)
    winner = shares.argmax(0)
    strength = np.take_along_axis(maps, winner[None], 0)[0]
    together = shares.sum(0)
    part = np.divide(shares.max(0), together, out=np.full(winner.shape, 1 / len(maps)), where=together > 0)
    return winner, strength, (part * len(maps) - 1) / max(len(maps) - 1, 1)


def unsigned(maps: MapSettings) -> MapSettings:
    """The same with one sign: of signed maps what speaks for each class, as the colours are taken for saying which class."""
    return replace(maps, sign="positive") if maps.sign == "signed" else maps


def in_colours(picture: Image.Image, explanations: Sequence[Explanation], maps: MapSettings, look: Look) -> Image.Image:
    """Each pixel in the colour of the class that has the largest share there, over the picture in grey, RGB.

    Args:
        picture: upright RGB; it may be a smaller version of the one that was explained, with the same aspect.
        explanations: of one model and this picture, a class each, at most as many as `render.CATEGORIES`.
        maps: as each is drawn; signed ones as `unsigned`.
        look: its opacity and its frame count, and of its styles whether the map is shown alone.
    """
    outlines, laid = laid_on([picture] * len(explanations), explanations, unsigned(maps), look)
    alone = look.style == "map"
    shown = render.categories(
        np.asarray(picture), *strongest(np.stack(laid)), look.opacity, alone=alone, box=outlines[0]
    )
    return Image.fromarray(shown)


def strengths(explanations: Sequence[Explanation], maps: MapSettings) -> np.ndarray:
    """How strong the colours of `in_colours` are over what the model saw: (H, W) of its input, in [0, 1]."""
    values, sizes = [e.attribution.values[0].numpy() for e in explanations], [e.input_size for e in explanations]
    return strongest(np.stack(to_maps(values, unsigned(maps), sizes)))[1]
