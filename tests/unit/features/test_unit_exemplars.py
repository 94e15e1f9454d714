"""Where units answer most in photos, and which part of a photo that is."""

import numpy as np
import pytest
import torch
from torch import nn

from lsd.errors import UndefinedError
from lsd.features.exemplars import Strongest, answers, area, at_places, in_photo, taps
from lsd.features.units import parse
from lsd.images import InputSpec
from lsd.layers import find_layer
from lsd.models import get_model
from lsd.tracing import run_to


@pytest.fixture(scope="module")
def net(wrap):
    """Its first layer is a 3 × 3 convolution with a stride of 4 on 32 × 32 pixels; then two classes of what that puts out."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 5, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))
    return wrap(nn.Sequential(*layers), size=32, classes=3, crop_pct=1.0)


def asked(text, model, batch):
    unit = parse(text)
    return answers(unit, model, run_to(model, batch, taps(unit, model)), len(batch))


def test_a_channel_answers_at_its_best_place(net, pictures):
    batch = pictures(4)
    grid = net.net[0](batch)[:, 2].detach()
    found = asked("0/channel/2", net, batch)
    assert found.values == pytest.approx(grid.amax((1, 2)).numpy())
    for n, part in enumerate(found.areas):
        row, column = np.unravel_index(grid[n].argmax(), (8, 8))
        assert part == area((row, column), find_layer(net, "0"), (32, 32)) and part[2] - part[0] == 12
        assert part[0] <= column * 4 and column * 4 + 4 <= part[2] and part[1] <= row * 4 and row * 4 + 4 <= part[3]


def test_a_direction_is_of_length_one_a_layer_and_a_position_are_mean_squares_and_a_neuron_has_its_place(net, pictures):
    batch = pictures(3)
    grid = net.net[0](batch).detach()
    direction = (3 * grid[:, 0] - 4 * grid[:, 1]) / 5
    assert asked("0/direction/0:3,1:-4", net, batch).values == pytest.approx(direction.amax((1, 2)).numpy())
    assert asked("0/layer", net, batch).values == pytest.approx(grid.square().mean(1).amax((1, 2)).numpy())
    assert asked("0/position/1/6", net, batch).values == pytest.approx(grid[:, :, 1, 6].square().mean(1).numpy())
    neuron = asked("0/neuron/3/1/6", net, batch)
    assert neuron.values == pytest.approx(grid[:, 3, 1, 6].numpy())
    assert neuron.areas == [area((1, 6), find_layer(net, "0"), (32, 32))] * 3


def test_what_has_no_places_is_asked_about_the_whole(net, pictures):
    batch = pictures(3)
    logits = net(batch).detach()
    odds = logits[:, 1] - torch.logsumexp(logits[:, [0, 2]], 1)
    found = asked("class/1", net, batch)
    assert found.values == pytest.approx(odds.numpy()) and found.areas == [(0, 0, 32, 32)] * 3
    assert asked("logit/1", net, batch).values == pytest.approx(logits[:, 1].numpy())
    vector = asked("3/channel/0", net, batch)
    assert vector.values == pytest.approx(net.net[:4](batch)[:, 0].detach().numpy()) and vector.areas == found.areas
    summed = asked("class/1 + 2 * 0/channel/2", net, batch)
    assert summed.values == pytest.approx((odds + 2 * net.net[0](batch)[:, 2].mean((1, 2)).detach()).numpy())


@pytest.mark.parametrize("text", ["blocks.1/token/0/5", "blocks.1.attn/head/1", "blocks.1/channel/7"])
def test_units_of_transformers_answer(text):
    model = get_model("demo:vit")
    batch = torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    found = asked(text, model, batch)
    alone = np.concatenate([asked(text, model, one[None]).values for one in batch])
    assert np.isfinite(found.values).all() and found.values == pytest.approx(alone, rel=1e-4)
    assert len(set(found.values)) == 3 and (found.areas[0] == (0, 0, 96, 96)) == ("channel" not in text)


def test_no_number_is_the_least_answer(net, pictures):
    batch = pictures(2)
    batch[1] = torch.nan
    assert asked("0/channel/2", net, batch).values[1] == -np.inf


@pytest.mark.parametrize("text, words", [
    ("other::class/1", "of several networks"),
    ("0/channel/1 + other::class/1", "of several networks"),
    ("0/caricature", "a photo of its own"),
])  # fmt: skip
def test_units_that_are_not_asked_are_refused_in_a_sentence(net, text, words):
    with pytest.raises(UndefinedError, match=words):
        taps(parse(text), net)


def test_a_unit_without_places_is_not_asked_at_places(net):
    with pytest.raises(UndefinedError, match="not asked at places"):
        at_places(parse("class/1"), find_layer(net, "0"), torch.zeros(1, 5, 8, 8))


def test_parts_of_the_input_are_parts_of_the_photo():
    whole = InputSpec(100, 100, crop_pct=1.0)
    assert in_photo((25, 50, 75, 100), (400, 400), whole) == (100, 200, 300, 400)
    # Of a wide photo the middle is seen; of a padded one, what lies in the photo.
    assert in_photo((0, 0, 50, 100), (800, 400), whole) == (200, 0, 400, 400)
    padded = InputSpec(100, 100, crop_pct=1.0, crop_mode="border")
    assert in_photo((0, 0, 100, 100), (800, 400), padded) == (0, 0, 800, 400)
    assert in_photo((0, 0, 100, 10), (800, 400), padded) == (0, 0, 800, 1)
    assert in_photo((0, 0, 1, 1), (20, 20), whole) == (0, 0, 1, 1)  # at least a pixel
    assert in_photo((99, 99, 100, 100), (20, 20), whole) == (19, 19, 20, 20)


def test_the_strongest_are_kept_and_of_equal_ones_the_earlier():
    random = np.random.default_rng(0)
    values = random.integers(0, 20, 200).tolist()
    made, kept = [], Strongest(7)
    for number, value in enumerate(values):
        kept.offer(value, number, lambda number=number: made.append(number) or f"thing {number}")
    expected = sorted(range(200), key=lambda n: (-values[n], n))[:7]
    assert kept.sorted() == [(values[n], n, f"thing {n}") for n in expected]
    assert len(made) < 100 and Strongest(0).sorted() == []
