"""The line above every view of the gallery, and its script.

Every link is a real one, so that a middle click opens a new page and nothing is lost without `gallery.js`. It runs once, in the
element of `bar`, as Gradio's `js_on_load`; `SHOWN` runs after each answer.
"""

from gallery.filters import SORTS
from lsd.ui.gallery.address import BROWSE, CLASSES, COMPARE, View, write
from lsd.ui.shared.markup import escape

_VIEWS = ((BROWSE, "Pictures"), (CLASSES, "Classes"), (COMPARE, "Compare"))


def bar() -> str:
    """The line above every view: which one, the search, the order, and on narrow pages the button for the filters."""
    views = "".join(f'<a href="{escape(write(View(what)))}" data-view="{what}">{name}</a>' for what, name in _VIEWS)
    sorts = "".join(f'<option value="{name}">{escape(text)}</option>' for name, text in SORTS.items())
    return (
        f'<div class="lsd-g-bar" role="search"><nav class="lsd-g-views" aria-label="Views of the gallery">{views}</nav>'
        '<input id="lsd-g-search" type="search" autocomplete="off" spellcheck="false" maxlength="200" '
        'aria-label="Search the gallery" placeholder="Search">'
        '<button class="lsd-g-button" id="lsd-g-filter" type="button" aria-expanded="false">Filters</button>'
        f'<label class="lsd-g-sort">Sort <select id="lsd-g-sort">{sorts}</select></label></div>'
    )


SHOWN = "() => { window.lsdGallery?.shown(); }"
