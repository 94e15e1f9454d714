"""What opens a unit that starts behind closed ReLUs: redirected gradients, or what leaks.

    python -m benchmarks.shut_units [--models demo:resnet demo:shortcut] [--recipe texture] [--steps 64] [--seeds 2]

Of the channels of the network's stages and blocks, those that the first step's views do not excite at all, each made with
a leak, with redirection in its place (a recipe with a leak does not redirect), and with neither.
"""

import argparse
from dataclasses import replace

import numpy as np

from lsd.features.ascent import ascend
from lsd.features.pictures import Picture
from lsd.features.recipes import RECIPES, Recipe
from lsd.features.units import expand
from lsd.models import ImageModel, get_model

_SHUT = 0.05  # a score that hardly differs from none


def made(model: ImageModel, units: list[str], recipe: Recipe, seeds: range) -> list[Picture]:
    """The finished pictures."""
    return [p for shot in ascend(model, units, recipe, seeds, every=10**6) for p in shot.finished]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["demo:resnet", "demo:shortcut"])
    parser.add_argument("--recipe", default="texture", help="one with a leak")
    parser.add_argument("--units", default="layer:curated:16")
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    recipe, seeds = replace(RECIPES[options.recipe], steps=options.steps), range(options.seeds)
    exact = replace(recipe, gradient=replace(recipe.gradient, leak=0.0))
    ways = {"leak": recipe, "redirection": exact, "neither": replace(exact, redirect_steps=0)}
    print(f"{'':16}{'':14}{'pictures':>10}{'median score':>14}{f'below {_SHUT}':>12}{'dead':>6}{'begun again':>13}")
    for name in options.models:
        model = get_model(name)
        first = made(model, [str(u) for u in expand(options.units, model)], replace(recipe, steps=1), seeds)
        units = list(dict.fromkeys(str(p.job.unit) for p in first if p.trace[0] == 0))
        for way, setting in ways.items():
            pictures = made(model, units, setting, seeds)
            scores = np.array([p.score for p in pictures])
            print(
                f"{name:16}{way:14}{len(pictures):10}{np.median(scores):14.2f}{(scores < _SHUT).sum():12}"
                f"{sum(p.status == 'dead' for p in pictures):6}{sum(p.restarts > 0 for p in pictures):13}",
                flush=True,
            )


if __name__ == "__main__":
    main()
