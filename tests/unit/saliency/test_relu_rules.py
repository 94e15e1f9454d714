"""Guided backpropagation and the deconvnet, against a backward pass written out by hand."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsd.errors import UndefinedError
from lsd.saliency import gradients as own
from lsd.saliency.targets import Target

RULES = {"guided_backprop": own.guided_backprop, "deconvnet": own.deconvnet}
each_rule = pytest.mark.parametrize("rule", RULES)


class Net(nn.Module):
    """conv → ReLU → conv → ReLU → mean → linear, with the rectifier in any of the ways people write it."""

    def __init__(self, rectify=None, classes=3):
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, stride=2)
        self.fc = nn.Linear(5, classes)
        self.act1, self.act2 = nn.ReLU(), nn.ReLU()
        self.rectify = rectify

    def forward(self, x):
        act1, act2 = (self.rectify,) * 2 if self.rectify else (self.act1, self.act2)
        return self.fc(act2(self.conv2(act1(self.conv1(x)))).mean((2, 3)))


def by_hand(net, x, index, rule, high=float("inf")):
    """∂z_t/∂x through `Net`, with the rule at both rectifiers: only convolutions' transposes and products."""
    a1 = F.conv2d(x, net.conv1.weight, net.conv1.bias, padding=1)
    a2 = F.conv2d(a1.clamp(0, high), net.conv2.weight, net.conv2.bias, stride=2)

    def rectify(g, a):
        inside = ((a > 0) & (a < high)).to(g.dtype)
        return {"gradient": g * inside, "deconvnet": g.clamp(min=0), "guided_backprop": g.clamp(min=0) * inside}[rule]

    g = (net.fc.weight[index] / (a2.shape[2] * a2.shape[3]))[None, :, None, None].expand_as(a2)
    g = rectify(g, a2)
    g = F.conv_transpose2d(g, net.conv2.weight, stride=2, output_padding=(a1.shape[-1] - 3) % 2)
    return F.conv_transpose2d(rectify(g, a1), net.conv1.weight, padding=1)


@pytest.mark.parametrize("rule", ["gradient", *RULES])
def test_the_rules_are_the_backward_pass_by_hand(wrap, pictures, rule):
    model, x = wrap(Net(), 9), pictures(1, 9)
    result = {"gradient": own.gradient, **RULES}[rule](model, x, Target(1, "logit")).values
    expected = by_hand(model.net, x, 1, rule)
    assert expected.abs().max() > 0
    torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-14)


def test_the_three_rules_differ(wrap, pictures):
    model, x = wrap(Net(), 9), pictures(1, 9)
    maps = [by_hand(model.net, x, 1, rule) for rule in ("gradient", *RULES)]
    assert not any(torch.allclose(a, b) for a, b in ((maps[0], maps[1]), (maps[1], maps[2]), (maps[0], maps[2])))


@each_rule
@pytest.mark.parametrize("rectify", [
    F.relu, torch.relu, torch.Tensor.relu, nn.ReLU(), nn.ReLU(inplace=True), lambda x: F.relu(x, inplace=True),
], ids=["F.relu", "torch.relu", "Tensor.relu", "nn.ReLU, one for all", "nn.ReLU in place", "F.relu in place"])  # fmt: skip
def test_a_rectifier_is_found_however_it_is_written(wrap, pictures, rule, rectify):
    model, x = wrap(Net(rectify), 9), pictures(1, 9)
    result = RULES[rule](model, x, Target(1, "logit")).values
    torch.testing.assert_close(result, by_hand(model.net, x, 1, rule), rtol=1e-10, atol=1e-14)


@each_rule
@pytest.mark.parametrize("rectify", [nn.ReLU6(), F.relu6, nn.ReLU6(inplace=True), nn.Hardtanh(0.0, 6.0)])
def test_relu6_is_masked_at_both_ends(wrap, pictures, rule, rectify):
    model, x = wrap(Net(rectify), 9), pictures(1, 9)
    model.mean.fill_(0.5)
    model.std.fill_(1 / 40)  # wide enough to pass 6
    seen = (x - model.mean) / model.std
    a1 = F.conv2d(seen, model.net.conv1.weight, model.net.conv1.bias, padding=1)
    assert (a1 > 6).any() and (a1 < 0).any()
    result = RULES[rule](model, x, Target(1, "logit")).values
    torch.testing.assert_close(result * model.std, by_hand(model.net, seen, 1, rule, 6.0), rtol=1e-10, atol=1e-14)


class Edge(nn.Module):
    def __init__(self, rectify):
        super().__init__()
        self.rectify = rectify

    def forward(self, x):
        return self.rectify(x).sum((2, 3))


@pytest.mark.parametrize("x, expected", [(-1.0, 0.0), (0.0, 0.0), (3.0, 1.0), (6.0, 0.0), (7.0, 0.0)])
def test_the_mask_is_open_at_zero_and_at_six(wrap, x, expected):
    model = wrap(Edge(nn.ReLU6()), 4)
    model.mean.fill_(1 / 8)
    model.std.fill_(1 / 8)  # the network sees -1 to 7
    images = torch.full((1, 3, 4, 4), (x + 1) / 8, dtype=torch.float64)
    values = own.guided_backprop(model, images, Target(0, "logit")).values
    assert values[0, 0].unique().tolist() == [8 * expected]
    assert own.deconvnet(model, images, Target(0, "logit")).values[0, 0].unique().tolist() == [8.0]


@each_rule
@pytest.mark.parametrize("rectify, named", [
    (F.gelu, "GELU"), (nn.SiLU(), "SiLU"), (F.leaky_relu, "LeakyReLU"), (nn.Hardswish(), "HardSwish"),
    (nn.ELU(), "ELU"), (nn.Hardtanh(-1.0, 1.0), "Hardtanh"), (F.softplus, "Softplus"), (nn.PReLU(), "PReLU"),
    (nn.Mish(), "Mish"), (torch.sin, "none"), (F.relu_, "in-place ReLU"),
])  # fmt: skip
def test_other_non_linearities_are_refused_by_name(wrap, pictures, rule, rectify, named):
    with pytest.raises(UndefinedError, match=f"whose non-linearities are ReLUs, and this one uses .*{named}"):
        RULES[rule](wrap(Net(rectify), 9), pictures(1, 9), Target(1))


@each_rule
@pytest.mark.parametrize("arch, settings, named", [
    ("test_efficientnet", {}, "SiLU"), ("test_convnext", {}, "GELU"), ("test_vit", {"img_size": 32}, "GELU"),
    ("mobilenetv3_small_050", {}, "HardSwish"),  # ReLU in some blocks, HardSwish in others
    ("tresnet_m", {"layers": (1, 1, 1, 1), "width_factor": 0.25}, "LeakyReLU"),
])  # fmt: skip
def test_real_networks_without_or_with_some_relus_are_refused(image_model, pictures, rule, arch, settings, named):
    with pytest.raises(UndefinedError, match=named):
        RULES[rule](image_model(arch, **settings), pictures(), Target(3))


def hand_written_leaky(x):
    return torch.where(x > 0, x, 0.1 * x)


class OwnTanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (1 - ctx.saved_tensors[0].tanh() ** 2)


class ActivationInside(Net):
    """A ReLU network with one more non-linearity, which no module and no function of that name gives away."""

    def __init__(self, activate):
        super().__init__()
        self.activate = activate

    def forward(self, x):
        return super().forward(x + self.activate(x - 0.5))


@each_rule
@pytest.mark.parametrize("activate, named", [
    (lambda x: x * x.sigmoid(), "a product of a tensor with a function of itself"),
    (lambda x: x.clone().mul_(x.sigmoid()), "a product of a tensor"),
    (lambda x: x * torch.sigmoid(1.7 * x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), "a product of a tensor"),
    (lambda x: x * F.relu6(x + 3) / 6, "a product of a tensor"), (lambda x: F.relu(x) ** 2, "pow"),
    (lambda x: x / (1 + x.abs()), "a product of a tensor"), (lambda x: x * F.softplus(x).tanh(), "Softplus"),
    (lambda x: x * torch.log1p(x.exp()).tanh(), "a product of a tensor"), (torch.tanh, "tanh"), (torch.sin, "sin"),
    (torch.sigmoid, "sigmoid"), (torch.abs, "abs"), (lambda x: x.clamp(min=0), "clamp"),
    (lambda x: torch.maximum(x, 0.1 * x), "maximum"), (OwnTanh.apply, "OwnTanh"),
    (hand_written_leaky, "a comparison"), (lambda x: x * (x > 0), "a comparison"),
])  # fmt: skip
def test_non_linearities_that_are_written_by_hand_are_refused_wherever_they_stand(
    wrap, pictures, rule, activate, named
):
    with pytest.raises(UndefinedError, match=f"whose non-linearities are ReLUs, and this one uses {named}"):
        RULES[rule](wrap(ActivationInside(activate), 9), pictures(1, 9), Target(1))


class Gated(nn.Module):
    """x · σ(an MLP of x's means), the MLP's activation being given; the first is what squeeze-and-excitation is."""

    def __init__(self, activate=F.relu, gate=torch.sigmoid):
        super().__init__()
        torch.manual_seed(0)
        self.squeeze, self.excite, self.activate, self.gate = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 3, 1), activate, gate

    def forward(self, x):
        return x * self.gate(self.excite(self.activate(self.squeeze(x.mean((2, 3), keepdim=True)))))


@each_rule
def test_an_activation_that_is_written_by_hand_is_found_behind_a_gate(wrap, pictures, rule):
    with pytest.raises(UndefinedError, match="uses a product of a tensor"):
        RULES[rule](wrap(ActivationInside(Gated(lambda x: x * x.sigmoid())), 9), pictures(1, 9), Target(1))


def normalised(x):
    """A normalisation over the channels as timm's fast form has it, in elementary operations."""
    mean = x.mean(1, keepdim=True)
    variance = ((x * x).mean(1, keepdim=True) - mean * mean).clamp(0)
    return (x - mean) * (variance + 1e-3).rsqrt()


def standardised(x):
    return x / x.var((2, 3), keepdim=True, unbiased=False).add(1e-3).sqrt().expand(x.shape)


def attended(x):
    """Self-attention over the places, its softmax included."""
    tokens = x.flatten(2).transpose(1, 2)
    return (tokens.mT @ (tokens @ tokens.mT).softmax(2).mT).view(x.shape)


def halves(x):
    """A gated linear unit: two halves of one tensor."""
    value, gate = torch.cat([x, x.flip(1)], 1).chunk(2, 1)
    return value * gate.sigmoid()


@each_rule
@pytest.mark.parametrize("scale", [
    Gated(), Gated(gate=F.hardsigmoid), Gated(gate=lambda x: F.relu6(x + 3) / 6), normalised, standardised, attended,
    halves, lambda x: x * (0.2 * x.sum(1, keepdim=True)).sigmoid(), nn.GroupNorm(1, 3), lambda x: F.max_pool2d(x, 3, 1, 1),
], ids=["squeeze-and-excitation", "hard sigmoid", "hard sigmoid by hand", "layer norm", "instance norm", "attention",
        "gated linear unit", "spatial gate", "group norm", "max pooling"])  # fmt: skip
def test_gates_and_statistics_are_left_alone(wrap, pictures, rule, scale):
    """They have ordinary derivatives; the rectifiers around them follow the rule."""
    model, x = wrap(ActivationInside(scale), 9), pictures(1, 9)
    found = RULES[rule](model, x, Target(1, "logit")).values
    assert found.abs().max() > 0 and not torch.allclose(found, own.gradient(model, x, Target(1, "logit")).values)


@each_rule
@pytest.mark.parametrize("arch, named", [
    ("regnetz_c16_evos", "a product of a tensor with a function of itself"),  # its ReLUs are in the gates
    ("poolformerv2_s12", "pow"),  # squares its ReLUs
])  # fmt: skip
def test_networks_whose_activations_timm_spells_out_are_refused(image_model, pictures, rule, arch, named):
    with pytest.raises(UndefinedError, match=f"this one uses {named}"):
        RULES[rule](image_model(arch, 64), pictures(1, 64), Target(3))


def test_after_a_refusal_the_network_is_as_before(image_model, pictures):
    model, x = image_model("test_convnext"), pictures()
    before = own.gradient(model, x, Target(3)).values
    with pytest.raises(UndefinedError):
        own.guided_backprop(model, x, Target(3))
    assert torch.equal(own.gradient(model, x, Target(3)).values, before)


def test_two_users_of_one_network_do_not_meet(image_model, pictures):
    """One thread's rule must not reach the other's plain gradient, whatever the order of their steps."""
    model, x, methods = image_model("test_resnet"), pictures(), (own.gradient, own.guided_backprop)
    alone = [method(model, x, Target(3)).values for method in methods]
    assert not torch.allclose(*alone)
    wrong, start = [], threading.Barrier(4)

    def use(k):
        start.wait()
        for _ in range(8):
            if not torch.equal(methods[k](model, x, Target(3)).values, alone[k]):
                wrong.append(k)

    threads = [threading.Thread(target=use, args=(k % 2,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert not any(m._forward_hooks for m in model.modules())


def test_the_rule_stays_in_its_thread_even_without_the_lock(wrap, pictures):
    """While one thread is inside the rule's forward pass, another one's rectifiers have the ordinary derivative."""
    inside, done = threading.Event(), threading.Event()

    def wait(x):
        inside.set()
        assert done.wait(10)
        return F.relu(x)

    slow, quick, x = wrap(Net(wait), 9), wrap(Net(), 9), pictures(1, 9)
    results = []
    thread = threading.Thread(target=lambda: results.append(own.guided_backprop(slow, x, Target(1, "logit")).values))
    thread.start()
    assert inside.wait(10)
    plain = own.gradient(quick, x, Target(1, "logit")).values
    done.set()
    thread.join()
    torch.testing.assert_close(plain, by_hand(quick.net, x, 1, "gradient"), rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(results[0], by_hand(quick.net, x, 1, "guided_backprop"), rtol=1e-10, atol=1e-14)
