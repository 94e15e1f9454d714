"""The handwritten methods held against Captum's over the families of timm, in both precisions."""

import dataclasses

import pytest
import torch

from benchmarks.families import CASES, METHODS, STEPS, nothing_to_compare
from lsd.errors import UndefinedError
from lsd.layers import deepest_grid, find_layer
from lsd.layout import to_grid
from lsd.models import ImageModel
from lsd.saliency import gradients as own
from lsd.saliency.crosscheck import TOLERANCE, crosscheck, relative_difference
from lsd.saliency.methods import attribute
from lsd.saliency.targets import Target


def test_the_families_are_many():
    families = {case.build().family for case in CASES[:1]} | {case.family for case in CASES}
    assert len(families) >= 30
    assert len(CASES) == len({case.name for case in CASES})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_handwritten_and_captum_agree(case):
    """Where Captum is refused, the list of expected refusals says so, and no other refusal passes."""
    model = case.build()
    assert model.family == case.family
    image = torch.rand(1, 3, case.size, case.size, generator=torch.Generator().manual_seed(0))
    deepest = deepest_grid(model)
    assert to_grid(deepest, torch.zeros(1, *_shape(deepest))).shape[2:] == (deepest.height, deepest.width)
    for dtype in (
        torch.float32,
        torch.float64,
    ):  # in this order: what is found out once a model is found as users have it
        model.to(dtype)
        for method, settings in METHODS.items():
            expected = nothing_to_compare(case, method, deepest)
            try:
                mine = attribute(method, model, image, Target(3), **settings)
            except UndefinedError as error:
                assert expected and expected in str(error), f"{method}: {error}"
                continue
            assert mine.values.abs().max() > 0, f"{method}: a map of nothing agrees with anything"
            result = crosscheck(model, image, Target(3), method, mine=mine, **settings)
            if expected:
                assert expected in result.reason, f"{method}: {result.reason or 'compared, though not expected'}"
            else:
                assert result.agrees, f"{method}, {dtype}: {result.difference} {result.reason}"


def _shape(layer):
    return {
        "nchw": (layer.channels, layer.height, layer.width),
        "nhwc": (layer.height, layer.width, layer.channels),
        "tokens": (layer.prefix + layer.height * layer.width, layer.channels),
    }[layer.layout]


def test_gauss_legendre_differs_by_the_rounding_of_captums_weights(image_model, pictures):
    """Captum keeps its quadrature's weights in fp32; that is why the table compares the midpoint rule."""
    model = image_model("test_resnet")
    gauss = crosscheck(model, pictures(), Target(3), "integrated_gradients", steps=8)
    midpoint = crosscheck(model, pictures(), Target(3), "integrated_gradients", steps=8, quadrature_kind="midpoint")
    assert midpoint.agrees and midpoint.difference < 1e-12
    assert 1e-12 < gauss.difference <= 1e-6


@pytest.mark.parametrize("antithetic", [True, False])
def test_sampled_methods_are_compared_without_what_captum_lacks(image_model, pictures, antithetic):
    model, x = image_model("test_resnet"), pictures()
    settings = {"samples": 8, "antithetic": antithetic, "tolerance": 0.5, "batch_size": 4}
    mine = own.smoothgrad(model, x, Target(3), **settings)
    assert crosscheck(model, x, Target(3), "smoothgrad", mine=mine, **settings).agrees


@pytest.mark.parametrize("size", [31, 33])
def test_noise_is_the_same_for_any_size_of_picture(image_model, pictures, size):
    """PyTorch fills tensors in blocks of 16, so Captum's noise for several copies is not that of one after the other."""
    model = image_model("test_resnet", size)
    assert crosscheck(model, pictures(1, size), Target(3), "smoothgrad", samples=8).agrees


def test_an_attribution_that_is_there_already_is_what_is_compared(image_model, pictures):
    model, x = image_model("test_resnet"), pictures()
    mine = own.gradient(model, x, Target(3))
    wrong = dataclasses.replace(mine, values=mine.values * 1.001)
    assert crosscheck(model, x, Target(3), "gradient", mine=mine).agrees
    check = crosscheck(model, x, Target(3), "gradient", mine=wrong)
    assert check.agrees is False and check.difference == pytest.approx(1e-3)


@pytest.mark.parametrize("method", ["gradient", "guided_backprop", "grad_cam"])
def test_a_wrong_handwritten_method_is_found_out(image_model, pictures, method, monkeypatch):
    monkeypatch.setattr(own, "differentiate", lambda *args, f=own.differentiate: tuple(v * 1.01 for v in f(*args)))
    monkeypatch.setattr("lsd.saliency.gradients.to_grid", lambda layer, a: 1.01 * to_grid(layer, a))
    assert crosscheck(image_model("test_resnet"), pictures(), Target(3), method).agrees is False


def test_a_wrong_fusion_is_found_out(image_model, pictures, monkeypatch):
    monkeypatch.setattr(own, "fuse", lambda parts, f=own.fuse: f([parts[0], *(1.001 * part for part in parts[1:])]))
    assert crosscheck(image_model("test_resnet"), pictures(), Target(3), "depth_fusion").agrees is False


def test_a_method_of_one_side_alone_has_nothing_to_compare_with(image_model, pictures):
    check = crosscheck(image_model("test_resnet"), pictures(), Target(3), "captum:occlusion")
    assert check.difference is None and check.agrees is None and "no such method" in check.reason


def test_captums_noise_is_not_compared_on_another_device(image_model, pictures, monkeypatch):
    monkeypatch.setattr(ImageModel, "device", torch.device("cuda"))
    check = crosscheck(image_model("test_resnet"), pictures(), Target(3), "smoothgrad", samples=2)
    assert check.agrees is None and "cuda device" in check.reason


def test_the_tolerance_follows_the_precision(image_model, pictures):
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        check = crosscheck(image_model("test_resnet", dtype=dtype), pictures(), Target(3), "gradient")
        assert check.tolerance == tolerance == TOLERANCE[dtype] and check.agrees


def test_relative_difference_of_nothing():
    zero, one = torch.zeros(3), torch.ones(3)
    assert relative_difference(zero, zero) == 0
    assert relative_difference(one, zero) == float("inf")
    assert relative_difference(1.5 * one, one) == 0.5


def test_what_is_not_defined_by_hand_is_raised_not_told(image_model, pictures):
    with pytest.raises(UndefinedError, match="GELU"):
        crosscheck(image_model("test_convnext"), pictures(), Target(3), "guided_backprop")


def test_steps_of_the_table_have_weights_that_fp32_holds_exactly():
    assert float(torch.tensor(1 / STEPS, dtype=torch.float32)) == 1 / STEPS


def test_find_layer_gives_back_what_deepest_grid_found(image_model):
    model = image_model("test_resnet", 64)
    assert find_layer(model, deepest_grid(model).name) == deepest_grid(model)
