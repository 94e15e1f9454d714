import gc
import threading
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd.progress import listening
from lsd.recent import Recent, remembered


@given(st.lists(st.integers(0, 8)), st.integers(0, 20))
def test_what_was_asked_for_last_is_kept_within_the_limit(keys, limit):
    cache: Recent[int] = Recent(limit, lambda value: value)
    kept: list[int] = []  # the same, with a list, oldest first
    for key in keys:
        made = []
        assert cache.get(key, lambda key=key, made=made: made.append(key) or key) == key
        assert bool(made) == (key not in kept)
        kept = [other for other in kept if other != key] + [key]
        while sum(kept) > limit:
            kept.pop(0)


def _ask(recent, key, make, answers):
    def ask():
        try:
            answers.append(recent.get(key, make))
        except BaseException as error:
            answers.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def test_who_asks_for_what_is_being_made_waits_for_it():
    recent, begun, go, answers = Recent(9), threading.Event(), threading.Event(), []
    first = _ask(recent, "a", lambda: (begun.set(), go.wait(9), "made")[-1], answers)
    assert begun.wait(9)
    second = _ask(recent, "a", lambda: "made again", answers)
    second.join(0.3)
    assert second.is_alive() and "a" not in recent
    go.set()
    first.join(9), second.join(9)
    assert answers == ["made", "made"] and "a" in recent


def test_who_waits_makes_it_himself_if_that_fails():
    recent, begun, go, answers = Recent(9), threading.Event(), threading.Event(), []

    def stopped():
        begun.set()
        go.wait(9)
        raise KeyboardInterrupt

    first = _ask(recent, "a", stopped, answers)
    assert begun.wait(9)
    second = _ask(recent, "a", lambda: "made", answers)
    go.set()
    first.join(9), second.join(9)
    assert sorted(map(str, answers)) == ["", "made"]
    with pytest.raises(ZeroDivisionError):
        recent.get("b", lambda: 1 / 0)
    assert recent.get("b", lambda: "made") == "made"


def test_who_waits_can_be_stopped():
    class Stopped(BaseException):
        pass

    def stop(done, total):
        raise Stopped

    recent, begun, go = Recent(9), threading.Event(), threading.Event()
    first = _ask(recent, "a", lambda: (begun.set(), go.wait(9))[-1], [])
    assert begun.wait(9)
    with listening(stop), pytest.raises(Stopped):
        recent.get("a", lambda: pytest.fail("made twice"))
    go.set()
    first.join(9)


class Owner:
    """Something that values belong to."""


def test_values_are_remembered_for_as_long_as_their_owner_is_there():
    made = []

    @remembered
    def value(owner, number):
        made.append(number)
        return [number]

    one, other = Owner(), Owner()
    assert value(one, 1) is value(one, 1) and value(other, 1) is not value(one, 1) and made == [1, 1]
    for number in range(20):
        value(one, number)
    assert value(one, 0) and made.count(0) == 2  # the last ones only
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None and value(other, 1) and made.count(1) == 2


def test_what_is_found_counts_as_asked_for_and_nothing_is_made():
    recent = Recent(2)
    assert recent.find("a") is None
    recent.get("a", lambda: 1)
    recent.get("b", lambda: 2)
    assert recent.find("a") == 1
    recent.get("c", lambda: 3)
    assert recent.find("b") is None and recent.find("a") == 1
