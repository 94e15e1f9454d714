"""How long work takes on this machine, as it was measured here while others waited for theirs."""

import threading
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

_WEIGHT = 0.5  # of the newest measurement: the machine may have become busier since the last
_KINDS = 1000  # that are remembered


@dataclass(frozen=True)
class Cost:
    """Work of one kind (one network, one method), and how much of it: passes, steps, pictures."""

    kind: Hashable
    amount: float


class Pace:
    """Seconds that one unit of each kind of work takes. Many threads may use it at once."""

    def __init__(self):
        self._seconds: dict[Hashable, float] = {}
        self._lock = threading.Lock()

    def note(self, cost: Cost, seconds: float) -> None:
        """Some work has taken so long."""
        new = seconds / max(cost.amount, 1e-9)
        with self._lock:
            old = self._seconds.pop(cost.kind, new)
            self._seconds[cost.kind] = old + _WEIGHT * (new - old)
            if len(self._seconds) > _KINDS:
                del self._seconds[next(iter(self._seconds))]  # the one that was measured longest ago

    def expected(self, costs: Sequence[Cost]) -> float | None:
        """Seconds that all of it will take; None if some of its kinds were never measured, or there are none."""
        with self._lock:
            found = [self._seconds.get(cost.kind) for cost in costs]
        if not found or None in found:
            return None
        return sum(seconds * cost.amount for seconds, cost in zip(found, costs, strict=True))


_pace = Pace()
expected = _pace.expected


@contextmanager
def measured(cost: Cost) -> Iterator[None]:
    """Measure the work of the block, if it comes to its end."""
    start = time.monotonic()
    yield
    _pace.note(cost, time.monotonic() - start)
