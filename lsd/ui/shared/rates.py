"""How often a client may ask, by the clock: a token bucket for each."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

_CLIENTS = 10_000  # that are remembered; whoever is forgotten may ask as if he were new


class Rate:
    """So many requests a minute of each client, all at once or spread out. Many threads may use it at once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = (
            OrderedDict()
        )  # client → requests left, and when that was so
        self._lock = threading.Lock()

    def take(self, client: str, a_minute: float) -> float:
        """Count a request. Seconds until the client may ask again; 0 if this one is allowed."""
        with self._lock:
            now = self._clock()
            left, then = self._left.pop(client, (a_minute, now))
            left = min(left + (now - then) * a_minute / 60, a_minute)
            wait = max(1 - left, 0) * 60 / a_minute
            self._left[client] = (left if wait else left - 1), now
            if len(self._left) > _CLIENTS:
                self._left.popitem(last=False)
            return wait
