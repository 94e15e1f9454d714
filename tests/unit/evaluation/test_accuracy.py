"""Top-1 and top-5 of labelled pictures."""

import numpy as np
import pytest
import torch

from lsd.errors import UndefinedError
from lsd.evaluation.__main__ import main
from lsd.evaluation.accuracy import accuracies
from lsd.evaluation.labelled import open_set, true_indices
from lsd.evaluation.mistakes import scan
from lsd.images import prepare
from lsd.models import get_model
from lsd.view import View

MODEL = "demo:shortcut"


def test_top_one_is_what_a_scan_finds_and_top_five_a_sort():
    pictures, model = open_set("demo:misleading-tags", limit=40), get_model(MODEL)
    found = accuracies(model, pictures)
    *_, last = scan([model], pictures)
    assert found[1] == last.result.accuracy(MODEL)
    inputs = torch.from_numpy(np.stack([prepare(item.picture(), model.spec) for item in pictures]))
    first = model.probabilities(inputs).argsort(1, descending=True)[:, :5].numpy()
    right = (first == true_indices(pictures, model)[:, None]).any(1)
    assert found[5].correct == right.sum() and found[1].correct < found[5].correct < found[5].total == 40


def test_numbers_that_are_not_finite_are_refused_and_ties_are_nobodys_favour(monkeypatch):
    pictures, model = open_set("demo", limit=16), get_model(MODEL)
    monkeypatch.setattr(type(model), "probabilities", lambda self, images: torch.full((len(images), 16), 1 / 16))
    assert accuracies(model, pictures)[1].correct == 1  # that of class 0, which comes first
    monkeypatch.setattr(type(model), "probabilities", lambda self, images: torch.full((len(images), 16), torch.nan))
    with pytest.raises(UndefinedError, match="not finite"):
        accuracies(model, pictures)


def test_the_command_prints_a_row_a_model(capsys):
    assert main(["accuracy", "--models", "demo:resnet", MODEL, "--images", "example-photos"]) == 2
    assert main(["accuracy", "--models", "tf_efficientnet_lite0.in1k", "--images", "example-photos"]) == 0
    assert "| EfficientNet-Lite0 | tf_efficientnet_lite0.in1k | evaluated | 6 | 50.0% [" in capsys.readouterr().out


def test_models_can_be_shown_other_than_the_evaluations_crop(capsys):
    pictures, model = open_set("demo:misleading-tags", limit=40), get_model(MODEL)
    view = View((10, 10, 60))
    inputs = torch.from_numpy(np.stack([prepare(item.picture(), model.spec, view) for item in pictures]))
    right = model.probabilities(inputs).argmax(1).numpy() == true_indices(pictures, model)
    assert accuracies(model, pictures, view)[1].correct == right.sum() != accuracies(model, pictures)[1].correct
    command = ["accuracy", "--models", "tf_efficientnet_lite0.in1k", "--images", "example-photos", "--view"]
    assert main([*command, "evaluated", "padded"]) == 0
    assert [line.split(" | ")[2] for line in capsys.readouterr().out.splitlines()[2:]] == ["evaluated", "padded"]
    for view, sentence in (("wide", "“wide” is no view"), ("0,0,9999", "beyond the picture")):
        assert main([*command, view]) == 2 and sentence in capsys.readouterr().err
