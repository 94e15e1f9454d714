"""Ascents from a photo, and towards one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ascent_fixture import SMALL, pictures

from lsd.errors import UndefinedError
from lsd.features.ascent import ascend


def photo(size=96, seed=0):
    small = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, (size, size), mode="bicubic").clamp(0.02, 0.98)


@pytest.mark.parametrize("parameterization", ["pixels", "fourier"])
def test_a_start_from_a_photo_is_the_photo(demo, parameterization):
    recipe = replace(SMALL, parameterization=parameterization, steps=1, learning_rate=1e-6)
    (picture,) = pictures(demo("resnet"), ["layer2/layer"], recipe, photo=photo(), start_from_photo=True)
    assert np.abs(picture.pixels / 255 - photo()[0].permute(1, 2, 0).numpy()).max() < 0.01


def test_a_start_from_a_photo_keeps_its_detail_under_coarse_stages(demo):
    detailed = (photo() + 0.3 * (torch.arange(96) % 2 - 0.5)).clamp(0.02, 0.98)  # stripes a pixel wide
    recipe = replace(SMALL, parameterization="fourier", steps=4, learning_rate=1e-6, stages=((0.5, 0.5), (0.5, 1.0)))
    (picture,) = pictures(demo("resnet"), ["layer2/layer"], recipe, photo=detailed, start_from_photo=True)
    assert np.abs(picture.pixels / 255 - detailed[0].permute(1, 2, 0).numpy()).max() < 0.01


def test_a_photo_of_another_size_is_resized(demo):
    recipe = replace(SMALL, steps=1, learning_rate=1e-6)
    (picture,) = pictures(demo("resnet"), ["layer2/layer"], recipe, photo=photo(150), start_from_photo=True)
    assert np.abs(picture.pixels / 255 - photo(150 - 54)[0].permute(1, 2, 0).numpy()).mean() < 0.02


def test_from_a_photo_a_layer_is_made_stronger(demo):
    """DeepDream."""
    (picture,) = pictures(demo("resnet"), ["layer2/layer"], SMALL, photo=photo(), start_from_photo=True)
    assert picture.trace[-1] > 1.2 * picture.trace[0]


def test_an_inversion_comes_nearer_to_the_photo(demo):
    recipe = replace(SMALL, steps=60, parameterization="fourier", sd=0.01)
    (picture,) = pictures(demo("resnet"), ["layer1/inversion"], recipe, photo=photo())
    assert picture.trace[0] < -0.3 and picture.trace[-1] > 0.4 * picture.trace[0]  # 0 is the photo itself


def test_a_caricature_goes_beyond_the_photo(demo):
    (picture,) = pictures(demo("resnet"), ["layer2/caricature"], SMALL, photo=photo(), start_from_photo=True)
    assert picture.trace[0] == pytest.approx(1, abs=0.02) and picture.trace[-1] > 1.1


@pytest.mark.parametrize("unit, more", [
    ("layer2/inversion", {}), ("class/1 + layer2/caricature", {}), ("class/1", {"start_from_photo": True}),
])  # fmt: skip
def test_without_a_photo_what_needs_one_is_refused(demo, unit, more):
    with pytest.raises(UndefinedError, match="need a photo; give one"):
        next(ascend(demo("resnet"), [unit], SMALL, **more))
