"""The value of every kind of unit against slow references in NumPy, its slope against finite differences, batches."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.families import CASES
from lsd.errors import UndefinedError
from lsd.features import objectives
from lsd.features.units import CLASS_KINDS, LAYER_KINDS, Leaf, parse
from lsd.tracing import Tap, run_to

BY_NAME = {case.name: case for case in CASES}
MODELS: dict = {}

# network, layer, how it lays out its output, prefix tokens, height, width: written down by hand
GRIDS = [
    ("test_resnet", "layer2", "nchw", 0, 8, 8),
    ("test_mambaout", "stages.1", "nhwc", 0, 8, 8),
    ("swin_tiny_patch4_window7_224", "layers.1", "nhwc", 0, 8, 8),
    ("test_vit", "blocks.2", "tokens", 1, 4, 4),
    ("vit_base_patch16_reg4_gap_256", "blocks.0", "tokens", 4, 4, 4),
    ("cait_xxs24_224", "blocks.0", "tokens", 0, 4, 4),
    ("test_resnet", "global_pool", "vector", 0, 1, 1),
]
each_grid = pytest.mark.parametrize("name, layer, layout, prefix, height, width", GRIDS)


def network(name):
    if name not in MODELS:
        MODELS[name] = BY_NAME[name].build(torch.float64)
    return MODELS[name]


def photos(n=1, size=64, seed=0):
    return torch.rand(n, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def evaluate(model, units, images, output="log_odds", photo=None):
    units = [parse(u) if isinstance(u, str) else u for u in units]
    taps = {objectives.tap(leaf) for unit in units for leaf in unit.leaves()}
    return objectives.evaluate(units, {"": model}, {"": run_to(model, images, list(taps))}, output, photo)


def value(model, unit, images, **more):
    with torch.no_grad():
        return evaluate(model, [unit] * len(images), images, **more).numpy()


def raw(model, name, image, inside=False) -> np.ndarray:
    """What a module puts out (or is given) for one picture in a whole pass, read by a plain hook."""
    kept = []
    module = model.net.get_submodule(name)
    if inside:
        handle = module.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0].clone()))
    else:
        handle = module.register_forward_hook(lambda _, __, output: kept.append(output.clone()))
    with torch.no_grad():
        model(image)
    handle.remove()
    return kept[-1].numpy()


def grid(model, image, layer, layout, prefix, height, width) -> np.ndarray:
    """(C, h, w), number by number."""
    a = raw(model, layer, image)
    channels = a.shape[1] if layout in ("nchw", "vector") else a.shape[-1]
    out = np.empty((channels, height, width))
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                at = {
                    "nchw": (c, y, x), "nhwc": (y, x, c), "tokens": (prefix + y * width + x, c), "vector": (c,),
                }[layout]  # fmt: skip
                out[c, y, x] = a[0][at]
    return out


def close(a, b, tolerance=1e-9):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * 1e-3)


# Values


@pytest.mark.parametrize("output", ["logit", "log_odds", "log_probability", "probability"])
def test_classes(output):
    model, x = network("test_resnet"), photos()
    with torch.no_grad():
        z = model(x)[0].numpy()
    p = np.exp(z) / np.exp(z).sum()
    expected = {"logit": z[3], "log_odds": math.log(p[3] / (1 - p[3])), "probability": p[3]}
    expected["log_probability"] = math.log(p[3])
    close(value(model, "class/3", x, output=output), [expected[output]])
    for kind, number in expected.items():  # whatever the recipe says
        close(value(model, f"{kind}/3", x, output=output), [number])
    close(value(model, "contrast/3/5", x, output=output), [z[3] - z[5]])


@each_grid
def test_channel_neuron_position_direction_layer(name, layer, layout, prefix, height, width):
    model, x = network(name), photos()
    g = grid(model, x, layer, layout, prefix, height, width)
    y, z = height - 1, width // 2  # not on the diagonal, so that rows and columns are not mixed up
    close(value(model, f"{layer}/channel/5", x), [g[5].sum() / (height * width)])
    close(value(model, f"{layer}/direction/5:2,1:-0.5", x), [(2 * g[5].mean() - 0.5 * g[1].mean()) / math.sqrt(4.25)])
    close(value(model, f"{layer}/layer", x), [(raw(model, layer, x) ** 2).mean()])
    if layout != "vector":
        close(value(model, f"{layer}/neuron/5/{y}/{z}", x), [g[5, y, z]])
        close(value(model, f"{layer}/position/{y}/{z}", x), [(g[:, y, z] ** 2).mean()])


@each_grid
def test_likeness_to_a_photo(name, layer, layout, prefix, height, width):
    model, x, other = network(name), photos(), photos(seed=5)
    a, r = (grid(model, image, layer, layout, prefix, height, width).ravel() for image in (x, other))
    for kind, expected in [
        ("inversion", -((a - r) ** 2).sum() / (r**2).sum()),
        ("caricature", a @ r / (r @ r) * max(a @ r / np.sqrt((a @ a) * (r @ r)), 0.1)),
    ]:
        unit = parse(f"{layer}/{kind}")
        found = {"": run_to(model, other, [Tap(layer)])}
        photo = objectives.photo_activations([unit], {"": model}, found)
        close(value(model, unit, x, photo=photo), [expected])
        itself = value(model, unit, other, photo=photo)
        close(itself, [{"inversion": 0.0, "caricature": 1.0}[kind]], 1e-9)


def test_a_caricature_away_from_the_photo_is_worth_a_tenth_of_its_projection():
    reference, a = np.array([1.0, 0.0, 0.0]), np.array([-2.0, 1.0, 0.0])
    found = objectives._like_photo("caricature", torch.tensor(a)[:, None, None], torch.tensor(reference)[:, None, None])
    close(found, -2.0 * 0.1)


@pytest.mark.parametrize("name, layer, tokens, token", [
    ("test_vit", "blocks.2", 1, 0), ("vit_base_patch16_reg4_gap_256", "blocks.1", 4, 3),
    ("deit_tiny_distilled_patch16_224", "blocks.0", 2, 1),
])  # fmt: skip
def test_tokens(name, layer, tokens, token):
    model, x = network(name), photos()
    assert token < tokens
    close(value(model, f"{layer}/token/{token}/7", x), [raw(model, layer, x)[0, token, 7]])


@pytest.mark.parametrize("name, layer, prefix", [
    ("test_vit", "blocks.3.attn", 1), ("vit_base_patch16_reg4_gap_256", "blocks.1.attn", 4),
    ("deit_tiny_distilled_patch16_224", "blocks.1.attn", 2),
])  # fmt: skip
@pytest.mark.parametrize("head", [0, 1])
def test_heads_against_attention_written_out(name, layer, prefix, head):
    """softmax(q kᵀ / √d) v of one head, from the projection's own weights, over the patches."""
    model, x = network(name), photos()
    attn = model.net.get_submodule(layer)
    tokens = raw(model, layer, x, inside=True)[0]
    qkv = tokens @ attn.qkv.weight.numpy().T + (0 if attn.qkv.bias is None else attn.qkv.bias.numpy())
    width = attn.qkv.out_features // 3 // attn.num_heads
    q, k, v = (qkv[:, part * qkv.shape[1] // 3 :][:, head * width : (head + 1) * width] for part in range(3))
    scores = q @ k.T / math.sqrt(width)
    weights = np.exp(scores - scores.max(1, keepdims=True))
    out = weights / weights.sum(1, keepdims=True) @ v
    close(value(model, f"{layer}/head/{head}", x), [(out[prefix:] ** 2).mean()], 1e-8)


@pytest.mark.parametrize("name, layer, prefix", [
    ("cait_xxs24_224", "blocks.0.attn", 0),  # the class token comes in after these blocks
    ("cait_xxs24_224", "blocks_token_only.0.attn", 0),  # puts out the class token alone
    ("xcit_nano_12_p16_224", "blocks.1.attn", 0),
    ("convit_tiny", "blocks.0.attn", 0),
    ("convit_tiny", "blocks.1.attn", 1),
    ("crossvit_tiny_240", "blocks.0.blocks.0.0.attn", 1),  # which says nothing of its class tokens
    ("swin_tiny_patch4_window7_224", "layers.1.blocks.0.attn", 0),  # windows
    ("test_maxvit", "stages.1.blocks.0.attn_grid.attn", 0),
    ("volo_d1_224", "network.2.0.attn", 0),
])  # fmt: skip
def test_heads_where_attention_is_laid_out_otherwise(name, layer, prefix):
    model = network(name)
    x = photos(2, model.spec.height)
    count = model.net.get_submodule(layer).num_heads
    for head in {0, count - 1}:
        expected = []
        for image in x:
            a = raw(model, f"{layer}.proj", image[None], inside=True)
            a = a.reshape(a.shape[0], -1, a.shape[-1])[:, prefix:]
            width = a.shape[-1] // count
            expected.append((a[..., head * width : (head + 1) * width] ** 2).mean())
        found = value(model, f"{layer}/head/{head}", x)
        close(found, expected)
        assert np.isfinite(found).all() and found[0] != found[1]


def test_every_kind_has_a_reference_here():
    """A new kind needs a line in this file."""
    assert {*CLASS_KINDS, *LAYER_KINDS} == {
        "class", "logit", "log_odds", "log_probability", "probability", "contrast", "channel", "neuron", "position",
        "direction", "layer",
        "token", "head", "inversion", "caricature",
    }  # fmt: skip


def test_a_direction_of_zeros_points_nowhere():
    with pytest.raises(UndefinedError, match="points nowhere"):
        value(network("test_resnet"), "layer2/direction/0:0,1:0", photos())


@pytest.mark.parametrize("kind", ["inversion", "caricature"])
def test_what_has_no_places_is_not_held_against_a_photo(kind):
    model = network("swin_tiny_patch4_window7_224")
    unit = parse(f"layers.0.blocks.0.attn/{kind}")
    with pytest.raises(UndefinedError, match="not laid out over the picture"):
        objectives.photo_activations([unit], {"": model}, {"": run_to(model, photos(), [Tap(unit.layer)])})


# Batches


MIXED = {
    "test_resnet": [
        "class/1", "layer1/channel/2", "contrast/1/2", "layer1/channel/5", "layer3/neuron/1/2/0", "layer2/layer",
        "global_pool/channel/4", "layer2/direction/1:1,2:-2", "probability/4", "layer2/position/3/5",
        "class/1 + 0.5 * layer1/channel/2", "layer1/channel/5 * layer1/channel/5 - class/9", "class/1", "log_odds/3",
        "log_probability/2",
    ],
    "test_vit": ["blocks.1/token/0/3", "blocks.1.attn/head/1", "blocks.1.attn/head/0", "class/2", "blocks.1/channel/0"],
    "swin_tiny_patch4_window7_224": [
        "layers.0.blocks.0.attn/head/0", "class/2", "layers.0.blocks.0.attn/head/2", "layers.1/channel/3",
        "layers.0.blocks.0.attn/layer", "class/2 + layers.0.blocks.0.attn/head/1",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("backwards", [False, True])
def test_a_batch_of_mixed_units_equals_each_alone(name, backwards):
    model, texts = network(name), MIXED[name][:: -1 if backwards else 1]
    x = photos(len(texts))
    with torch.no_grad():
        together = evaluate(model, texts, x)
        alone = [evaluate(model, [text], x[i : i + 1]).item() for i, text in enumerate(texts)]
    close(together.numpy(), alone, 1e-8)


@pytest.mark.parametrize("name", MIXED)
def test_a_pictures_slope_comes_from_its_own_unit(name):
    model, texts = network(name), MIXED[name]
    x = photos(len(texts)).requires_grad_(True)
    (together,) = torch.autograd.grad(evaluate(model, texts, x).sum(), x)
    for i in (0, 2, len(texts) - 1):
        image = x[i : i + 1].detach().requires_grad_(True)
        (alone,) = torch.autograd.grad(evaluate(model, [texts[i]], image).sum(), image)
        assert (together[i] - alone[0]).abs().max() < 1e-8 * alone.abs().max()


def test_expressions_combine_the_values_of_their_parts():
    model, x = network("test_resnet"), photos()
    a, b, c = (value(model, t, x)[0] for t in ("class/1", "layer1/channel/2", "layer2/layer"))
    for text, expected in [
        ("class/1 + layer1/channel/2 * layer2/layer", a + b * c),
        ("2 * (class/1 - layer1/channel/2) * layer2/layer", 2 * (a - b) * c),
        ("class/1 - (layer1/channel/2 - layer2/layer)", a - (b - c)),
        ("class/1 - layer1/channel/2 - layer2/layer", a - b - c),
        ("-0.5 * class/1", -0.5 * a),
    ]:
        close(value(model, text, x), [expected])


def test_one_unit_over_several_models():
    models = {"": network("test_resnet"), "vit": network("test_vit")}
    units = [parse("class/1 - 2 * vit::class/1"), parse("vit::blocks.1.attn/head/0"), parse("layer1/channel/3")]
    x = photos(3)
    with torch.no_grad():
        found = {
            "": run_to(models[""], x, [Tap(""), Tap("layer1")]),
            "vit": run_to(models["vit"], x, [Tap(""), Tap("blocks.1.attn.proj", inside=True)]),
        }
        together = objectives.evaluate(units, models, found).numpy()
    expected = [
        value(models[""], "class/1", x[:1])[0] - 2 * value(models["vit"], "class/1", x[:1])[0],
        value(models["vit"], "blocks.1.attn/head/0", x[1:2])[0],
        value(models[""], "layer1/channel/3", x[2:])[0],
    ]
    close(together, expected, 1e-8)


# Slopes


SLOPES = [
    *[("test_resnet", t) for t in (
        "class/1", "logit/1", "probability/1", "log_probability/1", "contrast/1/2", "layer3/channel/0", "layer3/neuron/0/3/1",
        "layer2/position/3/5", "layer2/direction/1:1,2:-2", "layer2/layer", "layer2/inversion", "layer2/caricature",
        "global_pool/channel/3", "class/1 * layer3/channel/0 - 0.5 * layer2/layer",
    )],
    *[("test_vit", t) for t in (
        "blocks.2/channel/3", "blocks.2/token/0/3", "blocks.2.attn/head/1", "blocks.2/inversion", "class/1",
    )],
    *[("swin_tiny_patch4_window7_224", t) for t in (
        "layers.1/neuron/3/2/6", "layers.1.blocks.0.attn/head/1", "layers.1/caricature",
    )],
]  # fmt: skip


@pytest.mark.parametrize("name, text", SLOPES)
def test_slopes_by_finite_differences(name, text):
    model, x, unit = network(name), photos(), parse(text)
    photo = None
    if objectives.needs_photo([unit]):
        found = {"": run_to(model, photos(seed=5), [objectives.tap(unit)])}
        photo = objectives.photo_activations([unit], {"": model}, found)
    image = x.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(evaluate(model, [unit], image, photo=photo).sum(), image)
    assert slope.abs().max() > 0
    h, generator = 1e-6, torch.Generator().manual_seed(1)
    for _ in range(2):
        direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        up, down = (value(model, unit, x + s * h * direction, photo=photo)[0] for s in (1, -1))
        scale = slope.norm().item() * direction.norm().item()
        assert abs((up - down) / (2 * h) - (slope * direction).sum().item()) < 1e-5 * scale


# Diversity


def test_diversity_is_minus_the_mean_likeness_of_grams_within_a_group():
    a = torch.randn(5, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    groups = [0, 1, 0, 0, 2]
    grams = []
    for i in range(5):
        f = a[i].numpy().reshape(4, 9)
        g = np.array([[sum(f[c] * f[d]) for d in range(4)] for c in range(4)]).ravel()
        grams.append(g / np.linalg.norm(g))
    expected = [
        -np.mean([grams[i] @ grams[j] for j in range(5) if j != i and groups[j] == groups[i]] or [0.0])
        for i in range(5)
    ]
    close(objectives.diversity(a, torch.tensor(groups)), expected)
    assert expected[1] == expected[4] == 0
    views = [  # two of a picture: three views of one group, of which the first two show the same
        -grams[0] @ grams[2], -grams[1] @ grams[2], -np.mean([grams[2] @ grams[0], grams[2] @ grams[1]])
    ]  # fmt: skip
    close(objectives.diversity(a[[0, 1, 2, 2]], torch.tensor([0, 0, 0, 0]), 2)[:3], views)


def test_where_activations_are_read():
    assert objectives.tap(Leaf("class", (1,))) == Tap("")
    assert objectives.tap(Leaf("head", (1,), "blocks.0.attn")) == Tap("blocks.0.attn.proj", inside=True)
    assert objectives.tap(Leaf("channel", (1,), "layer1")) == Tap("layer1")


def test_who_needs_a_photo():
    assert objectives.needs_photo([parse("class/1"), parse("class/1 + 2 * layer1/caricature")])
    assert not objectives.needs_photo([parse("class/1"), parse("layer1/layer")])


def test_a_vector_has_channels_and_no_places(wrap):
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    model = wrap(net, 8)
    x = photos(1, 8)
    close(value(model, "1/channel/2", x), [x[0, 2].mean().item()])
