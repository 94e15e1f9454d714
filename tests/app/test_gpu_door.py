"""Work that runs networks in the processes that `spaces` forks, with a stand-in for that package; on the CPU."""

import asyncio
import contextlib
import io
import multiprocessing
import os
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import wraps

import gradio as gr
import numpy as np
import pytest
import torch
from gradio.context import LocalContext

from lsd.errors import LSDError, UndefinedError
from lsd.models import get_model, resolve_device
from lsd.progress import report
from lsd.ui.api import endpoints
from lsd.ui.choices import pictures
from lsd.ui.features import request as requests
from lsd.ui.features.runs import Cooking, advance
from lsd.ui.mistakes.explain import explain, new_case
from lsd.ui.mistakes.request import Question, completed
from lsd.ui.mistakes.search import search
from lsd.ui.mistakes.views import Choice
from lsd.ui.shared import answers, gpu, jobs
from lsd.ui.shared.examples import examples
from lsd.ui.shared.gpu import LentError
from lsd.ui.shared.job import BudgetError, Progress
from lsd.ui.shared.jobs import doing, follow, sentence, turn
from lsd.ui.shared.line import Line
from lsd.ui.shared.pace import Cost, Pace

FORK = multiprocessing.get_context("fork")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no fork")


class Spaces(types.ModuleType):
    """What `spaces` 0.51 does with a generator function, without its GPU, its quotas and its mending of torch: a process is
    forked for the first call and kept for the next ones; arguments and items go through pipes; of an error only its class's
    name comes back; and whether anybody still listens is looked at between two items."""

    def __init__(self):
        super().__init__("spaces")
        self.asked, self.requests, self.workers, self.refuses = [], [], [], False

    def GPU(self, duration):
        return lambda task: self._wrapped(task, duration)

    def _wrapped(self, task, duration):
        @wraps(task)
        def handler(*arguments):
            self.asked.append(duration(*arguments))
            self.requests.append(LocalContext.request.get(None))
            if self.refuses:
                raise gr.Error("You have exceeded your quota. ", title="ZeroGPU quota exceeded", print_exception=False)
            if not self.workers or self.workers[-1].ended.is_set():
                self.workers.append(Worker(task))
            worker = self.workers[-1]
            worker.arguments.put(arguments)
            while True:
                kind, value = worker.results.get()
                if kind == "end":
                    return
                if kind == "error":
                    raise gr.Error(value, title="ZeroGPU worker error", print_exception=False)
                try:
                    yield value
                except GeneratorExit:
                    worker.stop.set()
                    while worker.results.get()[0] == "item":
                        pass
                    raise

        return handler

    def end(self):
        for worker in self.workers:
            worker.process.kill()
            worker.ended.wait()


class Worker:
    def __init__(self, task):
        self.arguments, self.results, self.stop = FORK.SimpleQueue(), FORK.SimpleQueue(), FORK.Event()
        self.ended = threading.Event()
        self.process = FORK.Process(target=self._run, args=(task,), daemon=True)
        self.process.start()
        threading.Thread(target=self._close, daemon=True).start()

    def _close(self):
        self.process.join()
        with contextlib.suppress(ValueError):
            self.results._wlock.release()  # which the process may have died with
        self.ended.set()
        self.results.put(("error", "GPU task aborted"))

    def _run(self, task):
        while True:
            arguments = self.arguments.get()
            self.stop.clear()
            with ThreadPoolExecutor() as pool:
                pool.submit(copy_context().run, self._iterate, task, arguments)
            self.results.put(("end", None))

    def _iterate(self, task, arguments):
        steps = task(*arguments)
        while True:
            try:
                item = next(steps)
            except StopIteration:
                return
            except Exception as error:
                self.results.put(("error", type(error).__name__))
                return
            if self.stop.is_set():
                steps.close()
                return
            self.results.put(("item", item))


@pytest.fixture
def spaces(monkeypatch):
    """The package, on a Space that has it, and nothing answered or measured yet."""
    package = Spaces()
    monkeypatch.setitem(sys.modules, "spaces", package)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setattr(gpu, "_door", gpu._open())
    monkeypatch.setattr(answers, "_answers", answers.Recent(answers.MAX_BYTES, answers._size))
    monkeypatch.setattr(jobs, "LINE", Line(places=1, longest=2))
    yield package
    package.end()


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


async def everything(work):
    return [news async for news in follow(work)]


def counting(number):
    doing("counting")
    for i in range(number):
        report(i + 1, number)
        yield os.getpid(), i


def slowly():
    doing("thinking")
    report(1, 4)
    time.sleep(1.2)
    yield os.getpid()


def endless(folder):
    (folder / "begun").touch()
    try:
        yield os.getpid()
        while True:
            report(0, 0)
            time.sleep(0.01)
    finally:
        (folder / "ended").touch()


def where(*_):
    return os.getpid()


class Awkward(Exception):
    """As some libraries' are: it cannot be made again from what it was raised with."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def raising(error):
    raise Awkward("this", "that") if error == "awkward" else error


def test_without_a_space_there_is_no_door(monkeypatch):
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert gpu._open() is None and gpu._door is None
    assert gpu.call(where) == os.getpid()
    steps = gpu.steps(counting, 2)
    assert steps.gi_code is counting.__code__  # the work itself, with nothing around it


def test_items_come_from_another_process_which_is_kept(spaces):
    first, second = list(gpu.steps(counting, 3)), list(gpu.steps(counting, 2))
    assert [i for _, i in first] == [0, 1, 2] and [i for _, i in second] == [0, 1]
    assert {pid for pid, _ in first + second} == {spaces.workers[0].process.pid} != {os.getpid()}


def test_its_progress_is_the_jobs(spaces):
    def work():
        with turn():
            yield from gpu.steps(slowly)

    told = [p for p in run(everything(work)) if isinstance(p, Progress)]
    assert ("thinking", 1, 4) in {(p.what, p.done, p.total) for p in told}


def test_a_follower_who_leaves_ends_the_work_over_there(spaces, tmp_path):
    def work():
        with turn():
            yield from gpu.steps(endless, tmp_path)

    async def leave():
        async with contextlib.aclosing(follow(work)) as steps:
            async for news in steps:
                if isinstance(news, int):
                    break
        while jobs.LINE._tickets:
            await asyncio.sleep(0.01)

    run(leave())
    assert (tmp_path / "ended").exists()
    assert [i for _, i in gpu.steps(counting, 2)] == [0, 1] and len(spaces.workers) == 1  # it serves the next


def test_work_that_holds_its_place_too_long_is_ended(spaces, tmp_path, monkeypatch):
    monkeypatch.setenv("LSD_JOB_SECONDS", "0.3")

    def work():
        with turn():
            yield from gpu.steps(endless, tmp_path)

    with pytest.raises(BudgetError, match="stopped after 0 s"):
        run(everything(work))
    assert (tmp_path / "ended").exists() and not jobs.LINE._tickets


def test_errors_keep_their_kind_and_their_sentence(spaces, caplog):
    with pytest.raises(UndefinedError) as caught:
        gpu.call(raising, UndefinedError("No such thing."))
    assert sentence(caught.value) == "No such thing."
    with pytest.raises(KeyError) as caught:
        gpu.call(raising, KeyError("lost"))
    assert "went wrong on our side (KeyError)" in sentence(caught.value)
    assert "in raising" in caplog.text  # where it happened over there
    with pytest.raises(RuntimeError, match="Awkward: this and that"):
        gpu.call(raising, "awkward")
    with pytest.raises(Exception, match="pickle"):  # what cannot come out
        gpu.call(threading.Lock)


def test_what_the_lender_says_is_told_to_the_visitor(spaces):
    spaces.refuses = True
    with pytest.raises(LentError, match=r"ZeroGPU quota exceeded: You have exceeded your quota\.$"):
        gpu.call(where)


def test_a_process_that_is_taken_away_is_one_sentence_and_the_next_work_has_another(spaces, tmp_path):
    steps = gpu.steps(endless, tmp_path)
    next(steps)
    spaces.workers[0].process.kill()
    with pytest.raises(LentError, match="GPU task aborted"):
        list(steps)
    assert gpu.call(where) == spaces.workers[1].process.pid


def test_the_gpu_is_asked_for_as_long_as_the_job_is_expected_to_take(spaces, monkeypatch):
    pace = Pace()
    pace.note(Cost("work", 1), 20)
    monkeypatch.setattr(jobs, "expected", pace.expected)
    monkeypatch.setattr(gpu, "job_seconds", lambda: 100)

    def asked(*costs):
        def work():
            with turn(*costs):
                gpu.call(where)
            yield None

        run(everything(work))
        return spaces.asked[-1]

    assert 28 <= asked(Cost("work", 1)) <= 30
    assert asked(Cost("work", 0.001)) == 10  # never less than it takes to begin
    assert asked(Cost("work", 50)) == 100  # never more than a job may take
    assert asked() == 60  # nobody knows


def test_the_lender_learns_whose_request_it_is(spaces):
    def work():
        gpu.call(where)
        yield None

    async def asking():
        LocalContext.request.set("a visitor's")
        return await everything(work)

    run(asking())
    assert spaces.requests == ["a visitor's"]


def test_networks_go_by_name_and_stay(spaces):
    model = get_model("demo:vit")
    assert gpu.call(_same, model) == (True, spaces.workers[0].process.pid) and gpu.call(_itself, model) is model
    model.lock.acquire()  # by somebody here, when the next process is forked
    try:
        spaces.end()
        assert gpu.call(_locked, model)
    finally:
        model.lock.release()


def _same(model):
    return model is get_model("demo:vit"), os.getpid()


def _itself(model):
    return model


def _locked(model):
    return model.lock.acquire(timeout=5)


def test_the_page_keeps_its_networks_on_the_cpu_whatever_is_said_of_gpus(spaces, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # as the package has it
    assert resolve_device("auto").type == "cpu"
    monkeypatch.delenv("SPACES_ZERO_GPU")
    assert resolve_device("auto").type == "cuda"


def _npy(file):
    return np.load(io.BytesIO(file.content))


@pytest.mark.parametrize(("method", "settings"), [("smoothgrad", {"samples": 4}), ("captum:saliency", {})])
def test_the_endpoint_answers_as_without_it(spaces, monkeypatch, method, settings):
    asked = {"image": "example:Coffee cup", "model": "demo:resnet", "method": method, "settings": settings}
    answer, picture, values = endpoints.saliency(**asked)
    assert len(spaces.asked) == 1
    endpoints.saliency(**asked)
    assert len(spaces.asked) == 1  # kept here, not over there
    monkeypatch.setattr(gpu, "_door", None)
    monkeypatch.setattr(answers, "_answers", answers.Recent(answers.MAX_BYTES, answers._size))
    plain, plain_picture, plain_values = endpoints.saliency(**asked)
    assert answer == plain and picture == plain_picture
    np.testing.assert_array_equal(_npy(values), _npy(plain_values))


def test_a_likeness_and_its_comparison_as_without_it(spaces):
    asked = {"image": "example:Coffee cup", "model": "demo:vit", "method": "gradient", "like": "example:Coffee cup"}
    answer, *_ = endpoints.saliency(**asked)
    assert answer["target"]["kind"] == "similarity" and answer["score"] == pytest.approx(1, abs=1e-5)


def test_features_and_predictions_as_without_it(spaces, monkeypatch):
    feature = {"model": "demo:resnet", "unit": "class/3", "steps": 4}
    made, classes = endpoints.feature(**feature), endpoints.predict("example:Coffee cup", "demo:vit")
    assert len(spaces.asked) == 3
    monkeypatch.setattr(gpu, "_door", None)
    assert made == endpoints.feature(**feature) and classes == endpoints.predict("example:Coffee cup", "demo:vit")
    with pytest.raises(LSDError, match="lies between"):
        endpoints.feature(**feature | {"steps": 9999})


def test_an_endpoint_says_what_its_work_says(spaces):
    with pytest.raises(LSDError, match="demo:vit") as caught:
        endpoints.saliency("example:Coffee cup", model="demo:vit", method="grad_cam", settings={"layer": "nowhere"})
    assert "our side" not in str(caught.value)


def made_in_the_features_tab():
    models = {}
    wish = requests.Wish(("demo:resnet", "demo:vit"), "class/3", Cooking("lucid", {}, 4, 32))
    *_, session = requests.prepare(wish, models)
    moved = [session.lanes.index(lane) for lane in advance(session, models)]
    list(requests.ask(session, models))
    return moved, [
        (lane.pictures[0].pixels.tobytes(), lane.own, lane.readings, bool(lane.gif)) for lane in session.lanes
    ]


def found_in_the_mistakes_tab():
    *_, found = search(completed(Question("demo:misleading-tags", 32, ("demo:resnet", "demo:shortcut"))), None)
    case = new_case(found.result, Choice(1, 0), "gradient")
    for _ in explain(found.result, case):
        pass
    return found.result.predicted.tolist(), [(r.top, r.values["contrast"].tobytes()) for r in case.readings]


def shown_in_the_evidence_tab():
    *_, case = gpu.steps(pictures.cases, get_model("demo:resnet"), examples()["Coffee cup"], "channels")
    return case.said, case.model, {level: picture.tobytes() for level, picture in case.shown.items()}, case.missing


@pytest.mark.parametrize("work", [made_in_the_features_tab, found_in_the_mistakes_tab, shown_in_the_evidence_tab])
def test_the_tabs_find_the_same_as_without_it(spaces, monkeypatch, work):
    through = work()
    assert spaces.asked
    monkeypatch.setattr(gpu, "_door", None)
    plain = work()
    if work is made_in_the_features_tab:  # whose lanes come in the order of the time they take
        through, plain = [(sorted(moved), made) for moved, made in (through, plain)]
    assert through == plain
