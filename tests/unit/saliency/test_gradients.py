"""The handwritten methods against closed forms, finite differences, and slow implementations written from the papers."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from lsd.errors import UndefinedError
from lsd.saliency import gradients as own
from lsd.saliency.methods import attribute
from lsd.saliency.targets import Target
from lsd.tracing import capture

INPUT_METHODS = {
    "gradient": (own.gradient, {}),
    "gradient_x_input": (own.gradient_x_input, {}),
    "smoothgrad": (own.smoothgrad, {"samples": 4}),
    "smoothgrad_squared": (own.smoothgrad_squared, {"samples": 4}),
    "vargrad": (own.vargrad, {"samples": 4}),
    "integrated_gradients": (own.integrated_gradients, {"steps": 4}),
    "guided_backprop": (own.guided_backprop, {}),
    "deconvnet": (own.deconvnet, {}),
    "grad_cam": (own.grad_cam, {}),
    "depth_fusion": (own.depth_fusion, {}),
}
SAMPLED = {"smoothgrad": own.smoothgrad, "smoothgrad_squared": own.smoothgrad_squared, "vargrad": own.vargrad}
ARCHITECTURES = [
    ("test_resnet", {}), ("test_convnext", {}), ("mobilenetv2_050", {}), ("test_efficientnet", {}),
    ("test_vit", {"img_size": 32}),
]  # fmt: skip
each_method = pytest.mark.parametrize("name", INPUT_METHODS)
each_sampled = pytest.mark.parametrize("name", SAMPLED)


class Linear(nn.Module):
    """z = W x."""

    def __init__(self, classes=3, size=8):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(classes, 3 * size * size))

    def forward(self, x):
        return x.flatten(1) @ self.weight.T


class Quadratic(Linear):
    """z = W x + ½ Σ d x²: a gradient W + d x that is linear in x."""

    def __init__(self, classes=3, size=8):
        super().__init__(classes, size)
        self.curvature = nn.Parameter(torch.randn(classes, 3 * size * size))

    def forward(self, x):
        return super().forward(x) + 0.5 * (x.flatten(1) ** 2) @ self.curvature.T


class Passes:
    """Counts the forward passes of a model, with the size of each batch."""

    def __init__(self, model):
        self.batches = []
        self._handle = model.net.register_forward_pre_hook(lambda _, args: self.batches.append(len(args[0])))

    def __enter__(self):
        return self.batches

    def __exit__(self, *_):
        self._handle.remove()


def value(model, x, target):
    with torch.no_grad():
        return target(model(x))


def slope(model, x, target):
    """The plain gradient, as the slow implementations use it; finite differences vouch for it."""
    x = x.clone().requires_grad_(True)
    return torch.autograd.grad(target(model(x)).sum(), x)[0]


# The gradient, by finite differences


@pytest.mark.parametrize("kind", ["logit", "log_odds", "probability"])
@pytest.mark.parametrize("arch, settings", ARCHITECTURES)
def test_gradient_is_the_slope_by_finite_differences(image_model, pictures, arch, settings, kind):
    model, x, target = image_model(arch, **settings), pictures(), Target(3, kind)
    g = own.gradient(model, x, target).values
    generator, h = torch.Generator().manual_seed(1), 1e-7
    assert g.abs().max() > 0
    for _ in range(3):
        direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        numeric = (value(model, x + h * direction, target) - value(model, x - h * direction, target)) / (2 * h)
        scale = g.norm().item() * direction.norm().item()
        assert abs(numeric.item() - (g * direction).sum().item()) < 1e-5 * scale


def test_gradient_is_the_slope_at_single_pixels(image_model, pictures):
    model, x, target, h = image_model("test_resnet"), pictures(), Target(0, "logit"), 1e-7
    g = own.gradient(model, x, target).values
    for c, i, j in [(0, 5, 7), (1, 16, 16), (2, 31, 0)]:
        bump = torch.zeros_like(x)
        bump[0, c, i, j] = h
        numeric = (value(model, x + bump, target) - value(model, x - bump, target)).item() / (2 * h)
        assert numeric == pytest.approx(g[0, c, i, j].item(), rel=1e-4, abs=1e-5 * g.abs().max().item())


def test_gradient_is_with_respect_to_pixels_not_to_normalised_values(wrap, pictures):
    """Behind a standard deviation s, a pixel moves the network 1/s as much."""
    x, target = pictures(1, 8), Target(1, "logit")
    plain, scaled = wrap(Linear()), wrap(Linear(), std=(0.5, 0.25, 0.2))
    torch.testing.assert_close(
        own.gradient(scaled, x, target).values,
        own.gradient(plain, x, target).values / torch.tensor([0.5, 0.25, 0.2], dtype=x.dtype).view(1, 3, 1, 1),
        rtol=1e-6, atol=0,
    )  # fmt: skip


def test_gradient_x_input_is_the_product(image_model, pictures):
    model, x, target = image_model("test_resnet"), pictures(2), Target((3, 1))
    torch.testing.assert_close(own.gradient_x_input(model, x, target).values, slope(model, x, target) * x)


def test_scores_are_the_targets_values(image_model, pictures):
    model, x, target = image_model("test_resnet"), pictures(2), Target((3, 1))
    for function, settings in INPUT_METHODS.values():
        torch.testing.assert_close(function(model, x, target, **settings).scores, value(model, x, target))


# SmoothGrad and its kin, by a loop


def documented_noise(x, samples, sigma, seed, antithetic):
    """One tensor after the other from one generator, in fp32; in pairs ε, −ε if antithetic."""
    generator = torch.Generator().manual_seed(seed)
    noise = []
    for _ in range(samples // 2 if antithetic else samples):
        drawn = torch.randn(x.shape[1:], generator=generator) * sigma
        noise += [drawn, -drawn] if antithetic else [drawn]
    return [n.to(x.dtype) for n in noise]


@each_sampled
@pytest.mark.parametrize("antithetic", [True, False])
@pytest.mark.parametrize("size", [32, 31], ids=["32", "31: not in PyTorch's blocks of 16"])
def test_sampled_methods_are_the_loop_over_samples(image_model, pictures, name, antithetic, size):
    model, x, target = image_model("test_resnet", size), pictures(1, size), Target(3)
    result = SAMPLED[name](model, x, target, samples=6, sigma=0.2, seed=5, antithetic=antithetic, batch_size=4).values
    slopes = [slope(model, x + noise, target) for noise in documented_noise(x, 6, 0.2, 5, antithetic)]
    mean = sum(slopes) / 6
    expected = {
        "smoothgrad": mean,
        "smoothgrad_squared": sum(g**2 for g in slopes) / 6,
        "vargrad": sum((g - mean) ** 2 for g in slopes) / 6,
    }[name]
    assert expected.abs().max() > 0
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-11 * expected.abs().max().item())


@pytest.mark.parametrize("size", [32, 31])
def test_the_batch_size_changes_nothing_but_the_memory(image_model, pictures, size):
    model, x = image_model("test_resnet", size), pictures(1, size)
    for antithetic in (True, False):
        maps = [
            own.smoothgrad(model, x, Target(3), samples=8, antithetic=antithetic, batch_size=b).values
            for b in (1, 3, 8)
        ]
        for other in maps[1:]:
            torch.testing.assert_close(other, maps[0], rtol=1e-9, atol=1e-12)


def test_the_seed_decides_the_noise(image_model, pictures):
    model, x = image_model("test_resnet"), pictures()
    first, again, other = (own.smoothgrad(model, x, Target(3), samples=4, seed=s).values for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_nobody_elses_random_numbers_are_touched(image_model, pictures):
    state = torch.random.get_rng_state()
    own.smoothgrad(image_model("test_resnet"), pictures(), Target(3), samples=4)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_antithetic_pairs_cancel_an_error_that_is_linear_in_the_noise(wrap, pictures):
    model, x, target = wrap(Quadratic()), pictures(1, 8), Target(1, "logit")
    exact = slope(model, x, target)
    paired = own.smoothgrad(model, x, target, samples=2).values
    single = own.smoothgrad(model, x, target, samples=2, antithetic=False).values
    torch.testing.assert_close(paired, exact, rtol=1e-12, atol=1e-13)
    assert (single - exact).norm() > 0.01 * exact.norm()


def test_the_squared_gradient_of_a_quadratic_has_its_closed_form(wrap, pictures):
    """E[(w + d(x + ε))²] = (w + dx)² + d²σ², and the variance is d²σ²."""
    model, x, target = wrap(Quadratic()), pictures(1, 8), Target(1, "logit")
    curvature = model.net.curvature[1].view(1, 3, 8, 8)
    expected = slope(model, x, target) ** 2 + curvature**2 * 0.1**2
    settings = {"samples": 4000, "sigma": 0.1, "batch_size": 500}
    squared = own.smoothgrad_squared(model, x, target, **settings).values
    variance = own.vargrad(model, x, target, **settings).values
    assert ((squared - expected).norm() / expected.norm()).item() < 0.01
    ratio = (variance / (curvature**2 * 0.1**2)).flatten()
    assert ratio.mean().item() == pytest.approx(1, abs=0.01)
    assert (ratio - 1).abs().max().item() < 0.2


@pytest.mark.parametrize("counts", [(2,), (8, 16), (2, 6, 20), (12,), (10, 12, 24)], ids=str)
@pytest.mark.parametrize("size", [32, 31])
def test_statistics_at_several_counts_are_those_of_the_three_methods(image_model, pictures, counts, size):
    model, x, targets = image_model("test_resnet", size), pictures(1, size), [Target(3), Target(7, "logit")]
    found = dict(own.noisy_statistics(model, x[0], targets, sigma=0.2, counts=counts, seed=5))
    assert tuple(found) == counts
    for count, statistics in found.items():
        assert statistics.keys() == SAMPLED.keys()
        for name, values in statistics.items():
            expected = attribute(name, model, x, targets, samples=count, sigma=0.2, seed=5)
            expected = torch.cat([attribution.values for attribution in expected])
            scale = expected.abs().max().item()
            assert scale > 0
            torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-11 * scale)


@pytest.mark.parametrize("counts", [(16, 32), (6, 20), (12,)], ids=str)
def test_several_counts_take_no_more_passes_than_the_last(image_model, pictures, counts):
    model = image_model("test_resnet")
    with Passes(model) as batches:
        list(own.noisy_statistics(model, pictures()[0], [Target(3), Target(1)], sigma=0.2, counts=counts))
    assert sum(batches) == counts[-1] and max(batches) <= 8


@each_sampled
@pytest.mark.parametrize("antithetic", [True, False])
def test_the_standard_error_is_calibrated(image_model, pictures, name, antithetic):
    """What one run says of itself is how much runs with different seeds differ."""
    model, x = image_model("test_resnet"), pictures()
    settings = {"samples": 16, "sigma": 0.1, "antithetic": antithetic, "batch_size": 16}
    # The error that VarGrad reports is that of the mean square, as it says.
    function = own.smoothgrad_squared if name == "vargrad" else SAMPLED[name]
    runs = [function(model, x, Target(3), seed=s, **settings).values for s in range(16)]
    told = [SAMPLED[name](model, x, Target(3), seed=s, **settings).standard_error.item() for s in range(8)]
    mean = torch.stack(runs).mean(0)
    empirical = (torch.stack(runs).var(0).sum().sqrt() / mean.norm()).item()
    assert np.mean(told) == pytest.approx(empirical, rel=0.3)


def test_sampling_stops_when_the_error_is_small_enough(image_model, pictures):
    model, x = image_model("test_resnet"), pictures()
    full = own.smoothgrad(model, x, Target(3), samples=256, sigma=0.02)
    early = own.smoothgrad(model, x, Target(3), samples=256, sigma=0.02, tolerance=0.15)
    assert early.passes < full.passes == 256
    assert 0 < early.standard_error.item() <= 0.15
    assert (early.values - full.values).norm() < 3 * 0.15 * full.values.norm()


def test_each_picture_and_each_target_stops_by_itself(image_model, pictures):
    model, x = image_model("test_resnet"), pictures(2)
    settings = {"samples": 64, "sigma": 0.1, "tolerance": 0.2, "batch_size": 4}
    targets = [Target(3), Target(1, "logit"), Target(0, "probability")]
    together = own.smoothgrad(model, x, targets, **settings)
    assert len({a.passes for a in together}) > 1, "choose a tolerance at which the targets differ"
    for target, result in zip(targets, together, strict=True):
        alone = [own.smoothgrad(model, x[i : i + 1], target, **settings) for i in range(2)]
        assert result.passes == max(a.passes for a in alone)
        torch.testing.assert_close(result.values, torch.cat([a.values for a in alone]), rtol=1e-9, atol=1e-12)


def test_without_a_tolerance_all_samples_are_taken_even_where_they_agree(wrap, pictures):
    result = own.smoothgrad(wrap(Linear()), pictures(1, 8), Target(1, "logit"), samples=16)
    assert result.passes == 16
    assert result.standard_error.item() < 1e-7


def test_the_error_of_one_sample_is_unknown(image_model, pictures):
    result = own.smoothgrad(image_model("test_resnet"), pictures(), Target(3), samples=2)
    assert result.standard_error.item() == float("inf")


# Integrated gradients


@pytest.mark.parametrize("baseline_kind", own.BASELINES)
def test_integrated_gradients_of_a_linear_network_are_the_closed_form(wrap, pictures, baseline_kind):
    model, x = wrap(Linear(), mean=(0.2, 0.4, 0.6)), pictures(1, 8)
    base = own.baseline(model, x, baseline_kind)
    result = own.integrated_gradients(model, x, Target(1, "logit"), steps=1, baseline_kind=baseline_kind)
    expected = model.net.weight[1].view(1, 3, 8, 8) * (x - base)
    torch.testing.assert_close(result.values, expected, rtol=1e-10, atol=1e-12)
    assert abs(result.completeness_gap.item()) < 1e-10


@pytest.mark.parametrize("quadrature_kind", own.QUADRATURES)
def test_integrated_gradients_of_a_quadratic_network_are_exact_with_one_point(wrap, pictures, quadrature_kind):
    """∫₀¹ (w + d(b + α(x − b))) dα = w + d(x + b)/2."""
    model, x = wrap(Quadratic()), pictures(1, 8)
    w, d = model.net.weight[1].view(1, 3, 8, 8), model.net.curvature[1].view(1, 3, 8, 8)
    result = own.integrated_gradients(
        model, x, Target(1, "logit"), steps=1, baseline_kind="white", quadrature_kind=quadrature_kind
    )
    torch.testing.assert_close(result.values, (x - 1) * (w + d * (x + 1) / 2), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("quadrature_kind", own.QUADRATURES)
def test_integrated_gradients_are_the_loop_along_the_path(image_model, pictures, quadrature_kind):
    model, x, target = image_model("test_resnet"), pictures(), Target(3)
    base = torch.zeros_like(x)
    if quadrature_kind == "midpoint":
        rule = [((i + 0.5) / 5, 1 / 5) for i in range(5)]
    else:  # the tabulated rule of five points on [−1, 1]
        nodes = [(0.0, 128 / 225), (0.5384693101056831, 0.4786286704993665), (0.9061798459386640, 0.2369268850561891)]
        rule = [((s * n + 1) / 2, w / 2) for n, w in nodes for s in ((1, -1) if n else (1,))]
    expected = (x - base) * sum(weight * slope(model, base + at * (x - base), target) for at, weight in rule)
    result = own.integrated_gradients(
        model, x, target, steps=5, baseline_kind="black", quadrature_kind=quadrature_kind, batch_size=2
    ).values
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-11 * expected.abs().max().item())


@pytest.mark.parametrize("arch, settings", ARCHITECTURES)
def test_integrated_gradients_become_complete_as_steps_grow(image_model, pictures, arch, settings):
    model, x = image_model(arch, **settings), pictures()
    change = value(model, x, Target(3)) - value(model, own.baseline(model, x, "mean"), Target(3))
    gaps = {
        steps: own.integrated_gradients(model, x, Target(3), steps=steps, batch_size=16, quadrature_kind="midpoint")
        for steps in (2, 128)
    }
    for result in gaps.values():
        torch.testing.assert_close(result.values.sum((1, 2, 3)) - change, result.completeness_gap, rtol=1e-6, atol=1e-9)
    few, many = (abs(gaps[s].completeness_gap.item()) for s in (2, 128))
    assert many < 0.1 * few and few > 0


def test_the_mean_baseline_is_the_networks_own_zero(image_model, pictures):
    model = image_model("test_resnet")
    base = own.baseline(model, pictures(), "mean")
    assert ((base - model.mean) / model.std).abs().max() < 1e-12
    assert base.shape == (1, 3, 32, 32)


def test_the_blur_baseline_keeps_the_mean_and_loses_the_detail(image_model, pictures):
    x = pictures()
    base = own.baseline(image_model("test_resnet"), x, "blur")
    assert base.std() < 0.2 * x.std()
    torch.testing.assert_close(base.mean((2, 3)), x.mean((2, 3)), rtol=0.05, atol=0)


def test_quadrature_weights_sum_to_one_and_gauss_is_exact_for_polynomials():
    for kind in own.QUADRATURES:
        at, weights = own.quadrature(kind, 7)
        assert weights.sum() == pytest.approx(1) and ((at > 0) & (at < 1)).all()
    at, weights = own.quadrature("gauss_legendre", 4)
    for power in range(8):
        assert (weights * at**power).sum() == pytest.approx(1 / (power + 1), rel=1e-12)


# Grad-CAM


@pytest.mark.parametrize("layer", ["layer3", "layer2", "layer2.0.conv1", "bn1"])
def test_grad_cam_is_the_formula(image_model, pictures, layer):
    model, x, target = image_model("test_resnet"), pictures(), Target(3)
    result = own.grad_cam(model, x, target, layer=layer)
    seen = {}

    def tap(module, inputs, output):
        seen["a"] = output
        return output * 1  # a copy, so that the in-place ReLU that follows leaves `a` alone

    handle = model.net.get_submodule(layer).register_forward_hook(tap)
    score = target(model(x.clone().requires_grad_(True)))
    handle.remove()
    a = seen["a"]
    (g,) = torch.autograd.grad(score.sum(), a)
    expected = torch.zeros(a.shape[2:], dtype=a.dtype)
    for c in range(a.shape[1]):
        expected += g[0, c].mean() * a[0, c].detach()
    torch.testing.assert_close(result.values[0, 0], expected, rtol=1e-9, atol=1e-12)
    assert result.settings == {"layer": layer} and expected.abs().max() > 0


@pytest.mark.parametrize(
    "arch, settings, layer, prefix",
    [
        ("vit_base_patch16_reg4_gap_256", {"depth": 2, "embed_dim": 48, "num_heads": 3}, "blocks.1", 4),
        ("deit_tiny_distilled_patch16_224", {"depth": 2, "embed_dim": 48}, "blocks.0", 2),
        ("test_vit", {}, "blocks.5.norm1", 1),
    ],
)
def test_grad_cam_leaves_prefix_tokens_out(image_model, pictures, arch, settings, layer, prefix):
    model, x, target = image_model(arch, 64, img_size=64, **settings), pictures(1, 64), Target(3)
    with capture(model, [layer]) as captured:
        score = target(model(x.clone().requires_grad_(True)))
    (g,) = torch.autograd.grad(score.sum(), captured[layer])
    a, g = captured[layer][0, prefix:].detach(), g[0, prefix:]
    assert len(a) == 16
    weights = g.mean(0)
    expected = torch.stack([(weights * token).sum() for token in a]).view(4, 4)
    result = own.grad_cam(model, x, target, layer=layer).values
    torch.testing.assert_close(result[0, 0], expected, rtol=1e-9, atol=1e-12)


def test_grad_cam_finds_the_place_that_matters_in_a_channels_last_network(image_model):
    """Only one corner of the picture differs from the baseline, so only that corner of the map may differ."""
    model = image_model("test_mambaout", 128)
    layer = "stages.0"
    x = own.baseline(model, torch.zeros(1, 3, 128, 128, dtype=torch.float64), "mean").clone()
    empty = own.grad_cam(model, x, Target(3, "logit"), layer=layer).values
    x[:, :, :16, 112:] = 1.0
    activation = own.grad_cam(model, x, Target(3, "logit"), layer=layer).values
    change = (activation / activation.abs().mean() - empty / empty.abs().mean()).abs()[0, 0]
    assert change.argmax() % change.shape[1] > change.shape[1] // 2
    assert change.argmax() // change.shape[1] < change.shape[0] // 2


def test_grad_cam_refuses_places_that_do_not_reach_the_output(image_model, pictures):
    with pytest.raises(UndefinedError, match=r"blocks\.5 do not reach the output"):
        own.grad_cam(image_model("test_vit", img_size=32), pictures(), Target(3), layer="blocks.5")


@pytest.mark.parametrize("layer", ["nowhere", "layer9.0", "fc2"])
def test_grad_cam_refuses_an_unknown_layer(image_model, pictures, layer):
    with pytest.raises(UndefinedError, match=f"has no layer “{layer}”"):
        own.grad_cam(image_model("test_resnet"), pictures(), Target(3), layer=layer)


@pytest.mark.parametrize("layer", ["fc", "global_pool"])
def test_grad_cam_refuses_a_layer_without_places(image_model, pictures, layer):
    with pytest.raises(UndefinedError, match="not laid out over the picture"):
        own.grad_cam(image_model("test_resnet"), pictures(), Target(3), layer=layer)


# What holds for every method


@each_method
def test_many_targets_are_each_alone_bit_for_bit(image_model, pictures, name):
    function, settings = INPUT_METHODS[name]
    model, x = image_model("test_resnet"), pictures(2)
    targets = [Target(3), Target((0, 7), "logit"), Target(2, "contrast", 5), Target(1, "probability")]
    for target, together in zip(targets, function(model, x, targets, **settings), strict=True):
        alone = function(model, x, target, **settings)
        assert torch.equal(together.values, alone.values) and torch.equal(together.scores, alone.scores)
        assert together.target == target


@each_method
def test_a_pictures_result_does_not_depend_on_the_batch(image_model, pictures, name):
    function, settings = INPUT_METHODS[name]
    model, x, target = image_model("test_resnet"), pictures(3), Target((3, 0, 7))
    together = function(model, x, target, **settings)
    for i in range(3):
        alone = function(model, x[i : i + 1], target.of(i), **settings)
        scale = alone.values.abs().max().item()
        torch.testing.assert_close(together.values[i], alone.values[0], rtol=1e-9, atol=1e-11 * scale)
        torch.testing.assert_close(together.scores[i], alone.scores[0])


@pytest.mark.parametrize("name, expected", [
    ("gradient", [1]), ("gradient_x_input", [1]), ("guided_backprop", [1]), ("deconvnet", [1]), ("grad_cam", [1]),
    ("depth_fusion", [1]), ("smoothgrad", [4, 1]), ("integrated_gradients", [4, 1, 1]),
])  # fmt: skip
def test_targets_share_the_forward_passes(image_model, pictures, name, expected):
    """However many targets: one pass for the gradients (or each chunk of them), one for the scores at each end."""
    function, settings = INPUT_METHODS[name]
    model, targets = image_model("test_resnet"), [Target(k) for k in range(5)]
    function(model, pictures(), targets, **settings)  # Grad-CAM and its kin look for their layers the first time
    with Passes(model) as batches:
        results = function(model, pictures(), targets, **settings)
    assert batches == expected and len(results) == 5


@pytest.mark.parametrize("batch_size", [1, 2, 3])
@pytest.mark.parametrize("name", ["smoothgrad", "integrated_gradients"])
def test_no_pass_is_larger_than_the_batch_size(image_model, pictures, name, batch_size):
    function, _ = INPUT_METHODS[name]
    count = {"steps": 8} if name == "integrated_gradients" else {"samples": 8, "antithetic": batch_size > 1}
    model = image_model("test_resnet")
    with Passes(model) as batches:
        function(model, pictures(4), Target(3), batch_size=batch_size, **count)
    assert max(batches) <= batch_size


def test_an_antithetic_pair_stays_together(image_model, pictures):
    result = own.smoothgrad(image_model("test_resnet"), pictures(), Target(3), samples=4, batch_size=1)
    assert result.settings["batch_size"] == 2


@each_method
def test_nothing_is_left_behind(image_model, pictures, name):
    function, settings = INPUT_METHODS[name]
    model, x = image_model("test_resnet"), pictures()
    function(model, x, Target(3), **settings)
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    assert not any(m.training for m in model.net.modules())
    assert not x.requires_grad and x.grad is None


@each_method
def test_hooks_go_when_the_network_fails(image_model, pictures, name, monkeypatch):
    function, settings = INPUT_METHODS[name]
    model = image_model("test_resnet")
    function(model, pictures(), Target(3), **settings)

    def fail(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model.net.fc, "forward", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        function(model, pictures(), Target(3), **settings)
    assert not any(m._forward_hooks for m in model.modules())
    assert not any(m.training for m in model.net.modules())
    assert not any(p.requires_grad for p in model.parameters())
    assert model.lock.acquire(blocking=False), "the lock is still held"
    model.lock.release()


@each_method
@pytest.mark.parametrize("kind", ["log_odds", "logit"])  # a ReLU's derivative at NaN is 0, which would hide it
def test_numbers_that_are_not_finite_raise(image_model, pictures, name, kind):
    function, settings = INPUT_METHODS[name]
    x = pictures()
    x[0, 0, 3, 3] = float("nan")
    with pytest.raises(UndefinedError, match="not finite"):
        function(image_model("test_resnet"), x, Target(3, kind), **settings)


@each_method
def test_an_attribution_says_how_it_was_made(image_model, pictures, name):
    function, settings = INPUT_METHODS[name]
    result = function(image_model("test_resnet"), pictures(2), Target(3), **settings)
    assert result.method == name and settings.items() <= result.settings.items()
    assert result.passes == settings.get("samples", settings.get("steps", 1))
    shapes = {"grad_cam": (2, 1, 2, 2), "depth_fusion": (2, 1, 32, 32)}
    assert result.values.shape == shapes.get(name, (2, 3, 32, 32))
    assert (result.standard_error is not None) == (name in SAMPLED)
    assert (result.completeness_gap is not None) == (name == "integrated_gradients")


def test_no_targets_no_attributions(image_model, pictures):
    assert own.gradient(image_model("test_resnet"), pictures(), []) == []


@pytest.mark.parametrize("function, settings, message", [
    (own.smoothgrad, {"samples": 0}, "samples must be at least 1"),
    (own.smoothgrad, {"samples": 3}, "must be even"),
    (own.smoothgrad, {"sigma": 0.0}, "sigma must be greater than 0"),
    (own.smoothgrad, {"batch_size": 0}, "batch_size must be at least 1"),
    (own.smoothgrad, {"tolerance": -1.0}, "tolerance must not be negative"),
    (own.integrated_gradients, {"steps": 0}, "steps must be at least 1"),
    (own.integrated_gradients, {"batch_size": 0}, "batch_size must be at least 1"),
    (own.integrated_gradients, {"baseline_kind": "pink"}, "no baseline “pink”"),
    (own.integrated_gradients, {"quadrature_kind": "simpson"}, "no quadrature “simpson”"),
])  # fmt: skip
def test_a_setting_without_meaning_is_refused(image_model, pictures, function, settings, message):
    with pytest.raises(UndefinedError, match=message):
        function(image_model("test_resnet"), pictures(), Target(3), **settings)


def test_grad_cam_refuses_a_table_of_positions(image_model, pictures):
    """In Swin v2 the bias of the attention has a grid of places, but it does not depend on the picture."""
    model = image_model("swinv2_tiny_window8_256", 64, img_size=64, window_size=4, depths=(1, 1, 1, 1), embed_dim=24)
    with pytest.raises(
        UndefinedError, match=r"cpb_mlp is not laid out.* whatever the picture shows, it stays the same"
    ):
        own.grad_cam(model, pictures(1, 64), Target(3), layer="layers.0.blocks.0.attn.cpb_mlp")


def peak_bytes(work):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    changes = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = itertools.accumulate(e.nbytes() for e in sorted(changes, key=lambda e: e.start_ns()))
    return max(held, default=0)


@pytest.mark.parametrize("name, count", [("smoothgrad", "samples"), ("integrated_gradients", "steps")])
def test_a_second_chunk_takes_no_more_memory_than_the_first(image_model, pictures, name, count):
    function, model, x = INPUT_METHODS[name][0], image_model("test_resnet"), pictures()
    chunk = 8 * x[0].nbytes
    one, four = (peak_bytes(lambda n=n: function(model, x, Target(3), **{count: n, "batch_size": 8})) for n in (8, 32))
    assert four - one < 0.6 * chunk
