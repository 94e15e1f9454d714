"""Whether a method can be believed at all: what becomes of its maps where the answer is known beforehand.

- randomization: with the parameters drawn anew, from the logits down, a map of what was learned must change. Told after
  each stage, as likeness to the map of the trained network: "rank_signed" (Spearman of the signed sums), "rank_abs"
  (Spearman of the maps as drawn) and "ssim". 0 is what one wants.
- impossible: in a network whose logit hangs on one cell of four by construction, the share of the map in that cell: 1.
- sensitivity: how far noise of ± .02 moves a map, relative to it (max-sensitivity). Low is stable.
- completeness: the part of the output's change that integrated gradients miss, at several numbers of steps.
- edges: Spearman of the map with the picture's edges, which no network drew.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from lsd.evaluation import metrics
from lsd.evaluation.attributions import attributions
from lsd.evaluation.controls import edges
from lsd.evaluation.impossible import disconnected
from lsd.evaluation.randomize import cascade
from lsd.evaluation.variants import FACTORS, Source, Variant, draw
from lsd.models import ImageModel
from lsd.saliency.gradients import integrated_gradients
from lsd.saliency.methods import COUNTS, METHODS
from lsd.saliency.targets import of_class

STEPS = (4, 8, 16, 32)
CELLS = 2
RADIUS, NOISES = 0.02, 3  # of `metrics.max_sensitivity`
_SLOW = ("captum:deep_lift", "captum:gradient_shap", "captum:occlusion")

Row = tuple[str, str, str, float]  # item, variant, metric, value


def tried(samples: int, only: Sequence[Variant] = ()) -> list[Variant]:
    """The methods that are tried; those of many passes take `samples`, and share them where they can.

    Args:
        only: levels of the factor "method", drawn as they are told; () for all but those of Captum's that take minutes, and further
            versions of a method.
    """
    usual = [v for v in FACTORS["method"].levels if v.level in METHODS and v.level not in _SLOW]
    return [replace(v, source=_few(v.source, samples)) for v in only or usual]


def _few(source: Source, samples: int) -> Source:
    settings = tuple((name, samples if name in COUNTS else value) for name, value in source.settings)
    return replace(source, settings=settings)


def trust_rows(
    model: ImageModel,
    images: Sequence[np.ndarray],
    indices: Sequence[int],
    samples: int,
    only: Sequence[Variant] = (),
) -> list[Row]:
    """All of the above for a few pictures (3, H, W) of these classes; `only` as of `tried`."""
    batch = torch.from_numpy(np.stack(images))
    variants = tried(samples, only)
    rows = []
    rows += _randomization(model, batch, indices, variants)
    rows += _impossible(model, batch, indices, variants)
    rows += _sensitivity(model, batch, indices, variants)
    if any(v.source.method == "integrated_gradients" for v in variants):
        rows += _completeness(model, batch, indices)
    return rows


def _values(
    model: ImageModel, image: torch.Tensor, index: int, variants: Sequence[Variant], kind: str = ""
) -> dict[Variant, np.ndarray]:
    """(C, h, w) for a picture (3, H, W), by method that is defined for the model; `kind` is another output than its own."""
    asked = {v: replace(v.source, kind=kind or v.source.kind) for v in variants}
    other = (index + 1) % model.num_classes  # of a contrast, which nobody asks for
    (found,) = attributions(model, image[None], asked.values(), [(index, other)])
    return {v: found[source] for v, source in asked.items() if source in found}


def _drawn(values: np.ndarray, variant: Variant, image: torch.Tensor) -> np.ndarray:
    return draw(values, variant.drawing, image.numpy())


def _randomization(
    model: ImageModel, batch: torch.Tensor, indices: Sequence[int], variants: Sequence[Variant]
) -> list[Row]:
    rows = []
    before = [_values(model, image, index, variants) for image, index in zip(batch, indices, strict=True)]
    for i, found in enumerate(before):
        outline = edges(batch[i].numpy(), 0)
        for v, values in found.items():
            likeness = metrics.rank_correlation(_drawn(values, v, batch[i]), outline)
            rows.append((f"{i}", v.name, "edges", likeness))
    for number, (_, random) in enumerate(cascade(model, _enough(batch))):
        for i, found in enumerate(before):
            for v, after in _values(random, batch[i], indices[i], variants).items():
                if v not in found:  # Grad-CAM's slopes can be zero in one of the two networks
                    continue
                values = found[v]
                pair = [_drawn(one, v, batch[i]) for one in (values, after)]
                told = {"rank_abs": metrics.rank_correlation(*pair), "ssim": metrics.similarity(*pair)}
                if _alike(values, after):
                    told["rank_signed"] = metrics.rank_correlation(values.sum(0), after.sum(0))
                rows += [(f"{i}", v.name, f"{key}/{number}", value) for key, value in told.items()]
    return rows


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Grad-CAM chooses its layer anew for each network, so the grids can differ."""
    return a.shape == b.shape


def _enough(batch: torch.Tensor) -> torch.Tensor:
    """Batch norms are measured again on these: at least eight pictures, mirrored ones among them."""
    return torch.cat([batch, batch.flip(3)])


def _impossible(
    model: ImageModel, batch: torch.Tensor, indices: Sequence[int], variants: Sequence[Variant]
) -> list[Row]:
    count = CELLS * CELLS
    network = disconnected(model, CELLS, [indices[i % len(indices)] for i in range(count)])
    rows = []
    for i, image in enumerate(batch):
        cell = i % count
        mask = metrics.cell_mask(tuple(image.shape[1:]), CELLS, cell)
        # The logit, since log-odds join all cells by their sum.
        for v, values in _values(network, image, cell, variants, "logit").items():
            saliency = _drawn(values, v, image)
            share = metrics.share_inside(saliency, mask) if saliency.any() else 1 / count
            rows.append((f"{i}", v.name, "impossible", share))
    return rows


def _sensitivity(
    model: ImageModel, batch: torch.Tensor, indices: Sequence[int], variants: Sequence[Variant]
) -> list[Row]:
    """`metrics.max_sensitivity` of all methods together, under the same noise."""
    rows = []
    for i, (image, index) in enumerate(zip(batch, indices, strict=True)):
        before = {v: _drawn(own, v, image) for v, own in _values(model, image, index, variants).items()}
        worst = dict.fromkeys((v for v, saliency in before.items() if saliency.any()), 0.0)
        for near in metrics.perturbed(image[None], RADIUS, NOISES, seed=0):
            for v, values in _values(model, near[0], index, variants).items():
                if v in worst:
                    change = metrics.relative_change(before[v], _drawn(values, v, near[0]))
                    worst[v] = max(worst[v], change)
        rows += [(f"{i}", v.name, "sensitivity", value) for v, value in worst.items()]
    return rows


def _completeness(model: ImageModel, batch: torch.Tensor, indices: Sequence[int]) -> list[Row]:
    rows = []
    for i, (image, index) in enumerate(zip(batch, indices, strict=True)):
        for steps in STEPS:
            result = integrated_gradients(model, image[None], of_class(model, index), steps=steps)
            gap = result.completeness_gap.item()
            change = result.values.sum().item() - gap
            rows.append(
                (
                    f"{i}",
                    "method/integrated_gradients",
                    f"completeness/{steps}",
                    metrics.completeness_error(gap, change),
                )
            )
    return rows
