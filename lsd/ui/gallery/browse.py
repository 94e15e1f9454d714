"""Browsing the gallery: the front, facets with counts, active filters, the grid and its pages."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

from gallery.filters import FACETS, Filters
from gallery.queries import Entry, Gallery
from lsd.catalogue import common_name
from lsd.curated import CURATED
from lsd.models import ready_models
from lsd.recent import remembered
from lsd.ui.gallery.address import CLASSES, COMPARE, View
from lsd.ui.gallery.html import STATUS, called, called_model, cards, count, layer_name, link, message
from lsd.ui.gallery.weights import model_availability
from lsd.ui.shared.markup import escape

PAGE = 48
FRONT_MODELS = 8  # on the front; from each, so many of its best that they fill a page
FRONT_FAR = 2  # of a gallery that is not on this machine, where each model is a download
_MANY_LAYERS = 40  # beyond, they belong to so many models that a list helps nobody

_TITLES = {
    "model": "Model", "family": "Family", "layer": "Layer", "kind": "Kind of unit", "recipe": "Recipe", "status": "Status"
}  # fmt: skip
_TRY = ("dog", "bird", "musical instrument", "fruit", "vehicle", "layer3 channel")


def facets(gallery: Gallery, view: View) -> str:
    """The filters that can be chosen, each with the number of pictures that it would leave."""
    found = gallery.facets(view.filters)
    found["model"] = _those_here_first(found["model"])
    groups = "".join(_facet(name, found[name], view) for name in FACETS)
    skip = '<button class="lsd-g-button lsd-g-skip" type="button" data-skip>Skip the filters</button>'
    return f'<nav class="lsd-g-facets" aria-label="Filters">{skip}{groups}</nav>' if groups else ""


def _those_here_first(models: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Models with their counts: those that are here first, the demo models last."""
    places = {name: place for place, name in enumerate(ready_models())}
    return sorted(models, key=lambda pair: (pair[0].startswith("demo:"), places.get(pair[0], len(places))))


def _facet(name: str, values: Sequence[tuple[str, int]], view: View) -> str:
    chosen, anything = getattr(view.filters, name), None if name == "layer" else ""
    active = chosen != anything
    if not values or (not active and (len(values) < 2 or (name == "family" and view.filters.model))):
        return ""
    if name == "layer" and not view.filters.model and len(values) > _MANY_LAYERS:
        items = '<p class="lsd-note">Choose a model to see its layers.</p>'
        if not active:
            return _group(name, items)
        values = [(value, number) for value, number in values if value == chosen]
    items = []
    for value, number in values:
        here = active and value == chosen
        target = view.with_filters(**_change(name, anything if here else value))
        label = escape(_shown(name, value))
        shown = called_model(value) if name == "model" else label
        inner = f'<span class="lsd-g-value">{shown}</span><span class="lsd-g-count">{number:,}</span>'
        attributes = f'title="{label}"' + (" aria-current=true" if here else "")
        items.append(f"<li>{link(target, inner, attributes=attributes)}</li>")
    return _group(name, f"<ul>{''.join(items)}</ul>")


def _group(name: str, content: str) -> str:
    return f'<div class="lsd-g-facet"><h4>{_TITLES[name]}</h4>{content}</div>'


def _change(name: str, value: str | None) -> dict[str, str | None]:
    """The filters that change with one: a layer belongs to its model."""
    return {name: value} | ({"layer": None} if name == "model" else {})


def _shown(name: str, value: str) -> str:
    return layer_name(value) if name == "layer" else STATUS.get(value, value) if name == "status" else value


def active(view: View) -> str:
    """The filters in force, each a link that removes it."""
    chips = [("Search", view.filters.search, {"search": ""})] if view.filters.search else []
    for name in FACETS:
        value, anything = getattr(view.filters, name), None if name == "layer" else ""
        if value != anything:
            chips.append((_TITLES[name], _shown(name, value), _change(name, anything)))
    if not chips:
        return ""
    links = [
        link(
            view.with_filters(**change),
            f"<small>{escape(title)}</small> {escape(value)} <span aria-hidden=true>×</span>",
            css="lsd-g-chip",
            attributes=f'aria-label="Remove the filter {escape(title)}: {escape(value)}"',
        )
        for title, value, change in chips
    ]
    if len(chips) > 1:
        links.append(link(View(sort=view.sort), "Clear all", css="lsd-g-clear"))
    return f'<div class="lsd-g-active" role="group" aria-label="Active filters">{"".join(links)}</div>'


def browse(gallery: Gallery, view: View) -> str:
    """What fits, one page of it; the front, if nothing is asked for."""
    if view.is_home:
        return front(gallery)
    page = gallery.page(view.filters, view.order, view.number, PAGE)
    if not page.total:
        return _head(view, "Nothing fits") + message(_nothing(view))
    view = replace(view, number=page.number)
    several = len({(entry.recipe, entry.seed) for entry in page.entries}) > 1
    grid = cards(gallery, page.entries, lambda entry: _lines(entry, view, several))
    first = (page.number - 1) * PAGE + 1
    part = f"{first:,}–{first + len(page.entries) - 1:,} of " if page.pages > 1 else ""
    return _head(view, part + count(page.total)) + grid + _pager(view, page.pages)


def _head(view: View, heading: str) -> str:
    return f'<div class="lsd-g-head"><h2 tabindex="-1">{heading}</h2>{active(view)}</div>'


def _lines(entry: Entry, view: View, several: bool) -> list[str]:
    """A caption: the name, where it is, the model unless all are of one, the recipe if there are several."""
    return [
        *called(entry), "" if view.filters.model else common_name(entry.model),
        f"{entry.recipe} · seed {entry.seed}" if several else "",
    ]  # fmt: skip


def _nothing(view: View) -> str:
    parts = []
    if view.filters.search:
        parts.append(f"No picture here fits “{escape(view.filters.search)}”.")
    else:
        parts.append("No picture has all of these.")
    parts.append(
        "Remove a filter above, or search for an animal or a thing (dog), a layer (layer3 channel) or a model."
    )
    parts.append(link(View(), "Show everything"))
    return " ".join(parts)


def _pager(view: View, pages: int) -> str:
    if pages < 2:
        return ""
    here = view.number
    wanted = sorted({1, pages, *range(max(1, here - 2), min(pages, here + 2) + 1)})
    items, before = [], 0
    for number in wanted:
        if number > before + 1:
            items.append("<span aria-hidden=true>…</span>")
        attributes = "aria-current=page" if number == here else f'aria-label="Page {number}"'
        items.append(link(replace(view, number=number), f"{number:,}", attributes=attributes))
        before = number
    back = link(replace(view, number=here - 1), "‹ Back", attributes="rel=prev") if here > 1 else ""
    on = link(replace(view, number=here + 1), "Next ›", attributes="rel=next") if here < pages else ""
    return f'<nav class="lsd-g-pager" aria-label="Pages">{back}{"".join(items)}{on}</nav>'


_WAYS_IN = (
    '<nav class="lsd-g-ways" aria-label="Where to begin">'
    '<a href="?tab=saliency"><b>Where does it look?</b><span>Saliency maps of your picture, for up to four networks</span></a>'
    '<a href="?tab=features"><b>What has it learned?</b><span>Watch a network draw what one of its units looks for</span></a>'
    '<a href="?tab=mistakes"><b>Why is it wrong?</b><span>Misclassified pictures, and which pixels misled the network</span></a>'
    "</nav>"
)


def front(gallery: Gallery) -> str:
    """What a visitor sees first: pictures of many models that other networks recognise too, and where to go from there."""
    if not gallery.rows:
        return message(
            "There are no pictures yet. " + escape(gallery.origin) + " The tabs above make them live, one at a time."
        )
    models = gallery.models()
    entries = _wall(gallery, _shown_first(gallery))
    tries = " ".join(
        link(View(filters=Filters(search=word)), escape(word), css="lsd-g-chip") for word in _tries(gallery)
    )
    ways = (
        f"{link(View(CLASSES), count(len(gallery.classes(limit=10**6)), 'class'))} in "
        f"{link(View(COMPARE), count(len(models), 'model'))}"
    )
    return (
        f'{_WAYS_IN}<div class="lsd-g-hero"><h2 tabindex="-1">What networks look for</h2>'
        "<p>Each picture was grown from noise until one unit of a network responded as strongly as it could: a class, a "
        f"channel, an attention head. {count(gallery.rows)} of {ways}.</p>"
        + (f'<div class="lsd-g-try"><small>Try</small> {tries}</div>' if tries else "")
        + "</div>"
        + cards(gallery, entries, lambda entry: _lines(entry, View(), False))
        + f'<p class="lsd-g-all">{link(View(sort="agreement"), f"All {count(gallery.rows)} ›")}</p>'
    )


@remembered
def _tries(gallery: Gallery) -> tuple[str, ...]:
    """Searches that find something here."""
    words = [word for word in _TRY if gallery.page(Filters(search=word), size=1).total]
    if len(words) < 3:  # a gallery of other classes: some words of theirs
        names = [hit.class_name.partition(",")[0] for hit in gallery.classes(limit=200)]
        words += [word for word in dict.fromkeys(name.rpartition(" ")[2] for name in names)][: 5 - len(words)]
    return tuple(words)


def _shown_first(gallery: Gallery) -> tuple[str, ...]:
    """The models of the front, the largest first: those that can be run here, so that what catches the eye can be opened live.

    First those of which that is told without timm, which takes seconds to import: all others are asked about only where none of
    these can be run. Where there are none, those that cannot; the small demo models' shapes only where there is nothing else.
    """
    most = FRONT_MODELS if gallery.is_local else FRONT_FAR
    models = [name for name, _ in sorted(gallery.models(), key=lambda pair: -pair[1])]
    photos = [name for name in models if not name.startswith("demo:")]
    known = {*ready_models(), *(network.name for network in CURATED)}
    for names in ([name for name in photos if name in known], [name for name in photos if name not in known]):
        if can_run := tuple(itertools.islice((name for name in names if model_availability(name).can_load), most)):
            return can_run
    return tuple(photos or models)[:most]


@remembered
def _wall(gallery: Gallery, models: tuple[str, ...]) -> tuple[Entry, ...]:
    """The pictures of the front: of each model other ranks of its best, so that not all show the same class."""
    each = -(-PAGE // len(models))
    columns = []
    for place, model in enumerate(models):
        wanted, size = Filters(model=model, status="ok", layer=""), 3 * each  # room for the seeds and recipes of a unit
        page = gallery.page(wanted, "agreement", place + 1, size)
        if not page.total:  # a network without classes
            page = gallery.page(replace(wanted, layer=None), "fine", place + 1, size)
        columns.append(list({entry.unit: entry for entry in reversed(page.entries)}.values())[::-1])
    rows = (column[row : row + 1] for row in range(each) for column in columns)
    found = list(dict.fromkeys(entry for row in rows for entry in row))[:PAGE]
    if len(found) < PAGE and gallery.is_local:  # a small one
        more = gallery.page(Filters(status="ok"), "fine", 1, 2 * PAGE).entries
        found += [entry for entry in more if entry not in found][: PAGE - len(found)]
    return tuple(found)
