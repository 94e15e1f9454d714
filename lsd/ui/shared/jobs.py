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
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from lsd.ui.shared.job import CURRENT, PLACE, SMALLER, BudgetError, Job, Progress, check, of_the_work
from lsd.ui.shared.limits import job_seconds
from lsd.ui.shared.line import LOOK, NOBODY, Line, Owner, Waiting
from lsd.ui.shared.pace import Cost, expected
from lsd.ui.shared.sentences import told

Item = TypeVar("Item")

PATIENCE = 2.0  # seconds that a job keeps its place while it waits for a download
_BEAT = 0.5  # seconds between two looks of a follower at how far the work is: a page takes 20 ms to tell it
_SIGN_OF_LIFE = 1.0  # seconds after which a follower hears something, so that it can be noticed that he has left
_PATIENT = 2.0  # seconds between two signs of life while the work waits for its turn, and keeps nobody waiting
_GONE = 10.0  # seconds after which a follower who has not come back for more is gone, though nobody closed `follow`

LINE = Line()


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

    job = Job(work, wake, kind, owner)
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
    job = Job(work, news.set)
    try:
        while not job.ended:
            news.wait(_BEAT)
            news.clear()
            yield from job.take() or [job.situation]
        job.take()
    finally:
        job.stop()
        job.join()


def about(*models: str, method: str = "") -> None:
    """Say for the log which networks this thread's work has loaded, and by what method or recipe it goes."""
    job = CURRENT.get()
    if job:
        job.account.about(*models, method=method)


def doing(what: str) -> None:
    """Say what this thread's work is at, for whoever follows it."""
    job = CURRENT.get()
    if job:
        job.doing(what)


def tell(situation: Progress | None) -> None:
    """Say how far this thread's work is, where somebody else does it."""
    job = CURRENT.get()
    if job and situation:
        job.say(lambda: situation)


def seconds_left() -> float | None:
    """By what was measured here, of this thread's turn; None where nobody knows."""
    ticket = PLACE.get()
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
    if PLACE.get():
        yield
        return
    seconds, budget = expected(costs), job_seconds()
    if budget and seconds and seconds > budget:
        raise BudgetError(
            f"This would take about {seconds:.0f} s here, and a job on this page may take {budget:.0f} s: {SMALLER}."
        )
    job = CURRENT.get()
    with contextlib.ExitStack() as stack:
        with _waited():
            place = LINE.place(seconds, job.owner if job else NOBODY, addition, needless, _look)
            ticket = stack.enter_context(place)
        PLACE.set(ticket)
        if job:
            job.expect(seconds)
        try:
            yield
        finally:
            PLACE.set(None)


def _look(situation: Callable[[], Waiting | None]) -> None:
    """What this thread's work does again and again while it waits in the line."""
    check()
    job = CURRENT.get()
    if job:
        job.say(situation)


@contextlib.contextmanager
def _waited() -> Iterator[None]:
    """Note the time in the block for the log: this thread's work waits there."""
    job, since = CURRENT.get(), time.monotonic()
    try:
        yield
    finally:
        if job:
            job.account.waited += time.monotonic() - since


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
            future.set_exception(of_the_work(error))

    threading.Thread(target=call, name="lsd-aside", daemon=True).start()
    begun, ticket, away = time.monotonic(), PLACE.get(), False
    while not _done(future):
        check()
        if ticket and not away and time.monotonic() - begun > PATIENCE:
            LINE.give_back(ticket)
            away = True
    if away:
        with _waited():
            LINE.wait(ticket, look=_look)
    return future.result()


def _done(future: Future) -> bool:
    """Whether it is done within the time of a look."""
    with contextlib.suppress(TimeoutError):
        future.exception(timeout=LOOK)
    return future.done()


def sentence(error: BaseException) -> str:
    """What the page says of an error (`sentences.told`); the log of this thread's job has it too."""
    job = CURRENT.get()
    if job:
        job.account.trouble(error)
    return told(error)
