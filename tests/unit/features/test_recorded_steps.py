"""The steps that a GPU records and replays, with a recorder that records nothing: what it must be given, and when."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ascent_fixture import SMALL

from lsd.features import batch
from lsd.features.ascent import ascend
from lsd.features.recipes import RECIPES

UNITS = ["class/3", "layer3/channel/5"]


class Replayed:
    """Calls the function anew on the memory that the first inputs were copied to, as a replay would read it."""

    def __init__(self, function, *inputs):
        self.function, self.inputs = function, [given.clone() for given in inputs]
        made.append(self)
        self.calls = 0

    def __call__(self, *inputs):
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        self.calls += 1
        return self.function(*self.inputs)


made: list[Replayed] = []


@pytest.fixture
def recording(monkeypatch):
    """As if this machine could record, where the recipe can be."""
    made.clear()
    can = batch.Batch._can_record

    def as_on_a_gpu(self):
        device, self.device = self.device, torch.device("cuda")
        try:
            return can(self)
        finally:
            self.device = device

    monkeypatch.setattr(batch.Batch, "_can_record", as_on_a_gpu)
    monkeypatch.setattr(batch, "Recorded", Replayed)


def run(model, recipe, **more):
    return [p for shot in ascend(model, UNITS, recipe, every=4, **more) for p in shot.finished]


@pytest.mark.parametrize("recipe", ["lsd", "lucid", "texture"])
def test_replayed_steps_make_the_same_pictures(demo, recipe, monkeypatch, request):
    recipe = replace(RECIPES[recipe], steps=32, redirect_steps=0, stages=((0.5, 0.5), (0.5, 1.0)))
    expected = run(demo("resnet"), recipe)
    request.getfixturevalue("recording")
    found = run(demo("resnet"), recipe)
    assert len(made) == 2  # one a stage
    assert sum(m.calls for m in made) >= 32 - 8 - 2  # but where pictures are looked for, and each stage's first
    for a, b in zip(expected, found, strict=True):
        assert np.array_equal(a.pixels, b.pixels) and a.trace == b.trace


@pytest.mark.parametrize("setting", [
    {"optimizer": "sgd"}, {"optimizer": "nadam"}, {"tolerance": 1e-9}, {"blur_every": 2, "blur": 0.01},
    {"transforms_end": SMALL.transforms},
], ids=str)  # fmt: skip
def test_steps_that_differ_from_each_other_are_not_recorded(demo, recording, setting):
    run(demo("resnet"), replace(SMALL, steps=16, redirect_steps=0, **setting))
    assert not made


def test_where_it_cannot_be_recorded_the_steps_are_taken_one_by_one(demo, recording, monkeypatch):
    recipe = replace(SMALL, steps=16, redirect_steps=0)
    expected = run(demo("resnet"), recipe)

    def refuse(*_):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(batch, "Recorded", refuse)
    with pytest.warns(UserWarning, match="kernel by kernel.*operation not permitted when stream is capturing$"):
        found = run(demo("resnet"), recipe)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(expected, found, strict=True))


def test_a_cpu_does_not_try(demo, monkeypatch):
    monkeypatch.setattr(batch, "Recorded", Replayed)
    made.clear()
    run(demo("resnet"), replace(SMALL, steps=12, redirect_steps=0))
    assert not made
