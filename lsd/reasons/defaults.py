"""What is looked at where nobody says anything else; why is in docs/reasons.md."""

from lsd.layers import deepest_grid
from lsd.models import ImageModel

METHOD = "gradient_x_activation"


def default_layer(model: ImageModel) -> str:
    """The layer whose channels carry a decision."""
    return deepest_grid(model).name
