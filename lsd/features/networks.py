"""The networks that a batch is shown to: as they are run, and what of them is looked at."""

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor

from lsd.features import objectives
from lsd.features.prepare import prepare
from lsd.features.recipes import Recipe
from lsd.features.regularizers import batch_norms
from lsd.features.units import Unit
from lsd.models import ImageModel
from lsd.precision import at_least_fp32
from lsd.tracing import Tap, run_to


class Networks:
    """The models of a batch's units.

    Attributes:
        models: by name; "" is the one whose units have none.
        with_norms: whether its batch norms are listened to.
        taps: model name → where its activations are needed.
        placed: whether a unit has a place, for which a network is always shown pictures at its own size.
    """

    def __init__(
        self, models: Mapping[str, ImageModel], units: Sequence[Unit], recipe: Recipe, *, half: bool, compiled: bool
    ):
        self.models, self._half, self._compiled = models, half, compiled
        self.with_norms = bool(recipe.batch_norm and batch_norms(models[""]))
        self.placed = any(objectives.has_place(unit) for unit in units)
        self.taps = self._taps(units, recipe)

    def _taps(self, units: Sequence[Unit], recipe: Recipe) -> dict[str, tuple[Tap, ...]]:
        taps: dict[str, dict[Tap, None]] = {}
        for unit in units:
            for leaf in unit.leaves():
                taps.setdefault(leaf.model, {})[objectives.tap(leaf)] = None
        if recipe.diversity:
            taps.setdefault("", {})[Tap(recipe.diversity_layer)] = None
        if self.with_norms:  # looked at even where no unit is the model's own
            taps.setdefault("", {})
        return {name: tuple(found) for name, found in taps.items()}

    def twins(self, share: float) -> dict[str, ImageModel]:
        """The networks that are run, on inputs of this share of their side where they take such."""
        if self.placed:
            share = 1.0
        twins = {}
        for name, taps in self.taps.items():
            keep, fold = [tap.name for tap in taps if tap.name], not self.is_heard(name)
            twins[name] = prepare(
                self.models[name], keep, fold=fold, compiled=self._compiled, half=self._half, share=share
            )
        return twins

    def is_heard(self, name: str) -> bool:
        """Whether this network's batch norms are listened to."""
        return self.with_norms and name == ""

    def run(self, name: str, twin: ImageModel, images: Tensor) -> dict[Tap, Tensor]:
        """Activations, in single precision at least, of pictures that have the size the network takes."""
        taps = self.taps[name]
        if self.is_heard(name):  # to the end, so that every layer has been heard
            taps = (*taps, Tap(""))
        times = copies(len(images))
        images = images.to(twin.dtype)
        found = run_to(twin, images.repeat(times, 1, 1, 1) if times > 1 else images, taps)
        found = {tap: a.unflatten(0, (times, -1)).mean(0) for tap, a in found.items()} if times > 1 else found
        return {tap: at_least_fp32(a) for tap, a in found.items()}

    def whole(self, images: Tensor) -> dict[str, dict[Tap, Tensor]]:
        """Activations of pictures of any size, seen whole by the networks at their own."""
        return {
            name: self.run(name, twin, resized(images, (twin.spec.height, twin.spec.width)))
            for name, twin in self.twins(1.0).items()
        }


def copies(views: int) -> int:
    """How often the network is shown the same: twice where it is one view.

    A batch of one takes other kernels than all larger ones; they round differently, an ascent makes much of that, and a
    picture made alone would not be the one that is made among others.
    """
    return 2 if views == 1 else 1


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures (N, 3, h, w) at another size."""
    if tuple(images.shape[2:]) == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
