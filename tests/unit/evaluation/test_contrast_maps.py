import numpy as np
import pytest
import torch

from lsd.errors import UndefinedError
from lsd.evaluation.contrast_maps import mistake_maps, share_inside, strength
from lsd.layers import as_said
from lsd.said import Said
from lsd.saliency.targets import Target


@pytest.fixture
def model(linear):
    weight = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return linear(weight, torch.zeros(4), ["a", "b", "c", "d"])


@pytest.fixture
def image():
    return torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_three_maps_of_three_targets(model, image):
    maps = mistake_maps(model, image, true_index=2, predicted_index=1, method="gradient")
    assert list(maps) == ["predicted", "true", "contrast"]
    assert [a.target for a in maps.values()] == [Target(1), Target(2), Target(1, "contrast", 2)]
    expected = (model.net.weight[1] - model.net.weight[2]) / model.std[0]  # the slope of z_1 - z_2, a linear function
    assert torch.allclose(maps["contrast"].values[0], expected, atol=1e-5)
    logits = model(image)[0]
    assert maps["contrast"].scores.item() == pytest.approx((logits[1] - logits[2]).item(), abs=1e-4)


def test_where_each_output_is_a_question_of_its_own_the_log_odds_are_its_logit(model, image):
    maps = mistake_maps(as_said(model, Said("sigmoid")), image, true_index=2, predicted_index=1, method="gradient")
    for name, index in (("predicted", 1), ("true", 2)):
        assert torch.allclose(maps[name].values[0], model.net.weight[index] / model.std[0], atol=1e-5)


def test_the_forward_passes_are_shared(model, image):
    mistake_maps(model, image, 0, 3, "gradient")
    assert model.net.seen == 1


def test_settings_reach_the_method(model, image):
    maps = mistake_maps(model, image, 0, 3, "smoothgrad", samples=4, seed=5)
    assert all(a.settings["samples"] == 4 and a.settings["seed"] == 5 for a in maps.values())
    captum = mistake_maps(model, image, 0, 3, "captum:saliency")
    assert torch.allclose(captum["true"].values, mistake_maps(model, image, 0, 3, "gradient")["true"].values, atol=1e-6)


@pytest.mark.parametrize("arguments", [(1, 1, "gradient"), (1, 9, "gradient"), (1, 2, "tea leaves")])
def test_what_is_no_mistake_is_refused(model, image, arguments):
    with pytest.raises(UndefinedError):
        mistake_maps(model, image, *arguments)


def test_strength_keeps_the_order_at_the_top(model, image):
    attribution = mistake_maps(model, image, 0, 3, "gradient")["contrast"]
    values = strength(attribution, (8, 8))
    assert values.shape == (8, 8) and values.min() >= 0 and values.max() == 1
    magnitude = attribution.values[0].sum(0).abs().numpy()
    assert np.array_equal(values.ravel().argsort(), magnitude.ravel().argsort())
    assert strength(attribution, (24, 16)).shape == (24, 16)


def test_share_inside():
    saliency, mask = np.full((4, 4), 0.5), np.zeros((4, 4), dtype=bool)
    mask[:2, :2] = True
    assert share_inside(saliency, mask) == mask.mean() == 0.25
    assert share_inside(mask.astype(float), mask) == 1
    for bad in (np.zeros((4, 4)), np.ones((4, 5))):
        with pytest.raises(UndefinedError):
            share_inside(bad, mask)
