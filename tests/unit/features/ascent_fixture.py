"""Ascents that are quick enough for tests, and how alike their pictures are."""

from skimage.metrics import structural_similarity

from lsd.features.ascent import ascend
from lsd.features.recipes import Recipe
from lsd.features.transforms import Transforms

MOVES = Transforms(shift=0.05, rotate=5.0, zoom=(0.95, 1.05))
QUICK = Recipe(steps=24, output="logit", transforms=MOVES)
SMALL = Recipe(steps=12, output="logit", parameterization="pixels", sd=0.1, learning_rate=0.05)


def run(model, units, recipe=QUICK, seeds=(0,), **more):
    return list(ascend(model, units, recipe, seeds, **more))


def pictures(model, units, recipe=QUICK, seeds=(0,), **more):
    """The finished pictures, in the order in which they were asked for."""
    return [p for snapshot in ascend(model, units, recipe, seeds, **more) for p in snapshot.finished]


def likeness(a, b):
    return structural_similarity(a.pixels, b.pixels, channel_axis=2)
