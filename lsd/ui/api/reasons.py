"""Reasons for programs: the answer as plain values, and its sheet of pictures."""

import io
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image

from lsd import labels
from lsd.catalogue import common_name
from lsd.images import fit_within, lay_on
from lsd.provenance import png
from lsd.reasons.explain import flips
from lsd.render import overlay, wrapped_sheet
from lsd.ui.shared.reason_words import GROUPS, decided, sentence, title
from lsd.ui.shared.reasoned import Account, Thing

_CELL, _COLUMNS = 176, 6  # pixels of a picture of the sheet, and how many stand side by side


def told(account: Account) -> dict:
    """As plain JSON values."""
    target, tried = account.reasons.target, account.tried
    return {
        "target": target.to_dict(),
        "decision": decided(account),
        "sentence": sentence(account, GROUPS),
        "layer": account.reasons.layer,
        "score": account.before,
        "explained": account.reasons.explained,
        "fill": account.fill,
        **{part: [_thing(account, thing) for thing in getattr(account, part)] for part in ("groups", "channels", "against")},
        "flips": {
            "groups": flips(tried.groups_so_far),
            "channels": flips(tried.channels_so_far),
            "at_random": sum(trial.changed for trial in tried.random),
            "draws": len(tried.random),
        },
    }  # fmt: skip


def _thing(account: Account, thing: Thing) -> dict:
    def classes(found: Iterable[tuple[int, float]]) -> list[dict]:
        return [{"index": c, "name": labels.short(account.class_names[c]), "by": by} for c, by in found]

    reason, alone = thing.reason, thing.alone
    return {
        "name": thing.name, "unit": reason.unit, "share": reason.share, "part": reason.part,
        "alone": {
            "score": alone.score, "changed": alone.changed, "index": alone.first,
            "name": labels.short(account.class_names[alone.first]),
        },
        "raises": classes(thing.raises), "lowers": classes(thing.lowers),
    }  # fmt: skip


def sheet(account: Account, picture: Image.Image, pictures: Mapping[str, bytes]) -> bytes:
    """What the reasons look like to the network, and where they lie, as one PNG.

    Args:
        pictures: unit → its picture, of those that are there.
    """
    things = [*account.groups, *account.channels]
    looks = [_opened(pictures.get(thing.reason.unit, b"")) for thing in things]
    places = [_place(account, thing, picture) for thing in things]
    names = [f"{title(thing)}: {thing.reason.part:.0%}" for thing in things]
    heading = f"{common_name(account.model)}, {account.reasons.layer}: {decided(account)}"
    if not things:
        looks, places, names = [None], [picture], ["no share is positive"]
    return png(
        wrapped_sheet(
            [looks, places], ["what it looks like", "where it lies"], names, heading, columns=_COLUMNS, cell=_CELL
        )
    )


def _opened(data: bytes) -> Image.Image | None:
    return Image.open(io.BytesIO(data)).convert("RGB") if data else None


def _place(account: Account, thing: Thing, picture: Image.Image) -> Image.Image | None:
    if thing.reason.map is None:
        return None
    small = fit_within(picture, 2 * _CELL)
    scale = small.width / picture.width, small.height / picture.height
    values = thing.reason.map.numpy()
    laid = lay_on(values / (np.abs(values).max() or 1), tuple(np.multiply(account.box, (*scale, *scale))), small.size)
    grey = np.asarray(small.convert("L").convert("RGB"))
    return Image.fromarray(overlay(grey, laid, "heatmap", signed=True, opacity=0.8))
