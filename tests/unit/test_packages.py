"""Networks in Python packages: the names of their tensors, and every way in which a package is refused."""

import shutil
import socket
from dataclasses import replace
from types import SimpleNamespace

import pytest
import timm
import torch
from safetensors.torch import save_file

from lsd import packages
from lsd.errors import ModelError
from lsd.identity import WeightIdentity, tensors_digest
from lsd.models import load_model
from lsd.packages import PACKAGES, Package, installed, timm_names
from lsd.weights import locate, read_config, ready_models

LITE = "tf_efficientnet_lite0.in1k"


@pytest.fixture(autouse=True)
def nothing_local(monkeypatch):
    monkeypatch.delenv("LSD_MODEL_PATH", raising=False)


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A copy of Lite0's file that a test may spoil; returns its path."""
    original = PACKAGES[LITE]
    file = tmp_path / "copy.pth"
    shutil.copy(original.weights(), file)
    copy = SimpleNamespace(**vars(original), version="0.1.0", weights=lambda: file)
    monkeypatch.setitem(packages.PACKAGES, LITE, copy)
    return file


def changed(file, change) -> None:
    state = torch.load(file, weights_only=True)
    change(state)
    torch.save(state, file)


# Where a network comes from


def test_requirements_bring_three_networks():
    assert installed() == list(PACKAGES) and ready_models()[:3] == list(PACKAGES)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_is_timms_network_with_its_own_configuration(name):
    model = load_model(name, device="cpu")
    known = timm.get_pretrained_cfg(name)
    assert (model.identity.source, model.identity.repo) == ("package", PACKAGES[name].distribution)
    assert model.identity.revision == "0.1.0" and model.identity.digest == PACKAGES[name].digest
    assert (model.spec.height, model.spec.crop_pct) == (known.input_size[1], known.crop_pct)
    assert model.mean.flatten().tolist() == list(known.mean) and model.num_classes == len(model.class_names) == 1000
    assert read_config(locate(name))["architecture"] == name.partition(".")[0]


def test_a_name_without_its_tag_means_the_same():
    assert load_model("tf_efficientnet_lite0", device="cpu").name == LITE


def test_a_folder_comes_before_a_package(model_folder, monkeypatch, tmp_path):
    model_folder(LITE)
    monkeypatch.setenv("LSD_MODEL_PATH", str(tmp_path))
    assert locate(LITE).source == "local" and ready_models().count(LITE) == 1


def test_without_packages_the_hub_is_asked_and_the_demo_models_are_ready(monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    assert installed() == [] and all(name.startswith("demo:") for name in ready_models())
    with pytest.raises(ModelError, match="Hub is out of reach"):
        load_model(LITE, device="cpu")


def test_real_photos_are_recognised(real_images):
    """Half a hundred photos: enough to tell a network whose tensors lie at their places from one with two exchanged."""
    from lsd.images import open_image
    from lsd.saliency.explain import to_input

    photos = real_images[::12]
    for name in PACKAGES:
        model = load_model(name, device="cpu")
        batch = torch.cat([to_input(model, open_image(path)) for path in photos])
        right = model.probabilities(batch).argmax(1) == torch.tensor([int(path.name[:4]) for path in photos])
        assert right.float().mean() > 0.75, name


# The rule of the names


def test_names_follow_a_rule_and_not_their_order():
    package = PACKAGES[LITE]
    state = torch.load(package.weights(), weights_only=True)
    net = timm.create_model(LITE)
    stages = [len(stage) for stage in net.blocks]
    backwards = dict(reversed(state.items()))
    renamed = timm_names(backwards, stages)
    assert renamed.keys() == net.state_dict().keys() and tensors_digest(renamed) == package.digest


@pytest.mark.parametrize(
    ("theirs", "timms"),
    [
        ("_conv_stem.weight", "conv_stem.weight"),
        ("_bn0.running_var", "bn1.running_var"),
        ("_bn1.bias", "bn2.bias"),
        ("_fc.weight", "classifier.weight"),
        ("_blocks.0._depthwise_conv.weight", "blocks.0.0.conv_dw.weight"),
        ("_blocks.0._project_conv.weight", "blocks.0.0.conv_pw.weight"),
        ("_blocks.0._bn2.bias", "blocks.0.0.bn2.bias"),
        ("_blocks.2._expand_conv.weight", "blocks.1.1.conv_pw.weight"),
        ("_blocks.2._bn0.bias", "blocks.1.1.bn1.bias"),
        ("_blocks.2._depthwise_conv.weight", "blocks.1.1.conv_dw.weight"),
        ("_blocks.2._project_conv.weight", "blocks.1.1.conv_pwl.weight"),
        ("_blocks.2._bn2.running_mean", "blocks.1.1.bn3.running_mean"),
    ],
)
def test_each_name_by_itself(theirs, timms):
    value = torch.zeros(1)
    state = {theirs: value, "_blocks.2._expand_conv.weight": value}
    assert timms in timm_names(state, [1, 2])


@pytest.mark.parametrize("name", ["classifier.weight", "_blocks.3._bn1.bias", "_blocks.0._se_reduce.bias", "_blocks"])
def test_a_name_that_follows_no_rule_is_refused(name):
    with pytest.raises(ModelError, match="no tensor of an EfficientNet"):
        timm_names({name: torch.zeros(1)}, [1, 2])


# Refused packages


def drop(state):
    del state["_blocks.3._bn1.bias"]


def reshape(state):
    state["_fc.weight"] = state["_fc.weight"][:10]


def add(state):
    state["_conv_stem.bias"] = torch.zeros(3)


def other_values(state):
    state["_fc.bias"][7] += 1e-6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop, "blocks.2.0.bn2.bias is missing"),
        (reshape, "of shape (10, 1280) instead of (1000, 1280)"),
        (add, "it has conv_stem.bias, which the network lacks"),
        (other_values, "other weights"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence_and_the_hub_is_tried(package, change, words):
    changed(package, change)
    with pytest.raises(ModelError) as caught:
        load_model(LITE, device="cpu")
    sentence = str(caught.value)
    assert words in sentence and "pip install --force-reinstall" in sentence
    assert "Hub is out of reach" in sentence and "\n" not in sentence


def code(state):
    state["code"] = print


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 not a zip", None])
def test_a_damaged_file_is_refused(package, data):
    package.write_bytes(package.read_bytes()[:100_000] if data is None else data)
    with pytest.raises(ModelError, match="is damaged"):
        load_model(LITE, device="cpu")


def test_a_file_that_would_run_code_is_refused(package):
    changed(package, code)
    with pytest.raises(ModelError, match="is damaged"):
        load_model(LITE, device="cpu")


def test_a_refused_package_gives_way_to_the_hub(package, monkeypatch, model_folder):
    changed(package, drop)
    folder = model_folder("hub", "tf_efficientnet_lite0", first_conv="conv_stem", classifier="classifier")
    there = locate(f"local-dir:{folder}")
    monkeypatch.setattr("lsd.weights._on_hub", lambda name, *_: replace(there, name=name, source="hub"))
    model = load_model(LITE, device="cpu")
    assert model.identity.source == "hub" and model.num_classes == 10


# Identity by content


def test_the_same_tensors_in_another_file_are_the_same_weights(model_folder):
    package = load_model(LITE, device="cpu")
    folder = model_folder("lite", "tf_efficientnet_lite0", 1000, first_conv="conv_stem", classifier="classifier")
    save_file(package.net.state_dict(), folder / "model.safetensors")
    copy = load_model(f"local-dir:{folder}", device="cpu")
    assert copy.identity.digest == package.identity.digest and copy.identity.sha256 != package.identity.sha256
    assert package.identity.is_of(copy.identity.digest, copy.identity.sha256)


def test_a_digest_is_about_names_shapes_and_values():
    state = {"a.weight": torch.tensor([[1.0, 2.0]]), "a.bias": torch.tensor([3])}
    digest = tensors_digest(state)
    assert digest == tensors_digest(dict(reversed(state.items())))
    assert digest == tensors_digest({**state, "a.weight": state["a.weight"].half()})  # 1 and 2 are the same numbers
    assert digest == tensors_digest({**state, "bn.num_batches_tracked": torch.tensor(7)})
    assert digest == tensors_digest({**state, "a.weight": torch.tensor([[1.0], [2.0]]).t()})  # laid out otherwise
    for other in (
        {**state, "a.bias": torch.tensor([4])},
        {**state, "a.weight": torch.tensor([[1.0, 2.0 + 1e-6]])},
        {**state, "a.weight": torch.tensor([[1.0], [2.0]])},
        {"b.weight": state["a.weight"], "a.bias": state["a.bias"]},
        {**state, "more": torch.zeros(0)},
    ):
        assert tensors_digest(other) != digest


def test_a_record_without_a_digest_is_held_against_its_file():
    identity = WeightIdentity("local", "a", None, "file", "tensors")
    assert identity.is_of("tensors", "another file") and not identity.is_of("others", "file")
    assert identity.is_of(None, "file") and identity.is_of("", "file") and not identity.is_of("", "another file")
    assert identity.is_told_by({"sha256": "file"}) and not identity.is_told_by({"sha256": "file", "digest": "others"})


def test_a_package_that_is_not_installed_has_no_weights():
    missing = Package("no-such-distribution", "no_such_module_of_ours", "")
    assert missing.weights() is None and missing.version is None


def test_no_network_is_needed(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("the network was asked"))
    assert load_model(LITE, device="cpu").identity.source == "package"
