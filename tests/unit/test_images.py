import contextlib
import hashlib
import io
import struct
import subprocess
import sys
import textwrap
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lsd.errors import ImageError, LSDError
from lsd.images import (
    CREDITS,
    ENLARGING,
    InputSpec,
    crop_box,
    example_images,
    file_sha256,
    fit_within,
    lay_on,
    open_image,
    picture_path,
    prepare,
    resample,
)

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def refusal(source, **options):
    """The message of the refusal, which must be a single sentence."""
    with pytest.raises(ImageError) as caught:
        open_image(source, **options)
    message = str(caught.value)
    assert message.endswith(".") and "\n" not in message and ". " not in message
    return message


# --- decoding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG", "AVIF"])
def test_every_format_is_read_from_bytes_and_from_a_path(format, tmp_path):
    picture = Image.new("RGB", (7, 5), (200, 100, 50))
    data = encoded(picture, format, **({"lossless": True} if format == "WEBP" else {}))
    path = tmp_path / "picture.any"
    path.write_bytes(data)
    for source in (data, path, str(path)):
        image = open_image(source)
        assert (image.mode, image.size) == ("RGB", (7, 5))
        np.testing.assert_allclose(np.asarray(image), np.asarray(picture), atol=3)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(format):
    frames = [Image.new("RGB", (8, 8), color) for color in (RED, GREEN, BLUE)]
    lossless = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=50, **lossless)
    assert open_image(data).getpixel((3, 3)) == RED


def test_cmyk_becomes_rgb():
    assert open_image(encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "TIFF")).getpixel((0, 0)) == RED
    pixel = open_image(encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", quality=100)).getpixel((4, 4))
    np.testing.assert_allclose(pixel, (0, 255, 255), atol=4)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_proportions(format):
    values = np.array([[0, 257, 255, 32768, 65535]], dtype=np.uint16)
    grey = np.asarray(open_image(encoded(Image.fromarray(values), format)))
    np.testing.assert_array_equal(grey[0], np.repeat([[0], [1], [1], [128], [255]], 3, axis=1))


def test_thirty_two_bit_grey_of_sixteen_bit_range_keeps_its_proportions():
    values = np.array([[0, 32768, 65535]], dtype=np.int32)
    assert np.asarray(open_image(encoded(Image.fromarray(values), "TIFF")))[0, :, 0].tolist() == [0, 128, 255]


def test_samples_without_a_white_are_refused():
    assert "16 bits" in refusal(encoded(Image.fromarray(np.array([[0, 70000]], dtype=np.int32)), "TIFF"))
    assert "fractional" in refusal(encoded(Image.fromarray(np.zeros((2, 2), dtype=np.float32)), "TIFF"))


def sixteen_bit_png(color_type, samples, extra=b""):
    """One pixel of 16-bit samples; Pillow cannot write the colour ones."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, color_type, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(f">{len(samples)}H", *samples)))
    return b"\x89PNG\r\n\x1a\n" + header + extra + pixels + chunk(b"IEND", b"")


def test_sixteen_bit_colour_keeps_its_proportions():
    assert open_image(sixteen_bit_png(2, (65535, 32768, 0))).getpixel((0, 0)) == (255, 128, 0)


def test_sixteen_bit_grey_with_a_transparent_value_lies_on_white():
    data = encoded(Image.fromarray(np.array([[1000, 20000]], dtype=np.uint16)), transparency=1000)
    assert np.asarray(open_image(data))[0, :, 0].tolist() == [255, 78]


def test_palette_and_one_bit():
    palette = noise(16, 16).quantize(8)
    np.testing.assert_array_equal(open_image(encoded(palette)), palette.convert("RGB"))
    bits = Image.new("1", (2, 1))
    bits.putpixel((1, 0), 1)
    assert np.asarray(open_image(encoded(bits)))[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation):
    # Asymmetric, and not square: every wrong turn shows.
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0, :3] = RED
    upright[0, 3:] = GREEN
    upright[1:, 0] = BLUE
    # How a camera stores the upright picture under each orientation, from the EXIF standard's table of the place of
    # row 0 and column 0.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for format in ("PNG", "TIFF"):
        np.testing.assert_array_equal(
            open_image(encoded(Image.fromarray(np.ascontiguousarray(stored)), format, exif=exif)), upright
        )


def test_unreadable_exif_counts_as_upright():
    picture = noise(9, 5)
    np.testing.assert_array_equal(open_image(encoded(picture, exif=b"Exif\0\0nonsense")), picture)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L", "1"])
def test_transparency_lies_on_white(mode):
    if mode in ("RGBA", "LA"):
        data = encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 0)).convert(mode))
    else:
        data = encoded(Image.new(mode, (2, 2)), transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert open_image(data).getpixel((1, 1)) == WHITE


def test_half_transparent_is_half_white():
    assert open_image(encoded(Image.new("RGBA", (1, 1), (255, 0, 0, 128)))).getpixel((0, 0)) == (255, 127, 127)


@pytest.mark.parametrize("size", [(1, 1), (1, 10000), (10000, 1)])
def test_extreme_shapes_are_read_and_prepared(size):
    image = open_image(encoded(Image.new("RGB", size, RED)))
    assert image.size == size
    for mode in ("center", "squash"):
        array = prepare(image, InputSpec(64, 48, crop_mode=mode))
        np.testing.assert_array_equal(array, np.broadcast_to([[[1.0]], [[0.0]], [[0.0]]], (3, 64, 48)))
    bordered = prepare(image, InputSpec(64, 48, 1.0, "border", fill=BLUE))
    assert bordered.shape == (3, 64, 48) and bordered[0].max() == 1
    assert max(fit_within(image, 100).size) <= 100 and min(fit_within(image, 100).size) == 1


def test_preparing_a_very_long_picture_does_not_resize_all_of_it(monkeypatch):
    sizes = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, size, *a, **k: sizes.append(size) or resize(self, size, *a, **k)
    )
    prepare(Image.new("RGB", (1, 10000)), InputSpec(224, 224))
    assert sizes == [(224, 224)]


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_truncated_is_refused_without_other_words(format, kept, recwarn):
    data = encoded(noise(64, 64), format)
    refusal(data[: int(len(data) * kept)])
    assert not recwarn, "Pillow's warnings are not for the user"


def test_a_broken_header_is_refused_without_other_words(recwarn):
    refusal(b"II*\0\x08\0\0\0\x05\0\0\x01\x03\0")  # a TIFF directory of five entries that ends in the first
    assert not recwarn


def test_damaged_is_refused():
    data = bytearray(encoded(noise(64, 64)))
    data[len(data) // 2] ^= 255
    assert "damaged" in refusal(bytes(data))


def test_empty_is_refused(tmp_path):
    path = tmp_path / "empty.png"
    path.touch()
    assert "empty" in refusal(path)
    assert "empty" in refusal(b"")


@pytest.mark.parametrize("content", [b"hello, world\n" * 20, b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS\n"])
def test_what_is_no_picture_is_refused_whatever_its_name(content, tmp_path):
    path = tmp_path / "note.png"
    path.write_bytes(content)
    message = refusal(path)
    assert "note.png" in message and "not a PNG" in message


@pytest.mark.parametrize("format", ["PPM", "ICO", "EPS", "PDF", "TGA"])
def test_formats_that_few_people_use_are_refused(format):
    assert "convert it" in refusal(encoded(noise(16, 16), format))


def test_missing_directory_and_impossible_paths_are_refused(tmp_path):
    assert "does not exist" in refusal(tmp_path / "nowhere.png")
    assert "folder" in refusal(tmp_path)
    assert "cannot be read" in refusal("nul\0.png")
    assert "cannot be read" in refusal("a" * 5000)


def test_a_file_of_too_many_bytes_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("lsd.images.MAX_BYTES", 2**20)
    path = tmp_path / "big.bmp"
    path.write_bytes(encoded(Image.new("RGB", (700, 700)), "BMP"))
    assert "1 MiB" in refusal(path)


def test_the_limit_of_pixels_is_inclusive():
    data = encoded(Image.new("RGB", (20, 10)))
    assert open_image(data, max_pixels=200).size == (20, 10)
    assert "20 × 10" in refusal(data, max_pixels=199)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_large_jpeg_is_decoded_reduced_and_upright(progressive):
    picture = noise(640, 400).resize((1280, 800))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture, "JPEG", quality=95, exif=exif, progressive=progressive)
    image = open_image(data, max_pixels=1280 * 800 // 4)
    assert image.size == (400, 640)
    expected = picture.resize((640, 400), Image.Resampling.BOX).transpose(Image.Transpose.ROTATE_270)
    assert np.abs(np.asarray(image, float) - np.asarray(expected, float)).mean() < 6
    assert open_image(data, max_pixels=1280 * 800 // 64).size == (100, 160)
    assert "1280 × 800" in refusal(data, max_pixels=1280 * 800 // 64 - 1)


def test_a_jpeg_too_large_to_be_reduced_is_refused(monkeypatch):
    monkeypatch.setattr("lsd.images.MAX_REDUCED", 199)
    assert "20 × 10" in refusal(encoded(Image.new("RGB", (20, 10)), "JPEG"), max_pixels=100)


def test_a_phones_photo_of_48_megapixels_is_taken():
    data = encoded(Image.new("L", (8064, 6048), 90), "JPEG")
    image = open_image(data)
    assert image.size == (4032, 3024) and image.getpixel((5, 5)) == (90, 90, 90)


def test_heic_is_named():
    assert "HEIC" in refusal(b"\0\0\0\x18ftypheic" + bytes(60))
    assert "damaged" in refusal(encoded(noise(64, 64), "AVIF")[:200])


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (13000, 13000)).save(path, compress_level=9)
    assert path.stat().st_size < 30_000
    script = f"""
        import resource
        from lsd.errors import ImageError
        from lsd.images import open_image
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            open_image({str(path)!r})
        except ImageError as error:
            print(error)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    message, growth = done.stdout.splitlines()
    assert "24 megapixels" in message
    assert int(growth) < 10, "MiB; decoded it takes 160"
    assert done.stderr == "", "Pillow's warning is not for the user"


def test_a_bomb_beyond_pillows_own_limit_is_refused():
    data = encoded(Image.new("L", (1, 1)))
    header = b"IHDR" + struct.pack(">II", 100_000, 100_000) + data[24:29]
    assert "too many pixels" in refusal(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])


def test_no_global_state_of_pillow_or_warnings_is_changed():
    open_image(encoded(noise(4, 4)))  # from here on warnings have a filter, which does nothing while none is opened
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    open_image(encoded(noise(4, 4)))
    assert limit == Image.MAX_IMAGE_PIXELS and warnings.filters == filters


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0"])
)
def test_any_bytes_are_read_or_refused(data, magic):
    with contextlib.suppress(ImageError):
        assert open_image(magic + data).mode == "RGB"


# --- geometry ---------------------------------------------------------------------------------------------------------

# Every combination of these occurs among timm's pretrained models, or is one that `create_transform` accepts.
SPECS = [
    dict(input_size=(3, 224, 224), crop_pct=0.875, crop_mode="center", interpolation="bicubic"),
    dict(input_size=(3, 224, 224), crop_pct=0.9, crop_mode="center", interpolation="bilinear"),
    dict(input_size=(3, 299, 299), crop_pct=0.875, crop_mode="center", interpolation="bicubic"),
    dict(input_size=(3, 224, 224), crop_pct=1.15, crop_mode="center", interpolation="bicubic"),
    dict(input_size=(3, 96, 160), crop_pct=0.95, crop_mode="center", interpolation="bicubic"),
    dict(input_size=(3, 192, 192), crop_pct=1.0, crop_mode="squash", interpolation="bicubic"),
    dict(input_size=(3, 128, 96), crop_pct=0.9, crop_mode="squash", interpolation="bilinear"),
    dict(input_size=(3, 224, 224), crop_pct=0.875, crop_mode="border", interpolation="bicubic"),
    dict(input_size=(3, 130, 97), crop_pct=1.0, crop_mode="border", interpolation="bicubic"),
    dict(input_size=(3, 64, 64), crop_pct=0.8, crop_mode="center", interpolation="nearest"),
]
SIZES = [(500, 333), (333, 500), (224, 224), (256, 256), (37, 19), (61, 401)]


@pytest.mark.parametrize("config", SPECS, ids=lambda c: "-".join(map(str, c.values())))
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_prepare_is_timms_evaluation_transform(config, size):
    from timm.data import create_transform, resolve_data_config

    config = resolve_data_config(config)
    image = noise(*size)
    expected = create_transform(**config, is_training=False, normalize=False)(image)  # uint8
    got = prepare(image, InputSpec.from_config(config))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected.numpy().astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("config", SPECS[:-1], ids=lambda c: "-".join(map(str, c.values())))
def test_prepare_resampling_only_the_crop_agrees_with_resampling_all(config, monkeypatch):
    spec = InputSpec.from_config(config | {"mean": (0.5, 0.4, 0.3)})
    image = noise(301, 203)
    whole = prepare(image, spec)
    monkeypatch.setattr("lsd.images.MAX_PIXELS", 0)
    difference = np.abs(prepare(image, spec) - whole) * 255
    assert difference.max() < 2.01 and (difference > 0.5).mean() < 0.05


@pytest.mark.parametrize(
    "spec",
    [
        InputSpec(224, 224, 0.875),
        InputSpec(96, 160, 0.9),
        InputSpec(128, 128, 0.9, "squash"),
        InputSpec(130, 97, 1.0, "border"),
        InputSpec(90, 90, 1.15),
    ],
)
@pytest.mark.parametrize("size", [(500, 333), (333, 500), (301, 301)])
def test_crop_box_is_where_the_model_looks(spec, size):
    """The picture's red is its own x and its green its own y: the input tells where each of its pixels came from."""
    width, height = size
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    coordinates = np.stack([x, y, np.ones_like(x)], axis=-1)
    seen = prepare(Image.fromarray(np.round(coordinates * 255).astype(np.uint8)), spec)
    left, top, right, bottom = crop_box(size, spec)
    expected_x = (left + (np.arange(spec.width) + 0.5) / spec.width * (right - left)) / width
    expected_y = (top + (np.arange(spec.height) + 0.5) / spec.height * (bottom - top)) / height
    inside_x, inside_y = ((e > 0.02) & (e < 0.98) for e in (expected_x, expected_y))
    middle_row, middle_column = spec.height // 2, spec.width // 2
    np.testing.assert_allclose(seen[0, middle_row, inside_x], expected_x[inside_x], atol=1 / 255)
    np.testing.assert_allclose(seen[1, inside_y, middle_column], expected_y[inside_y], atol=1 / 255)
    # Blue is 1 on the picture and 0 where the input is padded.
    np.testing.assert_array_equal(seen[2, middle_row] > 0, (expected_x > 0) & (expected_x < 1))
    np.testing.assert_array_equal(seen[2, :, middle_column] > 0, (expected_y > 0) & (expected_y < 1))


def test_crop_box_by_hand():
    # 400 × 200 becomes 512 × 256, of which the middle 224 × 224 is seen: 175 × 175 of the original.
    assert crop_box((400, 200), InputSpec(224, 224, 0.875)) == (112.5, 12.5, 287.5, 187.5)
    assert crop_box((400, 200), InputSpec(200, 200, 1.0, "border")) == (0, -100, 400, 300)
    assert crop_box((400, 200), InputSpec(224, 224, 1.0, "squash")) == (0, 0, 400, 200)


@pytest.mark.parametrize(
    "change",
    [dict(height=0), dict(width=0), dict(crop_pct=0), dict(crop_mode="middle"), dict(interpolation="random")],
    ids=str,
)
def test_a_bad_spec_is_refused(change):
    with pytest.raises(LSDError):
        InputSpec(**({"height": 8, "width": 8} | change))


def test_a_block_comes_back_where_it_was():
    map2d = np.zeros((4, 5), np.float32)
    map2d[1, 3] = 1
    box = (10.0, 20.0, 60.0, 80.0)  # cells of 10 × 15 pixels
    laid = lay_on(map2d, box, (90, 100))
    assert laid.shape == (100, 90) and laid.dtype == np.float32
    y, x = np.mgrid[:100, :90] + 0.5
    assert laid.max() == pytest.approx(1, abs=0.1)
    assert (laid * x).sum() / laid.sum() == pytest.approx(45, abs=1e-4)
    assert (laid * y).sum() / laid.sum() == pytest.approx(42.5, abs=1e-4)
    assert laid.sum() == pytest.approx(150, rel=1e-4)  # the area of its cell


@given(
    h=st.integers(3, 20),
    w=st.integers(3, 20),
    left=st.floats(-30, 30),
    top=st.floats(-30, 30),
    width=st.floats(25, 130),
    height=st.floats(25, 130),
)
def test_a_ramp_comes_back_as_the_same_ramp(h, w, left, top, width, height):
    """A map of coordinates, laid on the picture, gives at each pixel the pixel's own coordinate."""
    xs = left + (np.arange(w) + 0.5) * width / w
    ys = top + (np.arange(h) + 0.5) * height / h
    map2d = xs[None, :] + 2 * ys[:, None]
    laid = lay_on(map2d, (left, top, left + width, top + height), (70, 50))
    x, y = np.arange(70) + 0.5, np.arange(50) + 0.5
    # Inside of the outermost centres, where there is something to interpolate between.
    inner_x = (x > xs[0] + width / w) & (x < xs[-1] - width / w)
    inner_y = (y > ys[0] + height / h) & (y < ys[-1] - height / h)
    expected = x[None, :] + 2 * y[:, None]
    inner = np.ix_(inner_y, inner_x)
    # Where the map is finer than the picture, the tent's samples are not quite symmetric about a pixel.
    tolerance = 1e-3 if w <= width and h <= height else 1.5
    np.testing.assert_allclose(laid[inner], expected[inner], atol=tolerance)


def test_nothing_is_laid_outside_the_box():
    laid = lay_on(np.ones((3, 3)), (2.5, -4.0, 6.5, 3.0), (8, 5))
    expected = np.zeros((5, 8))
    expected[:3, 2:6] = 1
    np.testing.assert_allclose(laid, expected, atol=1e-6)


def test_a_map_finer_than_the_picture_is_averaged():
    checkers = np.indices((64, 64)).sum(0) % 2.0
    np.testing.assert_allclose(lay_on(checkers, (0, 0, 8, 8), (8, 8)), 0.5, atol=0.01)


@pytest.mark.parametrize("size", [(224, 224), (10, 31), (3, 4), (7, 7)])
def test_resample_is_torchs_bilinear(size):
    import torch

    maps = np.random.default_rng(0).normal(size=(2, 7, 9))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(maps)[:, None], size=size, mode="bilinear", align_corners=False, antialias=True
    )[:, 0]
    np.testing.assert_allclose(resample(maps, size), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(56, 56), (20, 33), (7, 30)])
@pytest.mark.parametrize("how", ["nearest", "bicubic"])
def test_enlarging_is_torchs(size, how):
    import torch

    maps = np.random.default_rng(0).normal(size=(2, 7, 9)).astype(np.float32)
    kind = {"mode": "nearest-exact"} if how == "nearest" else {"mode": how, "align_corners": False}
    expected = torch.nn.functional.interpolate(torch.from_numpy(maps)[None], size, **kind)[0].numpy()
    np.testing.assert_allclose(resample(maps, size, how), expected, atol=1e-5)


@pytest.mark.parametrize("how", ENLARGING)
def test_what_is_shrunk_is_averaged_however_it_would_be_enlarged(how):
    maps = np.random.default_rng(0).normal(size=(1, 40, 40)).astype(np.float32)
    assert np.array_equal(resample(maps, (10, 8), how), resample(maps, (10, 8)))


def test_prepare_and_lay_on_are_inverse():
    """What the model sees at a place comes back to that place."""
    image = Image.new("RGB", (320, 200))
    image.paste(WHITE, (180, 120, 190, 130))
    for spec in (InputSpec(224, 224), InputSpec(96, 160, 0.9, "squash"), InputSpec(128, 128, 1.0, "border")):
        laid = lay_on(prepare(image, spec)[0], crop_box(image.size, spec), image.size)
        y, x = np.mgrid[:200, :320] + 0.5
        assert (laid * x).sum() / laid.sum() == pytest.approx(185, abs=0.1)
        assert (laid * y).sum() / laid.sum() == pytest.approx(125, abs=0.1)


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_fit_within_keeps_the_shape_and_never_enlarges():
    assert fit_within(noise(400, 200), 100).size == (100, 50)
    small = noise(40, 20)
    assert fit_within(small, 100) is small


def test_file_sha256(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert file_sha256(path) == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(ImageError):
        file_sha256(tmp_path / "nowhere")


def test_examples_are_there_and_open():
    examples = example_images()
    assert len(examples) >= 4
    for path in examples.values():
        assert min(open_image(path).size) >= 200


def test_an_example_is_called_by_its_name():
    assert picture_path("example:Grass") == example_images()["Grass"] and picture_path("a/b.png") == Path("a/b.png")
    assert open_image("example:Summer Palace").size == (640, 427)
    with pytest.raises(ImageError, match="no example “nothing”: choose one of Chelsea the cat"):
        open_image("example:nothing")


def test_photos_that_ask_for_it_have_a_credit():
    """Those of scikit-learn are CC BY; those of scikit-image ask for nothing."""
    asked = {label for label, path in example_images().items() if "sklearn" in path.parts}
    assert asked == set(CREDITS)


def test_importing_needs_no_torch():
    imports = "import sys, lsd.images, lsd.render, lsd.saliency.maps"
    script = f"{imports}; print({{'torch', 'matplotlib', 'scipy'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
