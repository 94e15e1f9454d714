"""Units: text and back, what is refused and in which words, names of classes, patterns, arithmetic."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from benchmarks.families import CASES
from lsd.errors import UndefinedError
from lsd.features.units import (
    CLASS_KINDS,
    LAYER_KINDS,
    Combined,
    Leaf,
    Scaled,
    check,
    expand,
    parse,
    resolve,
    title,
    without_model,
)
from lsd.layers import curated_layers, find_layer

BY_NAME = {case.name: case for case in CASES}
ONE_OF_EACH = [
    "class/7", "logit/7", "log_odds/7", "log_probability/7", "probability/7", "contrast/7/8", "layer3.5.conv2/channel/12",
    "layer3.5.conv2/neuron/12/7/7", "layer3/position/7/7", "layer3/direction/12:1,40:-0.5", "layer3/layer",
    "blocks.5/token/0/12", "blocks.5.attn/head/2", "layer3/inversion", "layer3/caricature",
]  # fmt: skip
COUNTS = {"channel": 1, "neuron": 3, "position": 2, "token": 2, "head": 1, "contrast": 2}

index = st.integers(0, 9999)
factor = st.floats(allow_nan=False, allow_infinity=False)
layer_name = st.from_regex(r"[a-z_]{1,8}(\.[a-z0-9_]{1,6}){0,3}", fullmatch=True).filter(lambda s: s not in CLASS_KINDS)
model_name = st.one_of(st.just(""), st.from_regex(r"[a-z0-9_:.-]{0,8}[a-z0-9](/[a-z0-9_.-]{1,8})?", fullmatch=True))


@st.composite
def leaves(draw) -> Leaf:
    kind = draw(st.sampled_from(CLASS_KINDS + LAYER_KINDS))
    model = draw(model_name)
    if kind == "direction":
        channels = draw(st.lists(index, min_size=1, max_size=4, unique=True))
        return Leaf(kind, layer=draw(layer_name), weights=tuple((c, draw(factor)) for c in channels), model=model)
    count = COUNTS.get(kind, 1 if kind in CLASS_KINDS else 0)
    arguments = tuple(draw(st.lists(index, min_size=count, max_size=count)))
    return Leaf(kind, arguments, "" if kind in CLASS_KINDS else draw(layer_name), model=model)


trees = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        st.builds(Combined, st.sampled_from("+-*"), inner, inner), st.builds(Scaled, factor, inner)
    ),
    max_leaves=12,
)


def value(unit, numbers):
    return unit.value({leaf: numbers[i] for i, leaf in enumerate(dict.fromkeys(unit.leaves()))})


# Text and back


@given(trees)
def test_text_stands_for_the_unit_it_was_made_from(unit):
    assert parse(str(unit)) == unit


@given(trees)
def test_text_is_stable(unit):
    assert str(parse(str(unit))) == str(unit)


@pytest.mark.parametrize("text", ONE_OF_EACH)
@pytest.mark.parametrize("prefix", ["", "resnet50.a1_in1k::", "hf_hub:timm/resnet18::"])
def test_every_kind_parses_and_prints(text, prefix):
    unit = parse(prefix + text)
    assert str(unit) == prefix + text
    assert unit.kind in text and unit.model == prefix.removesuffix("::")


def test_every_kind_is_tried():
    assert {parse(text).kind for text in ONE_OF_EACH} == {*CLASS_KINDS, *LAYER_KINDS}


@pytest.mark.parametrize("text, expected", [
    ("class/1 + class/2 * class/3", 2 + 3 * 5),
    ("class/1 - class/2 - class/3", 2 - 3 - 5),
    ("class/1 - (class/2 - class/3)", 2 - (3 - 5)),
    ("(class/1 + class/2) * class/3", (2 + 3) * 5),
    ("class/1 * class/2 - class/3", 2 * 3 - 5),
    ("2 * class/1 * 3", 2 * 2 * 3),
    ("0.5 * (class/1 + -2 * class/2)", 0.5 * (2 - 2 * 3)),
    ("2 * 3 * class/2", 2 * 3 * 3),
    ("(2 * 3) * class/1", 12),
    ("class/1 - class/1", 0),
    ("((class/1))", 2),
    ("  class/1+class/2  ".replace("+", " + "), 5),
])  # fmt: skip
def test_arithmetic_means_what_it_does_elsewhere(text, expected):
    numbers = {Leaf("class", (1,)): 2.0, Leaf("class", (2,)): 3.0, Leaf("class", (3,)): 5.0}
    unit = parse(text)
    assert unit.value(numbers) == expected
    assert parse(str(unit)).value(numbers) == expected


@pytest.mark.parametrize("operator", ["+", "-", "*"])
def test_long_chains_need_no_nesting(operator):
    """As many as a unit may have words: they are hashed, compared, printed and evaluated."""
    text = f" {operator} ".join(f"class/{i}" for i in range(100))
    unit = parse(text)
    assert str(unit) == text and parse(str(unit)) == unit and hash(parse(text)) == hash(unit)
    numbers = {leaf: torch.tensor(1.0) for leaf in unit.leaves()}
    assert len(numbers) == 100 and unit.value(numbers) == {"+": 100, "-": -98, "*": 1}[operator]


def test_arithmetic_makes_new_units_and_changes_none():
    a, b = parse("class/1"), parse("layer1/channel/2")
    before = str(a), str(b)
    made = {
        "class/1 + layer1/channel/2": a + b,
        "class/1 - layer1/channel/2": a - b,
        "class/1 * layer1/channel/2": a * b,
        "2 * class/1": 2 * a,
        "0.5 * class/1": a * 0.5,
        "-1 * class/1": -a,
        "class/1 - (class/1 - layer1/channel/2)": a - (a - b),
        "3 * (class/1 + layer1/channel/2)": 3 * (a + b),
    }
    for text, unit in made.items():
        assert str(unit) == text and parse(text) == unit
    assert (str(a), str(b)) == before
    with pytest.raises(AttributeError):
        a.kind = "logit"


@pytest.mark.parametrize("other", [1, 0.5, "class/1", None])
def test_only_units_are_added(other):
    with pytest.raises(TypeError, match="is not a unit"):
        parse("class/1") + other


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_a_unit_is_multiplied_by_a_finite_number_only(number):
    with pytest.raises(UndefinedError, match="finite"):
        number * parse("class/1")


# What is refused


@pytest.mark.parametrize("text, words", [
    ("", "empty text"),
    ("   ", "empty text"),
    ("7", "is a number, not a unit"),
    ("2 * 3", "is a number, not a unit"),
    ("class/1 + 2", "multiply a unit by it"),
    ("2 - class/1", "multiply a unit by it"),
    ("class/1 +", "ends too early"),
    ("class/1 * (", "ends too early"),
    ("(class/1", "a bracket is not closed"),
    ("((class/1)", "a bracket is not closed"),
    ("class/1)", "“\\)” was not expected"),
    ("class/1 class/2", "“class/2” was not expected"),
    ("class/1 +- class/2", "was not expected"),
    ("class/1 ** class/2", "was not expected"),
    ("()", "is not a unit"),
    ("class", "is not a unit"),
    ("class/", "is not a unit"),
    ("class/seven", "is not a unit"),
    ("class/1/2", "is not a unit"),
    ("class/1.5", "is not a unit"),
    ("contrast/1", "is not a unit"),
    ("layer3", "is not a unit"),
    ("/channel/1", "is not a unit"),
    ("layer3/channel", "is not a unit"),
    ("layer3/channel/1/2", "is not a unit"),
    ("layer3/neuron/1/2", "is not a unit"),
    ("layer3/layer/1", "is not a unit"),
    ("layer3/blah/1", "is not a unit"),
    ("layer3/direction/", "is not a unit"),
    ("layer3/direction/1", "is not a unit"),
    ("layer3/direction/1:", "is not a unit"),
    ("layer3/direction/1:2:3", "is not a unit"),
    ("layer3/direction/1:nan", "is not a unit"),
    ("layer3/direction/1:inf", "is not a unit"),
    ("layer3/direction/1:2,1:3", "is not a unit"),
    ("1e999 * class/1", "finite"),
    ("::class/1", "names no model"),
    ("class/" + "9" * 5000, "is not a unit"),
    ("(" * 60 + "class/1" + ")" * 60, "nested too deeply"),
    ("(" * 100_000, "too long"),
    (" + ".join(["class/1"] * 100_000), "too long"),
])  # fmt: skip
def test_bad_text_is_refused_in_one_sentence(text, words):
    with pytest.raises(UndefinedError, match=words) as caught:
        parse(text)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".") and len(str(caught.value)) < 600


@given(st.text(alphabet="clas/1:+-*(). 2e,hn", max_size=30))
def test_no_text_does_anything_but_parse_or_be_refused(text):
    try:
        unit = parse(text)
    except UndefinedError:
        return
    assert parse(str(unit)) == unit


@pytest.mark.parametrize("name, text, words", [
    ("test_resnet", "class/10", "Class 10 is out of range: test_resnet has 10 classes, 0 to 9"),
    ("test_resnet", "logit/-1", "Class -1 is out of range"),
    ("test_resnet", "contrast/3/10", "Class 10 is out of range"),
    ("test_resnet", "contrast/3/3", "zero everywhere"),
    ("test_resnet", "layer2/channel/48", "Channel 48 is out of range: layer2 of test_resnet has 48 channels, 0 to 47"),
    ("test_resnet", "layer2/channel/-1", "Channel -1 is out of range"),
    ("test_resnet", "layer2/neuron/48/0/0", "Channel 48 is out of range"),
    ("test_resnet", "layer2/neuron/0/8/0", "Row 8 is out of range: .* 8 rows"),
    ("test_resnet", "layer2/neuron/0/0/8", "Column 8 is out of range"),
    ("test_resnet", "layer2/position/8/0", "Row 8 is out of range"),
    ("test_resnet", "layer2/position/0/-1", "Column -1 is out of range"),
    ("test_resnet", "layer2/direction/0:1,48:1", "Channel 48 is out of range"),
    ("test_resnet", "layer2/token/0/0", "has no prefix tokens"),
    ("test_resnet", "layer9/channel/0", "has no layer “layer9”; it has conv1"),
    ("test_resnet", "layer9/layer", "has no layer “layer9”"),
    ("test_resnet", "layer9/head/0", "has no layer “layer9”"),
    ("test_resnet", "layer2/head/0", "no attention layer .* it has no attention heads"),
    ("test_resnet", "global_pool/neuron/0/0/0", "has no places, only channels"),
    ("test_resnet", "test_resnet::class/10", "Class 10 is out of range"),
    ("test_resnet", "class/1 + 2 * class/11", "Class 11 is out of range"),
    ("test_vit", "blocks.2/token/1/0", "Prefix token 1 is out of range: .* 1 prefix tokens"),
    ("test_vit", "blocks.2/token/0/64", "Channel 64 is out of range"),
    ("test_vit", "blocks.2.attn/head/2", "Head 2 is out of range: blocks.2.attn has 2 heads"),
    ("test_vit", "blocks.2.mlp/head/0", "its attention layers are blocks.0.attn"),
    ("swin_tiny_patch4_window7_224", "layers.0.blocks.0.attn/channel/0", "not laid out in channels"),
])  # fmt: skip
def test_what_the_model_does_not_have_is_refused(name, text, words):
    model = BY_NAME[name].build()
    with pytest.raises(UndefinedError, match=words) as caught:
        check(parse(text), model)
    assert "\n" not in str(caught.value) and str(caught.value).endswith((".", "…", "?"))


@pytest.mark.parametrize("text", [
    "class/9", "contrast/0/9", "layer2/channel/47", "layer2/neuron/47/3/3", "layer2/position/3/3", "layer2/layer",
    "layer2/direction/0:1,47:2", "layer2/inversion", "layer2/caricature", "global_pool/channel/95",
    "other::class/99999 + other::nowhere/channel/5",  # another model's affair
])  # fmt: skip
def test_what_the_model_has_passes_unchanged(image_model, text):
    unit = parse(text)
    assert check(unit, image_model("test_resnet")) is unit


def test_a_network_without_a_classifier_has_no_classes(wrap):
    model = wrap(nn.Sequential(nn.Conv2d(3, 4, 1)), 8, classes=0)
    with pytest.raises(UndefinedError, match="has no classifier"):
        check(parse("class/0"), model)


# Names, captions, patterns


def test_a_class_goes_by_its_name_too(demo):
    model = demo("resnet")
    number = model.class_names.index("striped circle")
    assert resolve("class/striped circle", model) == Leaf("class", (number,))
    assert resolve(" logit/Striped Circle ", model) == Leaf("logit", (number,))
    assert resolve(f"class/{number}", model) == Leaf("class", (number,))
    assert str(resolve(f"class/{number} - class/0", model)) == f"class/{number} - class/0"


@pytest.mark.parametrize("text, words", [
    ("class/zebra", "No class of this model is called “zebra”"),
    ("class/circle", "circle"),  # which one?
    ("class/99", "Class 99 is out of range"),
    ("class/", "is not a unit"),
    ("nonsense", "is not a unit"),
])  # fmt: skip
def test_names_that_mean_no_one_class_are_refused(demo, text, words):
    with pytest.raises(UndefinedError, match=words):
        resolve(text, demo("resnet"))


def test_captions_name_classes(demo):
    model = demo("resnet")
    a, b = model.class_names[:2]
    assert title(parse("class/0"), model) == title(parse("logit/0"), model) == a
    assert title(parse("demo:resnet::class/0"), model) == a
    assert title(parse("contrast/0/1"), model) == f"{a} − {b}"
    assert title(parse("other::class/0"), model) == "other::class/0"
    assert title(parse("layer3/channel/1"), model) == "layer3/channel/1"
    assert title(parse("class/0 + class/1"), model) == "class/0 + class/1"


def test_patterns_of_classes(demo):
    model = demo("resnet")
    assert [str(u) for u in expand("class:all", model)] == [f"class/{i}" for i in range(16)]
    assert [str(u) for u in expand("class:7,2,10-12", model)] == [f"class/{i}" for i in (7, 2, 10, 11, 12)]
    assert [str(u) for u in expand("class:3", model)] == ["class/3"]


def test_patterns_of_channels_and_heads(image_model):
    model = image_model("test_resnet")
    assert [str(u) for u in expand("layer2:channels", model)] == [f"layer2/channel/{i}" for i in range(48)]
    spread = [u.arguments[0] for u in expand("layer2:channels:16", model)]
    assert spread == list(range(0, 48, 3))
    assert len(expand("layer2:channels:1000", model)) == 48
    vit = image_model("test_vit", img_size=32)
    assert [str(u) for u in expand("blocks.1.attn:heads", vit)] == ["blocks.1.attn/head/0", "blocks.1.attn/head/1"]


@pytest.mark.parametrize("count", [1, 4])
def test_the_curated_layers_give_channels_each(image_model, count):
    model = image_model("test_resnet")
    units = expand(f"layer:curated:{count}", model)
    layers = [layer.name for layer in curated_layers(model)]
    assert [u.layer for u in units] == [name for name in layers for _ in range(count)]
    for unit in units:
        check(unit, model)
    assert {u.arguments[0] for u in units if u.layer == layers[0]} == {
        i * find_layer(model, layers[0]).channels // count for i in range(count)
    }


def test_fewer_curated_layers_reach_from_the_first_to_the_last(image_model):
    model = image_model("test_resnet")
    layers = [layer.name for layer in curated_layers(model)]
    for count in (1, 2, 3, len(layers), 100):
        chosen = list(dict.fromkeys(u.layer for u in expand(f"layer:curated:2:{count}", model)))
        assert len(chosen) == min(count, len(layers)) and chosen[-1] == layers[-1]
        assert chosen == [name for name in layers if name in chosen] and (count == 1 or chosen[0] == layers[0])
    with pytest.raises(UndefinedError, match="not a number"):
        expand("layer:curated:2:x", model)


@pytest.mark.parametrize("text", [
    "class/3", "layer2/channel/5", "layer2/direction/1:2,3:-4", "test_resnet::class/1 + class/2",
    "0.5 * layer2/channel/5 + class/1",
])  # fmt: skip
def test_anything_else_is_one_unit(image_model, text):
    assert expand(text, image_model("test_resnet")) == [parse(text)]


@pytest.mark.parametrize("pattern, words", [
    ("class:", "not a list of classes"),
    ("class:1,", "not a list of classes"),
    ("class:a-b", "not a list of classes"),
    ("class:5-3", "not a list of classes"),
    ("class:0-999999999", "not a list of classes"),
    ("class:" + "9" * 5000, "not a list of classes"),
    ("class:" + ",".join(["0-99999"] * 1000), "out of range|not a list of classes"),
    ("class:3,10", "Class 10 is out of range"),
    ("layer2:channels:0", "not a number of channels"),
    ("layer2:channels:x", "not a number of channels"),
    ("layer2:channels:" + "9" * 5000, "not a number of channels"),
    ("layer:curated:0", "not a number of channels"),
    ("layer:curated:", "not a number of channels"),
    ("layer9:channels", "has no layer “layer9”"),
    ("layer2:heads", "no attention layer"),
    ("layer2:things", "stands for no units"),
    ("nonsense", "is not a unit"),
])  # fmt: skip
def test_bad_patterns_are_refused(image_model, pattern, words):
    with pytest.raises(UndefinedError, match=words) as caught:
        expand(pattern, image_model("test_resnet"))
    assert len(str(caught.value)) < 600


def test_windows_have_no_channels_to_expand():
    with pytest.raises(UndefinedError, match="not laid out in channels"):
        expand("layers.0.blocks.0.attn:channels", BY_NAME["swin_tiny_patch4_window7_224"].build())


def test_without_model_forgets_the_model_alone():
    assert without_model(parse("a::layer1/channel/2")) == parse("layer1/channel/2")
