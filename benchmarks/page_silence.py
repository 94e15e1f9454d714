"""How long the page keeps others waiting while visitors start explanations, stop them and leave.

    python -m benchmarks.page_silence [--visitors 10] [--seconds 60] [--batch-size 8] [--model resnet50.tf_uint8_in1k]

A page is started for the purpose (`--root` says from which checkout). Its visitors press Explain (SmoothGrad of one model) as a
browser does, over HTTP, and a moment later either press Stop or are gone. Meanwhile somebody else asks the server for its
name every 20 ms, which is answered by the event loop alone, and moves a slider of the page, which goes through Gradio's queue
as every event does. Printed is how long these two wait, and, with a quiet page at the end, when a new visitor's explanation
begins after the last one has stopped.
"""

import argparse
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.app_start import free_port

ROOT = Path(__file__).parents[1]
PREFIX = "gradio_api"


@contextmanager
def started(root: Path) -> Iterator[str]:
    """The page of a checkout in a process of its own, once it answers: its address."""
    port = free_port()
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=root, env=environment, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                httpx.get(f"{url}/{PREFIX}/app_id", timeout=5)
                break
            except httpx.HTTPError:
                if time.monotonic() > deadline:
                    raise SystemExit("The page did not answer within two minutes.") from None
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


class Page:
    """What a browser knows of the page: its events and what their inputs say at first."""

    def __init__(self, url: str):
        self.url = url
        config = httpx.get(f"{url}/config", timeout=60).json()
        self._components = {c["id"]: c for c in config["components"]}
        self._events = config["dependencies"]

    def event(self, name: str, label: str) -> dict:
        """The first event of that name that has an input of that label."""
        return next(e for e in self._events if e["api_name"].startswith(name) and label in self._labels(e))

    def _labels(self, event: dict) -> list[str | None]:
        return [self._components[i].get("props", {}).get("label") for i in event["inputs"]]

    def values(self, event: dict, changes: dict) -> list:
        """What the event's inputs say, but for those whose label is among `changes`."""
        labels = self._labels(event)
        if missing := changes.keys() - set(labels):
            raise SystemExit(f"The page has no {', '.join(missing)}; its inputs are {labels}.")
        values = [self._components[i].get("props", {}).get("value") for i in event["inputs"]]
        return [changes.get(label, value) for label, value in zip(labels, values, strict=True)]


class Visitor:
    """A browser, as far as the queue goes: one event at a time."""

    def __init__(self, page: Page):
        self._page, self._session = page, uuid.uuid4().hex
        self._client = httpx.Client(base_url=f"{page.url}/{PREFIX}", timeout=120)

    def ask(self, event: dict, values: list) -> None:
        """Begin an event."""
        body = {"fn_index": event["id"], "data": values, "session_hash": self._session}
        self._event, self._asked = event, self._client.post("/queue/join", json=body).raise_for_status().json()

    def news(self) -> Iterator[dict]:
        """The server's messages until the event ends; who stops listening is gone."""
        with self._client.stream("GET", "/queue/data", params={"session_hash": self._session}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    message = json.loads(line[5:])
                    yield message
                    if message["msg"] in ("process_completed", "close_stream"):
                        return

    def stop(self) -> None:
        """What the Stop button does."""
        body = {"session_hash": self._session, "fn_index": self._event["id"], **self._asked}
        self._client.post("/cancel", json=body)


def asking(page: Page, event: dict, values: list, until: float, random_: random.Random, counts: dict) -> None:
    """Visitors, one after the other, each of whom stops or leaves within a few seconds."""
    while time.monotonic() < until:
        visitor = Visitor(page)
        visitor.ask(event, values)
        stay, leave = random_.uniform(0.5, 4), random_.random() < 0.5
        begun = time.monotonic()
        for _ in visitor.news():
            if time.monotonic() - begun > stay:
                break
        else:
            counts["finished"] += 1
            continue
        counts["left" if leave else "stopped"] += 1
        if not leave:
            visitor.stop()


def waited(ask, until: float, pause: float) -> list[float]:
    """Seconds that each of many asks took."""
    times = []
    while time.monotonic() < until:
        start = time.monotonic()
        ask()
        times.append(time.monotonic() - start)
        time.sleep(pause)
    return times


def row(name: str, times: list[float]) -> str:
    """One line of the table."""
    times = sorted(times)
    milliseconds = [1e3 * t for t in (statistics.median(times), times[int(0.99 * (len(times) - 1))], times[-1])]
    return f"{name:32}{len(times):7}" + "".join(f"{ms:10.0f}" for ms in milliseconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--model", default="resnet50.tf_uint8_in1k")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout whose page is started")
    options = parser.parse_args()
    with started(options.root) as url:
        page = Page(url)
        explain, draw = page.event("_explain", "Picture"), page.event("_draw", "Opacity")
        request = {
            "Models, up to four": [options.model], "Method": "smoothgrad", "samples": 256, "batch size": options.batch_size
        }  # fmt: skip
        values = page.values(explain, request)
        first = Visitor(page)
        first.ask(explain, page.values(explain, request | {"Method": "gradient"}))
        list(first.news())  # the model is loaded, and the page has explained its first photo
        counts = dict.fromkeys(("stopped", "left", "finished"), 0)
        until = time.monotonic() + options.seconds
        crowd = [
            threading.Thread(target=asking, args=(page, explain, values, until, random.Random(i), counts), daemon=True)
            for i in range(options.visitors)
        ]
        found: dict[str, list[float]] = {}
        pings = httpx.Client(base_url=f"{url}/{PREFIX}", timeout=300)

        def move_a_slider() -> None:
            visitor = Visitor(page)
            visitor.ask(draw, page.values(draw, {}))
            list(visitor.news())

        watchers = {
            "server, every 20 ms": (lambda: pings.get("/app_id"), 0.02),
            "slider, every 200 ms": (move_a_slider, 0.2),
        }
        threads = [
            threading.Thread(target=lambda n=n, a=a, p=p: found.update({n: waited(a, until, p)}), daemon=True)
            for n, (a, p) in watchers.items()
        ]
        for thread in [*crowd, *threads]:
            thread.start()
        for thread in threads:
            thread.join()
        for thread in crowd:
            thread.join(timeout=120)
        last = Visitor(page)
        stopped = time.monotonic()
        last.ask(explain, values)
        seen = [
            json.dumps(message) for message in itertools.takewhile(lambda m: "passes" not in json.dumps(m), last.news())
        ]
        if "process_completed" in "".join(seen[-1:]) or "close_stream" in "".join(seen[-1:]):
            raise SystemExit(f"The last visitor's explanation never began: {seen[-2:]}")
        print(
            f"{options.visitors} visitors, {options.seconds:.0f} s, SmoothGrad in batches of {options.batch_size}: {counts}"
        )
        print(f"{'waited, ms':32}{'asked':>7}{'median':>10}{'99%':>10}{'longest':>10}")
        for name, times in found.items():
            print(row(name, times))
        print(f"a new visitor's first passes, after the last has gone: {time.monotonic() - stopped:.1f} s")


if __name__ == "__main__":
    main()
