"""Gradient ascent on an NVIDIA GPU: what a CPU cannot show. Where there is none, these tests are skipped, and say so."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lsd import precision
from lsd.features.ascent import ascend
from lsd.features.batch import Batch
from lsd.features.recipes import RECIPES
from lsd.features.soften import Softening
from lsd.models import load_model
from lsd.saliency.crosscheck import crosscheck
from lsd.saliency.targets import Target

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU"),
]
SHORT = replace(RECIPES["lsd"], steps=24)
UNITS = ["class/3", "class/5", "layer3/channel/5"]


@pytest.fixture(scope="module")
def model():
    return load_model("demo:resnet", device="cuda")


@pytest.fixture(autouse=True)
def exact():
    precision.choose("fp32")
    yield
    precision.choose("fp32")


def pictures(model, units=UNITS, recipe=SHORT, **more):
    return [p for snapshot in ascend(model, units, recipe, **more) for p in snapshot.finished]


@pytest.mark.parametrize("recorded", [False, True])
def test_between_two_snapshots_nothing_is_waited_for(model, monkeypatch, recorded):
    """torch raises at every synchronisation that it knows of; only the fetching of a snapshot may make one."""
    fetch = Batch._fetch
    if not recorded:
        monkeypatch.setattr(Batch, "_can_record", lambda self: False)

    def allowed(*given):
        torch.cuda.set_sync_debug_mode("default")
        fetch(*given)
        torch.cuda.set_sync_debug_mode(mode)

    mode = "default"
    monkeypatch.setattr(Batch, "_fetch", allowed)
    shots = ascend(model, UNITS, replace(SHORT, steps=64, stages=((1.0, 1.0),)), every=16)
    try:
        next(shots), next(shots)  # the first steps find out whom a gradient reaches
        mode = "error"
        torch.cuda.set_sync_debug_mode(mode)
        next(shots), next(shots)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        shots.close()


def test_a_gpu_begins_as_a_cpu_does(model):
    """But for pixel noise, which comes from the device's own generator. An ascent makes so much of the last bits that after four
    steps the pictures differ (a structural similarity of .58 on an H100)."""
    recipe = replace(SHORT, steps=4, transforms=replace(SHORT.transforms, noise=0.0))
    here, there = pictures(model, recipe=recipe), pictures(load_model("demo:resnet", device="cpu"), recipe=recipe)
    for a, b in zip(here, there, strict=True):
        np.testing.assert_allclose(a.trace[:3], b.trace[:3], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("recipe", ["lsd", "lucid", "texture"])
def test_recorded_steps_do_what_the_others_do(model, monkeypatch, recipe, recwarn):
    """With deterministic kernels, without which no two runs are alike."""
    precision.choose("fp32", deterministic=True)
    recipe = replace(RECIPES[recipe], steps=40)
    found = pictures(model, recipe=recipe)
    assert not [w for w in recwarn if "kernel by kernel" in str(w.message)]
    monkeypatch.setattr(Batch, "_can_record", lambda self: False)
    for a, b in zip(found, pictures(model, recipe=recipe), strict=True):
        assert np.array_equal(a.pixels, b.pixels) and a.trace == b.trace


def test_deterministic_kernels_give_the_same_bits(model):
    precision.choose("fp32", deterministic=True)
    first, second = pictures(model), pictures(model)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("how", [
    {"half": True}, {"compiled": True, "units": UNITS[:2], "recipe": replace(SHORT, gradient=Softening())},
], ids=["half", "compiled"])  # fmt: skip
def test_faster_ways_climb_too(model, how):
    for picture in pictures(model, **how):
        assert picture.status == "ok" and picture.trace[-1] > picture.trace[0]


def test_tf32_changes_little(model):
    exact = pictures(model, recipe=replace(SHORT, steps=4))
    precision.choose("tf32")
    for a, b in zip(exact, pictures(model, recipe=replace(SHORT, steps=4)), strict=True):
        np.testing.assert_allclose(a.trace[0], b.trace[0], rtol=2e-2, atol=2e-2)


def test_a_batch_is_halved_until_it_fits():
    """A network of 224 pixels, in what little memory is allowed: every picture is made all the same."""
    model = load_model("demo:vit", device="cuda")
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    try:
        torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + 300 * 2**20) / total))
        made = pictures(
            model, [f"class/{i % model.num_classes}" for i in range(1)], replace(SHORT, steps=2), seeds=range(200)
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(made) == 200 and all(p.status == "ok" for p in made)


@pytest.mark.parametrize("method", ["gradient", "grad_cam", "integrated_gradients"])
@pytest.mark.parametrize("kind", precision.KINDS)
def test_maps_agree_with_captums(model, method, kind):
    pytest.importorskip("captum")
    precision.choose(kind)
    images = torch.rand((1, 3, model.spec.height, model.spec.width), generator=torch.Generator().manual_seed(0)).cuda()
    check = crosscheck(model, images, Target(3), method)
    assert check.agrees, check


def test_the_environment_says_how_exactly_it_was(model):
    from lsd.provenance import environment

    precision.choose("tf32")
    assert environment(model.device)["precision"] == "tf32"
    assert environment(model.device)["device"] == torch.cuda.get_device_name()
