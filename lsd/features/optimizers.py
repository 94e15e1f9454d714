"""The step itself: from a gradient to new numbers. Everything here works number by number, so pictures in a batch do not meet."""

import torch
from torch import Tensor

from lsd.features import transforms
from lsd.features.recipes import Recipe


def make(recipe: Recipe, numbers: Tensor) -> torch.optim.Optimizer:
    """The recipe's optimiser of these numbers."""
    rate = recipe.learning_rate
    if recipe.optimizer == "adam":
        on_gpu = numbers.is_cuda  # whose steps may be recorded: then all numbers that change are kept there
        rate = torch.tensor(rate, device=numbers.device) if on_gpu else rate
        return torch.optim.Adam([numbers], lr=rate, betas=recipe.betas, fused=True, capturable=on_gpu)
    if recipe.optimizer == "nadam":
        return torch.optim.NAdam([numbers], lr=rate, betas=recipe.betas)
    return torch.optim.SGD([numbers], lr=rate, momentum=recipe.betas[0])


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next steps."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def carried(old: torch.optim.Optimizer, before: Tensor, recipe: Recipe, numbers: Tensor, keep: Tensor):
    """An optimiser of `numbers`, which are `before[keep]`, with what `old` remembers of them."""
    new = make(recipe, numbers)
    if len(keep):
        new.state[numbers] = {
            key: value[keep] if isinstance(value, Tensor) and value.shape == before.shape else value
            for key, value in old.state[before].items()
        }
    return new


def descend(
    optimizer: torch.optim.Optimizer, numbers: Tensor, gradient: Tensor, recipe: Recipe, parameterization, step: int
) -> None:
    """Take a step, and what the recipe does to the numbers after it."""
    if recipe.optimizer == "sgd":
        norm = gradient.flatten(1).norm(dim=1).clamp(min=1e-12)
        gradient = gradient / norm.view(-1, *[1] * (gradient.ndim - 1)) * numbers[0].numel() ** 0.5
    # A channels-last gradient beside contiguous numbers: the fused optimiser would pair the wrong ones, silently.
    numbers.grad = gradient.contiguous()
    optimizer.step()
    numbers.grad = None
    with torch.no_grad():
        if recipe.pixel_decay:
            numbers.mul_(1 - recipe.pixel_decay)
        if recipe.blur_every and (step + 1) % recipe.blur_every == 0 and recipe.blur:
            images = parameterization.decode(numbers)
            sigma = recipe.blur * images.shape[2]
            sigmas = torch.full((len(images),), sigma, device=images.device)
            numbers.copy_(parameterization.encode(transforms.gaussian_blur(images, sigmas, sigma)))
