"""Passes that go on from a layer against whole ones."""

import pytest
import torch
from torch import nn

from lsd.errors import UndefinedError
from lsd.resumed import kept_before, resumed
from lsd.tracing import replaced

NETWORKS = [
    ("test_resnet", {}, "layer2"), ("test_resnet", {}, "layer3.0.conv1"), ("test_vit", {"img_size": 32}, "blocks.1.attn"),
    ("swin_tiny_patch4_window7_224", {"img_size": 32, "window_size": 2}, "layers.1.blocks.0"),
    ("densenet121", {}, "features.denseblock2.denselayer3"),
]  # fmt: skip


def ran(model):
    """Module's name → how often it computed something, filled while the hooks are there."""
    counts, handles = {}, []
    for name, module in model.net.named_modules():
        if not list(module.children()):

            def count(_module, _inputs, name=name):
                counts[name] = counts.get(name, 0) + 1

            handles.append(module.register_forward_pre_hook(count))
    return counts, handles


@pytest.mark.parametrize(("name", "settings", "layer"), NETWORKS)
def test_a_pass_that_goes_on_is_a_whole_one_whatever_becomes_of_the_layer(image_model, pictures, name, settings, layer):
    model, images = image_model(name, 32, **settings), pictures(2)
    whole = model(images)
    with kept_before(model, layer) as before, torch.no_grad():
        kept = model(images)
    assert torch.equal(kept, whole)
    for factor in (1.0, 0.5, 1.0):  # the last one: nothing that was kept is changed by going on
        with replaced(model, layer, lambda output, factor=factor: output * factor):
            expected = model(images)
            with resumed(model, before):
                assert torch.equal(model(images), expected)
    assert torch.equal(model(images), whole)


def test_what_comes_before_is_not_done_again(image_model, pictures):
    model, images = image_model("test_efficientnet"), pictures()
    with kept_before(model, "blocks.2") as before:
        model(images)
    counts, handles = ran(model)
    with resumed(model, before):
        model(images)
    for handle in handles:
        handle.remove()
    assert not any(name.startswith(("blocks.0", "blocks.1", "blocks.2")) for name in counts)
    assert "conv_head" in counts


class Inplace(nn.Module):
    """A module that runs before and after the layer, and additions in place around it."""

    def __init__(self):
        super().__init__()
        self.first, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True)
        self.layer, self.last, self.fc = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Linear(3, 3)

    def forward(self, x):
        x = self.relu(self.first(x))
        y = self.layer(x)
        x += 1
        y += x
        return self.fc(self.relu(self.last(y)).mean((2, 3)))


def test_what_happens_in_place_and_modules_that_run_again_are_told_apart(wrap, pictures):
    torch.manual_seed(0)
    model, images = wrap(Inplace()), pictures(2, 8)
    whole = model(images)
    with kept_before(model, "layer") as before:
        model(images)
    for _ in range(2):
        with resumed(model, before):
            assert torch.equal(model(images), whole)


def test_the_network_is_as_it_was_after_a_failure(image_model, pictures):
    model, images = image_model("test_resnet"), pictures()
    whole = model(images)
    with kept_before(model, "layer2") as before:
        model(images)

    def fail(_output):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError), resumed(model, before), replaced(model, "layer3", fail):
        model(images)
    assert torch.equal(model(images), whole) and not any("forward" in vars(module) for module in model.net.modules())
    with pytest.raises(UndefinedError, match="has no layer"), kept_before(model, "layer17"):
        pass
