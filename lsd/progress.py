"""How long work tells how far it is, and how it is stopped.

Loops call `report`; whoever wants to know listens. A listener that raises stops the work at that point, which is how a
job is cancelled: everything that was hooked or locked is put back on the way out. Listening is per thread (a context
variable), so two users' jobs never hear each other.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar

Listener = Callable[[int, int], None]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def report(done: int, total: int) -> None:
    """Say that `done` of `total` passes (or whatever is counted) are behind us. Raises what the listener raises."""
    listener = _listener.get()
    if listener is not None:
        listener(done, total)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within the block, `listener(done, total)` hears what this thread's work reports."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextlib.contextmanager
def bar(name: str, unit: str, *, shown: bool | None = None) -> Iterator[None]:
    """Within the block a bar with rate and time left, once the work has lasted a second: on a terminal, or in a notebook.

    Args:
        unit: what is counted.
        shown: whether at all; None for whether standard error is a terminal.
    """
    from tqdm import tqdm

    hidden = not (sys.stderr.isatty() if shown is None else shown)
    with tqdm(desc=name, unit=unit, delay=1, leave=False, disable=hidden) as ticking:

        def show(done: int, total: int) -> None:
            ticking.total = total
            ticking.update(done - ticking.n)

        with listening(show):
            yield
