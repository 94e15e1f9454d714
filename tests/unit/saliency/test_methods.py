"""The list from which the command line and the page are built."""

import inspect

import pytest

from lsd.errors import UndefinedError
from lsd.saliency.methods import METHODS, Setting, attribute, find_method
from lsd.saliency.targets import Target

UNSIGNED = (
    "depth_fusion", "layer_cam", "refine_cam", "smoothgrad_squared", "vargrad", "attention_rollout", "gradient_rollout",
    "legrad",
)  # fmt: skip
each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


@each_method
def test_the_settings_are_those_of_the_function(method):
    function = inspect.unwrap(method.run)
    parameters = inspect.signature(function).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert {s.name: s.default for s in method.settings} == defaults


@each_method
def test_every_setting_says_why_and_takes_its_own_default(method):
    for setting in method.settings:
        assert setting.why and setting.parse(setting.default) == setting.default
    assert method.parse({}) == {s.name: s.default for s in method.settings}
    assert method.title and method.what and method.source


@each_method
def test_a_counterpart_is_captums_and_has_the_same_kind_of_values(method):
    if method.counterpart:
        other = METHODS[method.counterpart]
        assert other.name.startswith("captum:") and not method.name.startswith("captum:")
        assert (method.layer, {s.name for s in other.settings} - {s.name for s in method.settings}) == (
            other.layer,
            set(),
        )


@each_method
def test_every_method_runs_by_its_name(image_model, pictures, method):
    small = {"samples": 2, "steps": 2, "masks": 2, "window": 16, "stride": 16}
    settings = {name: value for name, value in small.items() if name in {s.name for s in method.settings}}
    vit = method.for_transformers
    model = image_model("test_vit", 64, img_size=64) if vit else image_model("resnet18", layers=(1, 1, 1, 1))
    size = model.spec.height
    result = attribute(method.name, model, pictures(1, size), Target(3, "logit"), **settings)
    assert result.method == method.name and settings.items() <= result.settings.items()
    _, channels, height, _ = result.values.shape
    assert channels == (1 if method.layer or method.values == "for" else 3)
    assert (height < size) == method.layer
    assert method.values == "signed" or (result.values.min() >= 0 and method.name.removeprefix("captum:") in UNSIGNED)
    assert method.values != "signed" or method.name.removeprefix("captum:") not in UNSIGNED


@pytest.mark.parametrize("name", ["gradient", "captum:saliency"])
def test_several_targets_give_several_attributions(image_model, pictures, name):
    model, x, targets = image_model("test_resnet"), pictures(), [Target(3), Target(1)]
    results = attribute(name, model, x, targets)
    assert [r.target for r in results] == targets
    assert (results[1].values == attribute(name, model, x, Target(1)).values).all()


def test_settings_may_come_as_text(image_model, pictures):
    result = attribute("smoothgrad", image_model("test_resnet"), pictures(), Target(3), samples="2", antithetic="false")
    assert (result.settings["samples"], result.settings["antithetic"]) == (2, False)


@pytest.mark.parametrize("settings, message", [
    ({"samples": "many"}, "samples is a whole number, not “many”"),
    ({"samples": "2.5"}, "samples is a whole number"),
    ({"sigma": "x"}, "sigma is a number"),
    ({"sigma": 7}, "sigma lies between 0.01 and 1, not 7"),
    ({"sigma": "nan"}, "sigma lies between"),
    ({"samples": 10**6}, "samples lies between 2 and 512"),
    ({"antithetic": "maybe"}, "antithetic is true or false"),
    ({"steps": 3}, "SmoothGrad has no setting “steps”; it has samples"),
])  # fmt: skip
def test_a_wrong_setting_is_refused_with_its_range(image_model, pictures, settings, message):
    with pytest.raises(UndefinedError, match=message):
        attribute("smoothgrad", image_model("test_resnet"), pictures(), Target(3), **settings)


def test_a_choice_is_one_of_its_choices(image_model, pictures):
    with pytest.raises(UndefinedError, match="baseline_kind is one of black, white, mean, blur, not “pink”"):
        attribute("integrated_gradients", image_model("test_resnet"), pictures(), Target(3), baseline_kind="pink")


def test_a_method_without_settings_says_so(image_model, pictures):
    with pytest.raises(UndefinedError, match="Gradient has no setting “sigma”; it has none"):
        attribute("gradient", image_model("test_resnet"), pictures(), Target(3), sigma=1)


@pytest.mark.parametrize("value, parsed", [(True, True), ("True", True), ("0", False), (1, True), ("FALSE", False)])
def test_true_and_false_are_written_in_many_ways(value, parsed):
    assert Setting("x", True, "why").parse(value) is parsed


def test_an_unknown_method_brings_the_known_ones():
    with pytest.raises(UndefinedError, match=r"no method “lime”; choose one of gradient, "):
        find_method("lime")
