"""Small pieces of the gallery as HTML. Whatever comes from a gallery is escaped here: it may be anybody's."""

from collections.abc import Iterable, Sequence

from gallery.queries import Entry, Gallery
from lsd.catalogue import common_name
from lsd.errors import LSDError
from lsd.ui.gallery.address import UNIT, View, write
from lsd.ui.shared.markup import data_url, escape

STATUS = {"ok": "responds", "dead": "no gradient", "failed": "failed"}
ASSUMED = (
    "The class names are assumed: the network has as many classes as ImageNet, and nothing says that they are the same."
)


def link(view: View, content: str, *, css: str = "", attributes: str = "") -> str:
    """A link to a view around HTML."""
    named = f' class="{css}"' if css else ""
    return f'<a{named} href="{escape(write(view))}"{" " + attributes if attributes else ""}>{content}</a>'


def count(number: int, word: str = "picture") -> str:
    """ "1 picture", "12,345 pictures", "3 classes"."""
    ending = "" if number == 1 else "es" if word.endswith("s") else "s"
    return f"{number:,} {word}{ending}"


def name_assumed(entry: Entry) -> bool:
    """Whether nothing but the number of the network's classes says that this class is called so."""
    return bool(entry.class_name) and entry.model in entry.names_assumed


def layer_name(layer: str) -> str:
    """A layer for people: the one of the classes has no name."""
    return layer or "classes"


def made(entry: Entry) -> str:
    """ "lucid, seed 0"."""
    return f"{entry.recipe}, seed {entry.seed}"


def called(entry: Entry) -> tuple[str, str]:
    """What a small caption calls a row, and where that is: ("channel 12", "layer3.5"), ("tabby", "class/281")."""
    if entry.title != entry.unit:
        return entry.title, entry.unit
    if entry.layer and entry.unit.startswith(f"{entry.layer}/"):
        return entry.unit.removeprefix(f"{entry.layer}/").replace("/", " "), entry.layer
    return entry.title, ""


def called_model(model: str) -> str:
    """A model as HTML: by the name that people use, and by its own if that is another."""
    title = common_name(model)
    return escape(title) if title == model else f"{escape(title)} <small>{escape(model)}</small>"


def alt(entry: Entry) -> str:
    """What a picture shows, for those who do not see it."""
    named = entry.title if entry.title == entry.unit else f"{entry.title}, {entry.unit}"
    state = "" if entry.status == "ok" else f"; {STATUS.get(entry.status, entry.status)}"
    return f"Feature visualization of {named} in {entry.model}, {made(entry)}{state}"


def thumbnails(gallery: Gallery, entries: Sequence[Entry]) -> list[bytes]:
    """The rows' thumbnails, b"" where there is none; a damaged file costs its own rows only."""
    try:
        return gallery.thumbnails(entries)
    except LSDError:
        return [_thumbnail(gallery, entry) for entry in entries]


def _thumbnail(gallery: Gallery, entry: Entry) -> bytes:
    try:
        return gallery.thumbnails([entry])[0]
    except LSDError:
        return b""


def card(entry: Entry, thumbnail: bytes, lines: Iterable[str], *, css: str = "") -> str:
    """A thumbnail with its caption, as a link to its page; the first line is the name."""
    if thumbnail:
        picture = (
            f'<img src="{data_url("image/webp", thumbnail)}" alt="{escape(alt(entry))}" width="128" height="128" loading="lazy" '
            'decoding="async">'
        )
    else:
        picture = f'<span class="lsd-g-missing" role="img" aria-label="{escape(alt(entry))}">no picture</span>'
    first, *rest = lines
    badge = (
        "" if entry.status == "ok" else f'<i class="lsd-g-state">{escape(STATUS.get(entry.status, entry.status))}</i>'
    )
    rest += ["name assumed"] if name_assumed(entry) else []
    caption = f"<b>{escape(first)}</b>" + "".join(f"<span>{escape(line)}</span>" for line in rest if line)
    return link(
        View(UNIT, unit_id=entry.unit_id), f"{picture}{badge}{caption}", css=f"lsd-g-card {css}".strip(),
        attributes=f'title="{escape(alt(entry))}"',
    )  # fmt: skip


def cards(gallery: Gallery, entries: Sequence[Entry], lines, *, css: str = "lsd-g-grid") -> str:
    """A grid of cards.

    Args:
        lines: a row → the lines of its caption.
    """
    found = zip(entries, thumbnails(gallery, entries), strict=True)
    items = "".join(f"<li>{card(entry, data, lines(entry))}</li>" for entry, data in found)
    return f'<ul class="{css}">{items}</ul>'


def section(title: str, content: str, note: str = "") -> str:
    """A part of a page under a heading; nothing if there is no content."""
    if not content:
        return ""
    about = f'<p class="lsd-note">{escape(note)}</p>' if note else ""
    return f'<section class="lsd-g-section"><h3>{escape(title)}</h3>{about}{content}</section>'


def message(content: str) -> str:
    """A sentence, as HTML, where pictures would be."""
    return f'<div class="lsd-g-message" role="status">{content}</div>'
