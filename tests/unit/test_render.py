import numpy as np
import pytest
from PIL import Image

from lsd.errors import LSDError
from lsd.render import LEVELS, STYLES, color_bar, colorize, contact_sheet, overlay

GREY = np.full((40, 60, 3), 128, np.uint8)


def blob(height=40, width=60, y=15.5, x=40.5, radius=12):
    rows, columns = np.mgrid[:height, :width] + 0.5
    return np.clip(1 - np.hypot(rows - y, columns - x) / radius, 0, 1).astype(np.float32)


def changed(shown, image=GREY):
    return (shown != image).any(axis=-1)


def test_an_unsigned_map_grows_lighter():
    colors = colorize(np.linspace(0, 1, 255)[None], signed=False)
    assert colors.shape == (1, 255, 3) and colors.dtype == np.uint8
    lightness = colors[0] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > -1).all() and lightness[-1] - lightness[0] > 200


def test_a_signed_map_is_white_at_zero_and_symmetric():
    colors = colorize(np.array([[-1.0, -0.5, 0.0, 0.5, 1.0]]), signed=True)[0].astype(int)
    assert colors[2].min() >= 250
    np.testing.assert_allclose(colors[0], colors[4][::-1], atol=2)  # red and blue change places
    np.testing.assert_allclose(colors[1], colors[3][::-1], atol=2)
    assert colors[4][0] > colors[4][2], "positive is red"


def test_colours_are_matplotlibs_and_beyond_the_range_its_ends():
    from matplotlib import colormaps

    colors = colorize(np.array([[-3.0, 0.0, 1.0, 7.0]]), signed=False, cmap="viridis")[0]
    first, last = (np.round(np.array(colormaps["viridis"](v)[:3]) * 255) for v in (0.0, 1.0))
    np.testing.assert_array_equal(colors, [first, first, last, last])


def test_unknown_names_are_refused():
    with pytest.raises(LSDError, match="'rainbows'"):
        colorize(np.zeros((2, 2)), False, "rainbows")
    with pytest.raises(LSDError, match=r"'sticker'.*heatmap"):
        overlay(GREY, blob(), "sticker", signed=False)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("box", [None, (10.2, 3.0, 50.0, 39.7), (-20.0, -20.0, 80.0, 60.0)])
def test_every_style_gives_a_picture_and_leaves_its_input_alone(style, signed, box):
    image, map2d = GREY.copy(), blob() * (-1 if signed else 1)
    shown = overlay(image, map2d, style, signed=signed, box=box)
    assert shown.shape == image.shape and shown.dtype == np.uint8
    assert changed(shown).any()
    np.testing.assert_array_equal(image, GREY)


@pytest.mark.parametrize("signed", [False, True])
def test_a_heatmap_leaves_the_unimportant_as_it_was(signed):
    map2d = blob()
    shown = overlay(GREY, map2d, "heatmap", signed=signed)
    assert not changed(shown)[map2d == 0].any()
    assert changed(shown)[map2d > 0.3].all()
    peak = np.unravel_index(map2d.argmax(), map2d.shape)
    weight = 0.6 * (map2d[peak] if signed else map2d[peak] ** 0.5)
    expected = 128 + weight * (colorize(map2d, signed)[peak].astype(float) - 128)
    np.testing.assert_allclose(shown[peak], expected, atol=1)


def test_opacity():
    map2d = np.ones((40, 60))
    np.testing.assert_array_equal(overlay(GREY, map2d, "heatmap", signed=False, opacity=0), GREY)
    np.testing.assert_array_equal(
        overlay(GREY, map2d, "heatmap", signed=False, opacity=1), overlay(GREY, map2d, "map", signed=False)
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_a_mask_darkens_the_unimportant(sign):
    map2d = sign * np.repeat([[0.0, 0.5, 1.0]], 20, axis=1).repeat(40, axis=0)
    shown = overlay(GREY, map2d, "mask", signed=True, opacity=0.5)
    assert shown[0, [0, 30, 59], 0].tolist() == [64, 96, 128]


def test_contours_run_along_their_levels_and_nowhere_else():
    map2d = blob(120, 160, 60, 80, 50)
    image = np.full((120, 160, 3), 128, np.uint8)
    drawn = changed(overlay(image, map2d, "contours", signed=False), image)
    distance = np.min([np.abs(map2d - level) for level in LEVELS], axis=0) * 50  # in pixels, the slope being 1/50
    assert drawn[distance < 0.5].all()
    assert not drawn[distance > 3].any()
    assert not changed(overlay(image, 0 * map2d, "contours", signed=False), image).any()


def test_contours_are_centred_on_the_shape():
    map2d = blob(120, 160, 60, 80, 50)
    image = np.full((120, 160, 3), 128, np.uint8)
    shown = overlay(image, map2d, "contours", signed=False).astype(int)
    drawn = np.abs(shown - image).sum(axis=-1)
    y, x = np.mgrid[:120, :160] + 0.5
    assert (drawn * x).sum() / drawn.sum() == pytest.approx(80, abs=0.15)
    assert (drawn * y).sum() / drawn.sum() == pytest.approx(60, abs=0.15)


def redness(shown):
    return (shown[..., 0].astype(int) - shown[..., 2]).sum()


def test_signed_contours_tell_the_sign():
    assert redness(overlay(GREY, blob(), "contours", signed=True)) > 500
    assert redness(overlay(GREY, -blob(), "contours", signed=True)) < -500


def test_the_box_is_outlined_and_its_outside_dimmed():
    shown = overlay(GREY, np.zeros((40, 60)), "heatmap", signed=False, box=(10, 5, 50, 35))
    assert (shown[5, 10:50] == 255).all() and (shown[34, 10:50] == 255).all()
    assert (shown[5:35, 10] == 255).all() and (shown[5:35, 49] == 255).all()
    assert (shown[6:34, 11:49] == 128).all()
    outside = np.ones((40, 60), bool)
    outside[5:35, 10:50] = False
    assert (shown[outside] < 100).all() and (shown[outside] > 40).all()


def test_nothing_of_a_picture_within_a_larger_box_is_dimmed():
    shown = overlay(GREY, np.zeros((40, 60)), "heatmap", signed=False, box=(-20.0, -10.0, 80.0, 50.0))
    assert (shown[1:-1, 1:-1] == 128).all() and (shown[0] == 255).all()


@pytest.mark.parametrize("style", STYLES)
def test_a_picture_of_one_pixel(style):
    for box in (None, (0, 0, 1, 1), (-3, 0, 4, 1)):
        shown = overlay(GREY[:1, :1], np.ones((1, 1)), style, signed=False, box=box)
        assert shown.shape == (1, 1, 3)


@pytest.mark.parametrize("signed", [False, True])
def test_a_colour_bar_shows_the_whole_colour_map(signed):
    bar = color_bar(signed, width=300, height=50)
    assert bar.size == (300, 50)
    row = np.asarray(bar)[10]
    ends = colorize(np.array([[-1.0 if signed else 0.0, 1.0]]), signed)[0]
    np.testing.assert_array_equal(row[8], ends[0])
    np.testing.assert_array_equal(row[291], ends[1])


def test_labels_of_a_colour_bar_are_written_inside_it():
    plain, written = (np.asarray(color_bar(False, labels=labels)) for labels in ([" ", " "], ["nothing", "everything"]))
    columns = np.flatnonzero((plain != written).any(axis=(0, 2)))
    assert columns.min() >= 1 and columns.max() <= 318
    assert columns.min() < 40 and columns.max() > 280


def test_a_contact_sheet_holds_every_picture_and_label():
    red, blue = Image.new("RGB", (100, 50), "red"), Image.new("L", (7, 7), 0)
    sheet = contact_sheet([[red, None], [None, blue]], ["one", "two"], ["a", "b"], "Title", cell=100)
    pixels = np.asarray(sheet)
    assert ((pixels == [255, 0, 0]).all(-1)).sum() == 100 * 50
    assert ((pixels == 0).all(-1)).sum() == 100 * 100
    bare = contact_sheet([[red, None], [None, blue]], [], [], cell=100)
    assert bare.width < sheet.width and bare.height < sheet.height
    assert (pixels[0, 0] > 240).all(), "a light background"


def test_labels_do_not_run_into_pictures_or_each_other():
    long = "vit_base_patch16_clip_224.openai_ft_in12k_in1k with SmoothGrad over fifty samples and a lot more text"
    pictures = [[Image.new("RGB", (100, 100), "red")] * 3]
    sheet = np.asarray(contact_sheet(pictures, [long], [long, "", long], long, cell=100)).astype(int)
    assert ((sheet == [255, 0, 0]).all(-1)).sum() == 3 * 100 * 100, "no text on a picture"
    row, column = np.argwhere((sheet == [255, 0, 0]).all(-1))[0]
    ink = (sheet.max(axis=-1) < 120).any(axis=0)
    assert not ink[:5].any() and not ink[-5:].any(), "no text cut at the edge"
    header = (sheet[row - 40 : row, :].max(axis=-1) < 120).any(axis=0)
    assert header[column : column + 100].any() and not header[column + 104 : column + 200].any()


def test_a_sheet_without_pictures_is_still_a_picture():
    assert min(contact_sheet([], [], [], "Nothing").size) > 0
