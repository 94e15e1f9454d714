"""The three maps that explain a mistake, and how a map is held against known pixels."""

import numpy as np
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.models import ImageModel
from lsd.saliency import defaults
from lsd.saliency.attribution import Attribution
from lsd.saliency.maps import MapSettings, to_map
from lsd.saliency.methods import attribute, find_method
from lsd.saliency.targets import of_class


def mistake_maps(
    model: ImageModel, image: Tensor, true_index: int, predicted_index: int, method: str = defaults.METHOD, **settings
) -> dict[str, Attribution]:
    """What speaks for the predicted class, what for the true one, and what decided between them.

    Args:
        image: (1, 3, H, W), [0, 1].
        true_index, predicted_index: two different classes of the model.
        method, settings: see `lsd.saliency.methods`; its forward passes are shared where it can share them.

    Returns:
        In this order: "predicted" and "true", of the log-odds of each, and "contrast", of z_predicted − z_true.

    Raises:
        UndefinedError: the same class twice, classes that the model does not have, or a method that is not defined for
            it.
    """
    if true_index == predicted_index:
        raise UndefinedError("The prediction is right, so there is no mistake to explain; give two different classes.")
    targets = {
        "predicted": of_class(model, predicted_index),
        "true": of_class(model, true_index),
        "contrast": of_class(model, predicted_index, "contrast", true_index),
    }
    attributions = attribute(method, model, image, list(targets.values()), **settings)
    return dict(zip(targets, attributions, strict=True))


def strength(attribution: Attribution, size: tuple[int, int]) -> np.ndarray:
    """How salient each pixel of the first picture is, for `probe`: float32 (height, width) = `size`, in [0, 1].

    The part of the values that suits the method (`Method.sign`), the channels made one as in maps. Nothing is cut off at the
    top, and nothing smoothed, so that the most salient pixels keep their order.
    """
    sign = find_method(attribution.method).sign
    return to_map(attribution.values[:1].detach().cpu().numpy(), MapSettings(sign=sign, clip=100, blur=0), size)[0]


def share_inside(saliency: np.ndarray, mask: np.ndarray) -> float:
    """The part of a map's total that lies on a mask, in [0, 1]; compare it with `mask.mean()`, the part of the area.

    Args:
        saliency: (H, W), not negative.
        mask: (H, W) bool.

    Raises:
        UndefinedError: different shapes, or a map of zeros.
    """
    if saliency.shape != mask.shape:
        raise UndefinedError(f"The map is {saliency.shape} and the mask {mask.shape}; they must have the same shape.")
    total = saliency.sum(dtype=np.float64)
    if not total > 0:
        raise UndefinedError("The map is zero everywhere, so no part of it lies anywhere.")
    return float(saliency[mask].sum(dtype=np.float64) / total)
