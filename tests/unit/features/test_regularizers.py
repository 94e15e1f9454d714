"""Regularizers against NumPy, and slopes against finite differences; batch-norm statistics against plain hooks."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lsd.features import regularizers
from lsd.features.regularizers import REGULARIZERS, BatchNormStatistics, batch_norms, penalty

SIZES = [(8, 8), (7, 9), (6, 11), (1 + 8, 4)]
each_size = pytest.mark.parametrize("size", SIZES)


def pictures(n, size, seed=0):
    return torch.rand(n, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def slow_variation(image, power):
    down = [abs(c[y + 1, x] - c[y, x]) ** power for c in image for y in range(len(c) - 1) for x in range(len(c[0]))]
    across = [abs(c[y, x + 1] - c[y, x]) ** power for c in image for y in range(len(c)) for x in range(len(c[0]) - 1)]
    return sum(down) / len(down) + sum(across) / len(across)


def slow_spectral(image):
    height, width = image.shape[1:]
    total = 0.0
    for c in image:
        power = np.abs(np.fft.fft2(c - c.mean())) ** 2 / (height * width)
        f = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
        total += (power * f**2).sum()
    return total / image.size


@each_size
def test_values(size):
    images = pictures(3, size)
    for i, image in enumerate(images.numpy()):
        for power in (1.0, 1.5, 2.0):
            assert regularizers.total_variation(images, power)[i].item() == pytest.approx(slow_variation(image, power))
        assert regularizers.l1(images)[i].item() == pytest.approx(np.abs(image - 0.5).mean())
        assert regularizers.l2(images)[i].item() == pytest.approx(((image - 0.5) ** 2).mean())
        assert regularizers.spectral(images)[i].item() == pytest.approx(slow_spectral(image))


@each_size
def test_without_the_frequencies_the_spectral_energy_is_the_variance(size, monkeypatch):
    """Parseval: the half spectrum stands for the whole."""
    images = pictures(2, size)
    monkeypatch.setattr(torch.fft, "fftfreq", lambda n, **more: torch.ones(n, **more))
    monkeypatch.setattr(torch.fft, "rfftfreq", lambda n, **more: torch.zeros(n // 2 + 1, **more))
    expected = images.var((2, 3), correction=0).mean(1)
    torch.testing.assert_close(regularizers.spectral(images), expected)


@pytest.mark.parametrize("cycles", [(3, 0), (0, 5), (2, 4), (8, 0), (0, 8)])
def test_a_wave_has_its_power_times_its_squared_frequency(cycles):
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    wave = 0.5 + 0.25 * torch.cos(2 * math.pi * (cycles[0] * y + cycles[1] * x) / 16)
    images = wave.expand(1, 3, 16, 16)
    expected = wave.var(correction=0) * ((cycles[0] / 16) ** 2 + (cycles[1] / 16) ** 2)
    assert regularizers.spectral(images).item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_slopes_by_finite_differences(name, power):
    images = pictures(2, (7, 8))

    def total(x):
        value = penalty(x, {name: 0.7}, power)
        return (value * torch.tensor([1.0, 3.0], dtype=x.dtype)).sum()

    x = images.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(total(x), x)
    direction = torch.randn(images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    numeric = (total(images + 1e-6 * direction) - total(images - 1e-6 * direction)).item() / 2e-6
    assert numeric == pytest.approx((slope * direction).sum().item(), rel=1e-5)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_grey_costs_nothing_and_has_no_slope(name):
    """In particular no nan: every picture may start from grey."""
    grey = torch.full((1, 3, 8, 8), 0.5, requires_grad=True)
    value = penalty(grey, {name: 1.0}, 1.0)
    (slope,) = torch.autograd.grad(value.sum(), grey)
    assert value.item() == pytest.approx(0, abs=1e-12) and slope.abs().max() < 1e-7


def test_the_penalty_is_the_weighted_sum():
    images = pictures(2, (8, 8))
    weights = {"tv": 0.5, "l2": 2.0, "l1": 0.0, "spectral": 3.0, "steps": 100}
    expected = (
        0.5 * regularizers.total_variation(images, 2.0)
        + 2 * regularizers.l2(images)
        + 3 * regularizers.spectral(images)
    )
    torch.testing.assert_close(penalty(images, weights, 2.0), expected)
    assert penalty(images, {"tv": 0.0, "l2": 0.0}, 1.0) is None and penalty(images, {}, 1.0) is None


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_pictures_cost_does_not_depend_on_the_batch(name):
    images = pictures(3, (8, 9))
    together = penalty(images, {name: 1.0}, 1.0)
    for i in range(3):
        torch.testing.assert_close(penalty(images[i : i + 1], {name: 1.0}, 1.0)[0], together[i])


# Batch-norm statistics


def statistics(model, images, count):
    with BatchNormStatistics(model, count) as norms:
        model(images)
    return norms.value


def slow_statistics(model, images, views):
    """By plain hooks and NumPy, picture by picture."""
    inputs = []
    handles = [m.register_forward_pre_hook(lambda m, i: inputs.append((m, i[0].clone())))
               for m in batch_norms(model).values()]  # fmt: skip
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    first = next(iter(batch_norms(model).values()))
    values = np.zeros(len(images) // views)
    for module, given in inputs:
        for i in range(len(values)):
            a = given[i * views : (i + 1) * views].numpy()
            mean, variance = a.mean((0, 2, 3)), a.var((0, 2, 3))
            usual = module.running_var.numpy()
            off = np.linalg.norm(mean - module.running_mean.numpy()) / np.sqrt(usual.sum())
            off += np.linalg.norm(variance - usual) / np.linalg.norm(usual)
            values[i] += off * (10 if module is first else 1)
    return values / (len(inputs) + 9)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "mobilenetv2_050"])
@pytest.mark.parametrize("views", [1, 2])
def test_statistics_are_what_plain_hooks_find(image_model, pictures, name, views):
    model, images = image_model(name), pictures(4)
    found = statistics(model, images, 4 // views).detach().numpy()
    np.testing.assert_allclose(found, slow_statistics(model, images, views), rtol=1e-9)


def test_statistics_that_match_cost_nothing(wrap):
    """A network whose running statistics are those of this very picture."""
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(256, 3))
    model = wrap(net)
    image = pictures(1, (8, 8))
    for norm in (net[0], net[2]):
        kept = []
        handle = norm.register_forward_pre_hook(lambda _, inputs, kept=kept: kept.append(inputs[0]))
        with torch.no_grad():
            model(image)
        handle.remove()
        norm.running_mean.copy_(kept[0].mean((0, 2, 3)))
        norm.running_var.copy_(kept[0].var((0, 2, 3), correction=0))
    assert statistics(model, image, 1).item() == pytest.approx(0, abs=1e-12)
    assert statistics(model, pictures(1, (8, 8), seed=1), 1).item() > 0.1


def test_statistics_of_a_picture_do_not_depend_on_the_batch(image_model, pictures):
    model, images = image_model("test_resnet"), pictures(3)
    together = statistics(model, images, 3)
    for i in range(3):
        torch.testing.assert_close(statistics(model, images[i : i + 1], 1)[0], together[i])


def test_the_slope_of_statistics_by_finite_differences(image_model, pictures):
    model, images = image_model("test_resnet"), pictures(1)
    x = images.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(statistics(model, x, 1).sum(), x)
    direction = torch.randn(images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    h = 1e-6
    with torch.no_grad():
        numeric = (statistics(model, images + h * direction, 1) - statistics(model, images - h * direction, 1)) / (
            2 * h
        )
    assert numeric.item() == pytest.approx((slope * direction).sum().item(), rel=1e-4)


def test_the_listener_leaves_no_hooks_behind(image_model, pictures):
    model = image_model("test_resnet")
    statistics(model, pictures(), 1)
    with pytest.raises(RuntimeError, match="stop"), BatchNormStatistics(model, 1):
        raise RuntimeError("stop")
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_which_modules_are_listened_to(image_model):
    model = image_model("test_resnet")
    names = list(batch_norms(model))
    assert names[:3] == ["conv1.1", "conv1.4", "bn1"] and "layer1.0.bn1" in names and "layer1.0.conv1" not in names
    assert batch_norms(image_model("test_vit", img_size=32)) == {}
