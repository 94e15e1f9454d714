"""Factors and levels: the defaults are those that ship, and a variant is drawn as it says."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from lsd.errors import LSDError
from lsd.evaluation.controls import CONTROLS
from lsd.evaluation.variants import (
    CONTROL_VARIANTS,
    FACTORS,
    GRID,
    SMOOTH_SAMPLES,
    SMOOTH_SIGMA,
    Drawing,
    Source,
    draw,
    grid,
    random_twin,
    variants,
)
from lsd.saliency import defaults
from lsd.saliency.explain import TargetSpec
from lsd.saliency.maps import MapSettings, to_map
from lsd.saliency.methods import METHODS
from lsd.saliency.targets import KINDS


def default_of(name):
    (variant,) = (v for v in FACTORS[name].levels if v.level == FACTORS[name].default)
    return variant


def setting(method, name):
    (found,) = (s.default for s in METHODS[method].settings if s.name == name)
    return found


@pytest.fixture
def image():
    return np.random.default_rng(0).random((3, 56, 56)).astype(np.float32)


@pytest.fixture
def values():
    return np.random.default_rng(1).standard_normal((3, 56, 56))


def test_the_default_levels_are_what_ships():
    shipped = MapSettings()
    assert default_of("method").source == Source(defaults.METHOD, TargetSpec().kind)
    assert default_of("output").source.kind == TargetSpec().kind == Source.kind
    for name in ("sign", "channels", "upsampling"):
        assert FACTORS[name].default == getattr(shipped, name) == getattr(default_of(name).drawing, name)
    for name in ("clip", "blur"):
        assert float(FACTORS[name].default) == getattr(shipped, name) == getattr(default_of(name).drawing, name)
    for method in ("smoothgrad", "smoothgrad_squared", "vargrad"):
        assert setting(method, "samples") == SMOOTH_SAMPLES and setting(method, "sigma") == SMOOTH_SIGMA
    assert int(FACTORS["samples"].default) == SMOOTH_SAMPLES and float(FACTORS["sigma"].default) == SMOOTH_SIGMA
    smooth = (("samples", SMOOTH_SAMPLES), ("sigma", SMOOTH_SIGMA))
    assert default_of("samples").source == default_of("sigma").source == Source("smoothgrad", settings=smooth)
    for name, factor in FACTORS.items():
        for base in factor.bases if not default_of(name).source.settings else ():
            default = factor.on("" if base == factor.bases[0] else base, factor.default)
            assert default.source == Source(base) and default.drawing == Drawing(sign=METHODS[base].sign)
        assert (
            factor.bases[:1] in ((defaults.METHOD,), ("gradient",), ("grad_cam",), ("smoothgrad",)) or name == "method"
        )
    assert default_of("upsampling").drawing == Drawing(sign=METHODS["grad_cam"].sign)
    shared = {"sign", "channels", "clip", "blur", "upsampling"}
    assert {f for f in Drawing.__dataclass_fields__ if hasattr(MapSettings, f)} == shared
    assert all(getattr(Drawing(), name) == getattr(shipped, name) for name in shared)


def test_bicubic_enlarging_is_what_ships(image):
    coarse = np.random.default_rng(2).standard_normal((1, 7, 7))
    enlarged = to_map(coarse[None], MapSettings("positive", clip=100, blur=0), (56, 56))[0]
    torchs = interpolate(torch.from_numpy(coarse)[None].clamp(min=0), (56, 56), mode="bicubic")[0, 0].numpy().clip(0)
    np.testing.assert_allclose(enlarged, torchs / torchs.max(), atol=1e-6)
    default = default_of("upsampling").drawing
    assert np.array_equal(draw(coarse, default, image), to_map(coarse[None], MapSettings("positive"), (56, 56))[0])


def test_names_are_unique():
    assert max(Counter(v.name for v in [*variants(), *grid()]).values()) == 1
    assert all(v.name == f"{name}/{v.level}" for name, factor in FACTORS.items() for v in factor.levels)
    for name, factor in FACTORS.items():  # every level on every base
        assert [v.level for v in factor.variants] == [v.level for v in factor.levels] * max(1, len(factor.bases))
        others = [v for v in factor.variants if v.base]
        assert all(v.name == f"{name}/{v.level}@{v.source.method}" for v in others)
    assert {v.source.control for v in CONTROL_VARIANTS} == set(CONTROLS) == {v.level for v in CONTROL_VARIANTS}


def test_what_levels_differ_in():
    for factor in FACTORS.values():
        assert len({(v.source, v.drawing) for v in factor.levels}) == len(factor.levels)
        if factor.drawn:
            for base in {v.base for v in factor.variants}:
                assert len({v.source for v in factor.variants if v.base == base}) == 1
    for variant in FACTORS["method"].levels:
        assert variant.drawing == Drawing(sign=METHODS[variant.source.method].sign)
        METHODS[variant.source.method].parse(dict(variant.source.settings))  # the settings are the method's
    assert {v.source.kind for v in FACTORS["output"].levels} == set(KINDS)


def test_each_drawn_level_has_noise_drawn_alike():
    found = {v.name: v for v in variants()}
    for factor in FACTORS.values():
        for variant in factor.levels:
            assert (f"random/{variant.name}" in found) == factor.drawn
            twin = random_twin(variant)
            noise = "random coarse" if factor.name == "upsampling" else "random"
            assert twin.source == Source(f"control:{noise}") and twin.drawing == variant.drawing
            assert not factor.drawn or found[twin.name] == twin
        for variant in factor.variants:  # noise has one sign, so the bases' own do not differ on it
            same = {random_twin(v).name for v in factor.variants if v.level == variant.level}
            assert same == {f"random/{factor.name}/{variant.level}"}


def test_what_takes_many_passes_is_dear():
    cheap = {v.level for v in FACTORS["method"].levels if not v.source.dear}
    cams = {"hires_cam", "grad_cam_plus_plus", "finer_cam", "layer_cam", "refine_cam", "refine_cam:grad_cam_plus_plus"}
    of_transformers = {name for name, method in METHODS.items() if method.for_transformers}
    of_all = {"gradient", "gradient_x_input", "guided_backprop", "deconvnet", "grad_cam", "depth_fusion"}
    assert cheap == of_all | cams | of_transformers
    assert not any(v.source.dear for v in [*grid(), *CONTROL_VARIANTS])
    assert all(v.source.dear for name in ("samples", "sigma") for v in FACTORS[name].levels)


def test_the_grid_is_the_full_product_of_levels_that_the_factors_have():
    found = grid()
    assert [v.level for v in found] == [",".join(levels) for levels in itertools.product(*GRID.values())]
    assert len({(v.source, v.drawing) for v in found}) == np.prod([len(levels) for levels in GRID.values()])
    for name, levels in GRID.items():
        assert FACTORS[name].default in levels and set(levels) <= {v.level for v in FACTORS[name].levels}
    known = {v.level: v for v in found}
    default = known[",".join(FACTORS[name].default for name in GRID)]
    assert (default.source, default.drawing) == (Source("gradient"), Drawing())
    for place, (name, levels) in enumerate(GRID.items()):  # one factor moved is that factor's own level
        for level in levels:
            moved = known[",".join(level if i == place else FACTORS[n].default for i, n in enumerate(GRID))]
            (own,) = (v for v in FACTORS[name].variants if v.level == level and v.source.method == "gradient")
            assert (moved.source, moved.drawing) == (own.source, own.drawing)


@pytest.mark.parametrize("sign", ["abs", "positive", "negative"])
@pytest.mark.parametrize("channels", ["max", "l2", "sum_abs", "sum"])
def test_drawing_is_to_map(image, values, sign, channels):
    drawn = draw(values, Drawing(sign, channels, clip=95.0), image)
    assert drawn.dtype == np.float32 and drawn.shape == (56, 56)
    assert np.array_equal(drawn, to_map(values[None], MapSettings(sign, channels, 95.0))[0])


def test_the_default_drawing_is_the_default_map(image, values):
    assert np.array_equal(draw(values, Drawing(), image), to_map(values[None], MapSettings())[0])


def test_times_input(image, values):
    drawn = draw(values, Drawing(times_input=True), image)
    assert np.array_equal(drawn, to_map((values * image)[None], MapSettings())[0])
    one = values[:1]  # a map of one channel meets all three of the picture's
    assert np.array_equal(draw(one, Drawing(times_input=True), image), to_map((one * image)[None], MapSettings())[0])


def test_blur_is_in_pixels_as_it_ships(values):
    for height, width in ((56, 56), (28, 56), (56, 28)):
        image, own = np.zeros((3, height, width), np.float32), values[:, :height, :width]
        drawn = draw(own, Drawing(blur=4.0), image)
        assert np.array_equal(drawn, to_map(own[None], MapSettings(blur=4.0))[0])
    (eight,) = (v.drawing for v in FACTORS["blur"].levels if v.level == "8")
    large = np.random.default_rng(0).standard_normal((1, 224, 224))
    drawn = draw(large, eight, np.zeros((3, 224, 224), np.float32))
    assert np.array_equal(drawn, to_map(large[None], MapSettings(eight.sign, blur=8.0))[0])


@pytest.mark.parametrize("coarse, block", [(1, 1), (4, 1), (8, 2), (16, 4)])  # of 56 pixels, a quarter of 224
def test_a_coarse_map_is_shrunk_and_enlarged(image, values, coarse, block):
    drawn, fine = draw(values, Drawing(coarse=coarse), image), draw(values, Drawing(), image)
    side = 56 // block
    small = interpolate(torch.from_numpy(fine)[None, None], (side, side), mode="bilinear", antialias=True)
    expected = interpolate(small, (56, 56), mode="bilinear")[0, 0].numpy()
    np.testing.assert_allclose(drawn, expected, atol=1e-5)
    assert (block == 1) == np.array_equal(drawn, fine)


def test_a_coarse_map_keeps_what_is_flat_and_where_things_are(image):
    np.testing.assert_allclose(draw(np.ones((1, 56, 56)), Drawing(coarse=16), image), 1, atol=1e-6)
    spot = np.zeros((1, 56, 56))
    spot[0, 8:12, 40:44] = 1  # one block of 4
    drawn = draw(spot, Drawing(coarse=16, blur=0), image)
    assert drawn.max() == drawn[10, 42] > 0.4 and drawn.sum() == pytest.approx(spot.sum(), rel=0.01)
    assert not drawn[20:].any() and not drawn[:, :30].any()


@pytest.mark.parametrize("how", ["nearest", "bicubic"])
def test_other_ways_to_enlarge(image, how):
    coarse = np.random.default_rng(3).standard_normal((1, 7, 7))
    torchs = interpolate(torch.from_numpy(coarse)[None].clamp(min=0), (56, 56), mode=how)[0].numpy()
    drawn = draw(coarse, Drawing("positive", upsampling=how), image)
    np.testing.assert_allclose(drawn, to_map(torchs[None], MapSettings("positive"))[0], atol=1e-6)
    if how == "nearest":
        sharp = draw(coarse, Drawing("positive", upsampling=how, blur=0), image)
        assert np.array_equal(sharp, sharp[4::8, 4::8].repeat(8, 0).repeat(8, 1))
    fine = np.random.default_rng(4).standard_normal((3, 56, 56))  # nothing to enlarge
    assert np.array_equal(draw(fine, Drawing(upsampling=how), image), draw(fine, Drawing(), image))


def test_what_is_not_finite_is_refused(image, values):
    values[0, 0, 0] = np.nan
    with pytest.raises(LSDError, match="not finite"):
        draw(values, Drawing(), image)
