"""Long work behind a page: it waits for its turn, tells how far it is, and ends by itself once nobody follows it. No Gradio here.

Work is a generator function. It runs in a thread of its own, and `follow` hands on what it yields; between two yields it may call

- `turn`, around whatever runs a model: the one limit on how much runs at a time, and where visitors' claims are weighed;
- `aside`, for what waits for others, a download above all;
- `lsd.ui.shared.gpu`'s `call` and `steps`, within a turn, for what runs a network, which may be in another process;
- `about`, to say for the log what it is about;
- `doing`, to name what `lsd.progress.report` counts.

Closing `follow` returns at once. The work ends at its next report, yield or wait, and gives its place back when it has.
"""

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from textwrap import shorten
from typing import Any, Generic, TypeVar

from lsd.disk import is_full
from lsd.errors import LSDError
from lsd.memory import is_out_of_memory
from lsd.process import step_back
from lsd.progress import listening
from lsd.ui.shared.limits import job_seconds
from lsd.ui.shared.log import Account
from lsd.ui.shared.pace import Cost, expected

Item = TypeVar("Item")

PLACES = 1  # jobs that run models at a time
LONGEST = 32  # jobs that wait; whoever comes later is told so
PATIENCE = 2.0  # seconds that a job keeps its place while it waits for a download
_SENTENCE = 2000  # characters of one
_LOOK = 0.1  # seconds between two looks of whoever waits at whether he was stopped
_BEAT = 0.5  # seconds between two looks of a follower at how far the work is: a page takes 20 ms to tell it
_SIGN_OF_LIFE = 1.0  # seconds after which a follower hears something, so that it can be noticed that he has left
_PATIENT = 2.0  # seconds between two signs of life while the work waits for its turn, and keeps nobody waiting
_GONE = 10.0  # seconds after which a follower who has not come back for more is gone, though nobody closed `follow`

log = logging.getLogger("lsd")


class Stopped(BaseException):
    """Raised inside the work when its follower has gone. Not an Exception, so that no handler of errors keeps it."""


class BusyError(LSDError):
    """Too many wait already."""


class ReplacedError(LSDError):
    """Whoever asked has asked for something else since."""


class BudgetError(LSDError):
    """The work takes longer than a job may."""


@dataclass(frozen=True)
class Owner:
    """Whose work it is.

    Attributes:
        key: of those that have the same, one may wait: the newest; "" for work of which any number may.
        client: where it comes from; the line is shared out between clients.
    """

    key: str = ""
    client: str = ""


NOBODY = Owner()


@dataclass(frozen=True)
class Waiting:
    """The work's turn has not come: so many are before it, for about so many seconds, None where nobody knows.

    Attributes:
        addition: what it is that waits, if it is an addition to what is there already; "" for what was asked for.
    """

    before: int
    seconds: int | None
    addition: str = ""


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


@dataclass(eq=False)
class _Ticket:
    """Somebody in the line."""

    seconds: float | None = None  # that the work is expected to take
    owner: Owner = NOBODY
    addition: str = ""
    round: int = 0  # in each round every client has one
    wants: bool = True
    begun: float | None = None  # when he got his place, while he has it
    refusal: LSDError | None = None  # why he gets none any more

    @property
    def is_addition(self) -> bool:
        return bool(self.addition)

    @property
    def waits(self) -> bool:
        return self.wants and not self.begun and not self.refusal

    @property
    def left(self) -> float | None:
        if self.seconds is None:
            return None
        return max(self.seconds - (time.monotonic() - self.begun if self.begun else 0), 0)


class Line:
    """Places for work that runs models.

    What was asked for comes before additions to what others have already. In both, clients take turns (fair queueing), and
    each one's jobs are served in the order in which they came.
    """

    def __init__(self, places: int = PLACES, longest: int = LONGEST):
        self._places, self._longest = places, longest
        self._tickets: list[_Ticket] = []  # in the order in which they came
        self._round = {False: 0, True: 0}  # of whatever got a place last, among additions and among what is none
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def place(
        self,
        seconds: float | None = None,
        owner: Owner = NOBODY,
        addition: str = "",
        needless: Callable[[], bool] = lambda: False,
    ) -> Iterator[_Ticket]:
        """Wait for a place, and have it within the block.

        Args:
            needless: asked while it waits; once it is true, the block is entered without a place.

        Raises:
            BusyError: too many wait already.
            ReplacedError: while it waited, its owner has asked for something else.
        """
        ticket = _Ticket(seconds, owner, addition)
        with self._changed:
            self._let_in(ticket)
        try:
            self.wait(ticket, needless)
            yield ticket
        finally:
            with self._changed:
                self._tickets.remove(ticket)
                self._hand_out()

    def wait(self, ticket: _Ticket, needless: Callable[[], bool] = lambda: False) -> None:
        """Until the ticket has a place; the first to come are the first to get one, though they had given one back."""
        job, since = _job.get(), time.monotonic()
        with self._changed:
            ticket.wants = True
            self._hand_out()
        try:
            self._wait(ticket, needless)
        finally:
            if job:
                job.account.waited += time.monotonic() - since

    def _wait(self, ticket: _Ticket, needless: Callable[[], bool]) -> None:
        job = _job.get()
        while True:
            with self._changed:
                if not ticket.begun and not ticket.refusal:
                    if job:
                        job.say(lambda: self._waiting(ticket))
                    self._changed.wait(_LOOK)
                if ticket.refusal:
                    raise ticket.refusal
                if ticket.begun:
                    return
            check()
            if needless():
                with self._changed:
                    ticket.wants = bool(ticket.begun)
                return

    def give_back(self, ticket: _Ticket) -> None:
        """Leave the place to the next, and stay in the line."""
        with self._changed:
            ticket.wants, ticket.begun = False, None
            self._hand_out()

    def _let_in(self, ticket: _Ticket) -> None:
        alike = [t for t in self._tickets if t.is_addition == ticket.is_addition and not t.refusal]
        for other in alike:
            if other.waits and other.owner.key and other.owner.key == ticket.owner.key:
                other.refusal = ReplacedError("You have asked for something else meanwhile, so this is not waited for.")
        alike = [t for t in alike if not t.refusal]
        if len(alike) >= self._longest + (0 if ticket.addition else self._places):
            self._make_room(ticket, [t for t in alike if t.waits])
        own = [t.round for t in alike if t.owner.client == ticket.owner.client]
        ticket.round = max([self._round[ticket.is_addition], *(number + 1 for number in own)])
        self._tickets.append(ticket)

    def _make_room(self, ticket: _Ticket, waiting: list[_Ticket]) -> None:
        """The last of the client who has most in the line goes, if that is more than the one who comes would have."""
        busy = BusyError(f"{self._longest} jobs are waiting already; please try again in a minute.")
        numbers = Counter(t.owner.client for t in waiting)
        client, most = max(numbers.items(), key=lambda pair: pair[1], default=("", 0))
        if most <= numbers[ticket.owner.client] + 1:
            raise busy
        next(t for t in reversed(waiting) if t.owner.client == client).refusal = busy

    def _order(self) -> list[_Ticket]:
        """Those that wait, as they will be served."""
        return sorted((t for t in self._tickets if t.waits), key=lambda t: (t.is_addition, t.round))

    def _hand_out(self) -> None:
        free = self._places - sum(1 for ticket in self._tickets if ticket.begun)
        for ticket in self._order()[: max(free, 0)]:
            ticket.begun = time.monotonic()
            self._round[ticket.is_addition] = ticket.round
        self._changed.notify_all()

    def _waiting(self, ticket: _Ticket) -> Waiting | None:
        with self._changed:
            if not ticket.waits or ticket not in self._tickets:
                return None
            order = self._order()
            before = [*(t for t in self._tickets if t.begun), *order[: order.index(ticket)]]
        left = [one.left for one in before]
        return Waiting(len(before), None if None in left else math.ceil(sum(left) / self._places), ticket.addition)


LINE = Line()


class _Job(Generic[Item]):
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
        _job.set(self)
        step_back()
        try:
            with listening(self._hear), contextlib.closing(self._work()) as items:
                for item in items:
                    while not self._taken.wait(_LOOK):
                        self.check()
                    self.check()
                    self._taken.clear()
                    self.say(lambda: None)  # what was told before is older than the item
                    self._items = [item]
                    self._wake()
        except Stopped:
            self._over(stopped=True)
        except BaseException as error:
            self._over(_of_the_work(error))
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


def _of_the_work(error: BaseException) -> Exception:
    """An error for whoever follows: what ends a thread, as SystemExit does, would end the page's own as well."""
    return (
        error if isinstance(error, Exception) else RuntimeError(f"the work's thread was ended ({type(error).__name__})")
    )


_SMALLER = "ask for fewer steps, seeds, samples or models, or run the page yourself"

_job: ContextVar[_Job | None] = ContextVar("job", default=None)  # of this thread
_ticket: ContextVar[_Ticket | None] = ContextVar("ticket", default=None)  # its place


async def follow(
    work: Callable[[], Iterator[Item]], kind: str = "", *, owner: Owner = NOBODY
) -> AsyncIterator[Item | Waiting | Progress | None]:
    """Run `work` in a thread of its own; yield what it yields, and now and then how far it is, or None: it goes on.

    Args:
        kind: by which the log tells it from other jobs; "" for no line there.

    Closing stops the work and returns at once, whatever the work is at. So does not coming back for the next item: Gradio, where
    an event is cancelled while its first news are on their way, forgets the iterator without closing it.

    Raises:
        whatever `work` raises.
    """
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody follows any more
            loop.call_soon_threadsafe(news.set)

    job = _Job(work, wake, kind, owner)
    told, told_at = None, time.monotonic()

    @contextlib.contextmanager
    def handing_on() -> Iterator[None]:
        gone = loop.call_later(_GONE, job.stop)
        try:
            yield
        finally:
            gone.cancel()

    try:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), _BEAT)
            news.clear()
            for item in job.take():
                with handing_on():
                    yield item
                told, told_at = None, time.monotonic()
            if job.ended:
                job.take()
                return
            situation, silence = job.situation, time.monotonic() - told_at
            if isinstance(situation, Waiting) and isinstance(told, Waiting):
                news_is_due = situation.before != told.before or silence > _PATIENT
            else:
                news_is_due = situation != told or silence > _SIGN_OF_LIFE
            if news_is_due:
                with handing_on():
                    yield situation
                told, told_at = situation, time.monotonic()
    finally:
        job.stop()


def followed(work: Callable[[], Iterator[Item]]) -> Iterator[Item | Progress | None]:
    """`follow` for a thread: what `work` yields, and at least every half second how far it is, or None: it goes on.

    Closing stops the work and waits until it has ended.

    Raises:
        whatever `work` raises.
    """
    news = threading.Event()
    job = _Job(work, news.set)
    try:
        while not job.ended:
            news.wait(_BEAT)
            news.clear()
            yield from job.take() or [job.situation]
        job.take()
    finally:
        job.stop()
        job.join()


def check() -> None:
    """To be called within long work, in its thread.

    Raises:
        Stopped: whoever followed the work has gone.
        BudgetError: it has held its place for longer than a job may (`limits.job_seconds`).
    """
    job, ticket, budget = _job.get(), _ticket.get(), job_seconds()
    if job:
        job.check()
    if budget and ticket and ticket.begun and time.monotonic() - ticket.begun > budget:
        raise BudgetError(f"It was stopped after {budget:.0f} s, as long as a job may take on this page: {_SMALLER}.")


def about(*models: str, method: str = "") -> None:
    """Say for the log which networks this thread's work has loaded, and by what method or recipe it goes."""
    job = _job.get()
    if job:
        job.account.about(*models, method=method)


def doing(what: str) -> None:
    """Say what this thread's work is at, for whoever follows it."""
    job = _job.get()
    if job:
        job.doing(what)


def tell(situation: Progress | None) -> None:
    """Say how far this thread's work is, where somebody else does it."""
    job = _job.get()
    if job and situation:
        job.say(lambda: situation)


def seconds_left() -> float | None:
    """By what was measured here, of this thread's turn; None where nobody knows."""
    ticket = _ticket.get()
    return ticket and ticket.left


@contextlib.contextmanager
def turn(*costs: Cost, addition: str = "", needless: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Wait in `LINE`, and have a place there within the block. Who has one already keeps it.

    Args:
        costs: of the work, by which those behind learn how long they wait.
        addition: what this is, in words, if nobody waits for it: it comes after whatever others have asked for.
        needless: asked while it waits; once it is true, the block is entered without a place.

    Raises:
        BusyError: too many wait already.
        ReplacedError: while it waited, its owner has asked for something else.
        BudgetError: by what was measured here it would take longer than a job may.
    """
    if _ticket.get():
        yield
        return
    seconds, budget = expected(costs), job_seconds()
    if budget and seconds and seconds > budget:
        raise BudgetError(
            f"This would take about {seconds:.0f} s here, and a job on this page may take {budget:.0f} s: {_SMALLER}."
        )
    job = _job.get()
    with LINE.place(seconds, job.owner if job else NOBODY, addition, needless) as ticket:
        _ticket.set(ticket)
        if job:
            job.expect(seconds)
        try:
            yield
        finally:
            _ticket.set(None)


def aside(function: Callable[..., Item], *arguments: Any) -> Item:
    """Call a function that waits for others, such as a download, in a thread of its own, and wait for it.

    It goes on when the work is stopped, and holds no place then; and a place is given back to the line while it takes long.

    Raises:
        whatever `function` raises.
    """
    future: Future[Item] = Future()

    def call() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(_of_the_work(error))

    threading.Thread(target=call, name="lsd-aside", daemon=True).start()
    begun, ticket, away = time.monotonic(), _ticket.get(), False
    while not _done(future):
        check()
        if ticket and not away and time.monotonic() - begun > PATIENCE:
            LINE.give_back(ticket)
            away = True
    if away:
        LINE.wait(ticket)
    return future.result()


def _done(future: Future) -> bool:
    """Whether it is done within the time of a look."""
    with contextlib.suppress(TimeoutError):
        future.exception(timeout=_LOOK)
    return future.done()


def sentence(error: BaseException) -> str:
    """What the page says of an error, and the log of the job: its own sentence if it was written for users, that memory or the disk
    is short, else that we failed."""
    job = _job.get()
    if job:
        job.account.trouble(error)
    if isinstance(error, LSDError):
        return shorten(str(error), _SENTENCE, placeholder=" …")  # names of any length are repeated in them
    if is_out_of_memory(error):
        log.warning("out of memory: %s", shorten(str(error), 200))
        return "There is not enough memory for that here: ask for less at a time, or for a smaller model."
    if is_full(error):
        log.warning("the disk is full: %s", error)
        return "The disk is full here; please try again in a few minutes."
    log.error("unexpected error", exc_info=error)
    return f"Something went wrong on our side ({type(error).__name__}); please try other settings."
