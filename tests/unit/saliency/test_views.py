"""Maps on pictures, and what is kept of them."""

import numpy as np
import pytest
import torch
from PIL import Image

from lsd.errors import LSDError
from lsd.images import InputSpec, crop_box, prepare
from lsd.saliency.attribution import Attribution
from lsd.saliency.bundle import array_names, read_manifest, slug
from lsd.saliency.explain import Explanation
from lsd.saliency.maps import MapSettings
from lsd.saliency.targets import Target
from lsd.saliency.views import Look, overlays
from lsd.view import View

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


@pytest.mark.parametrize("size", [(300, 100), (100, 300)])
@pytest.mark.parametrize("scale", [1, 0.5])
@pytest.mark.parametrize("view", [View("squashed"), View("padded"), View((10, 20, 80))], ids=str)
def test_the_map_of_any_view_lies_on_the_pixels_that_were_seen(size, scale, view):
    """The map is what the input shows of a white spot, so that it must come back onto the spot, alone."""
    spec = InputSpec(SIDE, SIDE, 0.8)
    picture = Image.new("RGB", size)
    picture.paste("white", (40, 60, 70, 80))
    seen = prepare(picture, spec, view) - prepare(Image.new("RGB", size), spec, view)
    of_it = explanation(torch.from_numpy(seen)[None], crop_box(size, spec, view), size)
    shown_at = picture.resize((round(size[0] * scale), round(size[1] * scale)))
    (shown,) = overlays(shown_at, [of_it], MapSettings(clip=100), Look("map", frame=False))
    assert shown.size == shown_at.size
    grey = np.asarray(shown.convert("L"), float)
    light = grey - grey.min()
    y, x = np.mgrid[: shown.height, : shown.width] + 0.5
    middle = (light * x).sum() / light.sum(), (light * y).sum() / light.sum()
    assert middle == pytest.approx((55 * scale, 70 * scale), abs=1)
    rows, columns = np.nonzero(light > light.max() / 2)
    assert (columns.min(), columns.max() + 1) == pytest.approx((40 * scale, 70 * scale), abs=2)
    assert (rows.min(), rows.max() + 1) == pytest.approx((60 * scale, 80 * scale), abs=2)


def test_of_a_padded_picture_the_map_around_it_is_cut_away_and_nothing_is_outlined():
    values = torch.ones(1, 3, SIDE, SIDE)
    values[..., 33:66, :] = 0  # the picture's own part
    padded = explanation(values, crop_box(WIDE, InputSpec(SIDE, SIDE), View("padded")))
    (shown,) = overlays(Image.new("RGB", WIDE), [padded], MapSettings(blur=0), Look("heatmap"))
    assert not np.asarray(shown)[3:-3].any()  # a pixel of the map is three of the picture


def test_a_square_is_outlined():
    picture = Image.new("RGB", WIDE)
    box = crop_box(WIDE, InputSpec(SIDE, SIDE), View((20, 10, 50)))
    (shown,) = overlays(picture, [explanation(spot(1, 1) * 0, box)], MapSettings(), Look("heatmap"))
    white = np.argwhere(np.asarray(shown.convert("L")) > 200)
    assert (white.min(axis=0) == (10, 20)).all() and (white.max(axis=0) == (59, 69)).all()


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
