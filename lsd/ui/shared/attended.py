"""Attention that was read, kept by content: the same question is answered once, for all visitors."""

from PIL import Image

from lsd.models import ImageModel
from lsd.recent import Recent
from lsd.saliency.heads import Heads, heads_of
from lsd.ui.shared import gpu
from lsd.ui.shared.pace import Cost, measured
from lsd.ui.shared.room import room_for_passes
from lsd.view import EVALUATED, View

MAX_BYTES = 32 * 2**20  # a layer of 12 heads over 16 × 16 places has 12 KiB

_read: Recent[Heads] = Recent(MAX_BYTES, lambda found: found.weights.numel() * found.weights.element_size())


def cost(model: str) -> Cost:
    """Of a layer's heads that were not read yet."""
    return Cost(("attention", model), 1)


def attended(
    model: ImageModel,
    picture: Image.Image,
    sha256: str,
    layer: str = "",
    place: tuple[int, int] | None = None,
    view: View = EVALUATED,
) -> Heads:
    """`heads_of`, unless it was asked before. What it returns is shared: it must not be changed.

    Args:
        sha256: of the picture's file, which stands for the picture.

    Raises:
        LSDError: what `heads_of` raises.
    """

    def compute() -> Heads:
        with room_for_passes("This look at attention", [model], 1), measured(cost(model.name)):
            return gpu.call(heads_of, model, picture, layer, place, view)

    return _read.get((model.name, model.identity, model.said, sha256, layer, place, view), compute)
