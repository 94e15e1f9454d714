"""Visitors who stop and leave, and the others meanwhile: against the running page, over HTTP, as browsers do it."""

import threading
import time

import httpx
import pytest

from benchmarks.page_silence import PREFIX, Page, Visitor
from lsd.ui.api import endpoints as api
from lsd.ui.saliency import run as saliency_run
from lsd.ui.shared import jobs
from lsd.ui.shared.controls import default_models
from lsd.ui.shared.job import Job

PATIENCE = 30  # seconds for what is to happen soon


@pytest.fixture(scope="module")
def page(page_url):
    return Page(page_url.rstrip("/"))


@pytest.fixture
def deaf(monkeypatch):
    """Explanations that hear nothing until the event is set, as a long pass of a network does; those that have begun, and
    those whose visitor has gone."""
    hear, begun, stopped, stop = threading.Event(), [], [], Job.stop

    def noted(job):
        stopped.append(job)
        stop(job)

    monkeypatch.setattr(Job, "stop", noted)

    def explained(model, *_, **__):
        begun.append(model.name)
        hear.wait(PATIENCE)
        jobs.check()
        raise RuntimeError("nobody has stopped it")

    for module in (saliency_run, api):
        monkeypatch.setattr(module, "explained", explained)
    yield hear, begun, stopped
    hear.set()
    wait_for(lambda: not jobs.LINE._tickets)


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


def explain(page, visitor):
    """Press Explain: of the demo ResNet, by a method that nobody has asked for yet."""
    event = page.event("_explain", "Picture")
    request = {"Models, up to four": ["demo:resnet"], "Method": "gradient_x_input", "Hold against Captum": False}
    visitor.ask(event, page.values(event, request))


def others_are_answered(page):
    assert httpx.get(f"{page.url}/{PREFIX}/app_id", timeout=PATIENCE).status_code == 200
    draw, someone = page.event("_draw", "Opacity"), Visitor(page)
    someone.ask(draw, page.values(draw, {}))
    *_, last = someone.news()
    assert last["msg"] in ("process_completed", "close_stream")


@pytest.mark.parametrize("leaves", ["by Stop", "for good"])
def test_whoever_stops_or_leaves_keeps_nobody_waiting(page, deaf, leaves):
    hear, begun, stopped = deaf
    first, second = Visitor(page), Visitor(page)
    explain(page, first)
    news = first.news()
    next(news)
    wait_for(lambda: begun)
    if leaves == "by Stop":
        first.stop()
    news.close()
    wait_for(lambda: stopped)
    assert len(jobs.LINE._tickets) == 1  # the work is at it still, and has its place
    others_are_answered(page)
    explain(page, second)
    news = second.news()
    assert any("1 job is before yours" in str(message) for message in news)
    hear.set()
    wait_for(lambda: len(begun) == 2)
    news.close()


def test_a_program_waits_in_the_same_line_and_makes_way_when_it_is_gone(page, deaf):
    _, begun, _ = deaf
    visitor = Visitor(page)
    explain(page, visitor)
    news = visitor.news()  # whoever holds it is still there
    next(news)
    wait_for(lambda: begun)
    data = ["example:Coffee cup", default_models()[0], "gradient"]
    body = {"data": data}
    call = httpx.post(f"{page.url}/{PREFIX}/call/saliency", json=body, timeout=PATIENCE).json()["event_id"]
    with httpx.stream("GET", f"{page.url}/{PREFIX}/call/saliency/{call}", timeout=PATIENCE) as stream:
        assert any('"waiting": 1' in line or '"waiting":1' in line for line in stream.iter_lines())
        assert len(jobs.LINE._tickets) == 2
    wait_for(lambda: len(jobs.LINE._tickets) == 1)
    others_are_answered(page)
    assert len(begun) == 1
