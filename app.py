"""The page's entry point, here and on Hugging Face Spaces: `python app.py`."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from lsd.ui.page import build, launch_settings

demo = build()

if __name__ == "__main__":
    demo.launch(**launch_settings())
