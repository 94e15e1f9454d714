"""Which groups of the networks that were asked are the same thing, as the page shows it."""

from collections.abc import Callable

from PIL import Image

from lsd.catalogue import common_name
from lsd.images import fit_within
from lsd.provenance import jpeg
from lsd.reasons.graph import graph_of
from lsd.reasons.matched import MOST, Network, matched
from lsd.reasons.sentence import seen
from lsd.reasons.sheet import heated
from lsd.ui.reasons.session import Run

_SIDE = 156  # pixels of a place, twice as many as are shown


def graph(run: Run, serve: Callable[[str, bytes], str]) -> str:
    """HTML, "" where fewer than two networks have an answer with groups.

    Args:
        serve: file name, content → address.
    """
    accounts = [account for _, account in sorted(run.accounts.items()) if account.groups][:MOST]
    if len(accounts) < 2:
        return ""
    networks = [
        Network(common_name(account.model), account.reasons.groups, account.box, {
            unit: seen(said) for (model, unit), said in run.verdicts.items() if model == account.model and said
        })
        for account in accounts
    ]  # fmt: skip
    small = fit_within(run.shown, _SIDE)

    def shown(network: int, unit: str) -> list[str]:
        account = accounts[network]
        found = [address] if (address := run.pictures.get((account.model, unit))) else []
        places = next(one.map for one in account.reasons.groups if one.unit == unit)
        if places is not None:
            scale = small.width / account.picture_size[0]
            box = tuple(edge * scale for edge in account.box)
            found.append(serve("place.jpg", jpeg(_square(heated(small, places, box, box)))))
        return found

    return f'<div class="lsd-r-graph">{graph_of(matched(networks, accounts[0].picture_size).to_dict(), shown)}</div>'


def _square(picture: Image.Image) -> Image.Image:
    """In the middle of a square, as a graph shows pictures."""
    whole = Image.new("RGB", (max(picture.size),) * 2, "white")
    whole.paste(picture, tuple((side - own) // 2 for side, own in zip(whole.size, picture.size, strict=True)))
    return whole
