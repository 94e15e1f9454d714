"""Depth fusion against the formula in plain loops, with finite differences on a network whose layers are spelled out."""

import contextlib
import math

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.families import CASES
from lsd.errors import UndefinedError
from lsd.layers import depth_layers
from lsd.saliency import gradients as own
from lsd.saliency.libra_rules import LibraRule
from lsd.saliency.targets import Target

BY_NAME = {case.name: case for case in CASES}
TRANSFORMERS = (
    "test_vit", "vit_base_patch16_reg4_gap_256", "vit_base_patch16_siglip_224", "deit_tiny_distilled_patch16_224", "cait_xxs24_224",
)  # fmt: skip
TINY = {"depth": 2, "embed_dim": 48, "num_heads": 3}


class Pyramid(nn.Module):
    """Three smooth stages on grids of 8, 4 and 2, beside a line from each pixel to each class."""

    def __init__(self, line=0.02):
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def weights(*shape):
            return nn.Parameter(torch.randn(shape, generator=generator) * math.prod(shape[1:]) ** -0.5 * 1.5)

        self.stage1, self.stage2, self.stage3 = (
            nn.Sequential(nn.Conv2d(c, d, 3, 2, 1), nn.Softplus()) for c, d in ((3, 4), (4, 5), (5, 6))
        )
        for stage in (self.stage1, self.stage2, self.stage3):
            stage[0].weight, stage[0].bias = weights(*stage[0].weight.shape), weights(len(stage[0].bias))
        self.head, self.line = weights(3, 24), nn.Parameter(line * weights(3, 768))

    def stages(self):
        return [self.stage1, self.stage2, self.stage3]

    def tail(self, activation, done, x):
        """The logits, from what the first `done` stages put out."""
        for stage in self.stages()[done:]:
            activation = stage(activation)
        return activation.flatten(1) @ self.head.T + x.flatten(1) @ self.line.T

    def forward(self, x):
        return self.tail(x, 0, x)


def numeric_slope(function, at, h=1e-5):
    """∂function/∂at of one picture by central differences, number by number; `function` takes a batch."""
    bumps = h * torch.eye(at.numel(), dtype=at.dtype).view(-1, *at.shape[1:])
    with torch.no_grad():
        return ((function(at + bumps) - function(at - bumps)) / (2 * h)).view(at.shape)


def enlarged(grid, size):
    """Bilinear, the corners of the two lying on each other; beyond the outermost centres the nearest value."""
    h, w = grid.shape
    large = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            y = min(max((i + 0.5) * h / size - 0.5, 0), h - 1)
            x = min(max((j + 0.5) * w / size - 0.5, 0), w - 1)
            top, left = math.floor(y), math.floor(x)
            bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
            upper = grid[top, left] * (1 - x + left) + grid[top, right] * (x - left)
            lower = grid[bottom, left] * (1 - x + left) + grid[bottom, right] * (x - left)
            large[i, j] = upper * (1 - y + top) + lower * (y - top)
    return large


def over_mean(values):
    return values / values.mean() if values.any() else values


def fused(slope, layers, floor=0.1, together=False):
    """The formula: `slope` (3, H, W) of the pixels; of each layer the activation and its slope, both (C, h, w).

    With `together`, as in transformers, the sum over the layers joins them.
    """
    size = slope.shape[1]
    total = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            total[i, j] = max(abs(slope[c, i, j]) for c in range(3))
    total, grids = over_mean(total), []
    for activation, gradient in layers:
        channels, height, width = activation.shape
        grid = np.zeros((height, width))
        for i in range(height):
            for j in range(width):
                grid[i, j] = sum(activation[c, i, j] * gradient[c, i, j] for c in range(channels))
        grids.append(grid)
    for grid in [*grids, sum(grids)] if together else grids:
        deepest = over_mean(enlarged(np.maximum(grid, 0), size))
        total = total + deepest
    return total * (deepest + floor)


def by_differences(net, x, target):
    """The map (H, W) of one picture by `Pyramid`, with every slope a finite difference."""
    slope = numeric_slope(lambda images: target(net(images)), x)
    activation, layers = x, []
    for done, stage in enumerate(net.stages(), 1):
        activation = stage(activation).detach()

        def score(a, done=done):
            return target(net.tail(a, done, x.expand(len(a), -1, -1, -1)))

        layers.append((activation[0].numpy(), numeric_slope(score, activation)[0].numpy()))
    return fused(slope[0].numpy(), layers), layers


def by_taps(model, x, target, taps, together):
    """The map (H, W) of one picture, from what hooks catch of the layers `taps`: (name, layout, prefix, side)."""
    caught, handles = {}, []
    for name, *_ in taps:

        def tap(module, inputs, output, name=name):
            caught[name] = output
            return output * 1  # a copy, which may be overwritten

        handles.append(model.net.get_submodule(name).register_forward_hook(tap))
    x = x.clone().requires_grad_(True)
    with LibraRule() if together else contextlib.nullcontext():  # test_libra.py vouches for it
        score = target(model(x))
    for handle in handles:
        handle.remove()
    slope, *gradients = torch.autograd.grad(score.sum(), [x, *caught.values()])
    gradients = dict(zip(caught, gradients, strict=True))

    def lay_out(raw, layout, prefix, side):
        raw = raw[0].detach().numpy()
        channels = raw.shape[0] if layout == "nchw" else raw.shape[-1]
        grid = np.zeros((channels, side, side))
        for c in range(channels):
            for i in range(side):
                for j in range(side):
                    grid[c, i, j] = {
                        "nchw": lambda c=c, i=i, j=j: raw[c, i, j],
                        "nhwc": lambda c=c, i=i, j=j: raw[i, j, c],
                        "tokens": lambda c=c, i=i, j=j: raw[prefix + i * side + j, c],
                    }[layout]()
        return grid

    layers = [(lay_out(caught[name], *how), lay_out(gradients[name], *how)) for name, *how in taps]
    return fused(slope[0].numpy(), layers, together=together)


def close(found, expected, rtol=1e-9):
    expected = torch.as_tensor(expected)
    assert expected.max() > 0
    torch.testing.assert_close(found, expected, rtol=rtol, atol=rtol * expected.max().item())


@pytest.mark.parametrize("kind", ["logit", "log_odds", "contrast"])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_it_is_the_formula_by_finite_differences(wrap, pictures, index, kind):
    model, x = wrap(Pyramid(), 16), pictures(1, 16)
    target = Target(index, kind, (index + 1) % 3 if kind == "contrast" else None)
    result = own.depth_fusion(model, x, target)
    assert result.settings == {"layers": ["stage1", "stage2", "stage3"]}
    expected, layers = by_differences(model.net, x, target)
    assert all((a * g).sum(0).min() < 0 < (a * g).sum(0).max() for a, g in layers[:2])  # both signs are put to the test
    close(result.values[0, 0], expected, rtol=1e-6)


def test_the_deepest_layer_of_that_network_tells_the_classes_apart(wrap, pictures):
    """Or the product with it would not be put to the test."""
    model, x = wrap(Pyramid(), 16), pictures(1, 16)
    seen = [by_differences(model.net, x, Target(k, "logit"))[1][-1] for k in range(3)]
    assert len({tuple(((a * g).sum(0) > 0).ravel()) for a, g in seen}) == 3


def pyramid(*names, layout="nchw", finest=16):
    return [(name, layout, 0, finest >> i) for i, name in enumerate(names)]


@pytest.mark.parametrize("name, settings, taps", [
    ("test_resnet", {}, pyramid("conv1", "layer1", "layer2", "layer3", "layer4", finest=32)),
    ("mobilenetv2_050", {}, pyramid("blocks.0", "blocks.1", "blocks.2", "blocks.4", "bn2", finest=32)),
    ("test_convnext", {}, pyramid("stem", "stages.1.blocks.0", "stages.2.blocks.2", "stages")),
    ("test_mambaout", {}, pyramid("stages.2.blocks.1", "stages", layout="nhwc", finest=4)),
    ("swin_tiny_patch4_window7_224", BY_NAME["swin_tiny_patch4_window7_224"].settings,
     pyramid("layers.0", "layers.1", "layers.2", "norm", layout="nhwc")),
    ("hiera_tiny_224", BY_NAME["hiera_tiny_224"].settings,
     pyramid("blocks.3", layout="tokens", finest=2)),
    ("test_vit", {"img_size": 64},  # a class token
     [(name, "tokens", 1, 4) for name in ("blocks.0", "blocks.2", "blocks.3", "blocks.5.norm1")]),
    ("vit_base_patch16_reg4_gap_256", TINY | {"img_size": 64}, [(n, "tokens", 4, 4) for n in ("blocks.0", "blocks")]),
    ("vit_base_patch16_siglip_224", TINY | {"img_size": 64},
     [(name, "tokens", 0, 4) for name in ("blocks.0", "norm")]),
    ("deit_tiny_distilled_patch16_224", {"depth": 3, "embed_dim": 48, "img_size": 64},
     [("blocks.0", "tokens", 2, 4), ("blocks.2.norm1", "tokens", 2, 4)]),
    ("cait_xxs24_224", TINY | {"img_size": 64},  # its class token comes late
     [("blocks.0", "tokens", 0, 4), ("blocks_token_only.1.norm1", "tokens", 1, 4)]),
])  # fmt: skip
def test_it_is_the_formula_in_every_layout(image_model, pictures, name, settings, taps):
    model, x = image_model(name, 64, **settings), pictures(1, 64)
    for index in (3, 5):
        result = own.depth_fusion(model, x, Target(index))
        assert result.settings == {"layers": [name for name, *_ in taps]}
        close(result.values[0, 0], by_taps(model, x, Target(index), taps, together=name in TRANSFORMERS))


def test_channels_last_and_channels_first_are_one(wrap, pictures):
    """The same network, written with its channels at the end."""

    class Last(nn.Module):
        def __init__(self, stage):
            super().__init__()
            self.inner = stage
            self.add_module("0", nn.Identity())  # so that it counts as a stage

        def forward(self, x):
            return self.inner(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    class LastPyramid(Pyramid):
        output_fmt = "NHWC"

        def __init__(self):
            super().__init__()
            self.stage1, self.stage2, self.stage3 = (Last(stage) for stage in self.stages())

        def forward(self, x):
            activation = x.permute(0, 2, 3, 1)
            for stage in self.stages():
                activation = stage(activation)
            return activation.permute(0, 3, 1, 2).flatten(1) @ self.head.T + x.flatten(1) @ self.line.T

    first, last, x = wrap(Pyramid(), 16), wrap(LastPyramid(), 16), pictures(2, 16)
    assert {layer.layout for layer in depth_layers(last)} == {"nhwc"}
    for index in range(3):
        close(own.depth_fusion(last, x, Target(index)).values, own.depth_fusion(first, x, Target(index)).values)


@pytest.mark.parametrize("name, settings", [
    ("test_vit", {"img_size": 64}), ("vit_base_patch16_reg4_gap_256", TINY | {"img_size": 64}), ("test_mambaout", {}),
    ("swin_tiny_patch4_window7_224", BY_NAME["swin_tiny_patch4_window7_224"].settings),
])  # fmt: skip
def test_a_pictures_map_is_the_same_alone_and_in_a_batch(image_model, pictures, name, settings):
    """For convolutions and for several targets, test_gradients.py says the same of every method."""
    model, x, target = image_model(name, 64, **settings), pictures(3, 64), Target((3, 0, 7))
    x[1] *= 0.01  # of another strength: a mean over the batch would show
    together = own.depth_fusion(model, x, target)
    for i in range(3):
        close(together.values[i], own.depth_fusion(model, x[i : i + 1], target.of(i)).values[0])


def test_a_single_pixel_shows(wrap, pictures):
    """What only one pixel does to the class is seen at that pixel, not smeared over a place of a layer."""
    plain, changed, x = wrap(Pyramid(), 16), wrap(Pyramid(), 16), pictures(1, 16)
    changed.net.line.data[1].view(3, 16, 16)[2, 5, 9] += 5
    before, after = (own.depth_fusion(model, x, Target(1, "logit")).values[0, 0] for model in (plain, changed))
    change = (after - before).abs()
    assert divmod(change.argmax().item(), 16) == (5, 9)
    assert after[5, 9] > before[5, 9] and change[5, 9] > 10 * change.flatten().sort().values[-2]


@pytest.mark.parametrize("index", [3, 5])
def test_the_log_odds_and_the_probability_give_one_map(image_model, pictures, index):
    """Their slopes differ by p(1 − p), which goes when each map is divided by its mean."""
    for name, settings in (("test_resnet", {}), ("test_vit", {"img_size": 32})):
        model, x = image_model(name, **settings), pictures(2)
        odds, probability = (
            own.depth_fusion(model, x, Target(index, kind)).values for kind in ("log_odds", "probability")
        )
        close(probability, odds)


@pytest.mark.parametrize("scale", [1e-6, 7.0, 1e6])
def test_the_scale_of_the_logits_does_not_matter(wrap, pictures, scale):
    plain, scaled, x = wrap(Pyramid(), 16), wrap(Pyramid(), 16), pictures(2, 16)
    scaled.net.head.data *= scale
    scaled.net.line.data *= scale
    close(own.depth_fusion(scaled, x, Target(1, "logit")).values, own.depth_fusion(plain, x, Target(1, "logit")).values)


def test_a_class_that_nothing_moves_has_a_map_of_zeros(wrap, pictures):
    model, x = wrap(Pyramid(), 16), pictures(2, 16)
    model.net.head.data[2] = model.net.line.data[2] = 0
    nothing, something = own.depth_fusion(model, x, [Target(2, "logit"), Target(1, "logit")])
    assert torch.equal(nothing.values, torch.zeros(2, 1, 16, 16, dtype=x.dtype))
    assert (something.values > 0).any()


def test_what_the_deepest_layer_does_not_see_keeps_its_order(wrap, pictures):
    """With a head of negative weights on activations above 0, that layer speaks against the class everywhere."""
    model, x = wrap(Pyramid(), 16), pictures(1, 16)
    model.net.head.data[1] = -model.net.head.data[1].abs()
    expected, layers = by_differences(model.net, x, Target(1, "logit"))
    activation, slope = layers[-1]
    assert ((activation * slope).sum(0) < 0).all()
    found = own.depth_fusion(model, x, Target(1, "logit")).values[0, 0]
    close(found, expected, rtol=1e-6)
    assert (found > 0).all() and len(found.unique()) == 256


def test_a_network_without_places_is_refused(wrap, pictures):
    with pytest.raises(UndefinedError, match="no layer whose places reach the output"):
        own.depth_fusion(wrap(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), 8), pictures(1, 8), Target(1))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_defined_for_every_family(case):
    model = case.build()
    x = torch.rand(2, 3, case.size, case.size, generator=torch.Generator().manual_seed(0))
    for result in own.depth_fusion(model, x, [Target(3), Target(5, "contrast", 3)]):
        assert result.values.shape == (2, 1, case.size, case.size) and result.passes == 1
        assert torch.isfinite(result.values).all() and (result.values >= 0).all()
        assert (result.values.amax((1, 2, 3)) > 0).all()
        assert result.settings == {"layers": [layer.name for layer in depth_layers(model)]}


def test_a_failure_leaves_the_network_as_it_was(image_model, pictures, monkeypatch):
    """Halfway through the backward passes; test_gradients.py tells of a failure in the forward pass."""
    model, x = image_model("test_resnet"), pictures()
    with pytest.raises(UndefinedError, match="out of range"):
        own.depth_fusion(model, x, [Target(3), Target(99)])
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())
    assert not any(m.training for m in model.net.modules())
    assert all(p.grad is None and not p.requires_grad for p in model.parameters()) and not x.requires_grad
    assert model.lock.acquire(blocking=False), "the lock is still held"
    model.lock.release()
