"""Where a place lies is tried: what is right stays, what lies elsewhere is refused or put right."""

import pytest
import timm
import torch
from timm.models.mlp_mixer import MlpMixer
from torch import nn

from benchmarks.families import CASES, Case, randomize
from lsd.errors import UndefinedError
from lsd.layers import as_said, depth_layers, find_layer, list_layers
from lsd.layout import Layer, to_grid
from lsd.models import ImageModel
from lsd.said import Said
from lsd.saliency.methods import METHODS
from lsd.saliency.targets import Target
from lsd.tracing import capture, trace

BY_NAME = {case.name: case for case in CASES}


def of_timm(name):
    """At its own size, with random weights."""
    return ImageModel(randomize(timm.create_model(name, num_classes=10)), name)


@pytest.fixture(scope="module")
def hiera():
    return of_timm("hiera_tiny_224")


def test_hieras_tokens_are_brought_into_the_pictures_order(hiera):
    """They come by mask units; timm's own `reroll` says how."""
    names = [layer.name for layer in list_layers(hiera) if layer.height]
    assert len(names) > 200 and all(f"blocks.{i}" in names for i in range(12))
    with torch.no_grad(), capture(hiera, [f"blocks.{i}" for i in range(12)]) as captured:
        hiera(torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1)))
    for i in range(12):
        found = to_grid(find_layer(hiera, f"blocks.{i}"), captured[f"blocks.{i}"])
        assert torch.equal(found, hiera.net.reroll(captured[f"blocks.{i}"], i).permute(0, 3, 1, 2))


@pytest.mark.parametrize("y, x", [(0, 0), (0, 192), (192, 0), (96, 160)])
def test_a_square_of_the_picture_is_answered_where_it_lies(hiera, y, x):
    base = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    changed = base.clone()
    changed[:, :, y : y + 32, x : x + 32] = 1 - changed[:, :, y : y + 32, x : x + 32]
    name = "blocks.8"  # the strongest answer comes from the square, though attention carries some of it everywhere
    layer = find_layer(hiera, name)
    grids = []
    for image in (base, changed):
        with torch.no_grad(), capture(hiera, [name]) as captured:
            hiera(image)
        grids.append(to_grid(layer, captured[name]))
    answers = (grids[1] - grids[0]).norm(dim=1)[0]
    row, column = divmod(answers.argmax().item(), layer.width)
    assert (row, column) in {(y // 16 + i, x // 16 + j) for i in (0, 1) for j in (0, 1)}


def test_maps_and_units_of_hiera_have_their_places(hiera):
    """Grad-CAM looks at the same grid as the layer's own order says, and so does a neuron."""
    from lsd.features import objectives
    from lsd.features.units import parse

    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), capture(hiera, ["blocks.4"]) as captured:
        hiera(image)
    grid = hiera.net.reroll(captured["blocks.4"], 4).permute(0, 3, 1, 2)
    unit = parse("blocks.4/neuron/7/3/9")
    found = objectives.evaluate([unit], {"": hiera}, {"": {objectives.tap(unit): captured["blocks.4"]}})
    assert found.item() == grid[0, 7, 3, 9].item()
    image.requires_grad_(True)
    with capture(hiera, ["blocks.4"]) as captured:
        logit = hiera(image)[0, 3]
    (slope,) = torch.autograd.grad(logit, captured["blocks.4"])
    a, g = (hiera.net.reroll(t.detach(), 4).permute(0, 3, 1, 2) for t in (captured["blocks.4"], slope))
    expected = (g.mean((2, 3), keepdim=True) * a).sum(1, keepdim=True)
    made = METHODS["grad_cam"].run(hiera, image.detach(), Target(3, "logit"), layer="blocks.4")
    torch.testing.assert_close(made.values.float().cpu().view_as(expected), expected, rtol=1e-3, atol=1e-6)


def test_what_does_not_depend_on_the_picture_has_no_places():
    model = BY_NAME["swinv2_tiny_window8_256"].build()
    layer = find_layer(model, "layers.0.blocks.0.attn.cpb_mlp")
    assert layer.layout == "other" and layer.refused == "whatever the picture shows, it stays the same"
    with pytest.raises(UndefinedError, match="cpb_mlp is not laid out over the picture: whatever the picture shows"):
        METHODS["grad_cam"].run(model, torch.rand(1, 3, 64, 64), Target(3), layer=layer.name)


MATRICES = {
    "swinv2_tiny_window8_256": {"img_size": 256, "depths": (1, 1, 1, 1), "embed_dim": 24},
    "vit_tiny_patch16_224": {"img_size": 256, "depth": 2, "embed_dim": 48, "class_token": False, "global_pool": "avg"},
}


@pytest.mark.parametrize("name, settings", MATRICES.items(), ids=MATRICES)
def test_matrices_of_attention_have_no_places(name, settings, monkeypatch):
    """Not even where they have as many rows and columns as the picture might have places."""
    monkeypatch.setattr("timm.layers.config._USE_FUSED_ATTN", 0)
    model = Case(name, settings, 256).build()
    matrices = {
        n for n, shape in trace(model).shapes.items() if len(shape) == 4 and n.endswith(("softmax", "attn_drop"))
    }
    assert matrices and not any(layer.height for layer in list_layers(model) if layer.name in matrices)


def test_what_mixes_tokens_has_no_places():
    """(1, 256, 64): the 256 channels might be 16 × 16 places."""
    small = {"num_classes": 10, "img_size": 160, "num_blocks": 2, "embed_dim": 256, "mlp_ratio": (0.25, 4.0)}
    model = Case("mixer_s16_224", size=160, make=lambda: MlpMixer(**small)).build()
    shapes = trace(model).shapes
    mixing = [name for name in shapes if ".mlp_tokens." in name and shapes[name] == (1, 256, 64)]
    places = {layer.name: (layer.height, layer.width) for layer in list_layers(model)}
    assert mixing and all(places[name] == (0, 0) for name in mixing)
    assert places["blocks.0"] == places["blocks.1.mlp_channels.fc1"] == (10, 10)


@pytest.mark.parametrize("name, layers", [
    ("levit_128s", {"stages.0": 14, "stages.1": 7, "stages.2": 4, "stages.2.blocks.1.mlp.ln1": 4}),
    ("hrnet_w18_small", {"incre_modules.0.0": 56, "incre_modules.3.0": 7}),
    ("inception_v3", {"Mixed_6e": 17, "Mixed_7a.branch7x7x3_4": 8}),
    ("davit_tiny", {"stages.0": 56, "stages.2": 14}),
])  # fmt: skip
def test_a_wide_view_is_no_wrong_order(name, layers):
    model = of_timm(name)
    for layer, size in layers.items():
        assert (find_layer(model, layer).height, find_layer(model, layer).width) == (size, size)
    assert not [layer.name for layer in list_layers(model) if layer.refused]


class Ordered(nn.Module):
    """Convolutions, then tokens in an order of their own, with a residual layer behind."""

    def __init__(self, order):
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 8, 8)
        self.shuffle, self.mix, self.norm = nn.Identity(), nn.Linear(24, 24), nn.LayerNorm(24)
        self.order = order
        self.head = nn.Linear(24, 10)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = self.shuffle(x[:, self.order])
        x = self.norm(x + self.mix(x))
        return self.head(x.mean(1))


ORDERS = {
    "by columns": torch.arange(64).view(8, 8).T,
    "in strips of four": torch.arange(64).view(8, 2, 4).transpose(0, 1),
    "from the end": torch.arange(64).flip(0),
    "by chance": torch.randperm(64, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("order", ORDERS)
def test_tokens_in_another_order_have_no_places(wrap, order):
    model = wrap(Ordered(ORDERS[order].flatten()), 64)
    for name in ("shuffle", "mix", "norm"):
        assert find_layer(model, name) == Layer(
            name, "other", refused="what its shape suggests as places lies in another order, or is something else"
        )
    assert find_layer(model, "stem").height == 8


class Mixer(nn.Module):
    """A token-mixing MLP with as many channels as tokens, on a grid of height × width."""

    def __init__(self, patch=8, channels=64, tokens=64, hidden=64):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, channels, patch, patch), nn.LayerNorm(channels)
        self.first, self.act, self.second = nn.Linear(tokens, hidden), nn.GELU(), nn.Linear(hidden, tokens)
        self.back, self.after = nn.Identity(), nn.LayerNorm(channels)
        self.head = nn.Linear(channels, 10)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        y = self.second(self.act(self.first(self.norm(x).transpose(1, 2))))
        return self.head(self.after(x + self.back(y.transpose(1, 2))).mean(1))


@pytest.mark.parametrize("channels, hidden", [(64, 64), (64, 32), (65, 64), (72, 16), (63, 64)])
def test_channels_as_many_as_tokens_are_not_taken_for_them(wrap, channels, hidden):
    """Or as many as tokens with some before the grid."""
    model = wrap(Mixer(channels=channels, hidden=hidden), 64)
    for name in ("first", "act", "second"):
        assert find_layer(model, name).layout == "other", name
    for name in ("norm", "after"):
        assert find_layer(model, name) == Layer(name, "tokens", channels, 8, 8)


class Block(nn.Module):
    """Reorders its tokens, works on them, globally or one by one, and puts them back: its own output lies row by row."""

    def __init__(self, order, mixes):
        super().__init__()
        self.norm, self.linear, self.mix, self.act = (
            nn.LayerNorm(24),
            nn.Linear(24, 24),
            nn.Conv1d(64, 64, 1),
            nn.ReLU(),
        )
        self.order, self.mixes = order, mixes

    def forward(self, x):
        y = self.linear(self.norm(x)[:, self.order])
        y = self.act(self.mix(y) if self.mixes else y)
        return x + y[:, self.order.argsort()]


class Inside(nn.Module):
    def __init__(self, order, mixes):
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 24, 8, 8), Block(order, mixes), nn.Linear(24, 10)

    def forward(self, x):
        return self.head(self.block(self.stem(x).flatten(2).transpose(1, 2)).mean(1))


WINDOWS = {
    "windows": torch.arange(64).view(2, 4, 2, 4).transpose(1, 2),
    "dilated": torch.arange(64).view(4, 2, 4, 2).permute(1, 3, 0, 2),
}


@pytest.mark.parametrize("mixes", [False, True])
@pytest.mark.parametrize("order", ORDERS | WINDOWS)
def test_another_order_inside_a_block_is_no_blocks_order(wrap, order, mixes):
    """The block's own grid is no reason to believe them, not even once they have mixed and answer faintly."""
    model = wrap(Inside((ORDERS | WINDOWS)[order].flatten(), mixes), 64)
    assert [find_layer(model, f"block.{name}").layout for name in ("norm", "linear", "act")] == [
        "tokens",
        "other",
        "other",
    ]
    assert find_layer(model, "block") == Layer("block", "tokens", 24, 8, 8)


class Moved(nn.Module):
    """A grid that is mirrored, turned or moved round."""

    def __init__(self, move):
        super().__init__()
        self.stem, self.moved, self.after, self.head = (
            nn.Conv2d(3, 16, 8, 8),
            nn.Identity(),
            nn.Conv2d(16, 16, 1),
            nn.Linear(16, 10),
        )
        self.move = move

    def forward(self, x):
        return self.head(self.after(self.moved(self.move(self.stem(x)))).mean((2, 3)))


@pytest.mark.parametrize("move", [
    lambda x: x.transpose(2, 3), lambda x: x.flip(3), lambda x: x.flip(2), lambda x: x.rot90(1, (2, 3)), lambda x: x.roll(1, 3),
    lambda x: x.roll((1, 1), (2, 3)), lambda x: x.roll(4, 2),
], ids=["transposed", "mirrored", "upside down", "turned", "moved by one", "moved both ways", "moved by half"])  # fmt: skip
def test_a_grid_that_is_mirrored_turned_or_moved_has_no_places(wrap, move):
    model = wrap(Moved(move), 64)
    assert [find_layer(model, name).layout for name in ("stem", "moved", "after")] == ["nchw", "other", "other"]


class Wide(nn.Module):
    """Convolutions that see nearly all, and a rolled one inside a block."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.wide = nn.Conv2d(3, 16, 4, 4), nn.Conv2d(16, 16, 31, padding=15)
        self.act, self.block = nn.ReLU(), Rolled()
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.block(self.act(self.wide(self.stem(x)))).mean((2, 3)))


class Rolled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x):
        return x + self.conv(x.roll((8, 8), (2, 3))).roll((-8, -8), (2, 3))


def test_a_wide_convolution_lies_as_what_it_is_given_and_a_rolled_one_does_not(wrap):
    model = wrap(Wide(), 64)
    found = {name: find_layer(model, name).layout for name in ("wide", "act", "block.conv", "block")}
    assert found == {"wide": "nchw", "act": "nchw", "block.conv": "other", "block": "nchw"}


def test_a_transposed_grid_of_a_picture_that_is_not_square_has_no_places(wrap):
    """Also where it comes as tokens, whose number does not tell."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.turned, self.tokens = nn.Conv2d(3, 16, 8, 8), nn.Identity(), nn.Identity()
            self.head = nn.Linear(16, 10)

        def forward(self, x):
            x = self.turned(self.stem(x).transpose(2, 3))
            return self.head(self.tokens(x.flatten(2).transpose(1, 2)).mean(1))

    model = wrap(Net(), 64, input_size=(3, 64, 128))
    assert (find_layer(model, "stem").height, find_layer(model, "stem").width) == (8, 16)
    assert [find_layer(model, name).layout for name in ("turned", "tokens")] == ["other", "other"]


class Extra(nn.Module):
    """Tokens before the grid, and others behind it."""

    def __init__(self, before, behind):
        super().__init__()
        self.stem, self.tokens, self.norm = nn.Conv2d(3, 24, 8, 8), nn.Identity(), nn.LayerNorm(24)
        self.before, self.behind = nn.Parameter(torch.randn(1, before, 24)), nn.Parameter(torch.randn(1, behind, 24))
        self.head = nn.Linear(24, 10)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.before.expand(len(x), -1, -1), x, self.behind.expand(len(x), -1, -1)], 1)
        return self.head(self.norm(self.tokens(x)).mean(1))


@pytest.mark.parametrize("before, behind", [(1, 0), (0, 1), (1, 4), (5, 0), (0, 8), (3, 2)])
def test_the_grid_begins_where_it_begins(wrap, before, behind):
    model = wrap(Extra(before, behind), 64)
    tokens = torch.arange(64.0 + before + behind).view(1, -1, 1)
    for name in ("tokens", "norm"):
        layer = find_layer(model, name)
        assert (layer.height, layer.width, layer.prefix) == (8, 8, before)
        assert torch.equal(to_grid(layer, tokens).flatten(), torch.arange(64.0) + before)


class Asked(nn.Module):
    """As many questions as there are tokens, each of which looks at the whole picture: none has a place."""

    def __init__(self):
        super().__init__()
        self.stem, self.asked = nn.Conv2d(3, 24, 8, 8), nn.Parameter(torch.randn(1, 64, 24))
        self.answer, self.norm, self.head = nn.Linear(24, 24), nn.LayerNorm(24), nn.Linear(24, 10)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        seen = (self.asked @ x.transpose(1, 2) / 24**0.5).softmax(2) @ x
        return self.head(self.norm(self.answer(seen)).mean(1))


def test_questions_to_the_whole_picture_have_no_places(wrap):
    model = wrap(Asked(), 64)
    assert [find_layer(model, name).layout for name in ("stem", "answer", "norm")] == ["nchw", "other", "other"]


def test_attention_between_channels_has_no_places():
    """32 × 32 in each head of XCiT, as the stem's grid has it."""
    model = Case("xcit_nano_12_p8_224", {"depth": 2}, 64).build()
    assert find_layer(model, "blocks.1.attn.attn_drop").layout == "other"
    assert find_layer(model, "blocks.1").layout == "tokens"


def test_tokens_row_by_row_have_theirs(wrap):
    model = wrap(Ordered(torch.arange(64)), 64)
    assert find_layer(model, "norm") == Layer("norm", "tokens", 24, 8, 8)


def by_columns(tokens):
    return tokens.transpose(1, 2).unflatten(2, (8, 8)).transpose(2, 3)


def test_a_person_may_say_what_lies_where(wrap):
    plain = wrap(Ordered(ORDERS["by columns"].flatten()), 64)
    model = as_said(plain, Said(layouts={"norm": by_columns}))
    layer = find_layer(model, "norm")
    assert (layer.layout, layer.channels, layer.height, layer.width) == ("custom", 24, 8, 8)
    tokens = torch.arange(64.0)[ORDERS["by columns"].flatten()].view(1, 64, 1)
    assert torch.equal(to_grid(layer, tokens)[0, 0], torch.arange(64.0).view(8, 8))
    assert depth_layers(model)[-1].name == "norm" and [layer.name for layer in list_layers(model)][-2:] == [
        "norm",
        "head",
    ]
    METHODS["grad_cam"].run(model, torch.rand(1, 3, 64, 64), Target(3))
    again = as_said(model, Said(layouts={"norm": "tokens:0:8x8"}))
    assert find_layer(again, "norm") == Layer("norm", "tokens", 24, 8, 8)


def test_what_one_person_says_is_not_heard_by_another(wrap):
    """The weights and the lock are shared; what is known of the layers is not."""
    plain = wrap(Ordered(ORDERS["by columns"].flatten()), 64)
    before = list_layers(plain), depth_layers(plain)
    told = as_said(plain, Said("sigmoid", {"norm": by_columns}))
    other = as_said(plain, Said(layouts={"norm": "tokens:0:8x8"}))
    assert told.net is plain.net and told.lock is plain.lock
    layouts = [find_layer(model, "norm").layout for model in (plain, told, other)]
    assert layouts == ["other", "custom", "tokens"]
    assert [model.outputs for model in (plain, told, other)] == ["classes", "sigmoid", "classes"]
    assert (list_layers(plain), depth_layers(plain)) == before and not plain.said
    assert as_said(plain, Said()) is plain and as_said(told, Said("sigmoid")) is told


def test_places_are_found_once_for_all_that_is_said(image_model):
    plain = image_model("test_resnet")
    list_layers(plain)
    passes = []
    handle = plain.net.register_forward_hook(lambda _module, inputs, _output: passes.append(len(inputs[0])))
    try:
        told = as_said(plain, Said(layouts={"layer1": "nchw"}))
        assert list_layers(told) == list_layers(plain)
    finally:
        handle.remove()
    assert passes == [1]  # and not the four pictures of `lsd.places`


def test_what_is_said_outlives_the_model_that_it_was_said_of(wrap):
    first = as_said(wrap(Ordered(ORDERS["by columns"].flatten()), 64), Said(layouts={"norm": by_columns}))
    second = as_said(first, Said("sigmoid"))
    del first
    assert find_layer(second, "norm").layout == "custom" and second.outputs == "sigmoid"


@pytest.mark.parametrize("how, why", [
    ("rows", "no layout “rows”; write nchw"), ("nchw", "64 × 24 numbers, which cannot be laid out as nchw"),
    ("tokens:1", "cannot be laid out as tokens:1"), ("tokens:0:7x9", "cannot be laid out as tokens:0:7x9"),
    (lambda a: a, "must give a tensor of shape"), (lambda a: None, "must give a tensor of shape"),
])  # fmt: skip
def test_what_a_person_says_must_be_possible(wrap, how, why):
    model = wrap(Ordered(torch.arange(64)), 64)
    with pytest.raises(UndefinedError, match=why):
        as_said(model, Said(layouts={"norm": how}))
    assert find_layer(model, "norm") == Layer("norm", "tokens", 24, 8, 8)


def test_nothing_can_be_said_of_a_layer_that_is_not_there(wrap):
    with pytest.raises(UndefinedError, match="handmade has no layer “rows”; it has stem"):
        as_said(wrap(Ordered(torch.arange(64)), 64), Said(layouts={"rows": "nchw"}))


def test_twins_hear_what_was_said(wrap):
    from lsd.features.prepare import prepare

    plain = wrap(Ordered(ORDERS["by columns"].flatten()), 64)
    told = as_said(plain, Said("sigmoid", {"norm": "tokens:0:8x8"}))
    for model, layout, outputs in ((plain, "other", "classes"), (told, "tokens", "sigmoid")):
        for twin in (prepare(model, ["norm"]), prepare(model, ["norm"], share=0.5)):
            assert (find_layer(twin, "norm").layout, twin.outputs) == (layout, outputs)


def test_layouts_that_look_alike_are_told_apart():
    """As many channels as places a side: (1, 16, 16, 16) either way."""
    gcvit, mamba = (BY_NAME[name].build() for name in ("gcvit_xxtiny", "test_mambaout"))
    assert find_layer(gcvit, "stages.0.blocks.0.norm1").layout == "nhwc"
    assert find_layer(mamba, "stem.conv2").layout == "nchw"
    assert find_layer(mamba, "stem").layout == "nhwc"


def test_a_prefix_of_any_length_is_found():
    model = of_timm("pit_ti_distilled_224")
    assert {find_layer(model, f"transformers.{i}.blocks").prefix for i in range(3)} == {2}


@pytest.mark.parametrize("name, layer", [
    ("mobilenetv3_small_050", "conv_head"), ("mobilenetv3_small_050", "blocks.0.0.se.conv_reduce"), ("test_convnext", "head.norm"),
])  # fmt: skip
def test_one_place_is_channels_without_places(name, layer):
    from lsd.features.ascent import ascend
    from lsd.features.recipes import RECIPES
    from lsd.features.units import check, parse

    model = BY_NAME[name].build()
    found = find_layer(model, layer)
    assert found.layout == "vector" and found.channels > 1 and not found.height
    with pytest.raises(UndefinedError, match="has no places, only channels"):
        check(parse(f"{layer}/neuron/1/0/0"), model)
    from dataclasses import replace

    (shot,) = ascend(model, [f"{layer}/channel/1"], replace(RECIPES["none"], steps=1))
    with torch.no_grad(), capture(model, [layer]) as captured:
        model(torch.from_numpy(shot.finished[0].pixels).permute(2, 0, 1)[None].float() / 255)
    assert shot.finished[0].score == pytest.approx(captured[layer].flatten()[1].item(), rel=1e-3, abs=1e-5)


def test_it_is_tried_once_and_leaves_nothing_behind(image_model):
    model = image_model("test_resnet")
    passes = []
    handle = model.register_forward_hook(lambda _module, inputs, _output: passes.append(len(inputs[0])))
    try:
        list_layers(model), list_layers(model), find_layer(model, "layer1")
    finally:
        handle.remove()
    assert passes in ([], [1, 4])  # the model is shared: another test may have asked
    assert not any(module._forward_hooks for module in model.net.modules())


def test_a_network_in_another_input_size_keeps_its_layouts():
    """A twin that takes smaller pictures (coarse stages of an ascent)."""
    from lsd.features.prepare import prepare

    model = Case("test_vit", {"img_size": 64}, 64).build()
    small = prepare(model, ["blocks.2"], share=0.5)
    assert small.spec.height == 32
    assert find_layer(small, "blocks.2") == Layer("blocks.2", "tokens", 64, 2, 2, 1)
    told = as_said(model, Said(layouts={"blocks.2": "tokens:1:4x4"}))  # which is said of the network's own size
    small = prepare(told, ["blocks.2"], share=0.5)
    assert find_layer(small, "blocks.2") == Layer("blocks.2", "tokens", 64, 2, 2, 1)


class Slid(nn.Module):
    """A grid that is moved by a module whose convolution blurs what was moved before anything sees it."""

    class Conv(nn.Conv2d):
        by = (0, 0)

        def forward(self, x):
            return super().forward(x.roll(self.by, (2, 3)))

    def __init__(self, by, patch):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.moved, self.act = nn.Conv2d(3, 16, patch, patch), self.Conv(16, 16, 3, padding=1), nn.ReLU()
        self.moved.by = by
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.act(self.moved(self.stem(x))).mean((2, 3)))


@pytest.mark.parametrize("patch", [2, 4, 8])
@pytest.mark.parametrize("by", [(1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (2, 0), (0, -3)])
def test_a_grid_that_is_moved_by_a_place_is_seen_behind_a_convolution(wrap, by, patch):
    model = wrap(Slid(by, patch), 64)
    assert [find_layer(model, name).layout for name in ("stem", "moved", "act")] == ["nchw", "other", "other"]


@pytest.mark.parametrize("kernel, stride", [(3, 2), (5, 2), (7, 4), (2, 2), (4, 2)])
def test_strides_move_a_grid_by_less_than_half_a_place(wrap, kernel, stride):
    class Net(nn.Sequential):
        def __init__(self):
            convs = [nn.Conv2d(3, 16, 1), *(nn.Conv2d(16, 16, kernel, stride, (kernel - 1) // 2) for _ in range(3))]
            super().__init__(*convs[: 4 if stride < 4 else 3], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))

    model = wrap(Net(), 96)
    assert not [layer.name for layer in list_layers(model) if layer.refused]
