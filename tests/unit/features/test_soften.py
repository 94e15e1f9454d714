"""Gentler gradients against networks that were written with them, and what they must leave alone."""

import copy
from dataclasses import replace

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.families import CASES
from lsd.errors import UndefinedError
from lsd.features.ascent import ascend
from lsd.features.prepare import prepare
from lsd.features.recipes import RECIPES
from lsd.features.soften import Softening, soften
from lsd.models import ImageModel, get_model


def gradient(net, images: torch.Tensor, softening: Softening) -> torch.Tensor:
    """Of the sum of the network's outputs, weighted, to the images."""
    images = images.clone().requires_grad_(True)
    shown = images * 1.0
    outputs = net(shown)
    soften(softening, [outputs], shown)
    weights = torch.linspace(-1, 2, outputs.numel(), dtype=images.dtype).view_as(outputs)
    return torch.autograd.grad((outputs * weights).sum(), images)[0]


def mixed(value: torch.Tensor, surrogate: torch.Tensor) -> torch.Tensor:
    """The numbers of `value` with the gradient of `surrogate`: the slow and plain way."""
    return surrogate + (value - surrogate).detach()


class Residual(nn.Module):
    """Two residual blocks, the second with a convolution on its shortcut; with `by_hand`, gentle of itself."""

    def __init__(self, activation=F.relu):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.second, self.third, self.shortcut = (
            nn.Parameter(torch.randn(4, c, 3, 3, generator=generator).double() / 3, requires_grad=False)
            for c in (3, 4, 4, 4)
        )
        self.activation = activation

    def forward(self, x: torch.Tensor, by_hand: Softening | None = None) -> torch.Tensor:
        def act(v):
            y = self.activation(v)
            return mixed(y, by_hand.leak * v + (1 - by_hand.leak) * y) if by_hand else y

        def branch(v):
            return mixed(v, by_hand.branch * v) if by_hand else v

        x = F.conv2d(x, self.first, padding=1)
        x = act(x + branch(F.conv2d(act(x), self.second, padding=1)))
        inner = F.conv2d(act(F.conv2d(x, self.second, padding=1)), self.third, padding=1)
        # The shortcut is computed last and added first: neither decides which of the two is the branch.
        return act(F.conv2d(x, self.shortcut, padding=1) + branch(inner))


IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
SOME = (Softening(0.5), Softening(0.0), Softening(leak=0.3), Softening(0.7, 0.2), Softening(leak=1.0))


@pytest.mark.parametrize("activation", [F.relu, F.relu6, F.gelu, F.silu, F.hardswish, F.leaky_relu, F.elu, F.mish])
@pytest.mark.parametrize("softening", SOME, ids=str)
def test_branches_and_leaks_equal_a_network_written_with_them(activation, softening):
    net = Residual(activation)
    slow = IMAGES.clone().requires_grad_(True)
    outputs = net(slow, softening)
    weights = torch.linspace(-1, 2, outputs.numel(), dtype=torch.float64).view_as(outputs)
    (expected,) = torch.autograd.grad((outputs * weights).sum(), slow)
    torch.testing.assert_close(gradient(net, IMAGES, softening), expected, rtol=1e-10, atol=1e-12)


def test_the_neutral_softening_is_the_exact_gradient():
    net = Residual(F.silu)
    found, eps = gradient(net, IMAGES, Softening()), 1e-6
    weights = torch.linspace(-1, 2, 2 * 4 * 64, dtype=torch.float64).view(2, 4, 8, 8)
    for place in ((0, 0, 0, 0), (1, 2, 5, 3)):
        step = torch.zeros_like(IMAGES)
        step[place] = eps
        difference = ((net(IMAGES + step) - net(IMAGES - step)) * weights).sum() / (2 * eps)
        assert found[place].item() == pytest.approx(difference.item(), rel=1e-6, abs=1e-8)
    assert not Softening() and Softening(0.5) and Softening(leak=0.1)


@pytest.mark.parametrize(
    ("name", "branches"),
    [
        ("resnet26", lambda net: [block.bn3 for stage in net.children() if isinstance(stage, nn.Sequential) for block in stage]),
        ("vit_tiny_patch16_224", lambda net: [part for block in net.blocks for part in (block.ls1, block.ls2)]),
        ("mobilenetv2_050", lambda net: [m.bn3 for m in net.modules() if getattr(m, "has_skip", False)]),
        ("convnext_atto", lambda net: [block.drop_path for stage in net.stages for block in stage.blocks]),
    ],
)  # fmt: skip
def test_the_branches_of_timms_networks_are_found(name, branches):
    """Against hooks on the modules that end the branches, named by hand."""
    torch.manual_seed(0)
    net = timm.create_model(name, pretrained=False, num_classes=10).double().eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # at 0, as some are made, a last one would leave branches empty
            module.weight.data.uniform_(0.5, 1.5)
    images = torch.rand(1, 3, 224 if "vit" in name else 64, 224 if "vit" in name else 64).double()
    found = gradient(net, images, Softening(0.3))
    ends = branches(net)
    assert len(ends) > 3
    for module in ends:
        module.register_forward_hook(lambda _m, _i, output: mixed(output, 0.3 * output))
    expected = gradient(net, images, Softening())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("name", ["demo:resnet", "resnet26d", "mobilenetv2_050", "vit_tiny_patch16_224"])
def test_a_network_and_its_folded_twin_have_the_same_branches(name):
    """Also where a shortcut is padded, pooled and convolved, and so as many operations long as its folded branch."""
    torch.manual_seed(0)
    net = copy.deepcopy(get_model(name).net) if name.startswith("demo") else timm.create_model(name, num_classes=10)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():  # it would leave its branch empty
            module.weight.data.uniform_(0.5, 1.5)
    model = ImageModel(net, name).double()
    images = torch.rand(1, 3, model.spec.height, model.spec.width, generator=torch.Generator().manual_seed(2)).double()
    softening = Softening(0.3, 0.1)
    expected = gradient(model, images, softening)
    torch.testing.assert_close(gradient(prepare(model), images, softening), expected, rtol=1e-8, atol=1e-13)


def test_what_comes_before_the_network_is_left_alone():
    images = IMAGES.clone().requires_grad_(True)
    shown = F.relu(images) + images.square() * 0.5  # a view, as it might be
    outputs = F.relu(shown)
    soften(Softening(0.0, 1.0), [outputs], shown)
    (found,) = torch.autograd.grad(outputs.sum(), images)
    torch.testing.assert_close(found, (images > 0) + images.detach())


def test_several_outputs_are_softened_once():
    """Layers inside the network lie on the way to its end, and what they share must not be softened twice."""
    images = IMAGES.clone().requires_grad_(True)
    shown = images * 1.0
    inner = F.relu(shown)
    outer = inner * 3
    soften(Softening(leak=0.5), [inner, outer], shown)
    (found,) = torch.autograd.grad(inner.sum() + outer.sum(), images)
    torch.testing.assert_close(found, torch.where(images > 0, 4.0, 2.0).double())


@pytest.mark.parametrize("values", [{"branch": 1.5}, {"leak": -0.1}, {"leak": "all"}, {"leak": True}])
def test_shares_outside_are_refused_by_name(values):
    with pytest.raises(UndefinedError, match=next(iter(values))):
        Softening(**values)


def test_a_compiled_network_is_refused():
    recipe = replace(RECIPES["lucid"], gradient=Softening(0.5))
    with pytest.raises(UndefinedError, match="compiled"):
        next(ascend(get_model("demo:resnet"), ["class/0"], recipe, compiled=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_family_is_served(case):
    """Finite, and another gradient than the exact one."""
    model = case.build(torch.float64)
    images = torch.rand(1, 3, model.spec.height, model.spec.width, generator=torch.Generator().manual_seed(2)).double()
    exact, gentle = (gradient(model, images, softening) for softening in (Softening(), Softening(0.7, 0.05)))
    assert gentle.isfinite().all() and (gentle - exact).norm() > 1e-3 * exact.norm()
