"""One line of JSON for each job, as a machine reads it."""

import asyncio
import inspect
import io
import json
import logging
import threading
import time
from pathlib import Path

import duckdb
import gradio as gr
import pytest

from lsd.errors import LSDError
from lsd.progress import report
from lsd.ui.api import endpoints
from lsd.ui.shared import jobs, log
from lsd.ui.shared.jobs import about, follow, sentence, turn
from lsd.ui.shared.line import Line
from lsd.ui.shared.long_event import long_event

MANUAL = Path(__file__).parents[2] / "docs" / "operating.md"
JOBS = logging.getLogger("lsd.jobs")


@pytest.fixture
def lines(monkeypatch):
    """Those that are written, once the jobs that other tests have left have written theirs; and the log afterwards as it was."""
    for thread in threading.enumerate():
        if thread.name == "lsd-job":
            thread.join(60)
    monkeypatch.setattr(jobs, "LINE", Line(places=1, longest=2))
    monkeypatch.setenv("LSD_LOG", "json")
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    monkeypatch.setattr(JOBS, "handlers", [])
    monkeypatch.setattr(JOBS, "propagate", True)
    level = JOBS.level
    log.start()
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    JOBS.setLevel(level)


async def everything(work, kind):
    return [news async for news in follow(work, kind)]


def test_what_it_was_and_how_long_it_took(lines):
    def work():
        about("demo:resnet", method="gradient")
        with turn():
            time.sleep(0.2)
            yield "first"
            about("local-dir:/home/somebody/secret")

    asyncio.run(everything(work, "saliency"))
    (line,) = lines()
    assert {key: line[key] for key in ("kind", "models", "method", "outcome", "error")} == {
        "kind": "saliency", "models": ["demo:resnet", "local-dir"], "method": "gradient", "outcome": "done", "error": None
    }  # fmt: skip
    assert line["waited"] < 0.2 <= line["ran"]
    assert time.strptime(line["time"], "%Y-%m-%dT%H:%M:%S+00:00")


def test_who_waits_is_not_said_to_run(lines):
    def work():
        with turn():
            time.sleep(0.3)
        yield None

    async def both():
        await asyncio.gather(everything(work, "a"), everything(work, "b"))

    asyncio.run(both())
    first, second = lines()
    assert first["waited"] < 0.2 <= second["waited"]


@pytest.mark.parametrize(
    ("error", "outcome"), [(LSDError("secret.jpg is no picture."), "refused"), (KeyError("secret"), "failed")]
)
@pytest.mark.parametrize("told", [True, False])
def test_how_it_ended(lines, error, outcome, told):
    def work():
        if not told:
            raise error
        try:
            raise error
        except Exception as found:
            yield sentence(found)

    async def ask():
        try:
            await everything(work, "mistakes")
        except (LSDError, KeyError):
            assert not told

    asyncio.run(ask())
    (line,) = lines()
    assert (line["outcome"], line["error"]) == (outcome, type(error).__name__)
    assert "secret" not in str(line)


def test_one_who_leaves(lines):
    def work():
        while True:
            yield None
            report(0, 0)
            time.sleep(0.01)

    async def leave():
        steps = follow(work, "features")
        await anext(steps)
        await steps.aclose()
        while not lines():
            await asyncio.sleep(0.01)

    asyncio.run(leave())
    assert [line["outcome"] for line in lines()] == ["stopped"]


def test_what_is_no_job_of_its_own_has_no_line(lines):
    asyncio.run(everything(lambda: (one for one in [None]), ""))
    assert not lines()


def test_a_long_event_of_the_page_has_its_kind(lines, followed):
    with gr.Blocks():
        status = gr.HTML()
    followed(long_event(lambda: (one for one in [{status: "done"}]), status, "features"))
    assert [line["kind"] for line in lines()] == ["features"]


def test_an_endpoint_says_what_it_was_asked_and_no_more(lines, followed):
    picture = "example:Coffee cup"
    wanted = [
        ("/saliency", {"image": picture, "model": "demo:vit", "method": "gradient"}, ["demo:vit"], "gradient", "done"),
        ("/saliency", {"image": "c2VjcmV0", "model": "demo:vit", "method": "gradient"}, [], "gradient", "refused"),
        ("/predict", {"image": picture, "model": "demo:vit"}, ["demo:vit"], "", "done"),
        ("/feature", {"model": "demo:resnet", "unit": "class/3", "steps": 2}, ["demo:resnet"], "*", "done"),
    ]
    for name, asked, *_ in wanted:
        try:
            followed(endpoints._endpoint(getattr(endpoints, name[1:])), *_values(name[1:], asked))
        except LSDError:
            assert "c2VjcmV0" in asked.values()
    found = [(line["kind"], line["models"], line["method"], line["outcome"]) for line in lines()]
    assert [one[:2] for one in found] == [(name, models) for name, _, models, *_ in wanted]
    assert [one[3] for one in found] == [outcome for *_, outcome in wanted]
    assert [one[2] for one in found][:3] == ["gradient", "gradient", ""] and found[3][2]


def _values(name, asked):
    parameters = inspect.signature(getattr(endpoints, name)).parameters
    return [asked.get(key, parameter.default) for key, parameter in parameters.items()]


@pytest.mark.parametrize(
    ("asked", "public", "written"),
    [(None, "0", False), (None, "1", True), ("off", "1", False), ("json", "0", True)],
)
def test_a_public_page_writes_them_and_others_if_asked(monkeypatch, asked, public, written):
    monkeypatch.setattr(JOBS, "handlers", [])
    monkeypatch.setattr(JOBS, "propagate", True)
    monkeypatch.setenv("LSD_PUBLIC", public)
    if asked is None:
        monkeypatch.delenv("LSD_LOG", raising=False)
    else:
        monkeypatch.setenv("LSD_LOG", asked)
    log.start()
    log.start()
    assert len(JOBS.handlers) == written


def test_duckdb_reads_them_among_other_lines_as_the_manual_says(lines, tmp_path):
    for _ in range(3):
        asyncio.run(everything(lambda: (one for one in [None]), "saliency"))
    file = tmp_path / "log"
    file.write_text("* Running on local URL\n" + "\n".join(map(json.dumps, lines())) + "\nTraceback: {\n")
    (query,) = [line for line in MANUAL.read_text("utf-8").splitlines() if line.startswith("duckdb -c")]
    query = query.removeprefix('duckdb -c "').removesuffix('"').replace("'log'", f"'{file}'")
    assert duckdb.sql(query).fetchall()[0][:3] == ("saliency", "done", 3)
