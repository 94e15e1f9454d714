"""The steadiness of maps against a slow implementation, and where the answer is known beforehand."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import nn

from lsd.embedding import embed
from lsd.errors import UndefinedError
from lsd.groups import Group
from lsd.saliency import steadiness as module
from lsd.saliency.explain import TargetSpec, explain
from lsd.saliency.maps import MapSettings, to_map
from lsd.saliency.methods import METHODS, attribute
from lsd.saliency.steadiness import (
    NOISE,
    Steadiness,
    aligned,
    changed,
    steadiness,
    steadiness_of_each,
    steadiness_of_explanation,
    told,
    usual,
)
from lsd.saliency.targets import GroupTarget, Similarity, Target


class Linear(nn.Module):
    """The same slope for every picture, wherever its content is."""

    def __init__(self, size):
        super().__init__()
        self.line = nn.Parameter(torch.randn(3, 3 * size * size, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        return x.flatten(1) @ self.line.T


class Square(nn.Module):
    """A slope that goes wherever the picture's content goes."""

    def forward(self, x):
        return torch.stack([(x**3).sum((1, 2, 3)), x.sum((1, 2, 3)), 0 * x.sum((1, 2, 3))], 1)


def slowly(model, image, name, target, **settings):
    """Steadiness by loops over pixels, a copy at a time."""
    height, width = image.shape[2:]
    step = {32: 1, 64: 1, 160: 3}[min(height, width)]
    generator = torch.Generator().manual_seed(0)
    drawing = MapSettings(sign=METHODS[name].sign, clip=100)

    def finished(picture, more=None):
        values = attribute(name, model, picture, target, **(settings | (more or {}))).values
        return to_map(values.numpy(), drawing, (height, width))[0]

    before, found = finished(image), []
    for move in (step, -step):
        copy = torch.empty_like(image)
        for y in range(height):
            for x in range(width):
                copy[..., y, x] = image[..., min(max(y - move, 0), height - 1), min(max(x - move, 0), width - 1)]
        after, pairs = finished(copy, {"seed": 1} if "seed" in settings else None), []
        for y in range(height):
            for x in range(width):
                if 0 <= y + move < height and 0 <= x + move < width:
                    pairs.append((before[y, x], after[y + move, x + move]))
        found.append(spearmanr(pairs).statistic)
    for _ in range(2):
        noise = torch.randn(image.shape, generator=generator).to(image)
        after = finished((image + 0.03 * noise).clamp(0, 1), {"seed": 1} if "seed" in settings else None)
        found.append(spearmanr(before.ravel(), after.ravel()).statistic)
    return found


@pytest.mark.parametrize(
    "name, settings",
    [("gradient", {}), ("grad_cam", {}), ("depth_fusion", {}), ("captum:saliency", {}), ("smoothgrad", {"samples": 4, "seed": 0}),
     ("refine_cam", {}), ("finer_cam", {}), ("score_cam", {"masks": 3})],
)  # fmt: skip
def test_it_is_what_loops_over_the_pixels_find(image_model, pictures, name, settings):
    model, image = image_model("test_resnet", 64), pictures(1, 64)
    target = Target(3)
    mine = attribute(name, model, image, target, **settings)
    result = steadiness(model, image, mine, settings)
    shifts, noises = np.split(np.array(slowly(model, image, name, target, **settings)), 2)
    assert result.shift == pytest.approx(shifts.mean(), abs=1e-9)
    assert result.noise == pytest.approx(noises.mean(), abs=1e-9)
    assert result.value == pytest.approx((shifts.mean() + noises.mean()) / 2, abs=1e-9)
    assert result.passes == 4 * mine.passes


def test_a_map_that_goes_with_the_picture_is_steady_and_one_that_stays_behind_is_not(wrap, pictures):
    image = pictures(1, 160)
    going = wrap(Square(), 160)
    result = steadiness(going, image, attribute("gradient", going, image, Target(0, "logit")), {})
    assert result.shift > 0.99  # at the rim a copy has other pixels
    staying = wrap(Linear(160), 160)
    result = steadiness(staying, image, attribute("gradient", staying, image, Target(0, "logit")), {})
    assert result.noise == pytest.approx(1, abs=1e-12)
    assert abs(result.shift) < 0.1  # white noise three pixels on is another


def test_copies_are_moved_by_an_odd_number_of_pixels_and_their_grain_is_as_strong_as_it_is_said_to_be(pictures):
    image = pictures(1, 320) * 0.5 + 0.25
    steps, copies = changed(image)
    assert steps == [5, -5, 0, 0] and copies.shape == (4, 3, 320, 320)
    torch.testing.assert_close(copies[0, :, 5:, 5:], image[0, :, :-5, :-5])
    torch.testing.assert_close(copies[0, :, :5, 5:], image[0, :, :1, :-5].expand(-1, 5, -1))
    torch.testing.assert_close(copies[1, :, :-5, :-5], image[0, :, 5:, 5:])
    for one in copies[2:]:
        assert float((one - image[0]).std()) == pytest.approx(NOISE, rel=0.02)
    assert (copies[2] != copies[3]).any()
    before, after = aligned(np.arange(12).reshape(3, 4), np.arange(12).reshape(3, 4), 1)
    assert before.tolist() == [[0, 1, 2], [4, 5, 6]] and after.tolist() == [[5, 6, 7], [9, 10, 11]]


def test_nothing_but_chance_moves_a_map_of_an_unchanged_picture(image_model, pictures, monkeypatch):
    monkeypatch.setattr(module, "changed", lambda image, seed: ([0] * 4, image.repeat(4, 1, 1, 1)))
    model, image = image_model("test_resnet", 32), pictures(1, 32)
    for name in ("gradient", "grad_cam", "depth_fusion", "integrated_gradients", "captum:occlusion"):
        settings = {"window": 8, "stride": 8} if "occlusion" in name else {}
        mine = attribute(name, model, image, Target(3), **settings)
        found = steadiness(model, image, mine, settings)
        assert (found.shift, found.noise) == pytest.approx((1, 1), abs=1e-12), name
    few, many = (
        steadiness(model, image, attribute("smoothgrad", model, image, Target(3), samples=n), {"samples": n}).value
        for n in (2, 128)
    )
    assert few < many < 1


def test_the_same_seed_gives_the_same_number_and_another_one_another(image_model, pictures):
    model, image = image_model("test_resnet", 32), pictures(1, 32)
    mine = attribute("gradient", model, image, Target(3))
    first, again, other = (steadiness(model, image, mine, {}, seed=seed) for seed in (0, 0, 1))
    assert first == again and first.shift == other.shift and first.noise != other.noise


def test_the_layer_is_not_chosen_anew(image_model, pictures, monkeypatch):
    model, image = image_model("test_resnet", 64), pictures(1, 64)
    mine = attribute("grad_cam", model, image, Target(3))
    asked = []

    def spy(name, *arguments, **settings):
        asked.append(settings)
        return attribute(name, *arguments, **settings)

    monkeypatch.setattr(module, "attribute", spy)
    steadiness(model, image, mine, {})
    assert asked == [{"layer": mine.settings["layer"]}] and asked[0]["layer"]


def test_likeness_to_another_picture_has_a_steadiness_too(image_model, pictures):
    model, (image, other) = image_model("test_resnet", 32), pictures(2, 32).split(1)
    target = Similarity(embed(model, other)[0], {"file": "other.png"})
    mine = attribute("gradient", model, image, target)
    assert -1 <= steadiness(model, image, mine, {}).value < 1


@pytest.mark.parametrize("index", [None, 1])
def test_a_group_and_a_class_within_it_have_a_steadiness_too(image_model, pictures, index):
    model, image = image_model("test_resnet", 64), pictures(1, 64)
    target = GroupTarget(Group("kind", (0, 1, 2)), index)
    found = steadiness(model, image, attribute("gradient", model, image, target), {})
    shifts, noises = np.split(np.array(slowly(model, image, "gradient", target)), 2)
    assert (found.shift, found.noise) == pytest.approx((shifts.mean(), noises.mean()), abs=1e-9)


def test_of_several_maps_each_is_measured_and_an_empty_one_is_left_out(wrap):
    model, picture = (
        wrap(Square(), 32),
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)),
    )
    moving, still = (explain(model, picture, TargetSpec(c, "logit"), "gradient") for c in (0, 2))
    alone = steadiness_of_explanation(model, picture, moving, {})
    assert steadiness_of_each(model, [picture] * 2, [still, moving], {}) == (None, alone)
    with pytest.raises(UndefinedError, match="zero everywhere"):
        steadiness_of_each(model, [picture] * 2, [still, still], {})


def test_what_cannot_move_is_refused(wrap, pictures):
    model, image = wrap(Square(), 32), pictures(1, 32)
    mine = attribute("gradient", model, image, Target(2, "logit"))
    with pytest.raises(UndefinedError, match="zero everywhere"):
        steadiness(model, image, mine, {})


def test_it_is_told_beside_what_is_usual():
    words = told(Steadiness(0.5, 0.7, 4), "gradient")
    assert words.startswith("steadiness 0.60 (moved 0.50, grainy 0.70); usual for this method: ")
    assert words == told(Steadiness(0.5, 0.7, 4), "captum:saliency")
    assert told(Steadiness(0.5, 0.7, 4), "captum:occlusion").endswith("grainy 0.70)")
    assert {"gradient", "grad_cam", "depth_fusion", "guided_backprop"} <= set(usual())
    for name, held in usual().items():
        assert -1 <= held.low <= held.middle <= held.high <= 1, name
        assert -1 <= held.other <= 1, name
