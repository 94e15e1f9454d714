"""A memory for what was read or computed lately, bounded by its size."""

import functools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Generic, TypeVar

from lsd.progress import report

Value = TypeVar("Value")

_REMEMBERED = 8  # values for each owner
_LISTEN_SECONDS = 0.2  # between two looks at whether whoever waits has gone


class Recent(Generic[Value]):
    """Values by key; those that were not asked for longest go first. Many threads may use it at once.

    Args:
        limit: of the sizes of all values together.
        size: of a value, in whatever unit `limit` is.
    """

    def __init__(self, limit: int, size: Callable[[Value], int] = lambda _: 1):
        self._limit, self._size = limit, size
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._being_made: dict[Hashable, Future[Value]] = {}
        self._total = 0
        self._lock = threading.Lock()

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._values

    def find(self, key: Hashable) -> Value | None:
        """The value of `key`, as if it were asked for; None if it is not there."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of `key`, made if it is not there.

        Who asks for what is being made waits for it, and makes it himself if that fails: one visitor's Stop is not
        another's.

        Raises:
            whatever `make` raises.
        """
        while True:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key][0]
                future = self._being_made.get(key)
                mine = future is None
                if mine:
                    future = self._being_made[key] = Future()
            if mine:
                return self._make(key, make, future)
            if _made(future):
                return future.result()

    def _make(self, key: Hashable, make: Callable[[], Value], future: Future) -> Value:
        try:
            value = make()
            size = self._size(value)
        except BaseException as error:
            with self._lock:
                del self._being_made[key]
            future.set_exception(error)
            raise
        with self._lock:
            del self._being_made[key]
            self._total += size
            self._values[key] = value, size
            while self._total > self._limit and self._values:
                self._total -= self._values.popitem(last=False)[1][1]
        future.set_result(value)
        return value


def remembered(function: Callable[..., Value]) -> Callable[..., Value]:
    """`function`, the values of its last calls remembered for each first argument, and only for as long as that is there."""
    values: weakref.WeakKeyDictionary[object, Recent[Value]] = weakref.WeakKeyDictionary()
    lock = threading.Lock()

    @functools.wraps(function)
    def call(owner, *arguments: Hashable) -> Value:
        with lock:
            recent = values.setdefault(owner, Recent(_REMEMBERED))
        return recent.get(arguments, lambda: function(owner, *arguments))

    return call


def _made(future: Future) -> bool:
    """Wait until it is done, unless the one who waits is stopped; whether it went well."""
    while True:
        try:
            return future.exception(timeout=_LISTEN_SECONDS) is None
        except NotYet:
            report(0, 0)
