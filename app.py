"""The page's entry point, here and on Hugging Face Spaces: `python app.py`."""

import gc
import importlib
import os
import threading
import time

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# Torch's threads wait asleep. Spinning, they are a little faster alone, and ten times slower as soon as anybody else
# needs one of two cores: a demo model's picture took 40 s instead of 4.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Gradio sums up all its events anew after each of them, with pandas, for a dashboard that this page has not.
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**9))

from lsd.memory import settle
from lsd.process import step_back
from lsd.public import trusted_proxies
from lsd.ui.shared.stubs import without_stubs

gc.disable()  # until the page is there (`settle`): nothing that is imported is garbage, and looking for it takes half a second

with without_stubs():
    from lsd.ui.gallery.pictures import unit_pictures
    from lsd.ui.page import build, launch_settings
    from lsd.ui.reasons.run import ask_first
    from lsd.ui.saliency.run import explain_first
    from lsd.ui.shared import log

os.environ.setdefault("FORWARDED_ALLOW_IPS", trusted_proxies())  # uvicorn's

demo = build()
settle()


_FIRST = 5.0  # seconds in which the page is served undisturbed: importing timm and Captum holds up every other thread


def warm_up() -> None:
    """What the first visitors would wait for, while they look at the gallery."""
    time.sleep(_FIRST)
    step_back()
    gc.disable()
    importlib.import_module("timm")
    importlib.import_module("captum.attr")
    settle()  # before the first explanation, which waits for all that visitors have asked for
    explain_first()
    ask_first(unit_pictures)
    settle()


if __name__ == "__main__":
    log.start()
    demo.launch(**launch_settings(), prevent_thread_lock=True)
    threading.Thread(target=warm_up, daemon=True).start()
    demo.block_thread()
