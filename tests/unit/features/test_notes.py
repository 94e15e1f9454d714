"""What is said of finished pictures: why nothing reaches them, and what of their recipe came to nothing."""

from dataclasses import replace

import pytest
import torch
from ascent_fixture import SMALL, pictures
from torch import nn

from lsd.features.notes import DEAD, FAILED, HIGHEST, NO_ACTIVATION, NO_BRANCH, NO_NORMS, UNSTARTED
from lsd.features.recipes import RECIPES
from lsd.features.soften import Softening

QUICK = replace(SMALL, steps=2)
GENTLE = replace(QUICK, gradient=Softening(branch=0.5, leak=0.1))


class Shut(nn.Module):
    """Two channels that are 0 whatever the picture, one that is the same below 0, and one that is open."""

    def __init__(self, act: nn.Module):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.act, self.pool = nn.Conv2d(3, 4, 1), act, nn.MaxPool2d(2)
        self.below = nn.Conv2d(4, 4, 1)
        with torch.no_grad():
            self.conv.weight.normal_(std=0.1)
            self.conv.bias.copy_(torch.tensor([-1e6, -1e6, -1e6, 1.0]))

    def forward(self, x):
        return self.below(self.pool(self.act(self.conv(x)))).mean((2, 3))


SHUT = replace(SMALL, steps=12, redirect_steps=2)


@pytest.mark.parametrize("unit, note", [
    ("-1 * act/channel/0", HIGHEST), ("-2 * pool/channel/0", HIGHEST), ("-1 * act/neuron/0/3/3", HIGHEST),
    ("-1 * act/channel/0 - 0.5 * pool/channel/1", HIGHEST), ("-1 * act/channel/0 * act/channel/1", HIGHEST),
    ("-1 * act/direction/0:1,1:2", HIGHEST), ("act/direction/0:-1,1:-2", HIGHEST),
    ("act/channel/0", DEAD), ("act/channel/0 - act/channel/1", DEAD), ("-1 * (act/channel/0 - act/channel/1)", DEAD),
    ("0 * act/channel/3", DEAD), ("act/direction/0:1,1:-2", DEAD),
])  # fmt: skip
@pytest.mark.parametrize("act", [nn.ReLU, nn.ReLU6])
def test_an_objective_at_its_bound_is_not_said_to_be_dead_to_all(wrap, act, unit, note):
    (picture,) = pictures(wrap(Shut(act()), 16).float(), [unit], SHUT)
    assert picture.status == "dead" and picture.notes == (note,)


def test_a_negative_that_could_still_rise_is_not_at_its_bound(wrap):
    """This activation is 0 far below as well, and lower in between."""
    (picture,) = pictures(wrap(Shut(nn.Hardswish()), 16).float(), ["-1 * act/channel/0"], SHUT)
    assert picture.score == 0 and picture.notes == (DEAD,)


def test_a_negative_of_a_rectified_channel_of_a_trained_network(demo):
    """As it comes to people: the first begins at 0, where nothing lifts it, and the other comes to 0 from below."""
    units = ["-1 * layer4/channel/14", "-1 * layer4/channel/1"]
    at_bound, falls = pictures(demo("resnet"), units, replace(RECIPES["lsd"], steps=70))
    assert at_bound.status == "dead" and at_bound.notes == (HIGHEST,) and at_bound.score == 0
    assert falls.status == "ok" and falls.notes == () and falls.trace[0] < falls.trace[-1] == 0


class Broken(nn.Module):
    """Finite below its limit alone."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def forward(self, x):
        mean = x.mean((2, 3))
        return torch.where(mean < self.limit, mean, torch.nan)


@pytest.mark.parametrize("limit, why", [(-1.0, UNSTARTED), (0.51, FAILED)])
def test_numbers_out_of_range_are_told(wrap, limit, why):
    (picture,) = pictures(wrap(Broken(limit), 16).float(), ["logit/0"], replace(QUICK, learning_rate=0.5))
    assert picture.status == "failed" and picture.notes == (why,)


class Plain(nn.Sequential):
    """Neither shortcuts nor activation functions up to its first layer; then an activation."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        )


def test_a_term_that_a_network_has_nothing_for_is_told(wrap, demo):
    recipe, model = replace(RECIPES["deepinversion"], steps=2), wrap(Plain(), 16).float()
    assert [p.notes for p in pictures(model, ["class/0", "class/1"], recipe)] == [(NO_NORMS,)] * 2
    assert [p.notes for p in pictures(demo("resnet"), ["class/3"], recipe)] == [()]
    assert [p.notes for p in pictures(model, ["class/0"], QUICK)] == [()]


def test_a_gentler_gradient_that_finds_nothing_is_told(wrap, demo):
    """Unit by unit, whoever its neighbours are, and whatever its own arithmetic adds."""
    model = wrap(Plain(), 16).float()
    first, sum_, last = pictures(model, ["0/channel/1", "0/channel/1 + 2 * 0/channel/2", "class/0"], GENTLE)
    assert first.notes == sum_.notes == (NO_BRANCH, NO_ACTIVATION) and last.notes == (NO_BRANCH,)
    only = replace(QUICK, gradient=Softening(leak=0.1))
    assert [p.notes for p in pictures(model, ["0/channel/1", "class/0"], only)] == [(NO_ACTIVATION,), ()]
    assert [p.notes for p in pictures(model, ["0/channel/1"], QUICK)] == [()]
    for name in ("resnet", "vit", "convnext"):
        assert [p.notes for p in pictures(demo(name), ["class/1"], GENTLE)] == [()]
