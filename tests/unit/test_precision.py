"""What a process says of its precision; what a GPU makes of it is in tests/gpu."""

import subprocess
import sys

import pytest
import torch

from lsd import precision
from lsd.errors import UndefinedError


@pytest.fixture(autouse=True)
def back():
    yield
    precision.choose("fp32")


def test_it_is_fp32_unless_somebody_says_otherwise():
    """In a process of its own: torch itself would let convolutions have TF32."""
    asked = "import torch, lsd.models; print(torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["highest", "False"]


def test_tf32_is_for_convolutions_and_products_alike():
    precision.choose("tf32", deterministic=True)
    assert precision.chosen() == "tf32" and precision.is_deterministic()
    assert torch.get_float32_matmul_precision() == "high" and torch.backends.cudnn.allow_tf32


def test_bf16_is_tf32_but_for_the_networks_of_an_ascent_on_a_gpu():
    precision.choose("bf16")
    assert precision.chosen() == "bf16" and torch.backends.cudnn.allow_tf32
    assert precision.halves(torch.device("cuda")) and not precision.halves(torch.device("cpu"))
    precision.choose("tf32")
    assert precision.chosen() == "tf32" and not precision.halves(torch.device("cuda"))


def test_there_is_no_other():
    with pytest.raises(UndefinedError, match="no precision “fp8”; choose one of fp32, tf32, bf16"):
        precision.choose("fp8")


def test_processes_that_are_started_choose_the_same(monkeypatch):
    for name in ("LSD_PRECISION", "LSD_DETERMINISTIC"):
        monkeypatch.delenv(name, raising=False)
    precision.choose("fp32")
    precision.from_environment()
    assert precision.chosen() == "fp32"
    with monkeypatch.context() as inner:
        inner.setenv("LSD_PRECISION", "")  # so that what is written is taken back
        inner.setenv("LSD_DETERMINISTIC", "")
        precision.to_environment("tf32", deterministic=True)
        precision.from_environment()
        assert precision.chosen() == "tf32" and precision.is_deterministic()
