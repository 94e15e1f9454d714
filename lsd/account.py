"""One account of memory for all that is large: models, their faster twins, and what runs.

Memory is asked for before it is taken. What can never fit is refused, what does not fit now waits until idle models are let go of
or others are done. Only a page enforces it (`Account.enforce`): whoever uses the library may have what his machine gives.
"""

import contextlib
import gc
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Condition

from torch import Tensor

from lsd.environment import number
from lsd.errors import LSDError
from lsd.progress import report
from lsd.storages import follow

SHARE = 0.6  # of the memory that there is: the rest is for torch itself, the page, pictures and the files that are read
PATIENCE = 30.0  # seconds that work waits for memory which others have
_LOOK = 0.2  # seconds between two looks at whether there is room, or whoever waits has gone

_CGROUP = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)  # version 2, version 1
_MEMINFO = Path("/proc/meminfo")


class MemoryLimitError(LSDError):
    """What is asked for takes more memory than there is, or than others have left for now."""


def machine_bytes() -> int:
    """Memory that this process may have: the machine's, or its container's where that is less; 4 GiB where neither is told."""
    told = []
    for file in _CGROUP:
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            told.append(int(file.read_text()))
    with contextlib.suppress(OSError):
        told += [int(kib) * 1024 for kib in re.findall(r"^MemTotal:\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE)]
    return min(told, default=4 * 2**30)


def budget() -> int:
    """Bytes for models and jobs on a page: `LSD_MEMORY_BYTES`, by default `SHARE` of what the process may have.

    Where models run on a GPU it is the GPU's memory that counts.
    """
    if asked := number("LSD_MEMORY_BYTES"):
        return int(asked)
    import torch

    whole = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else machine_bytes()
    return int(SHARE * whole)


def readable(nbytes: float) -> str:
    """ "45 MB", "1.4 GB"."""
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e9 else f"{max(nbytes / 1e6, 1):.0f} MB"


class Account:
    """Bytes that are taken, and bytes that are promised. Many threads may use it at once."""

    def __init__(self):
        self.limit: int | None = None  # None: nothing is refused
        self._kept = self._promised = 0
        self._known: set[int] = set()  # storages that are counted
        self._gone: deque[tuple[int, int]] = (
            deque()
        )  # storages that are there no more, from whatever thread let go of them
        self._idle: list[Callable[[], bool]] = []
        self._changed = Condition()

    def enforce(self, limit: int | None) -> None:
        """Refuse from now on what does not fit in so many bytes; None for nothing."""
        self.limit = limit

    def offers(self, let_go: Callable[[], bool]) -> None:
        """`let_go` gives up something that nobody uses at the moment, and says whether there was anything."""
        self._idle.append(let_go)

    @property
    def held(self) -> int:
        """Bytes that are taken or promised now."""
        with self._changed:
            self._settle()
            return self._kept + self._promised

    def keep(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors for as long as they are there; memory that several of them share counts once."""
        with self._changed:
            self._settle()
            self._kept += sum(follow(tensor, self._known, self._gone.append) for tensor in tensors)

    @contextlib.contextmanager
    def room(
        self, nbytes: int, what: str, *, beside: int = 0, smaller: Callable[[int], str] | None = None
    ) -> Iterator[None]:
        """Have so many bytes within the block, once they are there.

        Args:
            what: would take them, as a sentence begins.
            beside: bytes that the same work holds already, by its models.
            smaller: what would fit in the given number of bytes, as a sentence ends.

        Raises:
            MemoryLimitError: there will never be as many, or not soon.
        """
        self._promise(nbytes, what, beside, smaller)
        try:
            yield
        finally:
            with self._changed:
                self._promised -= nbytes
                self._changed.notify_all()

    def _promise(self, nbytes: int, what: str, beside: int, smaller: Callable[[int], str] | None) -> None:
        most = None if self.limit is None else max(self.limit - beside, 0)
        if most is not None and nbytes > most:
            instead = f": {smaller(most)}" if smaller else ""
            raise MemoryLimitError(
                f"{what} would take about {readable(nbytes)} of memory, and there are {readable(most)} for it here{instead}."
            )
        until, collected = time.monotonic() + PATIENCE, False
        while not self._promised_now(nbytes):
            if any(let_go() for let_go in self._idle):
                continue
            if not collected:  # an error that passed through holds its frames in a circle, and what they held
                gc.collect()
                collected = True
                continue
            if time.monotonic() > until:
                raise MemoryLimitError(
                    f"{what} would take about {readable(nbytes)} of memory, which others have at the moment; please try again in a "
                    "minute."
                )
            report(0, 0)  # whoever waits may have gone
            with self._changed:
                self._changed.wait(_LOOK)

    def _promised_now(self, nbytes: int) -> bool:
        with self._changed:
            self._settle()
            if self.limit is not None and self._kept + self._promised + nbytes > self.limit:
                return False
            self._promised += nbytes
            return True

    def _settle(self) -> None:
        while self._gone:
            storage, nbytes = self._gone.popleft()
            self._known.discard(storage)
            self._kept -= nbytes


ACCOUNT = Account()
