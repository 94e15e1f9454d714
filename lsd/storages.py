"""The memory behind tensors: each storage counts once, for as long as it is there."""

from collections.abc import Callable
from weakref import finalize

from torch import Tensor


def follow(tensor: Tensor, known: set[int], gone: Callable[[tuple[int, int]], None]) -> int:
    """Bytes of a tensor's storage, 0 if it is `known` already; from now on it is.

    Args:
        gone: called with (what `known` has of it, its bytes) once the storage is there no more, in whatever thread lets go of it.
    """
    storage = tensor.untyped_storage()
    if storage._cdata in known:
        return 0
    known.add(storage._cdata)
    finalize(storage, gone, (storage._cdata, storage.nbytes())).atexit = False
    return storage.nbytes()
