"""Shares of channels against closed forms, central differences, Captum, and channels that are really switched off."""

import captum.attr
import pytest
import torch
from torch import nn

from lsd.errors import UndefinedError
from lsd.layers import as_said, find_layer
from lsd.layout import channel_axis
from lsd.reasons.shares import METHODS, radau, shares
from lsd.reasons.switch import goes_on, without
from lsd.said import Said
from lsd.saliency.gradients import quadrature
from lsd.saliency.targets import Target
from lsd.tracing import capture, replaced

# architecture, its settings, a layer of each layout
LAYERS = [
    ("test_resnet", {}, "layer2"), ("test_efficientnet", {}, "blocks.1"), ("test_vit", {"img_size": 32}, "blocks.2"),
    ("swin_tiny_patch4_window7_224", {"img_size": 32, "window_size": 2}, "layers.0"), ("test_resnet", {}, "global_pool"),
]  # fmt: skip
TARGETS = [Target(3), Target(1, "logit"), Target(2, "contrast", 5), Target((4, 7))]
each_layer = pytest.mark.parametrize(
    ("name", "settings", "layer"), LAYERS, ids=lambda v: v if isinstance(v, str) else ""
)


@pytest.fixture
def network(image_model):
    def make(name, settings):
        return image_model(name, 32, **settings)

    return make


def scaled(model, images, target, layer, channel, factor, all_by=1.0):
    """The target with a layer multiplied by a number, and one of its channels by a factor on top."""

    def change(output):
        output = output * all_by
        output.movedim(channel_axis(layer, output), 0)[channel] *= factor
        return output

    with torch.no_grad(), replaced(model, layer.name, change):
        return target(model(images))


@each_layer
def test_a_share_is_the_slope_as_the_channel_alone_is_scaled(network, pictures, name, settings, layer):
    model, images = network(name, settings), pictures(2)
    found = find_layer(model, layer)
    for own in shares(model, images, TARGETS, [layer])[layer]:
        for channel in range(0, found.channels, max(found.channels // 5, 1)):
            up, down = (scaled(model, images, own.target, found, channel, 1 + step) for step in (1e-5, -1e-5))
            torch.testing.assert_close(own.values[:, channel], (up - down) / 2e-5, rtol=1e-5, atol=1e-8)
        torch.testing.assert_close(own.scores, own.target(model(images)))
        torch.testing.assert_close(own.zero, scaled(model, images, own.target, found, slice(None), 0))


@each_layer
def test_one_pass_for_all_agrees_with_captum_for_each(network, pictures, name, settings, layer):
    model, images = network(name, settings), pictures(2)
    own = shares(model, images, TARGETS, [layer])[layer]
    for one in own:
        captums = captum.attr.LayerGradientXActivation(
            lambda x, t=one.target: t(model(x)), model.net.get_submodule(layer)
        )
        values = captums.attribute(images)
        axis = channel_axis(one.layer, values)
        summed = values.movedim(axis, 1).flatten(2).sum(2) if values.ndim > 2 else values
        torch.testing.assert_close(one.values, summed.detach())


@each_layer
def test_integrated_shares_are_slopes_along_the_path_and_ablation_is_what_is_lost(
    network, pictures, name, settings, layer
):
    model, images = network(name, settings), pictures(2)
    positions, weights = quadrature("gauss_legendre", 3)
    for target in TARGETS:
        (integrated,) = shares(model, images, [target], [layer], method="integrated", steps=3, batch_size=2)[layer]
        (ablated,) = shares(model, images, [target], [layer], method="ablation", batch_size=7)[layer]
        for channel in (0, ablated.layer.channels - 1):
            rises = []
            for at in positions:
                up, down = (
                    scaled(model, images, target, ablated.layer, channel, 1 + step / at, at) for step in (1e-6, -1e-6)
                )
                rises.append((up - down) / 2e-6)
            mean = sum(weight * rise for weight, rise in zip(weights, rises, strict=True))
            torch.testing.assert_close(integrated.values[:, channel], mean, rtol=1e-4, atol=1e-6)
            left = scaled(model, images, target, ablated.layer, channel, 0)
            torch.testing.assert_close(ablated.values[:, channel], ablated.scores - left)


def test_more_points_on_the_path_leave_less_unexplained(image_model, pictures):
    model, images = image_model("test_efficientnet"), pictures(2)
    few, many = (
        shares(model, images, [Target(3)], ["blocks.2"], method="integrated", steps=steps)["blocks.2"][0]
        for steps in (2, 48)
    )
    assert (many.gap.abs() < 1e-2 * (many.scores - many.zero).abs()).all() and (many.gap.abs() < few.gap.abs()).all()


@each_layer
def test_joint_shares_are_what_the_first_channels_lose_together(network, pictures, monkeypatch, name, settings, layer):
    monkeypatch.setattr("lsd.reasons.shares.JOINT", 5)
    model, images = network(name, settings), pictures(2)
    (plain,) = shares(model, images, [TARGETS[2]], [layer])[layer]
    target = plain.target

    def joint(choices, steps):
        monkeypatch.setattr("lsd.reasons.shares._CHOICES", choices)
        return shares(model, images, [target], [layer], method="joint", steps=steps)[layer][0]

    for choices in (1, 2):  # the channels that are at zero on the way: by plain slopes, then by what came of that
        for steps in (32, 2):
            by = joint(choices - 1, steps) if choices > 1 else plain
            gone = torch.zeros_like(by.values).scatter(1, by.order()[:, :5], 1.0) * (by.values > 0)
            found = joint(choices, steps)
            if steps > 2:
                lost = by.scores - target(without(model, images, by.layer, gone))
                torch.testing.assert_close((found.values * gone).sum(1), lost, rtol=3e-2, atol=1e-6)
                continue
            for channel in {int(by.order()[0, 0]), int(by.order()[0, -1])}:
                rises = []
                for at in (1 / 3, 1):
                    off = gone[:1] * (1 - at)
                    ends = []
                    for step in (1e-5, -1e-5):
                        moved = off.clone()
                        moved[0, channel] -= step
                        ends.append(target.of(0)(without(model, images[:1], by.layer, moved)))
                    rises.append((ends[0] - ends[1]) / 2e-5)
                mean = 3 / 4 * rises[0] + 1 / 4 * rises[1]
                torch.testing.assert_close(found.values[:1, channel], mean, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("points", [2, 3, 5])
def test_radau_is_exact_as_far_as_it_says_and_has_the_end_among_its_points(points):
    positions, weights = radau(points)
    assert positions[-1] == pytest.approx(1) and (positions > 0).all() and (positions[1:] > positions[:-1]).all()
    for degree in range(2 * points - 1):
        assert (weights * positions**degree).sum() == pytest.approx(1 / (degree + 1))
    assert (weights * positions ** (2 * points - 1)).sum() != pytest.approx(1 / (2 * points), rel=1e-9)


@pytest.mark.parametrize("method", ["gradient_x_activation", "joint", "integrated", "ablation"])
def test_before_a_mean_and_a_linear_map_shares_and_bias_are_the_logit(image_model, pictures, method):
    model, images = image_model("test_resnet", 64), pictures(3, 64)
    layer = "layer4"
    for target in (Target(3, "logit"), Target((1, 2, 9), "logit")):
        (own,) = shares(model, images, [target], [layer], method=method)[layer]
        index = torch.tensor(target.index if isinstance(target.index, tuple) else [target.index] * 3)
        torch.testing.assert_close(own.values.sum(1) + model.net.get_classifier().bias[index], own.scores)
        torch.testing.assert_close(own.gap, torch.zeros(3).double(), atol=1e-9, rtol=0)
        if method != "ablation":
            torch.testing.assert_close(own.maps.flatten(2).sum(2), own.values)


def test_maps_leave_out_what_lies_at_prefix_tokens(image_model, pictures):
    model = image_model("test_vit", 32, img_size=32)
    (own,) = shares(model, pictures(), [Target(0)], ["blocks.2"])["blocks.2"]
    with capture(model, ["blocks.2"]) as captured:
        model(pictures().requires_grad_(True)).sum()
    assert own.layer.prefix and own.maps.shape == (1, own.layer.channels, own.layer.height, own.layer.width)
    assert captured["blocks.2"].shape[1] == own.layer.prefix + own.layer.height * own.layer.width
    assert not torch.allclose(own.maps.flatten(2).sum(2), own.values)


def test_several_layers_and_targets_are_what_each_is_alone(image_model, pictures):
    model, images = image_model("test_efficientnet"), pictures(2)
    layers = ["blocks.1", "blocks.2", "conv_head"]
    together = shares(model, images, TARGETS, layers)
    for layer in layers:
        for target, one in zip(TARGETS, together[layer], strict=True):
            (alone,) = shares(model, images, [target], [layer])[layer]
            torch.testing.assert_close(one.values, alone.values, rtol=1e-12, atol=1e-12)
    one = together["blocks.1"][0]
    assert (one.values.gather(1, one.order()).diff() <= 0).all()


@each_layer
def test_channels_are_off_where_they_are_said_to_be_and_nowhere_else(network, pictures, name, settings, layer):
    model, images = network(name, settings), pictures(2)
    found = find_layer(model, layer)
    off = torch.zeros(2, found.channels, dtype=torch.bool)
    assert torch.equal(without(model, images, found, off), model(images))
    off[0, 1] = True
    fill = torch.arange(found.channels).double()
    seen = []
    handle = model.net.get_submodule(layer).register_forward_hook(lambda _m, _i, output: seen.append(output))
    region = torch.zeros(2, found.height, found.width, dtype=torch.bool) if found.height else None
    if region is not None:
        region[:, 1, 0] = True
    with capture(model, [layer]) as captured:
        model(images)
    before = captured[layer].detach()
    logits = without(model, images, found, off, fill=fill, region=region)
    handle.remove()
    moved = before.clone().movedim(channel_axis(found, before), 1)
    if region is None:
        moved[0, 1] = 1.0
    elif found.layout == "tokens":
        moved[0, 1, found.prefix + found.width] = 1.0
    else:
        moved[0, 1, 1, 0] = 1.0
    with replaced(model, layer, lambda _: moved.movedim(1, channel_axis(found, before))):
        torch.testing.assert_close(logits, model(images))
    assert torch.equal(logits[1], model(images)[1]) and not torch.equal(logits[0], model(images)[0])


@pytest.mark.parametrize(
    ("name", "layer", "once"),
    [("test_resnet", "layer2", True), ("test_vit", "blocks.1", True), ("densenet121", "features.denseblock3.denselayer5", False),
     ("swin_tiny_patch4_window7_224", "layers.1", True)],
)  # fmt: skip
def test_one_picture_runs_up_to_the_layer_once_where_the_network_goes_on_from_there(
    image_model, pictures, name, layer, once
):
    settings = {"test_vit": {"img_size": 64}, "swin_tiny_patch4_window7_224": {"img_size": 64, "window_size": 2}}
    model, image = image_model(name, 64, **settings.get(name, {})), pictures(1, 64)
    found = find_layer(model, layer)
    assert goes_on(model, found) == once
    off = torch.rand(4, found.channels, generator=torch.Generator().manual_seed(1))
    seen = []
    handle = model.net.get_submodule(layer).register_forward_hook(lambda _m, _i, output: seen.append(len(output)))
    torch.testing.assert_close(
        without(model, image, found, off), without(model, image.expand(4, -1, -1, -1), found, off)
    )
    handle.remove()
    assert seen == [1 if once else 4, 4]


class Table(nn.Module):
    """Numbers of its own, whatever the picture."""

    def __init__(self):
        super().__init__()
        self.numbers = nn.Parameter(torch.rand(1, 3, 8, 8))

    def forward(self, x):
        return self.numbers.expand(len(x), -1, -1, -1)


class WithTable(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.fc = Table(), nn.Linear(3, 3)

    def forward(self, x):
        return self.fc((x * self.table(x)).mean((2, 3)))


def test_a_layer_that_does_not_depend_on_the_picture_has_no_share_in_what_is_said_of_it(wrap, pictures):
    model = as_said(wrap(WithTable()), Said.from_dict({"layouts": {"table": "nchw"}}))
    (own,) = shares(model, pictures(2, 8), [Target(0)], ["table"])["table"]
    assert own.values.shape == (2, 3) and not own.values.any() and own.gap.abs().max() > 0


def test_what_is_not_defined_is_refused_in_a_sentence(image_model, pictures):
    model = image_model("test_resnet")
    with pytest.raises(UndefinedError, match="choose one of gradient_x_activation"):
        shares(model, pictures(), [Target(0)], ["layer2"], method="guess")
    with pytest.raises(UndefinedError, match="at least 2 points"):
        shares(model, pictures(), [Target(0)], ["layer2"], method="joint", steps=1)
    with pytest.raises(UndefinedError, match="has no layer"):
        shares(model, pictures(), [Target(0)], ["layer17"])
    layer = find_layer(model, "layer2")
    with pytest.raises(UndefinedError, match="channels, and which are off"):
        without(model, pictures(), layer, torch.zeros(1, 3, dtype=torch.bool))
    with pytest.raises(UndefinedError, match="places, and the region"):
        without(model, pictures(), layer, torch.zeros(1, layer.channels, dtype=torch.bool), region=torch.ones(1, 1, 1))
    with pytest.raises(UndefinedError, match="class"):
        shares(model, pictures(), [Target(10)], ["layer2"])
    assert set(METHODS) == {"gradient_x_activation", "joint", "integrated", "ablation", "activation"}
