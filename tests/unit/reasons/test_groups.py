"""Groups of shares: what they explain, and that switching one off takes its share away."""

import pytest
import torch
from sklearn.decomposition import NMF

from lsd.errors import UndefinedError
from lsd.layout import flat_to_grid, from_flat, to_flat
from lsd.reasons.groups import COUNTS, ENOUGH, factorise, groups
from lsd.reasons.shares import shares
from lsd.saliency.targets import Target
from lsd.tracing import capture


@pytest.fixture
def matrix():
    random = torch.Generator().manual_seed(3)
    return torch.rand(12, 3, generator=random) @ torch.rand(3, 20, generator=random)


def test_a_matrix_that_has_few_factors_is_found_again(matrix):
    patterns, places = factorise(matrix, 3)
    assert patterns.min() >= 0
    assert places.min() >= 0
    assert float((patterns @ places - matrix).norm() / matrix.norm()) < 0.02


def test_no_worse_than_scikit_learn_and_the_same_each_time(matrix):
    noisy = matrix + torch.rand(matrix.shape, generator=torch.Generator().manual_seed(4))
    theirs = NMF(4, init="nndsvda", max_iter=2000).fit(noisy.numpy())
    patterns, places = factorise(noisy, 4)
    assert float((patterns @ places - noisy).norm()) < 1.01 * theirs.reconstruction_err_
    assert torch.equal(factorise(noisy, 4)[0], patterns)


def test_more_factors_than_there_are_rows(matrix):
    patterns, places = factorise(matrix[:2], 6)
    assert float((patterns @ places - matrix[:2]).norm() / matrix.norm()) < 1e-3


LAYERS = [
    ("test_resnet", {}, "layer2"), ("test_vit", {"img_size": 32}, "blocks.2"), ("test_resnet", {}, "global_pool"),
    ("swin_tiny_patch4_window7_224", {"img_size": 32, "window_size": 2}, "layers.0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings", "layer"), LAYERS, ids=lambda v: v if isinstance(v, str) else "")
def test_of_a_network(image_model, pictures, name, settings, layer):
    model, images = image_model(name, 32, **settings), pictures(1)
    (own,) = shares(model, images, [Target(3)], [layer])[layer]
    found = groups(own)
    speaks = own.parts[0].clamp(min=0)
    assert found.masks.min() >= 0
    assert found.masks.sum(0).max() <= 1 + 1e-6
    assert not found.masks[:, own.parts[0] <= 0].any()
    assert (found.shares.diff() <= 0).all()
    torch.testing.assert_close(found.shares, (found.masks * speaks).sum((1, 2)))
    assert found.explained == pytest.approx(float(found.shares.sum() / speaks.sum()))
    torch.testing.assert_close(found.directions.norm(dim=1), torch.ones(len(found.shares), dtype=model.dtype))
    if found.maps is not None:
        prefix = own.layer.prefix
        torch.testing.assert_close(found.maps.sum((1, 2)), (found.masks * speaks)[..., prefix:].sum((1, 2)))
    assert len(found.shares) in COUNTS or found.explained == pytest.approx(1)
    assert found.explained >= ENOUGH or len(found.shares) == COUNTS[-1]


@pytest.mark.parametrize(("name", "settings", "layer"), LAYERS, ids=lambda v: v if isinstance(v, str) else "")
def test_channels_over_places_and_back(image_model, pictures, name, settings, layer):
    model = image_model(name, 32, **settings)
    (own,) = shares(model, pictures(2), [Target(3)], [layer], method="activation")[layer]
    with capture(model, [layer]) as captured:
        model(pictures(2))
    output = captured[layer]
    assert torch.equal(from_flat(own.layer, to_flat(own.layer, output), output), output)
    if own.layer.height:
        one = flat_to_grid(own.layer, to_flat(own.layer, output)[:, :1])
        assert torch.equal(one, own.maps[:, :1])


def test_what_cannot_be_grouped_says_why(image_model, pictures):
    model = image_model("test_resnet", 32)
    of = {
        m: shares(model, pictures(2), [Target(3)], ["layer2"], method=m)["layer2"][0]
        for m in ("activation", "ablation")
    }
    with pytest.raises(UndefinedError, match="of 2 pictures"):
        groups(of["activation"])
    with pytest.raises(UndefinedError, match="ablation"):
        groups(of["ablation"])
