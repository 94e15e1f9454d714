"""How long a visitor waits after `python app.py`: for the page, and in a browser for the gallery and the first explained photo.

    python -m benchmarks.app_start [--rounds 3]

The page comes from a process started for the purpose, and with a Chromium (`LSD_CHROMIUM`, or on the PATH) it is opened as a
visitor opens it. Browser and server share the cores; the browser is there before the server is started. On two cores the page
is to answer within 5 s, and the gallery to be there within 6 s.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def started() -> Iterator[tuple[str, float]]:
    """The page in a process of its own: its address, and the clock when `python app.py` was called."""
    port = free_port()
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        while not _answers(port):
            if time.perf_counter() - start > 120:
                raise SystemExit("The page did not answer within two minutes.")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/", start
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            answer.read()
    except OSError:
        return False
    return True


def page_answers() -> float:
    """Seconds from `python app.py` to the page's first answer."""
    with started() as (_, start):
        return time.perf_counter() - start


_EXPLAINED = """() => document.querySelector('#status')?.innerText.includes('Done in') &&
  [...document.querySelectorAll("img[alt^='Saliency map of']")].filter(i => i.complete && i.naturalWidth).length === 3"""


def in_a_browser(chromium: str) -> None:
    """Seconds to what a visitor sees: the first one counts from `python app.py`, the next one from opening the page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, _browser(playwright, chromium) as browser, started() as (url, start):
        for visitor, since in (
            ("first visitor, from python app.py", start),
            ("next visitor, from opening the page", None),
        ):
            since = since or time.perf_counter()
            tab = browser.new_page(viewport={"width": 1440, "height": 1000})
            tab.goto(url, wait_until="domcontentloaded")
            tab.wait_for_function("document.querySelector('.lsd-g-card img')?.naturalWidth > 0", timeout=120_000)
            print(f"{visitor}: gallery {time.perf_counter() - since:16.1f} s")
            tab.get_by_role("tab", name="Saliency").click()
            tab.wait_for_function(_EXPLAINED, timeout=120_000)
            print(f"{visitor}: explained photo {time.perf_counter() - since:8.1f} s")
            tab.close()


@contextmanager
def _browser(playwright, chromium: str):
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
    try:
        browser.new_page().goto("about:blank")
        yield browser
    finally:
        browser.close()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    times = [page_answers() for _ in range(options.rounds)]
    print(f"python app.py to the page's answer     {statistics.median(times):7.1f} s  (of {options.rounds})")
    chromium = os.environ.get("LSD_CHROMIUM") or shutil.which("chromium")
    if chromium:
        in_a_browser(chromium)


if __name__ == "__main__":
    main()
