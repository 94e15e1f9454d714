"""The study of how steady maps are."""

import json
from pathlib import Path

import pytest
import torch

from lsd.evaluation import __main__ as command
from lsd.evaluation.steadiness import DEAR, ONCE, Row, rows_of, summarise, table, told_apart
from lsd.saliency import steadiness as measured
from lsd.saliency.methods import attribute
from lsd.saliency.steadiness import steadiness
from lsd.saliency.targets import of_class


def test_a_row_is_the_steadiness_of_the_first_choice(image_model, pictures):
    model = image_model("test_resnet", 64)
    image, other = pictures(2, 64).split(1)
    names = ["gradient", "grad_cam", "depth_fusion", "smoothgrad", "edges", "centre", "random"]
    rows = {row.method: row for row in rows_of(model, image, other, names)}
    assert list(rows) == names
    with torch.no_grad():
        target = of_class(model, model(image).argmax().item())
    for name in names[:4]:
        mine = attribute(name, model, image, target)
        found = steadiness(model, image, mine, {})
        assert (rows[name].shift, rows[name].noise) == pytest.approx((found.shift, found.noise), abs=1e-9), name
        assert rows[name].passes == found.passes and rows[name].score == pytest.approx(mine.scores.item())
        assert -1 <= rows[name].other < rows[name].value
    assert rows["edges"].shift > 0.9 and rows["centre"].other == pytest.approx(1)
    assert abs(rows["random"].value) < 0.1


def test_a_method_that_is_not_defined_has_no_row(image_model, pictures):
    model, (image, other) = image_model("test_vit", 64), pictures(2, 64).split(1)
    assert [row.method for row in rows_of(model, image, other, ["guided_backprop", "gradient"])] == ["gradient"]


def test_the_page_has_the_figures_that_ship():
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text("utf-8")
    assert "\n".join(table(json.loads(measured.USUAL.read_text("utf-8")))) in page


def test_methods_are_those_of_one_pass_and_those_of_many():
    assert {"gradient", "grad_cam", "depth_fusion"} <= set(ONCE) and {"smoothgrad", "integrated_gradients"} <= set(DEAR)
    assert not set(ONCE) & set(DEAR)


def test_networks_count_alike_whatever_the_number_of_their_photos():
    def row(model, value, score, other=0.0, ssim=0.5):
        return Row(model, "", "gradient", value, value, other, ssim, ssim, 0.5, score, 4)

    rows = [row("a", 0.2, 1), *(row("b", 0.8, score) for score in range(5)), row("b", 0.9, 9, other=0.85)]
    told = summarise(rows)["methods"]["gradient"]
    assert told["pooled"] == {"low": 0.2, "middle": 0.2, "high": 0.8, "other": round(0.85 / 12, 4)}
    assert told["maps"] == 7 and told["networks"] == {"a": 0.2, "b": round(4.9 / 6, 4)}
    assert told["rank"] == pytest.approx((1 + 31 / 36) / 2, abs=1e-4) and told["ssim"] == 0.5
    assert told_apart([1, 2], [2, 0]) == 0.625


def test_the_command_goes_on_where_it_was(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lsd.evaluation.steadiness.ONCE", ("gradient", "grad_cam", "guided_backprop"))
    monkeypatch.setattr("lsd.evaluation.steadiness.DEAR", ())
    output, summary = tmp_path / "rows", tmp_path / "steadiness.json"
    arguments = ["steadiness", "--models", "demo:resnet", "demo:vit", "--images", "demo", "--photos", "3", "--few", "1"]
    arguments += ["--output", str(output)]
    assert command.main([*arguments, "--report"]) == 2
    assert "run the study without --report first" in capsys.readouterr().err
    assert command.main([*arguments, "--summary", str(summary)]) == 0
    assert "| Gradient | 4 | 6 | " in capsys.readouterr().out
    monkeypatch.setattr(measured, "USUAL", summary)
    monkeypatch.setattr(measured, "_ENOUGH", 6)
    measured.usual.cache_clear()
    try:
        assert set(measured.usual()) == {"gradient"}  # of the others there are three maps
    finally:
        measured.usual.cache_clear()
    whole = (output / "demo_resnet.jsonl").read_text()
    (output / "demo_resnet.jsonl").write_text(whole[:-30])  # it was killed while it wrote
    assert command.main(arguments) == 0
    assert [json.loads(line) for line in (output / "demo_resnet.jsonl").read_text().splitlines()] == [
        json.loads(line) for line in whole.splitlines()
    ]
    assert command.main([*arguments, "--photos", "99999"]) == 2
    assert "each is held against another" in capsys.readouterr().err
