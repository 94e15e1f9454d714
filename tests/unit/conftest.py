"""What the unit tests share: small models with random weights, and no network."""

import functools
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.families import Case, randomize
from lsd.models import ImageModel


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A unit test that asks for the network fails at once, everywhere, instead of only where there is none."""

    connect = socket.socket.connect

    def refuse(self, address):
        if self.family == socket.AF_UNIX:  # other processes of this machine
            return connect(self, address)
        raise OSError("unit tests have no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@functools.cache
def _model(name: str, size: int, dtype: torch.dtype, settings: tuple) -> ImageModel:
    return Case(name, dict(settings), size).build(dtype)


@pytest.fixture(scope="session")
def image_model() -> Callable[..., ImageModel]:
    """`image_model(architecture, size=32, dtype=float64, **settings)`: always the same random weights, 10 classes."""

    def make(name: str, size: int = 32, dtype: torch.dtype = torch.float64, **settings) -> ImageModel:
        return _model(name, size, dtype, tuple(sorted(settings.items())))

    return make


@pytest.fixture(scope="session")
def wrap() -> Callable[..., ImageModel]:
    """`wrap(net, size, classes)`: a hand-made network as an ImageModel in fp64; its normalisation changes nothing."""

    def make(net: nn.Module, size: int = 8, classes: int = 3, **config) -> ImageModel:
        net.num_classes = classes
        net.pretrained_cfg = {"input_size": (3, size, size), "mean": (0, 0, 0), "std": (1, 1, 1)} | config
        return ImageModel(net, "handmade").double()

    return make


@pytest.fixture(scope="session")
def pictures() -> Callable[..., torch.Tensor]:
    """`pictures(n, size)`: n different random pictures, fp64."""

    def make(n: int = 1, size: int = 32, seed: int = 0) -> torch.Tensor:
        return torch.rand(n, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    return make


@pytest.fixture
def model_folder(tmp_path) -> Callable[..., Path]:
    """`model_folder(name, architecture, **config)`: a model in timm's local-dir layout, under `tmp_path`."""

    def make(name: str = "small", architecture: str = "test_resnet", num_classes: int = 10, **config) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        pretrained = {"input_size": [3, 32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "crop_pct": 1.0}
        pretrained |= {"num_classes": num_classes, "first_conv": "conv1.0", "classifier": "fc"} | config
        about = {"architecture": architecture, "num_classes": num_classes, "pretrained_cfg": pretrained}
        (folder / "config.json").write_text(json.dumps(about))
        net = randomize(timm.create_model(architecture, num_classes=num_classes))
        save_file(net.state_dict(), folder / "model.safetensors")
        return folder

    return make


@pytest.fixture
def nameless(model_folder) -> str:
    """The name of a model with 1000 classes of which nothing says what they are."""
    return f"local-dir:{model_folder(num_classes=1000)}"
