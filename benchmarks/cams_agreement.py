"""Our class activation maps held against those of torch-cam and pytorch-grad-cam, as a table.

    pip install torchcam grad-cam
    python -m benchmarks.cams_agreement

All get the same network, pictures and targets (the logit), in fp64, and each map is held against ours before anybody enlarges it
for the screen. Both are brought to the range from 0 to 1, since the libraries do so on their own. Where a difference is above
`ALIKE` the library computes something else, and the last column says what.
"""

import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from lsd import markdown
from lsd.evaluation.labelled import open_set, true_indices
from lsd.images import prepare
from lsd.layers import deepest_grid, depth_layers
from lsd.models import ImageModel, load_model
from lsd.saliency import cams
from lsd.saliency.gradients import at_one_layer, method
from lsd.saliency.targets import Target

MODELS, PICTURES = ("demo:resnet", "demo:convnext"), 3
ALIKE = 1e-5  # pytorch-grad-cam adds 1e-6 and 1e-7 where it divides, and rounds to fp32 at the end
WHY = {
    ("Grad-CAM++", "torch-cam"): "it divides a copy, so that its weights are sums of slope³: see the next row",
    ("Grad-CAM++", "pytorch-grad-cam"): "it adds 1e-6 to a denominator of slope², which is as small: see the next row",
    ("Score-CAM", "torch-cam"): "it brings a mask to 0 to 1 before it enlarges it; the paper does so afterwards",
    (
        "Finer-CAM, 3 references",
        "pytorch-grad-cam",
    ): "it weights the references by their probabilities; torch-cam and we take their mean",
}


def undivided(grid: Tensor, slope: Tensor) -> Tensor:
    """Grad-CAM++ as torch-cam computes it."""
    return (slope.clamp(min=0).pow(3).sum((2, 3), keepdim=True) * grid).sum(1, keepdim=True)


def with_epsilon(grid: Tensor, slope: Tensor) -> Tensor:
    """Grad-CAM++ as pytorch-grad-cam computes it."""
    share = slope**2 / (2 * slope**2 + grid.sum((2, 3), keepdim=True) * slope**3 + 1e-6)
    return ((slope.clamp(min=0) * share).sum((2, 3), keepdim=True) * grid).sum(1, keepdim=True)


Found = Iterator[tuple[str, str, Tensor, Tensor]]  # method, library, our map, theirs


class Normalised(nn.Module):
    """The bare network on pictures that are normalised already, as the libraries want it: parameters with gradients, too."""

    def __init__(self, model: ImageModel):
        super().__init__()
        self.net = model.net
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def torch_cam(model: ImageModel, image: Tensor, index: int) -> Found:
    """torch-cam's maps of one picture."""
    from torchcam import methods as theirs

    net, x = Normalised(model), ((image - model.mean) / model.std).requires_grad_(True)
    deep, layers = f"net.{deepest_grid(model).name}", [f"net.{layer.name}" for layer in depth_layers(model)]
    target, shape, side = Target(index, "logit"), tuple(image.shape[1:]), tuple(image.shape[-2:])

    def run(extractor, **more) -> list[Tensor]:
        with extractor as extract:
            return extract(index, net(x), **more)

    one = {"input_shape": shape}
    yield (
        "Grad-CAM++",
        "torch-cam",
        *pair(
            lambda: cams.grad_cam_plus_plus(model, image, target), lambda: run(theirs.GradCAMpp(net, deep, **one))[0]
        ),
    )
    yield (
        "Grad-CAM++, undivided",
        "torch-cam",
        *pair(lambda: of_map(undivided)(model, image, target), lambda: run(theirs.GradCAMpp(net, deep, **one))[0]),
    )
    for count in (1, 3):
        yield (
            f"Finer-CAM, {count} reference{'s' * (count > 1)}",
            "torch-cam",
            *pair(
                lambda n=count: cams.finer_cam(model, image, target, references=n),
                lambda n=count: run(theirs.FinerCAM(net, deep, num_references=n, **one))[0],
            ),
        )
    fused = theirs.LayerCAM(net, layers, **one)
    yield (
        "LayerCAM, fused",
        "torch-cam",
        *pair(
            lambda: cams.layer_cam(model, image, target),
            lambda: fused.fuse_cams(over_largest(run(fused, normalized=False)), side),
        ),
    )
    yield (
        "RefineCAM of LayerCAM",
        "torch-cam",
        *pair(
            lambda: cams.refine_cam(model, image, target, base="layer_cam"),
            lambda: run(theirs.RefineCAM(net, layers, base_method=theirs.LayerCAM, **one), target_shape=side)[0],
        ),
    )
    yield (
        "Score-CAM",
        "torch-cam",
        *pair(
            lambda: cams.score_cam(model, image, target, masks=4096), lambda: run(theirs.ScoreCAM(net, deep, **one))[0]
        ),
    )


def pytorch_grad_cam(model: ImageModel, image: Tensor, index: int) -> Found:
    """pytorch-grad-cam's maps of one picture, as they are before it enlarges them."""
    import pytorch_grad_cam as theirs
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, FinerWeightedTarget

    net, x = Normalised(model), (image - model.mean) / model.std
    module, target = model.net.get_submodule(deepest_grid(model).name), Target(index, "logit")

    def run(kind: type, asked=None) -> Tensor:
        with kind(net, [module]) as cam:
            asked = [asked or ClassifierOutputTarget(index)]
            outputs = cam.activations_and_grads(x.clone().requires_grad_(True))
            asked[0](outputs[0]).backward()
            seen = (
                one[0].detach().numpy()
                for one in (cam.activations_and_grads.activations, cam.activations_and_grads.gradients)
            )
            return torch.from_numpy(np.maximum(cam.get_cam_image(x, module, asked, *seen, False), 0))

    single = (
        ("HiResCAM", lambda: cams.hires_cam(model, image, target), theirs.HiResCAM),
        ("Grad-CAM++", lambda: cams.grad_cam_plus_plus(model, image, target), theirs.GradCAMPlusPlus),
        ("Grad-CAM++, with 1e-6", lambda: of_map(with_epsilon)(model, image, target), theirs.GradCAMPlusPlus),
        ("Score-CAM", lambda: cams.score_cam(model, image, target, masks=4096), theirs.ScoreCAM),
    )
    for name, ours, kind in single:
        yield name, "pytorch-grad-cam", *pair(ours, lambda kind=kind: run(kind))
    z = model(image)[0].detach()
    near = (z - z[index]).abs().argsort(stable=True)[1:].tolist()
    for count in (1, 3):
        yield (
            f"Finer-CAM, {count} reference{'s' * (count > 1)}",
            "pytorch-grad-cam",
            *pair(
                lambda n=count: cams.finer_cam(model, image, target, references=n),
                lambda n=count: run(theirs.GradCAM, FinerWeightedTarget(index, near[:n], 0.6)),
            ),
        )


def of_map(combine):
    """A method of the deepest layer, of another map than ours."""
    return method(lambda model, images, targets: at_one_layer(model, images, targets, "", combine.__name__, combine))


def over_largest(maps: list[Tensor]) -> list[Tensor]:
    """As the paper scales LayerCAM's maps; torch-cam by itself takes the smallest number off first."""
    return [one / one.amax((1, 2), keepdim=True) for one in maps]


def pair(ours, theirs) -> tuple[Tensor, Tensor]:
    """Both maps (H, W), what is negative cut off, from 0 to 1."""
    values = (ours().values[0, 0], theirs().detach().squeeze())
    cut = [one.double().clamp(min=0) for one in values]
    return tuple((one - one.min()) / (one.max() - one.min()).clamp(min=1e-12) for one in cut)


def main() -> None:
    """Print the table."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for network in MODELS:
        model = load_model(network).double()
        items = open_set("demo", limit=PICTURES)
        for item, index in zip(items, true_indices(items, model), strict=True):
            image = torch.from_numpy(prepare(item.picture(), model.spec))[None].double()
            for name, library, ours, theirs in (
                *torch_cam(model, image, int(index)),
                *pytorch_grad_cam(model, image, int(index)),
            ):
                found[name, library].append((ours - theirs).abs().max().item())
    rows = [
        [
            name,
            library,
            f"{max(values):.1e}",
            f"{len(values)}",
            "" if max(values) <= ALIKE else WHY.get((name, library), "?"),
        ]
        for (name, library), values in found.items()
    ]
    print("\n".join(markdown.table(["method", "library", "largest difference", "maps", "why"], rows)))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    # The paper enlarges bilinearly and does not say how the corners lie; ours lie as everywhere here.
    with patch.object(
        nn, "UpsamplingBilinear2d", lambda size: nn.Upsample(size=size, mode="bilinear", align_corners=False)
    ):
        sys.exit(main())
