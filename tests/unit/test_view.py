"""What of a picture a network is shown: where it lands in the input, and where the box says that it lies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lsd.errors import LSDError
from lsd.images import InputSpec, crop_box, lay_on, prepare
from lsd.view import EVALUATED, WHOLE, View

MEAN = (0.485, 0.456, 0.406)
SPECS = [
    InputSpec(224, 224, 0.875, mean=MEAN),
    InputSpec(96, 160, 0.9, mean=MEAN),
    InputSpec(150, 90, 1.0, "squash", "bilinear", mean=MEAN),
    InputSpec(128, 128, 0.9, "border", fill=(124, 116, 104), mean=MEAN),
]
SIZES = [(400, 200), (200, 400), (301, 299), (7, 5), (3, 40)]
specs = pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.width}x{s.height}-{s.crop_mode}")
sizes = pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")


def views(size):
    """All that there are, the square being as large as it can be, and in a corner."""
    side = max(1, min(size) - 1)
    return [*map(View, WHOLE), View((size[0] - side, size[1] - side, side))]


def white_square(size):
    """A black picture with a white square in the middle, and the square: (left, top, right, bottom)."""
    side = max(1, min(size) // 4)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    image = Image.new("RGB", size)
    image.paste("white", (left, top, left + side, top + side))
    return image, (left, top, left + side, top + side)


def light_of(image, spec, view):
    """What the input shows of it, (height, width), without what is filled around it."""
    return prepare(image, spec, view)[0] - prepare(Image.new("RGB", image.size), spec, view)[0]


# --- geometry ---------------------------------------------------------------------------------------------------------


@specs
@sizes
def test_what_is_white_in_the_picture_is_white_in_the_input_where_the_box_says(spec, size):
    """The mean position and the extent of the square's light in the input, to a fraction of a pixel."""
    image, square = white_square(size)
    for view in views(size):
        box = crop_box(size, spec, view)
        seen = light_of(image, spec, view)
        for axis, edge in ((0, spec.width), (1, spec.height)):
            start, stop = box[axis], box[axis + 2]
            scale = edge / (stop - start)
            expected = [(square[axis] - start) * scale, (square[axis + 2] - start) * scale]
            if expected[0] < 2 or expected[1] > edge - 2:
                continue  # the input's edge cuts it
            light = seen.sum(axis=axis)
            position = np.arange(edge) + 0.5
            middle = (light * position).sum() / light.sum()
            assert middle == pytest.approx(sum(expected) / 2, abs=0.1 + 0.01 * scale), (view, axis)
            bright = light > light.max() / 2
            assert bright.sum() == pytest.approx(expected[1] - expected[0], abs=2 + 0.1 * scale), (view, axis)


@specs
@sizes
def test_a_map_lies_on_the_pixels_that_it_is_of(spec, size):
    image, square = white_square(size)
    middle = (square[0] + square[2]) / 2, (square[1] + square[3]) / 2
    for view in views(size):
        box = crop_box(size, spec, view)
        if any(box[a] >= square[a] or box[a + 2] <= square[a + 2] for a in (0, 1)):
            continue
        laid = lay_on(light_of(image, spec, view), box, size)
        assert laid.shape == size[::-1]
        y, x = np.mgrid[: size[1], : size[0]] + 0.5
        tolerance = 0.1 + 0.5 * (min(size) < 10)  # of pictures of a few pixels, whose neighbours share the light
        assert (laid * x).sum() / laid.sum() == pytest.approx(middle[0], abs=tolerance), view
        assert (laid * y).sum() / laid.sum() == pytest.approx(middle[1], abs=tolerance), view


def test_boxes_by_hand():
    spec = InputSpec(224, 224, 0.875)
    assert crop_box((400, 200), spec, EVALUATED) == crop_box((400, 200), spec) == (112.5, 12.5, 287.5, 187.5)
    assert crop_box((400, 200), spec, View("squashed")) == (0, 0, 400, 200)
    assert crop_box((400, 200), spec, View("padded")) == (0, -100, 400, 300)
    assert crop_box((200, 400), spec, View("padded")) == (-100, 0, 300, 400)
    assert crop_box((400, 200), spec, View((150, 20, 100))) == (150, 20, 250, 120)
    wide = InputSpec(100, 200, 0.9)
    assert crop_box((300, 300), wide, View("padded")) == (-150, 0, 450, 300)
    assert crop_box((300, 300), wide, View((10, 20, 30))) == (10, 20, 40, 50)


@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    spec=st.sampled_from(SPECS),
    data=st.data(),
)
def test_boxes_of_any_picture(width, height, spec, data):
    """Whole pictures are whole, padding keeps the aspect to a pixel of the input, and a square is the square."""
    size = (width, height)
    assert crop_box(size, spec, View("squashed")) == (0, 0, width, height)
    left, top, right, bottom = crop_box(size, spec, View("padded"))
    assert left <= 0 and top <= 0 and right >= width - 1e-9 and bottom >= height - 1e-9
    shown = (width / (right - left) * spec.width, height / (bottom - top) * spec.height)  # in pixels of the input
    assert max(shown[0] / spec.width, shown[1] / spec.height) == pytest.approx(1)
    scale = min(spec.width / width, spec.height / height)
    assert shown == pytest.approx((max(1, width * scale), max(1, height * scale)), abs=0.51)
    side = data.draw(st.integers(1, min(size)))
    corner = data.draw(st.integers(0, width - side)), data.draw(st.integers(0, height - side))
    view = View((*corner, side))
    assert crop_box(size, spec, view) == (*corner, corner[0] + side, corner[1] + side)
    assert View.parse(str(view)) == view


@specs
@sizes
def test_a_square_is_seen_as_a_picture_of_its_own_would_be_and_nothing_around_it(spec, size):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8))
    side = max(1, min(size) // 2)
    box = (1, 1, 1 + side, 1 + side)
    cut = noise.crop(box)
    expected = prepare(cut, spec, View("squashed"))
    assert np.array_equal(prepare(noise, spec, View((1, 1, side))), expected)
    around = Image.new("RGB", size, "white")
    around.paste(cut, (1, 1))
    assert np.array_equal(prepare(around, spec, View((1, 1, side))), expected)


@specs
@sizes
def test_what_is_padded_is_exactly_the_mean(spec, size):
    seen = prepare(Image.new("RGB", size, "white"), spec, View("padded"))
    mean = np.float32(MEAN)[:, None, None]
    outside = (seen == mean).all(axis=0)
    assert np.isin(seen, (1, *mean.ravel())).all() and ((seen == 1).all(axis=0) | outside).all()
    left, top, right, bottom = crop_box(size, spec, View("padded"))
    x = left + (np.arange(spec.width) + 0.5) * (right - left) / spec.width
    y = top + (np.arange(spec.height) + 0.5) * (bottom - top) / spec.height
    on_it = ((y > 0) & (y < size[1]))[:, None] & ((x > 0) & (x < size[0]))
    assert np.array_equal(outside, ~on_it)


def test_padding_is_nothing_to_the_network(image_model):
    model = image_model("test_resnet")
    shown = []
    with model.net.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0])):
        x = prepare(Image.new("RGB", (64, 16), "white"), model.spec, View("padded"))
        model(model.mean.new_tensor(x)[None])
    assert (shown[0][..., :12, :] == 0).all() and (shown[0][..., 12:20, :] > 0).all()


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view, written", [
    ("evaluated", "evaluated"), (" padded ", "padded"), ("40,0,300", "40,0,300"), (" 40, 0, 300", "40,0,300"),
    ((40, 0, 300), "40,0,300"), (np.array([40, 0, 300]), "40,0,300"), ([1, 2, 3], "1,2,3"), (View("squashed"), "squashed"),
])  # fmt: skip
def test_a_view_is_read_as_it_is_written(view, written):
    found = View.parse(view)
    assert str(found) == written and View.parse(str(found)) == found and hash(View.parse(str(found))) == hash(found)


@pytest.mark.parametrize("view, sentence", [
    ("", "is no view: give evaluated, squashed, padded, or a square"), ("centre", "“centre” is no view"),
    ("1,2", "“1,2” is no view"), ("1,2,3,4", "is no view"), ("1,2,x", "“1,2,x” is no view"), ("1.5,2,3", "whole pixels"),
    ("nan,0,1", "is no view"), (",,", "is no view"), (None, "is no view"), (3, "is no view"), ((1, 2), "is no view"),
    ((1.5, 2, 3), "is no view"), ({"what": "padded"}, "is no view"),
    ("10,10,0", "has no area"), ("10,10,-5", "has no area"), ("-1,0,10", "begins outside"), ("0,-1,10", "begins outside"),
])  # fmt: skip
def test_what_is_no_view_is_told_in_one_sentence(view, sentence):
    with pytest.raises(LSDError, match=sentence) as raised:
        View.parse(view)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("square", [(0, 0, 61), (41, 0, 60), (0, 1, 60), (100, 0, 1), (500, 500, 5)])
def test_a_square_beyond_the_picture_is_refused(square):
    for function in (
        lambda v: crop_box((100, 60), SPECS[0], v),
        lambda v: prepare(Image.new("RGB", (100, 60)), SPECS[0], v),
    ):
        with pytest.raises(LSDError, match="reaches beyond the picture, which has 100 × 60 pixels"):
            function(View(square))
    assert crop_box((100, 60), SPECS[0], View((40, 0, 60))) == (40, 0, 100, 60)
