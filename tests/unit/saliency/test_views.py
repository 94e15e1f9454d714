"""Maps on pictures, and what is kept of them."""

import numpy as np
import pytest
import torch
from PIL import Image

from lsd.errors import LSDError
from lsd.saliency.attribution import Attribution
from lsd.saliency.bundle import array_names, read_manifest, slug
from lsd.saliency.explain import Explanation
from lsd.saliency.maps import MapSettings
from lsd.saliency.targets import Target
from lsd.saliency.views import Look, overlays

WIDE, SIDE = (300, 100), 100  # a wide picture, of which the model saw the middle


def explanation(values, box=(100.0, 0.0, 200.0, 100.0), size=WIDE):
    a = Attribution(values, "gradient", {}, Target(0), torch.zeros(1), passes=1)
    return Explanation("a model", size, box, (SIDE, SIDE), ((0, "a class", 1.0),), a, 0.0)


def spot(row, column):
    values = torch.zeros(1, 3, SIDE, SIDE)
    values[..., row - 3 : row + 3, column - 3 : column + 3] = 1
    return values


def brightest(image):
    grey = np.asarray(image.convert("L"), float)
    rows, columns = np.nonzero(grey > 0.9 * grey.max())
    return rows.mean(), columns.mean()


@pytest.mark.parametrize("scale", [1, 2])
def test_the_map_lies_where_the_model_saw_it(scale):
    picture = Image.new("RGB", (WIDE[0] * scale, WIDE[1] * scale))  # also when it is drawn at another size
    (shown,) = overlays(picture, [explanation(spot(30, 70))], MapSettings(), Look("map", frame=False))
    assert shown.size == picture.size
    row, column = brightest(shown)
    assert abs(row - 30 * scale) < scale + 1
    assert abs(column - 170 * scale) < scale + 1


def test_one_scale_for_all_models_keeps_their_strengths():
    picture = Image.new("RGB", WIDE)
    both = [explanation(spot(50, 50)), explanation(0.25 * spot(50, 50))]
    strong, weak = overlays(picture, both, MapSettings(scale="shared", clip=100), Look("map", frame=False))
    assert np.asarray(weak).max() < np.asarray(strong).max()
    strong, weak = overlays(picture, both, MapSettings(scale="image", clip=100), Look("map", frame=False))
    assert np.array_equal(np.asarray(weak), np.asarray(strong))


def test_only_a_crop_is_outlined():
    picture = Image.new("RGB", (SIDE, SIDE))
    whole = explanation(torch.zeros(1, 3, SIDE, SIDE), (0.0, 0.0, 100.0, 100.0), (SIDE, SIDE))
    (framed,) = overlays(picture, [whole], MapSettings(), Look("heatmap", frame=True))
    assert not np.asarray(framed).any()
    (outlined,) = overlays(Image.new("RGB", WIDE), [explanation(spot(1, 1) * 0)], MapSettings(), Look("heatmap"))
    assert np.asarray(outlined)[50, 100].min() > 200


def test_names_of_arrays_are_distinct_and_safe():
    assert slug("hf-hub:some/one@../x") == "hf-hub_some_one_.._x"
    assert "/" not in slug("/../../etc/passwd") and not slug("../x").startswith(".")
    assert array_names(["a", "b", "a", "a"]) == ["a", "b", "a-2", "a-3"]


@pytest.mark.parametrize(
    "data", ["", "[]", "{}", '{"request": 1, "image": 2}', '{"format": 1, "image": {}, "request": {}}']
)
def test_what_is_no_manifest_is_refused(data):
    with pytest.raises(LSDError, match="manifest"):
        read_manifest(data)


def test_a_manifest_of_the_future_is_refused():
    with pytest.raises(LSDError, match="format 99"):
        read_manifest('{"format": 99, "image": {"sha256": ""}, "request": {}}')
