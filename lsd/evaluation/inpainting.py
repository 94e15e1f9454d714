"""Ways to take a part out of a picture: by a colour, by a blur, or by what the surroundings suggest, so that it stays natural.

Each is (model, picture (1, 3, H, W) in [0, 1], N holes bool (H, W)) → (N, 3, H, W), the picture without each hole's pixels. All
pixels outside of a hole stay as they are. Those that fill from the surroundings raise UndefinedError where there are none.
scikit-image is imported where it is used.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.models import ImageModel
from lsd.saliency.gradients import baseline

_SMALL = 64  # pixels of a side


def mean(model: ImageModel, image: Tensor, holes: Sequence[np.ndarray]) -> Tensor:
    """The network's mean colour."""
    return _filled(image, holes, baseline(model, image, "mean"))


def blur(model: ImageModel, image: Tensor, holes: Sequence[np.ndarray]) -> Tensor:
    """The picture itself under a Gaussian of a tenth of its side, in which what is hidden still shows as a smear."""
    return _filled(image, holes, baseline(model, image, "blur"))


def pyramid(model: ImageModel, image: Tensor, holes: Sequence[np.ndarray]) -> Tensor:
    """The surroundings' colours drawn into the hole by a pyramid of means of what is known (Gortler et al., SIGGRAPH 1996)."""
    known = ~_masks(_with_surroundings(holes), image)
    return torch.where(known, image, _pulled(image * known, known.to(image.dtype)))


def biharmonic(model: ImageModel, image: Tensor, holes: Sequence[np.ndarray]) -> Tensor:
    """What continues values and slopes of the surroundings most smoothly, Δ²x = 0 (scikit-image's `inpaint_biharmonic`, after
    Damelin & Hoang, 2018), cut to [0, 1]. It is found on a picture of at most `_SMALL` pixels a side: a hole has no detail to lose.
    """
    from skimage.restoration import inpaint_biharmonic

    shrunk = -(-max(image.shape[2:]) // _SMALL)
    # First filled as well as can be, so that nothing of what is in the hole is in the small picture.
    pictures = F.avg_pool2d(pyramid(model, image, holes), shrunk, ceil_mode=True, count_include_pad=False)
    gaps = F.max_pool2d(_masks(holes, image).to(image.dtype), shrunk, ceil_mode=True)[:, 0].cpu().numpy() > 0
    pixels = pictures.permute(0, 2, 3, 1).cpu().double().numpy()
    found = [
        # Where not a pixel is known any more, the pyramid's colours stay.
        one if gap.all() or not gap.any() else inpaint_biharmonic(one, gap, channel_axis=-1).clip(0, 1)
        for one, gap in zip(pixels, gaps, strict=True)
    ]
    filling = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).to(image)
    return _filled(image, holes, F.interpolate(filling, image.shape[2:], mode="bilinear", align_corners=False))


FILLS: dict[str, Callable[[ImageModel, Tensor, Sequence[np.ndarray]], Tensor]] = {
    "mean": mean, "blur": blur, "pyramid": pyramid, "biharmonic": biharmonic
}  # fmt: skip


def _with_surroundings(holes: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Raises UndefinedError where a hole is all of the picture."""
    if any(hole.all() for hole in holes):
        raise UndefinedError(
            "A hole that is all of the picture has no surroundings to be filled from; choose mean or blur."
        )
    return holes


def _masks(masks: Sequence[np.ndarray], image: Tensor) -> Tensor:
    return torch.from_numpy(np.stack(masks))[:, None].to(image.device)


def _filled(image: Tensor, holes: Sequence[np.ndarray], filling: Tensor) -> Tensor:
    return torch.where(_masks(holes, image), filling, image)


def _pulled(weighted: Tensor, weight: Tensor) -> Tensor:
    """Pictures without gaps, from pictures (N, 3, H, W) times their weights (N, 1, H, W), some of which are zero."""
    found = weighted / weight.clamp(min=torch.finfo(weight.dtype).tiny)
    if max(weight.shape[2:]) == 1:
        return found
    halves = [F.avg_pool2d(one, 2, ceil_mode=True, count_include_pad=False) for one in (weighted, weight)]
    coarse = F.interpolate(_pulled(*halves), weight.shape[2:], mode="bilinear", align_corners=False)
    return torch.where(weight > 0, found, coarse)
