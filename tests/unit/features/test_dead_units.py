"""Units that do not answer: opened where they can be, said to be dead where not, and nobody's neighbours."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ascent_fixture import SMALL, likeness, pictures
from torch import nn

from lsd.features import slope
from lsd.features.recipes import RECIPES
from lsd.features.soften import Softening
from lsd.features.transforms import Transforms


class Gate(nn.Module):
    """Channels behind a ReLU: the first can never open, the second starts below zero, the third is open."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.act = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()
        with torch.no_grad():
            self.conv.weight.normal_(std=0.2)
            self.conv.bias.copy_(torch.tensor([-1e6, 0.0, 1.0]))
            # Grey gives the second channel just below zero, and the noise of the start cannot lift it.
            self.conv.bias[1] = -0.5 * self.conv.weight[1].sum() - 0.3

    def forward(self, x):
        return self.act(self.conv(x)).mean((2, 3))


@pytest.fixture
def gate(wrap):
    return wrap(Gate(), 16).float()


def test_a_unit_that_can_never_open_is_called_dead(gate):
    recipe = replace(SMALL, steps=40, redirect_steps=8, sd=0.01)
    dead, live = pictures(gate, ["act/channel/0", "act/channel/2"], recipe)
    assert dead.status == "dead" and dead.score == 0 and dead.restarts == 2 and set(dead.trace) == {0.0}
    assert live.status == "ok" and live.restarts == 0


def test_what_leaks_past_a_closed_unit_does_not_bring_it_to_life(gate):
    """The leak moves the picture, which says nothing of whether the unit responds; nor do its neighbours notice."""
    recipe = replace(SMALL, steps=40, redirect_steps=8, sd=0.01, gradient=Softening(leak=0.2))
    dead, live = pictures(gate, ["act/channel/0", "act/channel/2"], recipe)
    assert dead.status == "dead" and dead.restarts == 2 and live.status == "ok"
    (alone,) = pictures(gate, ["act/channel/2"], recipe)
    assert likeness(alone, live) > 0.98


@pytest.mark.parametrize("unit", ["act/channel/1", "act/neuron/1/8/8"])
def test_a_unit_that_starts_shut_is_opened(gate, unit):
    recipe = replace(SMALL, steps=60, redirect_steps=16, sd=0.0)
    (picture,) = pictures(gate, [unit], recipe)
    assert picture.trace[0] == 0 and picture.trace[-1] > 0.05 and picture.score > 0.05 and picture.status == "ok"
    (left,) = pictures(gate, [unit], replace(recipe, redirect_steps=0, steps=8))
    assert left.trace[-1] == 0 and left.status == "dead"  # without help it stays shut


CHANCE = replace(
    SMALL, steps=40, redirect_steps=16, sd=0.0, transforms=Transforms(color_shift=0.5), transforms_end=Transforms()
)  # a view's colours open what the picture itself leaves shut


def test_a_unit_that_chance_opens_for_a_moment_is_helped_when_it_shuts_again(gate):
    (picture,) = pictures(gate, ["act/channel/1"], CHANCE, seeds=[3])
    assert picture.trace[2] > 0 and picture.trace[5:8] == (0, 0, 0)
    (left,) = pictures(gate, ["act/channel/1"], replace(CHANCE, redirect_steps=3), seeds=[3])
    assert picture.status == left.status == "ok" and picture.score > 2 * left.score > 0


def test_a_unit_that_chance_opened_for_a_moment_is_not_alive(gate):
    recipe = replace(CHANCE, steps=6, redirect_steps=0)
    (picture,) = pictures(gate, ["act/channel/1"], recipe, seeds=[5])
    assert picture.trace[0] > 0 and picture.trace[-2:] == (0, 0) and picture.status == "dead"


@pytest.mark.parametrize("unit", ["act/channel/1", "act/neuron/1/8/8"])
def test_a_leak_opens_what_starts_shut_by_itself(gate, unit, monkeypatch):
    monkeypatch.setattr(slope, "ReluRedirect", None)
    recipe = replace(SMALL, steps=60, redirect_steps=16, sd=0.0, gradient=Softening(leak=0.05))
    (picture,) = pictures(gate, [unit], recipe)
    assert picture.trace[0] == 0 and picture.score > 0.05 and picture.status == "ok"


def test_units_that_answer_are_not_redirected(gate):
    """The neighbour of one that is opened climbs as it does alone."""
    recipe = replace(SMALL, steps=30, redirect_steps=16, sd=0.0)
    _, live = pictures(gate, ["act/channel/1", "act/channel/2"], recipe)
    (alone,) = pictures(gate, ["act/channel/2"], recipe)
    np.testing.assert_allclose(live.trace, alone.trace, rtol=1e-5)


@pytest.mark.parametrize("recipe", ["lsd", "texture"])
def test_neighbours_of_a_unit_that_starts_shut_are_as_without_it(demo, recipe):
    """With all that the shipped recipes do: views, stages, gentler gradients."""
    units, recipe = ["class/3", "layer3/channel/5"], replace(RECIPES[recipe], steps=32)
    *beside, opened = pictures(demo("resnet"), [*units, "layer4/channel/15"], recipe)
    assert opened.trace[0] == 0 and opened.status == "ok"  # at the first step no gradient reaches it
    without = pictures(demo("resnet"), units, recipe)
    for a, b in zip(beside, without, strict=True):
        assert likeness(a, b) >= 0.98


class Broken(nn.Module):
    """The second class is no number for any picture."""

    def forward(self, x):
        z = x.mean((2, 3))
        return torch.stack([z[:, 0], torch.log(-z[:, 1].abs() - 1)], 1)


class Steep(nn.Module):
    """The root of zero has a value, and no slope."""

    def forward(self, x):
        return (x - x.detach()).sqrt().mean((2, 3))


def test_numbers_out_of_range_are_called_failed_and_reach_nobody_else(wrap):
    recipe = replace(SMALL, redirect_steps=4, steps=20)
    good, bad = pictures(wrap(Broken(), 16, classes=2).float(), ["logit/0", "logit/1"], recipe)
    (steep,) = pictures(wrap(Steep(), 16).float(), ["logit/0"], recipe)
    assert bad.status == steep.status == "failed"
    assert good.status == "ok" and good.trace[-1] > good.trace[0] and np.isfinite(good.score)


class Faint(nn.Module):
    """Channels behind a SiLU: the first so far below zero that next to nothing is left of it, the second near zero."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.act = nn.Conv2d(3, 2, 3, padding=1), nn.SiLU()
        with torch.no_grad():
            self.conv.weight.normal_(std=0.1)
            self.conv.bias.copy_(torch.tensor([-60.0, 0.0]))

    def forward(self, x):
        return self.act(self.conv(x)).mean((2, 3))


def test_a_unit_whose_gradient_is_lost_in_single_precision_is_called_dead(wrap):
    dead, live = pictures(wrap(Faint(), 16).float(), ["act/channel/0", "act/neuron/1/8/8"], replace(SMALL, steps=8))
    assert dead.status == "dead" and 0 < -dead.score < 1e-20
    assert live.status == "ok" and live.trace[-1] > live.trace[0]
