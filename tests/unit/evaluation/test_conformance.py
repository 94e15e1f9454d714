"""The sweep over timm's architectures: rows of what holds, crashes and hangs among them."""

import argparse
import copy
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lsd.errors import LSDError
from lsd.evaluation import conform, conform_methods, conformance
from lsd.evaluation.__main__ import main
from lsd.features.notes import FAILED
from lsd.features.units import parse
from lsd.models import ImageModel
from lsd.saliency.methods import METHODS


def options(folder, *names, **more):
    parser = argparse.ArgumentParser()
    conformance.add_arguments(parser)
    return argparse.Namespace(**vars(parser.parse_args([*names, "--output", str(folder)])) | more)


def test_a_network_that_is_right_is_a_row_and_is_not_made_again(tmp_path, capsys, monkeypatch):
    assert main(["conformance", "test_resnet", "--output", str(tmp_path)]) == 0
    row = json.loads((tmp_path / "rows" / "test_resnet.json").read_text())
    assert row["family"] == "resnet" and row["side"] == 64 and row["next"] == "" and row["peak_mib"] > 100
    assert row["profile"] == "full"
    assert {row[check]["verdict"] for check in conformance.CHECKS} == {"right"}
    assert row["units"]["of"] == dict.fromkeys(["class/3", "layer4/channel/0", "layer4/neuron/0/0/0"], "right")
    assert row["derivative"]["difference"] < 1e-6 and row["methods"]["of"]["grad_cam"] == "right"
    assert "1 architectures: 1 right, 0 refused, 0 wrong, 0 broken" in capsys.readouterr().out
    monkeypatch.setattr(conformance, "_one", None)
    assert main(["conformance", "test_resnet", "--output", str(tmp_path)]) == 0


def test_of_networks_that_differ_in_size_the_smallest_is_checked_fully(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        conformance, "_one", lambda _, name, rows, options, brief, stopped: asked.append((name, brief)) or name
    )
    conformance.run(options(tmp_path, "resnet18", "resnet34", "resnet50", "test_vit"))
    assert asked == [("test_vit", False), ("resnet18", False), ("resnet50", False), ("resnet34", True)]
    asked.clear()
    conformance.run(options(tmp_path, "resnet18", "resnet34", brief=True))
    assert asked == [("resnet18", True), ("resnet34", True)]


def test_every_family_has_its_turn_before_any_has_a_second():
    names = ["resnet18", "resnet34", "resnet50", "resnet26d", "vgg11", "vgg11_bn", "test_vit"]
    sizes = dict(resnet18=11, resnet34=21, resnet50=25, resnet26d=16, vgg11=133, vgg11_bn=134, test_vit=1)
    known = {name: {"parameters": sizes[name], "structure": name} for name in names}
    known["resnet34"]["structure"] = "resnet18"
    turns = ["test_vit", "resnet18", "vgg11", "resnet26d", "vgg11_bn", "resnet50", "resnet34"]
    assert conformance._in_order(names, known) == turns


def test_a_crash_is_a_row(tmp_path, monkeypatch):
    class Context:
        """Of which a process dies when it is at the units."""

        def Process(self, target, args):
            name, working, _, _, _, errors = args
            conform.write(working, {"name": name, "family": "f", "next": "units", "load": {"verdict": "right"}})
            errors.write_text("terminate called after\nthrowing an instance")
            return SimpleNamespace(start=lambda: 0, join=lambda _: 0, is_alive=lambda: False, exitcode=-6)

    conformance._one(Context(), "test_vit", tmp_path, options(tmp_path), False, threading.Event())
    row = json.loads((tmp_path / "test_vit.json").read_text())
    said = "its process ended with -6: terminate called after throwing an instance"
    assert row["units"] == {"verdict": "broken", "why": said}
    assert [path.name for path in tmp_path.iterdir()] == ["test_vit.json"]


def test_what_computes_for_too_long_is_a_row(tmp_path):
    conformance.run(options(tmp_path, "vit_tiny_patch16_224", seconds=1))
    row = json.loads((tmp_path / "rows" / "vit_tiny_patch16_224.json").read_text())
    (broken,) = (row[check] for check in conformance.CHECKS if row.get(check, {}).get("verdict") == "broken")
    assert broken["why"] == "it took more than 1 seconds of processor time"
    assert conformance.verdict(row) == "over time"


def test_a_hang_is_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(conformance, "_PATIENCE", 0)
    conformance.run(options(tmp_path, "test_vit"))
    row = json.loads((tmp_path / "rows" / "test_vit.json").read_text())
    assert row["load"] == {"verdict": "broken", "why": "it took more than 0 seconds by the clock"}
    assert conformance.verdict(row) == "over time"


def _asleep(name, working, *rest) -> None:
    """`conform.alone`, which never comes to an end."""
    conform.conform = lambda *_: time.sleep(600)
    (working.parent / "part").write_text(str(os.getpid()))
    (working.parent / "part").rename(working.parent / "pid")
    conform.alone(name, working, *rest)


def _study(folder) -> None:
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, for as long as the process lives
    conform.alone = _asleep
    conformance.run(options(folder, "test_vit"))


def _until(true) -> None:
    deadline = time.monotonic() + 120
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert true()


def _begun(folder) -> int:
    """The number of the process that looks at the network, as soon as it does."""
    file = folder / "rows" / "pid"
    _until(file.exists)
    return int(file.read_text())


def _is_gone(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_study_that_is_killed_leaves_no_process(tmp_path):
    study = multiprocessing.get_context("forkserver").Process(target=_study, args=(tmp_path,))
    study.start()
    network = _begun(tmp_path)
    study.kill()
    study.join()
    _until(lambda: _is_gone(network))
    assert not list(tmp_path.glob("rows/*.json"))


def test_a_study_that_is_interrupted_leaves_no_process_and_no_row(tmp_path, monkeypatch):
    """Ctrl-C tells its processes as well, of which none is broken for that."""
    monkeypatch.setattr(conform, "alone", _asleep)
    usual, main_thread, networks = signal.getsignal(signal.SIGINT), threading.get_ident(), []

    def interrupt() -> None:
        networks.append(_begun(tmp_path))
        os.kill(networks[0], signal.SIGINT)
        signal.pthread_kill(main_thread, signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            threading.Thread(target=interrupt).start()
            conformance.run(options(tmp_path, "test_vit"))
    finally:
        signal.signal(signal.SIGINT, usual)
    _until(lambda: _is_gone(networks[0]))
    assert not list(tmp_path.glob("rows/*.json"))


def test_what_is_over_memory_is_a_row_of_its_size_and_is_not_built(tmp_path, monkeypatch):
    monkeypatch.setattr(conform, "build", None)
    conform.conform("vit_giant_patch14_224", tmp_path / "row.json", 4 * 2**30)
    row = json.loads((tmp_path / "row.json").read_text())
    assert conformance.verdict(row) == "over memory" and row["parameters"] > 1e9
    assert row["load"] == {"verdict": "over memory", "why": "it takes 4.8 GiB to begin with"}


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
    assert conform_methods.methods(model, image)["of"]["gradient"] == "right"


def test_a_derivative_that_is_right_takes_one_step_along_each_direction(image_model, monkeypatch):
    model = copy.deepcopy(image_model("test_resnet", dtype=torch.float32))
    image = torch.rand(1, 3, model.spec.height, model.spec.width, generator=torch.Generator().manual_seed(0))
    steps = []
    measure = conform._difference
    monkeypatch.setattr(conform, "_difference", lambda *args: steps.append(args) or measure(*args))
    assert conform.derivative(model, image, 2)["difference"] < 1e-4
    assert len(steps) == 2


@pytest.mark.parametrize("name", ["gradient", "grad_cam", "hires_cam", "finer_cam", "layer_cam", "refine_cam"])
def test_a_map_that_is_not_its_plain_form_is_found(image_model, monkeypatch, name):
    model = image_model("test_resnet", dtype=torch.float32)
    image = torch.rand(1, 3, model.spec.height, model.spec.width, generator=torch.Generator().manual_seed(0))
    assert conform_methods.methods(model, image, brief=True)["of"][name] == "right"

    def sick(*args, **settings):
        mine = method.run(*args, **settings)
        return replace(mine, values=mine.values * torch.linspace(1, 1.01, mine.values.shape[-1]))

    method = METHODS[name]
    monkeypatch.setitem(METHODS, name, replace(method, run=sick))
    told = conform_methods.methods(model, image, brief=True)
    assert told["verdict"] == "wrong" and "from its plain form" in told["of"][name]


@pytest.mark.parametrize("change, said", [
    ({"values": torch.full((1, 1, 4, 4), torch.nan)}, "wrong: numbers that are not finite"),
    ({"values": torch.ones(1, 1, 4)}, "wrong: a map of shape (1, 1, 4)"),
    ({"values": torch.zeros(1, 1, 4, 4)}, "wrong: a map of zeros"),
    ({"scores": torch.full((1,), 99.0)}, "wrong: a score of 99, not"),
])  # fmt: skip
def test_what_no_map_may_be_is_found(image_model, monkeypatch, change, said):
    model = image_model("test_resnet", dtype=torch.float32)
    image = torch.rand(1, 3, model.spec.height, model.spec.width, generator=torch.Generator().manual_seed(0))
    method = METHODS["score_cam"]
    sick = replace(method, run=lambda *args, **settings: replace(method.run(*args, **settings), **change))
    monkeypatch.setitem(METHODS, "score_cam", sick)
    assert conform_methods.methods(model, image, brief=True)["of"]["score_cam"].startswith(said)


def test_where_captum_has_nothing_to_compare_a_slow_implementation_has_the_last_word():
    """Blocks of legacy_xception begin with a ReLU whose input goes into their shortcut as well."""
    _, side, settings = conform.smallest("legacy_xception")
    model = conform.build("legacy_xception", side, settings)
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    assert conform_methods.slow_rule(model, image, "guided_backprop") <= 1e-5
    assert conform_methods.slow_rule(model, image, "deconvnet") <= 1e-5
    told = conform_methods.methods(model, image)["of"]["guided_backprop"]
    assert told.startswith("right: by a slow implementation; Captum changes the gradient of all that goes into a ReLU")


@pytest.mark.parametrize(("off_in", "verdict"), [((32,), "right: in fp64"), ((32, 64), "wrong")])
def test_what_single_precision_rounds_double_precision_judges(image_model, monkeypatch, off_in, verdict):
    captums, name = METHODS["captum:depth_fusion"], "depth_fusion"

    def run(model, *arguments, **settings):
        found = captums.run(model, *arguments, **settings)
        factor = 1 + 1e-4 * (torch.finfo(model.net_dtype).bits in off_in)
        return replace(found, values=found.values * torch.linspace(1, factor, found.values.shape[-1]).to(found.values))

    monkeypatch.setitem(METHODS, "captum:depth_fusion", replace(captums, run=run))
    model = ImageModel(copy.deepcopy(image_model("test_vit", 64).net).float(), "test_vit")
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mine = METHODS[name].run(model, image.clone(), conform_methods.TARGET, **METHODS[name].parse({}))
    found, difference = conform_methods._beside_captum(model, image, name, mine)
    assert found.startswith(verdict) and difference > 1e-5


def test_a_unit_of_a_steep_network_rises_in_smaller_steps(wrap, monkeypatch):
    def leap(model, units, recipe):
        after = dict(rising=2.0, falling=0.99, leaping=0.0)[unit] if recipe.learning_rate < 1e-3 else 0.0
        yield SimpleNamespace(finished=[SimpleNamespace(trace=(1.0, after), status="ok")])

    monkeypatch.setattr(conform, "ascend", leap)
    said = {}
    model = wrap(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 16, 4).float()
    monkeypatch.setattr(conform, "parse", lambda _unit: parse("logit/0"))
    for unit in ("rising", "falling", "leaping"):
        said[unit] = conform._climb(model, unit)
    assert said == {"rising": "right", "falling": "wrong: (1.0, 0.99)", "leaping": "refused: too steep for fp32"}


class Saturated(nn.Module):
    """A softmax over numbers so large that single precision rounds them to the same or to others."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 64, 4, 4)

    def forward(self, x):
        numbers = 1e9 + 1e3 * self.conv(x).flatten(2)
        return (numbers.softmax(2) * numbers).sum(2)


@pytest.mark.parametrize("rounded", [True, False])
def test_what_rounding_decides_is_told_from_what_is_wrong(wrap, rounded):
    plain = nn.Sequential(nn.Conv2d(3, 64, 4, 4), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = wrap(Saturated() if rounded else plain, 16, 64).float()
    assert conform._is_rounded_away(model, "logit/0") == rounded
    assert model.net_dtype == torch.float32


class Sharp(nn.Module):
    """0 at the grey that an ascent begins with, where autograd's slope is no number."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return (0 * self.conv(x).mean((2, 3))).sqrt() * 0


def test_an_ascent_that_fails_where_autograd_does_not_is_wrong(wrap, monkeypatch):
    failed = SimpleNamespace(trace=(1.0, float("nan")), status="failed", notes=(FAILED,))
    monkeypatch.setattr(conform, "ascend", lambda *_: [SimpleNamespace(finished=[failed])])
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert conform._climb(wrap(plain, 16, 4).float(), "logit/0") == "wrong: (1.0, nan)"


def test_a_unit_without_a_slope_is_refused(wrap):
    assert conform._climb(wrap(Sharp(), 16, 4).float(), "logit/0") == f"refused: {FAILED}"


class Steep(nn.Module):
    """So steep that no step of a difference lies on its slope."""

    def __init__(self):
        super().__init__()
        self.stages, self.head = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)), nn.Linear(4, 10)
        self.num_classes = 10

    def forward(self, x):
        return self.head((1e12 * self.stages(x)).sin().mean((2, 3)))


def test_what_no_difference_can_follow_is_refused(wrap):
    found = conform.derivative(wrap(Steep(), 32, 10).float(), conform.shown(32))
    assert found["verdict"] == "refused" and "too steep for differences" in found["why"]


def test_batch_norms_know_the_picture_that_is_checked():
    """So that the numbers of a deep network stay in range there."""
    model = conform.build("efficientnet_b5", 64, {})
    with torch.no_grad():
        assert model(conform.shown(64)).abs().max() < 20


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
        good | {"name": "a", "family": "f", "layers": layers, "profile": "brief", "structure": "s", "cpu_seconds": 1800.0},
        good | {"name": "b", "family": "f", "methods": {"verdict": "wrong", "of": {"gradient": "wrong: 1e-1", "x": "right"}}},
        good | {"name": "c", "family": "g", "units": {"verdict": "broken", "why": "RuntimeError: can't allocate memory"}},
        good | {"name": "d", "family": "g", "layers": {"verdict": "refused", "why": "no places"}},
        good | {"name": "e", "family": "g", "units": {"verdict": "broken", "why": "it took more than 9 seconds"}},
    ]  # fmt: skip
    text = conformance.summary(rows)
    assert text[0] == "5 architectures: 1 right, 1 refused, 1 wrong, 0 broken, 1 over memory, 1 over time"
    assert text[2] == "Of 1 structures; 4 fully, 1 briefly; 0.50 hours of processor time."
    assert "| f | 1 |  | 1 |  |  |  | 3 | 1 | 0e+00 | 0e+00 |" in text
    assert "- b: methods wrong: gradient: wrong: 1e-1" in text
    assert not any(line.startswith(("- a", "- d")) for line in text)
