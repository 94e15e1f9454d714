"""Work that waits for its turn, is followed, and ends by itself when nobody follows."""

import asyncio
import contextlib
import ctypes
import errno
import threading
import time

import pytest

from lsd.errors import LSDError
from lsd.progress import report
from lsd.ui.shared import jobs, pace
from lsd.ui.shared.job import BudgetError, Progress
from lsd.ui.shared.jobs import aside, doing, follow, sentence, turn
from lsd.ui.shared.limits import job_seconds
from lsd.ui.shared.line import NOBODY, BusyError, Line, Owner, ReplacedError, Waiting
from lsd.ui.shared.pace import Cost, Pace

SOON = 5  # seconds that are more than enough


@pytest.fixture(autouse=True)
def line(monkeypatch):
    """A line of its own, and nothing measured yet."""
    monkeypatch.setattr(jobs, "LINE", Line(places=1, longest=2))
    monkeypatch.setattr(jobs, "expected", Pace().expected)
    return jobs.LINE


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


async def everything(work):
    return [news async for news in follow(work)]


async def until(steps, wanted):
    """The first news that is wanted."""
    async for news in steps:
        if wanted(news):
            return news
    pytest.fail("the work has ended")


def endless():
    """Work that reports and never ends."""
    with turn():
        yield "begun"
        while True:
            report(1, 2)
            time.sleep(0.01)


def test_what_the_work_yields_comes_in_order_and_its_progress_between():
    def work():
        yield "first"
        doing("counting")
        report(1, 4)
        time.sleep(0.6)
        yield "second"

    news = run(everything(work))
    assert [one for one in news if isinstance(one, str)] == ["first", "second"]
    (told,) = {(p.what, p.done, p.total) for p in news if isinstance(p, Progress) and p.total}
    assert told == ("counting", 1, 4)
    assert news[-1] == "second"  # nothing older comes after it


def test_closing_returns_at_once_and_the_place_is_free_when_the_work_has_ended(line):
    """Whatever the work is at: here it is deaf, as a long pass of a network is."""
    deaf, ended = threading.Event(), threading.Event()

    def work():
        with turn():
            try:
                yield "begun"
                deaf.wait(10)
                report(1, 2)
                pytest.fail("it went on")
            finally:
                ended.set()

    async def leave():
        steps = follow(work)
        await until(steps, lambda news: news == "begun")
        await steps.aclose()
        # The loop is free, though the work still has its place.
        await asyncio.sleep(0)
        assert not ended.is_set() and line._tickets
        deaf.set()
        while line._tickets:
            await asyncio.sleep(0.01)
        assert ended.is_set()

    run(leave())


def test_a_follower_who_forgets_to_close_is_gone(monkeypatch):
    """As Gradio does with an event that is cancelled while its first news are on their way."""
    ended = threading.Event()
    monkeypatch.setattr(jobs, "_GONE", 0.2)

    def work():
        try:
            yield from endless()
        finally:
            ended.set()

    async def forget():
        steps = follow(work)
        await anext(steps)
        await asyncio.sleep(0.1)
        assert not ended.is_set()
        while not ended.is_set():
            await asyncio.sleep(0.01)
        assert "begun" not in [news async for news in steps]

    run(forget())


def test_cancelling_whoever_waits_for_news_is_closing():
    """Which is what Gradio does when Stop is pressed: the work may not say anything for a long time."""
    deaf = threading.Event()

    def work():
        yield "begun"
        deaf.wait(10)
        report(1, 2)
        yield "too late"

    async def leave():
        steps = follow(work)
        await until(steps, lambda news: news == "begun")
        waiting = asyncio.ensure_future(until(steps, lambda news: news == "too late"))
        await asyncio.sleep(0.3)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        deaf.set()
        with pytest.raises(StopAsyncIteration):
            await steps.__anext__()

    run(leave())


def test_an_error_reaches_the_follower_after_what_came_before_it():
    def work():
        yield "made"
        raise LSDError("one sentence")

    async def collect():
        seen = []
        with pytest.raises(LSDError, match="one sentence"):
            async for news in follow(work):
                seen.append(news)
        return seen

    assert "made" in run(collect())


def test_two_jobs_do_not_hear_each_other():
    def work(total):
        report(1, total)
        time.sleep(0.6)
        yield total

    async def both():
        return await asyncio.gather(everything(lambda: work(11)), everything(lambda: work(22)))

    for total, news in zip((11, 22), run(both()), strict=True):
        assert {p.total for p in news if isinstance(p, Progress) and p.total} == {total}


def test_one_at_a_time_and_the_first_come_are_the_first_served():
    running, order, finish = [], [], threading.Event()

    def work(name):
        with turn():
            running.append(name)
            assert running == [name]
            order.append(name)
            yield "begun"
            finish.wait(10)
            running.remove(name)
        yield "ended"

    async def all_three():
        first, second, third = (follow(lambda name=name: work(name)) for name in "abc")
        await until(first, lambda news: news == "begun")
        assert await until(second, lambda news: isinstance(news, Waiting)) == Waiting(1, None)
        assert await until(third, lambda news: isinstance(news, Waiting)) == Waiting(2, None)
        finish.set()
        for steps in (first, second, third):
            await until(steps, lambda news: news == "ended")

    run(all_three())
    assert order == ["a", "b", "c"]


def test_who_waits_is_told_how_long_if_it_is_known(monkeypatch):
    known = Pace()
    known.note(Cost("work", 10), 100)
    monkeypatch.setattr(jobs, "expected", known.expected)

    def long():
        with turn(Cost("work", 2)):
            yield "begun"
            while True:
                report(0, 0)
                time.sleep(0.01)

    def short():
        with turn():
            yield "begun"

    async def wait():
        first = follow(long)
        await until(first, lambda news: news == "begun")
        told = await until(first, lambda news: isinstance(news, Progress))
        assert 15 <= told.seconds <= 20
        second = follow(short)
        told = await until(second, lambda news: isinstance(news, Waiting))
        assert told.before == 1 and 15 <= told.seconds <= 20
        third = follow(short)
        assert (await until(third, lambda news: isinstance(news, Waiting))).seconds is None  # the second's is not known
        for steps in (third, second, first):
            await steps.aclose()

    run(wait())


def test_who_leaves_the_line_makes_way(line):
    async def leave():
        first, second = follow(endless), follow(endless)
        await until(first, lambda news: news == "begun")
        await until(second, lambda news: isinstance(news, Waiting))
        await second.aclose()
        while len(line._tickets) > 1:
            await asyncio.sleep(0.01)
        third = follow(endless)
        await until(third, lambda news: isinstance(news, Waiting))
        await first.aclose()
        await until(third, lambda news: news == "begun")
        await third.aclose()

    run(leave())


def test_a_line_that_is_too_long_says_so():
    async def crowd():
        steps = [follow(endless) for _ in range(3)]
        await until(steps[0], lambda news: news == "begun")
        for waiting in steps[1:]:
            await until(waiting, lambda news: isinstance(news, Waiting))
        with pytest.raises(BusyError, match="2 jobs are waiting already"):
            await everything(endless)
        for one in steps:
            await one.aclose()

    run(crowd())


class Crowd:
    """Visitors who come one after the other while somebody has the only place; who of them is served, in which order."""

    def __init__(self, line):
        self.line, self.served, self.refused, self._threads = line, [], {}, []
        self._go = threading.Event()
        self._add("the first", NOBODY, "", lambda: False)
        while not line._tickets[0].begun:
            time.sleep(0.01)

    def _add(self, name, owner, addition, needless):
        def visit():
            try:
                with self.line.place(1, owner, addition, needless) as ticket:
                    if name == "the first":
                        self._go.wait(10)
                    else:
                        self.served.append((name, bool(ticket.begun)))
            except LSDError as error:
                self.refused[name] = error

        self._threads.append(thread := threading.Thread(target=visit))
        thread.start()

    def come(self, name, owner=NOBODY, addition="", needless=lambda: False):
        before = len(self.line._tickets)
        self._add(name, owner, addition, needless)
        deadline = time.monotonic() + SOON
        while len(self.line._tickets) == before and name not in self.refused and time.monotonic() < deadline:
            time.sleep(0.01)

    def all_served(self):
        self._go.set()
        for thread in self._threads:
            thread.join(10)
        return self.served


def names(served):
    return [name for name, _ in served]


def test_what_was_asked_for_comes_before_additions_to_what_others_have():
    crowd = Crowd(Line(places=1, longest=4))
    crowd.come("a's comparison", Owner(client="a"), "Captum is asked too")
    crowd.come("b's map", Owner(client="b"))
    crowd.come("a's map", Owner(client="a"))
    waiting = crowd.line._waiting(crowd.line._tickets[1])
    assert waiting == Waiting(3, 3, "Captum is asked too")
    assert crowd.line._waiting(crowd.line._tickets[2]).before == 1  # whoever wants a map sees no comparison before him
    assert names(crowd.all_served()) == ["b's map", "a's map", "a's comparison"]


def test_additions_keep_nobody_out_of_the_line():
    crowd = Crowd(Line(places=1, longest=2))
    for name in ("1st", "2nd", "3rd"):
        crowd.come(name, addition="Captum is asked too")
    crowd.come("map")
    assert isinstance(crowd.refused["3rd"], BusyError)
    assert names(crowd.all_served()) == ["map", "1st", "2nd"]


def test_of_a_visitors_jobs_one_waits_the_newest():
    crowd = Crowd(Line(places=1, longest=9))
    crowd.come("asked", Owner("s", "a"))
    crowd.come("another's", Owner("t", "a"))
    crowd.come("comparison", Owner("s", "a"), "Captum is asked too")
    crowd.come("asked anew", Owner("s", "a"))
    crowd.come("of nobody", NOBODY)
    crowd.come("of nobody too", NOBODY)
    served = names(crowd.all_served())
    assert sorted(served) == sorted(["another's", "asked anew", "of nobody", "of nobody too", "comparison"])
    assert isinstance(crowd.refused["asked"], ReplacedError) and "meanwhile" in str(crowd.refused["asked"])


def test_every_clients_first_comes_before_anybodys_second():
    crowd = Crowd(Line(places=1, longest=9))
    for number in range(3):
        crowd.come(f"a{number}", Owner(f"s{number}", "a"))
    crowd.come("b0", Owner("t", "b"))
    crowd.come("b1", Owner("u", "b"))
    assert names(crowd.all_served()) == ["a0", "b0", "a1", "b1", "a2"]


def test_in_a_full_line_the_client_with_most_in_it_makes_room():
    crowd = Crowd(Line(places=1, longest=3))
    for number in range(3):
        crowd.come(f"a{number}", Owner(f"s{number}", "a"))
    crowd.come("a3", Owner("s3", "a"))
    crowd.come("b0", Owner("t", "b"))
    crowd.come("b1", Owner("u", "b"))
    served = names(crowd.all_served())
    assert {name: type(error) for name, error in crowd.refused.items()} == dict.fromkeys(("a3", "a2", "b1"), BusyError)
    assert served == ["a0", "b0", "a1"]


def test_who_waits_for_what_is_there_by_now_goes_on_without_a_place():
    crowd, there = Crowd(Line(places=1, longest=3)), threading.Event()
    crowd.come("same question", needless=there.is_set)
    crowd.come("other question")
    there.set()
    deadline = time.monotonic() + SOON
    while not crowd.served and time.monotonic() < deadline:
        time.sleep(0.01)
    assert crowd.served == [("same question", False)]
    assert crowd.all_served()[1:] == [("other question", True)]


def test_the_owner_of_a_job_is_that_of_its_ticket(line):
    async def ask():
        steps = follow(endless, owner=Owner("s", "a"))
        await until(steps, lambda news: news == "begun")
        assert [ticket.owner for ticket in line._tickets] == [Owner("s", "a")]
        await steps.aclose()

    run(ask())


def test_a_download_goes_on_without_a_place_when_its_visitor_has_left(line):
    slow, arrived = threading.Event(), threading.Event()

    def download():
        slow.wait(10)
        arrived.set()

    def work():
        with turn():
            yield "begun"
            aside(download)
            pytest.fail("it went on")

    async def leave():
        steps = follow(work)
        await until(steps, lambda news: news == "begun")
        await steps.aclose()
        while line._tickets:
            await asyncio.sleep(0.01)
        assert not arrived.is_set()
        slow.set()
        assert await asyncio.to_thread(arrived.wait, SOON)

    run(leave())


def test_a_place_is_given_away_while_a_download_lasts_and_got_back_before_those_who_came_later(monkeypatch):
    monkeypatch.setattr(jobs, "PATIENCE", 0)
    slow, order = threading.Event(), []

    def loading():
        with turn():
            yield "begun"
            order.append(aside(lambda: slow.wait(10) and "loaded"))
            yield "computed"

    def computing():
        with turn():
            order.append("another's")
            slow.set()
            time.sleep(0.3)  # the first is back in the line
            yield "computed"

    def third():
        with turn():
            order.append("a third's")
            yield "computed"

    async def all_three():
        jobs_ = []
        for work in (loading, computing, third):
            jobs_.append(asyncio.ensure_future(everything(work)))
            await asyncio.sleep(0.05)
        await asyncio.gather(*jobs_)

    run(all_three())
    assert order == ["another's", "loaded", "a third's"]


def test_what_goes_wrong_aside_reaches_the_work():
    def work():
        with pytest.raises(LSDError, match="no such model"):
            aside(lambda: (_ for _ in ()).throw(LSDError("no such model")))
        yield "told"

    assert "told" in run(everything(work))


def test_who_has_a_place_keeps_it(line):
    with turn():
        with turn():
            assert len(line._tickets) == 1
        assert len(line._tickets) == 1
    assert not line._tickets


def test_only_sentences_for_users_are_shown(caplog):
    assert sentence(LSDError("Say this.")) == "Say this."
    assert "secret" not in sentence(RuntimeError("secret /path"))
    assert "secret" in caplog.text  # but the log has it


def test_the_pace_is_that_of_this_machine_lately():
    known = Pace()
    assert known.expected([Cost("a", 1)]) is None and known.expected([]) is None
    known.note(Cost("a", 10), 20)
    assert known.expected([Cost("a", 3)]) == pytest.approx(6)
    known.note(Cost("a", 10), 40)  # it has become slower
    assert known.expected([Cost("a", 3)]) == pytest.approx(9)
    assert known.expected([Cost("a", 3), Cost("b", 1)]) is None


def test_work_that_is_given_up_is_not_measured(monkeypatch):
    known = Pace()
    monkeypatch.setattr(pace, "_pace", known)
    with contextlib.suppress(KeyboardInterrupt), pace.measured(Cost("a", 1)):
        raise KeyboardInterrupt
    assert known.expected([Cost("a", 1)]) is None
    with pace.measured(Cost("a", 1)):
        pass
    assert known.expected([Cost("a", 1)]) is not None


def test_what_would_take_too_long_is_refused_before_it_waits(monkeypatch, line):
    monkeypatch.setenv("LSD_JOB_SECONDS", "10")
    pace_ = Pace()
    pace_.note(Cost("steps", 1), 1.0)
    monkeypatch.setattr(jobs, "expected", pace_.expected)

    def work(steps):
        with turn(Cost("steps", steps)):
            yield "done"

    assert run(everything(lambda: work(9))) == ["done"]
    with pytest.raises(BudgetError, match="about 11 s here, and a job on this page may take 10 s"):
        run(everything(lambda: work(11)))
    assert not line._tickets


def test_what_nobody_has_measured_is_stopped_when_its_time_is_over(monkeypatch, line):
    monkeypatch.setenv("LSD_JOB_SECONDS", "0.2")
    with pytest.raises(BudgetError, match="stopped after 0 s"):
        run(everything(endless))
    assert not line._tickets


def test_only_a_public_page_has_a_budget(monkeypatch):
    for name in ("LSD_JOB_SECONDS", "LSD_PUBLIC", "SPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    assert job_seconds() is None
    monkeypatch.setenv("LSD_PUBLIC", "1")
    assert job_seconds() == 120
    monkeypatch.setenv("LSD_JOB_SECONDS", "0")
    assert job_seconds() is None


def killed():
    """Work whose thread is ended from outside, as far as Python has that."""
    with turn():
        yield "begun"
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threading.get_ident()), ctypes.py_object(SystemExit))
        while True:
            report(1, 2)


def fetched():
    aside(lambda: exec("raise SystemExit"))
    yield "never"


@pytest.mark.parametrize("work", [killed, fetched])
def test_a_thread_that_is_killed_is_an_error_of_its_work_and_of_nobody_else(line, work):
    """A SystemExit that came out of `follow` would end the server's loop."""
    with pytest.raises(RuntimeError, match="thread was ended"):
        run(everything(work))

    def next_work():
        with turn():
            yield "mine"

    assert "mine" in run(everything(next_work))


def test_a_full_disk_is_told_as_such(caplog):
    assert "disk is full" in sentence(OSError(errno.ENOSPC, "No space left on device", "/tmp/x"))
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert "went wrong on our side" in sentence(OSError(errno.EIO, "broken"))
