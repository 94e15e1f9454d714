"""A module that runs several times in one pass: each of its runs can be meant."""

from dataclasses import replace

import pytest
import torch
from timm.layers import Attention
from torch import nn

from benchmarks.families import CASES
from lsd.cli import main
from lsd.errors import UndefinedError
from lsd.features import objectives
from lsd.features.ascent import ascend
from lsd.features.bundle import file_name
from lsd.features.pictures import Job
from lsd.features.prepare import prepare
from lsd.features.recipes import RECIPES
from lsd.features.units import check, expand, parse
from lsd.layers import as_said, attention_heads, find_layer, list_layers, runs_of
from lsd.layout import Layer, to_grid
from lsd.said import Said
from lsd.saliency.methods import METHODS
from lsd.saliency.targets import Target
from lsd.tracing import Tap, capture, run_to, split_run, trace

SIZE = 32


class Recurrent(nn.Module):
    """One convolution, one ReLU and one attention serve twice each, on a grid of 16 and then of 8."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.cell = nn.Conv2d(8, 8, 3, 1, 1)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.AvgPool2d(2)
        self.attn = Attention(8, num_heads=2)
        with torch.no_grad():  # a place looks at its like above all, so that what is put out is of places
            queries, keys, _ = self.attn.qkv.weight.chunk(3)
            keys.copy_(queries.mul_(20))
        self.out = nn.Linear(8, 5)

    def steps(self, x):
        """What `act` and `attn` put out, one after the other."""
        first = self.act(self.cell(self.stem(x)))
        found = [first.clone()]
        second = self.act(self.cell(self.pool(first)))
        found.append(second.clone())
        tokens = second.flatten(2).transpose(1, 2)
        found.append(self.attn(tokens))
        tokens = tokens + found[-1]
        found.append(self.attn(tokens))
        return found, tokens + found[-1]

    def forward(self, x):
        return self.out(self.steps(x)[1].mean(1))


@pytest.fixture(scope="module")
def model(wrap):
    torch.manual_seed(0)
    return wrap(Recurrent(), SIZE, 5)


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def steps(model, images):
    return dict(zip(("act@1", "act@2", "attn@1", "attn@2"), model.net.steps(images)[0], strict=True))


def test_every_run_has_its_own_shape_and_the_name_alone_means_the_last(model):
    traced = trace(model)
    assert traced.runs["act"] == 2 and traced.shapes["act@1"][2:] == (16, 16) and traced.shapes["act@2"][2:] == (8, 8)
    assert find_layer(model, "act@1") == Layer("act@1", "nchw", 8, 16, 16, runs=2)
    assert (
        find_layer(model, "act") == replace(find_layer(model, "act@2"), name="act")
        and find_layer(model, "act").height == 8
    )
    assert find_layer(model, "attn@1") == Layer("attn@1", "tokens", 8, 8, 8, runs=2)
    assert [layer.name for layer in runs_of(model, find_layer(model, "cell"))] == ["cell@1", "cell@2"]
    assert runs_of(model, find_layer(model, "stem")) == ()
    assert not [layer.name for layer in list_layers(model) if "@" in layer.name]


@pytest.mark.parametrize("name", ["act@1", "act@2", "attn@1", "attn@2"])
def test_a_run_is_read_as_the_whole_pass_makes_it(model, images, name):
    expected = steps(model, images)[name]
    found = run_to(model, images, [Tap(name)])[Tap(name)]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    with capture(model, [name, "out"]) as captured, torch.no_grad():
        model(images)
    torch.testing.assert_close(captured[name], expected, rtol=0, atol=0)
    both = run_to(model, images, [Tap(name), Tap(name.partition("@")[0]), Tap("")])  # later runs take nothing away
    torch.testing.assert_close(both[Tap(name)], expected, rtol=0, atol=0)
    torch.testing.assert_close(both[Tap("")], model(images), rtol=0, atol=0)


def test_the_pass_ends_with_the_run_that_is_asked_for(model, images):
    ran = []
    handles = [m.register_forward_hook(lambda *_, n=n: ran.append(n)) for n, m in model.net.named_modules() if n]
    run_to(model, images, [Tap("act@1")])
    for handle in handles:
        handle.remove()
    assert ran.count("cell") == 1 and "pool" not in ran and "out" not in ran


def test_the_slope_of_a_run_is_its_own(model, images):
    x = images.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(run_to(model, x, [Tap("act@1")])[Tap("act@1")].square().sum(), x)
    (expected,) = torch.autograd.grad(steps(model, x)["act@1"].square().sum(), x)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("text", [
    "act@1/channel/3", "act@1/neuron/3/15/15", "act@1/layer", "attn@2/head/1", "a.b@12/direction/1:2",
    "hf-hub:owner/repo@v2::act@1/channel/3", "class/1 + 2 * act@1/channel/3",
])  # fmt: skip
def test_a_unit_says_which_run_and_prints_it_back(text):
    assert str(parse(text)) == text


@pytest.mark.parametrize("unit, name, value", [
    ("act@1/channel/3", "act@1", lambda a: a[:, 3].mean((1, 2))),
    ("act/channel/3", "act@2", lambda a: a[:, 3].mean((1, 2))),
    ("act@1/neuron/3/12/15", "act@1", lambda a: a[:, 3, 12, 15]),
    ("act@1/position/12/15", "act@1", lambda a: a[:, :, 12, 15].square().mean(1)),
])  # fmt: skip
def test_a_units_value_is_that_of_its_run(model, images, unit, name, value):
    leaf = check(parse(unit), model)
    taps = [objectives.tap(leaf)]
    found = objectives.evaluate([leaf] * 2, {"": model}, {"": run_to(model, images, taps)})
    torch.testing.assert_close(found, value(steps(model, images)[name]))


def test_the_heads_of_a_run_are_those_that_enter_its_projection(model, images):
    inside = []
    handle = model.net.attn.proj.register_forward_pre_hook(lambda _, inputs: inside.append(inputs[0]))
    with torch.no_grad():
        model(images)
    handle.remove()
    assert attention_heads(model, "attn@1") == 2
    for run in (1, 2):
        leaf = check(parse(f"attn@{run}/head/1"), model)
        found = objectives.evaluate([leaf] * 2, {"": model}, {"": run_to(model, images, [objectives.tap(leaf)])})
        torch.testing.assert_close(found, inside[run - 1][:, :, 4:].square().mean((1, 2)))


def test_a_neuron_that_only_another_run_has_is_refused(model):
    with pytest.raises(UndefinedError, match="Row 12 is out of range: act of handmade has 8 rows"):
        check(parse("act/neuron/3/12/0"), model)


@pytest.mark.parametrize("name, why", [
    ("act@3", "Run 3 is out of range: act of handmade runs 2 times, 1 to 2"),
    ("stem@1", "stem of handmade does not run several times in a pass: write stem alone"),
    ("nowhere@1", "handmade has no layer “nowhere”"), ("act@0", "handmade has no layer “act@0”"),
    ("act@", "handmade has no layer “act@”"),
])  # fmt: skip
def test_a_run_that_there_is_not_is_refused(model, images, name, why):
    for ask in (
        lambda: check(parse(f"{name}/channel/0"), model),
        lambda: run_to(model, images, [Tap(name)]),
        lambda: capture(model, [name]).__enter__(),
        lambda: as_said(model, Said(layouts={name: "nchw"})),
    ):
        with pytest.raises(UndefinedError, match=why):
            ask()
    with pytest.raises(UndefinedError, match=why.replace("act of", "attn of").replace("act@", "attn@")):
        attention_heads(model, name.replace("act", "attn"))


def test_a_run_that_puts_out_no_tensor_is_refused_and_the_others_are_not(wrap):
    class Odd(nn.Module):
        done = 0

        def forward(self, x):
            self.done += 1
            return (x, x) if self.done % 2 else x.relu()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.odd = Odd()

        def forward(self, x):
            return self.odd(self.odd(x)[0]).mean((2, 3))

    odd = wrap(Net(), 8)
    assert find_layer(odd, "odd@2").channels == 3 and trace(odd).runs["odd"] == 2
    with pytest.raises(UndefinedError, match="odd@1 of handmade does not put out one tensor"):
        find_layer(odd, "odd@1")


def test_many_units_of_a_run_at_once_and_their_files(model):
    units = expand("act@1:channels:4", model)
    assert [str(unit) for unit in units] == [f"act@1/channel/{i}" for i in (0, 2, 4, 6)]
    assert file_name(Job(units[1], 0)) == "act_1_channel_2.0.png"


def test_what_a_person_says_of_a_run_is_said_of_it_alone(wrap):
    torch.manual_seed(0)
    model = wrap(Recurrent(), SIZE, 5)
    said = as_said(model, Said(layouts={"act@1": "nhwc"}))
    assert find_layer(said, "act@1").layout == "nhwc"
    assert find_layer(said, "act@2").layout == find_layer(said, "act").layout == "nchw"


def test_a_picture_of_a_run_is_made_in_a_twin(model):
    (shot,) = [s for s in ascend(model.float(), ["cell@1/channel/3"], replace(RECIPES["none"], steps=3)) if s.finished]
    made = shot.finished[0]
    pixels = torch.from_numpy(made.pixels).permute(2, 0, 1)[None].float() / 255
    expected = model.net.cell(model.net.stem(pixels))[0, 3].mean().item()
    model.double()
    assert made.status == "ok" and made.score == pytest.approx(expected, rel=1e-2)


def test_grad_cam_of_a_run_lies_on_its_grid(model, images):
    made = METHODS["grad_cam"].run(model, images[:1], Target(2, "logit"), layer="act@1")
    assert made.values.shape == (1, 1, 16, 16) and made.settings["layer"] == "act@1"
    with pytest.raises(UndefinedError, match="Captum does not tell the runs of a module apart"):
        METHODS["captum:grad_cam"].run(model, images[:1], Target(2, "logit"), layer="act@1")


@pytest.fixture(scope="module")
def dla():
    """Each of its blocks has one ReLU for three places, of different widths and on different grids."""
    return next(case for case in CASES if case.name == "dla46_c").build(torch.float64)


def test_the_runs_of_a_network_of_timms(dla):
    name, size = "level2.tree1.relu", dla.spec.height
    shapes = [trace(dla).shapes[f"{name}@{run}"] for run in (1, 2, 3)]
    assert len(set(shapes)) == 3 and trace(dla).shapes[name] == shapes[-1]
    images = torch.rand(1, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    outputs = []
    handle = dla.net.get_submodule(name).register_forward_hook(lambda _m, _i, output: outputs.append(output.clone()))
    with torch.no_grad():
        dla(images)
    handle.remove()
    for run, expected in enumerate(outputs, 1):
        layer = find_layer(dla, f"{name}@{run}")
        assert (layer.layout, layer.channels, layer.height) == ("nchw", *expected.shape[1:3])
        for network in (dla, prepare(dla, [layer.name])):
            found = run_to(network, images, [Tap(layer.name)])[Tap(layer.name)]
            torch.testing.assert_close(to_grid(find_layer(network, layer.name), found), expected)


def test_no_module_of_a_network_is_called_as_a_run_is():
    assert not [name for case in CASES[:12] for name, _ in case.build().net.named_modules() if split_run(name)[1]]


def test_the_command_line_lists_the_runs(dla, monkeypatch, capsys):
    monkeypatch.setattr("lsd.models.get_model", lambda name: dla)
    assert main(["features", "--model", "dla46_c", "--list-layers"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    at = next(i for i, line in enumerate(lines) if line.startswith("level2.tree1.relu "))
    told = [find_layer(dla, f"level2.tree1.relu@{run}") for run in (1, 2)]
    assert lines[at].endswith("runs 3 times: the last is meant")
    assert lines[at + 1 : at + 4] == [
        *(f"{one.name} {one.channels} channels, {one.height} × {one.width} places" for one in told),
        "level2.tree1.relu@3 the same",
    ]
