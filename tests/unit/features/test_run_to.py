"""Stopping a pass early: the same activations and slopes, nothing runs that need not, nothing is left behind."""

import pytest
import torch
from torch import nn

from benchmarks.families import CASES
from lsd.errors import UndefinedError
from lsd.features import objectives
from lsd.features.units import Leaf, check
from lsd.layers import attention_heads, curated_layers, list_layers
from lsd.layout import to_grid
from lsd.tracing import Tap, capture, run_to

BY_NAME = {case.name: case for case in CASES}
FAMILIES = [
    "test_resnet", "densenet121", "mobilenetv2_050", "test_efficientnet", "repvgg_a0", "resnet50_clip", "test_nfnet",
    "test_convnext", "test_mambaout", "swin_tiny_patch4_window7_224", "davit_tiny", "hiera_tiny_224", "test_coatnet",
    "test_maxvit", "levit_128s", "mobilevit_xxs", "edgenext_xx_small", "nest_tiny", "pit_ti_224", "test_vit",
    "vit_base_patch16_reg4_gap_256", "vit_base_patch16_siglip_224", "deit_tiny_distilled_patch16_224",
    "eva02_tiny_patch14_224", "cait_xxs24_224", "mixer_s32_224",
]  # fmt: skip


def photos(model, n=1, seed=0):
    shape = (n, 3, model.spec.height, model.spec.width)
    return torch.rand(shape, dtype=model.dtype, generator=torch.Generator().manual_seed(seed))


def slope(values, images):
    return torch.autograd.grad(values.square().sum(), images, retain_graph=True)[0]


class Runs:
    """Counts how often each module of a network is entered."""

    def __init__(self, model):
        self.counts = {}
        self._handles = [m.register_forward_pre_hook(self._count(n)) for n, m in model.net.named_modules() if n]

    def _count(self, name):
        def hook(*_):
            self.counts[name] = self.counts.get(name, 0) + 1

        return hook

    def __enter__(self):
        return self.counts

    def __exit__(self, *_):
        for handle in self._handles:
            handle.remove()


def fingerprint(model):
    """What a pass must leave as it found it."""
    return (
        {n: (m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
         for n, m in model.named_modules()},
        {n: (p.requires_grad, p.grad is None) for n, p in model.named_parameters()},
        {n: t.clone() for n, t in model.state_dict().items()},
    )  # fmt: skip


def same(a, b):
    return a[:2] == b[:2] and all(torch.equal(a[2][n], b[2][n]) for n in a[2]) and a[2].keys() == b[2].keys()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_activations_and_slopes_as_the_whole_pass(name):
    model = BY_NAME[name].build(torch.float64)
    layers = curated_layers(model)
    names = list(dict.fromkeys(layer.name for layer in (layers[0], layers[len(layers) // 2], layers[-1])))
    for layer in names:
        images = photos(model, 2).requires_grad_(True)
        early = run_to(model, images, [Tap(layer)])[Tap(layer)]
        whole = images.detach().clone().requires_grad_(True)
        with capture(model, [layer]) as captured:
            model(whole)
        torch.testing.assert_close(early, captured[layer], rtol=1e-10, atol=1e-12)
        expected = slope(captured[layer], whole)
        assert expected.abs().max() > 0
        torch.testing.assert_close(slope(early, images), expected, rtol=1e-8, atol=1e-12 * expected.abs().max().item())


def test_several_layers_and_the_logits_at_once(image_model, pictures):
    model, x = image_model("test_resnet"), pictures(2)
    taps = [Tap("layer3"), Tap("layer1"), Tap(""), Tap("layer2.0.conv1", inside=True), Tap("layer1")]
    found = run_to(model, x, taps)
    with capture(model, ["layer1", "layer3"]) as captured:
        logits = model(x)
    assert found.keys() == set(taps)
    assert torch.equal(found[Tap("")], logits)
    for name in ("layer1", "layer3"):
        assert torch.equal(found[Tap(name)], captured[name])
    assert torch.equal(found[Tap("layer2.0.conv1", inside=True)], captured["layer1"])


@pytest.mark.parametrize("layer, after, before", [
    ("layer1", ["layer2.0.conv1", "layer3", "fc", "global_pool"], ["conv1", "layer1.0.conv2"]),
    ("conv1", ["bn1", "layer1"], ["conv1"]),
    ("layer2.0.conv1", ["layer2.0.conv2", "layer3.0.conv1"], ["layer1", "layer2"]),
])  # fmt: skip
def test_the_pass_stops_at_the_layer(image_model, pictures, layer, after, before):
    model = image_model("test_resnet")
    run_to(model, pictures(), [Tap(layer)])  # counts the modules' runs, once a model
    with Runs(model) as counts:
        run_to(model, pictures(), [Tap(layer)])
    assert not counts.keys() & set(after)
    assert counts.keys() >= set(before)


def test_the_pass_stops_before_a_module_whose_input_is_wanted(image_model, pictures):
    model = image_model("test_vit", img_size=32)
    tap = Tap("blocks.1.attn.proj", inside=True)
    run_to(model, pictures(), [tap])
    with Runs(model) as counts:
        run_to(model, pictures(), [tap])
    assert "blocks.1.attn" in counts and "blocks.1.mlp" not in counts and "blocks.2" not in counts


def test_the_pass_goes_on_until_the_last_layer_is_there(image_model, pictures):
    model = image_model("test_resnet")
    run_to(model, pictures(), [Tap("layer1")])
    with Runs(model) as counts:
        run_to(model, pictures(), [Tap("layer1"), Tap("layer3")])
    assert "layer3" in counts and "layer4" not in counts
    with Runs(model) as counts:
        run_to(model, pictures(), [Tap("layer1"), Tap("")])
    assert counts["fc"] == 1


class Shared(nn.Module):
    """One convolution, run three times."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.tail = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        for _ in range(3):
            x = self.act(self.conv(x))
        return self.tail(x).mean((2, 3))


def test_of_a_module_that_runs_several_times_the_last_output_is_taken(wrap, pictures):
    model, x = wrap(Shared()), pictures(2, 8).requires_grad_(True)
    run_to(model, x, [Tap("conv")])
    with Runs(model) as counts:
        found = run_to(model, x, [Tap("conv"), Tap("act", inside=True)])
    net = model.net
    expected = net.conv(net.conv(net.conv(x).relu()).relu())
    torch.testing.assert_close(found[Tap("conv")], expected)
    torch.testing.assert_close(found[Tap("act", inside=True)], expected)
    assert counts["conv"] == 3 and "tail" not in counts
    torch.testing.assert_close(slope(found[Tap("conv")], x), slope(expected, x))


def test_what_was_read_is_not_changed_by_what_follows(wrap, pictures):
    """An in-place ReLU behind the convolution must not reach what was read, nor its slope."""
    model, x = wrap(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(192, 3))), pictures
    images = x(2, 8).requires_grad_(True)
    found = run_to(model, images, [Tap("0"), Tap("1"), Tap("")])
    expected = model.net[0](images)
    assert (expected < 0).any() and torch.equal(found[Tap("0")], expected)
    assert torch.equal(found[Tap("1")], expected.relu())
    torch.testing.assert_close(slope(found[Tap("0")], images), slope(expected, images))


# What is left behind


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "swin_tiny_patch4_window7_224"])
def test_a_pass_leaves_the_model_as_it_was(name):
    model = BY_NAME[name].build()
    layer = curated_layers(model)[1].name
    before = fingerprint(model)
    x = photos(model).requires_grad_(True)
    slope(run_to(model, x, [Tap(layer), Tap("")])[Tap(layer)], x)
    run_to(model, x, [Tap(layer)])
    assert same(fingerprint(model), before)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_the_middle_leaves_the_model_as_it_was(image_model, pictures, error):
    model = image_model("test_resnet")
    run_to(model, pictures(), [Tap("layer1")])

    def stop(*_):
        raise error("stop")

    handle = model.net.layer2.register_forward_pre_hook(stop)
    before = fingerprint(model)
    with pytest.raises(error, match="stop"):
        run_to(model, pictures(), [Tap("layer1"), Tap("layer3"), Tap("fc", inside=True)])
    assert same(fingerprint(model), before)
    handle.remove()
    assert model.lock.acquire(blocking=False)
    model.lock.release()
    run_to(model, pictures(), [Tap("layer3")])


def test_a_picture_of_the_wrong_size_leaves_nothing_behind(image_model, pictures):
    model = image_model("test_resnet")
    before = fingerprint(model)
    with pytest.raises(UndefinedError, match="takes pictures of shape"):
        run_to(model, pictures(1, 16), [Tap("layer1")])
    assert same(fingerprint(model), before)


@pytest.mark.parametrize("name", ["nowhere", "layer1.7"])
def test_a_name_that_no_module_has_is_refused(image_model, pictures, name):
    with pytest.raises(UndefinedError, match=f"has no layer “{name}”"):
        run_to(image_model("test_resnet"), pictures(), [Tap("layer1"), Tap(name)])


class Odd(nn.Module):
    """A module that gives two tensors, and one that never runs."""

    class Two(nn.Module):
        def forward(self, x):
            return x, x

    def __init__(self):
        super().__init__()
        self.two, self.idle = self.Two(), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.two(x)[0].mean((2, 3))


@pytest.mark.parametrize("name", ["two", "idle"])
def test_a_module_without_one_tensor_is_refused(wrap, pictures, name):
    model = wrap(Odd())
    with pytest.raises(UndefinedError, match=f"{name} of handmade does not put out one tensor"):
        run_to(model, pictures(1, 8), [Tap(name)])
    assert not any(m._forward_hooks for m in model.modules())


# Every kind of unit, family by family


def units_of(model) -> list[Leaf]:
    """A unit of each kind that the network has; of channels and places, the strongest, which no ReLU has shut."""
    layer = curated_layers(model)[-1]
    with torch.no_grad():
        grid = to_grid(layer, run_to(model, photos(model), [Tap(layer.name)])[Tap(layer.name)])[0]
    channel, row, column = (int(i) for i in torch.unravel_index(grid.argmax(), grid.shape))
    units = [
        Leaf("class", (1,)), Leaf("contrast", (1, 2)), Leaf("channel", (channel,), layer.name),
        Leaf("neuron", (channel, row, column), layer.name), Leaf("position", (row, column), layer.name),
        Leaf("layer", (), layer.name), Leaf("direction", (), layer.name, ((channel, 1.0), ((channel + 1) % layer.channels, -2.0))),
    ]  # fmt: skip
    with_tokens = [found for found in list_layers(model) if found.prefix]
    if with_tokens:  # the last, as before the first attention tokens know nothing of the picture
        units.append(Leaf("token", (with_tokens[-1].prefix - 1, 1), with_tokens[-1].name))
    for name, _ in model.net.named_modules():
        try:
            units.append(Leaf("head", (attention_heads(model, name) - 1,), name))
            break
        except UndefinedError:
            continue
    return units


HAVE_TOKENS = {
    "test_vit", "vit_base_patch16_reg4_gap_256", "deit_tiny_distilled_patch16_224", "eva02_tiny_patch14_224",
    "pit_ti_224", "resnet50_clip", "cait_xxs24_224",
}  # fmt: skip
HAVE_HEADS = HAVE_TOKENS | {
    "swin_tiny_patch4_window7_224", "davit_tiny", "test_maxvit", "mobilevit_xxs", "edgenext_xx_small", "nest_tiny",
    "vit_base_patch16_siglip_224",
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_every_kind_of_unit_has_a_value_and_a_slope(name):
    model = BY_NAME[name].build()
    units = [check(unit, model) for unit in units_of(model)]
    kinds = {unit.kind for unit in units}
    assert ("token" in kinds, "head" in kinds) == (name in HAVE_TOKENS, name in HAVE_HEADS)
    x = photos(model).repeat(len(units), 1, 1, 1).requires_grad_(True)
    found = run_to(model, x, list({objectives.tap(unit) for unit in units}))
    values = objectives.evaluate(units, {"": model}, {"": found})
    assert values.shape == (len(units),) and torch.isfinite(values).all()
    (flow,) = torch.autograd.grad(values.sum(), x)
    assert torch.isfinite(flow).all()
    silent = [str(u) for u, picture in zip(units, flow, strict=True) if not picture.abs().max() > 0]
    assert not silent
