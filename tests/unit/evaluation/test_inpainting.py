"""Ways to fill a hole, where the answer is known."""

import numpy as np
import pytest
import torch

from lsd.errors import UndefinedError
from lsd.evaluation.inpainting import FILLS
from lsd.saliency.gradients import baseline


@pytest.fixture
def holes():
    some = np.zeros((2, 48, 40), dtype=bool)
    some[0, 10:20, 12:30] = True
    some[1, ::7, ::5] = True
    some[1, 30:, :10] = True
    return list(some)


@pytest.mark.parametrize("fill", FILLS)
def test_what_is_outside_of_a_hole_stays_and_what_is_inside_has_no_say(image_model, pictures, holes, fill):
    model, image = image_model("test_resnet", 32), torch.rand(1, 3, 48, 40, generator=torch.Generator().manual_seed(1))
    filled = FILLS[fill](model, image, holes)
    assert filled.shape == (2, 3, 48, 40) and filled.min() >= 0 and filled.max() <= 1
    for one, hole in zip(filled, holes, strict=True):
        assert torch.equal(one[:, ~hole], image[0][:, ~hole])
        if fill != "blur":
            hidden = image.clone()
            hidden[..., torch.from_numpy(hole)] = 0.5
            torch.testing.assert_close(FILLS[fill](model, hidden, [hole])[0], one, atol=1e-6, rtol=0)


@pytest.mark.parametrize("fill", ["pyramid", "biharmonic"])
@pytest.mark.parametrize("side", [48, 200])
def test_a_plain_picture_is_restored(image_model, fill, side):
    hole = np.zeros((side, side), dtype=bool)
    hole[side // 4 : side // 2, side // 3 : side // 2] = True
    image = torch.tensor([0.2, 0.5, 0.9]).view(1, 3, 1, 1).expand(1, 3, side, side).double()
    torch.testing.assert_close(FILLS[fill](image_model("test_resnet", 32), image, [hole]), image, atol=1e-6, rtol=0)


def test_biharmonic_continues_a_slope(image_model):
    slope = torch.linspace(0.1, 0.9, 48, dtype=torch.float64).expand(1, 3, 48, 48)
    hole = np.zeros((48, 48), dtype=bool)
    hole[16:32, 16:32] = True
    model = image_model("test_resnet", 32)
    assert (FILLS["biharmonic"](model, slope, [hole]) - slope).abs().max() < 1e-3
    assert (FILLS["pyramid"](model, slope, [hole]) - slope).abs().max() > 0.01


def test_mean_and_blur_are_the_baselines(image_model, pictures, holes):
    model, image = image_model("test_resnet", 32), torch.rand(1, 3, 48, 40, dtype=torch.float64)
    for fill in ("mean", "blur"):
        filled = FILLS[fill](model, image, holes)[0]
        torch.testing.assert_close(filled[:, holes[0]], baseline(model, image, fill)[0][:, holes[0]])


@pytest.mark.parametrize("fill", ["pyramid", "biharmonic"])
def test_a_hole_without_surroundings_is_refused(image_model, pictures, fill):
    with pytest.raises(UndefinedError, match="no surroundings"):
        FILLS[fill](image_model("test_resnet", 32), pictures(1, 32), [np.ones((32, 32), dtype=bool)])
