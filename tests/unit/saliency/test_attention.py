"""Attention maps against central differences and loops on a transformer in elementary operations, and what is refused."""

import threading

import numpy as np
import pytest
import torch
from plain_transformer import HEADS, SIDE, TOKENS, Transformer
from torch.nn import functional

from benchmarks.families import CASES
from lsd.errors import UndefinedError
from lsd.saliency.attention import AttentionReader, head_maps, read, reading_tokens
from lsd.saliency.attention_methods import attention_rollout, gradient_rollout, legrad
from lsd.saliency.methods import attribute
from lsd.saliency.targets import Target

BY_NAME = {case.name: case for case in CASES}
READ = {  # and which of the last layer's queries the output is made of
    "test_vit": [0], "deit_tiny_distilled_patch16_224": [0, 1], "vit_base_patch16_reg4_gap_256": [*range(4, 20)],
    "beit_base_patch16_224": [*range(1, 17)], "eva02_tiny_patch14_224": [*range(1, 17)],
    "vit_relpos_small_patch16_224": [*range(16)], "vit_base_patch16_siglip_224": [0],
}  # fmt: skip
NOT_READ = {
    "test_resnet": "it has none", "mixer_s32_224": "it has none", "efficientvit_b0": "it has none",
    "swin_tiny_patch4_window7_224": "windows", "hiera_tiny_224": "windows", "tnt_s_legacy_patch16_224": "windows",
    "pit_ti_224": "different tokens", "xcit_nano_12_p16_224": "different tokens", "crossvit_tiny_240": "different tokens",
    "cait_xxs24_224": "more with its softmax", "convit_tiny": "more with its softmax",
}  # fmt: skip
METHODS = {"attention_rollout": attention_rollout, "gradient_rollout": gradient_rollout, "legrad": legrad}
each_pool = pytest.mark.parametrize("pool", ["token", "avg"])
each_way = pytest.mark.parametrize("fused", [False, True])


def weights_of(net, x):
    """Attention (heads, queries, keys) of each block for one picture, from queries and keys in loops."""
    found, tokens = [], net.embed(x)
    for block in net.blocks:
        normed = functional.layer_norm(tokens, tokens.shape[-1:], block.scale[0], block.shift[0])[0]
        queries, keys, _ = (normed @ block.qkv.T).unflatten(-1, (3, HEADS, -1)).unbind(1)
        layer = torch.zeros(HEADS, TOKENS, TOKENS, dtype=x.dtype)
        for head in range(HEADS):
            for i in range(TOKENS):
                strength = [(queries[i, head] @ key).item() / keys.shape[-1] ** 0.5 for key in keys[:, head]]
                for j in range(TOKENS):
                    layer[head, i, j] = np.exp(strength[j]) / sum(np.exp(strength))
        found.append(layer)
        tokens = block(tokens)
    return found


def slopes_of(net, x, score):
    """∂score/∂A of each block for one picture, weight by weight, by central differences."""
    found, h = [], 1e-5
    for number, block in enumerate(net.blocks):
        layer = torch.zeros(HEADS, TOKENS, TOKENS, dtype=x.dtype)
        for place in np.ndindex(*layer.shape):
            values = []
            for sign in (1, -1):
                block.bump = torch.zeros_like(layer)
                block.bump[place] = sign * h
                values.append(score(x, number))
            layer[place] = (values[0] - values[1]) / (2 * h)
        block.bump = None
        found.append(layer)
    return found


def read_out(flow, pool):
    """(1, 1, SIDE, SIDE) of (queries, keys)."""
    rows = flow[:1] if pool == "token" else flow[1:]
    return rows.mean(0)[1:].view(1, 1, SIDE, SIDE)


@pytest.fixture
def pair(wrap):
    """A model of either way to attend, and the same network in elementary operations to differ by."""

    def make(pool="token", fused=False):
        return wrap(Transformer(pool, fused), 12), wrap(Transformer(pool), 12).net

    return make


@each_way
@each_pool
@torch.no_grad()
def test_rollout_is_the_product_of_the_layers_with_their_residual_paths(pair, pictures, pool, fused):
    (model, net), x = pair(pool, fused), pictures(1, 12)
    flow = torch.eye(TOKENS, dtype=x.dtype)
    for layer in weights_of(net, x):
        flow = (0.5 * layer.mean(0) + 0.5 * torch.eye(TOKENS)) @ flow
    found = attention_rollout(model, x, Target(1))
    assert torch.allclose(found.values, read_out(flow, pool), atol=1e-10)
    assert torch.allclose(found.scores, Target(1)(net(x)))


@each_way
@each_pool
@torch.no_grad()
def test_gradient_rollout_follows_the_rules_of_its_paper(pair, pictures, pool, fused):
    (model, net), x, target = pair(pool, fused), pictures(1, 12), Target(1)
    relevance = torch.eye(TOKENS, dtype=x.dtype)
    slopes = slopes_of(net, x, lambda x, _: target(net(x)).item())
    for layer, slope in zip(weights_of(net, x), slopes, strict=True):
        relevance = relevance + (layer * slope).clamp(min=0).mean(0) @ relevance
    found = gradient_rollout(model, x, target)
    assert torch.allclose(found.values, read_out(relevance, pool), atol=1e-8)


@each_way
@each_pool
@pytest.mark.parametrize("layers", [0, 1])
@torch.no_grad()
def test_legrad_is_the_positive_slope_of_each_blocks_own_answer(pair, pictures, pool, fused, layers):
    (model, net), x, target = pair(pool, fused), pictures(1, 12), Target(1)

    def answer(x, number):
        tokens = net.blocks[: number + 1](net.embed(x))
        return target(net.head(net.norm(tokens[:, 0 if pool == "token" else 1 :].mean(1)))).item()

    expected = sum(slope.clamp(min=0).mean((0, 1)) for slope in slopes_of(net, x, answer)[-layers:])
    found = legrad(model, x, target, layers=layers)
    assert torch.allclose(found.values, expected[1:].view(1, 1, SIDE, SIDE), atol=1e-9)
    assert found.settings == {"layers": layers or 2}


@pytest.mark.parametrize("name", READ)
def test_what_can_be_read(name):
    model = BY_NAME[name].build(torch.float64)
    assert reading_tokens(model).nonzero().flatten().tolist() == READ[name]
    with torch.no_grad():
        image = model.mean.expand(2, 3, model.spec.height, model.spec.width).clone()
        image[1] = torch.rand(image[1].shape, generator=torch.Generator().manual_seed(0))
        found = read(model, image)
        assert torch.allclose(found.logits, model(image), atol=1e-9)
    for one in found.attentions:
        assert torch.allclose(one.weights.sum(-1), torch.ones((), dtype=torch.float64))
    for run in (attention_rollout, gradient_rollout):
        values = run(model, image, Target(1)).values
        assert values.shape == (2, 1, found.tokens.height, found.tokens.width)
        assert (values >= 0).all() and values.any()
        assert torch.allclose(run(model, image[1:], Target(1)).values, values[1:], atol=1e-10)


@pytest.mark.parametrize("name", NOT_READ)
def test_what_cannot_be_read_is_refused(name):
    model = BY_NAME[name].build()
    image = model.mean.expand(1, 3, model.spec.height, model.spec.width)
    for run in (attention_rollout, gradient_rollout):
        with pytest.raises(UndefinedError, match=NOT_READ[name]):
            run(model, image, Target(1))
    with pytest.raises(UndefinedError):
        legrad(model, image, Target(1))


def test_torchs_own_module_is_refused_and_not_said_to_be_none(wrap, pictures):
    class Hidden(Transformer):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.Sequential(torch.nn.TransformerEncoderLayer(6, 2, 12, batch_first=True))
            self.blocks[0].held = None

    with pytest.raises(UndefinedError, match="does not show its weights"):
        attention_rollout(wrap(Hidden(), 12), pictures(1, 12), Target(1))


def test_legrad_needs_a_head_that_fits_behind_each_block(image_model, pictures):
    model = BY_NAME["vit_base_patch16_siglip_224"].build(torch.float64)
    with pytest.raises(UndefinedError, match="not built so"):
        legrad(model, pictures(1, 64), Target(1))


@pytest.mark.parametrize("name", METHODS)
def test_several_targets_share_a_pass_and_change_nothing(image_model, pictures, name):
    model, x = image_model("test_vit", 64, img_size=64), pictures(2, 64)
    for target, found in zip([Target(1), Target(2)], attribute(name, model, x, [Target(1), Target(2)]), strict=True):
        assert torch.allclose(found.values, attribute(name, model, x, target).values, atol=1e-12)
        assert torch.allclose(found.scores, target(model(x)))


@each_way
def test_heads(pair, pictures, fused):
    (model, net), x = pair("token", fused), pictures(1, 12)
    with torch.no_grad():
        first, last = weights_of(net, x)
    assert torch.allclose(head_maps(model, x)[1][0], last[:, 0, 1:].unflatten(1, (SIDE, SIDE)), atol=1e-10)
    name, found = head_maps(model, x, "blocks.0", (1, 2))
    assert name == "blocks.0"
    assert torch.allclose(found[0], first[:, 1 + SIDE + 2, 1:].unflatten(1, (SIDE, SIDE)), atol=1e-10)
    with pytest.raises(UndefinedError, match=r"no attention layer “blocks\.7”; it has blocks\.0, blocks\.1"):
        head_maps(model, x, "blocks.7")
    with pytest.raises(UndefinedError, match="3 × 3 places, counted from 0, and none at 3, 0"):
        head_maps(model, x, place=(3, 0))


@pytest.mark.parametrize(
    "settings", [{}, {"is_causal": True}, {"scale": 0.3}, {"attn_mask": "bool"}, {"attn_mask": "add"}]
)
def test_two_steps_give_what_the_fused_kernel_gives(settings):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=generator) for _ in range(3))
    masks = {
        "bool": torch.rand(5, 5, generator=generator).add(torch.eye(5)) > 0.5,
        "add": torch.randn(5, 5, dtype=torch.float64),
    }
    settings = {name: masks.get(value, value) if name == "attn_mask" else value for name, value in settings.items()}
    expected = functional.scaled_dot_product_attention(q, k, v, **settings)
    with AttentionReader() as reader:
        assert torch.allclose(functional.scaled_dot_product_attention(q, k, v, **settings), expected, atol=1e-12)
    assert torch.allclose(reader.found[0].weights @ v, expected, atol=1e-12)


def test_another_threads_passes_are_not_read():
    q = torch.randn(1, 2, 5, 4)
    with AttentionReader() as reader:
        thread = threading.Thread(target=functional.scaled_dot_product_attention, args=(q, q, q))
        thread.start()
        thread.join()
        assert not reader.found
        functional.scaled_dot_product_attention(q, q, q)
    assert len(reader.found) == 1


def test_the_network_is_left_as_it_was(image_model, pictures):
    model, x = image_model("test_vit", 64, img_size=64), pictures(1, 64)
    before = attribute("gradient", model, x, Target(1)).values
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    for name in METHODS:
        attribute(name, model, x, Target(1))
    assert torch.equal(attribute("gradient", model, x, Target(1)).values, before)
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == hooks
