"""Whether a gradient reaches a picture at all: what is known of it, step by step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lsd.features.redirect import ReluRedirect


@dataclass
class Arrival:
    """Of each picture (N,), on the batch's device: whether a gradient has arrived, of itself; its first and last objective."""

    reached: Tensor
    first: Tensor
    last: Tensor

    @classmethod
    def begin(cls, count: int, device: torch.device) -> "Arrival":
        """Before the first step."""
        nan = torch.full((count,), torch.nan, device=device)
        return cls(torch.zeros(count, dtype=torch.bool, device=device), nan, nan.clone())

    def note(self, values: Tensor) -> None:
        """Take in the objectives of a step. One that stands still, though all views differ, and is no higher than at first, no
        gradient reaches any more: a unit that chance opened for a moment is shut again."""
        self.first = torch.where(self.first.isnan(), values, self.first)
        self.reached &= ~((values == self.last) & (values <= self.first))
        self.last = values

    def of(self, keep: Tensor) -> "Arrival":
        """That of some of the pictures."""
        return Arrival(self.reached[keep], self.first[keep], self.last[keep])


def arrives(flow: Tensor, redirect: ReluRedirect | None = None) -> Tensor:
    """Which pictures a gradient (N, 3, h, w) reaches, of itself and not past a closed ReLU: (N,) booleans.

    One so faint that its square is lost in single precision, as behind a SiLU far below zero, moves nothing: optimisers divide by
    it.
    """
    found = flow.flatten(1).abs().amax(1).float().square() >= torch.finfo(torch.float32).tiny
    if redirect is not None:
        found &= ~redirect.shut.unflatten(0, (len(found), -1)).any(1)
    return found
