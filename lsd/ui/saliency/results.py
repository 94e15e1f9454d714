"""A model's result as HTML: its name, the picture under its map, and what the numbers say."""

import io
from collections.abc import Callable
from urllib.parse import urlencode

import numpy as np
from PIL import Image

from lsd import render
from lsd.catalogue import common_name
from lsd.labels import short
from lsd.provenance import png, slug
from lsd.saliency.bundle import in_words, is_of_classes
from lsd.saliency.maps import MapSettings
from lsd.saliency.steadiness import figures, told, usual_in_words
from lsd.ui.saliency.session import Answer, Drawn, Session
from lsd.ui.shared import evidence, markup
from lsd.ui.shared.markup import data_url, escape

Serve = Callable[[str, bytes], str]  # file name, content → the address that the page gets it from

_RAMP = 128  # colours of the bar
_KEY = (
    "The colour says which class has the largest part of its map here, its strength how much; the paler, the less the classes "
    "differ, and white is where they are alike."
)
_TURNED = "The other picture: what in it makes it like this one"
_EMPTY = "no steadiness, as its map is zero everywhere"
_UNITS = {"image": "strongest", "shared": "strongest of all models", "rank": "highest rank"}
_SIGNS = {"abs": "either way", "positive": "for", "negative": "against"}


def light(image: Image.Image) -> bytes:
    """A JPEG to be looked at: every step of a slider sends one for each model."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def head(model: str) -> str:
    """A model's name above its map, the one that people use first."""
    title = common_name(model)
    own = "" if title == model else f"<small>{escape(model)}</small>"
    return f'<h2 class="lsd-result-head" title="{escape(model)}"><span>{escape(title)}</span> {own}</h2>'


def empty(size: tuple[int, int], plain: str = "", *, busy: bool = True) -> str:
    """The place of a map that is not there: with the picture, as soon as there is one.

    Args:
        plain: address of the picture.
        busy: whether a map is to come.
    """
    picture = f'<img class="lsd-plain" src="{escape(plain)}" alt="">' if plain else ""
    return _stage(size, picture, "lsd-waiting" if busy else "lsd-none-here")


def stage(session: Session, drawn: Drawn, plain: str, maps: MapSettings, serve: Serve) -> str:
    """The picture, its map upon it, and a slider that uncovers the picture."""
    answer, name = drawn.answer, escape(common_name(drawn.answer.model))
    map_address = serve(f"{slug(answer.model)}.jpg", light(drawn.image))
    values = serve(f"{slug(answer.model)}-values.png", png(drawn.values))
    alt = f"Saliency map of {answer.model}, which says: {in_words(answer.explanation)}"
    inside = (
        f'<img class="lsd-plain" src="{escape(plain)}" alt=""><img class="lsd-map" src="{escape(map_address)}" alt="{escape(alt)}">'
        '<span class="lsd-edge"></span><span class="lsd-mark"></span><span class="lsd-value" aria-hidden="true"></span>'
        f'<button type="button" class="lsd-full" aria-label="{name} in full screen" title="Full screen">⛶</button>'
    )
    attributes = (
        f' tabindex="0" role="group" aria-label="Map of {name}: arrow keys move a mark on all maps" '
        f'data-values="{escape(values)}" data-signed="{int(maps.sign == "signed" and not is_of_classes(answer.explanations))}"'
    )
    wipe = (
        '<label class="lsd-wipe"><span>Map</span><input type="range" min="0" max="100" value="0" '
        f'aria-label="Uncover the picture under the map of {name}"><span>Picture</span></label>'
    )
    return (
        _stage(session.shown.size, inside, "", attributes) + wipe + markup.empty_map(answer.explanation, maps)
        + _others(drawn, serve)
    )  # fmt: skip


def _others(drawn: Drawn, serve: Serve) -> str:
    """Further maps of the answer below the first, each with what it is of: the classes of the figure, or the other picture."""
    if not drawn.others:
        return ""
    answer, figures = drawn.answer, []
    of_classes = is_of_classes(answer.explanations)
    told = answer.explanations if of_classes else answer.explanations[1:]
    for colour, explanation, image in zip(render.CATEGORIES.values(), told, drawn.others, strict=False):
        words = in_words(explanation)
        caption = f"<i style='background:{colour}'></i> {escape(words)}" if of_classes else _TURNED
        address = serve(f"{slug(answer.model)}-{explanation.part}.jpg", light(image))
        alt = f"Saliency map of {answer.model}: {words}"
        figures.append(
            f'<figure><img src="{escape(address)}" alt="{escape(alt)}"><figcaption>{caption}</figcaption></figure>'
        )
    key = f'<div class="lsd-note">{_KEY}</div>' if of_classes else ""
    return f'{key}<div class="lsd-others{"" if of_classes else " lsd-turned"}">{"".join(figures)}</div>'


def _stage(size: tuple[int, int], inside: str, extra: str, attributes: str = "") -> str:
    width, height = size
    return f'<div class="lsd-stage {extra}" style="--w:{width};--h:{height}"{attributes}>{inside}</div>'


def trouble(sentence: str) -> str:
    """Why there is no map, or no comparison."""
    return f'<div class="lsd-status lsd-error">{escape(sentence)}</div>' if sentence else ""


def text(answer: Answer, example: str) -> str:
    """What was asked, what it cost, what the model says, whether Captum agrees, and where to go on."""
    target = answer.explanation.attribution.target.index
    table = markup.top_table(answer.explanation.top, target) if answer.explanation.top else ""
    return (
        markup.facts(answer.explanations, answer.class_names) + table + markup.names_note(answer.note)
        + markup.badge(answer.check) + _steadiness(answer) + _advice(answer) + _links(answer, example)
    )  # fmt: skip


def _steadiness(answer: Answer) -> str:
    """How steady each map is; "" where that was not measured."""
    if not answer.steadinesses:
        return ""
    method = answer.explanation.attribution.method
    if len(answer.explanations) == 1:
        words = [told(answer.steadinesses[0], method)]
    else:
        words = [
            f"{markup.describe_target(explanation, answer.class_names)}: {figures(found) if found else _EMPTY}"
            for explanation, found in zip(answer.explanations, answer.steadinesses, strict=True)
        ] + [usual_in_words(method)]  # fmt: skip
    lines = ".<br>".join(escape(line[0].upper() + line[1:]) for line in words if line)
    return f'<div class="lsd-facts">{lines}. Steady is not yet right.</div>'


def _advice(answer: Answer) -> str:
    """Which method did best on networks like this one, and where that is shown."""
    if not answer.classes:  # the study is of classes
        return ""
    link = f'<a href="{escape(evidence.address("method"))}">The evidence</a>'
    return f'<div class="lsd-note">{escape(answer.advice)} {link}</div>'


def _links(answer: Answer, example: str) -> str:
    """The next questions."""
    if not answer.classes:
        return ""
    names = [answer.class_names[index] for index in answer.classes]
    view = [("view", "class")] if len(names) == 1 else [("view", "compare"), ("model", answer.model)]
    asked = " and ".join(short(name) for name in names)
    links = {f"See {asked} in the gallery": [("tab", "gallery"), *view, *(("class", name) for name in names)]}
    unit = f"class/{answer.classes[0]}"
    photo = [("example", example)] if example else []
    links[f"Visualize {short(names[0])}"] = [("tab", "features"), ("model", answer.model), ("unit", unit), *photo]
    items = "".join(
        f'<li><a href="?{escape(urlencode(pairs, safe="/:"))}">{escape(words)}</a></li>'
        for words, pairs in links.items()
    )
    return f'<ul class="lsd-next">{items}</ul>'


def legend(maps: MapSettings, classes: int = 0) -> str:
    """What the colours stand for.

    Args:
        classes: how many share a figure, where colour says which; 0 where there is no such figure. The maps of each by itself have
            the other colours.
    """
    signed = maps.sign == "signed"
    ramp = np.linspace(-1 if signed else 0, 1, _RAMP)[None]
    ends = ("against", "for") if signed else ("0", f"{_UNITS[maps.scale]}, {_SIGNS[maps.sign]}")
    own = bar(render.colorize(ramp, signed), *ends)
    if not classes:
        return f'<div class="lsd-legend">{own}</div>'
    lead = np.tile(np.linspace(0, 1, _RAMP // classes), classes)[None]
    which = np.repeat(np.arange(classes), _RAMP // classes)[None]
    below = np.zeros((*lead.shape, 3), np.uint8)
    shared = render.categories(below, which, np.ones_like(lead), lead, 1, alone=True)
    return f'<div class="lsd-legend">{bar(shared, "classes alike", "one class alone")}<b>Each by itself:</b>{own}</div>'


def bar(colours: np.ndarray, first: str, last: str) -> str:
    """Colours (1, W, 3) with what their ends stand for."""
    bar = data_url("image/png", png(Image.fromarray(colours)))
    return f'<span>{first}</span><img src="{bar}" alt="Colours from {first} to {last}"><span>{last}</span>'
