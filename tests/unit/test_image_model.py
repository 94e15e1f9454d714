"""A timm network as a function of pictures: normalisation, shape, identity."""

import hashlib

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import nn

from lsd.errors import ModelError, UndefinedError
from lsd.identity import WeightIdentity, tensors_digest
from lsd.models import ImageModel, load_model, resolve_device
from lsd.saliency.explain import to_input


def test_the_normalisation_is_inside(image_model, pictures):
    model, x = image_model("test_resnet"), pictures(2)
    with torch.no_grad():
        torch.testing.assert_close(model(x), model.net((x - model.mean) / model.std))


@pytest.mark.parametrize("mean, std", [([0.5, 0.4, 0.3], [0.1, 0.2, 0.3]), ([0, 0, 0], [1, 1, 1])])
def test_each_model_has_its_own_mean_and_std(model_folder, mean, std):
    """Whole numbers, as JSON may hold them, must not turn the pictures into whole numbers."""
    model = load_model(f"local-dir:{model_folder(mean=mean, std=std)}", device="cpu")
    x = torch.rand(1, 3, 32, 32)
    by_hand = (x - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    assert model.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(model(x), model.net(by_hand))
        assert model(x).std() > 0


@pytest.mark.parametrize("size", [(48, 40), (32, 32), (97, 200)])
def test_a_picture_gives_what_timms_own_transform_gives(model_folder, size):
    model = load_model(f"local-dir:{model_folder(mean=[0.48, 0.45, 0.4], crop_pct=0.875)}", device="cpu")
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8))
    transform = create_transform(**resolve_model_data_config(model.net), is_training=False)
    with torch.no_grad():
        torch.testing.assert_close(
            model(to_input(model, picture)), model.net(transform(picture)[None]), rtol=1e-4, atol=1e-4
        )


def test_the_network_is_frozen_and_in_eval_mode(image_model):
    model = image_model("test_resnet")
    assert not model.net.training
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("shape", [(1, 3, 31, 32), (1, 1, 32, 32), (3, 32, 32), (1, 3, 224, 224)])
def test_a_picture_of_another_shape_is_refused(image_model, shape):
    with pytest.raises(UndefinedError, match=r"takes pictures of shape \(3, 32, 32\), not"):
        image_model("test_resnet")(torch.zeros(shape, dtype=torch.float64))


def test_a_network_for_other_channels_is_refused():
    with pytest.raises(ModelError, match="pictures of 1 channels; only RGB"):
        net = timm.create_model("test_resnet", in_chans=1)
        net.pretrained_cfg = {**net.pretrained_cfg, "input_size": (1, 160, 160)}
        ImageModel(net, "grey")


def test_probabilities_sum_to_one_and_take_no_gradient(image_model, pictures):
    model = image_model("test_resnet")
    p = model.probabilities(pictures(2).float())
    torch.testing.assert_close(p.sum(1), torch.ones(2, dtype=torch.float64))
    assert not p.requires_grad
    torch.testing.assert_close(p, model(pictures(2).float().double()).softmax(1))


def test_it_tells_its_size(image_model):
    model = image_model("test_resnet")
    assert model.parameter_count == sum(p.numel() for p in model.net.parameters())
    assert 8 * model.parameter_count < model.nbytes < 9 * model.parameter_count


@pytest.mark.parametrize("name, family", [
    ("test_resnet", "resnet"), ("mobilenetv2_050", "efficientnet"), ("xception", "xception"), ("handmade", "handmade"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:Mapping deprecated model name")
def test_the_family_is_timms_module(name, family):
    net = timm.create_model("test_resnet" if name == "handmade" else name, num_classes=2)
    net.pretrained_cfg = {**net.pretrained_cfg, "architecture": name}
    assert ImageModel(net, name).family == family


def test_a_network_made_by_the_caller_has_no_weights_file(image_model):
    assert image_model("test_resnet").identity == WeightIdentity("memory", "test_resnet", None, None)


def test_a_folders_identity_is_the_sum_of_its_file(model_folder):
    folder = model_folder()
    model = load_model(f"local-dir:{folder}", device="cpu")
    expected = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    digest = tensors_digest(model.net.state_dict())
    told = {"source": "local", "repo": "small", "revision": None, "sha256": expected, "digest": digest}
    assert model.identity.to_dict() == told


def test_the_sum_follows_the_file(model_folder):
    folder = model_folder()
    name = f"local-dir:{folder}"
    before = load_model(name, device="cpu").identity.sha256
    other = model_folder("other", num_classes=11)
    (folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    (folder / "config.json").write_bytes((other / "config.json").read_bytes())
    assert load_model(name, device="cpu").identity.sha256 != before


def test_auto_is_the_gpu_if_there_is_one(monkeypatch):
    for there, kind in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert resolve_device("auto").type == kind
    assert resolve_device("cuda:1") == torch.device("cuda", 1)


def test_assumed_names_are_told(wrap):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 1000))
    assumed, known = wrap(net, 8, 1000), wrap(net, 8, 1000, tag="mine_in1k")
    assert assumed.names_assumed and assumed.names_note.startswith("The class names are assumed: it has 1000 classes")
    assert not known.names_assumed and known.names_note == "" and assumed.class_names == known.class_names


def test_real_models_have_names_that_are_known(real_models):
    for folder in sorted(path.parent for path in real_models.glob("*/config.json")):
        model = load_model(f"local-dir:{folder}", device="cpu")
        assert not model.names_assumed and model.names_note == ""


def test_real_models_tell_what_they_are(real_models, monkeypatch):
    monkeypatch.setenv("LSD_MODEL_PATH", str(real_models))
    model = load_model("vit_tiny_patch16_224.augreg_in1k", device="cpu")
    assert (model.family, model.spec.height, model.num_prefix_tokens) == ("vision_transformer", 224, 1)
    assert model.class_names[281].startswith("tabby") and len(model.class_names) == 1000
    assert model.mean.flatten().tolist() == [0.5, 0.5, 0.5]
