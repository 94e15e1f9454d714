"""Several answers to one question: the first classes of one picture, and two pictures each way."""

import numpy as np
import pytest
import torch
from PIL import Image

from lsd.embedding import embed
from lsd.errors import UndefinedError
from lsd.layers import as_said
from lsd.reference import open_reference, reference_of
from lsd.render import CATEGORIES, categories
from lsd.said import Said
from lsd.saliency.explain import SimilarTo, TargetSpec, TopClasses, answers_to, explain, explain_each, to_input
from lsd.saliency.maps import MapSettings
from lsd.saliency.several import in_colours, strengths, strongest, unsigned
from lsd.saliency.views import Look
from lsd.view import View


@pytest.fixture
def photo():
    return Image.fromarray(np.random.default_rng(4).integers(0, 256, (40, 60, 3), dtype=np.uint8))


@pytest.fixture
def other():
    return Image.fromarray(np.random.default_rng(5).integers(0, 256, (50, 30, 3), dtype=np.uint8))


@pytest.mark.parametrize("method", ["gradient", "smoothgrad", "grad_cam", "depth_fusion", "captum:saliency"])
def test_each_class_has_the_map_that_it_has_alone(image_model, photo, method):
    model = image_model("test_resnet", 32)
    settings = {"samples": 4} if method == "smoothgrad" else {}
    found = explain_each(model, photo, TopClasses(3), method, **settings)
    assert [one.part for one in found] == [0, 1, 2]
    assert [one.attribution.target.index for one in found] == [c for c, _, _ in found[0].top[:3]]
    for one in found:
        alone = explain(model, photo, TargetSpec(one.attribution.target.index), method, **settings)
        assert torch.allclose(one.attribution.values, alone.attribution.values, rtol=1e-9, atol=1e-15)
        assert one.attribution.scores.item() == pytest.approx(alone.attribution.scores.item())


def test_they_share_one_forward_pass(image_model, photo):
    model, passes = image_model("test_resnet", 32), []
    handle = model.net.register_forward_hook(lambda *_: passes.append(1))
    try:
        explain(model, photo, TargetSpec(), "gradient")
        one = len(passes)
        explain_each(model, photo, TopClasses(5), "gradient")
        assert len(passes) == 2 * one
    finally:
        handle.remove()


def test_labels_have_several_answers_too_and_embeddings_none(image_model, photo):
    model = image_model("test_resnet", 32)
    found = explain_each(as_said(model, Said("sigmoid")), photo, TopClasses(2), "gradient")
    assert {one.attribution.target.outputs for one in found} == {"sigmoid"}
    with pytest.raises(UndefinedError, match="an embedding and no classes"):
        explain_each(as_said(model, Said("embedding")), photo, TopClasses(2))


@pytest.mark.parametrize("count", [1, 6, 0, -3, 2.5])
def test_the_number_of_classes_is_one_that_colours_tell_apart(count):
    with pytest.raises(UndefinedError, match=r"Two to 5 classes|whole number"):
        TopClasses(count)
    assert answers_to(TopClasses(5)) == len(CATEGORIES) == 5


# The figure.


def test_the_strongest_is_the_one_with_the_largest_share():
    """By hand: the maps add up to 10, 2 and 0, so their shares at the first pixel are .4, .5 and 0."""
    maps = np.array([[[4.0, 6.0, 0.0]], [[1.0, 1.0, 0.0]], [[0.0, 0.0, 0.0]]])
    winner, strength, lead = strongest(maps)
    assert winner.tolist() == [[1, 0, 0]] and strength.tolist() == [[1, 6, 0]]
    assert lead[0] == pytest.approx([(3 * 0.5 / 0.9 - 1) / 2, (3 * 0.6 / 1.1 - 1) / 2, 0])


def test_a_map_counts_alike_in_whatever_unit_it_is():
    maps = np.random.default_rng(0).random((3, 8, 8))
    scaled = maps * np.array([1, 100, 0.01])[:, None, None]
    assert (strongest(maps)[0] == strongest(scaled)[0]).all()
    assert strongest(maps)[2] == pytest.approx(strongest(scaled)[2])


def test_lead_is_none_where_all_agree_and_full_where_one_is_alone():
    same = strongest(np.ones((4, 2, 2)))[2]
    alone = strongest(np.array([[[1.0, 0.0]], [[0.0, 2.0]]]))[2]
    assert same == pytest.approx(np.zeros((2, 2))) and alone == pytest.approx(np.ones((1, 2)))


def test_the_colour_says_which_and_its_opacity_how_much():
    image = np.full((1, 4, 3), 100, np.uint8)
    which = np.array([[0, 1, 1, 2]])
    shown = categories(image, which, np.array([[1.0, 1.0, 0.0, 1.0]]), np.array([[1.0, 1.0, 1.0, 0.0]]), 1.0)
    assert shown[0].tolist() == [[0xD5, 0x5E, 0], [0x56, 0xB4, 0xE9], [60, 60, 60], [255, 255, 255]]
    half = categories(image, which, np.full((1, 4), 0.5), np.ones((1, 4)), 1.0, alone=True)
    assert half[0, 0].tolist() == [106, 47, 0]


def test_the_figure_is_the_maps_of_all(image_model, photo):
    found = explain_each(image_model("test_resnet", 32), photo, TopClasses(3), "gradient")
    figure, strength = in_colours(photo, found, MapSettings(), Look()), strengths(found, MapSettings())
    assert figure.size == photo.size and strength.shape == (32, 32) and 0 <= strength.min() < strength.max() <= 1
    assert len({tuple(pixel) for pixel in np.asarray(figure).reshape(-1, 3).tolist()}) > 100
    assert unsigned(MapSettings(sign="signed")).sign == "positive" and unsigned(MapSettings()) == MapSettings()
    signed = in_colours(photo, found, MapSettings(sign="signed"), Look())
    positive = in_colours(photo, found, MapSettings(sign="positive"), Look())
    assert signed.tobytes() == positive.tobytes() != figure.tobytes()


# Two pictures, each way.


@pytest.mark.parametrize("name, size", [("test_resnet", 32), ("test_vit", 160)])
def test_both_ways_are_each_pictures_own(image_model, photo, other, name, size):
    model, view = image_model(name, size), View("squashed")
    there, back = explain_each(model, photo, SimilarTo(reference_of(other), both=True), "gradient", view=view)
    assert not there.is_of_reference and back.is_of_reference and back.part == 1
    assert (there.picture_size, back.picture_size, str(there.view), str(back.view)) == (
        (60, 40),
        (30, 50),
        "squashed",
        "evaluated",
    )
    assert there.attribution.scores.item() == pytest.approx(back.attribution.scores.item(), abs=1e-12)
    alone = explain(model, photo, SimilarTo(reference_of(other)), "gradient", view=view)
    assert torch.equal(there.attribution.values, alone.attribution.values)

    seen, vector = to_input(model, other), embed(model, to_input(model, photo, view))[0]
    generator = torch.Generator().manual_seed(6)
    for _ in range(3):
        way = torch.randn(seen.shape, generator=generator, dtype=torch.float64)
        ahead, behind = (embed(model, seen + s * 1e-6 * way)[0] for s in (1, -1))
        cosines = [(e @ vector / (e @ e).sqrt() / (vector @ vector).sqrt()).item() for e in (ahead, behind)]
        slope = (back.attribution.values * way).sum().item()
        assert slope == pytest.approx((cosines[0] - cosines[1]) / 2e-6, rel=1e-4, abs=1e-9)


def test_towers_without_classes_have_both_ways(photo, other):
    import timm

    from lsd.models import ImageModel

    tower = ImageModel(timm.create_model("test_vit", num_classes=0), "tower")
    found = explain_each(tower, photo, SimilarTo(reference_of(other), both=True), "gradient")
    assert [one.top for one in found] == [(), ()] and all(one.attribution.values.any() for one in found)


def test_a_vector_has_no_way_back(tmp_path):
    np.save(tmp_path / "vector.npy", np.ones(4))
    vector = open_reference(tmp_path / "vector.npy")
    with pytest.raises(UndefinedError, match="A vector has no pixels to explain"):
        SimilarTo(vector, both=True)
    assert answers_to(SimilarTo(vector)) == answers_to(TargetSpec()) == 1
