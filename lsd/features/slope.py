"""Which way is up: what a batch's pictures are at one step, as numbers that are to rise and to fall, and their gradient."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import Tensor

from lsd.features import objectives, transforms
from lsd.features.arrival import Arrival, arrives
from lsd.features.networks import Networks, copies
from lsd.features.objectives import Objective
from lsd.features.recipes import Recipe
from lsd.features.redirect import ReluRedirect
from lsd.features.regularizers import BatchNormStatistics, penalty
from lsd.features.soften import soften
from lsd.layers import find_layer
from lsd.layout import to_grid
from lsd.models import ImageModel
from lsd.tracing import Tap


class Asked(NamedTuple):
    """What is asked of the views of the pictures that are being made: their objective, and whose unit is whose."""

    objective: Objective
    groups: Tensor


class Slope:
    """The recipe's, for networks as they are at one stage."""

    def __init__(self, recipe: Recipe, networks: Networks, twins: Mapping[str, ImageModel]):
        """
        Args:
            twins: of `networks`, at the stage's size.
        """
        self._recipe, self._networks, self._twins = recipe, networks, twins

    def at(
        self,
        step: int,
        images: Tensor,
        asked: Asked,
        drawn: Tensor,
        noise: Mapping[str, Tensor],
        looking: Arrival | None = None,
        redirect_steps: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """The pictures' objectives (N,), and the gradient (N, 3, h, w) of what is to fall.

        Args:
            images: (N, 3, h, w), with a graph.
            drawn: the numbers of the step's views.
            noise: model name → what is laid over the pixels it is shown.
            looking: where it is noted whom a gradient reaches, if pictures are still looked for that it does not.
            redirect_steps: of them, while those that it has not reached are looked for past closed ReLUs.
        """
        views, gentler = self._transforms(step), self._recipe.gradient
        redirect = None
        with ExitStack() as stack:
            if looking is not None and 0 < step < redirect_steps:
                mask = (~looking.reached).repeat_interleave(views.views)
                mask = mask.repeat(copies(len(mask)))
                redirect = stack.enter_context(ReluRedirect(mask))
            passes, norms = self._passes(views, drawn, images, noise)
            values, loss = self._loss(views, passes, asked, len(images))
            cost = self._cost(images, norms)
            if looking is not None:
                # Whether the unit itself responds is seen before regularizers and gentler gradients have their say.
                flow = torch.autograd.grad(loss.sum(), images, retain_graph=True)[0]
                looking.reached |= arrives(flow, redirect)
            if looking is None or cost is not None or gentler:
                if gentler:
                    for shown, found in passes.values():
                        soften(gentler, found.values(), shown)
                flow = torch.autograd.grad((loss if cost is None else loss + cost).sum(), images)[0]
        return values, flow

    def _transforms(self, step: int) -> transforms.Transforms:
        recipe = self._recipe
        if recipe.transforms_end is None:
            return recipe.transforms
        return transforms.between(recipe.transforms, recipe.transforms_end, step / max(recipe.steps - 1, 1))

    def _passes(self, views: transforms.Transforms, drawn: Tensor, images: Tensor, noise: Mapping[str, Tensor]):
        """Model name → (what it is shown of the pictures at this step, its activations); and what a listener to the model's
        own batch norms has heard, where the recipe wants one."""
        passes, norms = {}, None
        for name, twin in self._twins.items():
            shown = transforms.apply(views, drawn, images, (twin.spec.height, twin.spec.width), noise.get(name))
            if self._networks.is_heard(name):
                # For this pass only: two ascents that held their own twins and waited for each other's would wait for ever.
                with BatchNormStatistics(twin, len(images)) as norms:
                    passes[name] = (shown, self._networks.run(name, twin, shown))
            else:
                passes[name] = (shown, self._networks.run(name, twin, shown))
        return passes, norms

    def _loss(self, views: transforms.Transforms, passes: Mapping, asked: Asked, count: int) -> tuple[Tensor, Tensor]:
        """(objectives (N,), what is to fall (N,)) of what `_passes` found."""
        recipe = self._recipe
        activations = {name: found for name, (_, found) in passes.items()}
        values = asked.objective(activations).unflatten(0, (count, views.views)).mean(1)
        if not recipe.diversity:
            return values, -values
        layer = find_layer(self._twins[""], recipe.diversity_layer)
        apart = objectives.diversity(to_grid(layer, activations[""][Tap(layer.name)]), asked.groups, views.views)
        return values, -values - recipe.diversity * apart.unflatten(0, (count, views.views)).mean(1)

    def _cost(self, images: Tensor, norms: BatchNormStatistics | None) -> Tensor | None:
        """The regularizers' sum (N,); None where the recipe has none."""
        cost = penalty(images, vars(self._recipe), self._recipe.tv_power)
        if norms is None:
            return cost
        natural = self._recipe.batch_norm * norms.value
        return natural if cost is None else cost + natural
