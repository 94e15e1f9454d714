"""The whole page."""

import inspect
import os
import subprocess
import sys

from lsd.ui.page import build, launch_settings
from lsd.ui.shared import controls, line


def test_without_packages_the_page_starts_with_the_demo_networks(monkeypatch):
    """As after `pip install --no-deps`."""
    monkeypatch.delenv("LSD_MODEL_PATH", raising=False)
    monkeypatch.setattr("lsd.packages.find_spec", lambda name: None)
    build()
    assert controls.default_models() and all(name.startswith("demo:") for name in controls.default_models())


def test_the_page_is_there_before_what_only_networks_need(fresh, tmp_path):
    """Those take seconds to import, and whoever opens the page first would wait for them."""
    code = """if True:
        import sys, urllib.request
        import app
        _, url, _ = app.demo.launch(**app.launch_settings(), prevent_thread_lock=True, quiet=True)
        urllib.request.urlopen(url).read()
        print(*sys.modules.keys() & {"timm", "torchvision", "captum", "torch._dynamo", "datasets", "sklearn"})
    """
    done = fresh.run(["-c", code], tmp_path)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "", done.stderr


def test_gradio_is_imported_without_writing_stubs():
    """Where it takes its components to have no source, and as usual afterwards."""
    code = """if True:
        import inspect, sys
        from lsd.ui.shared.stubs import without_stubs
        assert "gradio" not in sys.modules
        with without_stubs():
            import gradio
            try:
                inspect.getfile(gradio.Textbox)
            except OSError:
                print("none")
        print(inspect.getfile(gradio.Textbox))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    none, file = done.stdout.splitlines()
    assert none == "none" and file.endswith("textbox.py")


def test_what_the_page_writes_goes_with_its_process(tmp_path):
    code = "from lsd.ui.shared import examples, scratch; print(scratch.new_folder(), examples.examples())"
    made = {**os.environ, "TMPDIR": str(tmp_path)}  # which is read once, by what Gradio imports
    done = subprocess.run([sys.executable, "-c", code], env=made, capture_output=True, text=True, check=True)
    assert done.stdout.count(str(tmp_path)) > 5 and not list(tmp_path.iterdir())


def test_how_many_jobs_run_at_a_time_is_said_in_one_place():
    """Gradio holds back no event that works long: it would free a place before its work has ended."""
    page = build()
    long = [event for event in page.fns.values() if inspect.isasyncgenfunction(event.fn)]
    assert {event.api_name for event in long} >= {"predict", "saliency", "feature", "reasons"} and len(long) >= 10
    assert all(event.concurrency_limit is None for event in long)
    assert launch_settings()["max_threads"] >= line.LONGEST + 40  # so that those who wait leave threads to the others
