"""Shared passes give what each method gives alone."""

import numpy as np
import pytest
import torch
from torch import nn

from lsd.evaluation.attributions import attributions, runner_up, targets
from lsd.evaluation.controls import CONTROLS
from lsd.evaluation.variants import Source, variants
from lsd.layers import as_said
from lsd.said import Said
from lsd.saliency.methods import METHODS, attribute
from lsd.saliency.targets import KINDS, Target

RECTIFIED = {"guided_backprop", "deconvnet", "captum:guided_grad_cam", "captum:deep_lift"}
OF_TRANSFORMERS = {name for name, method in METHODS.items() if method.for_transformers}
PAIRS = [(3, 1), (7, 3)]
nets = pytest.mark.parametrize("name", ["relus", "test_vit"])


@pytest.fixture
def network(image_model, wrap):
    """A handmade network of ReLUs, where every method is defined, or one of timm's."""

    def make(name):
        if name != "relus":
            return image_model(name, img_size=32)
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2), nn.ReLU()
        return wrap(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10)), 32, 10)

    return make


def smooth(method, samples, sigma, kind="log_odds"):
    return Source(method, kind, (("samples", samples), ("sigma", sigma)))


def alone(model, image, source, index, against):
    target = Target(index, source.kind, against if source.kind == "contrast" else None)
    return attribute(source.method, model, image, target, **dict(source.settings)).values[0].numpy()


def same(found, model, image, pairs):
    for own, pair in zip(found, pairs, strict=True):
        for source, values in own.items():
            expected = alone(model, image, source, *pair)
            assert values.shape == expected.shape and expected.any()
            np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@nets
def test_every_source_of_few_passes_and_every_output(network, pictures, name):
    model, image = network(name), pictures()
    wanted = {v.source for v in variants() if not v.source.control and not v.source.settings}
    wanted |= {Source(method, kind) for method in ("gradient", "grad_cam", "gradient_x_input") for kind in KINDS}
    wanted.add(Source("integrated_gradients", "contrast", (("steps", 4),)))
    wanted.add(Source("captum:occlusion", settings=(("window", 16), ("stride", 16))))
    found = attributions(model, image, wanted, PAIRS)
    refused = RECTIFIED if name == "test_vit" else OF_TRANSFORMERS
    assert all(set(own) == {s for s in wanted if s.method not in refused} for own in found)
    same(found, model, image, PAIRS)
    gradients = [own[Source("gradient", kind)] for own in found for kind in KINDS]
    assert len({g.tobytes() for g in gradients}) == len(gradients)  # each class and output has its own


@nets
def test_noisy_gradients_share_one_stream(network, pictures, name):
    model, image = network(name), pictures()
    methods = ("smoothgrad", "smoothgrad_squared", "vargrad")
    wanted = [smooth(m, n, s) for m in methods for n, s in ((2, 0.1), (6, 0.1), (16, 0.1), (4, 0.3))]
    wanted += [smooth("smoothgrad", 6, 0.1, "logit"), smooth("smoothgrad", 6, 0.1, "contrast")]
    found = attributions(model, image, wanted, PAIRS)
    assert all(set(own) == set(wanted) for own in found)
    same(found, model, image, PAIRS)


def test_controls_are_drawn_with_the_seed(network, pictures):
    model, image = network("relus"), pictures()
    wanted = [Source(f"control:{name}") for name in CONTROLS]
    found = attributions(model, image, wanted, PAIRS, seed=5)
    for own in found:
        for source in wanted:
            assert np.array_equal(own[source], CONTROLS[source.control](image[0].numpy(), 5)[None])
    noise = Source("control:random")
    (other,) = attributions(model, image, [noise], PAIRS[:1], seed=6)
    assert not np.array_equal(other[noise], found[0][noise])


def test_a_picture_of_another_precision_is_the_models(network, pictures):
    model, image = network("relus"), pictures().float()
    found = attributions(model, image, [Source("gradient"), smooth("smoothgrad", 2, 0.1)], PAIRS)
    same(found, model, image, PAIRS)


@pytest.mark.parametrize("outputs", ["classes", "sigmoid"])
def test_targets(network, outputs):
    asked = targets(as_said(network("relus"), Said(outputs)), 4, 2)
    assert asked == {kind: Target(4, kind, 2 if kind == "contrast" else None, outputs) for kind in KINDS}


def test_the_runner_up_is_the_best_of_the_others(linear):
    weight = torch.zeros(4, 3, 4, 4)
    model = linear(weight, torch.tensor([1.0, 4.0, 3.0, 2.0]), list("abcd"))
    image = torch.zeros(1, 3, 4, 4)
    assert [runner_up(model, image, index) for index in range(4)] == [1, 2, 1, 1]
