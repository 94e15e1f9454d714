"""LibraGrad against central differences of a network whose gates stand still, and its claim that the shares add up."""

import pytest
import torch
from plain_transformer import Transformer

from benchmarks.families import CASES
from lsd.errors import UndefinedError
from lsd.saliency.libra import libragrad
from lsd.saliency.libra_rules import LibraRule, libra_logits
from lsd.saliency.methods import attribute
from lsd.saliency.targets import Target, of_class

BY_NAME = {case.name: case for case in CASES}
ADDED = (
    "bias",
    "pos_embed",
    "cls_token",
    "reg_token",
    "dist_token",
    "beta",
)  # ends of names of what is added to values
COMPLETE = (
    "test_vit", "vit_base_patch16_reg4_gap_256", "vit_base_patch16_siglip_224", "deit_tiny_distilled_patch16_224",
    "eva02_tiny_patch14_224", "beit_base_patch16_224", "vit_relpos_small_patch16_224", "cait_xxs24_224",
    "swin_tiny_patch4_window7_224", "mixer_s32_224", "test_convnext",
)  # fmt: skip


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_it_is_the_slope_of_the_network_with_all_that_scales_or_gates_held_still(wrap, pictures, pool, fused):
    model = wrap(Transformer(pool, fused), 12)
    x, target, h = pictures(1, 12), Target(1), 1e-5
    still = wrap(Transformer(pool), 12).net.held_at(x)
    bumps = h * torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape[1:])
    with torch.no_grad():
        assert torch.allclose(still(x), model(x), atol=1e-10)
        slope = torch.cat([(target(still(x + b)) - target(still(x - b))) / (2 * h) for b in bumps[:, None]]).view(
            x.shape
        )
    plain = attribute("gradient", model, x, target).values
    found = libragrad(model, x, target)
    assert torch.allclose(found.values, slope * x, atol=1e-7)
    assert (plain - slope).abs().max() > 0.1 * slope.abs().max()
    assert torch.allclose(found.scores, target(model(x)))


@pytest.mark.parametrize("name", COMPLETE)
def test_shares_of_pixels_and_of_what_is_added_make_up_the_logit(name):
    model = BY_NAME[name].build(torch.float64)
    size = (model.spec.height, model.spec.width)
    x = torch.rand(1, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).requires_grad_(True)
    parameters = model.net.named_parameters()
    added = [
        p.requires_grad_(True) for n, p in parameters if n.endswith(ADDED) and "proj_w" not in n
    ]  # CaiT's, of weights
    logits = libra_logits(model, x)
    pixels, *rest = torch.autograd.grad(logits[0, 3], [x, *added], materialize_grads=True)
    shares = ((x - model.mean) * pixels).sum() + sum((p * g).sum() for p, g in zip(added, rest, strict=True))
    assert shares.item() == pytest.approx(logits[0, 3].item(), rel=1e-9, abs=1e-9)
    assert torch.allclose(logits, model(x), atol=1e-9)
    plain, *others = torch.autograd.grad(model(x)[0, 3], [x, *added], materialize_grads=True)
    gap = (
        ((x - model.mean) * plain).sum() + sum((p * g).sum() for p, g in zip(added, others, strict=True)) - logits[0, 3]
    )
    assert gap.abs() > 1e-3 * logits[0, 3].abs()  # which is why there are rules


def test_two_paths_that_are_multiplied_have_half_each():
    a, b = (torch.tensor([v], requires_grad=True) for v in (3.0, 5.0))
    with LibraRule() as mode:
        product = a * b
    assert product.item() == 15
    assert [g.item() for g in torch.autograd.grad(product, [a, b])] == [2.5, 1.5]
    assert mode.found == 1


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_activations_put_out_what_they_do_and_hand_back_their_gates(approximate):
    x = torch.linspace(-3, 3, 13, dtype=torch.float64).requires_grad_(True)
    functional = torch.nn.functional
    for function in (
        lambda x: functional.gelu(x, approximate=approximate), functional.silu, functional.mish, functional.hardswish
    ):  # fmt: skip
        with LibraRule():
            found = function(x)
        expected = function(x.detach())
        (slope,) = torch.autograd.grad(found.sum(), x)
        assert torch.allclose(found, expected, atol=1e-12)
        assert torch.allclose(slope * x.detach(), expected, atol=1e-12)


def test_norms_put_out_what_they_do():
    x = torch.randn(2, 6, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    w, b = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    functional = torch.nn.functional
    for function in (
        lambda x: functional.group_norm(x, 3, w, b), lambda x: functional.rms_norm(x.movedim(1, -1), (6,), w),
        lambda x: functional.layer_norm(x.movedim(1, -1), (6,), w, b, 1e-3), lambda x: functional.layer_norm(x, (3, 3)),
    ):  # fmt: skip
        with LibraRule():
            found = function(x)
        assert torch.allclose(found, function(x.detach()), atol=1e-12)


def test_each_target_and_each_picture_has_its_own(image_model, pictures):
    model, x = image_model("test_vit", 64, img_size=64), pictures(2, 64)
    targets = [Target(1), of_class(model, 2, "log_odds")]
    for target, found in zip(targets, libragrad(model, x, targets), strict=True):
        for i in range(2):
            assert torch.allclose(libragrad(model, x[i : i + 1], target).values, found.values[i : i + 1], atol=1e-10)


def test_what_has_nothing_to_balance_or_no_rule_is_refused(image_model, wrap, pictures):
    with pytest.raises(UndefinedError, match="balanced as it is"):
        libragrad(image_model("test_resnet"), pictures(), Target(1))

    class Tanh(Transformer):
        def forward(self, x):
            return super().forward(x).tanh()

    with pytest.raises(UndefinedError, match="no rule for tanh"):
        libragrad(wrap(Tanh(), 12), pictures(1, 12), Target(1))


def test_the_network_is_left_as_it_was(image_model, pictures):
    model, x = image_model("test_vit", 64, img_size=64), pictures(1, 64)
    before = attribute("gradient", model, x, Target(1)).values
    libragrad(model, x, Target(1))
    assert torch.equal(attribute("gradient", model, x, Target(1)).values, before)
