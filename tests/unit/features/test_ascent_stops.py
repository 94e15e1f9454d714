"""The loop on its way: what it shows, how it is stopped, who is done early, and what it does when memory gives out."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from ascent_fixture import QUICK, SMALL, likeness, pictures, run

from lsd.errors import UndefinedError
from lsd.features import networks
from lsd.features.ascent import ascend
from lsd.features.pictures import to_pixels
from lsd.features.prepare import prepare
from lsd.progress import listening
from lsd.tracing import run_to


def hooks(model):
    return [name for name, m in model.named_modules() if m._forward_hooks or m._forward_pre_hooks]


# Snapshots, progress, stopping


def test_snapshots_show_how_the_pictures_form(demo):
    shots = run(demo("resnet"), ["class/3", "class/4", "class/5"], replace(SMALL, steps=10), batch_size=2, every=4)
    assert [(s.step, s.done, len(s.jobs), len(s.finished)) for s in shots] == [
        (1, 0, 2, 0), (4, 0, 2, 0), (8, 0, 2, 0), (10, 2, 2, 2), (1, 2, 1, 0), (4, 2, 1, 0), (8, 2, 1, 0), (10, 3, 1, 1),
    ]  # fmt: skip
    for s in shots:
        assert s.images.shape == (len(s.jobs), 3, 96, 96) and s.images.min() >= 0 and s.images.max() <= 1
        assert s.total == 3 and s.steps == 10 and torch.isfinite(s.scores).all()
    assert not torch.equal(shots[0].images, shots[1].images)
    assert np.array_equal(to_pixels(shots[3].images)[0], shots[3].finished[0].pixels)
    assert shots[3].scores.tolist() == pytest.approx([p.trace[-1] for p in shots[3].finished])


def test_progress_rises_to_its_end(demo):
    heard = []
    with listening(lambda done, total: heard.append((done, total))):
        run(demo("resnet"), ["class/3", "class/4", "class/5"], replace(SMALL, steps=5), batch_size=2)
    assert [total for _, total in heard] == [15] * len(heard)
    done = [d for d, _ in heard]
    assert done == sorted(done) and done[0] == 2 and done[-1] == 15 and len(done) == 10


def test_closing_stops_the_work_and_leaves_the_model_alone(demo):
    model, heard = demo("resnet"), []
    recipe = replace(SMALL, steps=50, batch_norm=0.1)
    with listening(lambda done, _: heard.append(done)):
        snapshots = ascend(model, ["class/3"], recipe, every=2)
        next(snapshots), next(snapshots)
        snapshots.close()
    assert len(heard) == 2
    assert hooks(model) == [] and hooks(prepare(model, fold=False)) == []
    assert list(snapshots) == []
    assert model.lock.acquire(blocking=False)
    model.lock.release()


def test_a_listener_that_raises_stops_the_work(demo):
    class Stop(Exception):
        pass

    def stop(done, _total):
        if done >= 3:
            raise Stop

    model = demo("resnet")
    with pytest.raises(Stop), listening(stop):
        run(model, ["class/3"], replace(SMALL, batch_norm=0.1))
    assert hooks(model) == [] and hooks(prepare(model, fold=False)) == []


def test_the_model_stays_as_it_is(demo):
    model = demo("resnet")
    before = {n: t.clone() for n, t in model.state_dict().items()}
    run(model, ["class/3"], replace(SMALL, batch_norm=0.1, steps=3))
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters()) and not model.net.training


def test_progress_reaches_its_end_when_pictures_are_done_early(demo):
    heard = []
    with listening(lambda done, total: heard.append((done, total))):
        (picture,) = pictures(demo("resnet"), ["class/3"], replace(SMALL, steps=40, tolerance=1.0, patience=3))
    assert len(picture.trace) < 40 and heard[-1] == (40, 40)


# Pictures that are done before the others


def test_pictures_that_go_on_are_not_changed_by_those_that_are_done(precise):
    model, units = precise, ["layer1/channel/3 - layer1/channel/3", "layer3/channel/5", "layer1/layer - layer1/layer"]
    recipe = replace(QUICK, steps=30, tolerance=1e-6, patience=6, redirect_steps=0)
    still, rising, also_still = pictures(model, units, recipe)
    assert len(still.trace) == len(also_still.trace) == 7
    (alone,) = pictures(model, units[1:2], recipe)
    never = pictures(model, units, replace(recipe, tolerance=0.0))[1]
    assert len(rising.trace) == len(alone.trace) > 15
    assert likeness(rising, alone) >= 0.98
    np.testing.assert_allclose(rising.trace, never.trace[: len(rising.trace)], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("optimizer", ["adam", "nadam", "sgd"])
def test_who_goes_on_keeps_the_optimisers_memory(precise, optimizer):
    recipe = replace(SMALL, optimizer=optimizer, steps=20, tolerance=1e-6, patience=4, redirect_steps=0)
    still, rising = pictures(precise, ["class/3 - class/3", "class/5"], recipe)
    (alone,) = pictures(precise, ["class/5"], recipe)
    assert len(still.trace) == 5 and len(rising.trace) == 20
    np.testing.assert_allclose(rising.trace, alone.trace, rtol=1e-3, atol=1e-3)


def test_a_batch_that_is_all_done_ends(demo):
    recipe = replace(SMALL, steps=100, tolerance=0.01, patience=3, redirect_steps=0)
    shots = run(demo("resnet"), ["class/3 - class/3"], recipe)
    assert shots[-1].step == 4 and len(shots[-1].finished) == 1


# Memory


def test_too_large_a_batch_is_halved(demo, monkeypatch):
    model, units = demo("resnet"), ["class/3", "class/4", "class/5", "class/6", "class/7"]
    recipe, sizes = replace(SMALL, steps=4), []
    expected = pictures(model, units, recipe, batch_size=2)

    def scarce(network, images, taps):
        if len(images) > 2:
            raise torch.OutOfMemoryError("not enough")
        sizes.append(len(images))
        return run_to(network, images, taps)

    monkeypatch.setattr(networks, "run_to", scarce)
    found = pictures(model, units, recipe)
    assert set(sizes) == {2}  # the fifth picture, left alone, is shown twice
    for a, b in zip(found, expected, strict=True):
        assert a.job == b.job and np.array_equal(a.pixels, b.pixels)


def test_batches_can_be_given_one_by_one(demo):
    units = [f"class/{i}" for i in range(7)]
    shots = run(demo("resnet"), units, replace(SMALL, steps=1), batch_size=[1, 3, 2])
    assert [len(shot.jobs) for shot in shots] == [1, 3, 2, 1]
    with pytest.raises(UndefinedError, match="at least 1"):
        run(demo("resnet"), units, batch_size=[2, 0])


def test_memory_that_gives_out_in_the_middle_costs_no_picture(demo, monkeypatch):
    model, units = demo("resnet"), ["class/3", "class/4"]
    recipe, calls = replace(SMALL, steps=4), itertools.count()
    expected = pictures(model, units, recipe, batch_size=1)

    def scarce(network, images, taps):
        if len(images) > 1 and next(calls) == 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")
        return run_to(network, images, taps)

    monkeypatch.setattr(networks, "run_to", scarce)
    found = pictures(model, units, recipe)
    assert [p.job for p in found] == [p.job for p in expected]
    for a, b in zip(found, expected, strict=True):
        assert np.array_equal(a.pixels, b.pixels) and len(a.trace) == 4


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no"), MemoryError(), RuntimeError("something else")])
def test_what_cannot_be_halved_is_raised(demo, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(networks, "run_to", fail)
    with pytest.raises(type(error)):
        pictures(demo("resnet"), ["class/3"], replace(SMALL, steps=2))
