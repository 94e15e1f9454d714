"""One picture, one model, one method: from the decoded picture to what is shown."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from lsd.errors import LSDError, UndefinedError
from lsd.images import crop_box, open_image
from lsd.models import load_model
from lsd.reference import Reference
from lsd.saliency.crosscheck import crosscheck_explanation
from lsd.saliency.explain import SimilarTo, TargetSpec, explain, reference_vector, to_input
from lsd.saliency.methods import attribute
from lsd.saliency.targets import Target
from lsd.view import EVALUATED, View

REAL = ("resnet50.tf_uint8_in1k", "vit_tiny_patch16_224.augreg_in1k", "mobilenetv2_100.tflite_qat_in1k")
RANKING = [4, 2, 0, 1, 3, 5, 6, 7, 8, 9]


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 40, 3), dtype=np.uint8))


@pytest.mark.parametrize("spec, target", [
    (TargetSpec(), Target(4)),
    (TargetSpec("top2", "logit"), Target(2, "logit")),
    (TargetSpec(7), Target(7)),
    (TargetSpec("7"), Target(7)),
    (TargetSpec("class 3"), Target(3)),
    (TargetSpec("top1", "contrast", "top2"), Target(4, "contrast", 2)),
    (TargetSpec("top1", "contrast", 9), Target(4, "contrast", 9)),
])  # fmt: skip
def test_a_target_is_resolved_by_what_the_model_says(image_model, spec, target):
    assert spec.resolve(image_model("test_resnet"), RANKING) == target


@pytest.mark.parametrize("spec, message", [
    (TargetSpec("top1", "contrast", 4), "contrast of a class with itself"),
    (TargetSpec("top1", "contrast"), "needs a second class"),
    (TargetSpec("top1", "logit", "top2"), "no other target does"),
    (TargetSpec(10), "out of range"),
    (TargetSpec("zebra"), "No class of this model is called “zebra”"),
])  # fmt: skip
def test_a_target_without_meaning_is_refused(image_model, spec, message):
    with pytest.raises(UndefinedError, match=message):
        spec.resolve(image_model("test_resnet"), RANKING)


def test_a_runner_up_needs_two_classes(image_model):
    with pytest.raises(UndefinedError, match="too few classes for “top2”"):
        TargetSpec("top2").resolve(image_model("test_resnet"), [0])


def test_an_unknown_kind_is_refused_at_once():
    with pytest.raises(UndefinedError, match="no target “loss”"):
        TargetSpec(kind="loss")


def test_an_explanation_is_the_methods_result_on_the_prepared_picture(image_model, picture):
    model = image_model("test_resnet")
    result = explain(model, picture, TargetSpec(), "smoothgrad", samples=4, top=3)
    x = to_input(model, picture)
    probabilities = model.probabilities(x)[0]
    assert [i for i, *_ in result.top] == probabilities.topk(3).indices.tolist()
    assert [p for *_, p in result.top] == pytest.approx(probabilities.topk(3).values.tolist())
    expected = attribute("smoothgrad", model, x, Target(result.top[0][0]), samples=4)
    assert torch.equal(result.attribution.values.to(expected.values), expected.values)
    assert (result.picture_size, result.input_size, result.model) == ((40, 50), (32, 32), "test_resnet")
    assert result.seconds > 0


VIEWS = [EVALUATED, View("squashed"), View("padded"), View((3, 11, 30))]


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_classes_values_box_and_captum_are_of_the_same_view(image_model, picture, view):
    model = image_model("test_resnet")
    result = explain(model, picture, TargetSpec(), "smoothgrad", samples=4, view=view)
    x = to_input(model, picture, view)
    assert result.view == view and result.box == crop_box(picture.size, model.spec, view)
    assert [p for *_, p in result.top] == model.probabilities(x)[0].sort(descending=True).values[:5].tolist()
    expected = attribute("smoothgrad", model, x, Target(result.top[0][0]), samples=4)
    assert torch.equal(result.attribution.values.to(expected.values), expected.values)
    for method in ("gradient", "integrated_gradients"):
        settings = {"steps": 8, "quadrature_kind": "midpoint"} if method == "integrated_gradients" else {}
        result = explain(model, picture, TargetSpec(), method, view=view, **settings)
        check = crosscheck_explanation(model, picture, result, settings)
        assert check.agrees and check.difference < 1e-10, check
    others = [crosscheck_explanation(model, picture, replace(result, view=v), settings) for v in VIEWS if v != view]
    assert not any(check.agrees for check in others)


def test_what_is_compared_with_is_seen_as_evaluated_whatever_the_view(image_model, picture):
    model = image_model("test_resnet")
    reference = Reference("0", picture.rotate(90, expand=True), "other.png")
    vectors = [
        explain(model, picture, SimilarTo(reference), "gradient", view=view).attribution.target.vector for view in VIEWS
    ]
    assert all(torch.equal(vector, reference_vector(model, reference)) for vector in vectors)


def test_a_square_beyond_the_picture_is_refused(image_model, picture):
    with pytest.raises(LSDError, match="beyond the picture, which has 40 × 50 pixels"):
        explain(image_model("test_resnet"), picture, TargetSpec(), view=View((20, 0, 21)))


@pytest.mark.parametrize("name", REAL)
def test_real_models_know_real_photos(real_models, real_images, name):
    """The whole way in: decoding, cropping, resizing, normalising and class order are all right, or this is chance."""
    model = load_model(f"local-dir:{real_models / name}", device="cpu")
    photos = real_images[:: max(1, len(real_images) // 20)][:20]
    right = 0
    for photo in photos:
        result = explain(model, open_image(photo), TargetSpec(), "gradient", top=1)
        right += result.top[0][0] == int(photo.name[:4])
        assert torch.isfinite(result.attribution.values).all() and result.attribution.values.abs().max() > 0
    assert right / len(photos) >= 0.75, f"{right} of {len(photos)}"


@pytest.mark.parametrize("name", REAL)
def test_grad_cam_of_real_models_lies_inside_a_grid(real_models, real_images, name):
    model = load_model(f"local-dir:{real_models / name}", device="cpu")
    result = explain(model, open_image(real_images[0]), TargetSpec(), "grad_cam")
    grid = (14, 14) if name.startswith("vit") else (7, 7)
    assert tuple(result.attribution.values.shape) == (1, 1, *grid)
    assert result.attribution.values.max() > 0
