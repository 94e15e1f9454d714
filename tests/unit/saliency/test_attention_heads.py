"""Where heads look, on a picture, against the attention itself and against loops."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from lsd.errors import LSDError, UndefinedError
from lsd.models import get_model
from lsd.saliency.attention import read
from lsd.saliency.explain import to_input
from lsd.saliency.heads import Heads, heads_of, in_words, parse_place, pictures, sheet
from lsd.view import View


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 200, 3), dtype=np.uint8))


def of(weights, place=None, box=(50.0, 0.0, 150.0, 100.0)):
    return Heads("a model", "blocks.0.attn", ("blocks.0.attn",), place, weights, (200, 100), box, (100, 100))


@pytest.mark.parametrize("view", ["evaluated", "squashed", "10,5,60"])
def test_the_weights_are_those_that_the_network_has_for_this_view(small_vit, picture, view):
    model = get_model(small_vit)
    with torch.no_grad():
        passed = read(model, to_input(model, picture, View.parse(view)))
    names = [one.name for one in passed.attentions]
    for layer in ("", *names):
        found = heads_of(model, picture, layer, view=View.parse(view))
        expected = passed.attentions[names.index(layer) if layer else -1].weights[0]
        assert found.layer == (layer or names[-1]) and found.layers == tuple(names)
        assert torch.allclose(found.weights.flatten(1), expected[:, 0, 1:])
        from_there = heads_of(model, picture, layer, [3, 4], View.parse(view))
        assert torch.allclose(from_there.weights.flatten(1), expected[:, 1 + 3 * found.weights.shape[2] + 4, 1:])
    assert found.to_dict()["heads"] == len(expected) == len(in_words(found))


def test_how_much_is_on_the_picture_and_how_widely_it_lies():
    weights = torch.rand(4, 3, 5, generator=torch.Generator().manual_seed(0)) / 20
    weights[1] = 0
    weights[1, 2, 2] = 0.5  # a single place
    weights[2] = 1 / 15  # all alike
    weights[3] = 0  # nowhere on the picture
    found = of(weights)
    for head, own in enumerate(weights.double().flatten(1).tolist()):
        total = sum(own)
        entropy = -sum(w / total * math.log(w / total) for w in own if w)
        assert found.on_places[head] == pytest.approx(total, abs=1e-6)
        assert found.spread[head] == pytest.approx(math.exp(entropy) if total else 1, abs=1e-6)
    assert found.spread[1] == pytest.approx(1) and found.spread[2] == pytest.approx(15)


def test_each_map_lies_where_the_model_saw_it_and_the_place_is_outlined():
    weights = torch.zeros(2, 4, 4)
    weights[0, 3, 0] = weights[1, 0, 3] = 1
    black = Image.new("RGB", (400, 200))  # twice the size of what was looked at
    for shown, (row, column) in zip(pictures(black, of(weights)), ((3, 0), (0, 3)), strict=True):
        strength = np.asarray(shown, float).sum(2)
        strength[:, [100, 101, 299, 298]] = strength[[0, -1]] = 0  # the outline of what the model saw
        y, x = np.unravel_index(strength.argmax(), strength.shape)
        assert (int(y // 50), int((x - 100) // 50)) == (row, column)
    plain, marked = (np.asarray(pictures(black, of(weights, place))[0], int) for place in (None, (1, 2)))
    changed = np.argwhere((plain != marked).any(2))
    assert changed.min(0).tolist() == [50, 200] and changed.max(0).tolist() == [100, 250]


def test_a_sheet_has_a_cell_for_each_head():
    few, many = (sheet(Image.new("RGB", (60, 60)), of(torch.rand(n, 3, 3)), 60).size for n in (2, 12))
    assert many[0] > few[0] and many[1] > 2 * few[1]


@pytest.mark.parametrize("text", ["x", "1", "1,2,3", "1.5,2", ","])
def test_what_is_no_place_is_one_sentence(text):
    assert parse_place(" 1, 2 ") == (1, 2) and parse_place(" ") is None
    with pytest.raises(UndefinedError, match=r"A place is ROW,COLUMN, such as 5,7"):
        parse_place(text)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"layer": "blocks.9"}, "no attention layer"), ({"place": (10, 0)}, "none at 10, 0"), ({"place": (-1, 0)}, "none at -1"),
        ({"view": View((500, 0, 20))}, "square"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_at_is_one_sentence(small_vit, picture, changes, sentence):
    with pytest.raises(LSDError, match=sentence):
        heads_of(get_model(small_vit), picture, **changes)


def test_without_attention_it_is_refused(picture):
    with pytest.raises(UndefinedError, match=r"it has none\. Choose depth fusion"):
        heads_of(get_model("demo:resnet"), picture)
