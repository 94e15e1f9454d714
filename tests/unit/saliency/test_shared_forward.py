"""Several gradients of one forward pass."""

import pytest
import torch

from lsd.saliency import shared_forward
from lsd.saliency.gradients import differentiate
from lsd.saliency.targets import Target

TARGETS = [Target(3), Target(1, "logit"), Target(2, "contrast", 5), Target(0, "probability"), Target(7)]


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv2_050", "test_convnext", "test_vit"])
@pytest.mark.parametrize("group_bytes", [0, 2**16, 2**40])  # one by one, some at a time, all together
def test_a_group_gives_what_each_gives_alone(image_model, pictures, monkeypatch, name, group_bytes):
    monkeypatch.setattr(shared_forward, "GROUP_BYTES", group_bytes)
    model = image_model(name)
    x = torch.rand(2, 3, model.spec.height, model.spec.width, dtype=model.dtype)
    together, scores = differentiate(model, x, TARGETS)
    for k, target in enumerate(TARGETS):
        alone, score = differentiate(model, x, [target])
        torch.testing.assert_close(together[k], alone[0], rtol=1e-10, atol=1e-12)
        assert torch.equal(scores[k], score[0])


def test_groups_keep_to_their_size(monkeypatch):
    sizes = []
    vmap = torch.func.vmap
    monkeypatch.setattr(
        torch.func, "vmap", lambda f, chunk_size: sizes.append(chunk_size) or vmap(f, chunk_size=chunk_size)
    )
    x = torch.rand(1, 3, 4, 4, requires_grad=True)
    for largest, expected in ((1, [5]), (shared_forward.GROUP_BYTES // 2, [2]), (shared_forward.GROUP_BYTES + 1, [])):
        sizes.clear()
        shared_forward.gradients([(x * k).sum((1, 2, 3)) for k in range(5)], x, largest)
        assert sizes == expected


def test_the_largest_result_is_watched():
    with shared_forward.Watched() as watched:
        torch.zeros(10).add(1).repeat(4).sum()
    assert watched.largest == 4 * 10 * 4
