"""Twins made for many passes: the same numbers as the model they are made of, which stays as it is."""

import copy
import functools
import gc
import weakref

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from benchmarks.families import CASES
from lsd.errors import UndefinedError
from lsd.features.prepare import _LastBlock, folding_pairs, prepare, wants_channels_last
from lsd.layers import curated_layers, find_layer, list_layers
from lsd.models import ImageModel
from lsd.tracing import Tap, run_to

BY_NAME = {case.name: case for case in CASES}
ids = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def photos(model, n=2, seed=0):
    shape = (n, 3, model.spec.height, model.spec.width)
    return torch.rand(shape, dtype=model.dtype, generator=torch.Generator().manual_seed(seed))


def off(a, b):
    """Largest difference, relative to the largest number."""
    return ((a - b).abs().max() / b.abs().max()).item()


def norms(net):
    return sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())


@ids
def test_a_twin_computes_what_the_model_does(case):
    """Logits and hidden layers, in double precision, where folding is exact."""
    model = case.build(torch.float64)
    layers = curated_layers(model)
    taps = [Tap(layer.name) for layer in (layers[0], layers[-1])] + [Tap("")]
    twin = prepare(model, [tap.name for tap in taps if tap.name])
    x = photos(model)
    with torch.no_grad():
        expected, found = run_to(model, x, taps), run_to(twin, x, taps)
        logits = prepare(model)(x)  # with no layer to keep, more may be done
    for tap in taps:
        assert off(found[tap], expected[tap]) < 1e-10, tap
    assert off(logits, expected[Tap("")]) < 1e-10
    assert list_layers(twin) and {layer.name for layer in layers} <= {layer.name for layer in list_layers(twin)}


@pytest.mark.parametrize("name", [
    "test_resnet", "mobilenetv2_050", "test_efficientnet", "regnety_002", "densenet121", "test_vit", "test_coatnet",
    "swin_tiny_patch4_window7_224", "mobilevit_xxs",
])  # fmt: skip
def test_a_twin_in_single_precision_differs_by_rounding(name):
    model = BY_NAME[name].build()
    layers = curated_layers(model)
    taps = [Tap(layer.name) for layer in (layers[0], layers[len(layers) // 2], layers[-1])] + [Tap("")]
    x = photos(model)
    with torch.no_grad():
        expected = run_to(model, x, taps)
        found = run_to(prepare(model, [t.name for t in taps if t.name]), x, taps)
    for tap in taps:
        assert off(found[tap], expected[tap]) < 1e-5, tap


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv2_050", "test_efficientnet", "test_vit"])
def test_a_twins_slope_is_the_models(name):
    model = BY_NAME[name].build(torch.float64)
    slopes = []
    for network in (model, prepare(model)):
        x = photos(model).requires_grad_(True)
        slopes.append(torch.autograd.grad(run_to(network, x, [Tap("")])[Tap("")].square().sum(), x)[0])
    assert off(slopes[1], slopes[0]) < 1e-9


@pytest.mark.parametrize("name, least", [
    ("test_resnet", 10), ("mobilenetv2_050", 40), ("mobilenetv3_small_050", 20), ("test_efficientnet", 5),
    ("regnety_002", 20), ("repvgg_a0", 1), ("densenet121", 5), ("legacy_seresnet18", 10), ("hgnetv2_b0", 20),
])  # fmt: skip
def test_batch_norms_are_folded(name, least):
    model = BY_NAME[name].build()
    twin = prepare(model)
    assert len(folding_pairs(model)) >= least
    assert norms(model.net) - norms(twin.net) == len(folding_pairs(model))


@pytest.mark.parametrize("name", ["mobilenetv2_050", "ghostnet_050"])
def test_the_same_is_folded_every_time(name):
    """Tensors are told apart by their address, which a later one may get once an earlier one is gone."""
    model = BY_NAME[name].build()
    found = [folding_pairs(model) for _ in range(6)]
    assert all(pairs == found[0] for pairs in found)
    assert len(found[0]) == norms(model.net)  # in these, every norm has a convolution before it


@pytest.mark.parametrize("name", ["test_vit", "mixer_s32_224", "test_nfnet", "swin_tiny_patch4_window7_224"])
def test_there_may_be_nothing_to_fold(name):
    assert folding_pairs(BY_NAME[name].build()) == []


def test_statistics_can_be_kept_for_those_who_look_at_them():
    model = BY_NAME["test_resnet"].build()
    assert norms(prepare(model, fold=False).net) == norms(model.net) > 0


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv2_050", "test_efficientnet"])
def test_a_convolution_that_is_looked_at_puts_out_what_it_did(name):
    model = BY_NAME[name].build(torch.float64)
    pairs = folding_pairs(model)
    conv, norm = pairs[len(pairs) // 2]
    taps = [Tap(conv), Tap(norm)]
    twin = prepare(model, [conv, norm])
    x = photos(model)
    with torch.no_grad():
        expected, found = run_to(model, x, taps), run_to(twin, x, taps)
    for tap in taps:
        assert off(found[tap], expected[tap]) < 1e-10
    assert norms(model.net) - norms(twin.net) == len(pairs) - 1
    with torch.no_grad():  # and with no one looking, it is folded
        folded = run_to(prepare(model), x, [Tap(conv)])
    assert off(folded[Tap(conv)], expected[Tap(conv)]) > 1e-3


def fixed_statistics(net):
    torch.manual_seed(0)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2)
            nn.init.normal_(m.weight)
            nn.init.normal_(m.bias)
    return net


class Net(nn.Module):
    """A convolution, a batch norm, and in between whatever `how` says."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.act, self.other = nn.ReLU(), nn.Conv2d(3, 3, 1)
        self.block = nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1, bias=False))
        fixed_statistics(self)

    def forward(self, x):
        y = self.conv(x)
        if self.how == "plain":
            y = self.act(self.bn(y))
        elif self.how == "sum":  # used once more, outside any module
            y = self.bn(y) + y
        elif self.how == "module":  # used once more, by a module
            y = self.bn(y) + self.other(y)
        elif self.how == "between":
            y = self.bn(self.act(y))
        elif self.how == "functional":
            y = self.bn(y * 2)
        elif self.how == "twice":
            y = self.bn(self.conv(y))
        elif self.how == "norm twice":
            y = self.bn(self.bn(y))
        elif self.how == "shared norm":
            y = self.bn(y) + self.bn(self.other(x))
        elif self.how == "block":  # the block's last convolution and a norm outside
            y = self.bn(self.block(y))
        return y.mean((2, 3))


@pytest.mark.parametrize("how, folded", [
    ("plain", 1), ("sum", 0), ("module", 0), ("between", 0), ("functional", 0), ("twice", 0), ("norm twice", 0),
    ("shared norm", 0), ("block", 1),
])  # fmt: skip
def test_only_a_norm_that_alone_takes_a_convolutions_output_is_folded(wrap, how, folded):
    model = wrap(Net(how))
    twin = prepare(model)
    x = photos(model)
    torch.testing.assert_close(twin(x), model(x), rtol=1e-10, atol=1e-12)
    assert norms(model.net) - norms(twin.net) == folded


def test_a_block_that_ends_in_a_convolution_puts_out_what_it_did(wrap):
    """Its batch norm stands outside, and folding it in would change what the block puts out."""
    model = wrap(Net("block"))
    x, taps = photos(model), [Tap("block"), Tap("bn")]
    expected, found = run_to(model, x, taps), run_to(prepare(model, ["block", "bn"]), x, taps)
    for tap in taps:
        torch.testing.assert_close(found[tap], expected[tap])


class Activated(nn.Module):
    """timm's batch norm, which also activates."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.bn = nn.Conv2d(3, 4, 3), BatchNormAct2d(4)
        fixed_statistics(self)

    def forward(self, x):
        return self.bn(self.conv(x)).mean((2, 3))


def test_an_activation_within_the_norm_stays(wrap):
    model = wrap(Activated())
    twin, x = prepare(model), photos(model)
    torch.testing.assert_close(twin(x), model(x))
    torch.testing.assert_close(run_to(twin, x, [Tap("bn")])[Tap("bn")], run_to(model, x, [Tap("bn")])[Tap("bn")])
    assert norms(twin.net) == 0 and isinstance(twin.net.bn.act, nn.ReLU)


def test_a_norm_in_training_is_left_alone(wrap):
    model = wrap(Net("plain"))
    model.net.bn.train()
    assert folding_pairs(model) == []


# The model itself, and who keeps what


@pytest.mark.parametrize("name, replaced", [
    ("test_vit", True), ("vit_base_patch16_reg4_gap_256", False), ("vit_base_patch16_siglip_224", False),
    ("deit_tiny_distilled_patch16_224", False), ("test_resnet", False),
])  # fmt: skip
def test_patches_that_nobody_reads_are_keys_and_values_only(name, replaced):
    """Where the class token alone is read, the twin's last block puts out that token, and the slope is the same."""
    model = BY_NAME[name].build(torch.float64)
    twin = prepare(model)
    assert any(isinstance(m, _LastBlock) for m in twin.net.modules()) == replaced
    assert not any(isinstance(m, _LastBlock) for m in model.net.modules())
    slopes = []
    for net in (model, twin):
        x = photos(model).requires_grad_(True)
        slopes.append(torch.autograd.grad(net(x).square().sum(), x)[0])
    assert off(slopes[1], slopes[0]) < 1e-10


# Smaller inputs


@ids
def test_a_twin_on_a_smaller_input_is_the_same_network(case):
    """Whoever takes no other size stays at its own; what is looked at keeps its kind, and the model is left alone."""
    model = case.build()
    layer = curated_layers(model)[0]
    full, small = prepare(model, [layer.name]), prepare(model, [layer.name], share=0.6)
    assert small is full or small.spec.height < full.spec.height
    with torch.no_grad():
        logits = small(photos(small))
    assert logits.shape == (2, model.num_classes) and bool(logits.isfinite().all())
    again = find_layer(small, layer.name)
    assert (again.layout, again.channels, again.prefix) == (layer.layout, layer.channels, layer.prefix)
    assert prepare(model, [layer.name], share=0.6) is small and prepare(model, [layer.name]) is full
    assert model(photos(model)).shape == (2, model.num_classes)


@pytest.mark.parametrize("name, side", [
    ("resnet18", 112), ("mobilenetv3_small_050", 112), ("deit_tiny_distilled_patch16_224", 112),
    ("swin_tiny_patch4_window7_224", 112), ("mixer_s32_224", None), ("xcit_nano_12_p16_224", None),
])  # fmt: skip
def test_who_takes_a_smaller_input(name, side):
    """At the sizes that networks have."""
    torch.manual_seed(0)
    model = ImageModel(timm.create_model(name), name).double()
    small = prepare(model, share=0.5)
    assert small.spec.height == small.spec.width == (side or model.spec.height)
    if side is None:
        return
    net = copy.deepcopy(model.net)
    if hasattr(net, "set_input_size"):
        net.set_input_size(img_size=(side, side))
    x = photos(small)
    with torch.no_grad():
        expected = net((x - model.mean) / model.std)
        assert off(small(x), expected) < 1e-10
        half = prepare(model, half=True, share=0.5)
        assert half.dtype == torch.bfloat16 and off(half(x.bfloat16()).double(), expected) < 0.1


def test_the_last_block_is_whole_where_something_inside_is_looked_at():
    model = BY_NAME["test_vit"].build()
    assert not any(isinstance(m, _LastBlock) for m in prepare(model, ["blocks.0"]).net.modules())


def test_whole_networks_can_be_compiled_and_others_are_refused(monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    model = BY_NAME["test_vit"].build()
    compiled = prepare(model, compiled=True)
    x = photos(model)
    with torch.no_grad():
        assert off(compiled(x), model(x)) < 1e-5
    assert compiled is prepare(model, compiled=True) and compiled is not prepare(model)
    for refused in ({"keep": ["blocks.0"]}, {"fold": False}):
        with pytest.raises(UndefinedError, match="Only whole networks"):
            prepare(model, compiled=True, **refused)


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv2_050", "test_vit"])
def test_the_model_stays_as_it_is(name):
    model = BY_NAME[name].build()
    before = copy.deepcopy(model.state_dict())
    names = [n for n, _ in model.named_modules()]
    strides = {n: p.stride() for n, p in model.named_parameters()}
    x = photos(model)
    expected = model(x)
    prepare(model)
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[n], after[n]) for n in before)
    assert [n for n, _ in model.named_modules()] == names
    assert {n: p.stride() for n, p in model.named_parameters()} == strides
    assert torch.equal(model(x), expected)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_twin_is_frozen_and_in_eval_mode():
    twin = prepare(BY_NAME["test_resnet"].build())
    assert not any(p.requires_grad for p in twin.parameters()) and not any(m.training for m in twin.net.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in twin.modules())


def test_the_twin_has_a_lock_of_its_own():
    model = BY_NAME["test_resnet"].build()
    assert prepare(model).lock is not model.lock


def test_twins_are_kept_for_the_same_question_only():
    model = BY_NAME["test_resnet"].build()
    first = prepare(model, ["layer1"])
    assert prepare(model, ["layer1"]) is first
    assert prepare(model, ["layer1", "layer2"]) is not first
    assert prepare(model, ["layer1"], fold=False) is not first


def test_a_model_that_has_changed_its_type_gets_a_new_twin():
    model = BY_NAME["test_resnet"].build()
    single = prepare(model)
    model.double()
    assert single.dtype == torch.float32 and single(photos(single)).dtype == torch.float32
    assert prepare(model)(photos(model)).dtype == torch.float64


def test_a_forgotten_model_is_not_kept_alive_by_its_twin():
    model = BY_NAME["test_resnet"].build()
    prepare(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_who_wants_channels_last():
    assert wants_channels_last(BY_NAME["mobilenetv2_050"].build().net)
    assert not wants_channels_last(BY_NAME["test_vit"].build().net)


def test_weights_of_other_dimensions_stay_as_they_are(image_model):
    """A 3-d convolution's have five."""
    model = image_model("lambda_resnet26t", 64)
    x = photos(model)
    twin = prepare(model, fold=False)
    with torch.no_grad():
        assert off(twin(x), model(x)) < 1e-10
    weights = [p for p in twin.net.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert weights and all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
