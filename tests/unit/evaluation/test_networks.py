"""The study of whether a score can compare networks."""

import numpy as np
import pytest

from lsd.evaluation import __main__ as command
from lsd.evaluation.controls import CONTROLS
from lsd.evaluation.inpainting import FILLS
from lsd.evaluation.networks import (
    CALIBRATIONS,
    CELLS,
    CONTROL,
    OWN,
    Row,
    _rank_correlations,
    agreement,
    beats_random,
    beyond_random,
    enlarged,
    other_photos,
    plain,
    rows_of,
    scores,
    shapes,
)  # fmt: skip
from lsd.saliency.likeness import rank_correlation


def test_a_hole_is_the_strongest_fifth_and_its_likes_have_the_same_shape():
    saliency = np.zeros((56, 56))
    saliency[8:24, 20:48] = 1
    cells, *others = shapes(saliency)
    assert cells.sum() == round(0.2 * CELLS**2) and cells[2:6, 5:12].all()
    assert len(others) == 3 and all((other != cells).any() for other in others)
    for other in others:
        assert any((np.roll(cells, (y, x), axis=(0, 1)) == other).all() for y in range(CELLS) for x in range(CELLS))
    assert all((a == b).all() for a, b in zip(others, shapes(saliency)[1:], strict=True))
    hole = enlarged(cells, (56, 42))
    assert hole.shape == (56, 42) and hole.mean() == pytest.approx(cells.mean())
    assert (hole == np.repeat(np.repeat(cells, 4, 0), 3, 1)).all()


def test_scores_say_what_they_say():
    row = Row("a", "", OWN, "mean", 0.25, (0.5, 0.25, 0.75))
    assert (
        plain(row) == 0.75 and beyond_random(row) == pytest.approx(0.25) and beats_random(row) == pytest.approx(2.5 / 3)
    )


def test_rows_are_of_both_maps_and_all_fillings(image_model, pictures):
    model, image = image_model("test_resnet", 56), pictures(1, 56)
    rows = rows_of(model, image, 3, "x")
    assert [(row.fill, row.map) for row in rows] == [(fill, kind) for fill in FILLS for kind in (OWN, CONTROL)]
    whole = model.probabilities(image)[0, 3].item()
    for row in rows:
        assert row.left > 0 and len(row.rolled) == 3
    centre = next(row for row in rows if (row.fill, row.map) == ("mean", CONTROL))
    hole = enlarged(shapes(CONTROLS[CONTROL](image[0].numpy(), 0))[0], (56, 56))
    gone = image.clone()
    gone[0][:, hole] = model.mean[0].expand(3, 56, 56)[:, hole]
    assert centre.left == pytest.approx(model.probabilities(gone)[0, 3].item() / whole, rel=1e-9)


def test_agreement_of_rankings():
    generator = np.random.default_rng(0)
    clear = np.arange(5)[:, None] + 0.01 * generator.standard_normal((5, 30))
    assert agreement(clear, clear) == pytest.approx((1, 1, 1))
    assert agreement(clear, -clear) == pytest.approx((-1, -1, -1))
    assert other_photos(clear) == pytest.approx((1, 1, 1))
    noise = generator.standard_normal((5, 30))
    _, low, high = agreement(clear, noise)
    assert low < 0.3 and high - low > 0.5 and other_photos(noise)[1] < 0


def test_many_rank_correlations_are_those_of_each():
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 4, (2, 40, 5)).astype(float)  # with ties
    a[0] = 1  # no order
    expected = [rank_correlation(*pair) for pair in zip(a, b, strict=True)]
    np.testing.assert_allclose(_rank_correlations(a, b), expected, atol=1e-12)


def test_scores_are_put_by_network_and_photo():
    rows = [
        Row(m, i, OWN, "blur", 0.1 * k, (0.5,))
        for k, (m, i) in enumerate([("a", "x"), ("b", "y"), ("a", "y"), ("b", "x")])
    ]
    found = scores(rows, ["a", "b"], OWN)
    assert set(found) == {(fill, how) for fill in FILLS for how in CALIBRATIONS}
    np.testing.assert_allclose(found["blur", "none"], [[1, 0.8], [0.7, 0.9]])


def test_the_command_goes_on_where_it_was(tmp_path, capsys):
    arguments = [
        "networks",
        "--models",
        "demo:resnet",
        "demo:vit",
        "demo:convnext",
        "--images",
        "demo",
        "--photos",
        "2",
    ]
    arguments += ["--output", str(tmp_path)]
    assert command.main(arguments) == 0
    first = capsys.readouterr().out
    assert "2 photos that all 3 networks get right" in first and "| beats random |" in first
    file = tmp_path / "rows.jsonl"
    whole = file.read_text()
    file.write_text(whole[:-20])
    assert command.main([*arguments, "--report"]) == 2  # one photo is whole, and one is not
    capsys.readouterr()
    assert command.main(arguments) == 0
    assert capsys.readouterr().out.partition("2 photos that")[2] == first.partition("2 photos that")[2]
    assert command.main(["networks", "--models", "demo:resnet", "--images", "demo", "--output", str(tmp_path)]) == 2
    assert "at least three networks" in capsys.readouterr().err
