"""Groups, several classes and two pictures on the command line, and made again from their manifests."""

import json

import numpy as np
import pytest
from PIL import Image

from lsd.cli import main

LITE = "tf_efficientnet_lite0.in1k"


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def other(tmp_path):
    path = tmp_path / "other.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (70, 50, 3), dtype=np.uint8)).save(path)
    return path


def saliency(*arguments):
    return main(["saliency", *map(str, arguments)])


def made_again(folder, capsys, results):
    capsys.readouterr()
    again = folder.parent / "again"
    assert saliency("--from", folder / "manifest.json", "--output", again) == 0
    assert capsys.readouterr().out.count("identical, bit for bit") == results
    assert {path.name for path in again.iterdir()} == {path.name for path in folder.iterdir()}
    return json.loads((folder / "manifest.json").read_text())


@pytest.mark.parametrize(
    "question, target, score",
    [
        (["--group", "dogs"], {"kind": "group", "group": "dog"}, None),
        (["--within", "dog", "--target", "beagle"], {"kind": "within", "group": "dog", "index": 162}, None),
        (["--within", "true cat"], {"kind": "within", "group": "cat"}, None),
    ],
)
def test_a_group_is_explained_and_made_again(tmp_path, capsys, question, target, score):
    folder = tmp_path / "maps"
    assert saliency("example:Chelsea the cat", "--model", LITE, *question, "--check", "--output", folder) == 0
    said = capsys.readouterr().out
    assert "differs from Captum by" in said and ("dog (0%)" in said) == (question[0] == "--group")
    (result,) = made_again(folder, capsys, 1)["results"]
    assert target.items() <= result["target"].items() and len(result["target"]["members"]) in (118, 7)
    assert result["captum_difference"] < 1e-4


def test_several_classes_of_several_models(picture, tmp_path, capsys):
    folder = tmp_path / "maps"
    models = ["--model", "demo:resnet", "--model", "demo:vit"]
    assert saliency(picture, *models, "--classes", 3, "--check", "--output", folder) == 0
    assert capsys.readouterr().out.count("differs from Captum by") == 6
    record = made_again(folder, capsys, 6)
    assert record["request"]["models"] == ["demo:resnet", "demo:vit"]
    assert record["request"]["target"] == {"kind": "classes", "count": 3, "output": "log_odds"}
    assert [result.get("part", 0) for result in record["results"]] == [0, 1, 2] * 2
    for result in record["results"]:
        assert result["target"]["index"] == result["top"][result.get("part", 0)]["index"]
    names = {path.name for path in folder.iterdir()}
    assert {f"{result['array']}.png" for result in record["results"]} <= names
    assert {f"{record['results'][first]['array']}-classes.png" for first in (0, 3)} <= names
    with np.load(folder / "attributions.npz") as arrays:
        assert len({arrays[name].tobytes() for name in arrays}) == 6


def test_what_is_said_of_a_network_counts_for_all_its_answers(picture, tmp_path, capsys):
    asked = ["--classes", 2, "--method", "gradient", "--outputs", "demo:vit=sigmoid"]
    folder = tmp_path / "maps"
    assert saliency(picture, "--model", "demo:resnet", "--model", "demo:vit", *asked, "--output", folder) == 0
    results = made_again(folder, capsys, 4)["results"]
    assert ["outputs" in result["target"] for result in results] == [False, False, True, True]


@pytest.mark.parametrize("question", [["--classes", 3], ["--like", "other", "--both-ways"]])
def test_of_several_maps_each_has_its_own_steadiness(picture, other, tmp_path, capsys, question):
    folder, question = tmp_path / "maps", [other if word == "other" else word for word in question]
    asked = ["--method", "gradient", "--steady", "--output", folder]
    assert saliency(picture, "--model", "demo:resnet", "--model", "demo:vit", *question, *asked) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if ": steadiness " in line]
    found = [result["steadiness"]["value"] for result in made_again(folder, capsys, len(lines))["results"]]
    assert len(set(found)) == len(lines) == 2 * (3 if "--classes" in question else 2)
    for line, value in zip(lines, found, strict=True):
        assert f": steadiness {value:.2f} (moved" in line
    assert len({line.partition(": steadiness")[0] for line in lines}) == len(lines)  # each says which it is of


@pytest.mark.parametrize("model", ["demo:resnet", "demo:vit"])
def test_two_pictures_each_way(picture, other, tmp_path, capsys, model):
    folder, asked = tmp_path / "maps", (picture, "--model", model, "--like", other)
    assert saliency(*asked, "--both-ways", "--check", "--output", folder) == 0
    assert "over the other picture" in (said := capsys.readouterr().out) and said.count("differs from Captum by") == 2
    there, back = made_again(folder, capsys, 2)["results"]
    assert there["score"] == pytest.approx(back["score"], abs=1e-5) and back["part"] == 1
    with Image.open(folder / f"{there['array']}.png") as first, Image.open(folder / f"{back['array']}.png") as second:
        assert (first.size, second.size) == ((120, 90), (50, 70))
    assert saliency(other, "--model", model, "--like", picture, "--output", tmp_path / "turned") == 0
    (turned,) = json.loads((tmp_path / "turned" / "manifest.json").read_text())["results"]
    assert turned["values_sha256"] == back["values_sha256"]


@pytest.mark.parametrize(
    "question, sentence",
    [
        (
            ["--group", "cat", "--model", LITE],
            "“cat” means several groups of classes; say “true cat” (7 classes, such as tabby)",
        ),
        (["--group", "dog", "--model", "demo:vit"], "The classes of demo:vit are not ImageNet's"),
        (["--group", "dog", "--target", "3"], "--group asks for no class: leave --target away"),
        (["--group", "dog", "--within", "dog"], "--group and --within are two questions: ask one after the other."),
        (["--within", "dog", "--against", "cup"], "--against and --within are two questions"),
        (["--classes", "3", "--target", "1"], "--classes asks for no class"),
        (["--classes", "6"], "Two to 5 classes are shown together, not 6."),
        (["--within", "dog", "--output-of", "logit"], "--within has one output: leave --output-of away."),
        (["--both-ways"], "--both-ways is between two pictures: give the other one with --like."),
    ],
)
def test_what_makes_no_question_is_one_line(picture, tmp_path, capsys, question, sentence):
    model = [] if "--model" in question else ["--model", "demo:resnet"]
    assert saliency(picture, *model, *question, "--output", tmp_path / "maps") == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1 and not (tmp_path / "maps").exists()


def test_a_vector_has_no_way_back(picture, tmp_path, capsys):
    np.save(tmp_path / "vector.npy", np.ones(4))
    asked = (picture, "--model", "demo:resnet", "--like", tmp_path / "vector.npy", "--both-ways")
    assert saliency(*asked, "--output", tmp_path / "maps") == 2
    assert "A vector has no pixels to explain" in capsys.readouterr().err
