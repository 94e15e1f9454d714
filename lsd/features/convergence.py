"""Whose score no longer rises, so that its picture is done early."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lsd.features.recipes import Recipe


@dataclass
class Convergence:
    """Of each picture (N,), on the batch's device: its smoothed score, the best of it, and the steps since."""

    smooth: Tensor
    best: Tensor
    since: Tensor

    @classmethod
    def begin(cls, count: int, device: torch.device) -> "Convergence":
        """Before the first step."""
        return cls(
            torch.full((count,), torch.nan, device=device), torch.full((count,), -torch.inf, device=device),
            torch.zeros(count, dtype=torch.long, device=device),
        )  # fmt: skip

    def follow(self, values: Tensor, recipe: Recipe) -> list[int]:
        """Take in the scores of a step; the places of the pictures that are done. Without a tolerance none ever is."""
        if not recipe.tolerance:
            return []
        self.smooth = torch.where(self.smooth.isnan(), values, 0.9 * self.smooth + 0.1 * values)
        rises = self.best.isinf() | (self.smooth > self.best + recipe.tolerance * self.best.abs())
        self.best = torch.where(rises, self.smooth, self.best)
        self.since = torch.where(rises, 0, self.since + 1)
        return [place for place, since in enumerate(self.since.tolist()) if since >= recipe.patience]

    def of(self, keep: Tensor) -> "Convergence":
        """That of some of the pictures."""
        return Convergence(self.smooth[keep], self.best[keep], self.since[keep])
