"""Memory for the page's jobs: asked for before it is taken, from the account that models and their twins are in (`lsd.account`).

Each is a context; raises MemoryLimitError, one sentence, for what does not fit.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lsd.account import ACCOUNT
from lsd.catalogue import common_name
from lsd.features.price import memory_of_ascent, smaller_ascent
from lsd.features.recipes import Recipe
from lsd.models import ImageModel, model_footprint
from lsd.reasons.price import memory_of_reasons
from lsd.saliency.methods import find_method
from lsd.saliency.price import largest_batch, memory_of_method


@contextmanager
def room_for_method(
    model: ImageModel, method: str, settings: Mapping[str, Any], *, check: bool = False, pictures: int = 1
) -> Iterator[None]:
    """For an explanation.

    Args:
        settings: of the method, all of them.
        pictures: that are explained together.
        check: whether the same is then asked of Captum.
    """
    if ACCOUNT.limit is None:
        yield
        return
    chosen = find_method(method)
    needed = memory_of_method(model, method, settings, pictures)
    if check and chosen.counterpart:
        needed = max(needed, memory_of_method(model, chosen.counterpart, settings))
    batch = settings.get("batch_size")

    def smaller(nbytes: int) -> str:
        most = largest_batch(model, nbytes)
        return f"batch_size {most} would fit" if batch and most else "choose a smaller model"

    what = f"{chosen.title} of {common_name(model.name)}{f' with batch_size {batch}' if batch else ''}"
    with ACCOUNT.room(needed, what, beside=model.nbytes, smaller=smaller):
        yield


@contextmanager
def room_for_passes(what: str, models: Sequence[ImageModel], pictures: int) -> Iterator[None]:
    """For passes of so many pictures at a time through one model after the other.

    Args:
        what: they are for, as a sentence begins.
    """
    if ACCOUNT.limit is None:
        yield
        return
    needed = max(model_footprint(model).passes(pictures) for model in models)
    with ACCOUNT.room(
        needed, what, beside=sum(model.nbytes for model in models), smaller=lambda _: "choose smaller or fewer models"
    ):
        yield


@contextmanager
def room_for_reasons(model: ImageModel, layer: str) -> Iterator[None]:
    """For reasons in a layer."""
    if ACCOUNT.limit is None:
        yield
        return
    needed = memory_of_reasons(model, layer)
    with ACCOUNT.room(
        needed, f"This look for reasons in {layer} of {common_name(model.name)}", beside=model.nbytes,
        smaller=lambda _: "choose a later layer or a smaller model",
    ):  # fmt: skip
        yield


@contextmanager
def room_for_ascents(ascents: Sequence[tuple[Sequence[ImageModel], Recipe, int]]) -> Iterator[None]:
    """For ascents that take turns step by step.

    Args:
        ascents: the models, the recipe and the number of pictures of each (`memory_of_ascent`).
    """
    if ACCOUNT.limit is None:
        yield
        return
    models = {id(model.net): model for models, _, _ in ascents for model in models}.values()
    weights = sum(model.nbytes for model in models)
    needed, most = max(((memory_of_ascent(*one), one) for one in ascents), key=lambda found: found[0])
    others = weights - sum(model.nbytes for model in most[0])  # whose twins are there as well
    what = f"This ascent of {' and '.join(common_name(model.name) for model in most[0])}"
    with ACCOUNT.room(
        needed + others, what, beside=weights, smaller=lambda nbytes: smaller_ascent(*most, nbytes - others)
    ):
        yield
