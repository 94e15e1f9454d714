"""Class activation maps beyond Grad-CAM: other weights for the activations of a layer, and maps of several layers fused.

With A_k the activations of a layer's channel k on its grid of places and g_k the slope of the target at them. Functions take
`(model, images, target, **settings)` as those of `lsd.saliency.gradients`, which has Grad-CAM itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lsd.errors import UndefinedError
from lsd.layers import deepest_grid, depth_layers, find_layer
from lsd.layout import to_grid
from lsd.models import ImageModel
from lsd.precision import at_least_fp32
from lsd.progress import report
from lsd.saliency.attribution import Attribution
from lsd.saliency.gradients import at_one_layer, baseline, grad_cam_map, method, on_grids
from lsd.saliency.targets import Target
from lsd.tracing import capture

FUSED_GAMMA = 2.0  # of LayerCAM's tanh, from its paper


def hires_cam_map(grid: Tensor, slope: Tensor) -> Tensor:
    """Σ_k g_k A_k of activations and slopes (N, C, h, w): (N, 1, h, w)."""
    return (slope * grid).sum(1, keepdim=True)


def layer_cam_map(grid: Tensor, slope: Tensor) -> Tensor:
    """Σ_k max(g_k, 0) A_k, shaped as for `hires_cam_map`."""
    return hires_cam_map(grid, slope.clamp(min=0))


def grad_cam_plus_plus_map(grid: Tensor, slope: Tensor) -> Tensor:
    """Σ_k w_k A_k with w_k = Σ_places max(g_k, 0) / (2 + g_k Σ_places A_k), shaped as for `hires_cam_map`.

    The paper writes the fraction as g² / (2 g² + g³ Σ A), which is the same wherever g is not zero.

    Raises:
        UndefinedError: a denominator that is not positive.
    """
    share = 2 + slope * grid.sum((2, 3), keepdim=True)
    rising = slope > 0
    if (share[rising] <= 0).any():
        raise UndefinedError(
            "Grad-CAM++ divides by 2 + slope × sum of the activations, which is not positive everywhere where activations are "
            "negative, as in this layer; choose HiResCAM or LayerCAM, which need no such division."
        )
    weights = torch.where(rising, slope / share, torch.zeros_like(slope)).sum((2, 3), keepdim=True)
    return (weights * grid).sum(1, keepdim=True)


MAPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "grad_cam_plus_plus": grad_cam_plus_plus_map, "layer_cam": layer_cam_map, "hires_cam": hires_cam_map,
    "grad_cam": grad_cam_map,
}  # fmt: skip
"""What RefineCAM can refine: method → map of a layer."""


@method
def hires_cam(model: ImageModel, images: Tensor, targets: Sequence[Target], *, layer: str = "") -> list[Attribution]:
    """HiResCAM, Σ_k g_k A_k (Draelos & Carin, 2020): what each place adds, (N, 1, h, w), signed.

    Where only a linear layer follows, the map adds up to the logit without its bias. Arguments and errors as for `grad_cam`.
    """
    return at_one_layer(model, images, targets, layer, "hires_cam", hires_cam_map)


@method
def grad_cam_plus_plus(
    model: ImageModel, images: Tensor, targets: Sequence[Target], *, layer: str = ""
) -> list[Attribution]:
    """Grad-CAM++ (Chattopadhay et al., 2018), see `grad_cam_plus_plus_map`: (N, 1, h, w), signed as the activations are.

    Arguments as for `grad_cam`.

    Raises:
        UndefinedError: as for `grad_cam`, and where its weights are not defined.
    """
    return at_one_layer(model, images, targets, layer, "grad_cam_plus_plus", grad_cam_plus_plus_map)


@method
def finer_cam(
    model: ImageModel,
    images: Tensor,
    targets: Sequence[Target],
    *,
    references: int = 3,
    strength: float = 0.6,
    layer: str = "",
) -> list[Attribution]:
    """Finer-CAM (Zhang et al., CVPR 2025): Grad-CAM of f_t − strength · mean_d f_d, d the classes most like t: (N, 1, h, w).

    f is the target's own kind (the paper's is the logit), and the scores are f_t. The classes most like t are those whose logits
    lie closest to its own. A contrast names the one class that it is held against: z_a − strength · z_b.

    Args:
        references: how many classes d; fewer where the network has fewer.
        strength: of the comparison; 0 gives Grad-CAM.
        layer: as for `grad_cam`.

    Raises:
        UndefinedError: as for `grad_cam`, and a similarity, a group or a single output, which leave no class to hold against.
    """
    if references < 1 or strength < 0:
        raise UndefinedError(
            f"Finer-CAM needs one reference or more, not {references}, and a strength of 0 or more, not {strength}."
        )
    if not all(isinstance(target, Target) for target in targets):
        raise UndefinedError(
            "Finer-CAM holds a class against those most like it; a similarity has no class, and a group says itself what "
            "it is held against."
        )

    def held(target: Target) -> Callable[[Tensor], Tensor]:
        return lambda logits: target_against(target, logits, references, strength)

    return at_one_layer(
        model, images, targets, layer, "finer_cam", grad_cam_map,
        settings={"references": references, "strength": strength}, objectives=[held(target) for target in targets],
    )  # fmt: skip


def target_against(target: Target, logits: Tensor, references: int, strength: float) -> Tensor:
    """f_t − strength · mean_d f_d, see `finer_cam`: logits (N, C) → (N,).

    Raises:
        UndefinedError: one class only.
    """
    if target.kind == "contrast":
        alone, against = (replace(target, index=i, kind="logit", against=None) for i in (target.index, target.against))
        return alone(logits) - strength * against(logits)
    classes = logits.shape[1]
    if classes < 2:
        raise UndefinedError("Finer-CAM holds a class against those most like it, and this network has but one.")
    own = replace(target, kind="logit")(logits).detach()
    distance = (logits.detach() - own[:, None]).abs()
    index = target.index if isinstance(target.index, tuple) else (target.index,) * len(logits)
    distance[range(len(logits)), index] = torch.inf  # a class is no reference of its own
    nearest = distance.argsort(dim=1, stable=True)[:, : min(references, classes - 1)]
    others = [replace(target, index=column.tolist())(logits) for column in nearest.T]
    return target(logits) - strength * torch.stack(others).mean(0)


@method
def layer_cam(model: ImageModel, images: Tensor, targets: Sequence[Target]) -> list[Attribution]:
    """LayerCAM of several depths (Jiang et al., 2021): the strongest of them at each pixel, (N, 1, H, W), from 0 to 1.

    With M_l = max(Σ_k max(g_k, 0) A_k, 0) of layer l (`lsd.layers.depth_layers`): max_l tanh(2 M_l / max M_l), each enlarged
    bilinearly. The paper scales the shallow layers alone; scaled all alike, none decides by its units.

    Raises:
        UndefinedError: the network has no layer whose places reach the output.
    """

    def fuse(maps: Sequence[Tensor]) -> Tensor:
        scaled = [torch.tanh(FUSED_GAMMA * one / _above_zero(one.amax((2, 3), keepdim=True))) for one in maps]
        return torch.stack(_enlarged(scaled, images)).amax(0)

    return _over_depths(model, images, targets, "layer_cam", {}, layer_cam_map, fuse)


@method
def refine_cam(
    model: ImageModel, images: Tensor, targets: Sequence[Target], *, base: str = "layer_cam"
) -> list[Attribution]:
    """RefineCAM (Domeniconi et al., 2026): the product of the maps of several depths, (N, 1, H, W), from 0 to 1.

    Each layer's map (`lsd.layers.depth_layers`) without what is negative, brought to the range from 0 to 1, and enlarged
    bilinearly.

    Args:
        base: of which method the maps are, one of `MAPS`. The paper tries Grad-CAM++ first, which is not defined at layers
            with negative activations, and LayerCAM among others.

    Raises:
        UndefinedError: no layer whose places reach the output, another base, or a base that is not defined at one of the layers.
    """
    if base not in MAPS:
        raise UndefinedError(f"There is no base “{base}”; choose one of {', '.join(MAPS)}.")

    def fuse(maps: Sequence[Tensor]) -> Tensor:
        lows = [one - one.amin((2, 3), keepdim=True) for one in maps]
        return torch.stack(_enlarged([one / _above_zero(one.amax((2, 3), keepdim=True)) for one in lows], images)).prod(
            0
        )

    return _over_depths(model, images, targets, "refine_cam", {"base": base}, MAPS[base], fuse)


def _over_depths(
    model: ImageModel,
    images: Tensor,
    targets: Sequence[Target],
    name: str,
    settings: dict,
    combine: Callable[[Tensor, Tensor], Tensor],
    fuse: Callable[[Sequence[Tensor]], Tensor],
) -> list[Attribution]:
    """`fuse` of the positive parts (N, 1, h, w) of each depth's map, for each target."""
    layers = depth_layers(model)
    logits, grids, every = on_grids(model, images, layers, targets)
    told = settings | {"layers": [layer.name for layer in layers]}
    attributions = []
    for target, slopes in zip(targets, every, strict=True):
        maps = [combine(grid, slope).clamp(min=0) for grid, slope in zip(grids, slopes, strict=True)]
        attributions.append(Attribution(fuse(maps), name, told, target, target(logits), passes=1))
    return attributions


def _enlarged(maps: Sequence[Tensor], images: Tensor) -> list[Tensor]:
    return [F.interpolate(one, size=images.shape[-2:], mode="bilinear", align_corners=False) for one in maps]


def _above_zero(values: Tensor) -> Tensor:
    """To divide by: a map of zeros stays one."""
    return values.clamp(min=torch.finfo(values.dtype).tiny)


@method
def score_cam(
    model: ImageModel,
    images: Tensor,
    targets: Sequence[Target],
    *,
    masks: int = 64,
    baseline_kind: str = "mean",
    layer: str = "",
    batch_size: int = 8,
) -> list[Attribution]:
    """Score-CAM (Wang et al., 2020), without gradients: Σ_k w_k A_k, (N, 1, h, w), w = softmax_k f(x behind mask k).

    A channel, enlarged bilinearly and brought to the range from 0 to 1, is a mask H_k: the network is shown b + H_k (x − b).
    The paper's f is the output less that of b, which the softmax takes out again.

    Args:
        masks: how many channels are tried, those that vary most over the places; as many as the layer has, and more, are all of
            them, as in the paper. Channels that are the same everywhere make no mask.
        baseline_kind: b, see `baseline`; “mean” is the zero of the network's own input, as in other libraries.
        layer: as for `grad_cam`.
        batch_size: masked pictures in one pass; bounds the memory.

    Raises:
        UndefinedError: no such layer, no places in it, or none of its channels varies.
    """
    if masks < 1 or batch_size < 1:
        raise UndefinedError(f"masks and batch_size must be at least 1, not {masks} and {batch_size}.")
    chosen = find_layer(model, layer) if layer else deepest_grid(model)
    with torch.no_grad():
        with capture(model, [chosen.name]) as captured:
            logits = model(images)
        grids = to_grid(chosen, at_least_fp32(captured[chosen.name]))
        base = baseline(model, images, baseline_kind)
        values, passes = [], 0
        for i, (image, behind, grid) in enumerate(zip(images, base, grids, strict=True)):
            grid = grid[_most_varied(grid, masks)]
            if not len(grid):
                raise UndefinedError(
                    f"No channel of {chosen.name} varies over this picture, so there is nothing to mask by."
                )
            own = [target.of(i) for target in targets]
            answers = []
            for start in range(0, len(grid), batch_size):
                hidden = behind + _as_masks(grid[start : start + batch_size], image) * (image - behind)
                shown = model(hidden)
                answers.append(torch.stack([target(shown) for target in own]))
                del hidden, shown  # before the next pass, not after it
                report(i * masks + start, len(images) * masks)
            weights = torch.cat(answers, 1).softmax(1)
            values.append(torch.stack([(w[:, None, None] * grid).sum(0, keepdim=True) for w in weights]))
            passes = max(passes, 1 + len(grid))
    told = {"layer": chosen.name, "masks": masks, "baseline_kind": baseline_kind, "batch_size": batch_size}
    return [
        Attribution(own, "score_cam", told, target, target(logits), passes=passes)
        for own, target in zip(torch.stack(values, 1), targets, strict=True)
    ]


def _most_varied(grid: Tensor, count: int) -> Tensor:
    """Positions, ascending, of the at most `count` channels of (C, h, w) with the largest variance, of those that vary at all."""
    flat = grid.flatten(1)
    varies = flat.amax(1) > flat.amin(1)  # the variance of equal numbers is rounded to something above zero
    chosen = flat.var(1, correction=0).argsort(descending=True, stable=True)
    return chosen[varies[chosen]][:count].sort().values


def _as_masks(grid: Tensor, image: Tensor) -> Tensor:
    """Channels (n, h, w) as masks (n, 1, H, W) from 0 to 1 over a picture (3, H, W)."""
    (large,) = _enlarged([grid[:, None]], image[None])
    low, high = large.amin((2, 3), keepdim=True), large.amax((2, 3), keepdim=True)
    return ((large - low) / _above_zero(high - low)).to(image)
