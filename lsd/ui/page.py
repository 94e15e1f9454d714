"""The whole page: its tabs, its look, its limits."""

from importlib.util import find_spec

import gradio as gr

from lsd.ui.api import endpoints as api
from lsd.ui.choices.tab import ChoicesTab
from lsd.ui.features.tab import FeaturesTab
from lsd.ui.gallery.tab import GalleryTab
from lsd.ui.mistakes.tab import MistakesTab
from lsd.ui.saliency.tab import SaliencyTab
from lsd.ui.shared.files import styles
from lsd.ui.shared.jobs import LONGEST
from lsd.ui.shared.limits import MAX_UPLOAD, MAX_WAITING

_THREADS = LONGEST + 40  # of Gradio's events: as many as it has by itself, beside the jobs that wait in that line

_FONT = ("system-ui", "sans-serif")  # what the visitor has: nothing is fetched from a font server

HEADER = """
# LSD: a simulator for explainable deep learning
**Which pixels moved the output? What does a class, a channel, a head respond to most?** Choose up to four networks, see
where each of them looks and what each of them has learned, side by side, and how far that can be believed.
"""


def build() -> gr.Blocks:
    """The page as Blocks with its queue; nothing is loaded yet."""
    with gr.Blocks(title="LSD", analytics_enabled=False, delete_cache=(3600, 3600), fill_width=True) as page:
        gr.Markdown(HEADER)
        with gr.Tabs() as tabs:
            with gr.Tab("Gallery", id="gallery", elem_id="lsd-gallery-tab"):
                gallery = GalleryTab()
            with gr.Tab("Saliency", id="saliency") as saliency_place:
                saliency = SaliencyTab()
            with gr.Tab("Mistakes", id="mistakes") as mistakes_place:
                mistakes = MistakesTab()
            with gr.Tab("Choices", id="choices") as choices_place:
                choices = ChoicesTab()
            with gr.Tab("Features", id="features"):
                features = FeaturesTab()
        gallery.restore(page)
        saliency.restore(page, tabs, saliency_place)
        mistakes.restore(mistakes_place)
        choices.restore(page, tabs, choices_place)
        features.restore(page, tabs)
        api.register()
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=4)


def launch_settings() -> dict:
    """What `launch` is given beside the address."""
    return {
        "theme": gr.themes.Soft(primary_hue="orange", secondary_hue="slate", neutral_hue="slate", font=_FONT),
        "css_paths": styles(),
        "max_file_size": MAX_UPLOAD,
        "max_threads": _THREADS,
        "footer_links": ["api", "settings"],
        "mcp_server": find_spec("mcp") is not None,  # pip install "gradio[mcp]" adds the tools for MCP clients
        "state_session_capacity": 200,
    }
