"""A step on a GPU that is not there: torch's fake tensors have a device and a shape and no numbers, and an operation between two
devices fails with them as it would on a machine that has both."""

import copy
import sys
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_map_only

from lsd import layers, tracing
from lsd.features import batch, chance, networks
from lsd.features.pictures import Job, generator
from lsd.features.recipes import RECIPES
from lsd.features.transforms import FILLS, Transforms
from lsd.features.units import parse

UNITS = {
    "resnet": ["class/3", "class/5", "layer3/channel/5", "layer3/neuron/1/2/2"],
    "vit": ["class/3", "blocks.1.attn/head/1"],
}


@pytest.fixture
def gpu(monkeypatch):
    """A mode in which tensors can be told to be on a GPU; what only a real one could do is replaced."""
    monkeypatch.setattr(
        chance, "generator", lambda job, purpose, attempt=0, device="cpu": generator(job, purpose, attempt)
    )
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    plain = torch.Tensor.__bool__
    monkeypatch.setattr(
        torch.Tensor,
        "__bool__",
        lambda self: _in_an_optimiser(sys._getframe(1)) if isinstance(self, FakeTensor) else plain(self),
    )  # else: nobody is reached yet
    monkeypatch.setattr(batch, "Recorded", lambda function, *inputs: function)
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: None)  # the fused one has no fake
    monkeypatch.setattr(torch.autograd, "grad", lambda _, inputs, *more, **named: tree_map_only(
        torch.Tensor, torch.zeros_like, (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)))  # fmt: skip
    return FakeTensorMode()


def _in_an_optimiser(frame) -> bool:
    """They ask whether their settings are in range."""
    return "optim" in frame.f_code.co_filename


def moved(model, mode):
    """The model with parameters and buffers on a GPU that is not there."""
    there = copy.copy(model)
    there._modules, there._buffers = {"net": copy.deepcopy(model.net)}, dict(model._buffers)
    tracing._traced[there], layers._listed[there] = tracing.trace(model), dict(layers._layers(model))
    with mode:
        for module in there.modules():
            for name, value in module._parameters.items():
                if value is not None:
                    made = torch.empty(value.shape, dtype=value.dtype, device="cuda")
                    module._parameters[name] = torch.nn.Parameter(made, requires_grad=False)
            for name, value in module._buffers.items():
                if value is not None:
                    module._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device="cuda")
    return there


def steps(model, units, recipe, mode, monkeypatch, half=False):
    """The values of a few steps of each stage, on the way."""
    jobs = [Job(parse(unit), 0) for unit in units]
    here = batch.Batch(
        {"": model}, jobs, recipe, photo=None, vector=None, start_from_photo=False, half=half, compiled=False
    )
    twins = {share: {name: moved(twin, mode) for name, twin in here.networks.twins(share).items()}
             for share in {1.0, *(stage.input for stage in recipe.stages)}}  # fmt: skip
    monkeypatch.setattr(networks.Networks, "twins", lambda self, share: twins[1.0 if self.placed else share])
    with mode:
        there = batch.Batch(
            {"": twins[1.0][""]},
            jobs,
            recipe,
            photo=None,
            vector=None,
            start_from_photo=False,
            half=half,
            compiled=False,
        )
        parameterization = state = None
        for i, stage in enumerate(recipe.stages):
            parameterization, state = there._enter(stage, parameterization, state)
            for step in (
                i,
                recipe.steps - 1,
            ):  # one in which pictures are looked for, and one of those that can be recorded
                values = there._step(step, parameterization, state, 2)
                state.arrival.note(values)
                yield values


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("network", UNITS)
def test_a_step_of_every_recipe_stays_on_its_device(demo, gpu, monkeypatch, network, recipe, half):
    if recipe == "deepinversion" and network == "vit":
        pytest.skip("its listeners would be told of the tracing of a copied network")
    found = list(steps(demo(network), UNITS[network], RECIPES[recipe], gpu, monkeypatch, half))
    assert found and all(values.device.type == "cuda" for values in found)


@pytest.mark.parametrize("settings", [
    {"fill": fill, "shift": 0.1} for fill in FILLS
] + [{"flip": True}, {"rotate": 5.0}, {"noise": 0.1, "views": 2}, {"blur": 0.1}, {"color_shift": 0.1}], ids=str)  # fmt: skip
def test_a_step_of_every_view_stays_on_its_device(demo, gpu, monkeypatch, settings):
    recipe = replace(RECIPES["none"], transforms=Transforms(**settings))
    found = list(steps(demo("resnet"), ["class/3"], recipe, gpu, monkeypatch))
    assert found and all(values.device.type == "cuda" for values in found)


def test_numbers_on_two_devices_are_found(demo, gpu, monkeypatch):
    """The check can fail: a view moved by numbers that were left behind."""
    monkeypatch.setattr(torch, "ones_like", lambda like: torch.ones(like.shape))
    recipe = replace(RECIPES["none"], transforms=Transforms(shift=0.1))
    with pytest.raises(RuntimeError, match=r"same device|different devices"):
        list(steps(demo("resnet"), ["class/3"], recipe, gpu, monkeypatch))
