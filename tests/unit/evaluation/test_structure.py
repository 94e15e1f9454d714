"""Networks that differ in size alone are one structure; all others are not."""

import pytest
from torch import nn

from lsd.evaluation import conform
from lsd.evaluation.structure import structure


class Block(nn.Module):
    def __init__(self, width, act=nn.ReLU, shift=0, fused=True, kernel=3, bias=True):
        super().__init__()
        self.conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=bias)
        self.act, self.shift, self.fused, self.width = act(), shift, fused, width


def net(depth=2, width=8, **more):
    return nn.Sequential(*(Block(width, **more) for _ in range(depth)))


def test_depth_and_width_are_no_difference():
    assert structure(net()) == structure(net(5, 32))


@pytest.mark.parametrize("more", [
    {"act": nn.GELU}, {"shift": 4}, {"fused": False}, {"kernel": 5}, {"bias": False},
], ids=str)  # fmt: skip
def test_all_else_is(more):
    assert structure(net()) != structure(net(**more))


def test_one_block_of_another_kind_is_a_difference():
    assert structure(net()) != structure(nn.Sequential(*net(), Block(8, nn.GELU)))


@pytest.mark.parametrize("one, other, alike", [
    ("resnet18", "resnet34", True), ("resnet18", "resnet50", False), ("vit_tiny_patch16_224", "vit_large_patch16_384", True),
    ("vit_tiny_patch16_224", "vit_base_patch16_clip_224", False),
    ("swin_tiny_patch4_window7_224", "swin_base_patch4_window7_224", True),
])  # fmt: skip
def test_architectures_of_timm(one, other, alike):
    assert (conform.look(one)["structure"] == conform.look(other)["structure"]) is alike
