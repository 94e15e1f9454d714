"""Groups of shares: what they explain, and that switching one off takes its share away."""

from dataclasses import replace

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
    assert set(found.masks.unique().tolist()) <= {0.0, 1.0}
    assert not found.masks[:, own.parts[0] <= 0].any()
    assert found.masks.amax(1).sum(0).max() <= 1  # a place is of one group
    assert (found.shares.diff() <= 0).all() and found.shares.min() > 0
    torch.testing.assert_close(found.shares, (found.masks * speaks).sum((1, 2)))
    assert found.explained == pytest.approx(float(found.shares.sum() / speaks.sum()))
    torch.testing.assert_close(found.directions, torch.nn.functional.normalize((found.masks * speaks).sum(2), dim=1))
    torch.testing.assert_close(found.directions.norm(dim=1), torch.ones(len(found.shares), dtype=model.dtype))
    if found.maps is not None:
        prefix = own.layer.prefix
        torch.testing.assert_close(found.maps.sum((1, 2)), (found.masks * speaks)[..., prefix:].sum((1, 2)))
    assert 1 <= len(found.shares) <= COUNTS[-1]
    if len(found.shares) > 1:
        assert groups(own, len(found.shares) - 1).explained < ENOUGH


def test_two_things_at_places_of_their_own_are_two_groups_and_what_is_between_goes_whole_to_the_stronger(
    image_model, pictures
):
    model = image_model("test_resnet", 32)
    (own,) = shares(model, pictures(1), [Target(3)], ["layer2"])["layer2"]
    parts = torch.zeros_like(own.parts)
    parts[0, :3, 0], parts[0, 2:5, 1] = 2.0, 1.0  # channel 2 is in both
    parts[0, :5, 2] = torch.tensor([0.2, 0.2, 0.8, 0.6, 0.6])
    parts[0, 6, :3] = -1.0
    found = groups(replace(own, parts=parts), 2)
    whole = torch.zeros_like(found.masks)
    whole[0, :3, 0] = whole[1, 2:5, 1] = 1
    whole[1, 2:5, 2] = 1
    assert torch.equal(found.masks[..., :2], whole[..., :2])
    assert torch.equal(found.masks[:, 2:5, 2], whole[:, 2:5, 2]) and not found.masks[0, :, 2].any()
    assert found.shares.tolist() == pytest.approx([6.0, 3.0 + float((found.masks[1, :, 2] * parts[0, :, 2]).sum())])


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
