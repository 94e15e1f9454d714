"""Reasons as HTML: the picture, the decision as a sentence, what the network says, and a row for each reason."""

from collections.abc import Iterable, Sequence
from urllib.parse import urlencode

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lsd.catalogue import common_name
from lsd.labels import short
from lsd.provenance import png
from lsd.reasons.explain import Reason, flips
from lsd.reasons.region import Box
from lsd.reasons.sentence import in_short
from lsd.reasons.words import is_idle
from lsd.ui.reasons.session import Run
from lsd.ui.shared.markup import data_url, escape, names_note
from lsd.ui.shared.reason_words import CHANNELS, GROUPS, decided, lasting, title
from lsd.ui.shared.reasoned import Account, Switching, Thing

FOR, AGAINST = (
    (255, 122, 0),
    (30, 110, 255),
)  # colours of what speaks for the target at a place, and of what speaks against it

_BARS = 5  # classes that are told


def stage(size: tuple[int, int], plain: str = "", doing: str = "", region: Box | None = None) -> str:
    """The picture, on which the places of a reason light up, and where a region is drawn; below it what lies under the pointer."""
    width, height = size
    left, top, right, bottom = region or (0, 0, 0, 0)
    frame = f"left:{left:.1%};top:{top:.1%};width:{right - left:.1%};height:{bottom - top:.1%}"
    picture = f'<img class="lsd-r-photo" src="{escape(plain)}" alt="The picture that is asked about">' if plain else ""
    return (
        f'<div class="lsd-r-look"><div class="lsd-r-stage {doing}" style="--w:{width};--h:{height}" tabindex="0" role="group" '
        f'aria-label="The picture: arrow keys move a mark, and the reasons there are listed">{picture}'
        f'<img class="lsd-r-lit" alt="" hidden><span class="lsd-r-region" style="{frame}"{"" if region else " hidden"}></span>'
        '<span class="lsd-r-mark" hidden></span></div>'
        f'<div class="lsd-r-beside"><button type="button" class="lsd-r-only" aria-pressed="{"true" if region else "false"}">'
        "Switch off only inside a region</button>"
        '<div class="lsd-r-here" aria-live="polite"><p class="lsd-note">Point at a reason to see where it lies, '
        "or at a place to see what lies there.</p></div></div></div>"
    )


def head(model: str) -> str:
    """A model's name above what it says."""
    name = common_name(model)
    own = "" if name == model else f"<small>{escape(model)}</small>"
    return f'<h2 class="lsd-r-head" title="{escape(model)}">{escape(name)} {own}</h2>'


def waiting() -> str:
    """Before the answer is there."""
    row = '<li class="lsd-r-row"><span class="lsd-r-unit lsd-r-blank"></span><span class="lsd-r-place lsd-r-blank"></span></li>'
    return f'<ul class="lsd-r-rows" aria-hidden="true">{row * 4}</ul>'


def trouble(words: str) -> str:
    """Why a model says nothing."""
    return f'<div class="lsd-status lsd-error" role="alert">{escape(words)}</div>'


def said(run: Run, place: int) -> str:
    """The decision as a sentence with pictures, and how few of its reasons change it."""
    account, view = run.accounts[place], run.view
    things = account.groups if view == GROUPS else account.channels
    sentence = decided(account, view, run.names(place))
    if not things:
        return f'<p class="lsd-r-sentence">{escape(str(sentence))}</p>{names_note(account.note)}'
    told = "".join(
        f'<a href="#" class="lsd-r-name" data-name="{escape(thing.name)}">{_picture(run, account, thing.reason, "")}'
        f"<span>{_called(named.text, named.guessed)} <b>{named.part:.0%}</b></span></a>"
        for thing, named in zip(things, sentence.things, strict=False)
    )
    return (
        f'<p class="lsd-r-sentence"><b>{escape(sentence.decision)}</b> because of</p>'
        f'<div class="lsd-r-first">{told}<span>{escape(sentence.others.lstrip(", "))}.</span></div>'
        + _flip(account, view, place)
        + names_note(account.note)
    )


def _called(name: str, guessed: bool) -> str:
    return f"perhaps “{escape(name)}”" if guessed else escape(name.capitalize())


def _flip(account: Account, view: str, place: int) -> str:
    things, so_far = (
        (account.groups, account.tried.groups_so_far) if view == GROUPS else (account.channels, account.tried.channels_so_far)
    )  # fmt: skip
    first = flips(so_far)
    names = " ".join(thing.name for thing in things[: first or len(things)])
    words = f"Switch off {'the first' if first == 1 else f'the first {first}' if first else f'all {len(things)}'}"
    button = (
        f'<button type="button" class="lsd-r-button" data-place="{place}" data-names="{escape(names)}">{words}</button>'
    )
    return f'<p class="lsd-r-flip"><span>{escape(lasting(account, view))}</span> {button}</p>'


def answers(account: Account, switching: Switching | None, asked: int = 0) -> str:
    """The most probable classes: as the picture is, with some reasons off, and with as much off at random.

    Args:
        asked: how many are off; what the network then says may not be known yet.
    """
    before = account.probabilities(account.reasons.logits)
    after = None if switching is None else account.probabilities(switching.trial.logits)
    random = None
    if switching is not None:
        random = torch.stack([account.probabilities(trial.logits) for trial in switching.random])
    highest = before if after is None else torch.maximum(before, after)
    classes = highest.argsort(descending=True, stable=True)[:_BARS].tolist()
    target = account.reasons.target
    off = f"{asked} off" if asked else "some off"
    lines = "".join(
        f"<tr{' class=target' if c == target.index else ''}><th scope=row>{escape(short(account.class_names[c]))}</th>"
        f"{_bar(before[c], 'was')}{_bar(None if after is None else after[c], 'now')}"
        f"{_bar(None if random is None else random[:, c].mean(), 'random')}</tr>"
        for c in classes
    )
    return (
        '<table class="lsd-r-bars"><thead><tr><th scope=col>Probability</th><th scope=col>As it is</th>'
        f"<th scope=col>With {off}</th><th scope=col>As much at random</th></tr></thead><tbody>{lines}</tbody></table>"
        f'<p class="lsd-r-now" aria-live="polite">{escape(_now(account, switching, asked))}</p>'
    )


def _bar(p: Tensor | None, kind: str) -> str:
    if p is None:
        return f'<td class="lsd-r-{kind}"><span class="lsd-note">·</span></td>'
    return f'<td class="lsd-r-{kind}"><i style="width:{100 * float(p):.1f}%"></i><span>{float(p):.1%}</span></td>'


def _now(account: Account, switching: Switching | None, asked: int) -> str:
    if not asked:
        return "Switch a reason off, and see what the network says without it."
    if switching is None:
        return "Asking the network without it …"
    name = short(account.class_names[switching.trial.first])
    changed = sum(trial.changed for trial in switching.random)
    verb = f"The answer becomes {name}" if switching.trial.changed else f"The answer stays {name}"
    lost, target = account.before - switching.trial.score, account.reasons.target
    who, other = short(account.class_names[target.index]), ""
    if target.against is not None:
        other = f" against {short(account.class_names[target.against])}"
    return (
        f"{verb}: {who} {'loses' if lost >= 0 else 'gains'} {abs(lost):.2f} nats{other}. As much off at random changes the answer "
        f"in {changed} of {len(switching.random)} draws."
    )


def rows(run: Run, place: int, plain: str) -> str:
    """A row for each reason: what it looks like, where it lies, how much it counts, what else it speaks for, and its switch.

    Args:
        plain: address of the picture.
    """
    account = run.accounts[place]
    things = account.groups if run.view == GROUPS else account.channels
    most = max((thing.reason.part for thing in things), default=1) or 1
    main = _list(_row(run, place, thing, plain, most) for thing in things)
    if not things:
        main = '<p class="lsd-note">No share is positive, so there is nothing to list here.</p>'
    if run.view == CHANNELS and (extra := run.extra(place)):
        others = _list(_plain_row(run, place, name, plain) for name in extra)
        main = f'<h3 class="lsd-r-second">Asked for</h3>{others}<h3 class="lsd-r-second">The first reasons</h3>{main}'
    if run.view == CHANNELS and account.against:
        opposed = _list(_row(run, place, thing, plain, most) for thing in account.against)
        main += f'<h3 class="lsd-r-second">What speaks against it</h3>{opposed}'
    on_again = f'<button type="button" class="lsd-r-button" data-place="{place}" data-on="1">Switch all on</button>'
    return main + (f'<p class="lsd-r-flip">{on_again}</p>' if run.off.get(place) else "")


def _list(items: Iterable[str]) -> str:
    return f'<ul class="lsd-r-rows">{"".join(items)}</ul>'


def _row(run: Run, place: int, thing: Thing, plain: str, most: float) -> str:
    account, reason = run.accounts[place], thing.reason
    share, side = min(abs(reason.part) / most, 1), " class=lsd-r-against" if reason.share < 0 else ""
    return _item(
        run, place, thing.name, title(thing), reason, plain,
        f'<div class="lsd-r-share"><b{side}><i style="width:{100 * share:.1f}%"></i></b>'
        f"<span>{_share(reason)}</span></div>"
        f"{_alone(account, thing)}{_beside(account, thing)}",
    )  # fmt: skip


def _plain_row(run: Run, place: int, name: str, plain: str) -> str:
    """Of a channel that is off and no reason."""
    reason = run.accounts[place].find(name)
    return _item(run, place, name, f"Channel {name}", reason, plain, f"<p>{_share(reason)}</p>")


def _item(run: Run, place: int, name: str, heading: str, reason: Reason, plain: str, about: str) -> str:
    account, off = run.accounts[place], run.is_off(place, name)
    unit = f"?{urlencode([('tab', 'features'), ('model', account.model), ('unit', reason.unit)], safe='/:,')}"
    alt = f"What {heading} looks like to {common_name(account.model)}"
    return (
        f'<li class="lsd-r-row{" lsd-r-off" if off else ""}" data-place="{place}" data-name="{escape(name)}" '
        f'data-title="{escape(heading)}" data-model="{escape(common_name(account.model))}">'
        f'<a class="lsd-r-unit" href="{escape(unit)}" title="Visualize it">{_picture(run, account, reason, alt)}</a>'
        f"{_place(account, reason, plain)}"
        f'<div class="lsd-r-about"><h4>{escape(heading)}</h4>{_more(run, place, name, reason.unit)}{about}</div>'
        f'<button type="button" role="switch" class="lsd-r-switch" aria-checked="{"false" if off else "true"}" '
        f'aria-label="{escape(heading)} of {escape(common_name(account.model))} is on"><span></span></button></li>'
    )


def _more(run: Run, place: int, name: str, unit: str) -> str:
    """What may be in its picture, and the channels of a group."""
    layer, guess = run.accounts[place].reasons.layer, run.names(place).get(unit)
    words = [f"perhaps “{guess}”, as other networks see its picture"] if guess else []
    words += [in_short(unit).removeprefix(f"{layer} ")] if name.startswith("g") else []
    return "".join(f'<p class="lsd-note">{escape(text)}</p>' for text in words)


def _picture(run: Run, account: Account, reason: Reason, alt: str) -> str:
    """The unit's picture; its place where that is still to come."""
    key = account.model, reason.unit
    found = run.pictures.get(key, run.forming.get(key))
    if found:
        return f'<img src="{escape(found)}" alt="{escape(alt)}">'
    words, kind = ("no picture", "") if found == "" else ("", " lsd-r-coming")
    label = f'role="img" aria-label="{escape(alt)}: {words or "to come"}"' if alt else 'aria-hidden="true"'
    return f'<span class="lsd-r-none{kind}" {label}>{words}</span>'


def _place(account: Account, reason: Reason, plain: str) -> str:
    """Where it lies, over the picture."""
    width, height = account.picture_size
    if reason.map is None:
        return '<span class="lsd-r-place lsd-r-blank"><span class="lsd-note">no places</span></span>'
    left, top, right, bottom = account.box
    box = (100 * left / width, 100 * top / height, 100 * (right - left) / width, 100 * (bottom - top) / height)
    style = ";".join(f"{n}:{value:.2f}%" for n, value in zip(("left", "top", "width", "height"), box, strict=True))
    values = reason.map.numpy()
    return (
        f'<span class="lsd-r-place" style="--w:{width};--h:{height}"><img src="{escape(plain)}" alt="">'
        f'<img class="lsd-r-map" src="{data_url("image/png", map_png(values))}" alt="" style="{style}" '
        f'data-most="{float(np.abs(values).max()):.4g}"></span>'
    )


def map_png(values: np.ndarray) -> bytes:
    """A map (h, w) as a picture of as many pixels: the colour is its sign's, and how opaque it is its size, the largest of all
    being 255. The page reads the values from it, too."""
    most = float(np.abs(values).max()) or 1.0
    alpha = np.round(255 * np.abs(values) / most)
    colours = np.where((values < 0)[..., None], AGAINST, FOR)
    return png(Image.fromarray(np.dstack([colours, alpha]).astype(np.uint8), "RGBA"))


def _share(reason: Reason) -> str:
    """ "31% · +1.24 nats"."""
    return f"{reason.part:.0%} · {_nats(reason.share)}".replace("-", "−")


def _nats(value: float) -> str:
    return f"{value:+.2f} nats".replace("-", "−")


def _alone(account: Account, thing: Thing) -> str:
    """What it does to be without this one."""
    lost = account.before - thing.alone.score
    if is_idle(lost, thing.reason.share, thing.alone.changed):
        return '<p class="lsd-r-idle">Without it next to nothing changes.</p>'
    became = f", then it says {short(account.class_names[thing.alone.first])}" if thing.alone.changed else ""
    return f"<p>Off alone {escape(_nats(-lost))}{escape(became)}</p>"


def _beside(account: Account, thing: Thing) -> str:
    def names(found: Sequence[tuple[int, float]]) -> str:
        return ", ".join(escape(short(account.class_names[c])) for c, _ in found)

    parts = [f"{word} {names(found)}" for word, found in (("raises", thing.raises), ("lowers", thing.lowers)) if found]
    return f'<p class="lsd-note">Also {"; ".join(parts)}</p>' if parts else ""
