"""The part of a unit's page with the photos that excite it: beside the picture, and whether that can be believed."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from gallery import exemplars
from gallery.exemplars import Exemplar, Found
from gallery.queries import Entry, Gallery
from lsd.errors import LSDError
from lsd.ui.gallery.html import alt, section
from lsd.ui.gallery.photo_plots import answers_plot, number, path_plot
from lsd.ui.gallery.pictures import exemplar_address, picture_address
from lsd.ui.shared.markup import data_url, escape

MOSTLY, PARTLY = 2 / 3, 1 / 3  # of the likeness of paths

_ODDS = ("class", "log_odds")
_IN_PARTS = ("channel", "direction", "layer", "neuron", "position")
_MEASURES = {  # kind of a unit → what its answers are
    **dict.fromkeys(_ODDS, "log-odds of the class, above 0 where it is likelier than not"),
    **dict.fromkeys(("channel", "direction"), "activation at the place where it is largest"),
    **dict.fromkeys(("neuron", "token"), "activation"),
    **dict.fromkeys(("layer", "position", "head"), "mean square of the activations"),
    "contrast": "difference of the two logits",
}
_ABOUT_PATH = (
    "A picture can excite a unit by another way than photos do, and then it says little about them (Geirhos et al., 2024). So at "
    "each layer up to the unit it is looked which channels the picture excites, and how like that is to what these photos excite "
    "(rank correlation, over the parts shown). 1 is how alike these photos are, 0 how alike photos taken without choice are to "
    "them. A layer without a dot cannot tell these photos from others."
)


def exemplars_section(gallery: Gallery, entry: Entry, row: Mapping[str, Any]) -> str:
    """The photos with the picture in front, and the two plots; "" for a row of which no photos were looked at.

    Args:
        row: whole.
    """
    found = exemplars.read(row)
    if found is None:
        photos = row.get("photos")
        note = photos.get("note") if isinstance(photos, Mapping) else ""
        return section("In photos", f'<p class="lsd-note">{escape(note)}</p>' if note else "")
    shown, away = _photos(gallery, entry, found)
    said = f'<p class="lsd-note">{escape(found.note)}</p>' if found.note else ""
    plots = _answers(found, entry.kind) + _path(found)
    plots = f'<div class="lsd-g-photo-plots">{plots}</div>' if plots else ""
    what = "parts of photos" if entry.kind in _IN_PARTS else "photos"
    measure = f" ({_MEASURES[entry.kind]})" if entry.kind in _MEASURES else ""
    note = (
        f"The {what} to which the unit answers most, of {found.count:,} photos, and its answer to each{measure}. They show what "
        "drives it in practice, the picture what could drive it most."
    )
    return section("In photos", shown + away + plots + said, note if found.exemplars else "")


def _photos(gallery: Gallery, entry: Entry, found: Found) -> tuple[str, str]:
    """The strip, and a sentence where the photos are not at hand."""
    if not found.exemplars:
        return "", ""
    try:
        copies = gallery.crops(entry)
    except LSDError:
        copies = []
    copies = copies if len(copies) == len(found.exemplars) else []
    sources = [
        data_url("image/webp", copies[place]) if copies
        else exemplar_address(entry.unit_id, place) if exemplars.locate(one) else ""
        for place, one in enumerate(found.exemplars)
    ]  # fmt: skip
    own = "" if found.value is None else number(found.value)
    tiles = [
        _tile(picture_address(entry.unit_id), alt(entry), own, "this picture", "lsd-g-own"),
        *(
            _tile(source, f"Part of the photo {one.file}", number(one.value), _name(one))
            for one, source in zip(found.exemplars, sources, strict=True)
        ),
    ]
    away = "" if all(sources) else (
        '<p class="lsd-note">The gallery names photos and has no copies of them. Where the folder is at hand they are shown '
        "(<code>LSD_PHOTOS</code>).</p>"
    )  # fmt: skip
    return f'<ul class="lsd-g-strip">{"".join(tiles)}</ul>', away


def _name(one: Exemplar) -> str:
    return PurePosixPath(one.file).name


def _tile(source: str, about: str, value: str, name: str, css: str = "") -> str:
    if source:
        picture = f'<img src="{escape(source)}" alt="{escape(about)}" width="128" height="128" loading="lazy" decoding="async">'
    else:
        picture = f'<span class="lsd-g-missing" role="img" aria-label="{escape(about)}">not here</span>'
    return (
        f'<li><div class="lsd-g-card lsd-g-photo {css}" title="{escape(about)}">{picture}<b>{escape(value)}</b>'
        f"<span>{escape(name)}</span></div></li>"
    )


def _answers(found: Found, kind: str) -> str:
    if found.value is None or found.below is None or not found.exemplars:
        return ""
    strongest = found.exemplars[0].value
    if found.below in (0, 1):
        place = "no more than to any of them" if found.below == 0 else "more than to any of them"
    else:
        place = f"more than to {min(max(found.below, 0.01), 0.99):.0%} of them"
    words = (
        f"The unit answers to the picture with {number(found.value)}, to the strongest of {found.count:,} photos with "
        f"{number(strongest)}: {place}."
    )
    if kind in _ODDS and strongest < 0:
        words += " None of these photos is taken for its class, so they are only what comes nearest."
    plot = answers_plot(found.quantiles, found.value, escape(words))
    heading = "<h4>Share of the photos with a smaller answer</h4>" if plot else ""
    return f"<div>{heading}{plot}<p>{escape(words)}</p></div>"


def _path(found: Found) -> str:
    if not found.path:
        return ""
    words = path_words(found)
    plot = path_plot(found.path, escape(words))
    legend = '<p class="lsd-note">● this picture &nbsp; ○ the photos that come next after these</p>' if plot else ""
    return (
        f"<div><h4>Does the picture excite it by the same way?</h4>{plot}{legend}<p>{escape(words)}</p>"
        f'<details><summary>What is compared</summary><p class="lsd-note">{escape(_ABOUT_PATH)}</p></details></div>'
    )


def path_words(found: Found) -> str:
    """Whether the picture takes the photos' path, in a sentence or two."""
    likeness = found.likeness
    if likeness is None:
        return "These photos have too little in common on the way to the unit for a comparison with the picture."
    telling = sum(step.likeness is not None for step in found.path)
    told = (
        f"({likeness:.2f}, from 0 for any photo to 1 for one of these; told by {telling} of {len(found.path)} layers)"
    )
    if likeness >= MOSTLY:
        return f"Mostly: on the way to the unit it excites what these photos excite {told}."
    if likeness >= PARTLY:
        return f"In part: on the way to the unit it lies between these photos and any others {told}."
    return (
        f"Hardly: on the way to the unit it is little more like these photos than others are {told}. What it shows need not be "
        "what drives the unit in photos."
    )
