"""Shares of heads and places against central differences, Captum, and heads that are really switched off."""

import captum.attr
import pytest
import torch

from lsd.errors import UndefinedError
from lsd.layers import find_layer
from lsd.reasons.heads import head_shares, without_heads
from lsd.reasons.shares import shares
from lsd.reasons.switch import place_off, without
from lsd.saliency.targets import Target
from lsd.tracing import replaced

NETWORKS = [
    ("test_vit", {"img_size": 32}, "blocks.3.attn"),
    ("swin_tiny_patch4_window7_224", {"img_size": 64, "window_size": 2}, "layers.1.blocks.1.attn"),
]
TARGETS = [Target(3), Target(2, "contrast", 5)]
each_network = pytest.mark.parametrize(("name", "settings", "layer"), NETWORKS, ids=["vit", "swin"])


@each_network
def test_a_heads_share_is_the_slope_as_it_alone_is_scaled_and_captums(image_model, pictures, name, settings, layer):
    size = settings["img_size"]
    model, images = image_model(name, size, **settings), pictures(2, size)
    for own, target in zip(head_shares(model, images, TARGETS, layer), TARGETS, strict=True):
        heads = own.values.shape[1]
        assert heads > 1 and own.target == target
        torch.testing.assert_close(own.scores, target(model(images)))
        for head in range(heads):
            off = torch.zeros(2, heads).double()
            off[:, head] = 1e-5
            up, down = (target(without_heads(model, images, layer, sign * off)) for sign in (-1, 1))
            torch.testing.assert_close(own.values[:, head], (up - down) / 2e-5, rtol=1e-5, atol=1e-9)
        captums = captum.attr.LayerGradientXActivation(
            lambda x, t=target: t(model(x)), model.net.get_submodule(f"{layer}.proj")
        )
        values = captums.attribute(images, attribute_to_layer_input=True)
        values = values[0] if isinstance(values, tuple) else values
        summed = values.reshape(2, -1, heads, values.shape[-1] // heads).sum((1, 3))
        torch.testing.assert_close(own.values, summed.detach())


@each_network
def test_a_head_that_is_off_puts_zeros_where_its_output_enters_the_projection(
    image_model, pictures, name, settings, layer
):
    size = settings["img_size"]
    model, images = image_model(name, size, **settings), pictures(2, size)
    heads = head_shares(model, images, TARGETS[:1], layer)[0].values.shape[1]
    off = torch.zeros(2, heads, dtype=torch.bool)
    torch.testing.assert_close(without_heads(model, images, layer, off), model(images))
    off[1, 1] = True
    logits = without_heads(model, images, layer, off)
    torch.testing.assert_close(logits[0], model(images)[0])

    def change(given):
        given = given.clone()
        width = given.shape[-1] // heads
        given[..., width : 2 * width] = 0
        return given

    with replaced(model, f"{layer}.proj", change, inside=True):
        torch.testing.assert_close(logits[1], model(images)[1])
    with pytest.raises(UndefinedError, match=f"has {heads} heads"):
        without_heads(model, images, layer, off[:, :1])


def test_a_layer_without_heads_says_so(image_model, pictures):
    with pytest.raises(UndefinedError, match="no attention"):
        head_shares(image_model("test_resnet", 32), pictures(1), TARGETS, "layer1")


@pytest.mark.parametrize(
    ("name", "settings", "layer"),
    [("test_resnet", {}, "layer2"), ("test_vit", {"img_size": 64}, "blocks.2"),
     ("swin_tiny_patch4_window7_224", {"img_size": 64, "window_size": 2}, "layers.1")],
    ids=["nchw", "tokens", "nhwc"],
)  # fmt: skip
def test_a_places_share_is_what_is_lost_to_first_order_as_it_is_switched_off(
    image_model, pictures, name, settings, layer
):
    size = settings.get("img_size", 32)
    model, image = image_model(name, size, **settings), pictures(1, size)
    (own,) = shares(model, image, TARGETS[:1], [layer])[layer]
    found = find_layer(model, layer)
    assert own.places.shape == (1, found.height, found.width)
    for row, column in ((0, 0), (1, 2), (found.height - 1, found.width - 1)):
        off = 1e-5 * place_off(found, row, column).double()[None]
        up, down = (own.target(without(model, image, found, sign * off)) for sign in (-1, 1))
        torch.testing.assert_close(own.places[:, row, column], (up - down) / 2e-5, rtol=1e-5, atol=1e-9)
    with pytest.raises(UndefinedError, match="and none at"):
        place_off(found, found.height, 0)
