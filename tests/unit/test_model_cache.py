import threading
from types import SimpleNamespace

import pytest

from lsd.errors import ModelError
from lsd.models import ModelCache


def sized(sizes):
    """A loader of models that are nothing but a size; `calls` holds what it was asked for."""
    calls = []

    def load(name):
        calls.append(name)
        return SimpleNamespace(name=name, nbytes=sizes[name])

    load.calls = calls
    return load


def test_a_model_is_loaded_once():
    load = sized({"a": 1})
    cache = ModelCache(10, load)
    assert cache.get("a") is cache.get("a") and load.calls == ["a"]


def test_the_least_recently_used_go_first():
    cache = ModelCache(10, sized({"a": 4, "b": 4, "c": 4}))
    cache.get("a"), cache.get("b"), cache.get("a"), cache.get("c")
    assert cache.names() == ["a", "c"]


def test_as_many_go_as_it_takes():
    cache = ModelCache(10, sized({"a": 3, "b": 3, "c": 3, "big": 8}))
    for name in ("a", "b", "c", "big"):
        cache.get(name)
    assert cache.names() == ["big"]


def test_what_fits_exactly_stays():
    cache = ModelCache(10, sized({"a": 4, "b": 6}))
    cache.get("a"), cache.get("b")
    assert cache.names() == ["a", "b"]


def test_the_newest_stays_even_if_it_alone_is_too_large():
    load = sized({"a": 1, "huge": 99})
    cache = ModelCache(10, load)
    cache.get("a"), cache.get("huge"), cache.get("huge")
    assert cache.names() == ["huge"] and load.calls == ["a", "huge"]


def test_what_was_dropped_is_loaded_again():
    load = sized({"a": 6, "b": 6})
    cache = ModelCache(10, load)
    cache.get("a"), cache.get("b"), cache.get("a")
    assert load.calls == ["a", "b", "a"] and cache.names() == ["a"]


def ask(cache, name, count):
    """`count` threads that ask for `name`; → (threads, what they got)."""
    got = []

    def get():
        try:
            got.append(cache.get(name))
        except ModelError as error:
            got.append(error)

    threads = [threading.Thread(target=get) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, got


def blocking(result):
    """A loader that waits to be released; → (load, calls, started, release)."""
    calls, started, release = [], threading.Event(), threading.Event()

    def load(name):
        calls.append(name)
        started.set()
        assert release.wait(10)
        if isinstance(result, Exception):
            raise result
        return result

    return load, calls, started, release


def test_who_asks_meanwhile_waits_for_the_same_load():
    model = SimpleNamespace(nbytes=1)
    load, calls, started, release = blocking(model)
    cache = ModelCache(10, load)
    threads, got = ask(cache, "a", 4)
    assert started.wait(10) and cache.names() == []
    release.set()
    for thread in threads:
        thread.join(10)
    assert calls == ["a"] and len(got) == 4 and all(g is model for g in got)


def test_a_model_that_is_there_does_not_wait_for_one_that_is_loading():
    model = SimpleNamespace(nbytes=1)
    load, _, started, release = blocking(model)
    cache = ModelCache(10, lambda name: model if name == "quick" else load(name))
    threads, _ = ask(cache, "slow", 1)
    assert started.wait(10)
    assert cache.get("quick") is model and cache.names() == ["quick"]
    release.set()
    threads[0].join(10)
    assert set(cache.names()) == {"quick", "slow"}


def test_a_failure_reaches_all_who_wait_and_is_not_kept():
    load, calls, started, release = blocking(ModelError("no such model"))
    cache = ModelCache(10, load)
    threads, got = ask(cache, "a", 3)
    assert started.wait(10)
    release.set()
    for thread in threads:
        thread.join(10)
    assert [str(g) for g in got] == ["no such model"] * 3
    assert cache.names() == []
    before = len(calls)
    with pytest.raises(ModelError):
        cache.get("a")
    assert len(calls) == before + 1


def test_an_interrupted_load_can_be_tried_again():
    outcomes = [KeyboardInterrupt(), SimpleNamespace(nbytes=1)]

    def load(_):
        outcome = outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    cache = ModelCache(10, load)
    with pytest.raises(KeyboardInterrupt):
        cache.get("a")
    assert cache.get("a").nbytes == 1
