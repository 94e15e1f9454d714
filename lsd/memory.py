"""How the process keeps its memory."""

import ctypes
import gc
import platform

# What torch says in a `RuntimeError` like any other, of a CPU's memory and of some devices'.
_WORDS = ("can't allocate memory", "not enough memory", "out of memory")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def keep_freed_memory() -> bool:
    """Have freed memory kept for the next allocation, where the C library is glibc; whether it was done.

    A step of ascent allocates and frees the same large tensors over and over; by default each goes back to the system at
    once, and comes again page by page, zeroed: on a CPU half of a MobileNetV2's time. For processes that do one long
    work: what was used at the peak stays theirs to the end.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    largest = 2**31 - 1  # a C int
    return bool(mallopt(_MMAP_THRESHOLD, largest) and mallopt(_TRIM_THRESHOLD, largest))


def settle() -> None:
    """Have the garbage collector leave alone what is there now, and look for garbage among what comes, for processes that answer
    others.

    It walks through all objects again and again, those of torch, timm and a page included, which never become garbage: half
    a second at a time in which nothing else runs. So it does not even look for garbage among them now.
    """
    gc.freeze()
    gc.enable()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory left."""
    names = {kind.__name__ for kind in type(error).__mro__}  # by name: whoever asks may have no torch
    if names & {"MemoryError", "OutOfMemoryError"}:
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)
