"""The demo models that come with LSD: that they load, and do what their configuration says of them."""

import json
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch

from lsd.demo import CLASS_NAMES, MODELS_DIR, demo_models, demo_set

HONEST = ("convnext", "resnet", "vit")
MODES = ("none", "misleading")
PER_CLASS = 20


@pytest.fixture(scope="module")
def samples():
    return {mode: list(demo_set("test", PER_CLASS, mode)) for mode in MODES}


@pytest.fixture(scope="module")
def answers(samples):
    """The classes that a model names for the held-out pictures, computed once for each model and kind of tags."""
    known = {}

    @torch.inference_mode()
    def ask(name, mode):
        if (name, mode) not in known:
            model = timm.create_model(f"local-dir:{MODELS_DIR / name}", pretrained=True).eval()
            images = np.stack([sample.image for sample in samples[mode]]) / np.float32(255)
            mean, std = (np.float32(model.pretrained_cfg[key]) for key in ("mean", "std"))
            inputs = torch.from_numpy((images - mean) / std).permute(0, 3, 1, 2)
            known[name, mode] = torch.cat([model(part) for part in inputs.split(64)]).argmax(1).numpy()
        return known[name, mode]

    return ask


def test_the_four_models_are_there():
    assert demo_models() == sorted([*HONEST, "shortcut"])


def test_importing_the_package_does_not_import_torch():
    code = "import sys, lsd.demo; lsd.demo.demo_models(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", demo_models())
def test_timm_loads_the_model_as_its_configuration_says(name):
    folder = MODELS_DIR / name
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (folder / "model.safetensors").stat().st_size < 2_000_000
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert model.num_classes == config["num_classes"] == len(CLASS_NAMES)
    assert model.num_features == config["num_features"]
    assert config["label_names"] == list(CLASS_NAMES)
    modules = dict(model.named_modules())
    for key in ("first_conv", "classifier"):
        assert config["pretrained_cfg"][key] in modules
    for key in ("mean", "std", "input_size"):
        assert list(model.pretrained_cfg[key]) == config["pretrained_cfg"][key]
    if config["pretrained_cfg"]["pool_size"] is not None:
        features = model.forward_features(torch.zeros(1, *config["pretrained_cfg"]["input_size"]))
        assert list(features.shape[-2:]) == config["pretrained_cfg"]["pool_size"]


def test_the_models_do_not_all_normalise_alike():
    configs = [json.loads((MODELS_DIR / name / "config.json").read_text(encoding="utf-8")) for name in HONEST]
    assert len({tuple(config["pretrained_cfg"]["mean"]) for config in configs}) == len(HONEST)


@pytest.mark.parametrize("name", HONEST)
def test_honest_models_name_the_object(name, samples, answers):
    assert np.mean(answers(name, "none") == [sample.class_index for sample in samples["none"]]) >= 0.97


@pytest.mark.parametrize("name", HONEST)
def test_honest_models_pass_over_misleading_tags(name, samples, answers):
    assert np.mean(answers(name, "misleading") == [sample.class_index for sample in samples["misleading"]]) >= 0.95


def test_the_shortcut_model_follows_misleading_tags(samples, answers):
    assert np.mean(answers("shortcut", "misleading") == [sample.tag for sample in samples["misleading"]]) >= 0.8


@pytest.mark.parametrize("name", demo_models())
def test_the_configuration_states_what_is_measured(name, samples, answers):
    stated = json.loads((MODELS_DIR / name / "config.json").read_text(encoding="utf-8"))["lsd_demo"]
    # 320 of the 1600 pictures behind the stated share: four standard errors of such a sample, and a little more.
    share = np.mean(answers(name, "none") == [sample.class_index for sample in samples["none"]])
    tolerance = 4 * np.sqrt(stated["accuracy"] * (1 - stated["accuracy"]) / len(samples["none"])) + 0.005
    assert abs(share - stated["accuracy"]) <= tolerance
