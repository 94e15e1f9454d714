"""Batch norm with fixed statistics: the same function, and the derivative that torch gets wrong for some strides."""

import timm
import torch
import torch.nn.functional as F

from lsd.batch_norm import FixedBatchNorm, has_batch_norm
from lsd.models import ImageModel


def statistics(channels=5):
    g = torch.Generator().manual_seed(0)
    mean, weight, bias = torch.randn(3, channels, dtype=torch.float64, generator=g)
    return mean, torch.rand(channels, dtype=torch.float64, generator=g) + 0.5, weight, bias


def test_it_is_the_same_function():
    mean, variance, weight, bias = statistics()
    for shape in ((2, 5), (2, 5, 7), (2, 5, 4, 3)):
        x = torch.randn(shape, dtype=torch.float64)
        for w, b in ((weight, bias), (None, None), (weight, None)):
            expected = F.batch_norm(x, mean, variance, w, b, eps=1e-3)
            with FixedBatchNorm():
                torch.testing.assert_close(F.batch_norm(x, mean, variance, w, b, eps=1e-3), expected)


def test_batch_norm_in_training_is_left_alone():
    mean, variance, weight, bias = statistics()
    x = torch.randn(4, 5, 2, 2, dtype=torch.float64)
    before = mean.clone()
    expected = F.batch_norm(x, mean.clone(), variance.clone(), weight, bias, training=True)
    with FixedBatchNorm():
        assert torch.equal(F.batch_norm(x, mean, variance, weight, bias, training=True), expected)
    assert not torch.equal(mean, before), "the running mean was not updated"


def test_a_gradient_with_the_strides_of_tokens_is_differentiated_rightly():
    mean, variance, weight, bias = statistics()
    x = torch.randn(1, 5, 4, 4, dtype=torch.float64, requires_grad=True)
    tokens = torch.randn(1, 16, 5, dtype=torch.float64)
    upstream = tokens.transpose(1, 2).unflatten(2, (4, 4)).as_strided((1, 5, 4, 4), (5, 1, 20, 5))
    with FixedBatchNorm():
        y = F.batch_norm(x, mean, variance, weight, bias)
    (gradient,) = torch.autograd.grad(y, x, upstream)
    scale = (weight / (variance + 1e-5).sqrt()).view(1, -1, 1, 1)
    torch.testing.assert_close(gradient, upstream * scale)


def test_the_gradient_of_xcit_is_the_slope():
    torch.manual_seed(0)
    net = timm.create_model("xcit_nano_12_p16_224", img_size=64, num_classes=3)
    net.pretrained_cfg |= {"input_size": (3, 64, 64)}
    model = ImageModel(net, "xcit").double()
    for module in model.net.modules():  # statistics of 0 and 1 would hide which channel is which
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.3, 3)
    x, direction = torch.rand(1, 3, 64, 64).double(), torch.randn(1, 3, 64, 64).double()
    leaf = x.clone().requires_grad_(True)
    slope = (torch.autograd.grad(model(leaf)[0, 0], leaf)[0] * direction).sum()
    with torch.no_grad():
        expected = (model(x + 1e-5 * direction) - model(x - 1e-5 * direction))[0, 0] / 2e-5
    torch.testing.assert_close(slope, expected, rtol=1e-6, atol=0)


def test_it_knows_who_needs_it():
    assert has_batch_norm(timm.create_model("test_resnet"))
    assert not has_batch_norm(timm.create_model("test_vit"))
