"""How `depth_fusion` came about: its neighbours, on photos that the study's tables are not made of.

    python -m benchmarks.depth_fusion --images DIR [--models A B] [--photos 40] [--judging]

Photos whose class is a multiple of five (with --judging, all others), of which the models are all sure. Printed for each
model: the grid pointing game on 2 × 2 grids, and μ-fidelity, deletion and insertion on the photos, by the protocol of the
study. Of transformers also what LibraGrad's backward pass brings, and LeGrad beside it.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lsd import markdown
from lsd.evaluation import metrics
from lsd.evaluation.labelled import LabelledSet, open_set, true_indices
from lsd.evaluation.mistakes import scan
from lsd.evaluation.saliency import CHOSEN_ON, SURE
from lsd.evaluation.saliency_scores import REGION_GRID, REGION_SHARE, mosaic, region_fidelity, removal
from lsd.features.prepare import prepare as twin_of
from lsd.images import prepare
from lsd.models import ImageModel, get_model
from lsd.saliency.attribution import Attribution
from lsd.saliency.gradients import DEPTH_FLOOR, depth_parts, fuse
from lsd.saliency.libra_rules import balances
from lsd.saliency.methods import attribute
from lsd.saliency.targets import Target

REGIONS = 32
METRICS = {
    "grid": "grid 2 × 2 ↑", "mu_fidelity": "μ-fidelity ↑", "deletion": "deletion ↓", "insertion": "insertion ↑"
}  # fmt: skip


def neighbours(parts: Sequence[Tensor], grad_cam: Tensor) -> dict[str, Tensor]:
    """Name → map, of the parts a_0 … a_L and Grad-CAM's positive part, each over its mean."""
    total, deepest = sum(parts), parts[-1]
    product = torch.stack(list(parts[1:])).log().sum(0).exp()
    return {
        "gradient (a_0)": parts[0],
        "Grad-CAM": grad_cam,
        "gradient × activation, deepest (a_L)": deepest,
        "product of all layers": product,
        "their geometric mean": product ** (1 / len(parts[1:])),
        "sum": total,
        "sum · a_L": total * deepest,
        "sum · √a_L": total * deepest.sqrt(),
        "sum · (Grad-CAM + .1)": total * (grad_cam + DEPTH_FLOOR),
        "sum · (a_L + .3)": total * (deepest + 0.3),
        "sum · (a_L + .1), shipped": fuse(parts),
    }


def balanced_neighbours(parts: Sequence[Tensor], legrad: Tensor) -> dict[str, Tensor]:
    """Name → map, of the parts behind LibraGrad's rules, the last being that of all layers together (a_Σ), and of LeGrad's map."""
    *single, together = parts
    product = _over_mean(together * legrad)
    return {
        "LeGrad": legrad,
        "LibraGrad: a_Σ": together,
        "LibraGrad: sum · (a_L + .1)": fuse(single),
        "LibraGrad: sum · (a_Σ + .1), shipped for transformers": fuse(parts),
        "LibraGrad: sum · (a_Σ · LeGrad + .1), two passes": sum(parts) * (product + DEPTH_FLOOR),
    }


def _enlarged(attribution: Attribution, image: np.ndarray) -> Tensor:
    """The positive part of a layer's map over the picture (3, H, W), over its mean."""
    values = attribution.values.clamp(min=0)
    return _over_mean(torch.nn.functional.interpolate(values, size=tuple(image.shape[1:]), mode="bilinear"))


def _over_mean(values: Tensor) -> Tensor:
    return values / values.mean().clamp(min=1e-30)


def maps(model: ImageModel, image: np.ndarray, indices: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """For each class, name → map (H, W) of a picture (3, H, W)."""
    batch = torch.from_numpy(image)[None]
    targets = [Target(index) for index in indices]
    with model.lock, torch.enable_grad():
        _, parts, _ = depth_parts(model, batch.clone(), targets, balanced=False)
        balanced = depth_parts(model, batch.clone(), targets, balanced=True)[1] if balances(model) else []
    cams = attribute("grad_cam", model, batch, targets)
    found = [neighbours(own, _enlarged(cam, image)) for own, cam in zip(parts, cams, strict=True)]
    if balanced:
        for maps_of_one, own, legrad in zip(found, balanced, attribute("legrad", model, batch, targets), strict=True):
            maps_of_one |= balanced_neighbours(own, _enlarged(legrad, image))
    return [{name: one[0, 0].double().numpy() for name, one in own.items()} for own in found]


def figures(model: ImageModel, photos: LabelledSet) -> dict[str, dict[str, float]]:
    """Name → metric → mean."""
    inputs = [prepare(item.picture(), model.spec) for item in photos]
    indices = true_indices(photos, model).tolist()
    values: dict[str, dict[str, list[float]]] = {}

    def note(name: str, metric: str, value: float) -> None:
        values.setdefault(name, {}).setdefault(metric, []).append(value)

    for start in range(0, len(inputs) - 3, 4):
        image = mosaic(np.stack(inputs[start : start + 4]), 2)
        for cell, own in enumerate(maps(model, image, indices[start : start + 4])):
            for name, saliency in own.items():
                note(name, "grid", metrics.cell_share(saliency, 2, cell) if saliency.any() else 0.25)
    twin = twin_of(model)
    for position, (image, index) in enumerate(zip(inputs, indices, strict=True)):
        (own,) = maps(model, image, [index])
        batch = torch.from_numpy(image)[None]
        regions = metrics.random_regions(REGION_GRID, REGION_SHARE, REGIONS, position)
        for name, metric, value in [
            *region_fidelity(twin, batch, index, own, regions),
            *removal(twin, batch, index, own),
        ]:
            note(name, metric, value)
    return {name: {metric: float(np.mean(v)) for metric, v in own.items()} for name, own in values.items()}


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", required=True, help="labelled photos, numbered as ImageNet")
    parser.add_argument(
        "--models", nargs="+",
        default=["mobilenetv2_100.tflite_qat_in1k", "vit_tiny_patch16_224.augreg_in1k", "resnet50.tf_uint8_in1k"],
    )  # fmt: skip
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument(
        "--judging", action="store_true", help="take the photos that the study judges by, not those to choose by"
    )
    options = parser.parse_args()
    whole = open_set(options.images)
    *_, last = scan(options.models, whole)
    found = last.result
    sure = ((found.true_probability >= SURE) & ~found.wrong).all(0) & (
        (found.true[0] % CHOSEN_ON == 0) != options.judging
    )
    items = [item for item, chosen in zip(found.items, sure, strict=True) if chosen][: options.photos]
    photos = LabelledSet(whole.name, tuple(items))
    for name in options.models:
        told = figures(get_model(name), photos)
        print(f"\n{name}, {len(photos)} photos\n")
        rows = ([neighbour, *(f"{own[metric]:.3f}" for metric in METRICS)] for neighbour, own in told.items())
        print("\n".join(markdown.table(["", *METRICS.values()], rows)), flush=True)


if __name__ == "__main__":
    main()
