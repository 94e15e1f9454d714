"""What belongs to the process and not to a thread, used so that threads do not meet in it.

Python's warnings and loggers, and NumPy's global generator, are one for all threads. `warnings.catch_warnings`, a
logger's level set for a while, a seed set and given back: each is a save and a restore, and where two threads overlap, the
second restores what the first had changed, for good. So nothing is saved and restored here where a thread can be told apart;
where it cannot, as with NumPy's global generator, a lock is held.
"""

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator

import numpy as np

_NICE = 10  # above the process's own, of threads that others come before

_here = threading.local()  # .quiet: the loggers of the blocks of `quiet` that this thread is in, "" for none
_filters_lock = threading.Lock()
_numpy_lock = threading.RLock()


def _quiet() -> tuple[str, ...]:
    return getattr(_here, "quiet", ())


class _QuietThreads:
    """In place of a regular expression in a warning's filter: matches any message of a thread that wants to hear none."""

    def match(self, _message: str) -> bool:
        return bool(_quiet())


_WARNINGS = ("ignore", _QuietThreads(), Warning, None, 0)


def _drop_below_error(record: logging.LogRecord) -> bool:
    """A logger's filter; it runs in the thread that logs."""
    return record.levelno >= logging.ERROR or not any(_is_under(logger, record.name) for logger in _quiet())


def _is_under(logger: str, name: str) -> bool:
    return bool(logger) and f"{name}.".startswith(f"{logger}.")


@contextlib.contextmanager
def quiet(logger: str = "") -> Iterator[None]:
    """Within the block this thread's warnings are dropped, and what it logs below ERROR to `logger` and the loggers under it.

    Other threads' are heard as before. The filters that see to it stay, and do nothing outside such blocks.
    """
    with _filters_lock:
        if _WARNINGS not in warnings.filters:
            # Python's own functions make a filter of a regular expression only.
            warnings.filters.insert(0, _WARNINGS)
            warnings._filters_mutated()
        for name in [name for name in logging.root.manager.loggerDict if _is_under(logger, name)]:
            logging.getLogger(name).addFilter(_drop_below_error)  # once, however often it is added
    outside = _quiet()
    _here.quiet = (*outside, logger)
    try:
        yield
    finally:
        _here.quiet = outside


def step_back() -> None:
    """Have this thread, and those that it starts, leave the processor to the others of the process, where the system knows
    priorities of threads (Linux)."""
    if sys.platform == "linux":
        others = os.getpriority(os.PRIO_PROCESS, os.getpid())
        with contextlib.suppress(OSError):  # not allowed here
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(others + _NICE, 19))


def is_gpu_lent() -> bool:
    """Whether GPUs are lent to forked processes only, as on a ZeroGPU Space: there `torch.cuda` says in every process that one is
    there, and only a borrowed process (`lsd.ui.shared.gpu`) has it."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def print_anywhere() -> None:
    """Have what a console's encoding cannot write (σ in cp1252) printed as question marks, where Python would end in an error.

    For command lines, before they print anything.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # None, or something of somebody else's, where it is not the console
            stream.reconfigure(errors="replace")


@contextlib.contextmanager
def numpy_seed(seed: int) -> Iterator[None]:
    """Within the block NumPy's global generator starts from `seed`; afterwards it is as it was.

    For code that takes no generator. One thread at a time: another that comes here waits for the block's end.
    """
    with _numpy_lock:
        state = np.random.get_state()
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(state)
