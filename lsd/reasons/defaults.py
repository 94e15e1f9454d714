"""What is looked at where nobody says anything else; why is in docs/reasons.md."""

from lsd.layers import curated_layers, deepest_grid
from lsd.models import ImageModel

METHOD = "joint"


def method_of(kind: str) -> str:
    """By which the shares of units of a kind are found: of heads, of which no layer has many, by the slope alone."""
    return "gradient_x_activation" if kind == "head" else METHOD


def default_layer(model: ImageModel) -> str:
    """What enters the last block: the last but one of `curated_layers`, whose channels carry a decision.

    What the last block puts out is mostly wider, and a decision is spread thinner there. Of a network of a single block or stage
    it is the deepest grid.

    Raises:
        UndefinedError: a network with neither.
    """
    known = [layer for layer in curated_layers(model) if layer.channels and layer.layout != "custom"]
    return known[-2].name if len(known) > 1 else deepest_grid(model).name
