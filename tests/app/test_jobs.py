"""Work that is followed, and stops when nobody follows."""

import threading
import time

import pytest

from lsd.errors import LSDError
from lsd.progress import report
from lsd.ui.jobs import Done, Progress, follow, sentence


def test_progress_then_the_result():
    def work():
        report(1, 2)
        time.sleep(0.3)
        report(2, 2)
        return "result"

    steps = list(follow(work))
    assert steps[0] == Progress(1, 2)
    assert steps[-1] == Done("result")


def test_closing_stops_the_work_and_waits_for_it():
    ended = threading.Event()

    def work():
        try:
            for i in range(10_000):
                report(i, 10_000)
                time.sleep(0.01)
        finally:
            ended.set()

    job = follow(work)
    next(job)
    job.close()
    assert ended.is_set()


def test_an_error_reaches_the_follower():
    def work():
        raise LSDError("one sentence")

    with pytest.raises(LSDError, match="one sentence"):
        list(follow(work))


def test_two_jobs_do_not_hear_each_other():
    def work(total):
        report(1, total)
        time.sleep(0.4)
        return total

    first, second = follow(lambda: work(11)), follow(lambda: work(22))
    heard = [next(first), next(second)]
    assert heard == [Progress(1, 11), Progress(1, 22)]
    assert [list(first)[-1], list(second)[-1]] == [Done(11), Done(22)]


def test_only_sentences_for_users_are_shown(caplog):
    assert sentence(LSDError("Say this.")) == "Say this."
    assert "secret" not in sentence(RuntimeError("secret /path"))
    assert "secret" in caplog.text  # but the log has it
