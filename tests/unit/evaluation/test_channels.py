"""Pictures of channels held against photos, where the answer is known."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from torch import nn

from lsd.errors import LSDError
from lsd.evaluation import channels
from lsd.evaluation.__main__ import main
from lsd.features.recipes import LUCID
from lsd.features.units import parse
from lsd.models import get_model

QUICK = replace(LUCID, steps=4)


class Shut(nn.Module):
    """One channel that grows with the picture's brightness, and one that no picture opens."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 2, 1), nn.ReLU()
        self.conv.weight.data = nn.init.ones_(self.conv.weight.data) / 3
        self.conv.bias.data[:] = self.conv.bias.data.new_tensor([1.0, -1e3])

    def forward(self, x):
        return self.act(self.conv(x)).mean((2, 3))


def test_ranks_count_the_photos_that_excite_a_channel_less(wrap):
    model = wrap(Shut()).float()
    units = [parse("act/channel/0"), parse("act/channel/1")]
    score = channels.ranks(model, QUICK, units, np.zeros((2, 4))).ratio
    assert np.isnan(score).all()  # no photo excites anything, so there is nothing to divide by
    photos = np.array([[0.1, 0.2, 1e4, 1e4], [0.0, 0.0, 0.0, 0.0]])
    found = channels.ranks(model, QUICK, units, photos)
    assert found.units == ("act/channel/0",) and found.dead == 1
    assert found.rank.tolist() == [0.5] and 0 < found.ratio[0] < 1e-2 and found.edge.shape == (1,)
    row = channels.table([found]).splitlines()[-1]
    assert "| 1 | 1 | 0.0% | 0.0% |" in row


def test_the_command_prints_and_keeps_what_it_found(tmp_path, capsys):
    model = get_model("demo:resnet")
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 255, (model.spec.height, model.spec.width, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
    command = ["channels", "--models", "demo:resnet", "--recipes", "lucid", "none", "--units", "layer:curated:2:2",
               "--steps", "3", "--photos", str(tmp_path), "--output", str(tmp_path / "out" / "channels.json")]  # fmt: skip
    assert main(command) == 0
    rows = json.loads((tmp_path / "out" / "channels.json").read_text())
    assert {row["recipe"] for row in rows} == {"lucid", "none"} and len({row["unit"] for row in rows}) == 4
    assert all(row["rank"] in {0, 1 / 3, 2 / 3, 1} and 0.1 < row["edge"] < 2 for row in rows)
    printed = capsys.readouterr().out
    edge = np.median([row["edge"] for row in rows if row["recipe"] == "none"])
    assert printed.count("| demo:resnet | none |") == 2 and f"| {edge:.2f} |" in printed


def test_a_folder_without_photos_is_told(tmp_path, capsys):
    assert main(["channels", "--models", "demo:resnet", "--photos", str(tmp_path)]) == 2
    assert "no photos" in capsys.readouterr().err
    with pytest.raises(LSDError, match="no photos"):
        next(channels.photo_batches(tmp_path, get_model("demo:resnet")))
