"""What visitors of a public page may name: models and data sets of a list, whatever way in they take.

    LSD_PUBLIC          1 or 0; by default 1 on a Hugging Face Space (where `SPACE_ID` is set), else 0
    LSD_PUBLIC_MODELS   names or wildcards, with spaces or commas between: models beside the catalogue's and those that are here
    LSD_PUBLIC_SETS     likewise: data sets beside those that come with the page

The loaders ask, by the name as they understand it, so that no spelling and no door leads past.
"""

import os
import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

from lsd.curated import CURATED


def is_public() -> bool:
    """Whether strangers use this process."""
    return os.environ.get("LSD_PUBLIC", "1" if os.environ.get("SPACE_ID") else "0").strip() not in ("", "0")


def trusted_proxies() -> str:
    """Whose word on where a visitor comes from is taken: networks, with commas between; "" for nobody's.

    A Space's visitors come through proxies in private networks; what else they claim in `X-Forwarded-For` stands before the address
    that these have seen. Anywhere else a visitor could write it himself.
    """
    return "127.0.0.0/8,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16" if os.environ.get("SPACE_ID") else ""


def hub_token() -> bool | None:
    """What the Hub's client is given as `token`: on a public page no secret of whoever runs it, for what a visitor names."""
    return False if is_public() else None


def model_refusal(name: str, ready: Callable[[], Iterable[str]]) -> str:
    """Why a model is not loaded here, in one sentence; "" where it may be.

    Args:
        name: as `lsd.weights.canonical` gives it.
        ready: gives the names of what whoever runs the page has put here; only a public page asks.
    """
    if not is_public() or name in ready() or any(name == network.name for network in CURATED):
        return ""
    if _is_listed(name, "LSD_PUBLIC_MODELS"):
        return ""
    return (
        f"This public page loads the models of its list, and {name} is not on it: choose one that is offered, or run the page "
        "yourself, where any timm name will do."
    )


def set_refusal(name: str, ready: Callable[[], Iterable[str]]) -> str:
    """Why a data set is not opened here, in one sentence; "" where it may be. Arguments as for `model_refusal`."""
    if not is_public() or name in ready() or _is_listed(name, "LSD_PUBLIC_SETS"):
        return ""
    return (
        f"This public page opens the sets of its list, and “{name}” is not on it: choose one that is offered, upload a picture of "
        "your own, or run the page yourself."
    )


def _is_listed(name: str, variable: str) -> bool:
    patterns = re.split(r"[\s,]+", os.environ.get(variable, "").strip())
    return any(pattern and fnmatchcase(name, pattern) for pattern in patterns)
