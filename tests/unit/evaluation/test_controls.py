import numpy as np
import pytest

from lsd.evaluation.controls import CONTROLS, NOISE

SIZES = [(28, 28), (28, 41), (56, 33)]


def picture(size, seed=0):
    return np.random.default_rng(seed).random((3, *size)).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CONTROLS)
def test_every_control_is_a_map(name, size):
    saliency = CONTROLS[name](picture(size), 0)
    assert saliency.shape == size and saliency.dtype == np.float64
    assert np.isfinite(saliency).all() and saliency.min() >= 0 and np.ptp(saliency) > 0


def test_the_controls():
    assert list(CONTROLS) == ["centre", "edges", "random", "random blurred"]


@pytest.mark.parametrize("name, by_seed, by_picture", [
    ("centre", False, False), ("edges", False, True), ("random", True, False), ("random blurred", True, False),
])  # fmt: skip
def test_what_a_control_depends_on(name, by_seed, by_picture):
    def draw(picture_seed, seed):
        return CONTROLS[name](picture((28, 28), picture_seed), seed)

    assert np.array_equal(draw(0, 0), draw(0, 0))
    assert np.array_equal(draw(0, 0), draw(0, 1)) == (not by_seed)
    assert np.array_equal(draw(0, 0), draw(1, 0)) == (not by_picture)


def test_centre():
    saliency = CONTROLS["centre"](picture((41, 61)), 0)
    assert np.unravel_index(saliency.argmax(), saliency.shape) == (20, 30) and saliency.max() == 1
    assert saliency[20, 40] == pytest.approx(np.exp(-0.5 * (10 / 10.25) ** 2))  # 41 / 4 is the standard deviation
    assert saliency[10, 30] == saliency[30, 30] == saliency[20, 20] == saliency[20, 40]
    assert np.array_equal(saliency, saliency[::-1, ::-1])
    even = CONTROLS["centre"](picture((28, 28)), 0)
    assert np.array_equal(even, even[::-1]) and np.array_equal(even, even.T)


def test_edges_of_a_ramp_and_of_a_flat_picture():
    y, x = np.mgrid[:20, :30]
    ramp = np.broadcast_to(0.003 * x + 0.004 * y, (3, 20, 30))
    assert np.allclose(CONTROLS["edges"](ramp, 0)[1:-1, 1:-1], 8 * 0.005)
    assert not CONTROLS["edges"](np.full((3, 20, 30), 0.3), 0).any()


def test_edges_are_those_of_the_luminance():
    heights = []
    for channel in range(3):
        image = np.zeros((3, 10, 10))
        image[channel, :, 5:] = 1
        saliency = CONTROLS["edges"](image, 0)
        assert np.array_equal(np.flatnonzero(saliency.any(0)), [4, 5])
        heights.append(saliency[3, 4])
    assert heights == pytest.approx([4 * 0.299, 4 * 0.587, 4 * 0.114])


def test_random_is_uniform():
    saliency = CONTROLS["random"](picture((100, 100)), 0)
    assert saliency.max() < 1 and saliency.mean() == pytest.approx(0.5, abs=0.02)
    assert saliency.std() == pytest.approx(1 / np.sqrt(12), abs=0.01)
    assert abs(np.corrcoef(saliency[:, 1:].ravel(), saliency[:, :-1].ravel())[0, 1]) < 0.05


def test_blurred_noise_has_the_grain_of_its_gaussian():
    saliency = CONTROLS["random blurred"](picture((224, 224)), 0)
    assert saliency.min() == 0 and saliency.max() == 1
    # Noise under a Gaussian of σ is correlated by exp(−d² / 4σ²) at a distance of d; here σ = 8.
    for axis in (0, 1):
        for distance in (4, 8):
            pair = np.corrcoef(saliency.ravel(), np.roll(saliency, distance, axis).ravel())[0, 1]
            assert pair == pytest.approx(np.exp(-(distance**2) / 256), abs=0.05)


def test_blurred_noise_prefers_no_place():
    maps = np.stack([CONTROLS["random blurred"](picture((28, 28)), seed) for seed in range(300)])
    spread = maps.std(axis=0)
    rim = np.ones((28, 28), dtype=bool)
    rim[2:-2, 2:-2] = False
    assert spread[rim].mean() == pytest.approx(spread[~rim].mean(), rel=0.05)


@pytest.mark.parametrize("size, grid", [((224, 224), (7, 7)), ((96, 130), (3, 4)), ((28, 28), (2, 2))])
def test_coarse_noise_has_the_grid_of_a_deep_layer(size, grid):
    noise = NOISE["random coarse"](picture(size), 0)
    assert noise.shape == grid and 0 <= noise.min() < noise.max() < 1
    assert np.array_equal(noise, NOISE["random coarse"](picture(size, 1), 0))
    assert not np.array_equal(noise, NOISE["random coarse"](picture(size), 1))
