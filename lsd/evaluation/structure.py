"""Which networks are built alike: of the same modules with the same arguments, but for how many there are and how large."""

import hashlib
import re
from collections.abc import Iterator

from torch import nn

_GEOMETRY = ("kernel_size", "stride", "padding", "dilation")  # of convolutions and poolings, number by number


def structure(net: nn.Module) -> str:
    """A digest that two networks share if they differ in depth, width, heads, or sizes alone.

    It is that of the *set* of what stands where: the module's path without its numbers, its class, and its arguments, of which a
    number other than a convolution's geometry counts as none, one or several (a window that is shifted is not one that is
    not). No name of an architecture enters.
    """
    found = {
        (re.sub("[0-9]+", "#", path), f"{type(module).__module__}.{type(module).__qualname__}", *_arguments(module))
        for path, module in net.named_modules()
    }
    return hashlib.sha256(repr(sorted(found, key=repr)).encode()).hexdigest()[:16]


def _arguments(module: nn.Module) -> Iterator[tuple[str, object]]:
    for name, value in sorted(vars(module).items()):
        if not name.startswith("_") and name not in ("training", "pretrained_cfg", "default_cfg"):
            yield name, value if name in _GEOMETRY and _is_numbers(value) else _kind(value)
    yield "parameters", tuple(name for name, parameter in module._parameters.items() if parameter is not None)
    yield "buffers", tuple(name for name, buffer in module._buffers.items() if buffer is not None)


def _is_numbers(value: object) -> bool:
    return isinstance(value, int | str) or (isinstance(value, tuple) and all(isinstance(one, int) for one in value))


def _kind(value: object) -> object:
    """What of an argument is no size."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return "none" if value == 0 else "one" if value == 1 else "several"
    if isinstance(value, tuple | list):
        return tuple(sorted({repr(_kind(one)) for one in value}))
    return getattr(value, "__qualname__", type(value).__qualname__)
