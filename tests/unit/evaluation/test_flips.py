import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

from lsd.demo import CLASS_NAMES, SPLIT_SEEDS, demo_models, render
from lsd.errors import LSDError
from lsd.evaluation.__main__ import main
from lsd.evaluation.contrast_maps import mistake_maps, strength
from lsd.evaluation.flip_table import Group, fewest, flipped, mean, mended, percent, report, right_away, wins
from lsd.evaluation.flips import LADDER, MAPS, Flip, Row, climb, find_mistakes, make, read_rows, rows_of, spread
from lsd.evaluation.labelled import open_set
from lsd.evaluation.probe import probe
from lsd.saliency.explain import to_input

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 16
A, B = np.zeros((2, SIDE, SIDE))
A[4:8, 10:14] = 1  # 16 of 256 pixels each
B[9:13, 2:6] = 1
EACH = tuple(n / SIDE**2 for n in range(1, SIDE**2 // 2 + 1))  # one pixel more at a time, up to half


@pytest.fixture
def three(linear):
    """On white, with a and b pixels of A and B turned into the mean colour: z = 8 - a/2, 4.1, b/2 - 2.8."""
    weight = torch.zeros(3, 3, SIDE, SIDE)
    weight[0] = torch.from_numpy(A) * 8 / (3 * 16)
    weight[2] = -torch.from_numpy(B) * 8 / (3 * 16)
    return linear(weight, torch.tensor([0.0, 4.1, 5.2]), ["a", "b", "c"])


@pytest.mark.parametrize(
    ("saliency", "expected"),
    [
        (2 * A + B, Flip(8 / 256, 1, 30 / 256)),  # z_0 < 4.1 with 8 pixels of A gone, z_2 > 4.1 with 14 of B
        (A + 2 * B, Flip(22 / 256, 2, 22 / 256)),  # all of B makes z_2 = 5.2, and 6 pixels of A z_0 = 5
        (A, Flip(8 / 256, 1, None)),
        (1 - A - B, Flip(None, None, None)),  # half of the picture, and neither of the two squares
    ],
)  # fmt: skip
def test_how_many_pixels_it_takes_is_as_counted_by_hand(three, saliency, expected):
    if expected.mended is None:  # what else goes, goes at random, and must not reach B
        saliency = saliency - 2 * B
    (found,) = climb(three, torch.ones(1, 3, SIDE, SIDE), [saliency], predicted=0, true=2, ladder=EACH)
    assert found == expected


def test_maps_side_by_side_do_not_disturb_each_other(three):
    white = torch.ones(1, 3, SIDE, SIDE)
    maps = [2 * A + B, A + 2 * B, 1 - A - B, np.zeros((SIDE, SIDE))]
    alone = [climb(three, white, [one], 0, 2, ladder=EACH)[0] for one in maps]
    assert climb(three, white, maps, 0, 2, ladder=EACH, batch_size=3) == alone


def test_an_answer_that_is_right_is_not_asked_for_again(three):
    three.net.seen = 0
    climb(three, torch.ones(1, 3, SIDE, SIDE), [A + 2 * B], 0, 2, ladder=EACH)
    assert three.net.seen == 22


# ------------------------------------------------------------------------------------------------- a study


@pytest.fixture
def pictures(tmp_path):
    """White pictures, three of which are of class b and c, so that `three` is wrong about them."""
    for name in ("a/0", "b/0", "b/1", "c/0"):
        path = tmp_path / "white" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (SIDE, SIDE), "white").save(path)
    return open_set(str(tmp_path / "white"))


def test_mistakes_are_found_once(three, pictures, tmp_path):
    found = find_mistakes(three, pictures, tmp_path / "out")
    assert [m.item.id for m in found] == ["b/0.png", "b/1.png", "c/0.png"]
    assert {(m.predicted_name, m.true_name) for m in found} == {("a", "b"), ("a", "c")}
    seen = three.net.seen
    again = find_mistakes(three, pictures, tmp_path / "out")
    assert three.net.seen == seen
    assert again == found
    next((tmp_path / "out").glob("*-mistakes.json")).write_text("{}")
    with pytest.raises(LSDError, match="damaged"):
        find_mistakes(three, pictures, tmp_path / "out")


def test_rows_are_what_the_probe_says(three, pictures, tmp_path):
    mistake = find_mistakes(three, pictures, tmp_path)[0]
    rows = rows_of(three, mistake, ["gradient", "gradient_x_input"])
    assert [(row.method, row.map) for row in rows] == [
        (method, name) for method in ("gradient", "gradient_x_input") for name in MAPS
    ]
    image = to_input(three, mistake.item.picture())
    for row in rows:
        maps = mistake_maps(three, image, mistake.true, mistake.predicted, row.method)
        saliency = strength(maps[row.map], (SIDE, SIDE))
        expected = probe(three, image, saliency, fractions=LADDER, classes=(0,), random_repeats=1)
        assert row.flips["map"].fraction == expected.flip_fraction
        assert row.flips["random pixels"].fraction == expected.controls["random pixels"].flip_fraction
        if row.map == "contrast":
            blobs = {r.flips["random blobs"] for r in rows if r.method == row.method}
            assert [flip.fraction for flip in blobs] == [expected.controls["random blobs"].flip_fraction]
        assert (row.true, row.predicted, row.empty) == ("b", "a", False)
    by_contrast = next(row.flips["map"] for row in rows if (row.method, row.map) == ("gradient_x_input", "contrast"))
    assert by_contrast == Flip(0.03, "b", 0.03)  # 8 pixels, of the square; with 5 (2%) z_0 is 5.5


def test_a_map_of_zeros_is_told(linear, pictures, tmp_path):
    flat = linear(torch.zeros(3, 3, SIDE, SIDE), torch.tensor([1.0, 0.0, 0.0]), ["a", "b", "c"])
    rows = rows_of(flat, find_mistakes(flat, pictures, tmp_path)[0], ["gradient"])
    assert [row.empty for row in rows] == [True] * 3
    assert all(flip == Flip(None, None, None) for row in rows for flip in row.flips.values())


def test_what_is_there_is_not_made_again(three, pictures, tmp_path, monkeypatch):
    mistakes = find_mistakes(three, pictures, tmp_path)
    file = tmp_path / "rows.jsonl"
    asked = []
    monkeypatch.setattr(
        "lsd.evaluation.flips.rows_of",
        lambda model, mistake, methods: asked.append((mistake.item.id, *methods)) or rows_of(model, mistake, methods),
    )
    assert make(three, mistakes[0], ["gradient"], file)
    first = file.read_bytes()
    assert {row.item for row in read_rows(file)} == {"b/0.png"}
    assert [make(three, mistake, ["gradient"], file) for mistake in mistakes] == [False, True, True]
    assert file.read_bytes().startswith(first)
    assert make(three, mistakes[0], ["gradient", "gradient_x_input"], file)
    assert not make(three, mistakes[0], ["gradient", "gradient_x_input"], file)
    assert asked == [
        ("b/0.png", "gradient"), ("b/1.png", "gradient"), ("c/0.png", "gradient"), ("b/0.png", "gradient_x_input")
    ]  # fmt: skip
    rows = read_rows(file)
    assert len(rows) == 3 * 4 and len({(row.item, row.method, row.map) for row in rows}) == len(rows)


def test_damaged_rows_are_named(tmp_path):
    assert read_rows(tmp_path / "nothing.jsonl") == []
    for text in ("{", '{"model": "m"}\n', "[]\n"):
        (tmp_path / "rows.jsonl").write_text(text)
        with pytest.raises(LSDError, match=r"rows\.jsonl is damaged"):
            read_rows(tmp_path / "rows.jsonl")


def test_a_limit_takes_mistakes_from_everywhere():
    assert spread(8) == [0, 4, 2, 6, 1, 5, 3, 7]
    assert spread(0) == [] and spread(1, 5) == [0]
    for limit in (4, 10, 50):
        chosen = sorted(spread(101, limit))
        assert chosen == sorted(spread(101)[:limit]) and len(chosen) == limit
        assert max(np.diff([-1, *chosen, 101])) <= 3 * 101 / limit
    assert sorted(spread(101)) == list(range(101))


# ------------------------------------------------------------------------------------------------- its tables


def row(item, name, fraction, to="truth", when_mended=None, method="m", model="net"):
    own = Flip(None, None, None) if fraction is None else Flip(fraction, to, when_mended)
    chance = {"random pixels": Flip(0.5, "other", None), "random blobs": Flip(0.2, "other", None)}
    return Row(model, item, "truth", "wrong", 0.6, 0.2, method, name, False, {"map": own, **chance})


def mistake(item, predicted, true, contrast, **settings):
    return [row(item, name, f, **settings) for name, f in zip(MAPS, (predicted, true, contrast), strict=True)]


def test_ties_are_split_and_never_is_more_than_any():
    never = np.inf
    assert fewest(np.array([[1, 2, 3], [1, 1, 2], [never, never, never], [never, 2, never]])).tolist() == [
        [1, 0, 0], [1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3], [0, 1, 0],
    ]  # fmt: skip
    one, other = np.array([1, 2, never, never, 2]), np.array([2, 2, never, 2, never])
    assert wins(one, other).tolist() == [1, 0.5, 0.5, 0, 1]
    assert flipped(Flip(None, None, None)) == mended(Flip(0.1, "a", None)) == never
    assert [percent(f) for f in (0.001, 0.0025, 0.075, never)] == ["≤ 0.1%", "0.25%", "7.5%", "> 50%"]


def test_the_first_other_answer_is_right_only_if_it_mends_at_once():
    assert [right_away(f) for f in (Flip(0.1, "a", 0.1), Flip(0.1, "b", 0.2), Flip(None, None, None))] == [1, 0, 0]


def test_intervals_are_over_pictures():
    values = np.array([0.0, 1.0] * 20)
    alone = mean(values, [str(i) for i in range(40)])
    paired = mean(values, [str(i // 2) for i in range(40)])  # every picture has one of each: nothing varies
    assert alone[0] == 0.5 and alone[1] < 0.4 < 0.6 < alone[2]
    assert paired == (0.5, 0.5, 0.5)


def test_the_report_of_rows_made_by_hand():
    rows = [
        *mistake("1", 0.1, 0.3, 0.01, when_mended=0.4),
        *mistake("2", 0.1, 0.3, 0.02, to="other"),
        *mistake("3", 0.1, None, None, when_mended=0.1),
        row("4", "true", 0.3),  # its other maps are not made yet
    ]
    group = Group(rows)
    assert group.pictures == ["1", "2", "3"]
    assert group.values(right_away, "predicted").tolist() == [0, 0, 1]
    text = report(rows)
    assert "3 mistakes" in text and "All models" not in text
    lines = [[cell.strip().split(" [")[0] for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    table = {tuple(cells[:2]): cells[2:] for cells in lines if len(cells) == 10}
    assert table["m", "predicted"] == ["10%", "0%", "33%", "100%", "33%", "40%", "67%", "56%"]
    assert table["m", "true"] == ["30%", "33%", "0%", "0%", "0%", "> 50%", "33%", "22%"]
    assert table["m", "contrast"] == ["2%", "33%", "67%", "67%", "0%", "> 50%", "33%", "22%"]
    assert table["m", "*random blobs*"] == ["20%", "0%", "", "", "0%", "> 50%", "0%", ""]
    assert table["", "*random pixels*"] == ["50%", "0%", "", "", "0%", "> 50%", "0%", ""]
    pairs = {cells[1]: cells[2:] for cells in lines if len(cells) == 4}
    assert pairs["contrast against true"] == ["83%", "50%"]  # of the third, neither ever changes the answer
    assert pairs["contrast against predicted"] == ["67%", "33%"]


def test_all_models_together_come_first():
    rows = mistake("1", 0.1, 0.2, 0.3) + mistake("1", 0.1, 0.2, 0.3, model="other")
    text = report(rows)
    assert text.index("## All models") < text.index("## net") < text.index("## other")
    assert "2 mistakes" in text and "1 mistakes" in text


# ------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def tagged(tmp_path):
    """Six drawn pictures with a corner tag that names another class."""
    for index in range(6):
        name = CLASS_NAMES[index]
        sample = render(index, SPLIT_SEEDS["test"][index], tag=(index + 5) % len(CLASS_NAMES))
        (tmp_path / "tagged" / name).mkdir(parents=True)
        Image.fromarray(sample.image).save(tmp_path / "tagged" / name / "0.png")
    return tmp_path / "tagged"


@pytest.mark.skipif("shortcut" not in demo_models(), reason="the demo model “shortcut” is not trained yet")
def test_the_model_that_reads_the_tag_is_mended_by_the_contrast_map(tagged, tmp_path, capsys):
    arguments = ["mistakes", "--models", "demo:shortcut", "--images", str(tagged), "--methods", "gradient"]
    arguments += ["--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    (file,) = (tmp_path / "out").glob("*.jsonl")
    rows = read_rows(file)
    assert asdict(rows[0]) == json.loads(file.read_text().splitlines()[0])
    contrast = [row.flips for row in rows if row.map == "contrast"]
    assert len(contrast) >= 4
    assert np.median([flipped(flips["map"]) for flips in contrast]) <= 0.03
    for chance in ("random pixels", "random blobs"):
        assert np.mean([wins(flipped(f["map"]), flipped(f[chance])) for f in contrast]) > 0.8
        assert np.mean([wins(mended(f["map"]), mended(f[chance])) for f in contrast]) > 0.6

    assert main(arguments) == 0
    again = capsys.readouterr().out
    assert f"{len(contrast)} of them there already" in again and "min left" in first and "min left" not in again
    assert main([*arguments, "--report"]) == 0
    text = (tmp_path / "out" / "tables.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip() and first.endswith(text + "\n")


def test_what_cannot_be_studied_is_refused(tagged, tmp_path, capsys):
    arguments = ["mistakes", "--models", "demo:resnet", "--images", str(tagged), "--output", str(tmp_path / "out")]
    for more, sentence in (
        (["--limit", "0"], "--limit"), (["--methods", "tea leaves"], "no method"), (["--report"], "without --report"),
    ):  # fmt: skip
        assert main(arguments + more) == 2
        assert sentence in capsys.readouterr().err
