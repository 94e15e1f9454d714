"""What a class's own picture has and a photo lacks."""

import pytest
import torch
from torch import nn

from lsd.errors import UndefinedError
from lsd.reasons.missing import find_missing


@pytest.fixture
def colours(wrap):
    """Channels are the colours red, green and blue; class 0 wants red and green, class 1 blue."""
    first, last = nn.Conv2d(3, 3, 1, bias=False), nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.eye(3)[..., None, None])
        last.weight.copy_(torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]]))
    return wrap(nn.Sequential(first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last), classes=2)


def painted(red, green, blue):
    """In its left half: (1, 3, 8, 8)."""
    picture = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    picture[0, :, :, :4] = torch.tensor([red, green, blue], dtype=torch.float64)[:, None, None]
    return picture


def test_it_is_what_the_photo_does_not_have(colours):
    # With two classes the log-odds are the difference of the logits, so a share is the mean colour times its weight.
    found = find_missing(colours, painted(0, 0.5, 1), painted(1, 1, 0), 0, layer="0")
    assert [one.unit for one in found] == ["0/channel/0", "0/channel/1"]
    assert [one.there for one in found] == pytest.approx([1.0, 0.5])
    assert [one.here for one in found] == pytest.approx([0.0, 0.25])
    assert [one.lacking for one in found] == pytest.approx([1.0, 0.25])
    assert float(found[0].map[:, :4].sum()) == pytest.approx(1.0) and not found[0].map[:, 4:].any()


def test_what_speaks_against_the_class_less_than_in_the_photo_is_not_missing(colours):
    # Blue speaks against class 0, in the photo more than in the picture: the difference is above zero, and nothing lacks.
    assert find_missing(colours, painted(1, 1, 1), painted(1, 1, 0), 0, layer="0") == ()


def test_only_so_many_are_told(colours):
    assert len(find_missing(colours, painted(0, 0, 0), painted(1, 1, 0), 0, layer="0", count=1)) == 1


def test_pictures_of_two_sizes_are_refused(colours):
    with pytest.raises(UndefinedError, match="of one size"):
        find_missing(colours, painted(1, 1, 1), torch.zeros(1, 3, 4, 4), 0, layer="0")
