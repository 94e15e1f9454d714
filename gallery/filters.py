"""What can be asked of a gallery, in plain values: a page can name these before it opens one, which takes a database."""

from dataclasses import dataclass

SORTS = {
    "order": "model, layer, unit",
    "own": "recognised by its own network",
    "agreement": "recognised by other networks",
    "score": "strongest answer",
    "fine": "smoothest first",
    "name": "name, A to Z",
}

FACETS = ("model", "family", "layer", "kind", "recipe", "status")  # the filters whose values are listed and counted


@dataclass(frozen=True)
class Filters:
    """What is asked for; "" for anything.

    Attributes:
        search: words, see `search.Vocabulary.meanings`.
        layer: a layer's dotted name, "" for classes, None for anything.
    """

    search: str = ""
    model: str = ""
    family: str = ""
    layer: str | None = None
    kind: str = ""
    recipe: str = ""
    status: str = ""
