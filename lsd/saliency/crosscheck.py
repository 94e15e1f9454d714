"""The handwritten methods held against Captum's, on the same picture, target and settings.

What "the same" takes:

- SmoothGrad and its kin are compared without antithetic pairs and without early stopping, which Captum does not have;
  with the same seed both draw the same noise, number for number, on the CPU. On a GPU Captum draws it there, from
  another generator. It draws a chunk's noise in one call, and PyTorch fills a tensor in blocks of 16 numbers: pictures
  of another size go to Captum one copy at a time, so that its blocks lie as the handwritten methods' do.
- Captum rounds the weights of its quadrature to fp32 at every precision. Gauss–Legendre weights change by that (some
  1e-8 of the map, which only shows in fp64); the equal weights of the midpoint rule with 2ᵏ steps do not.
- Captum's guided methods know `nn.ReLU` only, and only those whose input goes nowhere else; its Grad-CAM knows (N, C, h, w)
  only: elsewhere there is nothing to compare.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from lsd import precision
from lsd.errors import UndefinedError
from lsd.models import ImageModel
from lsd.saliency.attribution import Attribution
from lsd.saliency.explain import Explanation, to_input
from lsd.saliency.methods import METHODS, asked, find_method
from lsd.saliency.targets import AnyTarget

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10, torch.bfloat16: 0.05, torch.float16: 0.01}
TF32_TOLERANCE = 1e-2  # ten bits of fraction, and batches of other shapes take other kernels of a GPU


@dataclass(frozen=True)
class CrossCheck:
    """The outcome of one comparison.

    Attributes:
        method, counterpart: the names of the two.
        difference: max |a − b| / max |b|, or None where Captum has nothing to compare with.
        tolerance: what the difference may be at this precision.
        reason: why there was nothing to compare; "" otherwise.
    """

    method: str
    counterpart: str
    difference: float | None
    tolerance: float
    reason: str = ""

    @property
    def agrees(self) -> bool | None:
        """True or False, or None where there was nothing to compare."""
        return None if self.difference is None else self.difference <= self.tolerance


def relative_difference(a: Tensor, b: Tensor) -> float:
    """max |a − b| / max |b|; 0 where both are zero."""
    scale = b.abs().max().item()
    difference = (a - b).abs().max().item()
    return 0.0 if difference == 0 else difference / scale if scale else float("inf")


def crosscheck(
    model: ImageModel,
    images: Tensor,
    target: AnyTarget,
    method: str,
    *,
    mine: Attribution | None = None,
    **settings,
) -> CrossCheck:
    """Run the handwritten `method` and its Captum counterpart and compare them.

    Args:
        mine: the handwritten attribution, if it is there already; used where its settings are comparable.

    Raises:
        UndefinedError: what the handwritten method raises. What Captum cannot do is not raised but told in `reason`.
    """
    ours, model = find_method(method), asked(model, target)
    rounded = model.device.type == "cuda" and model.net_dtype == torch.float32 and precision.chosen() != "fp32"
    tolerance = TF32_TOLERANCE if rounded else TOLERANCE[model.net_dtype]
    if not ours.counterpart:
        return CrossCheck(method, "", None, tolerance, "Captum has no such method.")
    settings = ours.parse(settings)
    theirs = METHODS[ours.counterpart]
    shared = {name: value for name, value in settings.items() if name in {s.name for s in theirs.settings}}
    if "seed" in shared and model.device.type != "cpu":
        reason = f"Captum draws its noise on the {model.device.type} device, where a seed means another noise."
        return CrossCheck(method, theirs.name, None, tolerance, reason)
    if "seed" in shared and images[0].numel() % 16:
        shared["batch_size"] = 1
    same = settings | {k: v for k, v in {"antithetic": False, "tolerance": 0.0}.items() if k in settings}
    if mine is None or same != settings:
        mine = ours.run(model, images, target, **same)
    try:
        other = theirs.run(model, images, target, **shared)
    except UndefinedError as error:
        return CrossCheck(method, theirs.name, None, tolerance, str(error))
    return CrossCheck(method, theirs.name, relative_difference(mine.values.to(other.values), other.values), tolerance)


def furthest(checks: Sequence[CrossCheck]) -> CrossCheck:
    """Of the comparisons of one question's answers the one that differs most; where some have nothing to compare, such a one."""
    return max(checks, key=lambda check: float("inf") if check.difference is None else check.difference)


def crosscheck_explanation(
    model: ImageModel, picture: Image.Image, explanation: Explanation, settings: dict
) -> CrossCheck:
    """`crosscheck` of what `model` said of its view of `picture`, with the `settings` that the method was given for it."""
    mine = explanation.attribution
    image = to_input(model, picture, explanation.view)
    return crosscheck(model, image, mine.target, mine.method, mine=mine, **settings)
