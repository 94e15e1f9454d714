"""A job: a generator at work in a thread of its own, how far it is, and that it ends once nobody wants it. No Gradio here."""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Generic, TypeVar

from lsd.errors import LSDError
from lsd.process import step_back
from lsd.progress import listening
from lsd.ui.shared.limits import job_seconds
from lsd.ui.shared.line import LOOK, NOBODY, Owner, Ticket, Waiting
from lsd.ui.shared.log import Account

Item = TypeVar("Item")

SMALLER = "ask for fewer steps, seeds, samples or models, or run the page yourself"


class Stopped(BaseException):
    """Raised inside the work when its follower has gone. Not an Exception, so that no handler of errors keeps it."""


class BudgetError(LSDError):
    """The work takes longer than a job may."""


@dataclass(frozen=True)
class Progress:
    """The work is at it.

    Attributes:
        what: what is being done, in the words of `doing`.
        done, total: passes, or whatever is counted; total 0 where nobody knows.
        seconds: that are left, or None.
    """

    what: str
    done: int
    total: int
    seconds: int | None


class Job(Generic[Item]):
    """A generator at work in a thread of its own, at most one item ahead of its follower."""

    def __init__(
        self, work: Callable[[], Iterator[Item]], wake: Callable[[], None], kind: str = "", owner: Owner = NOBODY
    ):
        """
        Args:
            wake: called, in the job's thread, whenever there is something to be taken.
            kind: by which the log tells it from others; "" for what is no job of its own.
        """
        self.account = Account(kind)
        self._work, self._wake, self.owner = work, wake, owner
        self._stopped, self._taken = threading.Event(), threading.Event()
        self._taken.set()
        self._items: list[Item] = []  # none or one
        self._end: Future[None] = Future()
        self._situation: Callable[[], Waiting | Progress | None] = lambda: None
        self._what, self._counted_since, self._expected_at = "", time.monotonic(), None
        # In the caller's context, by which others know the visitor: Gradio's request, and through it who borrows a GPU.
        threading.Thread(target=copy_context().run, args=(self._run,), name="lsd-job", daemon=True).start()

    def stop(self) -> None:
        """Have the work end soon; returns at once."""
        self._stopped.set()

    def join(self) -> None:
        """Wait until the work has ended."""
        self._end.exception()

    def check(self) -> None:
        """Raise `Stopped` if the follower has gone."""
        if self._stopped.is_set():
            raise Stopped

    def take(self) -> list[Item]:
        """The item that is there, if one is. Raises what the work has raised."""
        if items := self._items:
            self._items = []
            self._taken.set()
        elif self._end.done():
            self._end.result()
        return items

    @property
    def ended(self) -> bool:
        """Whether there will be no more items."""
        return self._end.done() and not self._items

    @property
    def situation(self) -> Waiting | Progress | None:
        """How far the work is; None where there is nothing to tell."""
        return self._situation()

    def say(self, situation: Callable[[], Waiting | Progress | None]) -> None:
        """Tell from now on how far the work is by this."""
        self._situation = situation

    def expect(self, seconds: float | None) -> None:
        """The work that begins now is expected to take so long."""
        self._expected_at = None if seconds is None else time.monotonic() + seconds
        self.doing(self._what)

    def doing(self, what: str) -> None:
        """From now on, `what` is done."""
        self._what, self._counted_since = what, time.monotonic()
        self.say(lambda: Progress(what, 0, 0, self._until(self._expected_at)))

    def _hear(self, done: int, total: int) -> None:
        """`lsd.progress.report`."""
        check()
        what, passed = self._what, time.monotonic() - self._counted_since
        if done and total:  # the pace of the passes that are behind us is the best that is known
            end = time.monotonic() + passed / done * (total - done)
        else:
            end = self._expected_at
        self.say(lambda: Progress(what, done, total, self._until(end)))

    @staticmethod
    def _until(moment: float | None) -> int | None:
        return None if moment is None else max(math.ceil(moment - time.monotonic()), 0)

    def _run(self) -> None:
        CURRENT.set(self)
        step_back()
        try:
            with listening(self._hear), contextlib.closing(self._work()) as items:
                for item in items:
                    while not self._taken.wait(LOOK):
                        self.check()
                    self.check()
                    self._taken.clear()
                    self.say(lambda: None)  # what was told before is older than the item
                    self._items = [item]
                    self._wake()
        except Stopped:
            self._over(stopped=True)
        except BaseException as error:
            self._over(of_the_work(error))
        else:
            self._over()

    def _over(self, error: BaseException | None = None, *, stopped: bool = False) -> None:
        account = self.account
        if error and not (
            account.refused or account.failed
        ):  # else it is the one that was told already, in other words
            account.trouble(error)
        if account.kind:
            account.close(stopped=stopped)
        if error:
            self._end.set_exception(error)
        else:
            self._end.set_result(None)
        self._wake()


def of_the_work(error: BaseException) -> Exception:
    """An error for whoever follows: what ends a thread, as SystemExit does, would end the page's own as well."""
    return (
        error if isinstance(error, Exception) else RuntimeError(f"the work's thread was ended ({type(error).__name__})")
    )


CURRENT: ContextVar[Job | None] = ContextVar("job", default=None)  # of this thread
PLACE: ContextVar[Ticket | None] = ContextVar("ticket", default=None)  # its place in the line


def check() -> None:
    """To be called within long work, in its thread.

    Raises:
        Stopped: whoever followed the work has gone.
        BudgetError: it has held its place for longer than a job may (`limits.job_seconds`).
    """
    job, ticket, budget = CURRENT.get(), PLACE.get(), job_seconds()
    if job:
        job.check()
    if budget and ticket and ticket.begun and time.monotonic() - ticket.begun > budget:
        raise BudgetError(f"It was stopped after {budget:.0f} s, as long as a job may take on this page: {SMALLER}.")
