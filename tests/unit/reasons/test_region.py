"""A region of the picture as places of a layer."""

import pytest
import torch

from lsd.errors import UndefinedError
from lsd.layout import Layer
from lsd.reasons.explain import find_reasons, switched, together
from lsd.reasons.region import places_in
from lsd.reasons.switch import without

GRID = Layer("blocks.5", "nchw", 8, 4, 4)


def test_places_are_those_whose_middles_lie_there():
    whole = (0.0, 0.0, 100.0, 100.0)
    assert places_in(GRID, whole, (100, 100), (0, 0, 1, 1)).all()
    found = places_in(GRID, whole, (100, 100), (0.5, 0.0, 1.0, 0.5))
    assert found.nonzero().tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]
    # of a wide picture the network saw the middle: its first column of places begins at a quarter of the width
    cropped = places_in(GRID, (50.0, 0.0, 150.0, 100.0), (200, 100), (0.0, 0.0, 0.4, 1.0))
    assert cropped[:, 0].all() and not cropped[:, 1:].any()


def test_what_has_no_place_there_is_refused():
    with pytest.raises(UndefinedError, match=r"No place of blocks\.5 has its middle"):
        places_in(GRID, (50.0, 0.0, 150.0, 100.0), (200, 100), (0.0, 0.0, 0.2, 1.0))
    with pytest.raises(UndefinedError, match="fc has no places"):
        places_in(Layer("fc", "vector", 8), (0, 0, 1, 1), (1, 1), (0, 0, 1, 1))


def test_off_in_two_halves_is_off_in_the_whole_place_by_place(image_model, pictures):
    model, image = image_model("test_resnet", 32), pictures(1)
    reasons = find_reasons(model, image, layer="layer2", count=3)
    layer, off = reasons.shares.layer, together([one.off for one in reasons.channels])
    halves = [places_in(layer, (0, 0, 32, 32), (32, 32), region) for region in ((0, 0, 0.5, 1), (0.5, 0, 1, 1))]
    assert (halves[0] ^ halves[1]).all()
    (left,) = switched(model, image, reasons, [off], region=halves[0])
    places = torch.zeros(layer.channels, layer.height * layer.width)
    places[off[:, 0] > 0] = halves[0].flatten().float()
    torch.testing.assert_close(left.logits, without(model, image, layer, places[None])[0])
