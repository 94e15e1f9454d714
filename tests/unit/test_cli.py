"""The command line, called as `python -m lsd` calls it."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from lsd.cli import main
from lsd.demo import render
from lsd.saliency.methods import METHODS


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "drawn.png"
    Image.fromarray(render(6, 2**31 + 6, size=160).image).resize((200, 160)).save(path)
    return path


def saliency(*arguments):
    return main(["saliency", *map(str, arguments)])


def test_a_comparison_is_written_and_made_again_bit_for_bit(picture, tmp_path, capsys):
    output = tmp_path / "maps"
    assert saliency(
        picture, "--model", "demo:resnet", "--model", "demo:shortcut", "--method", "smoothgrad", "--set", "samples=4",
        "--target", "top1", "--against", "top2", "--check", "--output", output,
    ) == 0  # fmt: skip
    assert "differs from Captum by" in capsys.readouterr().out
    record = json.loads((output / "manifest.json").read_text())
    assert [r["model"] for r in record["results"]] == ["demo:resnet", "demo:shortcut"]
    assert record["results"][0]["target"]["kind"] == "contrast"
    assert all(len(r["weights"]["sha256"]) == 64 and len(r["top"]) == 5 for r in record["results"])
    assert record["results"][0]["captum_difference"] <= 1e-5
    with Image.open(output / "demo_resnet.png") as overlay:
        assert overlay.size == (200, 160)  # the picture's own size, not the model's
    with np.load(output / "attributions.npz") as arrays:
        assert arrays["demo_shortcut"].dtype == np.float32
        assert arrays["demo_shortcut"].shape == (1, 3, 96, 96)
    assert saliency("--from", output / "manifest.json") == 0
    assert capsys.readouterr().out.count("identical, bit for bit") == 2


def test_how_steady_the_maps_are_is_told_and_recorded(picture, tmp_path, capsys):
    output = tmp_path / "maps"
    models = ("--model", "demo:resnet", "--model", "demo:shortcut")
    assert saliency(picture, *models, "--method", "gradient", "--steady", "--output", output) == 0
    told = capsys.readouterr().out
    for result in json.loads((output / "manifest.json").read_text())["results"]:
        found = result["steadiness"]
        assert found["value"] == (found["shift"] + found["noise"]) / 2 and found["passes"] == 4
        assert f"{result['model']}: steadiness {found['value']:.2f} (moved " in told
    assert saliency(picture, *models, "--method", "gradient", "--output", output) == 0
    assert json.loads((output / "manifest.json").read_text())["results"][0]["steadiness"] is None


def test_a_model_that_cannot_explain_leaves_the_others(picture, tmp_path, capsys):
    output = tmp_path / "maps"
    models = ("--model", "demo:vit", "--model", "no_such_model", "--model", "demo:resnet")
    assert saliency(picture, *models, "--method", "guided_backprop", "--output", output) == 2
    told = capsys.readouterr()
    first, second = told.err.splitlines()
    assert "uses GELU" in first and "There is no model called" in second
    assert "1 overlays" in told.out and "demo:resnet: " in told.out
    assert saliency("--from", output / "manifest.json") == 0
    assert saliency(picture, "--model", "demo:vit", "--method", "guided_backprop", "--output", tmp_path / "none") == 2
    assert "uses GELU" in capsys.readouterr().err and not (tmp_path / "none").exists()


@pytest.mark.parametrize("view", ["squashed", "padded", "30,10,120"])
def test_a_view_is_recorded_and_made_again_bit_for_bit(picture, tmp_path, capsys, view):
    output = tmp_path / "maps"
    models = ("--model", "demo:resnet", "--model", "demo:vit")
    arguments = (picture, *models, "--method", "smoothgrad", "--set", "samples=4", "--check")
    assert saliency(*arguments, "--view", view, "--output", output) == 0
    record = json.loads((output / "manifest.json").read_text())
    assert record["request"]["view"] == view
    assert all(result["captum_difference"] <= 1e-5 for result in record["results"])
    boxes = {"squashed": [0, 0, 200, 160], "padded": [0, -20, 200, 180], "30,10,120": [30, 10, 150, 130]}
    assert record["results"][0]["crop_box"] == pytest.approx(boxes[view], abs=200 / 96)
    capsys.readouterr()
    assert saliency("--from", output / "manifest.json", "--output", tmp_path / "again") == 0
    assert capsys.readouterr().out.count("identical, bit for bit") == 2
    for name in ("demo_resnet.png", "demo_vit.png", "comparison.png"):
        assert (tmp_path / "again" / name).read_bytes() == (output / name).read_bytes()
    again = json.loads((tmp_path / "again" / "manifest.json").read_text())
    assert again["request"] == record["request"]
    del record["request"]["view"]  # it counts, and without it the picture is seen as evaluated
    (output / "manifest.json").write_text(json.dumps(record))
    assert saliency("--from", output / "manifest.json") == 1


def test_a_manifest_that_says_no_view_means_as_evaluated(picture, tmp_path, capsys):
    assert saliency(picture, "--model", "demo:resnet", "--method", "gradient", "--output", tmp_path) == 0
    record = json.loads((tmp_path / "manifest.json").read_text())
    assert record["request"].pop("view") == "evaluated"
    (tmp_path / "manifest.json").write_text(json.dumps(record))
    assert saliency("--from", tmp_path / "manifest.json") == 0
    record["request"]["view"] = {"left": 3}
    (tmp_path / "manifest.json").write_text(json.dumps(record))
    assert saliency("--from", tmp_path / "manifest.json") == 2
    assert "is no view" in capsys.readouterr().err


@pytest.mark.parametrize("view, sentence", [
    ("whole", "“whole” is no view"), ("0,0,0", "has no area"), ("100,0,120", "beyond the picture, which has 200 × 160 pixels"),
])  # fmt: skip
def test_what_is_no_view_of_the_picture_is_one_sentence(picture, tmp_path, capsys, view, sentence):
    assert saliency(picture, "--model", "demo:resnet", "--view", view, "--output", tmp_path / "maps") == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1 and not (tmp_path / "maps").exists()


def test_other_values_are_told_and_end_non_zero(picture, tmp_path, capsys):
    output = tmp_path / "maps"
    saliency(picture, "--model", "demo:resnet", "--output", output)
    record = json.loads((output / "manifest.json").read_text())
    record["results"][0]["values_sha256"] = "0" * 64
    (output / "manifest.json").write_text(json.dumps(record))
    assert saliency("--from", output / "manifest.json") == 1
    assert "different by 0.0e+00" in capsys.readouterr().out


def test_a_layer_asked_for_by_name_is_taken_again(picture, tmp_path, capsys):
    output = tmp_path / "maps"
    saliency(picture, "--model", "demo:resnet", "--method", "grad_cam", "--set", "layer=layer2", "--output", output)
    record = json.loads((output / "manifest.json").read_text())
    assert record["request"]["settings"] == {"layer": "layer2"}
    assert saliency("--from", output / "manifest.json", "--output", tmp_path / "again") == 0
    assert (tmp_path / "again" / "comparison.png").is_file()


def test_what_is_said_of_a_network_is_recorded_and_made_again(picture, tmp_path, capsys):
    output = tmp_path / "maps"
    arguments = (picture, "--model", "demo:resnet", "--method", "grad_cam", "--set", "layer=layer2")
    said = ("--outputs", "sigmoid", "--layout", "layer2=nhwc", "--layout", "layer1=nchw")
    assert saliency(*arguments, *said, "--check", "--output", output) == 0
    record = json.loads((output / "manifest.json").read_text())
    (result,) = record["results"]
    assert result["said"] == {"outputs": "sigmoid", "layouts": {"layer1": "nchw", "layer2": "nhwc"}}
    assert result["target"]["outputs"] == "sigmoid" and result["top"][0]["probability"] > 0.9
    assert sum(one["probability"] for one in result["top"]) != pytest.approx(1, abs=0.05)
    assert saliency("--from", output / "manifest.json", "--output", tmp_path / "again") == 0
    again = json.loads((tmp_path / "again" / "manifest.json").read_text())
    assert again["results"][0]["said"] == result["said"]
    for forgotten in ("outputs", "layouts"):  # either counts, and what is not said is as the network says
        changed = json.loads(json.dumps(record))
        del changed["results"][0]["said"][forgotten]
        (output / "manifest.json").write_text(json.dumps(changed))
        assert saliency("--from", output / "manifest.json") == 1
    record["results"][0]["said"] = "sigmoid"
    (output / "manifest.json").write_text(json.dumps(record))
    assert saliency("--from", output / "manifest.json") == 2
    assert "What is said of a network is a text" in capsys.readouterr().err


def test_something_can_be_said_of_one_of_several_networks(picture, tmp_path, capsys):
    arguments = (picture, "--model", "demo:resnet", "--model", "demo:convnext", "--method", "gradient")
    said = ("--outputs", "demo:convnext=sigmoid", "--layout", "demo:resnet=layer2=nhwc")
    assert saliency(*arguments, *said, "--output", tmp_path) == 0
    first, second = json.loads((tmp_path / "manifest.json").read_text())["results"]
    assert first["said"] == {"layouts": {"layer2": "nhwc"}} and second["said"] == {"outputs": "sigmoid"}
    assert "outputs" not in first["target"] and second["target"]["outputs"] == "sigmoid"
    assert saliency("--from", tmp_path / "manifest.json") == 0
    assert capsys.readouterr().out.count("identical, bit for bit") == 2


def test_where_nothing_is_said_nothing_is_recorded(picture, tmp_path, capsys):
    assert saliency(picture, "--model", "demo:resnet", "--method", "gradient", "--output", tmp_path) == 0
    (result,) = json.loads((tmp_path / "manifest.json").read_text())["results"]
    assert "said" not in result and "names_assumed" not in result and "assumed" not in capsys.readouterr().out


def test_assumed_names_are_told(picture, tmp_path, capsys, nameless):
    assert saliency(picture, "--model", nameless, "--method", "gradient", "--output", tmp_path / "maps") == 0
    out = capsys.readouterr().out
    assert out.count("The class names are assumed: it has 1000 classes as ImageNet-1k has") == 1
    (result,) = json.loads((tmp_path / "maps" / "manifest.json").read_text())["results"]
    assert result["names_assumed"] is True


def test_another_picture_is_refused(picture, tmp_path, capsys):
    output = tmp_path / "maps"
    saliency(picture, "--model", "demo:resnet", "--output", output)
    other = tmp_path / "other.png"
    Image.new("RGB", (96, 96)).save(other)
    assert saliency(other, "--from", output / "manifest.json") == 2
    assert "SHA-256 differs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Which picture?"),
        (["{picture}"], "Which model?"),
        (["nowhere.png", "--model", "demo:resnet"], "nowhere.png"),
        (["{picture}", "--model", "demo:nothing"], "no model demo:nothing"),
        (["{picture}", "--model", "demo:resnet", "--method", "magic"], "no method"),
        (["{picture}", "--model", "demo:resnet", "--target", "99"], "out of range"),
        (["{picture}", "--model", "demo:resnet", "--target", "zebra"], "No class"),
        (["{picture}", "--model", "demo:resnet", "--set", "samples"], "not a setting"),
        (["{picture}", "--model", "demo:resnet", "--set", "samples=9"], "has no setting"),
        (["{picture}", "--model", "demo:resnet", "--sign", "signed", "--channels", "l2"], "no sign"),
        (["{picture}", "--model", "demo:resnet", "--style", "sticker"], "no overlay"),
        (["{picture}", "--model", "demo:resnet", "--opacity", "2"], "between 0 and 1"),
        (["{picture}", "--model", "demo:resnet", "--output", "{picture}"], "choose another --output"),
        (
            ["{picture}", "--model", "demo:resnet", "--outputs", "tanh"],
            "are classes, sigmoid or an embedding, not “tanh”",
        ),
        (
            ["{picture}", "--model", "demo:resnet", "--outputs", "demo:vit=sigmoid"],
            "Something is said of demo:vit, which is not asked; asked are demo:resnet.",
        ),
        (["{picture}", "--model", "demo:resnet", "--outputs", "demo:resnet="], "does not say what outputs are"),
        (["{picture}", "--model", "demo:resnet", "--layout", "layer1"], "“layer1” is not a layout"),
        (["{picture}", "--model", "demo:resnet", "--layout", "=nchw"], "“=nchw” is not a layout"),
        (["{picture}", "--model", "demo:resnet", "--layout", "layer9=nchw"], "has no layer “layer9”"),
        (["{picture}", "--model", "demo:resnet", "--layout", "layer1=rows"], "no layout “rows”"),
        (["{picture}", "--model", "demo:resnet", "--layout", "layer1=tokens"], "cannot be laid out as tokens"),
        (["--from", "{picture}"], "not a manifest"),
        (["--from", "nowhere.json"], "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_one_line(picture, capsys, arguments, sentence):
    assert saliency(*(a.format(picture=picture) for a in arguments)) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.startswith("lsd: ") and error.count("\n") == 1


def test_an_empty_map_says_which_sign_shows_something(tmp_path, capsys):
    picture = tmp_path / "dotted-square.png"
    Image.fromarray(render(6, 11, size=480).image).save(picture)
    arguments = (str(picture), "--model", "demo:vit", "--method", "grad_cam", "--output", str(tmp_path))
    assert saliency(*arguments) == 0
    assert "the map is empty, as nothing is positive: try --sign negative" in capsys.readouterr().out
    assert saliency(*arguments, "--sign", "negative") == 0
    assert "map is empty" not in capsys.readouterr().out


@pytest.mark.parametrize("method, why", [
    ("layer_cam", "nothing in the picture speaks for the target in the way that this method asks"),
    ("gradient", "the target does not react to any pixel"),
])  # fmt: skip
def test_a_map_of_zeros_says_what_that_means(picture, tmp_path, capsys, monkeypatch, method, why):
    run = METHODS[method].run

    def silent(*args, **settings):
        found = run(*args, **settings)
        return [replace(one, values=torch.zeros_like(one.values)) for one in found]

    monkeypatch.setitem(METHODS, method, replace(METHODS[method], run=silent))
    assert saliency(str(picture), "--model", "demo:resnet", "--method", method, "--output", str(tmp_path)) == 0
    assert f"; the map is zero everywhere: {why}\n" in capsys.readouterr().out


def test_the_models_are_listed_by_family(capsys, monkeypatch):
    monkeypatch.delenv("LSD_MODEL_PATH", raising=False)  # what is here comes first, whatever its family
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert "demo:resnet" in listed
    assert listed.index("ConvNeXt") < listed.index("ResNet") < listed.index("XCiT")


def test_all_of_timm_is_searched(capsys):
    assert main(["models", "resnet18*"]) == 0
    assert "resnet18.a1_in1k" in capsys.readouterr().out
    assert main(["models", "nothing-like-it"]) == 2
    assert "No pretrained timm model matches" in capsys.readouterr().err


def test_the_methods_are_described(capsys):
    assert saliency("--list-methods") == 0
    assert "Sundararajan" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m lsd models | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments", [["saliency", "--list-methods"], ["models"], ["features", "--model", "demo:vit", "--list-layers"]]
)
def test_a_consoles_encoding_ends_no_command(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "lsd", *arguments], capture_output=True, env=os.environ | {"PYTHONIOENCODING": "cp1252"}
    )
    assert done.returncode == 0 and len(done.stdout.decode("cp1252").splitlines()) > 5, done.stderr.decode("cp1252")
