"""Scores of pictures whose answer is known."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn.functional import interpolate

from lsd.evaluation import metrics
from lsd.evaluation.controls import CONTROLS
from lsd.evaluation.probe import ranks
from lsd.evaluation.saliency_scores import (
    DEMO_TIMES,
    FRACTIONS,
    REGION_GRID,
    REGION_SHARE,
    Size,
    mosaic,
    score_grid,
    score_picture,
)
from lsd.evaluation.variants import CONTROL_VARIANTS, FACTORS, Drawing, draw, grid, variants
from lsd.layers import as_said
from lsd.said import Said
from lsd.saliency.gradients import baseline
from lsd.saliency.maps import MapSettings
from lsd.saliency.methods import METHODS, attribute
from lsd.saliency.targets import Target

SIDE = 28
NOTHING_DEAR = Size(many=0, removed=0, full=0)
CAMS = {"grad_cam", "hires_cam", "grad_cam_plus_plus", "finer_cam", "layer_cam", "refine_cam", "score_cam"}
FOR_TRANSFORMERS = {name for name, method in METHODS.items() if method.for_transformers}
LAYERED = (
    {"guided_backprop", "deconvnet", "depth_fusion", "captum:guided_grad_cam", "captum:occlusion"}
    | CAMS
    | FOR_TRANSFORMERS
)
"""Not defined for a linear model: no layers, no ReLUs; and the squares of occlusion are larger than the picture."""


def table(rows):
    """(variant, metric) → value, each there once."""
    found = {(name, metric): value for name, metric, value in rows}
    assert len(found) == len(rows) and all(np.isfinite(v) for v in found.values())
    return found


def smooth(values):
    """As maps are drawn by default."""
    return gaussian_filter(np.asarray(values, dtype=float), MapSettings.blur)


def names(chosen):
    return {v.name for v in chosen if v.source.method not in LAYERED}


CHEAP = names(v for v in variants() if not v.source.dear)
ALL, GRID = names(variants()), names(grid())


@pytest.fixture
def picture():
    return np.random.default_rng(0).random((3, SIDE, SIDE)).astype(np.float32)


@pytest.fixture
def two(linear):
    """Two classes, so that the log-odds are linear: the first class's weights are positive, many of them the largest."""
    weight = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).clamp(max=0.8) / 400
    return linear(torch.cat([weight, -weight]).expand(-1, 3, -1, -1), torch.tensor([0.0, 0.5]), ["a", "b"])


@pytest.mark.parametrize("n, height, width", [(2, 8, 8), (3, 9, 12), (3, 28, 28), (2, 7, 9)])
def test_a_mosaic_is_every_picture_shrunk(n, height, width):
    cells = np.random.default_rng(0).random((n * n, 3, height, width)).astype(np.float32)
    whole = mosaic(cells, n)
    assert whole.shape == (3, height, width) and whole.dtype == np.float32
    rows, columns = ([round(i * side / n) for i in range(n + 1)] for side in (height, width))
    place = 0
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            size = (bottom - top, right - left)
            small = interpolate(torch.from_numpy(cells[place])[None], size, mode="bilinear", antialias=True)[0]
            np.testing.assert_allclose(whole[:, top:bottom, left:right], small, atol=1e-5)
            place += 1


def of_cells(n, values):
    """Weights (n², 3, SIDE, SIDE): class k's are `values[k, c]` in cell c."""
    weight = torch.zeros(n * n, 3, SIDE, SIDE)
    for cell in range(n * n):
        mask = torch.from_numpy(metrics.cell_mask((SIDE, SIDE), n, cell))
        weight[:, :, mask] = torch.as_tensor(values[:, cell], dtype=torch.float32)[:, None, None]
    return weight / 1000


@pytest.mark.parametrize("n", [2, 3])  # 3 does not divide 28
def test_the_share_of_a_grid_is_that_of_the_right_cell(linear, n):
    count = n * n
    model = linear(of_cells(n, np.eye(count)), torch.zeros(count), [str(i) for i in range(count)])
    cells = np.random.default_rng(0).random((count, 3, SIDE, SIDE)).astype(np.float32)
    for turn in (0, 1):  # 1: every class is the next cell's, and none has weights in its own
        order = [*range(turn, count), *range(turn)]
        scored = [table(rows) for rows in score_grid(model, cells, order, 0, NOTHING_DEAR)]
        assert len(scored) == count
        for cell, found in enumerate(scored):
            assert {name for name, _ in found} == CHEAP and {metric for _, metric in found} == {f"grid{n}"}
            here, target = (metrics.cell_mask((SIDE, SIDE), n, c) for c in (cell, order[cell]))
            # The log-odds hold the other classes against it, each with an equal share of its pixels' slope.
            both = np.where(target, 1, 1 / (count - 1))
            assert found["blur/0@gradient", f"grid{n}"] == pytest.approx(both[here].sum() / both.sum(), abs=0.02)
            for name, strength in (("output/logit@gradient", target), ("channels/l2", both), ("sign/positive", target)):
                drawn = smooth(strength)
                assert found[name, f"grid{n}"] == pytest.approx(drawn[here].sum() / drawn.sum(), abs=0.02)


def test_the_contrast_of_a_cell_is_with_the_next(linear):
    model = linear(of_cells(2, np.eye(4)), torch.zeros(4), list("abcd"))
    cells = np.zeros((4, 3, SIDE, SIDE), np.float32)
    for order in ([0, 1, 2, 3], [1, 0, 3, 2]):
        # a − b has half its weights in the cells of both; of [b, a, d, c], the second is a against d.
        masks = [metrics.cell_mask((SIDE, SIDE), 2, cell) for cell in range(4)]
        drawn = [smooth(masks[one] | masks[other]) for one, other in pairwise([*order, order[0]])]
        shares = [saliency[mask].sum() / saliency.sum() for saliency, mask in zip(drawn, masks, strict=True)]
        scored = [
            table(rows)["output/contrast@gradient", "grid2"]
            for rows in score_grid(model, cells, order, 0, NOTHING_DEAR)
        ]
        assert scored == pytest.approx(shares, abs=0.01)


def test_a_flat_gradient_gets_the_cells_area_and_one_of_zeros_chance(linear):
    weight = of_cells(3, np.arange(1.0, 10)[:, None].repeat(9, 1))  # larger for each class, and flat
    model = linear(weight, torch.zeros(9), [str(i) for i in range(9)])
    cells = np.random.default_rng(0).random((9, 3, SIDE, SIDE)).astype(np.float32)
    for cell, rows in enumerate(score_grid(model, cells, list(range(9)), 0, NOTHING_DEAR)):
        found = table(rows)
        assert found["method/gradient", "grid3"] == pytest.approx(metrics.cell_mask((SIDE, SIDE), 3, cell).mean())
        below = found["sign/negative", "grid3"]
        assert below == 1 / 9 if cell == 8 else below > 0  # nothing speaks against the largest


def test_controls_of_a_grid_see_the_grid_picture(linear):
    model = linear(of_cells(2, np.eye(4)), torch.zeros(4), list("abcd"))
    cells = np.random.default_rng(0).random((4, 3, SIDE, SIDE)).astype(np.float32)
    image = mosaic(cells, 2)
    for position in (0, 3):
        for cell, rows in enumerate(score_grid(model, cells, [0, 1, 2, 3], position, NOTHING_DEAR)):
            found = table(rows)
            for variant in CONTROL_VARIANTS:
                saliency = draw(CONTROLS[variant.level](image, position)[None], Drawing(), image)
                assert found[variant.name, "grid2"] == pytest.approx(metrics.cell_share(saliency, 2, cell))


def test_what_is_dear_is_done_for_the_first_grids(linear):
    four = linear(of_cells(2, np.eye(4)), torch.zeros(4), list("abcd"))
    nine = linear(of_cells(3, np.eye(9)), torch.zeros(9), list("abcdefghi"))
    cells = np.random.default_rng(0).random((9, 3, SIDE, SIDE)).astype(np.float32)

    def scored(n, position, **size):
        model = four if n == 2 else nine
        size = Size(**{"many": 0, "removed": 0, "full": 0} | size)
        rows = score_grid(model, cells[: n * n], list(range(n * n)), position, size)
        first, *others = ({name for name, *_ in own} for own in rows)
        assert all(other == first for other in others)
        return first

    assert scored(2, 1, many=7) == CHEAP and scored(2, 1, many=8) == ALL
    assert scored(2, 0, full=4) == CHEAP | GRID and scored(2, 1, full=7) == CHEAP
    assert scored(3, 0, many=8, full=100) == CHEAP  # the grid of settings is for 2 × 2 alone


def test_an_exact_attribution_is_wholly_faithful(two):
    white = np.ones((3, SIDE, SIDE), np.float32)  # so the output falls by the weights of what is removed
    found = table(score_picture(two, white, 0, 0, Size(many=1, removed=0, full=0)))
    assert found["blur/0@gradient", "mu_fidelity"] == pytest.approx(1)
    for name in ("gradient", "gradient_x_input", "integrated_gradients", "captum:gradient_shap"):
        assert found[f"method/{name}", "mu_fidelity"] > 0.75  # its smoothing reaches over the regions' edges
    assert found["sign/negative", "mu_fidelity"] == 0  # a map of zeros
    assert abs(found["control/random", "mu_fidelity"]) < 0.6
    # Of the class that the weights speak against, the same pixels count; removing them raises it.
    against = table(score_picture(two, white, 1, 0, NOTHING_DEAR))
    assert against["blur/0@gradient", "mu_fidelity"] == pytest.approx(-1)
    assert {name for name, _ in found} == ALL and {name for name, _ in against} == CHEAP
    assert {metric for _, metric in found} == {"mu_fidelity", "shown"}


def test_what_is_shown_is_told_of_clipping_and_of_noise_clipped_alike(two, picture):
    found = table(score_picture(two, picture, 0, 0, NOTHING_DEAR))
    told = {name for name, metric in found if metric == "shown"}
    assert told == {name for name in CHEAP if name.partition("clip/")[0] in ("", "random/") and "clip/" in name}
    gradient = attribute("gradient", two, torch.from_numpy(picture)[None], Target(0)).values[0].numpy()
    for clip in (95.0, 100.0):
        expected = metrics.shown_bits(draw(gradient, Drawing(clip=clip), picture))
        assert found[f"clip/{clip:g}@gradient", "shown"] == pytest.approx(expected)


def test_of_methods_that_are_not_defined_there_are_no_rows(two, picture):
    only = [v for v in FACTORS["method"].levels if v.source.method in FOR_TRANSFORMERS]
    assert len(only) == 4
    size = Size(many=0, removed=1, full=0)
    assert score_picture(two, picture, 0, 0, size, np.ones((SIDE, SIDE), bool), only=only) == []


@pytest.mark.parametrize("outputs", ["classes", "sigmoid"])
def test_mu_fidelity_holds_the_log_odds_against_the_sums(two, picture, outputs):
    two = as_said(two, Said(outputs))
    found = table(score_picture(two, picture, 1, 4, Size(many=0, removed=0, full=0, regions=9)))
    image = torch.from_numpy(picture)[None]
    regions = metrics.random_regions(REGION_GRID, REGION_SHARE, 9, 4)
    gradient = draw(attribute("gradient", two, image, Target(1, outputs=outputs)).values[0].numpy(), Drawing(), picture)
    noise = draw(CONTROLS["random"](picture, 4)[None], Drawing(), picture)
    for name, saliency in (("method/gradient", gradient), ("control/random", noise)):
        sums, drops = [], []
        for region in regions:
            gone = region.repeat(2, 0).repeat(2, 1)
            covered = image.clone()
            covered[:, :, torch.from_numpy(gone)] = 0.5
            probability = [two.probabilities(x)[0, 1].double().logit().item() for x in (image, covered)]
            sums.append(saliency[gone].sum(dtype=np.float64))
            drops.append(probability[0] - probability[1])
        expected = metrics.rank_correlation(np.array(sums), np.array(drops))
        assert found[name, "mu_fidelity"] == pytest.approx(expected, abs=1e-9)


def test_deletion_and_insertion_are_areas_under_the_probability(two, picture):
    found = table(score_picture(two, picture, 0, 0, Size(many=0, removed=1, full=0)))
    assert {metric for _, metric in found} == {"mu_fidelity", "shown", "deletion", "insertion"}
    image = torch.from_numpy(picture)[None]
    gradient = attribute("gradient", two, image, Target(0)).values[0].numpy()
    shown = {
        "method/gradient": draw(gradient, Drawing(), picture),
        "blur/8@gradient": draw(gradient, Drawing(blur=8.0), picture),
        "control/centre": draw(CONTROLS["centre"](picture, 0)[None], Drawing(), picture),
    }
    mean, blurred = baseline(two, image, "mean"), baseline(two, image, "blur")
    for name, saliency in shown.items():
        areas = {}
        for metric, before, after in (("deletion", image, mean), ("insertion", blurred, image)):
            curve = []
            for fraction in (0, *FRACTIONS, 1):
                first = torch.from_numpy(ranks(saliency) < round(fraction * SIDE * SIDE))
                curve.append(two.probabilities(torch.where(first, after, before))[0, 0].item())
            areas[metric] = np.trapezoid(curve, (0, *FRACTIONS, 1))
            assert found[name, metric] == pytest.approx(areas[metric], abs=1e-6)
        assert areas["deletion"] != pytest.approx(areas["insertion"], abs=1e-3)
    assert found["output/logit@gradient", "deletion"] == found["method/gradient", "deletion"]  # one order of pixels
    assert len({found[name, "deletion"] for name in shown}) == 3


def test_what_is_dear_is_done_for_the_first_pictures(two, picture):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:9] = True

    def scored(position, mask=None, **size):
        rows = score_picture(two, picture, 0, position, Size(**{"many": 0, "removed": 0, "full": 0} | size), mask)
        found = table(rows)
        return {name for name, _ in found}, {metric for _, metric in found}

    assert scored(1, many=2)[0] == ALL and scored(2, many=2)[0] == CHEAP
    assert scored(1, full=2)[0] == CHEAP | GRID and scored(2, full=2)[0] == CHEAP
    assert scored(1, removed=2)[1] == {"mu_fidelity", "shown", "deletion", "insertion"}
    assert scored(2, removed=2)[1] == {"mu_fidelity", "shown"}
    last = DEMO_TIMES - 1  # drawn pictures are cheaper
    assert scored(last, mask, many=1, full=1)[0] == ALL | GRID and scored(last + 1, mask, many=1, full=1)[0] == CHEAP
    on_masks = {"mu_fidelity", "shown", "energy", "pointing"}
    assert scored(last, mask, removed=1)[1] == on_masks | {"deletion", "insertion"}
    assert scored(last + 1, mask, removed=1)[1] == on_masks


def test_the_grid_of_settings_is_not_removed_from(two, picture):
    found = table(score_picture(two, picture, 0, 0, Size(many=0, removed=1, full=1), np.eye(SIDE, dtype=bool)))
    assert {metric for name, metric in found if name in GRID} == {"mu_fidelity", "energy"}
    defaults = "grid/log_odds,abs,max,off,1"
    for metric in ("mu_fidelity", "energy"):
        assert found[defaults, metric] == found["method/gradient", metric]


def test_a_mask_tells_energy_and_pointing(linear, picture):
    weight = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) / 400
    model = linear(torch.cat([weight, -weight]), torch.zeros(2), ["a", "b"])
    strongest = weight[0].sum(0).numpy()
    for mask, hit in ((strongest == strongest.max(), 1), (strongest < np.median(strongest), None)):
        found = table(score_picture(model, picture, 0, 0, NOTHING_DEAR, mask))
        for name, seen in (("method/gradient", smooth(strongest)), ("blur/0@gradient", strongest)):
            saliency = np.minimum(seen / np.percentile(seen, MapSettings.clip), 1)
            assert found[name, "energy"] == pytest.approx(saliency[mask].sum() / saliency.sum())
        # One pixel is the strongest, though the map cuts it down to what the strongest twentieth are.
        assert found["blur/0@gradient", "pointing"] == (metrics.pointing(strongest, mask) if hit is None else hit)
        # Nothing speaks against the first class, and a map of zeros gets what chance would.
        assert found["sign/negative", "energy"] == pytest.approx(mask.mean())
        assert {metric for _, metric in found} == {"mu_fidelity", "shown", "energy", "pointing"}
    assert found["blur/0@gradient", "energy"] < mask.mean() - 0.1


def test_the_position_is_the_seed(two, picture):
    one, again, other = (table(score_picture(two, picture, 0, p, NOTHING_DEAR)) for p in (5, 5, 6))
    assert one == again
    for name in ("control/random", "control/centre"):  # the noise, and the regions
        assert one[name, "mu_fidelity"] != other[name, "mu_fidelity"]


def test_no_gradient_is_left_behind_and_levels_share_maps(two, picture):
    found = table(score_picture(two, picture, 0, 0, Size(many=1, removed=0, full=0)))
    for factor in FACTORS.values():
        for variant in factor.variants:
            if variant.source.method == "gradient" and variant.level == factor.default:
                assert found[variant.name, "mu_fidelity"] == found["method/gradient", "mu_fidelity"]
    assert not any(p.requires_grad or p.grad is not None for p in two.parameters())
