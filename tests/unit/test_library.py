"""The front door: what it gives is what the rooms behind it give, and what it is given wrongly it says in a sentence."""

import ast
import inspect
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import lsd
from lsd.cli import main
from lsd.errors import ImageError, LSDError, ModelError, UndefinedError
from lsd.reasons.drawn import OF_UNITS
from lsd.reasons.explain import find_reasons as room_behind
from lsd.saliency.explain import OfGroup, TargetSpec, explain, to_input
from lsd.saliency.methods import attribute
from lsd.saliency.targets import Target
from lsd.view import View

ROOT = Path(__file__).parents[2]
MODEL = "demo:resnet"


@pytest.fixture(scope="module")
def model():
    return lsd.load_model(MODEL)


@pytest.fixture
def batch(model):
    return torch.rand(3, 3, model.spec.height, model.spec.width, generator=torch.Generator().manual_seed(0))


def test_the_door_has_eight_names_and_costs_nothing_to_pass():
    assert sorted(lsd.__all__) == [
        "crosscheck",
        "explain",
        "explain_classes",
        "find_reasons",
        "load_model",
        "open_image",
        "visualize",
        "wrap",
    ]
    code = "import lsd, sys; assert 'torch' not in sys.modules; assert set(lsd.__all__) <= set(dir(lsd)); lsd.wrap; lsd.nothing"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.endswith("AttributeError: module 'lsd' has no attribute 'nothing'\n")


@pytest.mark.parametrize("name", lsd.__all__)
def test_a_public_name_says_what_it_takes_gives_and_raises(name):
    function = getattr(lsd, name)
    text = inspect.getdoc(function)
    parameters = inspect.signature(function).parameters
    described = text.partition("Args:")[2] or text
    assert all(parameter in described for parameter in parameters), set(parameters)
    assert "Raises:" in text and (function.__annotations__["return"] or "return" in text)
    source = ast.parse(Path(inspect.getsourcefile(function)).read_text("utf-8"))
    results = [node for node in source.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    for method in (
        m for node in results for m in node.body if isinstance(m, ast.FunctionDef) and not m.name.startswith("_")
    ):
        assert ast.get_docstring(method), f"{name}: {method.name}"


def test_an_explanation_is_that_of_the_room_behind(model):
    picture = lsd.open_image("example:Coffee cup")
    found = lsd.explain(model, "example:Coffee cup", "smoothgrad", target="top2", samples=4)
    expected = explain(model, picture, TargetSpec("top2"), "smoothgrad", samples=4)
    assert np.array_equal(found.values, expected.attribution.values[0].numpy()) and found.top == expected.top
    assert found.score == expected.attribution.scores.item() and found.map().shape == (
        model.spec.height,
        model.spec.width,
    )
    assert found.overlay("mask", sign="positive").size == picture.size and found._repr_jpeg_()[:2] == b"\xff\xd8"
    assert str(found).startswith(f"SmoothGrad, {MODEL}: ")


@pytest.mark.parametrize("as_given", [
    lambda p: p, np.asarray, lambda p: np.asarray(p) / 255, lambda p: p.convert("RGBA"), str, Path, lambda p: p.tobytes and _png(p),
])  # fmt: skip
def test_a_picture_is_taken_in_any_shape(model, as_given, tmp_path):
    picture = lsd.open_image("example:Coffee cup").resize((120, 90))
    picture.save(tmp_path / "cup.png")
    given = as_given(tmp_path / "cup.png") if as_given in (str, Path) else as_given(picture)
    assert np.array_equal(lsd.explain(model, given, "gradient").values, lsd.explain(model, picture, "gradient").values)


def test_groups_are_those_of_the_room_behind():
    model, cat = lsd.load_model("tf_efficientnet_lite0.in1k"), "example:Chelsea the cat"
    picture = lsd.open_image(cat)
    for asked, spec in [
        ({"group": "true cat"}, OfGroup("true cat")),
        ({"within": "true cat", "target": 281}, OfGroup("true cat", 281)),
    ]:
        found = lsd.explain(model, cat, "gradient", **asked)
        assert np.array_equal(found.values, explain(model, picture, spec, "gradient").attribution.values[0].numpy())


@pytest.mark.parametrize("asked, why", [
    ({"group": "dog", "within": "dog"}, "group and within are two questions"),
    ({"group": "dog", "target": 3}, "group asks for no class"),
    ({"group": "dog", "kind": "logit"}, "has one output: leave kind away"),
    ({"within": "dog", "against": 3}, "against and within are two questions"), ({"group": "dog"}, "not ImageNet's"),
    ({"group": "dog", "like": "example:Coffee cup"}, "group and like are two questions"),
])  # fmt: skip
def test_what_makes_no_question_is_refused(model, asked, why):
    with pytest.raises(LSDError, match=why):
        lsd.explain(model, "example:Coffee cup", "gradient", **asked)


def test_first_classes_are_a_map_each_and_one_figure(model, tmp_path, capsys):
    found = lsd.explain_classes(model, "example:Coffee cup", "gradient", count=4, view="squashed")
    assert len(found) == 4 and [one.attribution.target.index for one in found] == [c for c, *_ in found[0].top[:4]]
    alone = lsd.explain(
        model, "example:Coffee cup", "gradient", target=found[2].attribution.target.index, view="squashed"
    )
    assert np.array_equal(found[2].values, alone.values)
    assert found.figure("map", sign="positive").size == found[0].picture.size and found._repr_jpeg_()[:2] == b"\xff\xd8"
    assert str(found).startswith(f"Gradient, {MODEL}: ") and str(found).count("%") == 4
    folder = found.save(tmp_path / "maps")
    assert len(list(folder.glob("*-classes.png"))) == 1
    assert len({one.steadiness().value for one in found}) == 4
    assert main(["saliency", "--from", str(folder / "manifest.json")]) == 0
    assert capsys.readouterr().out.count("identical, bit for bit") == 4
    with pytest.raises(LSDError, match="Two to 5 classes"):
        lsd.explain_classes(model, "example:Coffee cup", count=1)
    with pytest.raises(ImageError, match="of one picture"):
        lsd.explain_classes(model, ["example:Coffee cup"])


def _png(picture: Image.Image) -> bytes:
    from lsd.provenance import png

    return png(picture)


@pytest.mark.parametrize("view", ["squashed", "padded", "30,10,120", (30, 10, 120), View((30, 10, 120))], ids=str)
def test_a_view_is_that_of_the_room_behind(model, view, tmp_path):
    picture = lsd.open_image("example:Coffee cup").resize((200, 160))
    found = lsd.explain(model, picture, "gradient", view=view)
    expected = explain(model, picture, TargetSpec(), "gradient", view=View.parse(view))
    assert np.array_equal(found.values, expected.attribution.values[0].numpy()) and found.top == expected.top
    assert found.explanation.box == expected.box and found.overlay().size == picture.size
    assert not np.array_equal(found.values, lsd.explain(model, picture, "gradient").values)
    assert lsd.crosscheck(model, picture, "gradient", view=view).agrees
    (several,) = lsd.explain(model, [picture], "gradient", view=view)
    assert np.array_equal(several.values, found.values)
    found.save(tmp_path)
    assert main(["saliency", "--from", str(tmp_path / "manifest.json")]) == 0


def test_a_view_that_there_is_not_is_one_sentence(model, batch):
    for view, sentence in (("all", "“all” is no view"), ((0, 0, 9999), "beyond the picture"), ((1, 2), "is no view")):
        with pytest.raises(LSDError, match=sentence):
            lsd.explain(model, "example:Coffee cup", "gradient", view=view)
    with pytest.raises(LSDError, match="A tensor is taken as it is"):
        lsd.explain(model, batch, "gradient", view="padded")


def test_a_tensor_of_eight_bits_that_is_saved_can_be_made_again(tmp_path):
    model = lsd.load_model("tf_efficientnet_lite0.in1k")  # whose evaluation crops
    pixels = torch.randint(256, (3, model.spec.height, model.spec.width), generator=torch.Generator().manual_seed(0))
    lsd.explain(model, pixels / 255, "gradient").save(tmp_path)
    assert main(["saliency", "--from", str(tmp_path / "manifest.json")]) == 0


def test_grey_arrays_are_pictures_too(model):
    grey = np.asarray(lsd.open_image("example:Coffee cup").convert("L"))
    assert np.array_equal(
        lsd.explain(model, grey, "gradient").values, lsd.explain(model, np.stack([grey] * 3, 2), "gradient").values
    )


@pytest.mark.parametrize("against", [None, "top2"])
def test_a_batch_is_its_pictures_each_for_its_own_class(model, batch, against):
    together = lsd.explain(model, batch, "gradient", target="top1", against=against)
    for one, image in zip(together, batch, strict=True):
        alone = lsd.explain(model, image, "gradient", target="top1", against=against)
        assert one.attribution.target == alone.attribution.target and one.top[0][0] == alone.top[0][0]
        np.testing.assert_allclose(one.values, alone.values, rtol=1e-3, atol=1e-5)
        assert one.picture.size == (model.spec.width, model.spec.height) and isinstance(
            one.attribution.target.index, int
        )
    listed = lsd.explain(model, ["example:Coffee cup", "example:Rocket"], "gradient")
    assert [one.file.name for one in listed] == ["coffee.png", "rocket.jpg"]


@pytest.mark.parametrize("index", [2, np.int64(2), np.uint8(2), torch.tensor(2), np.array(2)])
def test_a_class_is_told_by_any_kind_of_integer(model, batch, index):
    found = lsd.explain(model, batch[0], "gradient", target=index)
    assert found.attribution.target == Target(2) == Target(index)


def test_several_classes_are_told_by_arrays(model, batch):
    expected = attribute("gradient", model, batch, Target((0, 1, 2))).values
    for index in ([0, 1, 2], np.arange(3), torch.arange(3)):
        assert torch.equal(attribute("gradient", model, batch, Target(index)).values, expected)


@pytest.mark.parametrize("index", [2.0, True, None, "2", np.float32(2), torch.tensor(2.0), torch.tensor(True), [1.5]])
def test_what_is_no_whole_number_is_no_class(index):
    with pytest.raises(UndefinedError, match="a whole number, and not"):
        Target(index)


@pytest.mark.parametrize("samples", [4.9, "4.9", True, float("nan"), float("inf"), None, [4]])
def test_a_count_is_not_cut_to_fit(model, batch, samples):
    with pytest.raises(UndefinedError, match="samples is a whole number"):
        lsd.explain(model, batch, "smoothgrad", samples=samples)


def test_a_check_is_made_of_a_picture_and_of_a_tensor(model, batch):
    for picture in ("example:Coffee cup", batch[0], batch[:1]):
        assert lsd.crosscheck(model, picture, "gradient", target=1).agrees
    with pytest.raises(LSDError, match="One picture is checked at a time, and 3"):
        lsd.crosscheck(model, batch, "gradient")


def test_a_map_says_how_sure_it_is(model, batch):
    for picture in ("example:Coffee cup", batch[0]):
        found = lsd.explain(model, picture, "gradient", target=1)
        steady = found.steadiness()
        assert steady == found.steadiness() and -1 <= steady.value < 1 and steady.passes == 4


def test_a_likeness_is_explained(model):
    for other in ("example:Coffee cup", lsd.open_image("example:Coffee cup")):
        same = lsd.explain(model, "example:Coffee cup", "gradient", like=other)
        assert same.score == pytest.approx(1, abs=1e-5)
    with pytest.raises(LSDError, match="asks for no class"):
        lsd.explain(model, "example:Coffee cup", like="example:Rocket", target=3)


def test_what_is_saved_can_be_made_again(model, tmp_path, capsys):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    folder = lsd.explain(model, picture, "smoothgrad", samples=4).save(tmp_path / "maps")
    assert {file.name for file in folder.iterdir()} >= {
        "picture.png",
        "comparison.png",
        "manifest.json",
        "attributions.npz",
    }
    assert main(["saliency", "--from", str(folder / "manifest.json")]) == 0
    made = lsd.visualize(model, [1, "layer2/channel/3"], steps=3, seeds=[0, 4], progress=False)
    folder = made.save(tmp_path / "out")
    assert main(["features", "--from", str(folder / "manifest.json")]) == 0
    assert capsys.readouterr().out.count("identical, bit for bit") == 1 + 4
    record = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert [r["unit"] for r in record["results"]] == ["class/1", "class/1", "layer2/channel/3", "layer2/channel/3"]


def test_pictures_of_units_are_a_sequence(model):
    made = lsd.visualize(model, ["class/0", 1], "none", steps=2, progress=False, learning_rate=0.1)
    assert len(made) == 2 and made[1].job.seed == 0 and [p.score for p in made] == [made[0].score, made[1].score]
    assert made.request.recipe.learning_rate == 0.1 and made.images[0].size == (model.spec.width, model.spec.height)
    assert (
        made.titles[1] in model.class_names
        and made._repr_jpeg_()[:2] == b"\xff\xd8"
        and str(made).startswith("2 pictures of")
    )


def test_reasons_are_those_of_the_room_behind_and_can_be_made_again(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lsd.reasons.answer.OF_UNITS", replace(OF_UNITS, steps=2))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    judge = lsd.load_model("demo:vit")
    found, again = lsd.find_reasons(
        model, [picture, np.asarray(picture)], against=None, layer="layer3", count=3, verifiers=[judge], progress=False
    )
    behind = room_behind(model, to_input(model, picture), TargetSpec(), layer="layer3", count=3)
    assert [one.unit for one in found.channels] == [one.unit for one in again.channels]
    assert [one.share for one in found.channels] == pytest.approx([one.share for one in behind.channels])
    assert found.shares.shape == (behind.shares.layer.channels,) and len(found.tried.channels) == 3
    assert set(found.answer.pictures) >= {one.unit for one in (*found.groups, *found.channels)}
    assert found.sentence in str(found) and found.top[0][1] in found.sentence
    html = found._repr_html_()
    assert html.startswith('<div class="lsd-reasons">') and html.count("data:image/webp") > 6
    folder = found.save(tmp_path / "why")
    assert {file.name for file in folder.iterdir()} == {
        "picture.png", "sheet-demo_resnet.png", "report.html", "numbers.npz", "manifest.json",
    }  # fmt: skip
    assert main(["reasons", "--from", str(folder / "manifest.json")]) == 0
    assert "identical, bit for bit" in capsys.readouterr().out


def test_what_is_shown_goes_to_the_viewer(model, batch, monkeypatch):
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda self: shown.append(self.size))
    lsd.explain(model, batch[0], "gradient").show()
    lsd.visualize(model, 0, steps=1, progress=False).show()
    lsd.find_reasons(model, np.zeros((9, 9, 3)), count=1, pictures=False, progress=False).show()
    assert len(shown) == 3


@pytest.mark.parametrize("ask, error, says", [
    (lambda m, x: lsd.explain(nn.Linear(1, 1), x), ModelError, r"lsd.wrap\(net\)"),
    (lambda m, x: lsd.explain(7, x), ModelError, "no int"),
    (lambda m, x: lsd.explain("resnet5O", x), ModelError, "Did you mean"),
    (lambda m, x: lsd.explain(m, 7), ImageError, "no int"),
    (lambda m, x: lsd.explain(m, "nowhere.png"), ImageError, "does not exist"),
    (lambda m, x: lsd.explain(m, np.zeros((4, 4, 2))), ImageError, "shape"),
    (lambda m, x: lsd.explain(m, np.full((4, 4, 3), 7.0)), ImageError, "floats from 0 to 1"),
    (lambda m, x: lsd.explain(m, x[:, :, :5]), UndefinedError, "takes pictures of shape"),
    (lambda m, x: lsd.explain(m, x, "gradcam"), UndefinedError, "There is no method"),
    (lambda m, x: lsd.explain(m, x, "grad_cam", layer="layer2-0"), UndefinedError, "Did you mean layer2.0"),
    (lambda m, x: lsd.explain(m, x, target="no such class"), UndefinedError, "No class"),
    (lambda m, x: lsd.explain(m, x, kind="odds"), UndefinedError, "no target"),
    (lambda m, x: lsd.find_reasons(m, x), ImageError, "no tensor"),
    (lambda m, x: lsd.find_reasons(m, np.zeros((9, 9, 3)), count=0), LSDError, "At least one channel"),
    (lambda m, x: lsd.find_reasons(m, np.zeros((9, 9, 3)), layer="layer2-0"), UndefinedError, "Did you mean layer2.0"),
    (lambda m, x: lsd.find_reasons(m, np.zeros((9, 9, 3)), method="grad_cam"), UndefinedError, "not found by"),
    (lambda m, x: lsd.visualize(m, []), LSDError, "Nothing is asked for"),
    (lambda m, x: lsd.visualize(m, 0, seeds=0), LSDError, "Nothing is asked for"),
    (lambda m, x: lsd.visualize(m, 999), UndefinedError, "out of range"),
    (lambda m, x: lsd.visualize(m, 0, "no such recipe"), LSDError, "recipe"),
    (lambda m, x: lsd.visualize(m, 0, steps=2, effort="draft"), LSDError, "twice"),
])  # fmt: skip
def test_what_is_given_wrongly_is_one_sentence(model, batch, ask, error, says):
    with pytest.raises(error, match=says) as refused:
        ask(model, batch)
    assert "\n" not in str(refused.value)
