"""What finding and trying reasons takes in memory, before it is run."""

from lsd.footprint import SLACK
from lsd.layers import find_layer
from lsd.models import ImageModel, model_footprint
from lsd.reasons.explain import IN_A_PASS
from lsd.reasons.groups import COUNTS

_FOR_A_GROUP = 4  # of the size of the layer's output: a group's part in each number, while it is worked out
_DOUBLE = 8  # such sizes: the shares in fp64, and their singular vectors


def memory_of_reasons(model: ImageModel, layer: str) -> int:
    """Bytes that `find_reasons`, `try_reasons` and `switched` take at the most, beside the network's weights.

    Raises:
        UndefinedError: no such layer.
    """
    found = find_layer(model, layer)
    numbers = found.channels * max(found.height * found.width + found.prefix, 1)
    own = 4 * numbers * (IN_A_PASS + _FOR_A_GROUP * max(COUNTS) + _DOUBLE)
    return int(model_footprint(model).passes(IN_A_PASS) + SLACK * own)
