import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from lsd.errors import UndefinedError
from lsd.evaluation.metrics import (
    POINTING_TOLERANCE,
    cell_mask,
    cell_share,
    completeness_error,
    curve_area,
    max_sensitivity,
    mu_fidelity,
    pointing,
    random_regions,
    rank_correlation,
    region_sums,
    removal_curves,
    remove_regions,
    shown_bits,
    similarity,
)
from lsd.evaluation.probe import ranks

HEIGHT, WIDTH = 10, 13  # a grid of 3 or 4 does not divide them
FRACTIONS = (0.01, 0.1, 0.25, 0.5, 0.9)


def noise(seed, *shape):
    return np.random.default_rng(seed).random(shape or (HEIGHT, WIDTH))


def picture(seed):
    return torch.from_numpy(noise(seed, 1, 3, HEIGHT, WIDTH)).float()


@pytest.fixture
def image():
    return picture(0)


@pytest.fixture
def filling():
    return picture(1)


@pytest.fixture
def model(linear):
    weight = torch.randn(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))
    return linear(weight, torch.tensor([0.3, -0.7]), ["a", "b"])


@pytest.fixture
def logit(model):
    """z_0 of pictures, as `removal_curves` wants it."""
    return lambda batch: model(batch)[:, 0].detach()


@pytest.fixture
def exact(model, image, filling):
    """Gradient × (picture − filling), summed over the channels: what each pixel adds to z_0 of the linear model."""
    return ((model.net.weight[0] / model.std[0]) * (image - filling)[0]).sum(0).detach().double().numpy()


@pytest.mark.parametrize("size", [(12, 12), (HEIGHT, WIDTH), (224, 224), (7, 5)])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_cells_part_the_picture_row_by_row(size, n):
    masks = np.stack([cell_mask(size, n, cell) for cell in range(n * n)])
    assert (masks.sum(0) == 1).all()
    for cell, mask in enumerate(masks):
        i, j = divmod(cell, n)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert rows.tolist() == list(range(round(i * size[0] / n), round((i + 1) * size[0] / n)))
        assert columns.tolist() == list(range(round(j * size[1] / n), round((j + 1) * size[1] / n)))


def test_cell_share():
    flat = np.full((12, 12), 0.3)
    assert [cell_share(flat, 3, cell) for cell in range(9)] == pytest.approx([1 / 9] * 9)
    only = np.zeros((12, 12))
    only[2, 7] = 5  # row 0, column 1
    assert [cell_share(only, 3, cell) for cell in range(9)] == [0, 1] + [0] * 7
    uneven = noise(3)
    assert sum(cell_share(uneven, 3, cell) for cell in range(9)) == pytest.approx(1)
    assert cell_share(uneven, 3, 5) == pytest.approx(uneven[3:7, 9:13].sum() / uneven.sum())


@pytest.mark.parametrize("cell", [-1, 9])
def test_a_cell_that_is_not_there_is_refused(cell):
    with pytest.raises(UndefinedError):
        cell_mask((12, 12), 3, cell)


@pytest.mark.parametrize("n", [0, 11])
def test_a_grid_that_does_not_fit_is_refused(n, image):
    for make in (
        lambda: cell_mask((HEIGHT, WIDTH), n, 0),
        lambda: region_sums(noise(0), np.ones((1, n, n), dtype=bool)),
        lambda: remove_regions(image, image, np.ones((1, n, n), dtype=bool)),
    ):
        with pytest.raises(UndefinedError):
            make()


def test_a_map_of_zeros_has_no_share():
    with pytest.raises(UndefinedError):
        cell_share(np.zeros((12, 12)), 3, 0)


def peak(size, *places):
    saliency = np.zeros(size)
    for place in places:
        saliency[place] = 1
    return saliency


def test_pointing_on_and_off_the_object():
    mask = np.zeros((40, 40), dtype=bool)
    mask[10:20, 10:20] = True
    assert pointing(peak(mask.shape, (10, 19)), mask, 0) == 1
    assert pointing(peak(mask.shape, (10, 20)), mask, 0) == 0
    assert pointing(noise(0, 40, 40) + 2 * mask, mask, 0) == 1
    assert pointing(-1 - noise(0, 40, 40) + mask, mask, 0) == 1  # the sign is of no account
    assert pointing(noise(0, 40, 40) - 2 * mask, mask, 0) == 0


@pytest.mark.parametrize("size", [(224, 224), (224, 300), (300, 224), (448, 448)])
def test_the_tolerance_includes_its_border(size):
    unit = min(size) // 224
    mask = peak(size, (100, 100)).astype(bool)
    assert pointing(peak(size, (100, 100 + 15 * unit)), mask) == 1
    assert pointing(peak(size, (100 - 15 * unit, 100)), mask) == 1
    assert pointing(peak(size, (100 + 9 * unit, 100 + 12 * unit)), mask) == 1  # 9² + 12² = 15²
    assert pointing(peak(size, (100, 101 + 15 * unit)), mask) == 0
    assert pointing(peak(size, (100 + 11 * unit, 100 + 11 * unit)), mask) == 0  # in the square, but not in the circle
    assert pointing(peak(size, (100 + 9 * unit, 100 + 12 * unit)), mask, POINTING_TOLERANCE * 0.99) == 0


@pytest.mark.parametrize("side", range(20, 400, 7))
def test_a_whole_number_of_pixels_survives_its_fraction(side):
    for pixels in range(1, 15):
        saliency, mask = peak((side, side), (0, pixels)), peak((side, side), (0, 0)).astype(bool)
        assert pointing(saliency, mask, pixels / side) == 1


def test_tied_maxima_count_in_parts():
    mask = np.zeros((20, 20), dtype=bool)
    mask[:5, :5] = True
    assert pointing(np.full((20, 20), 0.7), mask, 0) == mask.mean() == 1 / 16
    assert pointing(peak((20, 20), (0, 0), (19, 19), (0, 19)), mask, 0) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "saliency, mask",
    [
        (np.ones((8, 8)), np.zeros((8, 8), dtype=bool)), (np.ones((8, 8)), np.ones((8, 9), dtype=bool)),
        (np.full((8, 8), np.nan), np.ones((8, 8), dtype=bool)),
    ],
)  # fmt: skip
def test_pointing_at_nothing_is_refused(saliency, mask):
    with pytest.raises(UndefinedError):
        pointing(saliency, mask)


@pytest.mark.parametrize("insert", [False, True])
def test_curves_are_those_of_a_slow_loop(model, image, filling, insert):
    def predict(batch):
        return model.probabilities(batch)[:, 0]

    maps = [noise(4), np.round(noise(5), 1), -noise(4)]  # the second has ties
    curves = removal_curves(predict, image, filling, maps, FRACTIONS, insert=insert)
    assert curves.shape == (3, 5) and curves.dtype == np.float64
    for saliency, curve in zip(maps, curves, strict=True):
        rank = ranks(saliency)
        for fraction, value in zip(FRACTIONS, curve, strict=True):
            one = (filling if insert else image).clone()
            for i in range(HEIGHT):
                for j in range(WIDTH):
                    if rank[i, j] < round(fraction * HEIGHT * WIDTH):
                        one[0, :, i, j] = (image if insert else filling)[0, :, i, j]
            assert value == pytest.approx(predict(one).item(), abs=1e-6)


def test_curves_of_a_linear_model(logit, image, filling, exact):
    whole, nothing = logit(image).item(), logit(filling).item()
    counts = [round(fraction * exact.size) for fraction in FRACTIONS]
    best = np.cumsum(np.sort(exact.ravel())[::-1])[np.array(counts) - 1]
    worst = np.cumsum(np.sort(exact.ravel()))[np.array(counts) - 1]
    maps = [exact, -exact]
    deletion = removal_curves(logit, image, filling, maps, FRACTIONS, insert=False)
    insertion = removal_curves(logit, image, filling, maps, FRACTIONS, insert=True)
    assert np.allclose(deletion, whole - np.stack([best, worst]), atol=1e-3)
    assert np.allclose(insertion, nothing + np.stack([best, worst]), atol=1e-3)
    areas = curve_area(FRACTIONS, deletion, whole, nothing), curve_area(FRACTIONS, insertion, nothing, whole)
    assert areas[0][0] < areas[0][1] and areas[1][0] > areas[1][1]
    # What is deleted last is inserted first: the curve of the negation is the map's own, backwards.
    assert areas[0][0] + areas[1][0] == pytest.approx(whole + nothing, abs=1e-3)


def test_both_ends_of_the_curves(logit, image, filling):
    whole, nothing = logit(image).item(), logit(filling).item()
    for insert, ends in ((False, (whole, nothing)), (True, (nothing, whole))):
        curve = removal_curves(logit, image, filling, [noise(6)], (0, 1), insert=insert)
        assert curve[0] == pytest.approx(ends, abs=1e-5)


def test_batches_hold_several_maps_and_change_nothing(logit, image, filling):
    sizes = []

    def predict(batch):
        sizes.append(len(batch))
        return logit(batch).numpy()

    maps = [noise(seed) for seed in range(3)]
    many = removal_curves(predict, image, filling, maps, FRACTIONS, insert=False, batch_size=7)
    assert sizes == [7, 7, 1]
    one = removal_curves(logit, image, filling, maps, FRACTIONS, insert=False, batch_size=1)
    assert np.allclose(one, many, atol=1e-5)
    backwards = removal_curves(logit, image, filling, maps[::-1], FRACTIONS[::-1], insert=False)
    assert np.allclose(backwards[::-1, ::-1], many, atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"maps": []}, {"maps": [noise(0), noise(0, 4, 4)]}, {"maps": [np.full((HEIGHT, WIDTH), np.inf)]},
        {"fractions": ()}, {"fractions": (-0.1,)}, {"fractions": (1.1,)}, {"batch_size": 0},
    ],
)  # fmt: skip
def test_curves_that_make_no_sense_are_refused(logit, image, filling, arguments):
    settings = {"maps": [noise(0)], "fractions": FRACTIONS, "insert": False} | arguments
    with pytest.raises(UndefinedError) as error:
        removal_curves(logit, image, filling, **settings)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_area_of_straight_lines():
    x = np.array(FRACTIONS)
    assert curve_area(x, 0.8 - 0.6 * x, 0.8, 0.2) == pytest.approx(0.5)
    assert curve_area(x, np.ones(5), 1, 1) == pytest.approx(1)
    assert curve_area((0, *x, 1), np.r_[0.8, 0.8 - 0.6 * x, 0.2], 0.8, 0.2) == pytest.approx(0.5)


def test_area_of_a_bent_line():
    # 0.1 wide from 0.8 to 0.2, then 0.9 wide from 0.2 to 0.4.
    assert curve_area((0.1,), np.array([0.2]), 0.8, 0.4) == pytest.approx(0.1 * 0.5 + 0.9 * 0.3)


def test_areas_of_many_curves():
    values = noise(7, 2, 3, 5)
    areas = curve_area(FRACTIONS, values, 0.9, 0.1)
    assert areas.shape == (2, 3)
    assert areas[1, 2] == pytest.approx(curve_area(FRACTIONS, values[1, 2], 0.9, 0.1))


@pytest.mark.parametrize("fractions", [(0.5, 0.2), (-0.1, 0.5), (0.5, 1.5)])
def test_an_area_over_no_axis_is_refused(fractions):
    with pytest.raises(UndefinedError):
        curve_area(fractions, np.ones(2), 1, 0)


def test_random_regions():
    regions = random_regions(7, 0.2, 400, seed=0)
    assert regions.shape == (400, 7, 7) and regions.dtype == bool
    assert (regions.sum((1, 2)) == round(0.2 * 49)).all()
    assert np.abs(regions.mean(0) - 10 / 49).max() < 0.1  # every cell is as likely as any other
    assert len(np.unique(regions.reshape(400, -1), axis=0)) > 390
    assert np.array_equal(regions, random_regions(7, 0.2, 400, seed=0))
    assert not np.array_equal(regions, random_regions(7, 0.2, 400, seed=1))


@pytest.mark.parametrize("share", [-0.5, 0, 0.01, 0.99, 1, 1.5])
def test_regions_of_all_or_nothing_are_refused(share):
    with pytest.raises(UndefinedError):
        random_regions(4, share, 5, seed=0)


def test_regions_are_made_of_the_cells_of_the_grid(image, filling):
    regions, saliency = random_regions(4, 0.4, 6, seed=0), noise(8)
    removed = remove_regions(image, filling, regions)
    assert removed.shape == (6, 3, HEIGHT, WIDTH)
    for region, total, one in zip(regions, region_sums(saliency, regions), removed, strict=True):
        inside = np.any([cell_mask((HEIGHT, WIDTH), 4, cell) for cell in np.flatnonzero(region)], axis=0)
        assert total == pytest.approx(saliency[inside].sum())
        assert torch.equal(one[:, inside], filling[0][:, inside]) and torch.equal(one[:, ~inside], image[0][:, ~inside])


def test_mu_fidelity_of_exact_attributions(logit, image, filling, exact):
    regions = random_regions(4, 0.3, 40, seed=0)
    drops = (logit(image) - logit(remove_regions(image, filling, regions))).numpy()
    assert np.allclose(drops, region_sums(exact, regions), atol=1e-3)
    assert mu_fidelity(region_sums(exact, regions), drops) == pytest.approx(1)
    assert mu_fidelity(region_sums(-exact, regions), drops) == pytest.approx(-1)
    assert abs(mu_fidelity(region_sums(noise(9), regions), drops)) < 0.6


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7])
def test_flat_maps_are_at_chance(value):
    # Of any k cells of one size the sums are the same to the last digit, or rounding would give them an order.
    sums = region_sums(np.full((28, 28), value), random_regions(7, 0.4, 50, seed=0))
    assert mu_fidelity(sums, noise(0, 50)) == 0


def test_rank_correlation_is_scipys():
    a, b = np.round(noise(10), 1), np.round(noise(10) - noise(11), 1)  # with ties and with negative values
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a.ravel(), b.ravel()).statistic)
    assert rank_correlation(a, np.exp(5 * a)) == pytest.approx(1)
    assert rank_correlation(a, -(a**3)) == pytest.approx(-1)
    assert rank_correlation(a, np.ones_like(a)) == rank_correlation(np.zeros_like(a), a) == 0


def test_similarity():
    a, b = noise(12), noise(13)
    assert similarity(a, a) == pytest.approx(1)
    assert similarity(a, 7 * a) == pytest.approx(1)  # each is scaled by its own maximum
    assert similarity(a, b) == similarity(b, a) < 0.5 < similarity(a, a + 0.05 * b) < 1
    # Flat maps of 1 and 0: SSIM is C1 / (1 + C1), where C1 = 0.01².
    assert similarity(np.full((9, 9), 3.0), np.zeros((9, 9))) == pytest.approx(1e-4 / (1 + 1e-4))
    assert similarity(np.zeros((9, 9)), np.zeros((9, 9))) == 1


@pytest.mark.parametrize("score", [rank_correlation, mu_fidelity, similarity])
@pytest.mark.parametrize("other", [noise(0, HEIGHT, WIDTH - 1), np.full((HEIGHT, WIDTH), np.nan)])
def test_what_cannot_be_compared_is_refused(score, other):
    for pair in ((noise(0), other), (other, noise(0))):
        with pytest.raises(UndefinedError):
            score(*pair)


def test_similarity_needs_a_window():
    with pytest.raises(UndefinedError):
        similarity(noise(0, 6, 9), noise(1, 6, 9))


def test_a_constant_explanation_is_not_sensitive(image):
    assert max_sensitivity(lambda x: np.ones((4, 4)), image) == 0


def test_sensitivity_of_a_linear_explanation():
    """φ(x) = x: the relative change is ‖δ‖ / ‖x‖, the largest of those that were drawn."""
    image, seen = torch.full((1, 3, 8, 8), 0.5), []

    def explain(x):
        seen.append(x.numpy().copy())
        return 2 * x.numpy()

    value = max_sensitivity(explain, image, radius=0.1, samples=3, seed=5)
    noises = np.stack(seen[1:]) - 0.5
    assert len(seen) == 4 and np.array_equal(seen[0], image.numpy())
    assert -0.1 <= noises.min() < -0.09 and 0.09 < noises.max() <= 0.1  # uniform over the whole of the interval
    assert noises.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.1)
    norms = np.sqrt((noises**2).sum((1, 2, 3, 4)))
    assert len(set(norms)) == 3
    assert value == pytest.approx(norms.max() / np.sqrt(192 * 0.25), rel=1e-5)


def test_the_disturbed_picture_stays_a_picture():
    image = torch.ones(1, 3, 8, 8)
    image[..., :4] = 0
    seen = []

    def explain(x):
        seen.append(x)
        return x.numpy()

    max_sensitivity(explain, image, radius=0.3)
    assert all(x.min() >= 0 and x.max() <= 1 and not torch.equal(x, image) for x in seen[1:])


def test_sensitivity_is_the_seeds(image):
    first, again, other = (max_sensitivity(lambda x: x.numpy(), image, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    more = max_sensitivity(lambda x: x.numpy(), image, samples=20)
    assert more >= first  # the first draws are among them


@pytest.mark.parametrize(
    "explain, settings",
    [
        (lambda x: np.zeros(3), {}), (lambda x: np.full(3, np.nan), {}),
        (lambda x: x.numpy(), {"radius": 0}), (lambda x: x.numpy(), {"samples": 0}),
    ],
)  # fmt: skip
def test_sensitivity_of_nothing_is_refused(image, explain, settings):
    with pytest.raises(UndefinedError):
        max_sensitivity(explain, image, **settings)


def test_completeness_error(logit, image, filling, exact):
    change = (logit(image) - logit(filling)).item()
    assert completeness_error(exact.sum() - change, change) == pytest.approx(0, abs=1e-4)
    assert completeness_error(-1, 4) == completeness_error(1, -4) == 0.25
    with pytest.raises(UndefinedError):
        completeness_error(1, 0)


@pytest.mark.parametrize("values, bits", [
    ([0.5] * 9, 0), ([0, 1], 1), ([0, 0.3, 0.6, 1], 2), ([0, 0, 0, 1], 0.25 * 2 + 0.75 * np.log2(4 / 3)),
    (np.linspace(0, 1, 1600), 4), ([0.5, 0.51, 0.53], 0),  # of one step
])  # fmt: skip
def test_bits_shown_are_the_entropy_of_steps(values, bits):
    assert shown_bits(np.array(values)) == pytest.approx(bits, abs=1e-9)


def test_a_map_of_few_extremes_shows_little_unless_it_is_clipped():
    values = np.random.default_rng(0).lognormal(sigma=2, size=(64, 64))
    shown = [shown_bits(np.minimum(values / np.percentile(values, clip), 1)) for clip in (90, 99, 100)]
    assert shown[0] > shown[1] > 1 > 0.3 > shown[2]
