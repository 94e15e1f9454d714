import pytest
import torch
from torch import nn

from lsd.models import ImageModel


@pytest.fixture(scope="module")
def one_thread():
    """The models are so small that threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Linear(nn.Module):
    """Logits W · x + b of normalised pixels x, with a count of the pictures it saw."""

    def __init__(self, weight, bias, names):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)  # (C, 3, H, W), (C,)
        self.num_classes = len(weight)
        self.pretrained_cfg = {
            "input_size": tuple(weight.shape[1:]), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop_pct": 1.0,
            "interpolation": "bilinear", "crop_mode": "center", "label_names": list(names),
        }  # fmt: skip
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return (x.flatten(1) @ self.weight.flatten(1).T) + self.bias


@pytest.fixture
def linear():
    """Makes a linear model: (weight (C, 3, H, W), bias (C,), class names, name) → ImageModel."""

    def make(weight, bias, names, name="linear"):
        return ImageModel(Linear(weight, bias, names), name)

    return make
