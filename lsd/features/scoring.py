"""Finished pictures: their scores as they are kept, which of them nothing reaches, and what is to be said of them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lsd.features import notes, objectives
from lsd.features.arrival import arrives
from lsd.features.networks import Networks
from lsd.features.pictures import Job, Picture, to_pixels
from lsd.features.recipes import Recipe
from lsd.features.units import Unit
from lsd.tracing import Tap


class Response(NamedTuple):
    """What units make of pictures that are seen whole."""

    scores: list[float]
    arrives: list[bool]  # whether any gradient does
    shown: Tensor
    activations: dict[str, dict[Tap, Tensor]]  # with the graph that leads back to `shown`


def respond(images: Tensor, units: Sequence[Unit], networks: Networks, output: str, photos: Mapping) -> Response:
    """Of pictures (n, 3, h, w), each to its unit."""
    with torch.enable_grad():
        images = images.detach().requires_grad_(True).clone()
        twins = networks.twins(1.0)
        activations = networks.whole(images)
        values = objectives.evaluate(units, twins, activations, output, photos)
        (flow,) = torch.autograd.grad(values.sum(), images)
    return Response(values.tolist(), arrives(flow).tolist(), images, activations)


class Made(NamedTuple):
    """What an ascent has left of one picture, besides its pixels."""

    job: Job
    trace: Sequence[float]
    restarts: int
    reached: bool  # by a gradient, at the last step


def finish(
    images: Tensor, made: Sequence[Made], networks: Networks, recipe: Recipe, photos: Mapping, seconds: float
) -> tuple[Picture, ...]:
    """Score the pictures (N, 3, h, w) as they are kept, in 8 bits; say which of them nothing reaches.

    Args:
        seconds: that one picture took.
    """
    device, units = networks.models[""].device, [one.job.unit for one in made]
    pixels = to_pixels(images)
    kept = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device, torch.float32) / 255
    response = respond(kept, units, networks, recipe.output, photos)
    found = response.activations
    idle = notes.of_recipe(units, recipe, found, response.shown, networks.with_norms)
    pictures = []
    for i, one in enumerate(made):
        score = response.scores[i]
        finite = bool(images[i].isfinite().all()) and np.isfinite(score)
        status = "failed" if not finite else "ok" if one.reached or response.arrives[i] else "dead"
        said = notes.of_status(one.job.unit, status, score, one.trace, recipe.output, found) + idle[i]
        pictures.append(Picture(one.job, pixels[i], score, tuple(one.trace), status, one.restarts, seconds, said))
    return tuple(pictures)
