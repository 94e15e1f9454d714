"""What an ascent takes in memory, before it is run."""

from collections.abc import Sequence
from dataclasses import replace

from lsd.features.ascent import batch_of
from lsd.features.networks import copies
from lsd.features.pictures import picture_size
from lsd.features.recipes import Recipe
from lsd.footprint import SLACK
from lsd.models import ImageModel, model_footprint

# Float32 pictures of its size that are there at the same time for each that is made: its numbers, the optimizer's, the spectrum's;
# and for each of its views: where every pixel is fetched from, and the way back.
_OWN, _VIEWED = 6, 5


def memory_of_ascent(models: Sequence[ImageModel], recipe: Recipe, pictures: int) -> int:
    """Bytes that `ascend` takes at the most, beside the networks' weights, those of their twins included; nothing is run.

    Args:
        models: the first one's units are made, and the others are named by them.
        pictures: units × seeds.
    """
    batch = min(batch_of(models[0]), pictures)
    if recipe.diversity:
        batch = pictures  # the seeds of a unit stay together
    shown = batch * views_of(recipe)
    height, width = picture_size(recipe, models[0].spec)
    own = SLACK * 3 * height * width * 4 * (_OWN * batch + _VIEWED * shown)
    passes = sum(model_footprint(model).passes(shown * copies(shown)) for model in models)
    return int(own + passes + sum(model_footprint(model).weights for model in models))


def views_of(recipe: Recipe) -> int:
    """The most views of a picture that are shown at a step."""
    return max(t.views for t in (recipe.transforms, recipe.transforms_end) if t is not None)


def smaller_ascent(models: Sequence[ImageModel], recipe: Recipe, pictures: int, nbytes: int) -> str:
    """What of the kind fits in so many bytes, as a sentence ends."""
    for views in range(views_of(recipe) - 1, 0, -1):
        if memory_of_ascent(models, _with_views(recipe, views), pictures) <= nbytes:
            return f"{views} {'view' if views == 1 else 'views'} a step would fit"
    for fewer in range(pictures - 1, 0, -1):
        if memory_of_ascent(models, _with_views(recipe, 1), fewer) <= nbytes:
            return f"{fewer} {'picture' if fewer == 1 else 'pictures'} of one view would fit"
    return "choose a smaller model"


def _with_views(recipe: Recipe, views: int) -> Recipe:
    ends = {name: getattr(recipe, name) for name in ("transforms", "transforms_end")}
    return replace(recipe, **{name: t and replace(t, views=min(t.views, views)) for name, t in ends.items()})
