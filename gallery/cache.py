"""A memory for what was read lately, bounded by its size."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Values by key; those that were not asked for longest go first. Many threads may use it at once.

    Args:
        limit: of the sizes of all values together.
        size: of a value, in whatever unit `limit` is.
    """

    def __init__(self, limit: int, size: Callable[[Value], int] = lambda _: 1):
        self._limit, self._size = limit, size
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._total = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of `key`, made if it is not there. Two threads may make the same; whoever ends later is kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key][0]
        value = make()
        size = self._size(value)
        with self._lock:
            self._total += size - self._values.pop(key, (None, 0))[1]
            self._values[key] = value, size
            while self._total > self._limit and self._values:
                self._total -= self._values.popitem(last=False)[1][1]
        return value
