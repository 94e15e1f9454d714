"""The sweep over timm's architectures: rows of what holds, crashes and hangs among them."""

import argparse
import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lsd.errors import LSDError
from lsd.evaluation import conform, conformance
from lsd.evaluation.__main__ import main


def options(folder, *names, **more):
    parser = argparse.ArgumentParser()
    conformance.add_arguments(parser)
    return argparse.Namespace(**vars(parser.parse_args([*names, "--output", str(folder)])) | more)


def test_a_network_that_is_right_is_a_row_and_is_not_made_again(tmp_path, capsys, monkeypatch):
    assert main(["conformance", "test_resnet", "--output", str(tmp_path)]) == 0
    row = json.loads((tmp_path / "rows" / "test_resnet.json").read_text())
    assert row["family"] == "resnet" and row["side"] == 64 and row["next"] == "" and row["peak_mib"] > 100
    assert {row[check]["verdict"] for check in conformance.CHECKS} == {"right"}
    assert row["units"]["of"] == dict.fromkeys(["class/3", "layer4/channel/0", "layer4/neuron/0/0/0"], "right")
    assert row["derivative"]["difference"] < 1e-6 and row["methods"]["of"]["grad_cam"] == "right"
    assert "1 architectures: 1 right, 0 refused, 0 wrong, 0 broken" in capsys.readouterr().out
    monkeypatch.setattr(conformance, "_one", None)
    assert main(["conformance", "test_resnet", "--output", str(tmp_path)]) == 0


def test_a_hang_is_a_row(tmp_path):
    conformance.run(options(tmp_path, "test_vit", seconds=0.2))
    row = json.loads((tmp_path / "rows" / "test_vit.json").read_text())
    assert row["load"] == {"verdict": "broken", "why": "it took more than 0 seconds"}
    assert conformance.verdict(row) == "over time"


def test_too_little_memory_is_a_row(tmp_path):
    conformance.run(options(tmp_path, "test_vit", memory=0.5))
    row = json.loads((tmp_path / "rows" / "test_vit.json").read_text())
    assert conformance.verdict(row) in ("over memory", "broken")  # broken, if it was too little to begin with


def test_nobody_of_that_name(tmp_path):
    with pytest.raises(LSDError, match="No architecture of timm is called nonsense"):
        conformance.run(options(tmp_path, "nonsense"))


class Sick(nn.Module):
    """Puts out numbers whose gradient autograd is told wrong."""

    class _Lie(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, slope):
            return slope * 3

    def __init__(self):
        super().__init__()
        self.stages = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU())
        self.head = nn.Linear(8, 10)
        self.num_classes = 10

    def forward(self, x):
        return self.head(self.stages(self._Lie.apply(x)).mean((2, 3)))


def test_a_wrong_derivative_is_found(wrap):
    """By differences; Captum asks the same autograd, and agrees."""
    model = wrap(Sick(), 32, 10).float()
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert conform.derivative(model, image)["verdict"] == "wrong"
    assert conform.methods(model, image)["of"]["gradient"] == "right"


def test_where_captum_has_nothing_to_compare_a_slow_implementation_has_the_last_word():
    """Blocks of legacy_xception begin with a ReLU whose input goes into their shortcut as well."""
    _, side, settings = conform.smallest("legacy_xception")
    model = conform.build("legacy_xception", side, settings)
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    assert conform.slow_rule(model, image, "guided_backprop") <= 1e-5
    assert conform.slow_rule(model, image, "deconvnet") <= 1e-5
    told = conform.methods(model, image)["of"]["guided_backprop"]
    assert told.startswith("right: by a slow implementation; Captum changes the gradient of all that goes into a ReLU")


def test_a_unit_of_a_steep_network_rises_in_smaller_steps(monkeypatch):
    def leap(model, units, recipe):
        rises = recipe.learning_rate < 1e-3
        yield SimpleNamespace(finished=[SimpleNamespace(trace=(1.0, 2.0 if rises else 0.0), status="ok")])

    monkeypatch.setattr(conform, "ascend", leap)
    assert conform._climb(None, "class/3") == "right"
    monkeypatch.setattr(conform, "_CLIMBS", conform._CLIMBS[:1])
    assert conform._climb(None, "class/3") == "wrong: (1.0, 0.0)"


def test_what_is_left_behind_is_found(wrap):
    model = wrap(Sick(), 32, 10)
    assert conform.nothing_left(model, torch.zeros(1))["verdict"] == "right"
    handle = model.net.head.register_forward_hook(lambda *_: None)
    assert conform.nothing_left(model, torch.zeros(1)) == {"verdict": "wrong", "left": ["head"]}
    handle.remove()
    model.net.head.train()
    assert conform.nothing_left(model, torch.zeros(1))["verdict"] == "wrong"


def test_the_summary_names_what_is_wrong():
    good = {check: {"verdict": "right"} for check in conformance.CHECKS}
    layers = {"verdict": "right", "layouts": {"nchw": 3, "other": 2}, "refused": {"why": 1}}
    rows = [
        good | {"name": "a", "family": "f", "layers": layers},
        good | {"name": "b", "family": "f", "methods": {"verdict": "wrong", "of": {"gradient": "wrong: 1e-1", "x": "right"}}},
        good | {"name": "c", "family": "g", "units": {"verdict": "broken", "why": "RuntimeError: can't allocate memory"}},
        good | {"name": "d", "family": "g", "layers": {"verdict": "refused", "why": "no places"}},
        good | {"name": "e", "family": "g", "units": {"verdict": "broken", "why": "it took more than 9 seconds"}},
    ]  # fmt: skip
    text = conformance.summary(rows)
    assert text[0] == "5 architectures: 1 right, 1 refused, 1 wrong, 0 broken, 1 over memory, 1 over time"
    assert "| f | 1 |  | 1 |  |  |  | 3 | 1 | 0e+00 | 0e+00 |" in text
    assert "- b: methods wrong: gradient: wrong: 1e-1" in text
    assert not any(line.startswith(("- a", "- d")) for line in text)
