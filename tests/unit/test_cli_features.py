"""`python -m lsd features`: files, their reproduction, and what goes wrong in one sentence."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from lsd.cli import main
from lsd.demo import render
from lsd.features import networks
from lsd.features.notes import DEAD, NO_ACTIVATION, NO_BRANCH
from lsd.features.recipes import LUCID
from lsd.images import open_image
from lsd.models import get_model
from lsd.saliency.explain import to_input
from lsd.tracing import Tap, run_to

QUICK = ["--model", "demo:resnet", "--steps", "6"]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out"


def make(folder, *arguments):
    return main(["features", *QUICK, *arguments, "--output", str(folder)])


def test_pictures_sheet_film_and_manifest(folder, capsys):
    code = make(
        folder, "--unit", "class/3", "--unit", "layer3/channel/5", "--seeds", "2", "--verifier", "demo:convnext"
    )
    assert code == 0
    names = {"class_3.0.png", "class_3.1.png", "layer3_channel_5.0.png", "layer3_channel_5.1.png"}
    assert {path.name for path in folder.iterdir()} == names | {"sheet.png", "ascent.gif", "manifest.json"}
    record = json.loads((folder / "manifest.json").read_text())
    assert record["request"]["units"] == ["class/3", "layer3/channel/5"] and record["request"]["recipe"]["steps"] == 6
    first = record["results"][0]
    assert first["title"] == "checkered circle" and first["status"] == "ok" and len(first["trace"]) == 6
    assert len(first["top"]) == 5 and list(first["verifiers"]) == ["demo:convnext"]
    assert Image.open(folder / first["file"]).size == (96, 96)
    with Image.open(folder / "ascent.gif") as film:
        assert film.n_frames >= 2
    assert "checkered circle" in capsys.readouterr().out


def test_a_manifest_makes_the_same_pictures_again(folder, capsys):
    make(folder, "--units", "layer2:channels:3", "--batch-size", "2")
    before = capsys.readouterr()
    assert main(["features", "--from", str(folder / "manifest.json")]) == 0
    assert capsys.readouterr().out.count("identical, bit for bit") == 3, before


def test_what_is_said_of_a_network_is_recorded_and_made_again(folder, capsys):
    """Of channels of a layer laid out otherwise, and of a class that is a question of its own."""
    said = ("--outputs", "sigmoid", "--layout", "layer2=nhwc", "--recipe", "none", "--set", "output=log_odds")
    assert make(folder, "--unit", "layer2/channel/1", "--unit", "class/3", *said) == 0
    record = json.loads((folder / "manifest.json").read_text())
    assert record["request"]["said"] == {"outputs": "sigmoid", "layouts": {"layer2": "nhwc"}}
    capsys.readouterr()
    assert main(["features", "--from", str(folder / "manifest.json")]) == 0
    assert capsys.readouterr().out.count("identical, bit for bit") == 2
    for forgotten, unit in (("outputs", "class/3"), ("layouts", "layer2/channel/1")):
        changed = json.loads(json.dumps(record))
        del changed["request"]["said"][forgotten]
        (folder / "manifest.json").write_text(json.dumps(changed))
        assert main(["features", "--from", str(folder / "manifest.json")]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert [line.split(",")[0] for line in lines if "identical" not in line] == [unit]


def test_something_can_be_said_of_the_other_networks_of_a_run(folder, capsys):
    """Of one that judges, and of one whose units are in the sum; what is said of all is of --model."""
    made = (
        *("--unit", "class/3 + demo:vit::class/3", "--recipe", "none", "--set", "output=log_odds"),
        *("--verifier", "demo:convnext", "--outputs", "classes"),
    )
    assert make(folder, *made, "--outputs", "demo:convnext=sigmoid", "--outputs", "demo:vit=sigmoid") == 0
    record = json.loads((folder / "manifest.json").read_text())
    assert record["request"]["said"] == {"outputs": "classes"}
    assert record["request"]["said_of_others"] == {
        "demo:vit": {"outputs": "sigmoid"}, "demo:convnext": {"outputs": "sigmoid"},
    }  # fmt: skip
    (seen,) = record["results"][0]["verifiers"].values()
    assert sum(one["probability"] for one in seen) > 1.01
    capsys.readouterr()
    assert main(["features", "--from", str(folder / "manifest.json")]) == 0
    assert "identical, bit for bit" in capsys.readouterr().out
    del record["request"]["said_of_others"]["demo:vit"]
    (folder / "manifest.json").write_text(json.dumps(record))
    assert main(["features", "--from", str(folder / "manifest.json")]) == 1


def test_where_nothing_is_said_nothing_is_recorded(folder, capsys):
    assert make(folder, "--unit", "class/3") == 0
    record = json.loads((folder / "manifest.json").read_text())
    assert "said" not in record["request"] and "names_assumed" not in record
    assert "assumed" not in capsys.readouterr().out


def test_assumed_names_are_told_of_the_network_and_of_those_who_are_asked(folder, capsys, nameless):
    made = ["features", "--steps", "2", "--unit", "class/3", "--model", "demo:resnet", "--verifier", nameless]
    assert main([*made, "--output", str(folder)]) == 0
    assert capsys.readouterr().out.count(f"{nameless}: The class names are assumed: it has 1000 classes") == 1
    assert "names_assumed" not in json.loads((folder / "manifest.json").read_text())
    assert main(["features", "--steps", "2", "--unit", "class/3", "--model", nameless, "--output", str(folder)]) == 0
    assert json.loads((folder / "manifest.json").read_text())["names_assumed"] is True


def test_a_manifest_says_how_the_pictures_were_made_together_when_memory_gave_out(folder, monkeypatch, capsys):
    """And another run, with more memory, makes the same batches."""
    sizes = []

    def watched(network, images, taps):
        sizes.append(len(images))
        if len(images) > scarce:
            raise torch.OutOfMemoryError("not enough")
        return run_to(network, images, taps)

    monkeypatch.setattr(networks, "run_to", watched)
    scarce = 3
    make(folder, "--units", "layer2:channels:8")
    record = json.loads((folder / "manifest.json").read_text())
    assert record["request"]["batch_size"] is None and record["batches"] == [2, 2, 2, 2]
    scarce = 8
    sizes.clear()
    assert main(["features", "--from", str(folder / "manifest.json")]) == 0
    assert set(sizes) == {2} and capsys.readouterr().out.count("identical, bit for bit") == 8


def test_a_picture_that_differs_is_told_by_how_much(folder, capsys):
    make(folder, "--unit", "class/3")
    record = json.loads((folder / "manifest.json").read_text())
    record["request"]["recipe"]["steps"] = 5
    (folder / "manifest.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert main(["features", "--from", str(folder / "manifest.json")]) == 1
    assert "SSIM" in capsys.readouterr().out


def test_other_weights_are_not_taken_for_the_same(folder, capsys):
    make(folder, "--unit", "class/3")
    record = json.loads((folder / "manifest.json").read_text())
    record["weights"]["digest"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(record))
    assert main(["features", "--from", str(folder / "manifest.json")]) == 2
    assert "digests differ" in capsys.readouterr().err


def test_a_photo_is_inverted_and_found_again(folder, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(photo)
    assert make(folder, "--unit", "layer1/inversion", "--photo", str(photo), "--start", "photo") == 0
    capsys.readouterr()
    assert main(["features", "--from", str(folder / "manifest.json")]) == 0
    photo.unlink()
    assert main(["features", "--from", str(folder / "manifest.json")]) == 2
    assert "--photo" in capsys.readouterr().err


def test_what_has_to_be_said_of_pictures_is_said_once(folder, capsys):
    """What leads to the first layer has no branch and no activation function, and no unit at its bound is called mute."""
    units = [f"conv1.0/channel/{i}" for i in range(7)]
    assert make(folder, *(word for unit in units for word in ("--unit", unit)), "--seeds", "2", "--recipe", "lsd") == 0
    said = capsys.readouterr().out
    assert said.count(NO_BRANCH) == said.count(NO_ACTIVATION) == 1
    assert f"{', '.join(units[:5])} and 2 more: {NO_BRANCH}" in said
    assert json.loads((folder / "manifest.json").read_text())["results"][0]["notes"] == [NO_BRANCH, NO_ACTIVATION]
    assert make(folder, "--unit", "layer1/layer - layer1/layer") == 1
    assert f"layer1/layer - layer1/layer: {DEAD}" in capsys.readouterr().out


def test_scores_are_held_against_the_strongest_photo(folder, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    assert make(folder, "--unit", "layer3/channel/5", "--photos", str(photos)) == 2
    assert "no photos" in capsys.readouterr().err
    values = []
    model = get_model("demo:resnet")
    for i in range(10):  # more than a batch
        Image.fromarray(render(i, 2**31 + i).image).save(photos / f"{i}.png")
        image = to_input(model, open_image(photos / f"{i}.png"))
        values.append(run_to(model, image, [Tap("layer3")])[Tap("layer3")][0, 5].mean().item())
    assert make(folder, "--unit", "layer3/channel/5", "--photos", str(photos)) == 0
    (result,) = json.loads((folder / "manifest.json").read_text())["results"]
    assert result["strongest_photo"] == pytest.approx(max(values), rel=1e-4)


def test_a_recipe_from_a_file_and_changed_settings(folder, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(LUCID.to_dict() | {"name": "mine", "learning_rate": 0.1}))
    make(folder, "--unit", "class/1", "--recipe", str(path), "--set", "transforms.views=2", "--size", "64")
    recipe = json.loads((folder / "manifest.json").read_text())["request"]["recipe"]
    assert recipe["learning_rate"] == 0.1 and recipe["transforms"]["views"] == 2 and recipe["size"] == 64
    assert Image.open(folder / "class_1.0.png").size == (64, 64)


@pytest.mark.parametrize("arguments, words", [
    (["--unit", "class/99"], "out of range"),
    (["--unit", "layer9/channel/1"], "has no layer"),
    (["--unit", "nonsense"], "is not a unit"),
    (["--unit", "class/1", "--set", "foo=3"], "is not a setting"),
    (["--unit", "class/1", "--set", "foo"], "NAME=VALUE"),
    (["--unit", "class/1", "--recipe", "best"], "There is no recipe"),
    (["--unit", "class/1", "--recipe", "missing.json"], "cannot be read"),
    (["--unit", "class/1", "--seeds", "0"], "at least 1"),
    (["--unit", "class/1", "--size", "5000"], "between 16 and 2048"),
    (["--unit", "class/1", "--batch-size", "0"], "at least 1"),
    (["--unit", "layer1/inversion"], "need a photo"),
    (["--unit", "class/1", "--photo", "missing.png"], "cannot be read"),
    (["--unit", "class/1", "--outputs", "tanh"], "are classes, sigmoid or an embedding, not “tanh”"),
    (["--unit", "class/1", "--layout", "layer9=nchw"], "has no layer “layer9”"),
    (["--unit", "class/1", "--layout", "layer1=tokens:1"], "cannot be laid out as tokens:1"),
    (["--unit", "class/1", "--layout", "layer1"], "is not a layout"),
    (["--unit", "class/1", "--outputs", "demo:vit=sigmoid"], "Something is said of demo:vit, which is not asked"),
    (["--list-layers", "--outputs", "demo:vit=sigmoid"], "Something is said of demo:vit, which is not asked"),
    ([], "Which unit?"),
])  # fmt: skip
def test_what_is_wrong_is_one_sentence(folder, capsys, arguments, words):
    assert make(folder, *arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not folder.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "features"}', '{"request": {}, "results": []}'])
def test_a_damaged_manifest_is_refused(tmp_path, capsys, text):
    path = tmp_path / "manifest.json"
    path.write_text(text)
    assert main(["features", "--from", str(path)]) == 2
    assert "manifest" in capsys.readouterr().err


def test_lists(capsys):
    assert main(["features", "--list-recipes"]) == 0
    listed = capsys.readouterr().out
    assert "maco" in listed and "Fel et al., 2023" in listed
    assert main(["features", "--model", "demo:resnet", "--list-layers"]) == 0
    assert "layer4.0" in capsys.readouterr().out
    assert main(["features", "--model", "demo:resnet", "--list-layers", "--layout", "layer4=nhwc"]) == 0
    shape = next(line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["layer4"])
    assert "12 channels, 96 × 12 places" in shape


def test_interrupted_work_keeps_what_is_finished(folder, monkeypatch, capsys):
    from lsd.features import ascent

    def interrupted(*arguments, **settings):
        for snapshot in original(*arguments, **settings):
            yield snapshot
            if snapshot.finished:
                raise KeyboardInterrupt

    original = ascent.ascend
    monkeypatch.setattr(ascent, "ascend", interrupted)
    assert make(folder, "--units", "class:0-3", "--batch-size", "2") == 130
    results = json.loads((folder / "manifest.json").read_text())["results"]
    assert [r["unit"] for r in results] == ["class/0", "class/1"] and (folder / "class_1.0.png").is_file()


def test_a_verifier_that_cannot_be_had_leaves_the_pictures_and_the_others(folder, capsys):
    assert make(folder, "--unit", "class/3", "--verifier", "no_such_model", "--verifier", "demo:vit") == 2
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert line.startswith("lsd: There is no model called")
    (result,) = json.loads((folder / "manifest.json").read_text())["results"]
    assert list(result["verifiers"]) == ["demo:vit"] and (folder / "class_3.0.png").is_file()
