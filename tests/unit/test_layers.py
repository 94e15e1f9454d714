"""Layouts over the families, and reading a layer while the network runs."""

import gc
import threading
import weakref
from pathlib import Path

import pytest
import timm
import torch
from timm.models.convmixer import ConvMixer
from torch import nn

from benchmarks import layers_table
from benchmarks.families import CASES, Case
from lsd import layers, markdown
from lsd.errors import UndefinedError
from lsd.layers import CANCELLED, as_said, curated_layers, deepest_grid, depth_layers, find_layer, list_layers
from lsd.layout import Layer, suggestions, to_grid
from lsd.models import ImageModel
from lsd.said import Said
from lsd.tracing import capture

BY_NAME = {case.name: case for case in CASES}


@pytest.mark.parametrize("name, layer, expected", [
    ("test_resnet", "layer2", Layer("layer2", "nchw", 48, 8, 8)),
    ("test_resnet", "global_pool", Layer("global_pool", "vector", 96)),
    ("test_convnext", "stages.0", Layer("stages.0", "nchw", 24, 16, 16)),
    ("test_convnext", "stages.0.blocks.0.mlp.fc1", Layer("stages.0.blocks.0.mlp.fc1", "nhwc", 96, 16, 16)),
    ("test_mambaout", "stages.1", Layer("stages.1", "nhwc", 32, 8, 8)),
    ("swin_tiny_patch4_window7_224", "layers.1", Layer("layers.1", "nhwc", 48, 8, 8)),
    ("swin_tiny_patch4_window7_224", "patch_embed.proj", Layer("patch_embed.proj", "nchw", 24, 16, 16)),
    ("swin_tiny_patch4_window7_224", "layers.0.blocks.0.attn", Layer("layers.0.blocks.0.attn", "other")),
    ("test_vit", "blocks.2", Layer("blocks.2", "tokens", 64, 4, 4, 1)),
    ("test_vit", "patch_embed", Layer("patch_embed", "nhwc", 64, 4, 4, 0)),  # which takes any size of picture
    ("vit_base_patch16_reg4_gap_256", "blocks.0", Layer("blocks.0", "tokens", 48, 4, 4, 4)),
    ("deit_tiny_distilled_patch16_224", "blocks.0", Layer("blocks.0", "tokens", 48, 4, 4, 2)),
    ("vit_base_patch16_siglip_224", "blocks.0", Layer("blocks.0", "tokens", 48, 4, 4, 0)),
    ("eva02_tiny_patch14_224", "blocks.0", Layer("blocks.0", "tokens", 48, 4, 4, 1)),
    ("cait_xxs24_224", "blocks.0", Layer("blocks.0", "tokens", 48, 4, 4, 0)),
    ("mixer_s32_224", "blocks.0", Layer("blocks.0", "tokens", 48, 4, 4, 0)),
    ("levit_128s", "stages.0", Layer("stages.0", "tokens", 32, 4, 4, 0)),
    ("twins_svt_small", "norm", Layer("norm", "tokens", 64, 2, 2, 0)),
])  # fmt: skip
def test_layouts_are_told_right(name, layer, expected):
    assert find_layer(BY_NAME[name].build(), layer) == expected


@pytest.mark.parametrize("name", ["cait_xxs24_224", "test_vit"])
def test_attention_matrices_are_no_grids(name, monkeypatch):
    """At these sizes a matrix over the tokens is nearly as wide as the picture."""
    small = {"img_size": 160} | ({"depth": 1, "embed_dim": 48, "num_heads": 3} if name.startswith("cait") else {})
    monkeypatch.setattr("timm.layers.config._USE_FUSED_ATTN", 0)
    model = Case(name, small, 160).build()
    tokens = {100, 101}
    seen = [layer for layer in list_layers(model) if ".attn." in layer.name]
    assert seen and not any(layer.height in tokens for layer in seen)


def test_layers_come_in_the_order_in_which_they_finish(image_model):
    names = [layer.name for layer in list_layers(image_model("test_resnet"))]
    wanted = ["conv1", "bn1", "layer1.0.conv1", "layer1.0", "layer1", "layer4", "global_pool", "fc"]
    assert [n for n in names if n in wanted] == wanted and len(names) == len(set(names))


@pytest.mark.parametrize("shape, size, layout", [
    ((1, 8, 7, 14), (112, 224), "nchw"),
    ((1, 7, 14, 8), (112, 224), "nhwc"),
    ((1, 98, 8), (112, 224), "tokens"),
    ((1, 99, 8), (112, 224), "tokens"),  # a class token
    ((1, 8, 14, 14), (112, 224), ""),
    ((1, 8, 147, 147), (299, 299), "nchw"),  # unpadded convolutions
    ((1, 8, 8, 8), (299, 299), "nhwc nchw"),
    ((4, 8, 7, 7), (224, 224), ""),  # windows in place of pictures
    ((1, 512), (224, 224), "vector"),
    ((1, 8, 1, 1), (224, 224), "vector"),
    ((1, 1, 1, 8), (224, 224), "vector"),
    ((1, 1, 8), (224, 224), "vector"),
    ((1, 3, 197, 197), (224, 224), ""),  # attention
    ((1, 3, 224, 224), (224, 224), "nchw"),
])  # fmt: skip
def test_a_grid_has_the_pictures_aspect(shape, size, layout):
    assert list(dict.fromkeys(one.layout for one in suggestions("layer", shape, size))) == layout.split()


@pytest.mark.parametrize("layout, prefix", [("nchw", 0), ("nhwc", 0), ("tokens", 0), ("tokens", 3)])
def test_to_grid_puts_every_number_where_it_belongs(layout, prefix):
    grid = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    raw = {"nchw": grid, "nhwc": grid.permute(0, 2, 3, 1), "tokens": grid.flatten(2).transpose(1, 2)}[layout]
    if prefix:
        raw = torch.cat([torch.full((2, prefix, 3), -1), raw], 1)
    assert torch.equal(to_grid(Layer("x", layout, 3, 4, 5, prefix), raw), grid)


def test_to_grid_refuses_what_has_no_places():
    with pytest.raises(UndefinedError, match="not laid out over the picture"):
        to_grid(Layer("fc", "other"), torch.zeros(1, 10))


def test_channels_last_lies_over_the_picture_as_channels_first_does():
    """A bright corner of the picture is the bright corner of the grid."""
    model = BY_NAME["test_mambaout"].build(torch.float64)
    x = torch.full((1, 3, 64, 64), 0.5, dtype=torch.float64)
    changed = x.clone()
    changed[:, :, :16, 48:] = 1.0
    layer = find_layer(model, "stem")
    grids = []
    for image in (x, changed):
        with capture(model, ["stem"]) as captured, torch.no_grad():
            model(image)
        grids.append(to_grid(layer, captured["stem"]))
    difference = (grids[0] - grids[1]).abs().sum(1)[0]
    half = layer.height // 2
    assert difference[:half, half:].sum() > 0 and difference[half + 1 :].sum() == 0


@pytest.mark.parametrize("name, expected", [
    ("test_vit", "blocks.5.norm1"),  # behind it only the class token matters
    ("vit_base_patch16_reg4_gap_256", "blocks"),
    ("vit_base_patch16_siglip_224", "norm"),
    ("cait_xxs24_224", "blocks_token_only.1.norm1"),
    ("resnet50_clip", "stages"),  # not the values of the attention that pools it
    ("test_resnet", "layer4"),
    ("swin_tiny_patch4_window7_224", "norm"),
    ("levit_128s", "stages.1"),  # a residual stream of several widths
])  # fmt: skip
def test_the_deepest_grid_is_the_last_that_reaches_the_output(name, expected):
    assert deepest_grid(BY_NAME[name].build()).name == expected


def test_a_network_without_places_has_no_deepest_grid(wrap):
    with pytest.raises(UndefinedError, match="no layer whose places reach the output"):
        deepest_grid(wrap(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), 8))


# Layers at several depths

STEPS = {  # of networks that become coarser: the last layer on each grid
    "test_resnet": ("conv1", "layer1", "layer2", "layer3", "layer4"),
    "regnety_002": ("stem", "s1", "s2", "s3", "s4"),
    "vgg11": ("features.1", "features.4", "features.7", "features.10", "features"),  # no blocks: what goes into a pool
    "densenet121": (
        "features.norm0", "features.denseblock1", "features.denseblock2", "features.denseblock3", "features"
    ),
    "dla46_c": ("level0", "level1", "level2", "level3", "level4", "level5"),  # not the projections that run beside them
    "inception_v3": ("Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5d", "Mixed_7a.branch7x7x3_3"),  # unpadded convolutions
    "mobilenetv2_050": ("blocks.0", "blocks.1", "blocks.2", "blocks.5.0.bn1"),
    "resnet50_clip": ("stages.0", "stages.1", "stages.2", "stages"),
    "test_convnext": ("stem", "stages.1.blocks.0", "stages.2.blocks.2", "stages"),  # a normalisation ends each stage
    "swin_tiny_patch4_window7_224": ("layers.0", "layers.1", "layers.2", "norm"),
    "hiera_tiny_224": ("blocks.3",),  # each on a grid of its own, and a normalisation behind each
    "nest_tiny": ("levels.0", "levels.1", "norm"),
    "pit_ti_224": ("transformers.0.blocks", "transformers.1.blocks", "transformers.2.blocks.0.norm1"),
}  # fmt: skip


@pytest.mark.parametrize("name, expected", STEPS.items(), ids=STEPS)
def test_a_network_that_becomes_coarser_gives_a_layer_for_each_grid(name, expected):
    assert tuple(layer.name for layer in depth_layers(BY_NAME[name].build())) == expected


@pytest.mark.parametrize("name, depth, expected", [
    ("deit_tiny_patch16_224", 12, ("blocks.2", "blocks.5", "blocks.8", "blocks.11.norm1")),
    ("deit_tiny_patch16_224", 24, ("blocks.5", "blocks.11", "blocks.17", "blocks.23.norm1")),
    ("deit_tiny_patch16_224", 5, ("blocks.0", "blocks.1", "blocks.2", "blocks.4.norm1")),
    ("deit_tiny_patch16_224", 3, ("blocks.0", "blocks.2.norm1")),
    ("deit_tiny_patch16_224", 2, ("blocks.1.norm1",)),  # of the first block's patches only normalised ones are read
    # The last block puts out what `blocks` does.
    ("vit_base_patch16_reg4_gap_256", 12, ("blocks.2", "blocks.5", "blocks.8", "blocks")),
    ("vit_base_patch16_siglip_224", 12, ("blocks.2", "blocks.5", "blocks.8", "norm")),
    # Its stem is made of convolutions on finer and finer grids, but they are no stages.
    ("xcit_nano_12_p16_224", 9, ("blocks.1", "blocks.4", "blocks.7", "cls_attn_blocks.1.norm1")),
    # Its blocks put out two tensors each.
    ("tnt_s_legacy_patch16_224", 8,
     ("blocks.1.norm_out", "blocks.3.norm_out", "blocks.5.norm_out", "blocks.7.norm_out")),
])  # fmt: skip
def test_a_network_that_keeps_its_grid_gives_blocks_at_equal_distances(name, depth, expected):
    model = Case(name, {"img_size": 32, "depth": depth, "embed_dim": 24}, 32).build()
    assert tuple(layer.name for layer in depth_layers(model)) == expected


@pytest.mark.parametrize("count, expected", [
    (1, []), (2, [5]), (3, [3, 7]), (6, [1, 3, 5, 7, 9]), (12, [*range(10)]), (50, [*range(10)]),
])  # fmt: skip
def test_as_many_layers_as_asked_for_where_there_are_as_many_blocks(count, expected):
    model = Case("deit_tiny_patch16_224", {"img_size": 32, "depth": 12, "embed_dim": 24}, 32).build()
    assert [layer.name for layer in depth_layers(model, count)] == [
        *(f"blocks.{i}" for i in expected),
        "blocks.11.norm1",
    ]


def test_a_block_is_not_counted_twice_for_the_branch_inside_it():
    """ConvMixer's blocks begin with a numbered branch of their own."""
    model = Case("convmixer_768_32", size=56, make=lambda: ConvMixer(8, 8, num_classes=10)).build()
    assert [layer.name for layer in depth_layers(model)] == ["blocks.1", "blocks.3", "blocks.5", "blocks"]


def test_a_hybrids_backbone_has_its_own_stages():
    small = {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 3}
    model = Case("vit_small_r26_s32_224", small).build()
    names = [f"patch_embed.backbone.stages.{i}" for i in range(3)] + ["blocks.1.norm1"]
    assert [layer.name for layer in depth_layers(model)] == names


def test_layers_of_a_network_that_returns_to_a_grid_come_in_the_order_in_which_they_run(wrap):
    class There(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.d = (nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1)) for _ in range(3))
            self.c = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(3, 3, 3, 1, 1))
            self.e = nn.Sequential(nn.AvgPool2d(4))

        def forward(self, x):  # on grids of 8, 4, 8 again, 4 again, 2
            return self.e(self.c(self.b(self.a(x)))).mean((2, 3))

    assert [layer.name for layer in depth_layers(wrap(There(), 16))] == ["b", "c", "e"]


def test_a_network_of_one_layer_gives_that_layer(wrap):
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.only = nn.Conv2d(3, 3, 3, 2, 1)

        def forward(self, x):
            return self.only(x).mean((2, 3))

    assert [layer.name for layer in depth_layers(wrap(One(), 8))] == ["only"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("line, passed_over", [(0, True), (1, False)])
def test_a_layer_of_which_only_the_normalised_is_read_is_passed_over(wrap, dtype, line, passed_over):
    """There Σ_c A_c · ∂f/∂A_c is zero at each place, and what is left is rounding."""

    class Normalised(nn.Module):
        def __init__(self):
            super().__init__()
            # Of some 150 draws one has kernels that move its 4 × 4 places by one, which is refused.
            torch.manual_seed(0)
            self.a, self.b, self.d = (nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1)) for _ in range(3))
            self.c = nn.LayerNorm(3, eps=1e-9)

        def forward(self, x):
            b = self.b(self.a(x))
            normalised = self.c(b.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            return self.d(normalised + line * b).mean((2, 3))

    model = wrap(Normalised(), 16).to(dtype)
    assert [layer.name for layer in depth_layers(model)] == ["a", *([] if passed_over else ["b"]), "d"]
    with capture(model, ["b"]) as captured:
        logits = model(torch.rand(1, 3, 16, 16, dtype=dtype, requires_grad=True))
    (slope,) = torch.autograd.grad(logits[0, 0], captured["b"])
    products = captured["b"] * slope
    assert (products.sum(1).abs().max() < 1e-3 * products.abs().max()) == passed_over


@pytest.mark.parametrize("name, expected", [
    ("vgg11", ["features.1", "features.4", "features.9", "features.14", "features.19", "features.20"]),
    ("inception_v3", ["Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c"]),
])  # fmt: skip
def test_a_network_without_blocks_is_looked_at_by_the_stages_that_timm_names(name, expected):
    torch.manual_seed(0)
    model = ImageModel(timm.create_model(name, num_classes=10), name)
    assert [layer.name for layer in curated_layers(model)] == expected


@pytest.mark.parametrize("name, expected", [
    ("test_resnet", "conv1 layer1 layer2 layer3 layer4"),
    ("test_vit", "blocks.0 blocks.1 blocks.2 blocks.3 blocks.4 blocks.5"),  # there is one `blocks`, so it is no place's name
    ("pit_ti_224", "transformers.0.blocks transformers.1.blocks transformers.2.blocks"),
    ("levit_128s", "stages.0 stages.1"),
    ("gcvit_xxtiny", "stages.0 stages.1 stages.2 stages.3.blocks.0 stages.3"),  # the same numbers, with other axes first
    ("volo_d1_224", "patch_embed.conv network.0 network.1 network.2 network.3 network.4"),  # then the class token alone changes
])  # fmt: skip
def test_a_stage_and_the_block_that_it_ends_with_are_listed_once(name, expected):
    assert " ".join(layer.name for layer in curated_layers(BY_NAME[name].build())) == expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_of_all_stages_and_blocks_each_is_listed_once_in_every_family(case):
    """On another picture than the one by which they were told apart."""
    model = case.build()
    every, listed = layers._stages_and_blocks(model), [layer.name for layer in curated_layers(model)]
    assert listed == [layer.name for layer in every if layer.name in listed]
    x = torch.rand(1, 3, case.size, case.size, generator=torch.Generator().manual_seed(7))
    with capture(model, [layer.name for layer in every]) as captured, torch.no_grad():
        model(x)
    grids = {layer.name: to_grid(layer, captured[layer.name]) for layer in every}

    def alike(a, b):
        return grids[a].shape == grids[b].shape and torch.equal(grids[a], grids[b])

    assert not [(a, b) for i, a in enumerate(listed) for b in listed[:i] if alike(a, b)]
    assert all(any(alike(name, one) for one in listed) for name in grids)  # and nothing is lost


def test_the_list_follows_what_a_person_says_of_a_layout():
    model = BY_NAME["test_resnet"].build()
    before = curated_layers(model)
    before.clear()  # nobody else's list
    assert find_layer(model, "layer2") in curated_layers(model)
    said = as_said(model, Said(layouts={"layer2": "nhwc"}))
    assert find_layer(said, "layer2").layout == "nhwc" and find_layer(said, "layer2") in curated_layers(said)
    assert find_layer(model, "layer2") in curated_layers(model)


def test_a_network_without_places_has_no_layers_at_depths(wrap):
    with pytest.raises(UndefinedError, match="no layer whose places reach the output"):
        depth_layers(wrap(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), 8))


# Cut down to one block a stage, with a normalisation behind it: no layer but the deepest has a sum that means something.
ONE_DEPTH = {"metaformer", "davit", "gcvit", "hiera", "deit", "convit", "crossvit"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_layers_at_depths_are_different_ones_that_reach_the_output_in_every_family(case):
    model = case.build(torch.float64)
    layers, deepest = depth_layers(model), deepest_grid(model)
    order = [layer.name for layer in list_layers(model)]
    places = [order.index(layer.name) for layer in layers]
    assert layers[-1] == deepest and places == sorted(set(places))
    assert len(layers) >= 2 or case.family in ONE_DEPTH
    assert not any(deepest.name.startswith(f"{layer.name}.") for layer in layers)
    sizes = {layer.height for layer in layers}
    assert len(sizes) in (1, 2, len(layers)), "a layer for each grid, or one grid or two"

    x = torch.rand(1, 3, case.size, case.size, generator=torch.Generator().manual_seed(0)).double().requires_grad_(True)
    with capture(model, [layer.name for layer in layers]) as captured:
        logits = model(x)
    slopes = torch.autograd.grad(logits[0, 3], [captured[layer.name] for layer in layers])
    for layer, slope in zip(layers, slopes, strict=True):
        products = to_grid(layer, captured[layer.name] * slope)
        share = products.sum(1).abs().sum() / products.abs().sum()
        assert share > CANCELLED / 2, f"{layer.name}: only rounding is left"  # on other noise than it was chosen by
    values = [captured[layer.name].flatten() for layer in layers]
    assert not any(a.shape == b.shape and torch.equal(a, b) for i, a in enumerate(values) for b in values[:i])


def test_a_forgotten_model_is_not_kept_alive():
    model = BY_NAME["test_resnet"].build()
    deepest_grid(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_capture_gives_the_layers_of_this_pass(image_model, pictures):
    model = image_model("test_resnet")
    with capture(model, ["layer1", "fc"]) as captured:
        assert captured == {}
        logits = model(pictures(2))
    assert captured.keys() == {"layer1", "fc"} and torch.equal(captured["fc"], logits)
    assert captured["layer1"].shape == (2, 32, 8, 8)


def test_capture_takes_its_hooks_away_when_the_block_fails(image_model):
    model = image_model("test_resnet")
    with pytest.raises(RuntimeError, match="stop"), capture(model, ["layer1"]):
        raise RuntimeError("stop")
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("name, says", [
    ("nowhere", r"conv1, bn1.*in all\)\.$"), ("", "conv1, bn1"), ("layer1.7", "conv1, bn1.* Did you mean layer1.0 or"),
    ("layer2-0", "conv1, bn1.* Did you mean layer2.0"), ("Layer3.0.conv1", "conv1, bn1.* Did you mean layer3.0.conv1"),
])  # fmt: skip
def test_capture_refuses_a_name_that_no_module_has(image_model, name, says):
    model = image_model("test_resnet")
    with pytest.raises(UndefinedError, match=f"has no layer “{name}”; it has {says}"), capture(model, [name]):
        pass


def test_capture_keeps_others_out(image_model, pictures):
    """A second user's capture waits until the first one's is over."""
    model, inside, order = image_model("test_resnet"), threading.Event(), []

    def second():
        inside.wait(10)
        with capture(model, ["fc"]):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with capture(model, ["fc"]):
        inside.set()
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_find_layer_tells_a_module_without_one_tensor_from_none_at_all(wrap):
    class Two(nn.Module):
        def forward(self, x):
            return x, x

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.two = Two()

        def forward(self, x):
            return self.two(x)[0].mean((2, 3))

    model = wrap(Net(), 8)
    with pytest.raises(UndefinedError, match="does not put out one tensor"):
        find_layer(model, "two")
    with pytest.raises(UndefinedError, match="has no layer “three”"):
        find_layer(model, "three")


DOCUMENTED = (Path(__file__).parents[2] / "docs" / "layers.md").read_text("utf-8").splitlines()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_table_of_layers_is_what_is_so(case):
    *_, expected = markdown.table(layers_table.HEADER, [layers_table.row(case)])
    assert expected in DOCUMENTED
