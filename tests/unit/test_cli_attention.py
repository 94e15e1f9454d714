"""Attention on the command line."""

import json

import numpy as np
import pytest
from PIL import Image

from lsd.cli import main
from lsd.images import example_images, open_image
from lsd.models import get_model
from lsd.saliency.attention import attention_layers
from lsd.saliency.bundle import values_sha256
from lsd.saliency.heads import heads_of, in_words, sheet
from lsd.view import View

DAHLIA = "example:Dahlia"


def attention(*arguments):
    return main(["attention", *map(str, arguments)])


def test_a_layers_heads_are_written_as_they_are_told(small_vit, tmp_path, capsys):
    asked = DAHLIA, "--model", small_vit, "--layer", "blocks.1.attn", "--place", "2,3", "--view", "padded"
    assert attention(*asked, "--output", tmp_path) == 0
    record = json.loads((tmp_path / "attention.json").read_text())
    model, picture = get_model(small_vit), open_image(example_images()["Dahlia"].read_bytes())
    found = heads_of(model, picture, "blocks.1.attn", (2, 3), View("padded"))
    assert np.array_equal(np.load(tmp_path / "attention.npy"), found.weights.numpy())
    assert record["attention_sha256"] == values_sha256(found.weights) and record["place"] == [2, 3]
    assert model.identity.is_told_by(record["weights"])
    assert Image.open(tmp_path / "heads.png").size == sheet(picture, found).size
    said = capsys.readouterr().out
    assert all(line in said for line in in_words(found))
    assert attention("--model", small_vit, "--list-layers") == 0
    assert capsys.readouterr().out.split() == list(attention_layers(model))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([DAHLIA], "Which model?"), (["--model", "demo:resnet"], "Which picture?"),
        ([DAHLIA, "--model", "demo:resnet"], "cannot be read as a map: it has none"),
        (["--model", "demo:resnet", "--list-layers"], "cannot be read as a map: it has none"),
        ([DAHLIA, "--model", "demo:resnet", "--place", "up"], "A place is ROW,COLUMN"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line(arguments, sentence, tmp_path, capsys):
    assert attention(*arguments, "--output", tmp_path / "none") == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1 and not (tmp_path / "none").exists()
