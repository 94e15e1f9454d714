"""The yardstick of feature visualization, on pictures whose answer is known."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.transform import rotate
from torch import nn

from lsd.errors import LSDError
from lsd.evaluation import features, time_to_quality
from lsd.evaluation.__main__ import main
from lsd.evaluation.disturb import disturbed
from lsd.features.recipes import LUCID, MACO


class Brightest(nn.Module):
    """Says which colour channel is the brightest, for the channels in `order`."""

    def __init__(self, order):
        super().__init__()
        self.order = order

    def forward(self, x):
        return 50 * x.mean((2, 3))[:, self.order]


def coloured(folder, colours):
    """One flat-ish picture a class, and the record that `make` would have left beside them."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 40, (8, 8, 1))
    for index, colour in enumerate(colours):
        pixels = (np.array(colour) * 200 + noise).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"class_{index}.0.png")
    entries = [{"class": i, "status": "ok", "score": 1.0, "seconds": 2.0} for i in range(len(colours))]
    (folder / "pictures.json").write_text(json.dumps({"pictures": entries}))


def test_a_score_counts_who_is_right(wrap, tmp_path):
    same, turned = (wrap(Brightest(order)).float() for order in ([0, 1, 2], [1, 2, 0]))
    same.name, turned.name = "same", "turned"
    coloured(tmp_path / "p", [(1, 0, 0), (0, 1, 0), (1, 0, 0)])  # the third is not what its class says
    score = features.score(features.Source((same,)), LUCID, [turned], [0, 1, 2], tmp_path / "p")
    assert score.count == 3 and score.own.tolist() == [True, True, False]
    assert 0.6 < score.own_probability < 0.67
    first, fifth, p = score.others["turned"]  # its first output is green, its second blue, its third red
    assert first.tolist() == [False, False, True] and fifth.all()
    assert p[2] > 0.99 and max(p[:2]) < 0.01
    assert score.flat == 0 and score.seconds == 2.0 and np.isnan(score.apart)
    assert score.robust.tolist() == [[True] * 4, [True] * 4, [False] * 4]  # nothing of it changes a colour


def test_an_interval_holds_the_mean_and_narrows_with_the_count():
    hits = np.array([1.0, 0.0] * 50)
    low, high = features.interval(hits)
    assert low < 0.5 < high
    wide = features.interval(hits[:10])
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 10, rel=0.2) and wide[1] - wide[0] > high - low
    assert features.interval(np.ones(20)) == (1.0, 1.0)


def test_choices_of_classes():
    assert features.parse_classes("7::20", 50) == [7, 27, 47]
    assert features.parse_classes("1,5", 10) == [1, 5]
    for text in ("7::20::3", "a", "", "9,99", "70::20"):
        with pytest.raises(LSDError):
            features.parse_classes(text, 50)


def test_a_recipe_at_a_given_cost_counts_views():
    assert features.at_cost(LUCID, 96).steps == 96
    assert features.at_cost(MACO, 96).steps == 96 // MACO.transforms.views
    assert features.at_cost(replace(MACO, steps=5), None).steps == 5


def test_a_run_can_be_interrupted_and_goes_on(tmp_path, monkeypatch, capsys):
    command = ["features", "--models", "demo:resnet", "demo:convnext", "--recipes", "none", "lucid", "--classes", "1::4",
               "--image-steps", "4", "--output", str(tmp_path)]  # fmt: skip
    made, original = [], features.ascend_jobs

    def counting(model, jobs, recipe, **settings):
        made.extend(jobs)
        return original(model, jobs, recipe, **settings)

    def once(*given, **settings):
        if made:
            raise KeyboardInterrupt
        return counting(*given, **settings)

    monkeypatch.setattr(features, "ascend_jobs", once)
    with pytest.raises(KeyboardInterrupt):
        main(command)
    monkeypatch.setattr(features, "ascend_jobs", counting)
    assert main(command) == 0
    assert len(made) == 4 * 4  # two models, two recipes, four classes: none was made twice
    assert main([*command, "--report"]) == 0 and len(made) == 4 * 4
    assert main([*command, "--seeds", "2"]) == 0 and len(made) == 2 * 4 * 4  # only the second seed's
    assert main([*command, "--report"]) == 0
    rows = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("| demo")]
    assert len(rows) == 4 and all("| 8 |" in row for row in rows)
    assert (tmp_path / "demo_resnet.png").is_file() and (tmp_path / "demo_convnext.png").is_file()


def test_models_of_other_classes_judge_nothing(tmp_path, monkeypatch, capsys, wrap):
    two = wrap(Brightest([0, 1]), classes=2).float()
    models = {"a": two, "b": wrap(Brightest([0, 1, 2])).float()}
    monkeypatch.setattr(features, "get_model", models.__getitem__)
    assert main(["features", "--models", "a", "b", "--output", str(tmp_path)]) == 2
    assert "different classes" in capsys.readouterr().err


def test_a_consensus_is_judged_by_the_one_left_out(tmp_path, capsys):
    command = ["features", "--models", "demo:resnet", "demo:convnext", "demo:vit", "--recipes", "lucid", "--classes", "0,5",
               "--image-steps", "3", "--consensus", "--output", str(tmp_path)]  # fmt: skip
    assert main(command) == 0
    rows = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("| demo")]
    assert [row.split("|")[1].strip() for row in rows] == [
        "demo:convnext + demo:vit", "demo:resnet + demo:vit", "demo:resnet + demo:convnext"
    ]  # fmt: skip
    record = json.loads(next((tmp_path / "demo_convnext_demo_vit").glob("*/pictures.json")).read_text())
    assert len({weights["sha256"] for weights in record["weights"]}) == 2
    assert main([*command[:4], *command[5:]]) == 2 and "three or more" in capsys.readouterr().err


def test_small_changes_are_what_they_say():
    pixels = np.zeros((50, 50, 3), np.uint8)
    pixels[20:30, 20:30] = 255
    changed = {name: shown[0] for name, shown in disturbed([pixels]).items()}
    assert all(shown.shape == pixels.shape and shown.dtype == np.uint8 for shown in changed.values())
    assert np.array_equal(changed["5 pixels"][25:35, 25:35], pixels[20:30, 20:30])
    assert (changed["5 pixels"][:5] == 128).all() and (changed["× 0.8"][:5] == 128).all()
    assert (changed["× 0.8"] > 200).all(2).sum() == pytest.approx(64, abs=20)  # a hundred pixels, .8 each way
    assert 0 < np.abs(changed["JPEG 75"].astype(int) - pixels).mean() < 5
    turned = 255 * rotate(pixels, 10, cval=128 / 255)
    assert np.abs(turned - changed["10°"])[5:-5, 5:-5].mean() < 2


def test_pictures_are_judged_as_they_are_kept(wrap, tmp_path):
    """8 bits, whole, and in the order of the classes."""
    model = wrap(Brightest([0, 1, 2])).float()
    coloured(tmp_path / "p", [(0, 0, 1), (0, 1, 0)])
    assert features.picture(tmp_path / "p", 0).dtype == np.uint8
    score = features.score(features.Source((model,)), LUCID, [model], [1, 0], tmp_path / "p")
    assert score.own.tolist() == [True, False]
    assert torch.get_default_dtype() == torch.float32


def test_a_variant_is_a_recipe_with_settings_of_ones_own(tmp_path, capsys):
    command = ["features", "--models", "demo:resnet", "demo:convnext", "--classes", "1", "--image-steps", "2",
               "--recipes"]  # fmt: skip
    varied = [*command, "--output", str(tmp_path), "--variant", "calm", "lsd", "tv=0.5", "transforms.zoom=[1, 2]"]
    assert main(varied) == 0
    rows = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("| demo")]
    assert [row.split("|")[2].strip() for row in rows] == ["calm", "calm"]
    record = json.loads(next((tmp_path / "demo_resnet").glob("calm-*/pictures.json")).read_text())
    assert record["recipe"]["tv"] == 0.5 and record["recipe"]["transforms"]["zoom"] == [1, 2]
    assert main([*command, "--output", str(tmp_path)]) == 2 and "one at least" in capsys.readouterr().err
    assert main([*varied, "--variant", "calm", "lsd"]) == 2 and "names of their own" in capsys.readouterr().err
    assert main([*varied, "--variant", "calm"]) == 2 and "--variant calm lsd" in capsys.readouterr().err
    assert main([*varied, "--variant", "x", "lsd", "tvv=1"]) == 2 and "not a setting" in capsys.readouterr().err


def test_a_sheet_of_many_classes_goes_on_below(wrap, tmp_path):
    model = wrap(Brightest([0, 1, 2])).float()
    model.class_names = tuple(f"name {i}" for i in range(12))
    coloured(tmp_path / "p", [(1, 0, 0)] * 11 + [(0, 1, 0)])
    ten, twelve = (
        features.sheet(features.Source((model,)), [LUCID], [tmp_path / "p"], range(n)).convert("RGB") for n in (10, 12)
    )
    assert twelve.width == ten.width and 1.5 * ten.height < twelve.height < 2 * ten.height
    assert twelve.crop((0, 0, ten.width, ten.height)).tobytes() == ten.tobytes()

    def is_green(x):
        return (x[..., 1] > 150) & (x[..., 0] < 100)

    assert not is_green(np.array(ten)).any()
    _, columns = np.where(is_green(np.array(twelve)))
    assert columns.max() < ten.width / 3  # the twelfth: the second of the second row


# What time buys


def test_every_recipe_is_made_at_every_budget_once():
    recipes = features.at_budgets([LUCID, replace(MACO, steps=8)], ["16", "32", "own"])
    assert [(r.name, r.steps * r.transforms.views) for r in recipes] == [
        ("lucid", 16), ("lucid", 32), ("lucid", 512), ("maco", 16), ("maco", 32)
    ]  # fmt: skip
    for budget in ("0", "-3", "many", "1.5"):
        with pytest.raises(LSDError, match="is no budget"):
            features.at_budgets([LUCID], [budget])


def test_budgets_are_judged_apart_and_plotted(tmp_path):
    command = ["features", "--models", "demo:resnet", "demo:convnext", "--recipes", "lucid", "none", "--classes", "1,3",
               "--image-steps", "2", "5", "--output", str(tmp_path)]  # fmt: skip
    assert main(command) == 0
    rows = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("| demo")]
    assert [tuple(cell.strip() for cell in row.split("|")[2:4]) for row in rows] == 2 * [
        ("lucid", "2"), ("lucid", "5"), ("none", "2"), ("none", "5")
    ]  # fmt: skip
    for name in ("seconds.png", "views.png"):
        plot = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        assert plot.shape[1] > plot.shape[0] > 200 and len(np.unique(plot.reshape(-1, 3), axis=0)) > 20
    assert main([*command[:-5], "--image-steps", "3", "--output", str(tmp_path / "one")]) == 0
    assert not (tmp_path / "one" / "views.png").exists()


def scored(source, recipe, views, seconds, hits):
    others = {"a": tuple(np.array(hits, float) for _ in range(3)), "b": tuple(np.zeros(len(hits)) for _ in range(3))}
    blank = dict.fromkeys(("own", "robust"), np.ones((len(hits), 1)))
    return features.Score(
        source, recipe, len(hits), own_probability=1.0, others=others, apart=0.0, flat=0.0, fine=0.0, contrast=0.2,
        clipped=0.0, image_steps=views, seconds=seconds, **blank,
    )  # fmt: skip


def test_a_curve_goes_from_the_cheapest_run_to_the_dearest():
    scores = [
        scored("s", "x", 64, 5.0, [1, 1, 1, 1]),
        scored("s", "x", 16, 9.0, [1, 0, 0, 1]),
        scored("t", "y", 8, 1.0, [0, 0]),
    ]
    views, seconds = (time_to_quality.curves(scores, x) for x in ("views", "seconds"))
    assert list(views) == ["s", "t"] and list(views["s"]) == ["x"]
    assert views["s"]["x"][:, :2].tolist() == [[16, 0.25], [64, 0.5]]  # the mean over both verifiers
    assert seconds["s"]["x"][:, 0].tolist() == [5.0, 9.0]
    low, high = views["s"]["x"][0, 2:]
    assert low <= 0.25 <= high and views["s"]["x"][1, 2:].tolist() == [0.5, 0.5]


def test_a_table_says_how_harsh_the_pictures_are(tmp_path, wrap):
    model = wrap(Brightest([0, 1, 2])).float()
    folder = tmp_path / "p"
    coloured(folder, [(1, 0, 0), (0, 1, 0)])
    score = features.score(features.Source((model,)), LUCID, [model], [0, 1], folder)
    pixels = [features.picture(folder, i) for i in (0, 1)]
    assert score.contrast == pytest.approx(np.mean([p.std() for p in pixels]) / 255)
    assert score.clipped == pytest.approx(np.mean([((p <= 2) | (p >= 253)).mean() for p in pixels]))
    text = features.table([score])
    assert f"| {score.contrast:.2f} | {score.clipped:.1%} |" in text and "| 512 | 2 |" in text


def test_photos_say_what_is_usual(tmp_path):
    generator = np.random.default_rng(0)
    for i in range(4):
        pixels = np.clip(generator.normal(128, 20 * (i + 1), (40, 60, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    sentence = features.of_photos(tmp_path)
    assert sentence.startswith("Of 4 photos") and all(
        word in sentence for word in ("fine energy", "contrast 0.0", "black or white")
    )
    with pytest.raises(LSDError, match="no photos"):
        features.of_photos(tmp_path / "none")
