"""The page's address: each tab writes what it shows into it, and shows what it says.

`?tab=saliency&model=…`, `?u=…` for a picture of the gallery. The browser's half is `address.js`: it follows links within the page,
keeps the history, and tells a tab, by an event of the door, which of its addresses to show: when the page opens, when a link is
followed, and when the visitor goes back.
"""

import json
from collections.abc import Mapping
from typing import Any

import gradio as gr
from starlette.datastructures import QueryParams

from lsd.ui.shared.files import script

_LONGEST = 8000  # characters of an address

QUICK = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}  # events that wait for nobody

# Those by which the page follows a control: of quick changes the last one counts, where Gradio by itself drops whatever comes while
# the answer to the one before is on its way.
FOLLOWING = QUICK | {"trigger_mode": "always_last"}


def door(tabs: Mapping[str, str]) -> gr.HTML:
    """An element for outside all tabs, with an event of each tab's name: “show what this address says”.

    Args:
        tabs: label of each tab by its id; its element is called `lsd-ID-tab`.
    """
    scripts = f"const TABS = {json.dumps(dict(tabs))};\n{script('shared/address.js')}", script("shared/help.js")
    return gr.HTML(js_on_load="".join(f"{{\n{one}}}\n" for one in scripts))


def told(event: gr.EventData) -> Mapping[str, Any]:
    """What the browser tells with an event, by name; nothing where it tells something else."""
    return event._data if isinstance(event._data, Mapping) else {}


def query_of(event: gr.EventData) -> QueryParams:
    """The address that an event of the door asks for."""
    return QueryParams(str(told(event).get("query", ""))[:_LONGEST])


def written(tab: str) -> str:
    """JavaScript for an event whose input is a text: it becomes the address of the tab, and a step of the history."""
    return f"address => {{ if (address) lsd.write({json.dumps(tab)}, address); }}"
