"""The attributions of the saliency study, computed once for all variants that draw on them."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.evaluation.controls import CONTROLS, NOISE
from lsd.evaluation.variants import Source
from lsd.models import ImageModel
from lsd.saliency.gradients import noisy_statistics
from lsd.saliency.methods import attribute
from lsd.saliency.targets import Target, of_class

_SMOOTHED = ("smoothgrad", "smoothgrad_squared", "vargrad")


def targets(model: ImageModel, index: int, runner_up: int) -> dict[str, Target]:
    """The outputs that are compared, by kind: of class `index`, the contrast against class `runner_up`."""
    return {
        kind: of_class(model, index, kind, runner_up if kind == "contrast" else None)
        for kind in ("log_odds", "logit", "probability", "contrast")
    }


def attributions(
    model: ImageModel, image: Tensor, wanted: Iterable[Source], classes: Sequence[tuple[int, int]], seed: int = 0
) -> list[dict[Source, np.ndarray]]:
    """What each source gives for each class of one picture.

    Forward passes are shared: between classes, between outputs, and between the statistics and sample counts of noisy
    gradients of one noise level. The values are those that `lsd.saliency.methods.attribute` gives for each alone.

    Args:
        image: (1, 3, H, W), [0, 1].
        classes: (class, runner-up) pairs, the second for contrasts.
        seed: of the controls.

    Returns:
        For each class, source → (C, h, w). A source that is not defined for the model is left out.
    """
    image = image.detach().to(model.device, model.dtype)
    asked = [targets(model, *pair) for pair in classes]
    found: list[dict[Source, np.ndarray]] = [{} for _ in classes]
    groups: dict[tuple, list[Source]] = {}
    for source in wanted:
        if source.control:
            drawn = (CONTROLS | NOISE)[source.control](image[0].cpu().numpy(), seed)[None]
            for one in found:
                one[source] = drawn
        elif source.method in _SMOOTHED:
            groups.setdefault(("noise", dict(source.settings)["sigma"], source.kind), []).append(source)
        else:
            groups.setdefault((source.method, source.settings), []).append(source)
    for key, group in groups.items():
        if key[0] == "noise":
            _smoothed(model, image, key[1], group, [one[key[2]] for one in asked], found)
            continue
        flat = [(k, source) for k in range(len(classes)) for source in group]
        try:
            results = attribute(
                group[0].method, model, image, [asked[k][source.kind] for k, source in flat], **dict(group[0].settings)
            )
        except UndefinedError:
            continue
        for (k, source), result in zip(flat, results, strict=True):
            found[k][source] = result.values[0].cpu().numpy()
    return found


def _smoothed(
    model: ImageModel, image: Tensor, sigma: float, group: Sequence[Source], own: Sequence[Target], found: list[dict]
) -> None:
    """SmoothGrad, its square and VarGrad at several counts, from one stream of noise."""
    counts = {source: dict(source.settings)["samples"] for source in group}
    with model.lock:
        stream = noisy_statistics(model, image[0], own, sigma=sigma, counts=sorted(set(counts.values())))
        for count, statistics in stream:
            for source in group:
                if counts[source] == count:
                    for k, values in enumerate(statistics[source.method]):
                        found[k][source] = values.cpu().numpy()


@torch.no_grad()
def runner_up(model: ImageModel, image: Tensor, index: int) -> int:
    """The most probable class of a picture (1, 3, H, W) but for class `index`."""
    return next(c for c in model.probabilities(image)[0].argsort(descending=True).tolist() if c != index)
