"""Top-1 and top-5 of labelled pictures."""

import numpy as np
import torch

from lsd.evaluation.__main__ import main
from lsd.evaluation.accuracy import accuracies
from lsd.evaluation.labelled import open_set, true_indices
from lsd.evaluation.mistakes import scan
from lsd.images import prepare
from lsd.models import get_model

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


def test_the_command_prints_a_row_a_model(capsys):
    assert main(["accuracy", "--models", "demo:resnet", MODEL, "--images", "photos"]) == 2
    assert main(["accuracy", "--models", "tf_efficientnet_lite0.in1k", "--images", "photos"]) == 0
    assert "| EfficientNet-Lite0 | tf_efficientnet_lite0.in1k | 6 | 50.0% [" in capsys.readouterr().out
