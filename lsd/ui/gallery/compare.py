"""Classes across models: the list of classes, one class in every model, and a table of models × classes."""

from dataclasses import replace

from gallery.filters import Filters
from gallery.queries import ClassHit, Entry, Gallery
from lsd.catalogue import common_name
from lsd.labels import short
from lsd.ui.gallery.address import CLASS, CLASSES, COMPARE, MAX_CLASSES, MAX_MODELS, View
from lsd.ui.gallery.classes import classes_of
from lsd.ui.gallery.html import called_model, card, cards, count, link, made, message, thumbnails
from lsd.ui.shared.markup import escape

_LISTED = 400  # classes in a list, models that have one
_OFFERED = 40  # classes offered to be added to a comparison


def class_list(gallery: Gallery, view: View) -> str:
    """The classes that fit the search, each with its number of models."""
    search = view.filters.search
    hits = gallery.classes(search, limit=10**6)
    heading = f"{count(len(hits), 'class')}{f' for “{escape(search)}”' if search else ''}"
    if not hits:
        return _head(heading) + message(
            f"No class here fits “{escape(search)}”. A wider word may: WordNet knows that a beagle is a dog and an animal. "
            + link(View(CLASSES), "Show all classes")
        )
    key = classes_of(gallery).key
    items = "".join(f"<li>{_listed(key(hit.class_name, hit.synset), hit)}</li>" for hit in hits[:_LISTED])
    more = len(hits) - _LISTED
    rest = f'<p class="lsd-note">… and {more:,} more: search for one.</p>' if more > 0 else ""
    assumed = ", ".join(map(common_name, gallery.names_assumed))
    doubt = (
        f" Those of {escape(assumed)} are assumed: only their number says that they are ImageNet's." if assumed else ""
    )
    note = f'<p class="lsd-note">Choose one to see it in every model.{doubt}</p>'
    return f'{_head(heading, note)}<ul class="lsd-g-classes">{items}</ul>{rest}'


def one_class(gallery: Gallery, view: View) -> str:
    """A class in every model that has it."""
    known = classes_of(gallery)
    key = known.find(view.classes[0])
    if key is None:
        return message(f"No class here is called “{escape(view.classes[0][:200])}”.") + class_list(
            gallery, View(CLASSES)
        )
    name = known.names[key]
    row = gallery.in_models(key)
    entries = row[:_LISTED]
    grid = cards(gallery, entries, lambda e: [common_name(e.model), made(e)])
    compare = View(COMPARE, models=tuple(e.model for e in entries[:MAX_MODELS]), classes=(key,))
    all_of_it = View(filters=Filters(search=key if name in known.shared else short(name), layer=""))
    synonyms = f'<p class="lsd-g-synonyms">{escape(name)}</p>' if short(name) != name else ""
    note = (
        f'{synonyms}<p class="lsd-g-more">{link(compare, "Compare models, with more classes")}'
        f"{link(all_of_it, 'All its seeds and recipes')}{link(View(CLASSES), 'All classes')}</p>"
    )
    more = len(row) - len(entries)
    rest = f'<p class="lsd-note">… and {count(more, "more model")}.</p>' if more else ""
    return _head(f"{escape(short(name))} in {count(len(row), 'model')}", note) + grid + rest


def compare(gallery: Gallery, view: View) -> str:
    """Two to four models side by side: a row for each class, a column for each model, in the order of the address."""
    known = dict(gallery.models())
    models = tuple(name for name in view.models if name in known)
    keys = {name: classes_of(gallery).find(name) for name in view.classes}
    classes = tuple(dict.fromkeys(filter(None, keys.values())))
    unknown = [n for n in view.models if n not in known] + [n for n, key in keys.items() if key is None]
    view = replace(view, models=models, classes=classes)
    gone = "".join(message(f"This gallery has no “{escape(name)}”.") for name in unknown)
    note = (
        '<p class="lsd-note">The same classes in different networks, and how sure each is that its own picture shows the class. '
        "The address is the comparison: send it to somebody.</p>"
    )
    picks = f'<div class="lsd-g-picks">{_models(view, known)}{_classes(gallery, view)}</div>'
    return _head("Compare models", note) + gone + picks + _table(gallery, view)


def _head(heading: str, more: str = "") -> str:
    return f'<div class="lsd-g-head"><h2 tabindex="-1">{heading}</h2>{more}</div>'


def _listed(key: str, hit: ClassHit) -> str:
    name = f'<span class="lsd-g-value">{escape(short(hit.class_name))}</span>'
    models = f'<span class="lsd-g-count">{hit.models}</span>'
    return link(View(CLASS, classes=(key,)), name + models, attributes=_title(hit.class_name))


def _title(name: str) -> str:
    return f'title="{escape(name)}"'


def _models(view: View, known: dict[str, int]) -> str:
    chosen = "".join(
        _chip(replace(view, models=tuple(n for n in view.models if n != name)), common_name(name))
        for name in view.models
    )
    offers = ""
    if len(view.models) < MAX_MODELS:
        rest = "".join(
            f"<li>{link(replace(view, models=(*view.models, name)), '+ ' + called_model(name))}</li>"
            for name in known
            if name not in view.models
        )
        if rest:
            state = "" if view.models else " open"
            offers = f'<details class="lsd-g-add"{state}><summary>Add a model</summary><ul>{rest}</ul></details>'
    return f'<div class="lsd-g-pick"><h3>Models</h3>{chosen}{offers}</div>'


def _classes(gallery: Gallery, view: View) -> str:
    known = classes_of(gallery)
    chosen = "".join(
        _chip(replace(view, classes=tuple(k for k in view.classes if k != key)), short(known.names[key]))
        for key in view.classes
    )
    search, offers = view.filters.search, ""
    room = MAX_CLASSES - len(view.classes)
    found = (known.key(hit.class_name, hit.synset) for hit in gallery.classes(search, limit=10**6))
    hits = [key for key in found if key not in view.classes]
    if not room:
        offers = f'<p class="lsd-note">{MAX_CLASSES} classes are as many as are shown at once.</p>'
    elif search and not hits:
        offers = f'<p class="lsd-note">No further class fits “{escape(search)}”.</p>'
    elif search or not view.classes:
        added = [
            f"<li>{_add(replace(view, classes=(*view.classes, key)), known.names[key])}</li>" for key in hits[:_OFFERED]
        ]
        first = tuple(hits[: min(room, 12)])
        every = link(replace(view, classes=(*view.classes, *first)), f"Add the first {len(first)}", css="lsd-g-button")
        offers = (
            f'<div class="lsd-g-add"><p class="lsd-note">{count(len(hits), "class")} to add; search above for more: '
            f"dog, fruit, a name.</p><ul>{''.join(added)}</ul>{every if len(first) > 1 else ''}</div>"
        )
    else:
        offers = '<p class="lsd-note">Search above for classes to add: dog, fruit, a name.</p>'
    return f'<div class="lsd-g-pick"><h3>Classes</h3>{chosen}{offers}</div>'


def _add(view: View, name: str) -> str:
    return link(view, f"+ {escape(short(name))}", attributes=_title(name))


def _chip(view: View, name: str) -> str:
    return link(
        view, f"{escape(name)} <span aria-hidden=true>×</span>", css="lsd-g-chip",
        attributes=f'aria-label="Remove {escape(name)}"',
    )  # fmt: skip


def _table(gallery: Gallery, view: View) -> str:
    if not view.models or not view.classes:
        return message("Choose two to four models, and at least one class.")
    rows = gallery.compare(view.models, view.classes, view.filters.recipe)
    flat = [entry for row in rows for entry in row if entry]
    pictures = dict(zip((e.unit_id for e in flat), thumbnails(gallery, flat), strict=True))
    head = "".join(f'<th scope="col">{called_model(name)}</th>' for name in view.models)
    names = classes_of(gallery).names
    body = "".join(
        f'<tr><th scope="row">{_to_class(key, names[key])}</th>{"".join(_cell(entry, pictures) for entry in row)}</tr>'
        for key, row in zip(view.classes, rows, strict=True)
    )
    recipes = sorted({entry.recipe for entry in flat})
    mixed = ""
    if len(recipes) > 1:
        links = " ".join(
            link(replace(view, filters=replace(view.filters, recipe=recipe)), escape(recipe), css="lsd-g-chip")
            for recipe in recipes
        )
        mixed = f'<p class="lsd-note">These come from different recipes; show only one of them: {links}</p>'
    elif view.filters.recipe:
        shown = link(replace(view, filters=replace(view.filters, recipe="")), "show any", css="lsd-g-chip")
        mixed = f'<p class="lsd-note">Only the recipe {escape(view.filters.recipe)}: {shown}</p>'
    return (
        f'{mixed}<div class="lsd-g-scroll"><table class="lsd-g-compare" style="--models: {len(view.models)}">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _to_class(key: str, name: str) -> str:
    return link(View(CLASS, classes=(key,)), escape(short(name)), attributes=_title(name))


def _cell(entry: Entry | None, pictures: dict[str, bytes]) -> str:
    if entry is None:
        return '<td><span class="lsd-g-missing">not in the gallery</span></td>'
    own = "" if entry.own_probability is None else f"{entry.own_probability:.0%} sure"
    return f"<td>{card(entry, pictures[entry.unit_id], [own or entry.title, made(entry)])}</td>"
