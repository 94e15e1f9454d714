import time

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from lsd.errors import LSDError, UndefinedError
from lsd.images import ENLARGING
from lsd.saliency.maps import CHANNELS, SCALES, SIGNS, MapSettings, sign_instead, to_map

DEFINED = [
    MapSettings(sign=sign, channels=channels, scale=scale)
    for sign in SIGNS
    for channels in CHANNELS
    for scale in SCALES
    if sign != "signed" or channels in ("max", "sum")
]
settings_defined = st.sampled_from(DEFINED)
attributions = arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    elements=st.floats(-1e6, 1e6, width=32),
)

# One pixel of three channels: (2, -5, 1).
PIXEL = np.array([2.0, -5.0, 1.0]).reshape(1, 3, 1, 1)
FULL = {"clip": 100.0, "scale": "shared"}  # divides by the largest, here by the 10 of `reduced`


def reduced(values, sign, channels):
    """The value before scaling, read against a second map whose pixel is 10 under every setting."""
    ten = np.zeros_like(values)
    ten[:, 0] = -10 if sign == "negative" else 10
    return 10 * to_map(np.concatenate([values, ten]), MapSettings(sign=sign, channels=channels, **FULL))[0, 0, 0]


@pytest.mark.parametrize(
    ("sign", "channels", "expected"),
    [
        ("abs", "max", 5),
        ("abs", "l2", 30**0.5),
        ("abs", "sum_abs", 8),
        ("abs", "sum", 2),
        ("positive", "max", 2),
        ("positive", "l2", 5**0.5),
        ("positive", "sum_abs", 3),
        ("positive", "sum", 0),
        ("negative", "max", 5),
        ("negative", "l2", 5),
        ("negative", "sum_abs", 5),
        ("negative", "sum", 2),
        ("signed", "max", -5),
        ("signed", "sum", -2),
    ],
)
def test_each_sign_and_reduction_by_hand(sign, channels, expected):
    assert reduced(PIXEL, sign, channels) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("channels", ["l2", "sum_abs"])
def test_magnitudes_have_no_sign(channels):
    with pytest.raises(UndefinedError, match="choose channels 'max' or 'sum'"):
        MapSettings(sign="signed", channels=channels)


@given(arrays(np.float32, (2, 1, 4, 5), elements=st.floats(-1e6, 1e6, width=32)), st.sampled_from(SIGNS))
def test_with_one_channel_the_reductions_coincide(values, sign):
    maps = [to_map(values, s) for s in DEFINED if s.sign == sign and s.scale == "image"]
    for other in maps[1:]:
        np.testing.assert_allclose(maps[0], other, atol=1e-6)


@given(attributions, settings_defined)
def test_shape_type_and_range(values, settings):
    maps = to_map(values, settings)
    assert maps.shape == (values.shape[0], *values.shape[2:]) and maps.dtype == np.float32
    assert np.isfinite(maps).all()
    assert maps.max() <= 1 and maps.min() >= (-1 if settings.sign == "signed" else 0)


@given(attributions, settings_defined, st.integers(-60, 60))
def test_the_unit_of_the_attribution_does_not_matter(values, settings, exponent):
    scaled = values.astype(np.float64) * 2.0**exponent  # exact in binary
    np.testing.assert_array_equal(to_map(values, settings), to_map(scaled, settings))


def test_faint_gradients_do_not_underflow():
    values = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    for settings in DEFINED:
        np.testing.assert_allclose(
            to_map(values * np.float32(1e-30), settings, (16, 16)), to_map(values, settings, (16, 16)), atol=1e-5
        )


@given(attributions, settings_defined, st.randoms(use_true_random=False))
def test_the_order_of_the_batch_does_not_matter(values, settings, random):
    order = list(range(len(values)))
    random.shuffle(order)
    np.testing.assert_array_equal(to_map(values, settings)[order], to_map(values[order], settings))


@given(attributions, settings_defined.filter(lambda s: s.scale != "shared"))
def test_unless_shared_a_map_does_not_depend_on_its_company(values, settings):
    np.testing.assert_array_equal(to_map(values, settings)[:1], to_map(values[:1], settings))


@given(attributions, st.sampled_from([s for s in DEFINED if s.sign == "signed"]))
@example(np.array([[[[-1.0]], [[1.0]]]], np.float32), MapSettings(sign="signed", channels="max"))
def test_turning_the_attribution_turns_a_signed_map(values, settings):
    np.testing.assert_array_equal(to_map(-values, settings), -to_map(values, settings))


@given(attributions, st.sampled_from(CHANNELS), st.sampled_from(SCALES))
def test_negative_is_the_positive_of_the_opposite(values, channels, scale):
    negative, positive = (MapSettings(sign=sign, channels=channels, scale=scale) for sign in ("negative", "positive"))
    np.testing.assert_array_equal(to_map(values, negative), to_map(-values, positive))


@pytest.mark.parametrize(
    ("values", "sign", "channels", "other"),
    [
        ([-1, -2, -3], "positive", "max", "negative"),
        ([-1, -2, -3], "negative", "max", ""),
        ([-1, -2, -3], "signed", "max", ""),
        ([1, 2, 0], "negative", "l2", "positive"),
        ([1, -2, 0], "positive", "max", ""),
        ([1, -2, 0], "positive", "sum", "negative"),  # the sum takes the channels together first
        ([0, 0, 0], "positive", "max", ""),
    ],
)
def test_where_a_sign_leaves_nothing_the_other_is_named(values, sign, channels, other):
    values = np.array(values, np.float32).reshape(3, 1, 1)
    assert sign_instead(values, MapSettings(sign, channels)) == other


@pytest.mark.parametrize("settings", DEFINED, ids=str)
def test_zero_stays_zero(settings):
    values = np.zeros((2, 3, 5, 4))
    assert not to_map(values, settings, (9, 9)).any()
    values[1, 0, 2, 2] = 1 if settings.sign != "negative" else -1
    maps = to_map(values, settings)
    assert not maps[0].any() and maps[1, 2, 2] == pytest.approx(1)


def test_image_and_shared_scale():
    values = np.random.default_rng(0).normal(size=(1, 3, 20, 20))
    values = np.concatenate([values, values / 4])
    alone = to_map(values, MapSettings(scale="image"))
    np.testing.assert_allclose(alone[0], alone[1], atol=1e-6)
    shared = to_map(values, MapSettings(scale="shared", clip=100.0))
    np.testing.assert_allclose(shared[0], 4 * shared[1], atol=1e-6)
    assert shared[0].max() == 1


def test_clip_is_a_percentile_of_magnitudes():
    values = np.linspace(-100, 100, 201).reshape(1, 1, 3, 67)
    for clip in (60.0, 99.0, 100.0):
        expected = np.clip(values[0] / np.percentile(np.abs(values), clip), -1, 1)
        np.testing.assert_allclose(to_map(values, MapSettings(sign="signed", clip=clip, blur=0)), expected, atol=1e-6)


def test_a_map_sparser_than_the_percentile_still_shows():
    values = np.zeros((1, 1, 100, 100))
    values[0, 0, 3, :2] = 2, 4
    maps = to_map(values, MapSettings(blur=0))
    assert maps[0, 3, :2].tolist() == [0.5, 1.0] and maps.sum() == 1.5


@given(arrays(np.float32, (2, 1, 4, 5), elements=st.integers(-4, 4).map(float)))
def test_ranks_are_scipys(values):
    ranks = np.stack([rankdata(np.abs(v)).reshape(v.shape[1:]) / v.size for v in values])
    np.testing.assert_allclose(
        to_map(values, MapSettings(sign="signed", blur=0, scale="rank")), np.sign(values[:, 0]) * ranks, atol=1e-6
    )


def test_size_then_blur_then_scale():
    from scipy.ndimage import gaussian_filter

    values = np.random.default_rng(0).normal(size=(2, 1, 7, 7))
    maps = to_map(values, MapSettings(sign="signed", blur=3.0, clip=100.0), (56, 42))
    assert maps.shape == (2, 56, 42)
    np.testing.assert_allclose(np.abs(maps).max(axis=(1, 2)), 1, atol=1e-6)
    plain = to_map(values, MapSettings(sign="signed", clip=100.0, blur=0), (56, 42))
    for blurred, sharp in zip(maps, plain, strict=True):
        expected = gaussian_filter(sharp, 3.0)
        np.testing.assert_allclose(blurred, expected / np.abs(expected).max(), atol=1e-5)


def test_a_coarse_block_stays_in_place():
    values = np.zeros((1, 1, 7, 7))
    values[0, 0, 2, 4] = 1
    maps = to_map(values, MapSettings(clip=100.0), (224, 224))[0]
    y, x = np.mgrid[:224, :224] + 0.5
    assert (maps * x).sum() / maps.sum() == pytest.approx(4.5 * 32, abs=1e-3)
    assert (maps * y).sum() / maps.sum() == pytest.approx(2.5 * 32, abs=1e-3)


def test_ways_to_enlarge():
    values = np.zeros((1, 1, 7, 7))
    values[0, 0, 2, 4] = 1
    maps = {
        how: to_map(values, MapSettings("positive", clip=100.0, blur=0, upsampling=how), (56, 56))[0]
        for how in ENLARGING
    }
    assert maps["nearest"].sum() == 64 and maps["nearest"][16:24, 32:40].all()  # the place itself, and nothing else
    assert (maps["bilinear"] > 0).sum() == 16**2 < (maps["bicubic"] > 0).sum()
    assert all(one.min() == 0 and one.max() == pytest.approx(1) for one in maps.values())
    signed = to_map(values, MapSettings("signed", clip=100.0, blur=0, upsampling="bicubic"), (56, 56))[0]
    assert signed.min() < -0.05  # it overshoots, and a signed map shows it
    with pytest.raises(LSDError, match="upsampling 'cubic' is unknown"):
        MapSettings(upsampling="cubic")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("settings", DEFINED, ids=str)
def test_what_is_not_finite_is_refused(bad, settings):
    values = np.zeros((1, 3, 4, 4), np.float32)
    values[0, 1, 2, 3] = bad
    with pytest.raises(LSDError, match="not finite"):
        to_map(values, settings)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sign", "both"),
        ("channels", "mean"),
        ("scale", "global"),
        ("clip", 50),
        ("clip", 100.1),
        ("clip", float("nan")),
        ("clip", "99"),
        ("clip", None),
        ("blur", -1),
        ("blur", float("inf")),
        ("blur", True),
    ],
)
def test_bad_settings_are_refused_by_name(key, value):
    with pytest.raises(LSDError, match=key):
        MapSettings(**{key: value})


@pytest.mark.parametrize("settings", [*DEFINED, MapSettings(clip=80, blur=2.5)], ids=str)
def test_settings_survive_a_dictionary(settings):
    assert MapSettings.from_dict(settings.to_dict()) == settings


def test_unknown_keys_are_refused_by_name():
    with pytest.raises(LSDError, match="'sing'"):
        MapSettings.from_dict({"sing": "abs"})
    assert MapSettings.from_dict({}) == MapSettings()


def test_it_is_fast():
    values = np.random.default_rng(0).normal(size=(4, 3, 224, 224)).astype(np.float32)

    def seconds():
        start = time.perf_counter()
        to_map(values, MapSettings())
        return time.perf_counter() - start

    assert min(seconds() for _ in range(10)) < 0.03
