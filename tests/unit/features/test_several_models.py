"""One picture for several models, and units that there are not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ascent_fixture import QUICK, SMALL, pictures

from lsd.errors import UndefinedError
from lsd.features import judge
from lsd.features.ascent import ascend


def test_one_picture_serves_several_models(demo):
    resnet, convnext = demo("resnet"), demo("convnext")
    unit = "class/3 + demo:convnext::class/3"
    (picture,) = pictures(resnet, [unit], replace(QUICK, output="log_odds"), others=[convnext])
    with torch.no_grad():
        values = [m(judge.to_batch([picture.pixels], m)).softmax(1)[0, 3].item() for m in (resnet, convnext)]
    (alone,) = pictures(resnet, ["class/3"], replace(QUICK, output="log_odds"))
    with torch.no_grad():
        transferred = convnext(judge.to_batch([alone.pixels], convnext)).softmax(1)[0, 3].item()
    assert picture.trace[-1] > picture.trace[0] + 1 and values[1] > transferred


@pytest.mark.parametrize("recipe", [
    SMALL, replace(SMALL, batch_norm=0.1), replace(SMALL, diversity=0.1, diversity_layer="layer2"),
], ids=["plain", "batch_norm", "diversity"])  # fmt: skip
def test_a_model_may_be_named_although_it_is_the_one_that_is_asked(demo, recipe):
    recipe = replace(recipe, steps=4)
    (named,) = pictures(demo("resnet"), ["demo:resnet::class/3"], recipe)
    assert named.status == "ok" and np.isfinite(named.score)


@pytest.mark.parametrize("unit, words", [
    ("demo:vit::class/3", "belongs to demo:vit, which is not among the models"),
    ("class/99", "Class 99 is out of range"),
    ("layer9/channel/1", "has no layer “layer9”"),
    ("demo:convnext::class/99", "Class 99 is out of range"),
    ("nonsense", "is not a unit"),
])  # fmt: skip
def test_units_that_there_are_not_are_refused(demo, unit, words):
    with pytest.raises(UndefinedError, match=words):
        next(ascend(demo("resnet"), ["class/1", unit], SMALL, others=[demo("convnext")]))


def test_a_layer_for_diversity_must_be_there(demo):
    with pytest.raises(UndefinedError, match="has no layer “layer9”"):
        next(ascend(demo("resnet"), ["class/1"], replace(SMALL, diversity=1.0, diversity_layer="layer9")))
