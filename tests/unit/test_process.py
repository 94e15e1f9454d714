"""What is the process's, used by threads that overlap: they meet at barriers, so that nothing here is luck."""

import io
import logging
import os
import sys
import threading
import warnings

import numpy as np
import pytest
import timm
from PIL import Image

from lsd.images import open_image
from lsd.models import load_model
from lsd.process import numpy_seed, quiet, step_back

WAIT = 20  # seconds, before a test that would hang fails


def together(*tasks):
    """Run the tasks in a thread each, and raise what one of them raised."""
    errors = []

    def run(task):
        try:
            task()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def overlapping(function):
    """Call `function(inside)` in two threads: each calls `inside()` while the other is inside too, and one returns first."""
    both, one_returned = threading.Barrier(2), threading.Event()

    def meet(first):
        both.wait(WAIT)
        assert first or one_returned.wait(WAIT)

    def call(first):
        function(lambda: meet(first))
        one_returned.set()

    together(lambda: call(True), lambda: call(False))


@pytest.fixture
def heard():
    """What is warned of in this test, each time."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        yield lambda: [str(warning.message) for warning in record]


@pytest.fixture
def logged():
    """What the logger timm.models says, as "LEVEL message"."""
    messages, parent = [], logging.getLogger("timm")
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(f"{record.levelname} {record.getMessage()}")
    level = parent.level
    parent.addHandler(handler)
    parent.setLevel(logging.INFO)
    yield messages
    parent.removeHandler(handler)
    parent.setLevel(level)


def test_quiet_is_only_for_the_block(heard):
    with quiet(), quiet():
        warnings.warn("inside", stacklevel=1)
    warnings.warn("outside", stacklevel=1)
    assert heard() == ["outside"]


def test_the_block_ends_with_an_exception(heard):
    with pytest.raises(RuntimeError), quiet():
        raise RuntimeError
    warnings.warn("outside", stacklevel=1)
    assert heard() == ["outside"]


def test_overlapping_quiet_blocks_leave_the_warnings_on(heard):
    def silent(inside):
        with quiet():
            inside()

    overlapping(silent)
    warnings.warn("afterwards", stacklevel=1)
    assert heard() == ["afterwards"]


def test_another_threads_warnings_are_heard_meanwhile(heard):
    inside, told = threading.Barrier(2), threading.Barrier(2)

    def silent():
        with quiet():
            inside.wait(WAIT)
            warnings.warn("silent", stacklevel=1)
            told.wait(WAIT)

    def loud():
        inside.wait(WAIT)
        warnings.warn("loud", stacklevel=1)
        told.wait(WAIT)

    together(silent, loud)
    assert heard() == ["loud"]


def test_a_logger_and_those_under_it_are_silent_below_error_in_this_thread_only(logged):
    logger = logging.getLogger("timm.models")
    with quiet("timm"):
        logger.warning("dropped")
        logger.error("kept")
        thread = threading.Thread(target=logger.warning, args=("another's",))
        thread.start()
        thread.join()
    with quiet():
        logger.warning("no logger of that name was meant")
    logger.warning("afterwards")
    assert logged == [
        "ERROR kept", "WARNING another's", "WARNING no logger of that name was meant", "WARNING afterwards",
    ]  # fmt: skip


def test_overlapping_quiet_blocks_leave_the_logger_as_it_was(logged):
    def silent(inside):
        with quiet("timm"):
            inside()

    overlapping(silent)
    logging.getLogger("timm.models").warning("afterwards")
    assert logged == ["WARNING afterwards"]


def test_pictures_opened_at_once_leave_the_warnings_on(heard, monkeypatch):
    buffer, here, read = io.BytesIO(), threading.local(), Image.open
    Image.new("RGB", (4, 4)).save(buffer, "PNG")

    def meeting(*args, **kwargs):
        here.inside()
        return read(*args, **kwargs)

    def opened(inside):
        here.inside = inside
        open_image(buffer.getvalue())

    monkeypatch.setattr(Image, "open", meeting)
    overlapping(opened)
    warnings.warn("afterwards", stacklevel=1)
    assert heard() == ["afterwards"]


def test_models_loaded_at_once_leave_timms_logger_as_it_was(logged, model_folder, monkeypatch):
    folder, here, build = model_folder(), threading.local(), timm.create_model

    def meeting(*args, **kwargs):
        here.inside()
        return build(*args, **kwargs)

    def loaded(inside):
        here.inside = inside
        load_model(f"local-dir:{folder}", device="cpu")

    monkeypatch.setattr(timm, "create_model", meeting)
    overlapping(loaded)
    logging.getLogger("timm.models").warning("afterwards")
    assert logged == ["WARNING afterwards"]


def test_numpys_numbers_are_the_seeds_and_the_generator_is_given_back():
    np.random.seed(5)
    expected = np.random.random(2)
    np.random.seed(5)
    with numpy_seed(1):
        drawn = np.random.random(3)
    np.testing.assert_array_equal(drawn, np.random.RandomState(1).random_sample(3))
    np.testing.assert_array_equal(np.random.random(2), expected)


def test_a_second_thread_waits_for_numpys_generator():
    inside, drawn = threading.Event(), {}

    def first():
        with numpy_seed(1):
            inside.set()
            second_came.wait(1)  # in vain
            drawn[1] = np.random.random()

    second_came = threading.Event()

    def second():
        assert inside.wait(WAIT)
        with numpy_seed(2):
            second_came.set()
            drawn[2] = np.random.random()

    together(first, second)
    assert drawn == {seed: np.random.RandomState(seed).random_sample() for seed in (1, 2)}


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux'")
def test_a_thread_that_steps_back_does_so_for_itself_and_for_those_that_it_starts():
    priority = lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())  # noqa: E731
    own, seen = priority(), []

    def work():
        step_back()
        started = threading.Thread(target=lambda: seen.append(priority()))
        started.start()
        started.join()
        seen.append(priority())
        step_back()  # twice is once
        seen.append(priority())

    together(work)
    assert seen == [min(own + 10, 19)] * 3 and priority() == own
