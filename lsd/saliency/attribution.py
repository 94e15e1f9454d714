"""What an attribution method returns."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.models import ImageModel
from lsd.saliency.targets import AnyTarget


@dataclass(frozen=True)
class Attribution:
    """Signed values for every pixel (or every place of a layer), with the numbers that are needed to trust them.

    Attributes:
        values: (N, 3, H, W) over the pixels in [0, 1] that the model saw, or (N, 1, h, w) for methods that look at
            layers; in units of the target (logits, nats, …) per unit of the pixel for gradients, of the target itself
            for methods that multiply by the input, and of nothing where maps of several layers are fused.
        method: the method's name.
        settings: what it ran with, every default included.
        target: what was differentiated.
        scores: (N,) the target's value at the pictures.
        passes: forward-and-backward passes used for each picture.
        completeness_gap: (N,) Σ values − (f(x) − f(baseline)), for methods that should make it zero.
        standard_error: (N,) standard error of the sample mean divided by that mean, both as norms over the picture.
    """

    values: Tensor
    method: str
    settings: dict[str, Any]
    target: AnyTarget
    scores: Tensor
    passes: int
    completeness_gap: Tensor | None = None
    standard_error: Tensor | None = None
    notes: tuple[str, ...] = field(default=())

    def of(self, i: int, target: AnyTarget) -> "Attribution":
        """Of picture `i` alone, whose target it is."""
        tensors = {name: v[i : i + 1] for name, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, target=target, **tensors)

    def cpu(self) -> "Attribution":
        """The same, with every tensor in the main memory."""
        return replace(self, **{name: v.cpu() for name, v in vars(self).items() if isinstance(v, Tensor)})


def finite(values: Tensor, model: ImageModel, method: str) -> Tensor:
    """`values` unchanged.

    Raises:
        UndefinedError: NaN or infinity among them, so that no such map is ever shown.
    """
    if not torch.isfinite(values).all():
        raise UndefinedError(
            f"{method} gave numbers that are not finite on {model.name}; try another target or another method."
        )
    return values
