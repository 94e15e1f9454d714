import math
import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from lsd.errors import UndefinedError
from lsd.evaluation.fooled_cases import Answer
from lsd.evaluation.labelled import FileItem, open_set
from lsd.evaluation.mistakes import SORTS, accuracy, asked_about, confusions, scan, select

NAMES = ("red", "green", "blue")
COLOURS = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250), "brown": (150, 90, 0)}
# What each file shows; the folder is its label.
FILES = {
    "blue/0": "blue", "blue/1": "red", "green/0": "green", "green/1": "green", "green/2": "brown",
    "red/0": "red", "red/1": "blue", "red/2": "brown",
}  # fmt: skip


@pytest.fixture
def pictures(tmp_path):
    for file, colour in FILES.items():
        path = tmp_path / "colours" / f"{file}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), COLOURS[colour]).save(path)
    (tmp_path / "colours" / "green" / "broken.png").write_bytes(b"not a picture")
    return open_set(str(tmp_path / "colours"))


@pytest.fixture
def colour_model(linear):
    """Names the strongest colour channel; `order` is the order of its classes, `blind` one that it never names."""

    def make(name, order=NAMES, blind=None, called=None):
        weight = torch.zeros(3, 3, 4, 4)
        for row, colour in enumerate(order):
            weight[row, NAMES.index(colour)] = 1 / 16
        bias = torch.tensor([-9.0 if colour == blind else 0.0 for colour in order])
        return linear(weight, bias, called or order, name)

    return make


def run(models, pictures, **settings):
    *_, last = scan(models, pictures, **settings)
    return last.result


def test_predictions_are_what_the_models_say(pictures, colour_model):
    models = [colour_model("plain"), colour_model("shuffled", NAMES[::-1])]
    result = run(models, pictures)
    assert [item.id for item in result.items] == [f"{file}.png" for file in FILES]
    strongest = {"brown": "red"}
    for row, model in enumerate(models):
        names = result.class_names[row]
        assert [names[i] for i in result.true[row]] == [file.split("/")[0] for file in FILES]
        assert [names[i] for i in result.predicted[row]] == [strongest.get(c, c) for c in FILES.values()]
        x = torch.tensor([COLOURS[c] for c in FILES.values()]).div(255)[..., None, None].expand(-1, -1, 4, 4)
        expected = model.probabilities(x).numpy()
        assert np.allclose(result.probability[row], expected.max(axis=1), atol=1e-6)
        assert np.allclose(result.true_probability[row], expected[np.arange(8), result.true[row]], atol=1e-6)


def test_damaged_pictures_are_reported_and_count_nowhere(pictures, colour_model):
    steps = list(scan([colour_model("plain")], pictures, batch_size=4))
    assert [(s.done, s.total) for s in steps] == [(0, 9), (4, 9), (8, 9), (9, 9)]
    assert steps[0].result is None
    assert [len(s.result.items) for s in steps[1:]] == [4, 7, 8]  # what a scan has found is there if it is stopped
    assert [u.item.id for u in steps[-1].unreadable] == ["green/broken.png"]
    assert "'green/broken.png'" in steps[-1].result.unreadable[0].reason
    assert steps[-1].result.accuracy("plain").total == 8


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_what_is_known_is_not_asked_and_not_decoded(pictures, colour_model, monkeypatch, batch_size):
    models = [colour_model("plain"), colour_model("blind", blind="green")]
    expected = run(models, pictures)
    known = {
        (model.name, item.id): Answer(*(float(part[row, column]) for part in (
            expected.predicted, expected.probability, expected.true_probability
        )))
        for row, model in enumerate(models) for column, item in enumerate(expected.items)
    }  # fmt: skip
    first, second, *_ = (item.id for item in expected.items)
    del known["plain", first], known["plain", second], known["blind", second]
    monkeypatch.setattr(FileItem, "answer", lambda item, model: known.get((model.name, item.id)))
    decoded, original = [], FileItem.picture
    monkeypatch.setattr(FileItem, "picture", lambda item: decoded.append(item.id) or original(item))
    assert asked_about(models, pictures) == 3  # the broken one among them
    found = run(models, pictures, batch_size=batch_size)
    assert sorted(decoded) == sorted([first, second, "green/broken.png"]) and len(found.unreadable) == 1
    for name in ("true", "predicted", "probability", "true_probability"):
        assert np.allclose(getattr(found, name), getattr(expected, name), atol=1e-6)
    assert [item.id for item in found.items] == [item.id for item in expected.items]


def test_the_batch_size_changes_nothing(pictures, colour_model):
    models = [colour_model("plain"), colour_model("blind", blind="green")]
    one, many = run(models, pictures, batch_size=1), run(models, pictures, batch_size=64)
    for name in ("true", "predicted", "probability", "true_probability"):
        assert np.allclose(getattr(one, name), getattr(many, name), atol=1e-6)


def test_closing_stops_the_work(pictures, colour_model):
    model = colour_model("plain")
    steps = scan([model], pictures, batch_size=2)
    assert model.net.seen == 0
    next(steps), next(steps)
    steps.close()
    assert model.net.seen == 2


def test_each_picture_is_decoded_once_and_none_is_kept(pictures, colour_model, monkeypatch):
    decoded, alive = [], []
    original = FileItem.picture

    def picture(item):
        assert sum(reference() is not None for reference in alive) <= 1  # the last one may wait for the next
        image = original(item)
        decoded.append(item.id)
        alive.append(weakref.ref(image))
        return image

    monkeypatch.setattr(FileItem, "picture", picture)
    result = run([colour_model("a"), colour_model("b")], pictures)
    assert sorted(decoded) == sorted(item.id for item in result.items)
    assert not any(reference() is not None for reference in alive)


def test_selecting_mistakes(pictures, colour_model):
    result = run([colour_model("plain"), colour_model("blind", blind="red")], pictures)
    plain = select(result, "plain")
    assert {p.item.id for p in plain} == {"blue/1.png", "green/2.png", "red/1.png"}
    assert [p.probability for p in plain] == sorted((p.probability for p in plain), reverse=True)
    assert {p.item.id for p in select(result, "plain", true="blue")} == {"blue/1.png"}
    assert {p.item.id for p in select(result, "plain", predicted=NAMES.index("red"))} == {"blue/1.png", "green/2.png"}
    assert select(result, "plain", true="blue", predicted="green") == []
    assert [p.item.id for p in select(result, "plain", sort="set")] == ["blue/1.png", "green/2.png", "red/1.png"]
    true = [p.true_probability for p in select(result, "plain", sort="true probability")]
    assert true == sorted(true)
    margins = [p.probability - p.true_probability for p in select(result, sort="margin")]
    assert margins == sorted(margins, reverse=True)
    assert all(len(select(result, sort=sort)) == result.wrong.sum() for sort in SORTS)
    first = select(result, "plain", true="blue")[0]
    assert (first.true_name, first.predicted_name, first.true, first.predicted) == ("blue", "red", 2, 0)


def test_how_many_models_are_wrong(pictures, colour_model):
    result = run([colour_model("plain"), colour_model("blind", blind="red")], pictures)
    wrong = {
        model: {result.items[i].id for i in np.flatnonzero(wrong)}
        for model, wrong in zip(result.models, result.wrong, strict=True)
    }
    both, one = wrong["plain"] & wrong["blind"], wrong["plain"] ^ wrong["blind"]
    assert both and one
    assert {p.item.id for p in select(result, wrong_by={2})} == both
    assert {p.item.id for p in select(result, wrong_by={1})} == one
    assert {p.item.id for p in select(result, "blind", wrong_by={1})} == wrong["blind"] - wrong["plain"]
    assert select(result, sort="wrong by")[0].wrong_by == 2


def test_confusions(pictures, colour_model):
    result = run([colour_model("plain")], pictures)
    red, green, blue = range(3)
    assert confusions(result, "plain") == [(red, blue, 1), (green, red, 1), (blue, red, 1)]
    assert sum(count for *_, count in confusions(result, "plain")) == result.wrong.sum()


def test_accuracy_and_its_interval(pictures, colour_model):
    found = run([colour_model("plain")], pictures).accuracy("plain")
    assert (found.correct, found.total, found.value) == (5, 8, 5 / 8)
    eight_of_ten = accuracy(8, 10)  # by R's prop.test(8, 10, correct = FALSE)
    assert (eight_of_ten.low, eight_of_ten.high) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert (accuracy(10, 10).low, accuracy(10, 10).high) == pytest.approx((0.7224672, 1), abs=1e-6)
    assert (accuracy(0, 0).low, accuracy(0, 0).high) == (0, 1) and math.isnan(accuracy(0, 0).value)


def test_a_set_without_a_readable_picture(tmp_path, colour_model):
    for name in NAMES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"nothing")
    result = run([colour_model("plain")], open_set(str(tmp_path)))
    assert result.accuracy("plain").total == 0 and len(result.unreadable) == 3 and select(result) == []


def test_what_cannot_be_scanned_is_refused(pictures, colour_model):
    plain = colour_model("plain")
    cats = colour_model("cats", called=("cat", "dog", "owl"))
    broken = colour_model("broken")
    broken.net.bias[0] = float("nan")
    for models, settings, sentence in [
        ([], {}, "at least one model"),
        ([plain, colour_model("plain")], {}, "Two models"),
        ([plain, cats], {}, "labels of colours are not classes of cats"),
        ([plain], {"batch_size": 0}, "batch_size"),
        ([broken], {}, "not finite"),
    ]:
        with pytest.raises(UndefinedError, match=sentence):
            list(scan(models, pictures, **settings))
    result = run([plain, plain], pictures)
    assert result.models == ("plain",)
    for arguments in ({"model": "other"}, {"true": "purple"}, {"predicted": 7}, {"sort": "colour"}):
        with pytest.raises(UndefinedError):
            select(result, **arguments)
