"""Whether the network of a row can be run here, and what can be looked at in its place. Nothing is downloaded to find out."""

from dataclasses import dataclass

from gallery.filters import Filters
from gallery.queries import Entry, Gallery
from lsd.catalogue import common_name
from lsd.errors import LSDError
from lsd.models import holds, ready_models
from lsd.ui.gallery.address import UNIT, View
from lsd.weights import HERE, NOWHERE, Availability, availability, scheme

SAME, TO_DOWNLOAD, OTHER, NONE = "same", "to download", "other", "none"
_NOWHERE = "The weights that made this picture are not to be had here, so nothing offers to run them."
_FOLDER = "It was a folder of the machine that made the picture."


@dataclass(frozen=True)
class Standing:
    """How a row's network stands on this machine.

    Attributes:
        state: `SAME` (the very weights are here), `TO_DOWNLOAD`, `OTHER` (that name has other weights here), `NONE`.
        said: one sentence for the page; "" for `SAME`.
        why: for `NONE`, the reason in the loader's own words.
    """

    state: str
    said: str = ""
    why: str = ""

    @property
    def can_run(self) -> bool:
        """Whether the page may offer to run the row's network."""
        return self.state in (SAME, TO_DOWNLOAD)


def model_availability(model: str) -> Availability:
    """`lsd.weights.availability` for a name in a gallery, which may be anybody's: no folder of this machine is looked into."""
    return Availability(NOWHERE, reason=_FOLDER) if scheme(model) == "local-dir" else availability(model)


def standing(entry: Entry) -> Standing:
    """How the network of a row stands here; it is built only if its file is not the row's, to compare the tensors."""
    found = model_availability(entry.model)
    if not found.can_load:
        return Standing(NONE, _NOWHERE, found.reason)
    if found.place != HERE:
        return Standing(TO_DOWNLOAD, "Its network is not on this machine yet: opening it downloads it from the Hub.")
    try:
        same = holds(found.location, entry.weights_digest, entry.weights_sha256)
    except LSDError as error:
        return Standing(NONE, _NOWHERE, str(error))
    if same:
        return Standing(SAME)
    return Standing(
        OTHER,
        f"The {entry.model} that is here has other weights than those that made this picture: what it makes is another "
        "network's.",
    )


def instead(gallery: Gallery, entry: Entry) -> tuple[str, View] | None:
    """What to look at in place of a row whose network cannot be run: (in words, its view).

    The same class in a network that can be run here; for other units, or where no such network has it, units of the same kind
    of one that can, or else all that the gallery has of one. None if it has none.
    """
    order = {name: place for place, name in enumerate(ready_models())}

    def first(name: str) -> int:
        return order.get(name, len(order))

    if entry.class_name:
        same = gallery.same_class(entry)
        for place in sorted(range(len(same)), key=lambda place: first(same.models[place])):
            if model_availability(same.models[place]).can_load and standing(other := same[place]).can_run:
                return f"{entry.title} in {common_name(other.model)}", View(UNIT, unit_id=other.unit_id)
    models = sorted((name for name, _ in gallery.models()), key=first)
    for kind in (entry.kind, "") if not entry.class_name else ("",):
        for model in models:
            filters = Filters(model=model, kind=kind)
            entries = gallery.page(filters, size=1).entries if model_availability(model).can_load else []
            if entries and standing(entries[0]).can_run:
                words = f"{kind}s of {common_name(model)}" if kind else common_name(model)
                return words[:1].upper() + words[1:], View(filters=filters)
    return None
