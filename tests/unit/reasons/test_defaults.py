"""Which layer reasons are told of."""

import pytest
from torch import nn

from lsd.layers import deepest_grid
from lsd.reasons.defaults import default_layer


@pytest.mark.parametrize(
    ("name", "settings", "layer"),
    [("test_resnet", {}, "layer3"), ("test_vit", {"img_size": 32}, "blocks.4"), ("mobilenetv2_050", {}, "blocks.5"),
     ("resnet26", {}, "layer4.0"), ("convnext_atto", {}, "stages.3.blocks.0"),
     ("swin_tiny_patch4_window7_224", {"img_size": 64, "window_size": 2}, "layers.3.blocks.0")],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_it_is_what_enters_the_last_block(image_model, name, settings, layer):
    assert default_layer(image_model(name, settings.get("img_size", 64), **settings)) == layer


def test_of_a_network_of_one_stage_it_is_the_deepest_grid(wrap):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    model = wrap(net)
    assert default_layer(model) == deepest_grid(model).name
