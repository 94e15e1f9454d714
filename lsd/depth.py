"""A network that is built is no deeper than its weights: a foreign configuration may ask for a million layers."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

_LONGEST = 100 * 2**20  # bytes of a header that are read, as in safetensors
_BESIDE = 100  # parameters beyond twice those of the file: a head that is made anew, and what shares a tensor


@contextmanager
def no_deeper_than(weights: Path) -> Iterator[None]:
    """Within the block this thread makes no network with many more parameters than a safetensors file has tensors.

    Of pickled weights, which their owner vouches for, nothing is known.

    Raises:
        ValueError: it would, or the file is damaged.
        OSError: it cannot be read.
    """
    if weights.suffix != ".safetensors":
        yield
        return
    allowed, made, mine = 2 * _tensors(weights) + _BESIDE, 0, threading.get_ident()

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal made
        if threading.get_ident() != mine or parameter is None:
            return
        made += 1
        if made > allowed:
            raise ValueError("the configuration asks for far more layers than there are weights for")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _tensors(weights: Path) -> int:
    """How many tensors the header of a safetensors file names."""
    with open(weights, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(size, _LONGEST)))
    if not isinstance(header, dict):
        raise ValueError("the header of the weights names no tensors")
    return len(header)
