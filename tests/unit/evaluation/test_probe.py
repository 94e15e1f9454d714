import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from lsd.errors import UndefinedError
from lsd.evaluation.probe import CONTROLS, probe, random_blobs, ranks, removed
from lsd.saliency.gradients import baseline

SIDE = 16
SQUARE = np.zeros((SIDE, SIDE))
SQUARE[4:8, 10:14] = 1  # all that the model looks at: 16 of 256 pixels
FRACTIONS = (0.0, 4 / 256, 16 / 256, 0.1, 0.5, 1.0)
MARGIN = 4.0


@pytest.fixture
def model(linear):
    """z_0 is MARGIN over the bias of class 1 on a white picture, and falls by 2 MARGIN/16 with each pixel of the square
    that turns into the mean colour, where z_0 is -MARGIN: half of the square decides."""
    weight = torch.zeros(3, 3, SIDE, SIDE)
    weight[0] = torch.from_numpy(SQUARE) * 2 * MARGIN / (3 * SQUARE.sum())
    return linear(weight, torch.tensor([0.0, MARGIN, -50.0]), ["a", "b", "c"])


@pytest.fixture
def white():
    return torch.ones(1, 3, SIDE, SIDE)


def run(model, image, saliency=SQUARE, **settings):
    return probe(model, image, saliency, **{"fractions": FRACTIONS, "classes": (0, 1)} | settings)


def test_probabilities_are_the_linear_models_own(model, white):
    result = run(model, white)
    gone = np.minimum(result.pixels, 16)
    expected = 1 / (1 + np.exp(-(2 * MARGIN * (1 - gone / 16) - MARGIN)))
    assert np.allclose(result.probability[:, 0], expected, atol=1e-6)
    assert np.allclose(result.probability[:, 1], 1 - expected, atol=1e-6)
    assert np.allclose(result.before, [expected[0], 1 - expected[0]], atol=1e-6)


def test_the_true_map_flips_at_once_and_random_pixels_do_not(model, white):
    result = run(model, white)
    assert result.top1_before == 0
    assert result.flip_fraction == 16 / 256
    assert result.top1.tolist() == [0, 0, 1, 1, 1, 1]
    for control in result.controls.values():
        assert control.flip_fraction is None or control.flip_fraction > 0.1
        assert (control.top1[:, :3] == 0).all()
        assert control.mean[2, 0] > 0.7


def test_a_wrong_map_does_no_better_than_chance(model, white):
    assert run(model, white, 1 - SQUARE).flip_fraction == 1.0


def test_never_flipping_is_none(model, white):
    result = run(model, white, fractions=(0.0, 0.01))
    assert result.flip_fraction is None and all(c.flip_fraction is None for c in result.controls.values())


def test_the_order_of_the_fractions_is_the_callers(model, white):
    result = run(model, white, fractions=FRACTIONS[::-1])
    assert np.allclose(result.probability, run(model, white).probability[::-1])
    assert result.flip_fraction == 16 / 256


def test_exactly_as_many_pixels_go(model):
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    saliency = np.random.default_rng(0).random((SIDE, SIDE))
    before = np.zeros((SIDE, SIDE), dtype=bool)
    for fraction in (0, 0.001, 0.01, 0.25, 1 / 3, 0.999, 1):
        gone = (removed(model, image, saliency, fraction) != image).any(1)[0].numpy()
        assert gone.sum() == round(fraction * SIDE * SIDE)
        assert (gone | ~before).all()  # what is gone stays gone
        assert not gone.any() or saliency[gone].min() >= saliency[~gone].max(initial=0)
        before = gone


@pytest.mark.parametrize("fill", ["mean", "blur"])
def test_none_and_all_removed(model, fill):
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    filling = baseline(model, image, fill)
    assert torch.equal(removed(model, image, SQUARE, 0, fill), image)
    assert torch.equal(removed(model, image, SQUARE, 1, fill), filling)
    result = run(model, image, fill=fill, classes=(0, 1, 2))
    assert np.allclose(result.probability[0], result.before, atol=1e-7)
    assert np.allclose(result.probability[-1], model.probabilities(filling)[0], atol=1e-6)
    for control in result.controls.values():
        assert np.allclose(control.mean[-1], result.probability[-1], atol=1e-6) and (control.std[[0, -1]] < 1e-6).all()
        assert (control.low <= control.mean + 1e-12).all() and (control.mean <= control.high + 1e-12).all()


def test_ties_are_broken_alike_every_time_and_not_from_the_top():
    flat = np.zeros((SIDE, SIDE))
    assert np.array_equal(ranks(flat), ranks(flat))
    assert sorted(ranks(flat).ravel()) == list(range(SIDE * SIDE))
    upper = (ranks(flat) < SIDE * SIDE // 2)[: SIDE // 2].mean()
    assert 0.3 < upper < 0.7
    assert (ranks(SQUARE)[SQUARE == 1] < 16).all()


def test_batches_change_nothing(model):
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    one, many = run(model, image, batch_size=1), run(model, image, batch_size=100)
    assert np.allclose(one.probability, many.probability, atol=1e-6) and (one.top1 == many.top1).all()
    for name in CONTROLS:
        assert np.allclose(one.controls[name].mean, many.controls[name].mean, atol=1e-6)
        assert (one.controls[name].top1 == many.controls[name].top1).all()


def test_the_seed_draws_the_controls(model):
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    first, again, other = (run(model, image, seed=seed) for seed in (0, 0, 1))
    for name in CONTROLS:
        assert np.array_equal(first.controls[name].mean, again.controls[name].mean)
        assert not np.array_equal(first.controls[name].mean, other.controls[name].mean)
        assert first.controls[name].top1.shape == (5, len(FRACTIONS))
        assert first.controls[name].std[3].max() > 0  # the repeats differ
    assert np.array_equal(first.probability, other.probability)


def test_blobs_have_the_grain_of_the_map():
    def grain(values):
        """Correlation of neighbours."""
        return np.corrcoef(values[:, 1:].ravel(), values[:, :-1].ravel())[0, 1]

    rng = np.random.default_rng(0)
    noise = rng.standard_normal((64, 64))
    for sigma in (0, 1, 4):
        saliency = gaussian_filter(noise, sigma, mode="wrap")
        blobs = random_blobs(saliency, rng)
        assert grain(blobs) == pytest.approx(grain(saliency), abs=0.05)
        assert abs(np.corrcoef(blobs.ravel(), saliency.ravel())[0, 1]) < 0.5
    assert np.ptp(random_blobs(np.ones((8, 8)), rng)) > 0


def test_a_map_from_torch_serves(model, white):
    assert run(model, white, torch.from_numpy(SQUARE).float()).flip_fraction == 16 / 256


@pytest.mark.parametrize(
    "arguments",
    [
        {"fractions": ()}, {"fractions": (0.5, 1.1)}, {"fractions": (-0.1,)}, {"classes": ()}, {"classes": (3,)},
        {"fill": "black"}, {"random_repeats": 0}, {"batch_size": 0}, {"saliency": SQUARE[:8]},
        {"saliency": np.full((SIDE, SIDE), np.nan)},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(model, white, arguments):
    with pytest.raises(UndefinedError) as error:
        run(model, white, **arguments)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
