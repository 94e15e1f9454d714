"""Embeddings, and what is asked of them: how alike two pictures are to a network."""

import gc
import json
import weakref
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from lsd.cli import main
from lsd.embedding import embed, embedder
from lsd.errors import LSDError, UndefinedError
from lsd.features.ascent import ascend
from lsd.features.recipes import RECIPES
from lsd.features.units import parse, title
from lsd.layers import deepest_grid, depth_layers
from lsd.models import ImageModel
from lsd.reference import open_reference
from lsd.saliency.crosscheck import crosscheck
from lsd.saliency.explain import SimilarTo, TargetSpec, explain
from lsd.saliency.methods import METHODS, attribute
from lsd.saliency.targets import Similarity, Target
from lsd.tracing import EMBEDDING, Tap, classifiers, run_to

ONE = ["test_resnet", "test_vit", "test_convnext", "dla34", "repvit_m0_9"]
SEVERAL = [("crossvit_tiny_240", 240), ("levit_128s", 224)]


@pytest.mark.parametrize("name, size", [*((name, 64) for name in ONE), *SEVERAL])
def test_the_logits_are_the_classifiers_linear_maps_of_it(image_model, pictures, name, size):
    model = image_model(name, size)
    images = pictures(2, size)
    embedding = embed(model, images)
    heads = [model.net.get_submodule(name) for name in classifiers(model)]
    weights = [head.weight.flatten(1) for head in heads]
    parts = embedding.split([weight.shape[1] for weight in weights], 1)
    logits = [nn.functional.linear(p, w, h.bias) for p, w, h in zip(parts, weights, heads, strict=True)]
    torch.testing.assert_close(torch.stack(logits).mean(0), model(images))  # distilled ones put out the mean of two


def test_a_network_without_classes_puts_it_out(pictures):
    torch.manual_seed(0)
    model = ImageModel(timm.create_model("test_vit", num_classes=0), "tower").double()
    images = pictures(2, 160)
    assert embedder(model) is model
    torch.testing.assert_close(embed(model, images), model(images), rtol=0, atol=0)


def test_who_embeds_is_the_same_network_and_leaves_it_as_it_is(image_model, pictures):
    model, images = image_model("test_vit", 160), pictures(1, 160)
    before = model(images)
    made = embedder(model)
    assert made is embedder(model) and made.net is model.net and made.lock is model.lock
    assert deepest_grid(made).name == deepest_grid(model).name
    assert [layer.name for layer in depth_layers(made)] == [layer.name for layer in depth_layers(model)]
    assert made.num_classes == 0 and made.outputs == "embedding" and made.class_names == ()
    torch.testing.assert_close(model(images), before, rtol=0, atol=0)
    assert model.num_classes == 10 and model.outputs == "classes"


def test_nothing_keeps_a_model_that_was_embedded(pictures):
    model = ImageModel(timm.create_model("test_resnet", num_classes=3), "short-lived").double()
    embed(model, pictures(1, 160))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


class Unknown(nn.Module):
    """A network of which nobody says where its classes are made, or which embeds every place."""

    def __init__(self, places: bool):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(4, 3)
        if places:
            self.get_classifier = lambda: self.fc

    def forward(self, x):
        return self.fc(self.conv(x).flatten(2).transpose(1, 2)).mean(1)


@pytest.mark.parametrize("known", [True, False])
def test_what_has_no_embedding_of_the_whole_picture_is_refused(wrap, pictures, known):
    with pytest.raises(UndefinedError, match="one embedding for every place"):
        embed(wrap(Unknown(known)), pictures(1, 8))


def test_a_classifier_that_is_no_linear_layer_has_no_embedding(wrap, pictures):
    net = Unknown(places=True)
    net.fc = nn.Sequential(nn.Linear(4, 5), nn.Bilinear(5, 5, 3))
    net.forward = lambda x: net.fc[1](*[net.fc[0](net.conv(x).mean((2, 3)))] * 2)
    with pytest.raises(UndefinedError, match="Which layer of handmade makes its classes of an embedding is not known"):
        embed(wrap(net), pictures(1, 8))


@pytest.fixture
def cases(image_model, pictures):
    def make(name):
        size = 160 if "vit" in name else 32
        model = image_model(name, size)
        return model, pictures(1, size), Similarity(embed(model, pictures(1, size, seed=1))[0], {"file": "other.png"})

    return make


def similarity(model, images, target):
    """The cosine, by another way: both vectors normalised first."""
    a, b = embed(model, images), target.vector[None]
    return (a / a.norm(dim=1, keepdim=True) * b / b.norm()).sum(1)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_its_gradient_is_the_central_difference(cases, name):
    model, images, target = cases(name)
    result = attribute("gradient", model, images, target)
    assert result.scores.item() == pytest.approx(similarity(model, images, target).item(), abs=1e-12)
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        way = torch.randn(images.shape, generator=generator, dtype=torch.float64)
        step = 1e-6
        ahead, behind = (similarity(model, images + s * step * way, target) for s in (1, -1))
        assert (result.values * way).sum().item() == pytest.approx((ahead - behind).item() / (2 * step), rel=1e-4)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.counterpart])
def test_captum_agrees_wherever_it_can_compare(cases, name, method):
    model, images, target = cases(name)
    settings = {"samples": 4, "steps": 4, "quadrature_kind": "midpoint"}  # whose weights Captum does not round
    settings = {key: value for key, value in settings.items() if key in {s.name for s in METHODS[method].settings}}
    try:
        check = crosscheck(model, images, target, method, **settings)
    except UndefinedError as refused:
        assert name == "test_vit" and "ReLUs" in str(refused)
    else:
        assert check.agrees or check.reason


def test_a_picture_is_as_like_itself_as_can_be(cases):
    model, images, _ = cases("test_resnet")
    itself = Similarity(embed(model, images)[0], {})
    result = attribute("gradient", model, images, itself)
    assert result.scores.item() == pytest.approx(1) and result.values.abs().max() < 1e-9


def test_a_class_and_a_similarity_share_no_pass(cases):
    model, images, target = cases("test_resnet")
    with pytest.raises(UndefinedError, match="different outputs of a network"):
        attribute("gradient", model, images, [target, Target(0)])
    first, second = attribute("gradient", model, images, [target, target])
    assert torch.equal(first.values, second.values)


def test_a_vector_of_another_network_is_refused(cases):
    model, images, _ = cases("test_resnet")
    with pytest.raises(UndefinedError, match="The vector has 7 numbers, and this network's embedding has"):
        attribute("gradient", model, images, Similarity(torch.ones(7), {}))


# As a unit.


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return ImageModel(timm.create_model("test_vit", num_classes=5), "small")


@pytest.fixture(scope="module")
def photo():
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(coarse, (160, 160), mode="bicubic").clamp(0.02, 0.98)


def ascended(model, unit="similarity", **held_against):
    recipe = replace(RECIPES["lsd"], steps=12)
    *_, last = ascend(model, [unit], recipe, **held_against)
    return last.finished[0]


def test_an_ascent_comes_nearer_to_the_photo(small, photo):
    picture = ascended(small, photo=photo)
    assert picture.status == "ok" and picture.trace[-1] > picture.trace[0] + 0.1
    shown = torch.from_numpy(picture.pixels).permute(2, 0, 1)[None].float() / 255
    expected = torch.cosine_similarity(embed(small, shown), embed(small, photo)).item()
    assert picture.score == pytest.approx(expected, abs=1e-4)


def test_the_photos_own_vector_does_the_same(small, photo):
    vector = embed(small, photo)[0]
    np.testing.assert_allclose(ascended(small, vector=vector).trace, ascended(small, photo=photo).trace, atol=1e-4)


def test_it_takes_part_in_arithmetic_and_names_its_model(small, photo):
    unit = parse("small::similarity + 0.01 * class/3")
    assert str(unit) == "small::similarity + 0.01 * class/3" and title(parse("similarity"), small) == "similarity"
    assert ascended(small, unit, photo=photo).status == "ok"


def test_its_pass_ends_where_the_classes_begin(small, photo):
    found = run_to(small, photo, [EMBEDDING])
    assert set(found) == {EMBEDDING, Tap("head", inside=True)}
    whole = run_to(small, photo, [EMBEDDING, Tap("")])
    torch.testing.assert_close(whole[EMBEDDING], found[EMBEDDING], rtol=0, atol=0)
    torch.testing.assert_close(whole[Tap("")], small(photo), rtol=0, atol=0)


def test_without_anything_to_be_near_it_is_refused(small):
    with pytest.raises(UndefinedError, match="similarity and a start from a photo need a photo"):
        next(ascend(small, ["similarity"], RECIPES["none"]))
    with pytest.raises(UndefinedError, match="need a photo"):  # of which a vector is none
        next(ascend(small, ["blocks.2/inversion"], RECIPES["none"], vector=torch.ones(64)))


# As files.


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("picture", "other"):
        Image.fromarray(rng.integers(0, 255, (90, 120, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    np.save(tmp_path / "vector.npy", rng.normal(size=(1, 64)))
    return tmp_path


@pytest.mark.parametrize("array, why", [
    (np.zeros(4), "points nowhere"), (np.array([1, np.nan]), "points nowhere"), (np.ones((2, 3)), "an array of shape"),
    (np.array(["a"]), "no array of numbers"), (np.array([{}]), "no array of numbers"),
])  # fmt: skip
def test_an_array_that_is_no_vector_is_refused(tmp_path, array, why):
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(LSDError, match=why):
        open_reference(tmp_path / "v.npy")


def test_a_vector_cut_short_and_a_missing_file_are_refused(files):
    (files / "short.npy").write_bytes((files / "vector.npy").read_bytes()[:-9])
    for name, why in (("short.npy", "damaged"), ("none.npy", "does not exist")):
        with pytest.raises(LSDError, match=why):
            open_reference(files / name)


def test_what_it_is_told_by_is_its_content(files):
    (files / "copy.png").write_bytes((files / "other.png").read_bytes())
    one, same, vector = (open_reference(files / name) for name in ("other.png", "copy.png", "vector.npy"))
    assert one == same and hash(one) == hash(same) and one != vector
    assert vector.is_vector and vector.content.shape == (64,)
    assert SimilarTo(one) == SimilarTo(same) != SimilarTo(vector)


def test_an_explanation_without_classes(files):
    torch.manual_seed(0)
    tower = ImageModel(timm.create_model("test_vit", num_classes=0), "tower")
    other = open_reference(files / "other.png")
    result = explain(tower, open_reference(files / "picture.png").content, SimilarTo(other), "gradient")
    assert result.top == () and result.attribution.values.any()
    with pytest.raises(UndefinedError, match="ask for the similarity to another picture"):
        explain(tower, other.content, TargetSpec())


@pytest.mark.parametrize("like", ["other.png", "vector.npy"])
def test_on_the_command_line_and_again(files, like, capsys):
    model = "demo:vit"
    folder = files / "maps"
    assert main(["saliency", str(files / "picture.png"), "--model", model, "--like", str(files / like), "--check",
                 "--output", str(folder)]) == 0  # fmt: skip
    assert "similarity" in (said := capsys.readouterr().out) and "differs from Captum by" in said
    record = json.loads((folder / "manifest.json").read_text())
    assert record["request"]["target"]["kind"] == "similarity" and len(record["results"][0]["top"]) == 5
    assert main(["saliency", "--from", str(folder / "manifest.json")]) == 0
    assert "identical, bit for bit" in capsys.readouterr().out
    (files / like).rename(files / f"moved-{like}")
    assert main(["saliency", "--from", str(folder / "manifest.json")]) == 2
    assert f"The reference {like} is not where it was; give its path with --like." in capsys.readouterr().err
    assert main(["saliency", "--from", str(folder / "manifest.json"), "--like", str(files / f"moved-{like}")]) == 0
    assert main(["saliency", "--from", str(folder / "manifest.json"), "--like", str(files / "picture.png")]) == 2
    assert "is not the reference of this manifest" in capsys.readouterr().err


def test_an_ascent_towards_a_vector_is_made_again(files, capsys):
    folder = files / "pictures"
    assert main(["features", "--model", "demo:vit", "--unit", "similarity", "--photo", str(files / "vector.npy"), "--steps", "4",
                 "--output", str(folder)]) == 0  # fmt: skip
    assert main(["features", "--from", str(folder / "manifest.json")]) == 0
    assert "identical, bit for bit" in capsys.readouterr().out


def test_a_class_besides_is_refused(files, capsys):
    asked = ["saliency", str(files / "picture.png"), "--model", "demo:vit", "--like", str(files / "other.png")]
    assert main([*asked, "--target", "3"]) == 2
    assert "--like asks for no class" in capsys.readouterr().err
