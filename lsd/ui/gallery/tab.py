"""The Gallery tab: pictures that are there already. It runs no model, so it waits for none."""

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import anyio
import gradio as gr

from lsd.ui.gallery.address import BROWSE, CLASS, CLASSES, COMPARE, UNIT, View, read
from lsd.ui.gallery.bar import SHOWN, bar
from lsd.ui.shared import markup
from lsd.ui.shared.address import QUICK, query_of
from lsd.ui.shared.files import script
from lsd.ui.shared.jobs import sentence

if TYPE_CHECKING:
    from gallery.queries import Gallery  # with DuckDB, which the page need not wait for when it starts

AT_ONCE = 8  # visitors answered at the same moment

_SPACE = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_PLACES = 24  # drawn grey until the pictures come
_WAITING_FACETS = '<div class="lsd-g-facets" aria-hidden="true"></div>'  # their column
_TABS = {BROWSE: BROWSE, UNIT: BROWSE, CLASSES: CLASSES, CLASS: CLASSES, COMPARE: COMPARE}


class GalleryTab:
    """The tab's components and events; built inside a `gr.Blocks`. The gallery is opened when the first visitor comes."""

    def __init__(self):
        self.listed = gr.State("")  # what the facets on the page belong to
        with gr.Column(elem_id="lsd-gallery"):
            self.bar = gr.HTML(bar(), js_on_load=script("gallery/gallery.js"), apply_default_css=False)
            with gr.Row(elem_id="lsd-g-body"):
                self.facets = gr.HTML(_WAITING_FACETS, elem_id="lsd-g-side", apply_default_css=False)
                self.main = gr.HTML(_waiting(), elem_id="lsd-g-main", apply_default_css=False)
            self.origin = gr.HTML(apply_default_css=False)
        # Not through the queue, which may be full of models' work, but eight at a time.
        self._limit = anyio.CapacityLimiter(AT_ONCE)

    def restore(self, door: gr.HTML) -> None:
        """Show what an address says: a view of the gallery, or the front."""
        shown = [self.facets, self.main, self.listed, self.origin]
        door.gallery(self._show, self.listed, shown, trigger_mode="always_last", **QUICK).then(
            None, None, None, js=SHOWN
        )

    async def _show(self, listed: str, event: gr.EventData) -> list:
        query = query_of(event)
        return await anyio.to_thread.run_sync(lambda: [*show(query, listed), origin()], limiter=self._limit)


def show(query: Mapping, listed: str = "") -> list:
    """Facets, main part, and what the facets belong to, for an address; the facets only if they are not there already."""
    from gallery.source import open_gallery
    from lsd.ui.gallery.html import message

    view, elsewhere = read(query) or View(), query.get("tab", "gallery")
    try:
        gallery = open_gallery()
        wanted = repr(view.filters) + view.sort if view.what == BROWSE and gallery.rows else ""
        main = render(gallery, view)
        if elsewhere != "gallery":
            main = message(f"This page has no tab “{markup.escape(elsewhere[:100])}”; here is the gallery.") + main
        side = gr.skip() if wanted == listed and listed else _facets(gallery, view) if wanted else ""
        return [side, main, wanted]
    except Exception as error:
        return ["", _framed(view, markup.status(sentence(error), error=True)), ""]


def render(gallery: "Gallery", view: View) -> str:
    """The main part of the page for a view.

    Raises:
        LSDError: one sentence.
    """
    from lsd.ui.gallery.browse import browse, front
    from lsd.ui.gallery.compare import class_list, compare, one_class
    from lsd.ui.gallery.unit import missing, unit_page

    if view.what == UNIT:
        found = gallery.entry(view.unit_id)
        if found is None:
            return _framed(View(), missing(view.unit_id) + front(gallery))
        return _framed(view, unit_page(gallery, found))
    pages = {BROWSE: browse, CLASSES: class_list, CLASS: one_class, COMPARE: compare}
    return _framed(view, pages[view.what](gallery, view))


def origin() -> str:
    """Where the gallery is from, how much there is, and where to read on."""
    from gallery.source import open_gallery
    from lsd.ui.gallery.html import count

    gallery = open_gallery()
    space = os.environ.get("SPACE_ID", "")
    about = "docs/gallery.md"
    if _SPACE.fullmatch(space):
        about = f'<a href="https://huggingface.co/spaces/{space}/blob/main/{about}">{about}</a>'
    return (
        f'<p class="lsd-note lsd-g-origin">{count(gallery.rows)}. {markup.escape(gallery.origin)} How it is made, and what it can '
        f"and cannot show: {about}.</p>"
    )


def _facets(gallery: "Gallery", view: View) -> str:
    from lsd.ui.gallery.browse import facets

    return facets(gallery, view)


def _framed(view: View, content: str) -> str:
    return (
        f'<div class="lsd-g-view" data-view="{view.what}" data-tab="{_TABS[view.what]}" data-sort="{view.order}">'
        f"{content}</div>"
    )


def _waiting() -> str:
    """The front before its pictures have come, of the same shape, so that nothing jumps."""
    places = "<li><span class=lsd-g-place></span></li>" * _PLACES
    ways = '<div class="lsd-g-ways">' + '<span class="lsd-g-place"></span>' * 3 + "</div>"
    return f'<div aria-hidden="true">{ways}<div class="lsd-g-hero lsd-g-place"></div><ul class="lsd-g-grid">{places}</ul></div>'
