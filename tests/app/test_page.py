"""The whole page."""

import inspect
import os
import subprocess
import sys

from lsd.ui.page import build, launch_settings
from lsd.ui.shared import controls, jobs


def test_without_packages_the_page_starts_with_the_demo_networks(monkeypatch):
    """As after `pip install --no-deps`."""
    monkeypatch.delenv("LSD_MODEL_PATH", raising=False)
    monkeypatch.setattr("lsd.packages.find_spec", lambda name: None)
    build()
    assert controls.default_models() and all(name.startswith("demo:") for name in controls.default_models())


def test_what_the_page_writes_goes_with_its_process(tmp_path):
    code = "from lsd.ui.shared import examples, scratch; print(scratch.new_folder(), examples.examples())"
    made = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=made, capture_output=True, text=True, check=True)
    assert done.stdout.count(str(tmp_path)) > 5 and not list(tmp_path.iterdir())


def test_how_many_jobs_run_at_a_time_is_said_in_one_place():
    """Gradio holds back no event that works long: it would free a place before its work has ended."""
    page = build()
    long = [event for event in page.fns.values() if inspect.isasyncgenfunction(event.fn)]
    assert {event.api_name for event in long} >= {"predict", "saliency", "feature", "reasons"} and len(long) >= 10
    assert all(event.concurrency_limit is None for event in long)
    assert launch_settings()["max_threads"] >= jobs.LONGEST + 40  # so that those who wait leave threads to the others
