"""The whole page: its tabs, its look, its limits."""

from functools import partial

import gradio as gr
from starlette.middleware import Middleware

from lsd.account import ACCOUNT, budget
from lsd.ui.api import endpoints as api
from lsd.ui.choices.tab import ChoicesTab
from lsd.ui.features.tab import FeaturesTab
from lsd.ui.gallery.pictures import ROUTES, unit_pictures
from lsd.ui.gallery.tab import GalleryTab
from lsd.ui.mistakes.tab import MistakesTab
from lsd.ui.reasons.tab import ReasonsTab
from lsd.ui.saliency.tab import SaliencyTab
from lsd.ui.shared import address, once, visitors
from lsd.ui.shared.files import styles
from lsd.ui.shared.guard import Guard, GuardedBlocks
from lsd.ui.shared.limits import MAX_UPLOAD
from lsd.ui.shared.line import LONGEST
from lsd.ui.shared.picture import share
from lsd.ui.shared.scratch import sweeping, told_full, visitors_folder
from lsd.ui.theme import theme

_THREADS = LONGEST + 40  # of Gradio's events: as many as it has by itself, beside the jobs that wait in that line

_HEADER = """
<header class="lsd-header"><h1><a class="lsd-logo" href="?tab=gallery" aria-label="LSD, to the gallery">LSD</a></h1>
<p>Where a neural network looks, and what it has learned to look for: for any image model of timm, side by side.</p></header>
"""

TABS = {  # the name in addresses, the label, what is in it
    "gallery": ("Gallery", GalleryTab), "saliency": ("Saliency maps", SaliencyTab),
    "reasons": ("Reasons", partial(ReasonsTab, unit_pictures)), "mistakes": ("Mistakes", MistakesTab),
    "choices": ("Evidence", ChoicesTab), "features": ("Feature visualization", FeaturesTab),
}  # fmt: skip


def build() -> gr.Blocks:
    """The page as Blocks with its queue; nothing is loaded yet. From now on memory is asked for (`lsd.account`)."""
    ACCOUNT.enforce(budget())
    visitors_folder()
    with GuardedBlocks(title="LSD", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(_HEADER, apply_default_css=False, padding=False)
        rooms = {}
        with gr.Tabs():
            for name, (label, room) in TABS.items():
                with gr.Tab(label, id=name, elem_id=f"lsd-{name}-tab"):
                    rooms[name] = room()
        door = address.door({name: label for name, (label, _) in TABS.items()})
        for room in rooms.values():
            room.restore(door)
        for uploaded in share(
            [rooms[name].picture for name in ("saliency", "reasons", "mistakes", "choices", "features")]
        ):
            uploaded.then(**rooms["saliency"].squared)
        api.register()
    page.queue(default_concurrency_limit=4, api_open=False)  # there is one door to what waits: the queue's
    visitors.share_queue(page)
    once.read_signatures(page)
    once.mend()
    return page


def launch_settings() -> dict:
    """What `launch` is given beside the address."""
    return {
        "theme": theme(),
        "css_paths": styles(),
        "app_kwargs": {
            "routes": ROUTES,
            "middleware": [Middleware(Guard), *visitors.MIDDLEWARE, *once.MIDDLEWARE],
            "lifespan": sweeping(visitors_folder()),
            "exception_handlers": {OSError: told_full},
        },
        "max_file_size": MAX_UPLOAD,
        "max_threads": _THREADS,
        "footer_links": ["api", "settings"],
        "mcp_server": True,
        "enable_monitoring": False,
        "state_session_capacity": 200,
    }
