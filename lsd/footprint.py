"""What a network takes in memory, told without taking it: its passes are made on torch's device "meta", where tensors have a
shape and no numbers, and the bytes that would be there at the same time are counted."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from lsd.batch_norm import FixedBatchNorm
from lsd.storages import follow

SLACK = (
    1.5  # what a process takes for each byte that is counted: freed memory between what is used, and the kernels' own
)
LOOK = 8  # pictures: a first look through a network's layers keeps what all of them put out for one, and their slopes
_COUNTED = 2  # pictures of the pass that is counted: some kernels take a batch of one in another way


@dataclass(frozen=True)
class Footprint:
    """Bytes.

    Attributes:
        weights: of parameters and buffers.
        picture: for each picture of a pass there and back, the process's overhead included.
        size: (height, width) of that picture, in pixels.
    """

    weights: int
    picture: int
    size: tuple[int, int]

    def passes(self, pictures: float) -> int:
        """Bytes that a pass of so many pictures takes, beside the weights."""
        return int(pictures * self.picture)

    def fitting(self, nbytes: int) -> int:
        """How many pictures fit in so many bytes."""
        return int(nbytes // self.picture)


class Counted(TorchDispatchMode):
    """Within the block, the bytes of all new tensors that are there at the same time; `peak` is the most."""

    def __init__(self, known: tuple[Tensor, ...] = ()):
        super().__init__()
        self.now = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._note, found)
        return found

    def _note(self, tensor: Tensor) -> None:
        self.now += follow(tensor, self._known, self._gone)
        self.peak = max(self.peak, self.now)

    def _gone(self, one: tuple[int, int]) -> None:
        storage, nbytes = one
        self._known.discard(storage)
        self.now -= nbytes


def hollow(make: Callable[[], nn.Module]) -> nn.Module:
    """What `make` builds, without its numbers."""
    with torch.device("meta"):
        return make().eval().requires_grad_(False)


def hollowed(net: nn.Module) -> nn.Module:
    """A copy of a network without its numbers."""
    memo = {
        id(tensor): nn.Parameter(tensor.to("meta"), False) if isinstance(tensor, nn.Parameter) else tensor.to("meta")
        for tensor in (*net.parameters(), *net.buffers())
    }
    return copy.deepcopy(net, memo).eval()


def weights_bytes(net: nn.Module) -> int:
    """Of parameters and buffers, in bytes; those that several modules share count once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*net.parameters(), *net.buffers()))


def footprint(net: nn.Module, height: int, width: int, channels: int = 3) -> Footprint:
    """What a network takes, shown pictures of `height` × `width`: nothing is taken if it is hollow.

    Raises:
        whatever a hollow network raises whose way depends on numbers.
    """
    first = next((p for p in net.parameters() if p.is_floating_point()), torch.empty(0))
    shape = (_COUNTED, channels, height, width)
    images = torch.zeros(shape, dtype=first.dtype, device=first.device, requires_grad=True)
    with torch.enable_grad(), FixedBatchNorm(), Counted((*net.parameters(), *net.buffers(), images)) as counted:
        torch.autograd.grad(net(images).sum(), images)
    return Footprint(weights_bytes(net), int(SLACK * counted.peak / _COUNTED), (height, width))
