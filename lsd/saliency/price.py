"""What an attribution method takes in memory, before it is run."""

from collections.abc import Mapping
from typing import Any

from lsd.footprint import LOOK
from lsd.models import ImageModel, model_footprint
from lsd.saliency.methods import COUNTS, find_method, passes

_RULES = 2.5  # times a plain pass: Captum's hooks keep what goes into each ReLU and what comes back
_PLACES = 2.5  # pictures of such a pass: whether layers have places is asked by four, on a way without return


def memory_of_method(model: ImageModel, method: str, settings: Mapping[str, Any], pictures: int = 1) -> int:
    """Bytes that pictures' maps, asked for together, take at the most, beside the network's weights; nothing is run.

    Args:
        settings: of the method, all of them (`Method.parse`).
        pictures: how many. Methods of many passes, and Captum's, take one after the other.

    Raises:
        UndefinedError: no such method.
    """
    return model_footprint(model).passes(_pictures(method, settings, pictures))


def largest_batch(model: ImageModel, nbytes: int) -> int:
    """The largest `batch_size` of a method that fits in so many bytes."""
    return model_footprint(model).fitting(nbytes)


def _pictures(method: str, settings: Mapping[str, Any], pictures: int) -> float:
    """How many pictures of a plain pass there and back take as much."""
    chosen = find_method(method)
    together = settings.get("batch_size", 1 if method.startswith("captum:") else pictures)
    if not settings.keys().isdisjoint(COUNTS):
        together = min(together, passes(settings))
    # Those that look through the layers do so at first: for slopes at all of them, or for their places.
    looked = LOOK if chosen.depths else _PLACES if chosen.layer or "layer" in settings else 1
    return max(together * (_RULES if chosen.watches_relus else 1), looked)
