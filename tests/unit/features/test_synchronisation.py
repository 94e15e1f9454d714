"""A GPU works ahead of the program that tells it what to do, until somebody asks for a number. How often that happens is counted
here, on the CPU: each call that would have to wait, and each that would send numbers there."""

import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch
from ascent_fixture import SMALL
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lsd.features.ascent import ascend
from lsd.features.recipes import RECIPES

WAITING = {
    "item", "tolist", "cpu", "numpy", "nonzero", "argwhere", "masked_select", "unique", "__bool__", "__float__", "__int__",
    "__index__", "is_nonzero", "equal", "allclose",
}  # fmt: skip
SENDING = {"tensor", "as_tensor", "from_numpy"}


class Waits(TorchFunctionMode):
    """Within this context `count` has how often each such call was made."""

    def __init__(self):
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        moves = name == "to" and any(_is_host(a) for a in (*args[1:], *(kwargs or {}).values()))
        masks = name == "__getitem__" and isinstance(args[1], Tensor) and args[1].dtype == torch.bool
        if (name in WAITING | SENDING or moves or masks) and not _in_an_optimiser():
            self.count[name] += 1
        return func(*args, **(kwargs or {}))


def _is_host(value) -> bool:
    return value == "cpu" if isinstance(value, str) else isinstance(value, torch.device) and value.type == "cpu"


def _in_an_optimiser() -> bool:
    """torch's optimisers count their steps in a tensor on the host."""
    frame = sys._getframe(1)
    while frame is not None:
        if "torch/optim/" in frame.f_code.co_filename.replace("\\", "/"):
            return True
        frame = frame.f_back
    return False


@pytest.mark.parametrize("counted, work", [
    ("item", lambda t: t.sum().item()), ("tolist", lambda t: t.tolist()), ("cpu", lambda t: t.cpu()),
    ("__bool__", lambda t: bool(t[0] > 0)), ("__float__", lambda t: float(t[0])), ("numpy", lambda t: t.numpy()),
    ("to", lambda t: t.to("cpu")), ("tensor", lambda t: torch.tensor([1.0], device=t.device)),
    ("nonzero", lambda t: torch.nonzero(t)), ("__getitem__", lambda t: t[t > 0]), ("equal", lambda t: torch.equal(t, t)),
])  # fmt: skip
def test_what_would_wait_is_counted(counted, work):
    with Waits() as waits:
        work(torch.ones(3))
    assert waits.count[counted] == 1


UNITS = {
    "resnet": [
        "class/3", "contrast/3/5", "log_probability/1", "layer3/channel/5", "layer3/neuron/1/2/2", "layer2/direction/1:1,2:-2",
        "layer3/position/1/1", "layer3/layer", "class/3 + 0.5 * layer3/channel/5",
    ],
    "vit": ["class/3", "blocks.1/channel/5", "blocks.1.attn/head/1"],
}  # fmt: skip


def waits_between_snapshots(model, units, recipe, every):
    """For each pair of neighbouring snapshots, what was waited for on the way from one to the other."""
    with Waits() as waits:
        found = []
        for _ in ascend(model, units, recipe, every=every, batch_size=len(units)):
            found.append(waits.count.copy())
            waits.count.clear()
    return found


# What the caller gets: the scores and pictures of a snapshot; and what chance says of the next views goes the other way, once.
ONCE = Counter(tolist=1, cpu=1, tensor=1, to=1)


@pytest.mark.parametrize("network", UNITS)
@pytest.mark.parametrize("recipe", ["lsd", "texture", "lucid", "maco", "vit"])
def test_between_two_snapshots_nothing_is_waited_for(demo, network, recipe):
    """The first steps find out whom a gradient reaches; from then on the numbers come with the picture, once a snapshot."""
    recipe = RECIPES[recipe]
    few = {"views": min(recipe.transforms.views, 2)}
    recipe = replace(recipe, steps=48, redirect_steps=0, stages=((0.5, 0.5), (0.5, 1.0)),
                     transforms=replace(recipe.transforms, **few),
                     transforms_end=recipe.transforms_end and replace(recipe.transforms_end, **few))  # fmt: skip
    found = waits_between_snapshots(demo(network), UNITS[network], recipe, every=8)
    assert len(found) == 7  # the first step, the window after it, then from 8 to 48, of which 24 begins a stage
    assert found[2] == found[3] == found[5] == ONCE


@pytest.mark.parametrize("setting", [
    {"tv": 0.1}, {"batch_norm": 1.0}, {"diversity": 1.0, "diversity_layer": "layer3"}, {"blur_every": 2, "blur": 0.01},
    {"optimizer": "sgd"}, {"contrast": 0.1},
], ids=str)  # fmt: skip
def test_no_setting_of_a_recipe_waits(demo, setting):
    recipe = replace(SMALL, steps=32, redirect_steps=0, **setting)
    found = waits_between_snapshots(demo("resnet"), ["class/3", "layer3/channel/5"], recipe, every=8)
    assert found[2] == found[3] == ONCE


def test_a_tolerance_asks_at_each_step(demo):
    recipe = replace(SMALL, steps=32, redirect_steps=0, tolerance=1e-9)
    found = waits_between_snapshots(demo("resnet"), ["class/3"], recipe, every=8)
    assert found[2] == ONCE + Counter(tolist=8)
