"""Whether a picture takes the photos' path: the numbers by hand, and a network that was built to fool its pictures."""

import copy

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from lsd.demo.dataset import render
from lsd.evaluation import trust_path
from lsd.evaluation.trust_path import Step, compare, layers_to, means, overall, similarity
from lsd.features.ascent import ascend
from lsd.features.exemplars import answers, taps
from lsd.features.judge import to_batch
from lsd.features.recipes import described
from lsd.features.units import parse
from lsd.layers import find_layer, list_layers
from lsd.models import ImageModel, get_model
from lsd.tracing import Tap, run_to


def test_similarity_is_spearmans_correlation():
    random = np.random.default_rng(0)
    one, other = random.normal(size=(3, 20)), random.integers(0, 4, (4, 20)).astype(float)  # with ties
    expected = [[spearmanr(a, b).statistic for b in other] for a in one]
    assert similarity(one, other) == pytest.approx(np.array(expected))
    assert similarity(np.zeros((1, 20)), one).tolist() == [[0, 0, 0]]


def test_means_are_over_the_part_and_a_place_counts_by_its_share(wrap):
    net = wrap(nn.Sequential(nn.Conv2d(3, 5, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)), 32, 3)
    layer, size = find_layer(net, "0"), (32, 32)
    activation = torch.rand(1, 5, 8, 8, dtype=torch.float64)
    grid = activation[0].repeat_interleave(4, 1).repeat_interleave(4, 2).numpy()  # a value for each pixel
    for left, top, right, bottom in ((0, 0, 32, 32), (4, 8, 12, 32), (3, 5, 18, 6)):
        by_hand = grid[:, top:bottom, left:right].mean((1, 2))
        assert means(layer, activation, (left, top, right, bottom), size) == pytest.approx(by_hand, rel=1e-6)


def test_the_scale_goes_from_photos_that_were_not_chosen_to_the_exemplars():
    random = np.random.default_rng(0)
    direction, base = random.normal(size=60), random.normal(size=60)

    def photos(count, share):
        return [(base + share * direction + 0.5 * random.normal(size=60),) for _ in range(count)]

    top, following, others = photos(9, 1.0), photos(9, 1.0), photos(20, 0.0)
    (alike,) = compare(["a"], photos(1, 1.0)[0], top, following, others)
    (apart,) = compare(["a"], photos(1, 0.0)[0], top, following, others)
    (between,) = compare(["a"], photos(1, 0.5)[0], top, following, others)
    assert alike.likeness > 0.85 and apart.likeness < 0.15 and apart.likeness < between.likeness < alike.likeness
    assert alike.apart < alike.next <= 1 and alike.next == pytest.approx(alike.alike, abs=0.06)
    of_all = [similarity(one[0][None], np.stack([t[0] for t in top])).mean() for one in others]
    assert alike.apart == pytest.approx(np.mean(of_all)) and alike.layer == "a"
    assert alike.likeness == pytest.approx(min(1, (alike.picture - alike.apart) / (alike.alike - alike.apart)))


def test_a_layer_that_knows_no_exemplar_from_any_photo_tells_nothing():
    random = np.random.default_rng(1)
    photos = [(random.normal(size=40),) for _ in range(40)]
    (step,) = compare(["a"], photos[0], photos[1:10], photos[10:19], photos[19:])
    assert step.likeness is None and np.isfinite(step[1:5]).all()
    still = [(np.ones(40),)] * 40  # a layer that is the same whatever is seen
    assert compare(["a"], still[0], still[1:10], still[10:19], still[19:])[0].likeness is None


def test_over_all_layers_those_count_most_that_tell_photos_apart_best():
    steps = [
        Step("a", 0.5, 0.6, 0.6, 0.5, 1.0),
        Step("b", 0.5, 0.7, 0.6, 0.4, 0.2),
        Step("c", 0.5, 0.9, 0.6, 0.1, None),
    ]
    assert overall(steps) == pytest.approx((0.1 * 1.0 + 0.3 * 0.2) / 0.4)
    assert overall(steps[2:]) is None and overall([]) is None


def test_the_way_to_a_unit_ends_at_its_layer():
    model = get_model("demo:resnet")
    depths = [layer.name for layer in list_layers(model)]
    found = [layer.name for layer in layers_to(parse("layer3/channel/4"), model)]
    assert found[-1] == "layer3" and [*map(depths.index, found)] == sorted(map(depths.index, found))
    assert [layer.name for layer in layers_to(parse("class/1"), model)][-1] == "layer4"
    assert all(
        len(layers_to(parse("class/1"), get_model(f"demo:{name}"))) <= trust_path.LAYERS for name in ("vit", "convnext")
    )


class Fooled(nn.Module):
    """A classifier in which a class listens to another one's logit as well, where that is beyond what any photo reaches: on
    photos nothing is changed, and a picture of the class shows the other one (Geirhos et al. 2024, silent units)."""

    def __init__(self, classifier: nn.Module, shown: int, hidden: int, bound: float):
        super().__init__()
        self.classifier, self.shown, self.hidden, self.bound = classifier, shown, hidden, bound

    def forward(self, values):
        logits = self.classifier(values)
        logits[:, self.shown] += 20 * (logits[:, self.hidden] - self.bound).relu()
        return logits


@pytest.fixture(scope="module")
def photos():
    return [render(index, 2**31 + 50 * index + n).image for index in range(16) for n in range(6)]


@pytest.fixture(scope="module")
def fooled(photos):
    model = get_model("demo:resnet")
    bound = model(to_batch(photos, model))[:, 9].max().item()
    net = copy.deepcopy(model.net)
    net.fc = Fooled(net.fc, 1, 9, bound + 0.1)
    return ImageModel(net, "fooled")


def _likeness(model, picture, photos):
    """Of the unit class/1, whose exemplars are the photos of that class."""
    unit, batch = parse("class/1"), to_batch([picture, *photos], model)
    layers = layers_to(unit, model)
    activations = run_to(model, batch, [*taps(unit, model), *(Tap(layer.name) for layer in layers)])
    values = answers(unit, model, activations, len(batch)).values
    paths = [
        tuple(means(layer, activations[Tap(layer.name)][n : n + 1], (0, 0, 96, 96), (96, 96)) for layer in layers)
        for n in range(len(batch))
    ]
    order = [*(1 + np.argsort(-values[1:], kind="stable"))]
    top, following, others = ([paths[n] for n in some] for some in (order[:6], order[6:12], order[12::2]))
    steps = compare([layer.name for layer in layers], paths[0], top, following, others)
    return values, {step.layer: step.likeness for step in steps}, overall(steps)


def test_a_picture_that_a_silent_circuit_makes_does_not_take_the_photos_path_and_an_honest_one_does(fooled, photos):
    honest = get_model("demo:resnet")
    recipe = described("lsd", ["output=logit"], steps=96)
    (first,), (second,) = (list(ascend(model, [parse("class/1")], recipe))[-1].finished for model in (honest, fooled))
    values, layers, trusted = _likeness(honest, first.pixels, photos)
    values_of_fooled, layers_of_fooled, not_trusted = _likeness(fooled, second.pixels, photos)
    # The circuit is silent: no photo tells the two networks apart. Its picture excites the class more than any photo …
    assert np.array_equal(values[1:], values_of_fooled[1:]) and values_of_fooled[0] > values_of_fooled[1:].max()
    # … and comes by another way.
    assert trusted > 0.7 and not_trusted < 0.35
    assert layers["layer4"] > 0.8 and layers_of_fooled["layer4"] < 0.35
