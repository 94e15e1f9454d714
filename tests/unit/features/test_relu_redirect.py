"""Past closed ReLUs: nothing changes forwards, and backwards only where a marked picture would get nothing."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsd.features.redirect import ReluRedirect

CALLS = {
    "module": nn.ReLU(), "in place": nn.ReLU(inplace=True), "functional": F.relu, "torch": torch.relu,
    "method": lambda x: x.relu(), "method in place": lambda x: x.clone().relu_(), "torch in place": torch.relu_,
    "functional in place": lambda x: F.relu(x, inplace=True),
}  # fmt: skip
CALLS6 = {"module": nn.ReLU6(), "in place": nn.ReLU6(inplace=True), "functional": F.relu6}
each_call = pytest.mark.parametrize("call", CALLS)


def run(function, x, weights, blocked):
    """(output, slope of Σ weights · output, which pictures were shut) of a ReLU, as of a loss that is to fall."""
    x = x.clone().requires_grad_(True)
    with ReluRedirect(torch.tensor(blocked)) as redirect:
        y = function(x * 1)
        (slope,) = torch.autograd.grad((weights * y).sum(), x)
    return y.detach(), slope, redirect.shut.tolist()


@each_call
def test_forwards_nothing_changes(call):
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    y, _, _ = run(CALLS[call], x, torch.ones(4, 5), [True, False, True, False])
    assert torch.equal(y, x.clamp(min=0))


@pytest.mark.parametrize("call", CALLS6)
def test_forwards_nothing_changes_with_a_ceiling(call):
    x = 10 * torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    y, _, _ = run(CALLS6[call], x, torch.ones(4, 5), [True] * 4)
    assert torch.equal(y, x.clamp(0, 6))


@each_call
def test_the_rule_by_hand(call):
    x = torch.tensor([
        [-1.0, -2.0, -3.0],  # shut: what would raise it passes (a loss falls along minus its slope)
        [-1.0, -2.0, -3.0],  # the same, but not marked
        [-1.0, 2.0, -3.0],   # marked, but something passes by itself
        [-1.0, 2.0, -3.0],   # marked, and what is open gets nothing anyway
    ])  # fmt: skip
    weights = torch.tensor([[-1.0, 1.0, -0.5], [-1.0, 1.0, -0.5], [-1.0, 1.0, -0.5], [-1.0, 0.0, -0.5]])
    _, slope, shut = run(CALLS[call], x, weights, [True, False, True, True])
    assert slope.tolist() == [[-1, 0, -0.5], [0, 0, 0], [0, 1, 0], [-1, 0, -0.5]]
    assert shut == [True, False, False, True]


@pytest.mark.parametrize("call", CALLS6)
def test_the_rule_by_hand_with_a_ceiling(call):
    """Above the ceiling only what would lower it is of use."""
    x = torch.tensor([[-1.0, 7.0, 8.0], [-1.0, 7.0, 3.0], [-1.0, 7.0, 8.0], [-1.0, -2.0, -3.0]])
    weights = torch.tensor([[-1.0, -1.0, 0.5], [-1.0, -1.0, 0.5], [-1.0, -1.0, 0.5], [1.0, -2.0, 0.5]])
    _, slope, shut = run(CALLS6[call], x, weights, [True, True, False, True])
    assert slope.tolist() == [[-1, 0, 0.5], [0, 0, 0.5], [0, 0, 0], [0, -2, 0]]
    assert shut == [True, False, False, True]


def test_a_tiny_network_by_hand():
    """relu(w2 · relu(w1 x)) with both shut for the first picture: the slope is that of the network without ReLUs where
    that raises both, and the other picture's is the plain one."""
    w1, w2 = torch.tensor([[1.0, -1.0], [0.5, 1.0]]), torch.tensor([[1.0], [2.0]])
    x = torch.tensor([[-2.0, 0.5], [2.0, 0.5]])
    inner = x @ w1
    assert (inner[0] < 0).tolist() == [True, False]
    x = x.requires_grad_(True)
    with ReluRedirect(torch.tensor([True, True])) as redirect:
        out = F.relu(F.relu(x @ w1) @ w2 - 10)
        (slope,) = torch.autograd.grad(-out.sum(), x)
    # The outer ReLU is shut for both; −1 raises it, so −1 passes; behind it what is open decides.
    open_ = (inner > 0).float()
    expected = -(w2.T * open_) @ w1.T
    torch.testing.assert_close(slope, expected)
    assert redirect.shut.tolist() == [True, True]


def test_outside_the_context_nothing_is_redirected():
    x = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    with ReluRedirect(torch.tensor([True])):
        pass
    assert torch.autograd.grad(-F.relu(x).sum(), x)[0].tolist() == [[0, 0]]


def test_the_context_ends_with_an_exception():
    with pytest.raises(RuntimeError, match="stop"), ReluRedirect(torch.tensor([True])):
        raise RuntimeError("stop")
    x = torch.tensor([[-1.0]], requires_grad=True)
    assert torch.autograd.grad(-F.relu(x).sum(), x)[0].item() == 0


def test_what_is_not_laid_out_by_pictures_is_left_alone():
    """Windows, for example: more rows than pictures."""
    x = torch.full((6, 2), -1.0)
    _, slope, shut = run(F.relu, x, -torch.ones(6, 2), [True, True])
    assert slope.abs().max() == 0 and shut == [False, False]


@pytest.mark.parametrize("function", [
    F.gelu, F.silu, lambda x: F.hardtanh(x, -1.0, 1.0), lambda x: F.leaky_relu(x, 0.1), torch.sigmoid,
])  # fmt: skip
def test_other_functions_are_left_alone(function):
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    _, slope, shut = run(function, x, torch.ones(3, 4), [True] * 3)
    plain = x.clone().requires_grad_(True)
    torch.testing.assert_close(slope, torch.autograd.grad(function(plain).sum(), plain)[0])
    assert shut == [False] * 3


def test_slopes_elsewhere_are_exact(image_model, pictures):
    """A network in which every picture's gradient gets through has its plain gradient."""
    model, images = image_model("test_resnet"), pictures(2)
    slopes = []
    for marked in (False, True):
        x = images.clone().requires_grad_(True)
        with ReluRedirect(torch.tensor([marked, marked])):
            slopes.append(torch.autograd.grad(model(x)[:, 3].sum(), x)[0])
    plain = images.clone().requires_grad_(True)
    expected = torch.autograd.grad(model(plain)[:, 3].sum(), plain)[0]
    torch.testing.assert_close(slopes[0], expected)
    torch.testing.assert_close(slopes[1], expected)
