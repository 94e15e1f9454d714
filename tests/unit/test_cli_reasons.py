"""The command `python -m lsd reasons`."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lsd.cli import main
from lsd.demo import render
from lsd.features.recipes import TEXTURE
from lsd.models import get_model
from lsd.reasons import answer, drawn
from lsd.reasons.drawn import Drawn
from lsd.reasons.explain import find_reasons
from lsd.saliency.explain import TargetSpec, to_input


@pytest.fixture(autouse=True)
def short_drafts(monkeypatch):
    """Two steps show as well that a draft is drawn."""
    monkeypatch.setattr(answer, "OF_UNITS", replace(drawn.OF_UNITS, steps=2))
    monkeypatch.setattr(answer, "OF_CLASSES", replace(drawn.OF_CLASSES, steps=2))


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "drawn.png"
    Image.fromarray(render(6, 2**31 + 6, size=160).image).resize((200, 160)).save(path)
    return path


def reasons(*arguments, **settings):
    return main(["reasons", *map(str, arguments)], **settings)


def read(folder):
    return json.loads((folder / "manifest.json").read_text("utf-8"))


def test_a_bundle_tells_everything_and_is_made_again_bit_for_bit(picture, tmp_path, capsys):
    output = tmp_path / "why"
    models = ("--model", "demo:resnet", "--model", "demo:vit")
    assert reasons(picture, *models, "--count", "3", "--no-pictures", "--output", output) == 0
    out = capsys.readouterr().out
    assert {path.name for path in output.iterdir()} == {
        "manifest.json", "numbers.npz", "report.html", "sheet-demo_resnet.png", "sheet-demo_vit.png",
    }  # fmt: skip
    record = read(output)
    model = get_model("demo:resnet")
    found = find_reasons(model, to_input(model, Image.open(picture)), count=3)
    first = record["results"][0]
    assert [one["unit"] for one in first["channels"]] == [one.unit for one in found.channels]
    assert [one["share"] for one in first["channels"]] == pytest.approx([one.share for one in found.channels])
    assert first["weights"]["digest"] == model.identity.digest and len(record["image"]["sha256"]) == 64
    assert first["sentence"]["text"] in out and first["sentence"]["text"].startswith(first["sentence"]["decision"])
    assert record["matched"]["networks"] == ["demo:resnet", "demo:vit"]
    with np.load(output / "numbers.npz") as arrays:
        assert arrays["demo_resnet.shares"].dtype == np.float32
        np.testing.assert_allclose(arrays["demo_resnet.shares"], found.shares.values[0].numpy(), rtol=1e-5)
    assert reasons("--from", output / "manifest.json", "--output", tmp_path / "again") == 0
    assert capsys.readouterr().out.count("identical, bit for bit") == 2
    again = read(tmp_path / "again")
    assert again["request"] == record["request"]
    assert (tmp_path / "again" / "sheet-demo_vit.png").read_bytes() == (output / "sheet-demo_vit.png").read_bytes()


def test_other_numbers_are_told_and_end_non_zero(picture, tmp_path, capsys):
    reasons(picture, "--model", "demo:resnet", "--count", "2", "--no-pictures", "--output", tmp_path)
    record = read(tmp_path)
    assert record["results"][0]["numbers_sha256"].keys() == {"shares", "groups", "maps", "trials"}
    record["results"][0]["numbers_sha256"]["trials"] = "0" * 64
    record["results"][0]["numbers_sha256"]["missing"] = "0" * 64
    (tmp_path / "manifest.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert reasons("--from", tmp_path / "manifest.json") == 1
    out = capsys.readouterr().out
    assert "trials: different by 0.0e+00" in out and "missing: not among both" in out and "shares" not in out
    record["results"][0]["weights"]["digest"] = "0" * 64
    (tmp_path / "manifest.json").write_text(json.dumps(record))
    assert reasons("--from", tmp_path / "manifest.json") == 2
    assert "their digests differ" in capsys.readouterr().err


def test_pictures_come_from_whoever_keeps_them_else_they_are_drawn_in_one_ascent(picture, tmp_path, monkeypatch):
    asked, drawn_units = [], []
    ascend = drawn.ascend

    def kept(model, units):
        asked.append(list(units))
        pixels = np.full((96, 96, 3), 200, np.uint8)
        return {units[0]: Drawn(units[0], pixels, TEXTURE.to_dict(), 7, "gallery: row")}

    def counted(model, units, *rest, **settings):
        drawn_units.append(list(units))
        return ascend(model, units, *rest, **settings | {"batch_size": 2})

    monkeypatch.setattr(drawn, "ascend", counted)
    arguments = ("--model", "demo:resnet", "--count", "2", "--verifier", "demo:vit", "--output", tmp_path)
    assert reasons(picture, *arguments, kept=kept) == 0
    record = read(tmp_path)
    result = record["results"][0]
    told = [*result["groups"], *result["channels"], *result["against"]]
    assert asked == [[one["unit"] for one in told]]
    assert drawn_units == [asked[0][1:]]
    assert told[0]["picture"]["source"] == "gallery: row" and told[0]["picture"]["seed"] == 7
    assert {one["picture"]["source"] for one in told[1:]} == {"draft"}
    assert len({one["picture"]["sha256"] for one in told}) == len(told)
    assert {one["picture"]["recipe_hash"] for one in told} == record["recipes"].keys()
    assert record["recipes"][told[1]["picture"]["recipe_hash"]]["steps"] == 2
    assert all(len(one["judges"]["demo:vit"]) == 5 for one in told)


def test_what_is_missing_and_patches_are_in_the_report_and_made_again(picture, tmp_path, capsys):
    output = tmp_path / "why"
    assert reasons(
        picture, "--model", "demo:resnet", "--against", "3", "--count", "2", "--missing",
        "--no-pictures", "--photos", tmp_path, "--output", output,
    ) == 0  # fmt: skip
    result = read(output)["results"][0]
    assert result["missing"]["class"]["index"] == result["target"]["against"] == 3
    assert result["missing"]["channels"] and "missing" in result["numbers_sha256"]
    assert all(one["there"] > one["here"] for one in result["missing"]["channels"])
    assert all(one["patches"] <= 1 for one in result["channels"])  # of one photo there is one at most
    assert "Why not " in (output / "report.html").read_text("utf-8")
    assert reasons("--from", output / "manifest.json") == 0


def test_the_log_odds_of_a_class_and_a_layer_of_one_model(picture, tmp_path):
    arguments = ("--model", "demo:resnet", "--model", "demo:vit", "--no-pictures", "--count", "2")
    layer = ("--layer", "layer3", "--layer", "demo:vit=blocks.1")
    assert reasons(picture, *arguments, *layer, "--target", "2", "--against", "none", "--output", tmp_path) == 0
    record = read(tmp_path)
    assert [result["layer"] for result in record["results"]] == ["layer3", "blocks.1"]
    assert all(result["target"] == {"kind": "log_odds", "index": 2} for result in record["results"])


def test_a_model_that_has_no_answer_leaves_the_others(picture, tmp_path, capsys):
    arguments = (picture, "--model", "demo:resnet", "--model", "demo:vit", "--no-pictures", "--count", "2")
    assert reasons(*arguments, "--layer", "layer3", "--output", tmp_path / "why") == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1 and "layer3" in told.err
    record = read(tmp_path / "why")
    assert record["request"]["models"] == ["demo:resnet"] and "matched" not in record
    assert reasons("--from", tmp_path / "why" / "manifest.json") == 0


@pytest.mark.parametrize("arguments, sentence", [
    (["--model", "demo:resnet", "--layer", "demo:vit=blocks.1"], "none of --model"),
    (["--model", "demo:resnet", "--method", "guess"], "not found by “guess”"),
    (["--model", "demo:resnet", "--count", "0"], "at least 1"),
    (["--model", "demo:resnet", "--against", "no such class"], "No class of this model"),
    (["--model", "demo:resnet", "--layer", "fc", "--photos", "."], "no places"),
    ([], "Which model?"),
])  # fmt: skip
def test_what_cannot_be_is_one_sentence(picture, tmp_path, capsys, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert reasons(picture, *arguments, "--no-pictures") == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


@pytest.mark.parametrize("content, sentence", [
    ("{", "not a manifest"), ('{"request": {}}', "not one of reasons"), ("[]", "some other JSON"),
])  # fmt: skip
def test_what_is_no_manifest_is_one_sentence(tmp_path, capsys, content, sentence):
    (tmp_path / "manifest.json").write_text(content)
    assert reasons("--from", tmp_path / "manifest.json") == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


def test_a_damaged_request_is_one_sentence(picture, tmp_path, capsys):
    reasons(picture, "--model", "demo:resnet", "--count", "1", "--no-pictures", "--output", tmp_path)
    for change in ({"said": None}, {"target": 3}, {"more": 1}):
        record = read(tmp_path)
        record["request"] |= change
        (tmp_path / "damaged.json").write_text(json.dumps(record))
        capsys.readouterr()
        assert reasons("--from", tmp_path / "damaged.json") == 2
        error = capsys.readouterr().err
        assert "damaged" in error and error.count("\n") == 1


def test_the_target_that_is_asked_for_is_the_one_of_the_library(picture, tmp_path):
    arguments = ("--model", "demo:vit", "--against", "5", "--count", "4", "--no-pictures", "--output", tmp_path)
    assert reasons(picture, *arguments) == 0
    model = get_model("demo:vit")
    found = find_reasons(model, to_input(model, Image.open(picture)), TargetSpec("top1", "contrast", "5"), count=4)
    result = read(tmp_path)["results"][0]
    assert result["target"] == found.target.to_dict()
    assert result["total"] == pytest.approx(found.total)


def test_heads_and_places_are_told_and_made_again(picture, tmp_path, capsys):
    for kind, model in (("head", "demo:vit"), ("position", "demo:resnet")):
        output = tmp_path / kind
        assert reasons(picture, "--model", model, "--kind", kind, "--no-pictures", "--output", output) == 0
        record = read(output)
        assert record["request"]["kind"] == record["results"][0]["kind"] == kind
        assert all(f"/{kind}/" in one["unit"] for one in record["results"][0]["channels"])
        assert f" {kind}" in capsys.readouterr().out and f"{kind.capitalize()} by {kind}" in (
            output / "report.html"
        ).read_text("utf-8")
        assert reasons("--from", output / "manifest.json") == 0
        assert "identical, bit for bit" in capsys.readouterr().out
    assert reasons(picture, "--model", "demo:resnet", "--kind", "head", "--no-pictures", "--output", tmp_path) == 2
    assert "no attention heads" in capsys.readouterr().err


def test_a_manifest_of_before_there_were_kinds_is_made_again(picture, tmp_path, capsys):
    reasons(picture, "--model", "demo:resnet", "--count", "2", "--no-pictures", "--output", tmp_path)
    record = read(tmp_path)
    del record["request"]["kind"], record["results"][0]["kind"]
    (tmp_path / "manifest.json").write_text(json.dumps(record))
    assert reasons("--from", tmp_path / "manifest.json") == 0
