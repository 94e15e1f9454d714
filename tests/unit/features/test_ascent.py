"""The loop: what it climbs, what it depends on and what not, how it stops, and what it says of units that do not answer."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import nn

from lsd.errors import UndefinedError
from lsd.features import batch, judge, objectives, parameterizations, transforms
from lsd.features.ascent import ascend
from lsd.features.objectives import evaluate
from lsd.features.pictures import Job, generator, to_pixels
from lsd.features.prepare import prepare
from lsd.features.recipes import RECIPES, Recipe
from lsd.features.regularizers import BatchNormStatistics
from lsd.features.soften import Softening, soften
from lsd.features.transforms import Transforms
from lsd.features.units import parse
from lsd.layers import run_to
from lsd.models import load_model
from lsd.progress import listening

MOVES = Transforms(shift=0.05, rotate=5.0, zoom=(0.95, 1.05))
QUICK = Recipe(steps=24, output="logit", transforms=MOVES)
SMALL = Recipe(steps=12, output="logit", parameterization="pixels", sd=0.1, learning_rate=0.05)


def run(model, units, recipe=QUICK, seeds=(0,), **more):
    return list(ascend(model, units, recipe, seeds, **more))


def pictures(model, units, recipe=QUICK, seeds=(0,), **more):
    """The finished pictures, in the order in which they were asked for."""
    return [p for snapshot in ascend(model, units, recipe, seeds, **more) for p in snapshot.finished]


def likeness(a, b):
    return structural_similarity(a.pixels, b.pixels, channel_axis=2)


def far_apart(a, b):
    return np.abs(a.pixels.astype(int) - b.pixels).mean()


def hooks(model):
    return [name for name, m in model.named_modules() if m._forward_hooks or m._forward_pre_hooks]


class Gate(nn.Module):
    """Channels behind a ReLU: the first can never open, the second starts below zero, the third is open."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.act = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()
        with torch.no_grad():
            self.conv.weight.normal_(std=0.2)
            self.conv.bias.copy_(torch.tensor([-1e6, 0.0, 1.0]))
            # Grey gives the second channel just below zero, and the noise of the start cannot lift it.
            self.conv.bias[1] = -0.5 * self.conv.weight[1].sum() - 0.3

    def forward(self, x):
        return self.act(self.conv(x)).mean((2, 3))


@pytest.fixture
def gate(wrap):
    return wrap(Gate(), 16).float()


@pytest.fixture(scope="module")
def precise():
    """demo:resnet in double precision."""
    return load_model("demo:resnet", device="cpu").double()


# Climbing


@pytest.mark.parametrize("name, unit", [
    ("resnet", "class/3"), ("resnet", "contrast/1/2"), ("resnet", "layer3/channel/5"), ("resnet", "layer2/neuron/3/5/7"),
    ("resnet", "layer2/position/6/6"), ("resnet", "layer3/direction/1:1,2:-1"), ("resnet", "layer3/layer"),
    ("resnet", "class/3 + 0.5 * layer3/channel/5"), ("vit", "blocks.1.attn/head/0"), ("vit", "blocks.1/channel/3"),
    ("vit", "class/2"), ("convnext", "class/2"), ("convnext", "stages.1/channel/3"),
])  # fmt: skip
def test_every_kind_of_unit_rises(demo, name, unit):
    (picture,) = pictures(demo(name), [unit])
    assert picture.status == "ok" and picture.restarts == 0 and len(picture.trace) == 24
    start, end = np.mean(picture.trace[:3]), np.mean(picture.trace[-3:])
    assert end > start + 0.2 * max(abs(start), np.std(picture.trace)) and np.isfinite(picture.score)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_rises(demo, name):
    recipe = RECIPES[name]
    few = {"views": min(recipe.transforms.views, 2)}
    recipe = replace(recipe, steps=60, transforms=replace(recipe.transforms, **few),
                     transforms_end=recipe.transforms_end and replace(recipe.transforms_end, **few))  # fmt: skip
    (picture,) = pictures(demo("resnet"), ["class/3"], recipe)
    (still,) = pictures(demo("resnet"), ["class/3"], replace(recipe, learning_rate=1e-8))  # the same chance, no ascent
    assert picture.status == "ok" and np.mean(picture.trace[-5:]) > np.mean(still.trace[-5:]) + 0.1
    assert picture.pixels.shape == (96, 96, 3) and picture.pixels.dtype == np.uint8 and picture.pixels.std() > 4


def test_a_texture_has_no_frame(demo):
    units = [f"layer2.0/channel/{i}" for i in (3, 5, 9, 12)]
    framed, texture = (
        [judge.edge_detail(p.pixels) for p in pictures(demo("resnet"), units, replace(RECIPES[name], steps=64))]
        for name in ("lsd", "texture")
    )
    assert np.mean(framed) < 0.7 and np.mean(texture) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("optimizer", ["adam", "nadam", "sgd"])
def test_every_optimiser_rises(demo, optimizer):
    (picture,) = pictures(demo("resnet"), ["class/3"], replace(SMALL, optimizer=optimizer))
    assert picture.trace[-1] > picture.trace[0] + 1


def test_a_few_steps_by_hand(precise):
    """Pixels, sigmoid, Adam, no views: the same pictures as a plain loop over the model itself."""
    model, units = precise, ["class/3", "class/5"]
    p = parameterizations.make("pixels", (96, 96))
    numbers = torch.cat([p.noise([generator(Job(parse(u), 0), "start")], 0.1) for u in units]).requires_grad_(True)
    optimizer, trace = torch.optim.Adam([numbers], lr=0.05), []
    for _ in range(SMALL.steps):
        logits = model(torch.sigmoid(numbers).double())
        values = logits[[0, 1], [3, 5]]
        optimizer.zero_grad()
        (-values.sum()).backward()
        optimizer.step()
        trace.append(values.detach())
    expected = to_pixels(torch.sigmoid(numbers.detach()))
    found = pictures(model, units, SMALL)
    for i in range(2):
        np.testing.assert_allclose(found[i].trace, [v[i].item() for v in trace], atol=1e-4)
        assert np.abs(found[i].pixels.astype(int) - expected[i]).mean() < 0.05


def test_views_are_averaged(demo):
    """What is reported of a step is the mean over its views."""
    model, unit = demo("resnet"), parse("class/3")
    recipe = replace(SMALL, steps=1, transforms=Transforms(views=3, shift=0.2))
    (picture,) = pictures(model, [unit], recipe)
    p = parameterizations.make("pixels", (96, 96))
    image = p.decode(p.noise([generator(Job(unit, 0), "start")], recipe.sd))
    drawn = transforms.draw(recipe.transforms, [generator(Job(unit, 0), "views")])
    with torch.no_grad():
        values = model(transforms.apply(recipe.transforms, drawn, image, (96, 96)))[:, 3]
    assert values.std() > 1e-3 and picture.trace[0] == pytest.approx(values.mean().item(), abs=1e-5)


def test_the_score_is_the_objective_at_the_pixels_that_are_kept(demo):
    model, units = demo("resnet"), ["class/3", "layer3/channel/5"]
    for unit, picture in zip(units, pictures(model, units), strict=True):
        unit = parse(unit)
        found = run_to(model, judge.to_batch([picture.pixels], model), [objectives.tap(unit)])
        assert picture.score == pytest.approx(evaluate([unit], {"": model}, {"": found}, "logit").item(), rel=1e-3)


# What a picture depends on, and what not


def test_the_same_call_gives_the_same_pictures_bit_by_bit(demo):
    model, units = demo("resnet"), ["class/3", "layer2/channel/7"]
    noisy = replace(QUICK, steps=12, transforms=replace(MOVES, views=2, noise=0.1, flip=True, fill="random"))
    first, second = (pictures(model, units, noisy, (0, 1)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.pixels, b.pixels) and a.trace == b.trace and a.score == b.score


def test_a_picture_does_not_depend_on_the_batch_it_is_in(demo):
    """In other orders, with other neighbours and alone, after a hundred steps."""
    model, recipe = demo("resnet"), replace(QUICK, steps=100, transforms=replace(MOVES, noise=0.05))
    first, second = "class/3", "layer3/channel/5"
    a, b = pictures(model, [first, second], recipe)
    _, other_b, other_a = pictures(model, ["layer1/layer", second, first], recipe)
    (alone,) = pictures(model, [second], recipe)
    assert likeness(a, other_a) >= 0.98 and likeness(b, other_b) >= 0.98 and likeness(b, alone) >= 0.98


def test_batches_do_not_change_the_pictures(demo):
    model, units = demo("resnet"), ["class/3", "class/4", "layer2/channel/5", "layer2/channel/6"]
    together, apart = pictures(model, units), pictures(model, units, batch_size=2)
    assert [p.job for p in together] == [p.job for p in apart]
    for a, b in zip(together, apart, strict=True):
        assert likeness(a, b) >= 0.98


def test_seeds_differ(demo):
    zero, one = pictures(demo("resnet"), ["class/3"], seeds=(0, 1))
    again, _ = pictures(demo("resnet"), ["class/3"], seeds=(1, 2))
    assert (zero.job.seed, one.job.seed) == (0, 1)
    assert likeness(one, again) >= 0.98 and likeness(zero, one) < 0.9


@pytest.mark.parametrize("other", [
    generator(Job(parse("class/3"), 1), "start"), generator(Job(parse("class/4"), 0), "start"),
    generator(Job(parse("class/3"), 0), "views"), generator(Job(parse("class/3"), 0), "start", 1),
])  # fmt: skip
def test_chance_depends_on_unit_seed_purpose_and_attempt(other):
    ours = generator(Job(parse("class/3"), 0), "start")
    again = generator(Job(parse("class/3"), 0), "start")
    numbers = torch.rand(5, generator=ours)
    assert torch.equal(numbers, torch.rand(5, generator=again))
    assert not torch.equal(numbers, torch.rand(5, generator=other))


def test_jobs_come_unit_by_unit(demo):
    found = pictures(demo("resnet"), ["class/3", "class/1"], replace(SMALL, steps=2), (5, 4), batch_size=3)
    assert [(str(p.job.unit), p.job.seed) for p in found] == [
        ("class/3", 5), ("class/3", 4), ("class/1", 5), ("class/1", 4),
    ]  # fmt: skip


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

    monkeypatch.setattr(batch, "run_to", scarce)
    found = pictures(model, units, recipe)
    assert set(sizes) == {2}  # the fifth picture, left alone, is shown twice
    for a, b in zip(found, expected, strict=True):
        assert a.job == b.job and np.array_equal(a.pixels, b.pixels)


def test_memory_that_gives_out_in_the_middle_costs_no_picture(demo, monkeypatch):
    model, units = demo("resnet"), ["class/3", "class/4"]
    recipe, calls = replace(SMALL, steps=4), itertools.count()
    expected = pictures(model, units, recipe, batch_size=1)

    def scarce(network, images, taps):
        if len(images) > 1 and next(calls) == 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")
        return run_to(network, images, taps)

    monkeypatch.setattr(batch, "run_to", scarce)
    found = pictures(model, units, recipe)
    assert [p.job for p in found] == [p.job for p in expected]
    for a, b in zip(found, expected, strict=True):
        assert np.array_equal(a.pixels, b.pixels) and len(a.trace) == 4


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no"), MemoryError(), RuntimeError("something else")])
def test_what_cannot_be_halved_is_raised(demo, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(batch, "run_to", fail)
    with pytest.raises(type(error)):
        pictures(demo("resnet"), ["class/3"], replace(SMALL, steps=2))


@pytest.mark.parametrize("gradient", [Softening(), Softening(0.5, 0.2)])
def test_the_gradient_is_as_gentle_as_the_recipe_says_from_the_first_step(demo, gradient):
    model, unit = demo("resnet"), parse("class/3")
    recipe = replace(SMALL, steps=1, optimizer="sgd", learning_rate=0.5, gradient=gradient)
    (picture,) = pictures(model, [unit], recipe)
    start = parameterizations.make("pixels", (96, 96)).noise([generator(Job(unit, 0), "start")], recipe.sd)
    numbers = start.requires_grad_(True)
    images = torch.sigmoid(numbers)
    outputs = prepare(model)(images)
    soften(gradient, [outputs], images)
    (flow,) = torch.autograd.grad(outputs[0, 3], numbers)
    expected = to_pixels(torch.sigmoid(numbers + 0.5 * flow / flow.norm() * flow.numel() ** 0.5).detach())[0]
    apart = abs(expected.astype(int) - picture.pixels)
    assert apart.max() <= 1 and abs(expected.astype(int) - to_pixels(images.detach())[0]).max() > 20


# Units that do not answer


def test_a_unit_that_can_never_open_is_called_dead(gate):
    recipe = replace(SMALL, steps=40, redirect_steps=8, sd=0.01)
    dead, live = pictures(gate, ["act/channel/0", "act/channel/2"], recipe)
    assert dead.status == "dead" and dead.score == 0 and dead.restarts == 2 and set(dead.trace) == {0.0}
    assert live.status == "ok" and live.restarts == 0


def test_what_leaks_past_a_closed_unit_does_not_bring_it_to_life(gate):
    """The leak moves the picture, which says nothing of whether the unit responds; nor do its neighbours notice."""
    recipe = replace(SMALL, steps=40, redirect_steps=8, sd=0.01, gradient=Softening(leak=0.2))
    dead, live = pictures(gate, ["act/channel/0", "act/channel/2"], recipe)
    assert dead.status == "dead" and dead.restarts == 2 and live.status == "ok"
    (alone,) = pictures(gate, ["act/channel/2"], recipe)
    assert likeness(alone, live) > 0.98


@pytest.mark.parametrize("unit", ["act/channel/1", "act/neuron/1/8/8"])
def test_a_unit_that_starts_shut_is_opened(gate, unit):
    recipe = replace(SMALL, steps=60, redirect_steps=16, sd=0.0)
    (picture,) = pictures(gate, [unit], recipe)
    assert picture.trace[0] == 0 and picture.trace[-1] > 0.05 and picture.score > 0.05 and picture.status == "ok"
    (left,) = pictures(gate, [unit], replace(recipe, redirect_steps=0, steps=8))
    assert left.trace[-1] == 0 and left.status == "dead"  # without help it stays shut


def test_units_that_answer_are_not_redirected(gate):
    """The neighbour of one that is opened climbs as it does alone."""
    recipe = replace(SMALL, steps=30, redirect_steps=16, sd=0.0)
    _, live = pictures(gate, ["act/channel/1", "act/channel/2"], recipe)
    (alone,) = pictures(gate, ["act/channel/2"], recipe)
    np.testing.assert_allclose(live.trace, alone.trace, rtol=1e-5)


@pytest.mark.parametrize("recipe", ["lsd", "texture"])
def test_neighbours_of_a_unit_that_starts_shut_are_as_without_it(demo, recipe):
    """With all that the shipped recipes do: views, stages, gentler gradients."""
    units, recipe = ["class/3", "layer3/channel/5"], replace(RECIPES[recipe], steps=32)
    *beside, opened = pictures(demo("resnet"), [*units, "layer4/channel/15"], recipe)
    assert opened.trace[0] == 0 and opened.status == "ok"  # at the first step no gradient reaches it
    without = pictures(demo("resnet"), units, recipe)
    for a, b in zip(beside, without, strict=True):
        assert likeness(a, b) >= 0.98


class Broken(nn.Module):
    """The second class is no number for any picture."""

    def forward(self, x):
        z = x.mean((2, 3))
        return torch.stack([z[:, 0], torch.log(-z[:, 1].abs() - 1)], 1)


class Steep(nn.Module):
    """The root of zero has a value, and no slope."""

    def forward(self, x):
        return (x - x.detach()).sqrt().mean((2, 3))


def test_numbers_out_of_range_are_called_failed_and_reach_nobody_else(wrap):
    recipe = replace(SMALL, redirect_steps=4, steps=20)
    good, bad = pictures(wrap(Broken(), 16, classes=2).float(), ["logit/0", "logit/1"], recipe)
    (steep,) = pictures(wrap(Steep(), 16).float(), ["logit/0"], recipe)
    assert bad.status == steep.status == "failed"
    assert good.status == "ok" and good.trace[-1] > good.trace[0] and np.isfinite(good.score)


# Sizes and stages


def test_stages_go_from_coarse_to_fine(demo, monkeypatch):
    made, make = [], parameterizations.make
    monkeypatch.setattr(
        parameterizations, "make", lambda kind, size, **more: made.append(size) or make(kind, size, **more)
    )
    recipe = replace(QUICK, steps=20, stages=((0.25, 0.25), (0.25, 0.5), (0.5, 1.0)))
    shots = run(demo("resnet"), ["class/3"], recipe, every=1)
    assert made == [(24, 24), (48, 48), (96, 96)]
    assert all(s.images.shape[2:] == (96, 96) for s in shots)
    trace = shots[-1].finished[0].trace
    assert len(trace) == 20 and trace[-1] > trace[0] + 0.2
    for at in (5, 10):  # the picture goes on where it was
        before, after = (to_pixels(shots[i].images)[0] for i in (at - 1, at))
        assert structural_similarity(before, after, channel_axis=2) > 0.7


@pytest.mark.parametrize("parameterization", parameterizations.KINDS)
def test_stages_keep_what_was_found(demo, parameterization):
    recipe = replace(
        QUICK, steps=24, parameterization=parameterization, stages=((0.5, 0.5), (0.5, 1.0)), transforms=Transforms(),
        sd=1.0 if parameterization == "maco" else 0.1,
    )  # fmt: skip
    (picture,) = pictures(demo("resnet"), ["class/3"], recipe)
    before, after = np.mean(picture.trace[9:12]), np.mean(picture.trace[13:16])
    assert after > picture.trace[0] and after > before - 0.6 * (before - picture.trace[0])


def test_pictures_have_the_size_that_is_asked_for(demo):
    (picture,) = pictures(demo("resnet"), ["class/3"], replace(SMALL, steps=2, size=40))
    assert picture.pixels.shape == (40, 40, 3)


def test_a_network_that_takes_no_squares_gets_none(wrap):
    model = wrap(nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 8).float()
    model.spec = type(model.spec)(24, 40, 1.0, "center", "bicubic")
    (picture,) = pictures(model, ["class/1"], replace(SMALL, transforms=MOVES, steps=5))
    assert picture.pixels.shape == (24, 40, 3) and picture.trace[-1] > picture.trace[0]


# Photos


def photo(size=96, seed=0):
    small = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, (size, size), mode="bicubic").clamp(0.02, 0.98)


@pytest.mark.parametrize("parameterization", ["pixels", "fourier"])
def test_a_start_from_a_photo_is_the_photo(demo, parameterization):
    recipe = replace(SMALL, parameterization=parameterization, steps=1, learning_rate=1e-6)
    (picture,) = pictures(demo("resnet"), ["layer2/layer"], recipe, photo=photo(), start_from_photo=True)
    assert np.abs(picture.pixels / 255 - photo()[0].permute(1, 2, 0).numpy()).max() < 0.01


def test_a_start_from_a_photo_keeps_its_detail_under_coarse_stages(demo):
    detailed = (photo() + 0.3 * (torch.arange(96) % 2 - 0.5)).clamp(0.02, 0.98)  # stripes a pixel wide
    recipe = replace(SMALL, parameterization="fourier", steps=4, learning_rate=1e-6, stages=((0.5, 0.5), (0.5, 1.0)))
    (picture,) = pictures(demo("resnet"), ["layer2/layer"], recipe, photo=detailed, start_from_photo=True)
    assert np.abs(picture.pixels / 255 - detailed[0].permute(1, 2, 0).numpy()).max() < 0.01


def test_a_photo_of_another_size_is_resized(demo):
    recipe = replace(SMALL, steps=1, learning_rate=1e-6)
    (picture,) = pictures(demo("resnet"), ["layer2/layer"], recipe, photo=photo(150), start_from_photo=True)
    assert np.abs(picture.pixels / 255 - photo(150 - 54)[0].permute(1, 2, 0).numpy()).mean() < 0.02


def test_from_a_photo_a_layer_is_made_stronger(demo):
    """DeepDream."""
    (picture,) = pictures(demo("resnet"), ["layer2/layer"], SMALL, photo=photo(), start_from_photo=True)
    assert picture.trace[-1] > 1.2 * picture.trace[0]


def test_an_inversion_comes_nearer_to_the_photo(demo):
    recipe = replace(SMALL, steps=60, parameterization="fourier", sd=0.01)
    (picture,) = pictures(demo("resnet"), ["layer1/inversion"], recipe, photo=photo())
    assert picture.trace[0] < -0.3 and picture.trace[-1] > 0.4 * picture.trace[0]  # 0 is the photo itself


def test_a_caricature_goes_beyond_the_photo(demo):
    (picture,) = pictures(demo("resnet"), ["layer2/caricature"], SMALL, photo=photo(), start_from_photo=True)
    assert picture.trace[0] == pytest.approx(1, abs=0.02) and picture.trace[-1] > 1.1


@pytest.mark.parametrize("unit, more", [
    ("layer2/inversion", {}), ("class/1 + layer2/caricature", {}), ("class/1", {"start_from_photo": True}),
])  # fmt: skip
def test_without_a_photo_what_needs_one_is_refused(demo, unit, more):
    with pytest.raises(UndefinedError, match="need a photo; give one"):
        next(ascend(demo("resnet"), [unit], SMALL, **more))


# Several models


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


# Regularizers in the loop


def test_diversity_makes_seeds_more_different(demo):
    model, seeds = demo("resnet"), (0, 1, 2)
    recipe = replace(QUICK, steps=40, diversity_layer="layer3")
    plain = pictures(model, ["layer3/channel/5"], recipe, seeds)
    apart = pictures(model, ["layer3/channel/5"], replace(recipe, diversity=20.0), seeds)
    before, after = (judge.spread([p.pixels for p in found], model, "layer3") for found in (plain, apart))
    assert after > before + 0.02


def test_the_seeds_of_a_unit_stay_together_for_diversity(demo):
    recipe = replace(SMALL, steps=2, diversity=1.0, diversity_layer="layer2")
    shots = run(demo("resnet"), ["class/1", "class/2"], recipe, (0, 1, 2), batch_size=4)
    assert [len(s.jobs) for s in shots if s.finished] == [3, 3]


def fine_detail(pixels):
    return judge.fine_energy(pixels) * pixels.std()


@pytest.mark.parametrize("setting, measure", [
    ({"tv": 20.0}, fine_detail), ({"spectral": 2000.0}, fine_detail),
    ({"l2": 200.0}, np.std), ({"l1": 50.0}, np.std), ({"pixel_decay": 0.1}, np.std),
    ({"blur_every": 4, "blur": 0.02}, fine_detail),
], ids=lambda value: getattr(value, "__name__", str(value)))  # fmt: skip
def test_each_regularizer_does_what_it_is_for(demo, setting, measure):
    model, recipe = demo("resnet"), replace(SMALL, steps=16)
    (plain,) = pictures(model, ["class/3"], recipe)
    (held,) = pictures(model, ["class/3"], replace(recipe, **setting))
    assert measure(held.pixels) < 0.8 * measure(plain.pixels)


def test_batch_norm_statistics_come_nearer(demo):
    model = demo("resnet")
    off = []
    for weight in (0.0, 30.0):
        (picture,) = pictures(model, ["class/3"], replace(QUICK, steps=30, batch_norm=weight))
        with BatchNormStatistics(model, 1) as norms, torch.no_grad():
            model(judge.to_batch([picture.pixels], model))
        off.append(norms.value.item())
    assert off[1] < 0.8 * off[0]


def test_batch_norms_are_not_asked_of_networks_without_any(demo):
    (picture,) = pictures(demo("vit"), ["class/3"], replace(SMALL, steps=2, batch_norm=1.0))
    assert picture.status == "ok"


def test_half_precision_climbs_too(demo):
    (picture,) = pictures(demo("resnet"), ["class/3"], SMALL, half=True)
    assert picture.trace[-1] > picture.trace[0] + 1


def test_nothing_asked_is_nothing_done(demo):
    assert run(demo("resnet"), []) == [] and run(demo("resnet"), ["class/3"], seeds=()) == []


def test_progress_reaches_its_end_when_pictures_are_done_early(demo):
    heard = []
    with listening(lambda done, total: heard.append((done, total))):
        (picture,) = pictures(demo("resnet"), ["class/3"], replace(SMALL, steps=40, tolerance=1.0, patience=3))
    assert len(picture.trace) < 40 and heard[-1] == (40, 40)
