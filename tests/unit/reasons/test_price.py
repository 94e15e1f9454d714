"""What reasons take in memory."""

import pytest

from lsd.footprint import Counted
from lsd.reasons.explain import find_reasons, try_reasons
from lsd.reasons.price import memory_of_reasons


@pytest.mark.parametrize("layer", ["layer1", "layer3"])
def test_the_price_is_not_less_than_what_is_taken(image_model, pictures, layer):
    model, image = image_model("test_resnet", 32), pictures(1)
    with Counted((*model.parameters(), *model.buffers())) as counted:
        try_reasons(model, image, find_reasons(model, image, layer=layer))
    assert 0 < counted.peak <= memory_of_reasons(model, layer)
