"""Recipes as data: JSON and back, hashes, what is refused, schedules of size and learning rate, changes by text."""

import json
import math
from dataclasses import fields, replace

import pytest

from lsd.errors import LSDError, UndefinedError
from lsd.features.recipes import DEFAULT, EFFORTS, RECIPES, Recipe, Stage, at_effort, changed, described, find_recipe
from lsd.features.soften import Softening
from lsd.features.transforms import Transforms

EXPLICIT = Recipe(
    "x", size=224, steps=100, output="logit", parameterization="pixels", squash="clamp", decay_power=1.5, sd=0.2,
    optimizer="nadam", learning_rate=0.1, betas=(0.5, 0.9), schedule="cosine", warmup=0.1,
    transforms=Transforms(2, 0.1, 0.2, 10.0, (0.9, 1.1), True, "random", 0.1, 0.05, 0.3, 0.4),
    transforms_end=Transforms(), stages=((0.5, 0.5), (0.5, 1.0)), redirect_steps=16, tv=1.0, tv_power=2.0, l2=0.1,
    l1=0.2, spectral=0.3, batch_norm=0.4, diversity=0.5, diversity_layer="layer3", blur_every=8, blur=0.01,
    pixel_decay=0.01, tolerance=0.001, patience=32,
)  # fmt: skip
OTHER = {
    "size": 192, "steps": 101, "output": "log_odds", "parameterization": "fourier", "squash": "sigmoid",
    "decay_power": 1.4, "sd": 0.3, "optimizer": "adam", "learning_rate": 0.2, "betas": (0.5, 0.8), "schedule": "linear",
    "warmup": 0.2, "transforms": Transforms(2), "transforms_end": None, "stages": ((0.25, 0.5), (0.75, 1.0)),
    "redirect_steps": 17, "tv": 2.0, "tv_power": 1.0, "l2": 0.2, "l1": 0.3, "spectral": 0.4, "batch_norm": 0.5,
    "diversity": 0.6, "diversity_layer": "layer4", "blur_every": 9, "blur": 0.02, "pixel_decay": 0.02,
    "tolerance": 0.002, "patience": 33, "gradient": Softening(0.5), "contrast": 1.2, "rate_power": 0.5,
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json(name):
    recipe = RECIPES[name]
    again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe and again.name == name and again.hash == recipe.hash
    assert find_recipe(name) is recipe


def test_a_recipe_with_everything_survives_json():
    again = Recipe.from_dict(json.loads(json.dumps(EXPLICIT.to_dict())))
    assert again == EXPLICIT and again.transforms == EXPLICIT.transforms and again.stages == EXPLICIT.stages


def test_what_is_missing_takes_its_default():
    assert Recipe.from_dict({}) == Recipe()
    assert Recipe.from_dict({"transforms": {"views": 3}}).transforms == Transforms(views=3)


def test_the_hash_is_the_same_everywhere_and_always():
    """Written down, so that results that were stored are found again: change it only with what recipes mean."""
    assert EXPLICIT.hash == "7ff59f8d0ffd"
    assert replace(EXPLICIT, gradient=Softening(0.5, 0.1)).hash == "d24a06e3f043"


def test_a_stage_on_the_whole_input_is_written_as_before_there_were_smaller_ones():
    recipe = Recipe(stages=((0.5, 0.5, 0.75), (0.5, 1.0, 1.0)))
    assert recipe.to_dict()["stages"] == [[0.5, 0.5, 0.75], [0.5, 1.0]]
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert Recipe(stages=((1.0, 1.0, 1.0),)).hash == Recipe(stages=((1.0, 1.0),)).hash


@pytest.mark.parametrize("name", ["name", "about"])
def test_the_hash_does_not_depend_on_what_a_recipe_is_called(name):
    assert replace(EXPLICIT, **{name: "y"}).hash == EXPLICIT.hash
    assert replace(EXPLICIT, **{name: "y"}) == EXPLICIT


@pytest.mark.parametrize("name", [f.name for f in fields(Recipe) if f.name not in ("name", "about")])
def test_the_hash_depends_on_every_setting(name):
    assert replace(EXPLICIT, **{name: OTHER[name]}).hash != EXPLICIT.hash


@pytest.mark.parametrize("field", [f.name for f in fields(Transforms)])
def test_the_hash_depends_on_every_setting_of_the_transforms(field):
    other = {"views": 3, "flip": False, "fill": "grey", "zoom": (0.8, 1.1)}.get(field, 0.6)
    assert replace(EXPLICIT, transforms=replace(EXPLICIT.transforms, **{field: other})).hash != EXPLICIT.hash


def test_equal_recipes_have_equal_hashes():
    whole = Recipe(tv=1, sd=0, learning_rate=1, transforms=Transforms(shift=0, rotate=5, zoom=(1, 2)), stages=((1, 1),))
    decimal = Recipe(tv=1.0, sd=0.0, learning_rate=1.0, transforms=Transforms(rotate=5.0, zoom=(1.0, 2.0)))
    assert whole == decimal and whole.hash == decimal.hash


def test_named_recipes_differ():
    assert len({recipe.hash for recipe in RECIPES.values()}) == len(RECIPES)
    assert DEFAULT in RECIPES and all(name == recipe.name for name, recipe in RECIPES.items())


# What is refused


@pytest.mark.parametrize("values, words", [
    ({"stepz": 3}, "“stepz” is not a setting of a recipe; there are name, .* size, steps"),
    ({"transforms": {"jitter": 3}}, "“jitter” is not a setting of a transform; there are views, shift"),
    ({"transforms_end": {"jitter": 3}}, "“jitter” is not a setting"),
    ([], "is a table"), (None, "is a table"),
    ({"size": "big"}, "size"), ({"size": 8}, "size"), ({"size": 4000}, "size"), ({"size": 224.5}, "size is a whole"),
    ({"size": True}, "size"),
    ({"steps": 0}, "steps"), ({"steps": 2.5}, "steps is a whole number"), ({"steps": "many"}, "steps"),
    ({"steps": None}, "steps"), ({"steps": True}, "steps"), ({"steps": 10**9}, "steps"),
    ({"output": "loss"}, "no output “loss”; choose one of"), ({"parameterization": "dct"}, "no parameterization “dct”"),
    ({"squash": "tanh"}, "no squash"), ({"optimizer": "lbfgs"}, "no optimizer “lbfgs”"),
    ({"schedule": "step"}, "no schedule"), ({"schedule": ["cosine"]}, "no schedule"),
    ({"learning_rate": 0}, "learning_rate"), ({"learning_rate": float("nan")}, "learning_rate"),
    ({"learning_rate": float("inf")}, "learning_rate"), ({"decay_power": -1}, "decay_power"), ({"sd": -1}, "sd"),
    ({"sd": "0.1"}, "sd"), ({"warmup": 1.1}, "warmup"), ({"redirect_steps": -1}, "redirect_steps"),
    ({"redirect_steps": 1.5}, "redirect_steps is a whole"), ({"tv": -1}, "tv"), ({"tv_power": 0.5}, "tv_power"),
    ({"l1": -1}, "l1"), ({"l2": -1}, "l2"), ({"spectral": -1}, "spectral"), ({"batch_norm": -1}, "batch_norm"),
    ({"diversity": -1, "diversity_layer": "x"}, "diversity"), ({"diversity": 1.0}, "needs a diversity_layer"),
    ({"diversity_layer": 3}, "diversity_layer"), ({"blur_every": 0.5}, "blur_every"), ({"blur": 0.6}, "blur"),
    ({"pixel_decay": 2}, "pixel_decay"), ({"tolerance": 2}, "tolerance"), ({"patience": 0}, "patience"),
    ({"betas": [0.9, 1.0]}, "betas"), ({"betas": [0.9]}, "betas"), ({"betas": [-0.1, 0.9]}, "betas"),
    ({"betas": [0.9, float("nan")]}, "betas"), ({"betas": 0.9}, "wrong kind"), ({"betas": ["a", "b"]}, "wrong kind"),
    ({"stages": []}, "stages"), ({"stages": [[0.5, 1.0]]}, "must add up to 1"),
    ({"stages": [[0.5, 1.0], [0.5, 0.5]]}, "the last one's side is 1"),
    ({"stages": [[1.0, 1.0, 0.1]]}, "input is a fraction"), ({"stages": [[1.0, 1.0, 2.0]]}, "input is a fraction"),
    ({"stages": [[1.0, 1.0, 1.0, 1.0]]}, "wrong kind"), ({"contrast": -1}, "contrast"), ({"rate_power": 3}, "rate_power"),
    ({"stages": [[0.5, 0.01], [0.5, 1.0]]}, "side of 0.05 to 1"), ({"stages": [[1.5, 1.0], [-0.5, 1.0]]}, "above 0"),
    ({"stages": [[float("nan"), 1.0]]}, "must add up"), ({"stages": [1.0]}, "wrong kind"), ({"stages": 1}, "wrong kind"),
    ({"transforms": 3}, "transforms cannot be 3"), ({"transforms": None}, "transforms cannot be None"),
    ({"transforms_end": 3}, "transforms_end cannot be 3"), ({"transforms": {"views": 0}}, "number of views"),
    ({"transforms": {"zoom": 1.0}}, "wrong kind"), ({"transforms": {"shift": "far"}}, "wrong kind"),
    ({"name": 3}, "name cannot be 3"),
], ids=str)  # fmt: skip
def test_values_without_meaning_are_refused_in_one_sentence(values, words):
    with pytest.raises(UndefinedError, match=words) as caught:
        Recipe.from_dict(values)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_an_unknown_recipe_is_refused():
    with pytest.raises(UndefinedError, match="no recipe “lucent”; choose one of lsd, texture, wide, lucid, fourier"):
        find_recipe("lucent")


# Schedules


def test_stages_take_their_shares_of_the_steps():
    recipe = Recipe(steps=10, stages=((0.3, 0.25), (0.2, 0.5), (0.5, 1.0)))
    found = [recipe.stage_at(step) for step in range(10)]
    assert [stage.side for stage in found] == [0.25] * 3 + [0.5] * 2 + [1.0] * 5
    assert {Recipe(steps=7).stage_at(step) for step in range(7)} == {Stage(1.0, 1.0)}
    thirds = Recipe(steps=100, stages=((1 / 3, 0.5),) * 2 + ((1 / 3, 1.0),))
    places = [thirds.stages.index(thirds.stage_at(s)) for s in range(100)]
    assert places == [0] * 67 + [2] * 33  # the first two are equal
    assert [s for s in range(1, 100) if thirds.stage_at(s) is not thirds.stage_at(s - 1)] == [33, 67]


def rates(**values):
    recipe = Recipe(learning_rate=2.0, **values)
    return [recipe.rate_at(step) for step in range(recipe.steps)]


def test_a_constant_rate_is_constant():
    assert rates(steps=5) == [2.0] * 5


def test_a_shorter_ascent_may_go_faster():
    assert rates(steps=32, rate_power=0.5) == pytest.approx([4.0] * 32)
    assert rates(steps=128, rate_power=0.5) == [2.0] * 128 and rates(steps=512, rate_power=0.5)[0] == 1.0
    assert rates(steps=32, rate_power=0.5, warmup=0.5)[7] == pytest.approx(2.0)


def test_rates_fall_to_nearly_nothing():
    linear, cosine = rates(steps=10, schedule="linear"), rates(steps=10, schedule="cosine")
    assert linear[:9] == pytest.approx([2 * (1 - (s + 1) / 10) for s in range(9)])
    assert cosine[:9] == pytest.approx([1 + math.cos(math.pi * (s + 1) / 10) for s in range(9)])
    for falling in (linear, cosine):
        assert falling == sorted(falling, reverse=True) and 0 < falling[-1] < 0.01


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_rates_rise_first_in_a_warm_up(schedule):
    found = rates(steps=20, warmup=0.25, schedule=schedule)
    assert found[:4] == pytest.approx([2 * (s + 1) / 5 for s in range(4)])
    assert max(found) == pytest.approx(found[4], rel=0.02) and found[4] == pytest.approx(2.0, rel=0.02)
    assert found[4:] == sorted(found[4:], reverse=True) and min(found) > 0


def test_a_warm_up_may_take_all_steps():
    found = rates(steps=4, warmup=1.0, schedule="cosine")
    assert found == pytest.approx([0.5, 1.0, 1.5, 2.0])


# Changes by text


def test_settings_are_changed_by_text():
    recipe = find_recipe("lucid")
    found = changed(recipe, {
        "steps": "64", "parameterization": "pixels", "transforms.views": "4", "transforms.zoom": "[0.5, 2]",
        "transforms.flip": "true", "size": "null", "stages": "[[0.5, 0.5], [0.5, 1]]", "tv": "1e-2",
    })  # fmt: skip
    assert found == replace(
        recipe, steps=64, parameterization="pixels", stages=((0.5, 0.5), (0.5, 1.0)), tv=0.01,
        transforms=replace(recipe.transforms, views=4, zoom=(0.5, 2.0), flip=True),
    )  # fmt: skip
    assert found.name == "custom" and recipe == find_recipe("lucid")


def test_what_changes_nothing_keeps_the_name_and_the_hash():
    recipe = find_recipe("lucid")
    for settings in ({}, {"steps": "512"}, {"tv": "0"}, {"transforms.noise": "0"}):
        assert changed(recipe, settings) == recipe
        assert changed(recipe, settings).name == "lucid" and changed(recipe, settings).hash == recipe.hash


def test_the_transforms_at_the_end_can_be_changed_where_there_are_some():
    assert changed(find_recipe("maco"), {"transforms_end.noise": "0.5"}).transforms_end.noise == 0.5
    with pytest.raises(UndefinedError, match="not a setting"):
        changed(find_recipe("lucid"), {"transforms_end.noise": "0.5"})


@pytest.mark.parametrize("settings, words", [
    ({"stepz": "3"}, "“stepz” is not a setting of a recipe; write for example steps=256"),
    ({"transforms.jitter": "3"}, "“transforms.jitter” is not a setting"),
    ({"steps.more": "3"}, "“steps.more” is not a setting"),
    ({"a.b.c": "3"}, "“a.b.c” is not a setting"),
    ({"steps": "many"}, "steps is a whole number, not 'many'"),
    ({"steps": ""}, "steps"),
    ({"steps": "NaN"}, "steps"),
    ({"tv": "NaN"}, "tv lies between"),
    ({"transforms": "3"}, "transforms cannot be 3"),
    ({"betas": "[0.9"}, "wrong kind"),
])  # fmt: skip
def test_changes_without_meaning_are_refused(settings, words):
    with pytest.raises(UndefinedError, match=words):
        changed(find_recipe("lucid"), settings)


def test_an_effort_is_a_share_of_the_steps():
    recipe = replace(EXPLICIT, steps=100)
    assert [at_effort(recipe, effort).steps for effort in EFFORTS] == [30, 100, 400]
    assert at_effort(recipe, "normal") == recipe and at_effort(replace(recipe, steps=1), "draft").steps == 1
    assert described("lucid", effort="fine", size=64) == replace(find_recipe("lucid"), steps=2048, size=64)
    with pytest.raises(UndefinedError, match="draft, normal, fine"):
        at_effort(recipe, "hard")
    with pytest.raises(LSDError, match="one of them"):
        described("lucid", steps=5, effort="draft")


def test_settings_of_the_gradient_are_changed_by_text():
    made = changed(RECIPES["lucid"], {"gradient.branch": "0.5"})
    assert made.gradient == Softening(0.5) and Recipe.from_dict(made.to_dict()) == made
    with pytest.raises(UndefinedError, match="leak is a share"):
        changed(RECIPES["lucid"], {"gradient.leak": "2"})
    with pytest.raises(UndefinedError, match="slope"):
        Recipe.from_dict({"gradient": {"slope": 1}})
