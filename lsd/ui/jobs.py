"""Long work behind a page: its progress can be followed, and it ends when nobody follows any more."""

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lsd.errors import LSDError
from lsd.progress import listening

MODEL_QUEUE = "model"  # the one queue that every event which runs a model shares
_POLL_SECONDS = 0.15

log = logging.getLogger("lsd")


@dataclass(frozen=True)
class Progress:
    """`done` of `total` passes are behind us; total 0 where nobody knows yet."""

    done: int
    total: int


@dataclass(frozen=True)
class Done:
    """The work's result."""

    value: Any


class Stopped(BaseException):
    """Raised inside the work when its follower has gone. Not an Exception, so that no handler of errors keeps it."""


def follow(work: Callable[[], Any]) -> Iterator[Progress | Done]:
    """Run `work` in a thread of its own; yield its progress as it reports it, and its result at the end.

    Closing the iterator (which is what Gradio does when the user presses Stop, or leaves) stops the work at its next
    report; its locks and hooks are put back before `close` returns.

    Raises:
        whatever `work` raises.
    """
    messages: queue.SimpleQueue = queue.SimpleQueue()
    stop = threading.Event()

    def listener(done: int, total: int) -> None:
        if stop.is_set():
            raise Stopped
        messages.put(Progress(done, total))

    def body() -> None:
        try:
            with listening(listener):
                messages.put(Done(work()))
        except Stopped:
            pass
        except BaseException as error:
            messages.put(error)

    thread = threading.Thread(target=body, name="lsd-job", daemon=True)
    thread.start()
    try:
        while True:
            message = _latest(messages)
            if message is None:
                continue
            if isinstance(message, BaseException):
                raise message
            yield message
            if isinstance(message, Done):
                return
    finally:
        stop.set()
        thread.join()


def _latest(messages: queue.SimpleQueue) -> Any:
    """The next message, passing over progress that newer progress has overtaken; None if there is none yet."""
    message = None
    try:
        message = messages.get(timeout=_POLL_SECONDS)
        while isinstance(message, Progress):
            message = messages.get_nowait()
    except queue.Empty:
        pass
    return message


def sentence(error: BaseException) -> str:
    """What the page says of an error: the error's own sentence if it was written for users, else that we failed."""
    if isinstance(error, LSDError):
        return str(error)
    log.error("unexpected error", exc_info=error)
    return f"Something went wrong on our side ({type(error).__name__}); please try other settings."
