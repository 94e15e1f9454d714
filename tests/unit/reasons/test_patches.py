"""The places of photos that excite a unit most."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lsd.errors import LSDError
from lsd.reasons.patches import find_patches


@pytest.fixture
def reds(wrap):
    """Channels of its first layer are the colours of 8 × 8 places; its last one has no places."""
    conv = nn.Conv2d(3, 3, 4, 4, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(3)[..., None, None].expand(3, 3, 4, 4) / 16)
    net = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    return wrap(net, size=32, classes=2, crop_pct=1.0).float()


@pytest.fixture
def folder(tmp_path):
    """Four photos with a spot of red, brighter from one to the next, and one without."""
    for n, (level, top, left) in enumerate([(0.25, 0, 0), (0.5, 24, 24), (0.75, 8, 12), (1.0, 28, 0), (0, 0, 0)]):
        pixels = np.zeros((32, 32, 3), np.uint8)
        pixels[top : top + 4, left : left + 4, 0] = round(level * 255)
        Image.fromarray(pixels).save(tmp_path / f"{n}.png")
    return tmp_path


def test_they_are_cut_out_where_it_answers_most(reds, folder):
    units = ["0/channel/0", "0/channel/2", "0/direction/0:1.00,1:0.50"]
    found = find_patches(reds, units, folder, count=3)
    assert [np.asarray(patch)[..., 0].max() for patch in found[units[0]]] == [255, 191, 128]
    assert found[units[1]] == []  # nothing is blue
    assert [np.asarray(p).tolist() for p in found[units[2]]] == [np.asarray(p).tolist() for p in found[units[0]]]
    brightest = np.asarray(found[units[0]][0])
    assert brightest.shape == (12, 12, 3)  # three places
    assert brightest[-4:, :4, 0].min() == 255  # its spot lies in the corner of the photo, and so of the patch


def test_they_are_the_same_at_every_call_and_of_a_large_folder_some_photos_are_looked_at(reds, folder, monkeypatch):
    monkeypatch.setattr("lsd.reasons.patches.MOST_PHOTOS", 3)
    (patches,) = find_patches(reds, ["0/channel/0"], folder).values()
    assert [np.asarray(patch)[..., 0].max() for patch in patches] == [191, 64]  # the first, third and fifth photo


@pytest.mark.parametrize(
    "unit, sentence", [("2/channel/0", "no places"), ("0/neuron/0/1/1", "no channel and no direction")]
)
def test_what_has_no_patches_is_one_sentence(reds, folder, unit, sentence):
    with pytest.raises(LSDError, match=sentence):
        find_patches(reds, [unit], folder)


def test_a_folder_without_photos_is_one_sentence(reds, tmp_path):
    with pytest.raises(LSDError, match="no photos"):
        find_patches(reds, ["0/channel/0"], tmp_path)
