"""The loop: what it climbs, and what its pictures depend on and what not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ascent_fixture import MOVES, QUICK, SMALL, likeness, pictures, run
from skimage.metrics import structural_similarity
from torch import nn

from lsd.features import judge, objectives, parameterizations, transforms
from lsd.features.objectives import evaluate
from lsd.features.pictures import Job, generator, to_pixels
from lsd.features.prepare import prepare
from lsd.features.recipes import RECIPES
from lsd.features.regularizers import BatchNormStatistics
from lsd.features.soften import Softening, soften
from lsd.features.transforms import Transforms
from lsd.features.units import parse
from lsd.tracing import run_to

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


def sides_shown(monkeypatch, model, units, **settings):
    """Unit by unit, the sides of what the network was shown, without repetition."""
    shown, apply = [], transforms.apply
    monkeypatch.setattr(transforms, "apply", lambda *a: shown.append(a[3][0]) or apply(*a))
    found = {}
    for unit in units:
        shown.clear()
        (picture,) = pictures(
            model, [unit], replace(QUICK, steps=12, stages=((0.5, 0.5, 0.5), (0.5, 1.0, 1.0)), **settings)
        )
        assert picture.status == "ok" and picture.pixels.shape[:2] == (96, 96) and len(picture.trace) == 12
        found[unit] = list(dict.fromkeys(shown))
    return found


def test_a_coarse_stage_may_show_the_network_less(demo, monkeypatch):
    """But not where a unit means a place, which would be another one."""
    found = sides_shown(monkeypatch, demo("resnet"), ["class/3", "layer2/channel/5", "layer2/neuron/5/3/3"])
    assert found == {"class/3": [48, 96], "layer2/channel/5": [48, 96], "layer2/neuron/5/3/3": [96]}


def test_units_with_and_without_a_place_share_no_batch(demo):
    recipe = replace(QUICK, steps=8, stages=((0.5, 0.5, 0.5), (0.5, 1.0, 1.0)))
    units = ["class/3", "layer2/neuron/5/3/3", "class/5"]
    together = pictures(demo("resnet"), units, recipe)
    assert [str(p.job.unit) for p in together] == units
    for unit, picture in zip(units, together, strict=True):
        (alone,) = pictures(demo("resnet"), [unit], recipe)
        assert likeness(picture, alone) >= 0.98


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
    (small,) = pictures(model, ["class/1"], replace(SMALL, steps=1, size=20))
    assert small.pixels.shape == (12, 20, 3)  # the longer side is what is asked for, and nothing is stretched


# Regularizers in the loop


def test_diversity_makes_seeds_more_different(demo):
    model, seeds = demo("resnet"), (0, 1, 2)
    recipe = replace(QUICK, steps=40, diversity_layer="layer3")
    plain = pictures(model, ["layer3/channel/5"], recipe, seeds)
    apart = pictures(model, ["layer3/channel/5"], replace(recipe, diversity=20.0), seeds)
    before, after = (judge.spread([p.pixels for p in found], model, "layer3") for found in (plain, apart))
    assert after > before + 0.02


def test_diversity_does_not_part_a_picture_from_its_own_views(demo):
    """A picture that is alone has nothing to differ from, however many views of it are shown."""
    recipe = replace(QUICK, steps=8, transforms=replace(MOVES, views=3))
    (plain,) = pictures(demo("resnet"), ["layer3/channel/5"], recipe)
    (alone,) = pictures(demo("resnet"), ["layer3/channel/5"], replace(recipe, diversity=20.0, diversity_layer="layer3"))
    assert np.array_equal(alone.pixels, plain.pixels)


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
