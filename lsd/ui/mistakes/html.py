"""The Mistakes tab's pictures as HTML: the cards, the list, the maps of a mistake, and what the probe leaves of the picture.

Every picture has its size, and every place that is still empty the shape of what comes, so that nothing jumps.
"""

import functools
import io
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from lsd import render
from lsd.evaluation.labelled import FOOLED_SET, PHOTO_SET, LabelledSet, open_set
from lsd.evaluation.mistakes import Prediction
from lsd.images import fit_within
from lsd.ui.mistakes import texts
from lsd.ui.mistakes.address import write
from lsd.ui.mistakes.request import DRAWN_SET, YOURS, Question, View, shortened
from lsd.ui.mistakes.session import PAGE, Session, has_squares, mistake_key
from lsd.ui.mistakes.views import MAPS, Case, has_sign
from lsd.ui.shared.markup import data_url, escape, top_table

_CARD_SIDE = 128
_BLANKS = 6  # places of a list that is still empty
_CARDS = {
    FOOLED_SET: (
        "What fooled the network?",
        "The crop, the context, a second thing: mistakes sorted by what undoes them. Guess before you look.",
    ),
    PHOTO_SET: ("Photos that networks get wrong", "ImageNet networks and six photos. What did they go by?"),
    DRAWN_SET: (
        "Drawn pictures with a lying tag",
        "The Demo tag reader learned from pictures whose corner tag gave the class away; here the tags lie.",
    ),
    YOURS: ("Your picture", "Upload one, say what it shows, and see who gets it wrong."),
}


def picture_url(picture: Image.Image, kind: str = "jpeg") -> str:
    """A picture as an address."""
    buffer = io.BytesIO()
    picture.save(buffer, kind.upper(), **({"quality": 88} if kind == "jpeg" else {}))
    return data_url(f"image/{kind}", buffer.getvalue())


def image(picture: Image.Image, alt: str, kind: str = "jpeg", name: str = "") -> str:
    """A picture that can be enlarged, and downloaded then."""
    width, height = picture.size
    return (
        f'<button type="button" class="lsd-m-zoom" data-name="{escape(name)}" title="Enlarge">'
        f'<img src="{picture_url(picture, kind)}" alt="{escape(alt)}" width="{width}" height="{height}"></button>'
    )


def cases(sources: Iterable[str]) -> str:
    """The worked cases, and the visitor's own picture, as links to their addresses."""
    cards = "".join(_case(source) for source in (*sources, YOURS))
    return f'<nav class="lsd-m-cases" aria-label="Worked cases">{cards}</nav>'


def _case(source: str) -> str:
    title, text = _CARDS[source]
    picture = f'<img src="{url}" alt="" width="72" height="72">' if (url := _sample(source)) else "<i>+</i>"
    address = write(View(shortened(Question(source))))
    return f'<a class="lsd-m-case" href="?{escape(address)}">{picture}<span><b>{title}</b>{text}</span></a>'


@functools.cache
def _sample(source: str) -> str:
    """A picture of a set, as an address; "" for the visitor's own."""
    if source == YOURS:
        return ""
    pictures: LabelledSet = open_set(source, limit=1)
    return picture_url(fit_within(pictures[0].picture(), _CARD_SIDE))


def listed(session: Session, found: list[Prediction]) -> str:
    """One page of the mistakes, a button each; what fooled the model is not told of those that are still to be guessed."""
    if not found:
        return '<p class="lsd-m-none">No mistake passes these filters.</p>'
    result, choice = session.search.result, session.choice
    chosen = choice and (result.items[choice.column].id, result.models[choice.row])
    return f'<ul class="lsd-m-list">{"".join(_card(session, p, mistake_key(p) == chosen) for p in found)}</ul>'


def _card(session: Session, p: Prediction, chosen: bool) -> str:
    url = data_url("image/jpeg", session.search.thumbnail(p.item))
    many = len(session.search.result.models) > 1
    words = texts.caption(p, with_model=many, with_cause=not session.is_puzzle(p))
    return (
        f'<li><button type="button" data-picture="{escape(p.item.id)}" data-by="{escape(p.model)}" '
        f'aria-pressed="{str(chosen).lower()}"><img src="{url}" alt="">{words}</button></li>'
    )


def blank_list(*, own: bool = False) -> str:
    """Before the mistakes are found, in a set or about the visitor's own picture."""
    blanks = "<li class=lsd-m-blank></li>" * min(_BLANKS, PAGE)
    return f'<ul class="lsd-m-list{" lsd-m-of-a-set" * (not own)}" aria-hidden="true">{blanks}</ul>'


def puzzle(session: Session) -> str:
    """The picture with its squares: buttons while the visitor is to guess; then what painting each over does, the score, and
    a button for the next."""
    said = session.case.said
    if not has_squares(said):
        return f'<p class="lsd-note">{texts.NO_SQUARES}</p>'
    guess, found = session.guesses.get(mistake_key(said)), said.evidence
    squares = "".join(_square(k, one.box, guess, found.decisive) for k, one in enumerate(found.squares))
    shown = session.case.picture
    picture = (
        f'<div class="lsd-m-ask" style="aspect-ratio: {shown.width} / {shown.height}"><img src="{picture_url(shown)}" alt="'
        f'The picture, with squares A, B and C">{squares}</div>'
    )
    told, after = texts.question(said), ""
    if guess is not None:
        told = texts.solution(said, guess, session.score)
        following = session.next_puzzle()
        after = f"<p>{texts.ALL_GUESSED}</p>"
        if following:
            after = (
                f'<button type="button" class="lsd-m-following" data-picture="{escape(following.item.id)}" '
                f'data-by="{escape(following.model)}">Next mistake ›</button>'
            )
    return f'<section class="lsd-m-quiz" aria-label="Quiz">{picture}<div><div role="status">{told}</div>{after}</div></section>'


def _square(k: int, box: Sequence[float], guess: int | None, decisive: int) -> str:
    """A square over the picture, which can be pressed while nothing is guessed."""
    left, top, right, bottom = (100 * edge for edge in box)
    place = f'style="left: {left:.2f}%; top: {top:.2f}%; width: {right - left:.2f}%; height: {bottom - top:.2f}%"'
    letter = texts.LETTERS[k]
    if guess is None:
        return f'<button type="button" data-guess="{k}" aria-label="Square {letter}" {place}><b>{letter}</b></button>'
    kind = " lsd-m-decisive" if k == decisive else " lsd-m-missed" if k == guess else ""
    return f'<span class="lsd-m-square{kind}" {place}><b>{letter}</b></span>'


def maps(case: Case, pictures: list[dict[str, Image.Image]]) -> str:
    """A row for each model: what it says, and its three maps; below them what the colours mean."""
    rows = ""
    for reading, shown in zip(case.readings, pictures, strict=True):
        figures = "".join(
            f'<figure class="lsd-m-{name}"><figcaption>{texts.map_caption(case, reading, name)}</figcaption>'
            f"{image(shown[name], texts.map_alt(reading, name), name=f'{reading.model}-{name}')}</figure>"
            for name in MAPS
        )
        rows += f'<div class="lsd-m-reading"><div class="lsd-m-head">{texts.head(case, reading)}</div>{figures}</div>'
    return rows + _scales(case)


def blank_maps() -> str:
    """Before the first model has explained the mistake."""
    figures = "".join(f'<figure class="lsd-m-{name}"><div class="lsd-m-blank"></div></figure>' for name in MAPS)
    return f'<div class="lsd-m-reading" aria-hidden="true"><div class="lsd-m-head"></div>{figures}</div>'


def _scales(case: Case) -> str:
    bars = _scale(False, ("0", "strongest"))
    if has_sign(case.method):
        bars += _scale(True, ("for the true class", "0", f"for the {texts.rival(case)}"))
    return f'<div class="lsd-m-scales">{bars}</div>'


def _scale(signed: bool, words: tuple[str, ...]) -> str:
    """A colour bar."""
    values = np.linspace(-1 if signed else 0, 1, 9)[None]
    stops = ", ".join(f"rgb({r}, {g}, {b})" for r, g, b in render.colorize(values, signed)[0].tolist())
    marks = "".join(f"<span>{escape(word)}</span>" for word in words)
    return f'<div><div style="background: linear-gradient(to right, {stops})"></div><p>{marks}</p></div>'


def removed(pictures: Iterable[tuple[str, Image.Image, str, list | None]], true: str) -> str:
    """What the probe leaves of the picture: (title, picture, in words, what the model says of it if it was asked) of each."""
    figures = "".join(
        f'<figure>{image(picture, alt, "png", title)}<figcaption class="lsd-note">{title}</figcaption>'
        f'<div class="lsd-m-answer">{top_table(top, true) if top else ""}</div></figure>'
        for title, picture, alt, top in pictures
    )
    return f'<div class="lsd-m-removed">{figures}</div>'


def blank_removed() -> str:
    """Before the probe."""
    figure = '<figure><div class="lsd-m-blank"></div></figure>'
    return f'<div class="lsd-m-removed" aria-hidden="true">{figure * 3}</div>'
