"""Pictures: decoding files safely, cutting them as a timm model wants, and laying maps back on the original grid.

Sizes follow Pillow for pictures, `(width, height)`, and numpy for arrays, `(height, width)`. Coordinates are
continuous: pixel `i` covers `[i, i + 1)` and its centre is `i + 0.5`. Nothing here needs torch.
"""

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from lsd.errors import ImageError, LSDError
from lsd.process import quiet
from lsd.view import EVALUATED, View

MAX_PIXELS = 24_000_000
MAX_REDUCED = (
    64_000_000  # pixels of a JPEG, which is decoded at 1/2 to 1/8 where it has more than `MAX_PIXELS`: phones' photos
)
MAX_BYTES = 150 * 2**20  # 24 megapixels of three 16-bit channels are 137 MiB uncompressed

# What cameras, browsers and scanners write: well-worn parsers whose headers give the size before anything is decoded.
# Pillow knows dozens more that few people use, and every parser left out (EPS starts Ghostscript) is one less to trust.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

CROP_MODES = ("center", "squash", "border")
INTERPOLATIONS = {name.lower(): filter_ for name, filter_ in Image.Resampling.__members__.items()}

_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands of what iPhones write
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Label → (package whose wheel holds the photo, where). Each CC0 or in the public domain, by what scikit-image says of it, but for
# those with a credit, whose authors want to be named.
_EXAMPLES = {
    "Chelsea the cat": ("skimage", "data/chelsea.png"),
    "Summer Palace": ("sklearn", "datasets/images/china.jpg"),
    "Coffee cup": ("skimage", "data/coffee.png"),
    "Clock in motion": ("skimage", "data/clock_motion.png"),
    "Dahlia": ("sklearn", "datasets/images/flower.jpg"),
    "Astronaut": ("skimage", "data/astronaut.png"),
    "Grass": ("skimage", "data/grass.png"),
    "Retina of an eye": ("skimage", "data/retina.jpg"),
    "Rocket": ("skimage", "data/rocket.jpg"),
    "Cameraman": ("skimage", "data/camera.png"),
    "Surface of the Moon": ("skimage", "data/moon.png"),
    "Deep field of galaxies": ("skimage", "data/hubble_deep_field.jpg"),
}
CREDITS = {"Summer Palace": "danielbuechele, CC BY 2.0", "Dahlia": "vultilion, CC BY 2.0"}
"""Example photo → author and licence, where it asks to be told."""


def open_image(source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a picture, given as a path, as "example:NAME" or as the bytes of a file, to upright 8-bit RGB.

    The EXIF orientation is applied, transparency is laid on white, 16-bit samples are scaled to 8 bits, and of an
    animation the first frame is taken. The size is checked in the header, before any pixel is decoded. A JPEG of more than
    `max_pixels`, up to `MAX_REDUCED`, is decoded at half its size, a quarter or an eighth, so that the result fits.

    Raises `ImageError` when the file is missing, too large, damaged, or not a picture in one of `FORMATS`.
    """
    name = "the picture" if isinstance(source, bytes) else f"'{source}'"
    data = _read(source, name)
    try:
        image = _open_header(data)
    except UnidentifiedImageError:
        raise ImageError(f"{name} {_what_else(data)}.") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name} has far too many pixels: shrink it below {max_pixels / 1e6:g} megapixels.") from None
    except Exception as error:
        raise _damaged(name) from error
    with image:
        width, height = image.size
        _reduce(image, max_pixels)
        if image.width * image.height > max_pixels:
            raise ImageError(f"{name} has {width} × {height} pixels: shrink it below {max_pixels / 1e6:g} megapixels.")
        try:
            upright = _upright(_to_rgb(image, name), image)
            upright.info = {}  # comments and the like of any length, which would go into whatever is made of the picture
            return upright
        except ImageError:
            raise
        except Exception as error:
            # Pillow's parsers answer hostile bytes with nearly every built-in exception; all mean the same here.
            raise _damaged(name) from error


def _what_else(data: bytes) -> str:
    """What is said of a file that is none of `FORMATS`."""
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    if brand in _HEIC:
        return "is a HEIC picture, which cannot be read here: save it as JPEG (an iPhone does if asked for “most compatible”)"
    if brand == b"avif":
        return "is damaged or cut short: save or download it again"
    return "is not a PNG, JPEG, WebP, AVIF, GIF, BMP or TIFF picture: convert it to one"


def _reduce(image: Image.Image, max_pixels: int) -> None:
    """Have a JPEG that is too large decoded smaller, if it may be; libjpeg leaves out the finest frequencies."""
    pixels = image.width * image.height
    if image.format == "JPEG" and max_pixels < pixels <= MAX_REDUCED:
        factor = next((f for f in (2, 4, 8) if pixels <= max_pixels * f * f), 8)
        image.draft(None, (image.width // factor, image.height // factor))


def _damaged(name: str) -> ImageError:
    return ImageError(f"{name} is damaged or cut short: save or download it again.")


def _read(source: str | Path | bytes, name: str) -> bytes:
    """The bytes of the file; never holds more than `MAX_BYTES` and one."""
    path = source if isinstance(source, bytes) else picture_path(source)
    try:
        if isinstance(source, bytes):
            data = source
        else:
            with open(path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist: check the path.") from None
    except IsADirectoryError:
        raise ImageError(f"{name} is a folder: give the path of one picture.") from None
    except (OSError, ValueError) as error:  # no permission, name too long, a null byte in the name
        raise ImageError(f"{name} cannot be read: check its name and its permissions.") from error
    if len(data) > MAX_BYTES:
        raise ImageError(f"{name} is larger than {MAX_BYTES // 2**20} MiB: save a smaller copy.")
    if not data:
        raise ImageError(f"{name} is empty: choose another file.")
    return data


def _open_header(data: bytes) -> Image.Image:
    """Read the header only. Nothing is printed: what Pillow would warn of, a picture as large as that, is refused."""
    with quiet():
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        image.close()
        raise Image.DecompressionBombError
    return image


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Decode `image` in whatever mode it is stored and express it as 8-bit RGB on white."""
    image.load()
    if image.mode == "F":
        raise ImageError(f"{name} holds fractional samples, which define no white: save it with 8 or 16 bits.")
    if image.mode.startswith("I"):
        return _wide_grey_to_rgb(image, name)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _wide_grey_to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Scale grey samples of 0 to 65535 to 8 bits; Pillow's own conversion would clip them at 255."""
    values = np.asarray(image).astype(np.int32)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(f"{name} holds samples beyond 16 bits, which define no white: save it with 8 or 16 bits.")
    grey = ((values + 128) // 257).astype(np.uint8)
    grey[values == image.info.get("transparency", -1)] = 255
    return Image.fromarray(grey).convert("RGB")


def _upright(rgb: Image.Image, original: Image.Image) -> Image.Image:
    """Apply the orientation noted in the EXIF data of `original`; an unreadable note counts as none.

    `PIL.ImageOps.exif_transpose` also rewrites the EXIF data, which fails on the malformed tags some phones write.
    """
    try:
        orientation = original.getexif().get(_ORIENTATION_TAG)
    except Exception:
        orientation = None
    return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def fit_within(image: Image.Image, side: int) -> Image.Image:
    """Shrink `image` so that neither edge exceeds `side` pixels, keeping its shape; a smaller one is returned as is."""
    longest = max(image.size)
    if longest <= side:
        return image
    width, height = (max(1, round(edge * side / longest)) for edge in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def file_sha256(path: str | Path) -> str:
    """The SHA-256 digest of a file, as 64 hexadecimal digits. Raises `ImageError` when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(f"'{path}' cannot be read: check its name and its permissions.") from error


def find_images(folder: str | Path) -> list[Path]:
    """The files below `folder`, at any depth, whose names say that they are pictures in one of `FORMATS`; sorted."""
    suffixes = {f".{name.lower()}" for name in FORMATS} | {".jpg", ".tif"}
    return sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in suffixes)


def example_images() -> dict[str, Path]:
    """Photos that ship inside the wheels of scikit-image and scikit-learn, by a label to show; those that are there."""
    found = {label: _in_package(package, name) for label, (package, name) in _EXAMPLES.items()}
    return {label: path for label, path in found.items() if path and path.is_file()}


def picture_path(name: str | Path) -> Path:
    """The path that a user means: a path, or "example:" and the name of one of `example_images`.

    Raises:
        ImageError: there is no such example.
    """
    scheme, _, label = str(name).partition(":")
    if scheme != "example":
        return Path(name)
    examples = example_images()
    if label not in examples:
        raise ImageError(f"There is no example “{label}”: choose one of {', '.join(examples) or 'none, here'}.")
    return examples[label]


def _in_package(package: str, name: str) -> Path | None:
    spec = find_spec(package)  # found without importing it, which would be slow
    folders = (spec and spec.submodule_search_locations) or ()
    return next((Path(folder) / name for folder in folders), None)


@dataclass(frozen=True)
class InputSpec:
    """How a timm model wants its picture.

    height, width: size of the model's input, in pixels.
    crop_pct: the part of the resized picture's edge that the crop keeps, above 0; above 1 pads.
    crop_mode: "center" fits the shorter edge and cuts the longer, "squash" fits both and distorts, "border" fits the
        longer edge and pads the shorter.
    interpolation: one of `INTERPOLATIONS`.
    fill: RGB colour, 0 to 255, of input pixels that lie outside the picture.
    mean: RGB colour, 0 to 1, that the model's normalisation makes 0.

    Raises `LSDError` for a value outside these.
    """

    height: int
    width: int
    crop_pct: float = 0.875
    crop_mode: str = "center"
    interpolation: str = "bicubic"
    fill: tuple[float, float, float] = (0, 0, 0)
    mean: tuple[float, float, float] = (0, 0, 0)

    def __post_init__(self):
        if not (isinstance(self.height, int) and isinstance(self.width, int)):
            raise LSDError(f"an input of {self.width} × {self.height} pixels is not whole: give whole numbers.")
        if self.height < 1 or self.width < 1:
            raise LSDError(f"an input of {self.width} × {self.height} pixels is empty: give at least 1 × 1.")
        if self.height * self.width > MAX_PIXELS:
            raise LSDError(
                f"an input of {self.width} × {self.height} pixels is too large: at most {MAX_PIXELS / 1e6:g} megapixels."
            )
        if not 0 < self.crop_pct < math.inf:
            raise LSDError(f"crop_pct is {self.crop_pct}: give a number above 0.")
        if self.crop_mode not in CROP_MODES:
            raise LSDError(f"crop_mode '{self.crop_mode}' is unknown: choose one of {', '.join(CROP_MODES)}.")
        if self.interpolation not in INTERPOLATIONS:
            raise LSDError(
                f"interpolation '{self.interpolation}' is unknown: choose one of {', '.join(INTERPOLATIONS)}."
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "InputSpec":
        """From the dictionary that `timm.data.resolve_data_config` returns."""
        # timm pads with the mean colour in "border" mode and with black when "center" or "squash" must pad.
        bordered = config["crop_mode"] == "border"
        return cls(
            height=config["input_size"][-2],
            width=config["input_size"][-1],
            crop_pct=config["crop_pct"],
            crop_mode=config["crop_mode"],
            interpolation=config["interpolation"],
            fill=tuple(round(255 * v) for v in config["mean"]) if bordered else (0, 0, 0),
            mean=tuple(config["mean"]),
        )


def prepare(image: Image.Image, spec: InputSpec, view: View = EVALUATED) -> np.ndarray:
    """Bring an RGB picture to the model's input: float32 (3, height, width) in [0, 1], not yet normalised.

    As evaluated, equal to `timm.data.create_transform(..., is_training=False)` bit for bit, but for very long pictures.
    timm resizes the whole picture before it crops, which takes gigabytes for 1 × 10000 pixels; beyond `MAX_PIXELS` only
    the part that the model sees is resampled, which can differ by rounding (2/255 at most).

    Raises `LSDError` for a square that reaches beyond the picture.
    """
    cut, spec = _cut(image.size, spec, view)
    image = image if cut == (0, 0, *image.size) else image.crop(cut)
    resized = _resized_size(image.size, spec)
    left, top = (_crop_offset(edge, length) for edge, length in zip(resized, (spec.width, spec.height), strict=True))
    seen = (max(0, left), max(0, top), min(resized[0], left + spec.width), min(resized[1], top + spec.height))
    method = INTERPOLATIONS[spec.interpolation]
    if resized[0] * resized[1] <= MAX_PIXELS:
        part = image.resize(resized, method).crop(seen)
    else:
        scale = (image.width / resized[0], image.height / resized[1]) * 2
        box = tuple(edge * factor for edge, factor in zip(seen, scale, strict=True))
        part = image.resize((seen[2] - seen[0], seen[3] - seen[1]), method, box=box)
    prepared = np.empty((3, spec.height, spec.width), np.float32)
    prepared[:] = np.reshape(spec.fill, (3, 1, 1)) / 255
    pixels = np.asarray(part, np.float32).transpose(2, 0, 1) / np.float32(255)
    prepared[:, seen[1] - top : seen[3] - top, seen[0] - left : seen[2] - left] = pixels
    return prepared


def crop_box(size: tuple[int, int], spec: InputSpec, view: View = EVALUATED) -> tuple[float, float, float, float]:
    """The region of a (width, height) picture that the model sees: (left, top, right, bottom) in its pixels.

    It reaches outside the picture where `prepare` pads. Raises what `prepare` does.
    """
    cut, spec = _cut(size, spec, view)
    size = (cut[2] - cut[0], cut[3] - cut[1])
    resized = _resized_size(size, spec)
    left, top = _crop_offset(resized[0], spec.width), _crop_offset(resized[1], spec.height)
    return (
        cut[0] + left * size[0] / resized[0],
        cut[1] + top * size[1] / resized[1],
        cut[0] + (left + spec.width) * size[0] / resized[0],
        cut[1] + (top + spec.height) * size[1] / resized[1],
    )


def _cut(size: tuple[int, int], spec: InputSpec, view: View) -> tuple[tuple[int, int, int, int], InputSpec]:
    """The part of a picture that is cut out first, and how that part is then resized, cropped and padded."""
    if view == EVALUATED:
        return view.part(size), spec
    if view.what == "padded":
        # Not rounded to 8 bits, as timm's border is, so that normalisation makes it 0.
        spec = replace(spec, crop_mode="border", fill=tuple(255 * value for value in spec.mean))
    else:
        spec = replace(spec, crop_mode="squash")
    return view.part(size), replace(spec, crop_pct=1.0)


def _resized_size(size: tuple[int, int], spec: InputSpec) -> tuple[int, int]:
    """The (width, height) to which timm resizes a whole picture before it crops.

    Every rounding is that of `timm.data.transforms_factory.transforms_imagenet_eval` and of what it calls.
    """
    width, height = size
    target = (math.floor(spec.width / spec.crop_pct), math.floor(spec.height / spec.crop_pct))
    if spec.crop_mode == "squash":
        resized = target
    elif spec.crop_mode == "center" and target[0] == target[1]:
        short, long = min(size), max(size)
        long = int(target[0] * long / short)
        resized = (target[0], long) if width <= height else (long, target[0])
    else:
        ratios = (width / target[0], height / target[1])
        ratio = max(ratios) if spec.crop_mode == "border" else min(ratios)
        resized = (round(width / ratio), round(height / ratio))
    return max(1, resized[0]), max(1, resized[1])


def _crop_offset(edge: int, window: int) -> int:
    """Where a centred window starts on an edge, rounded as torchvision does; negative where it pads."""
    return round((edge - window) / 2) if edge > window else -((window - edge) // 2)


def lay_on(map2d: np.ndarray, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    """Resample a map (h, w) that covers `box` on the pixels of a (width, height) picture: float32 (height, width).

    Bilinear between pixel centres (half-pixel centres, no corner alignment), averaging where the map is finer than
    the picture, so nothing shifts. Pixels whose centre lies outside `box` are 0.
    """
    left, top, right, bottom = box
    rows = _axis_weights(map2d.shape[0], top, bottom, size[1])
    columns = _axis_weights(map2d.shape[1], left, right, size[0])
    return rows @ map2d.astype(np.float32) @ columns.T


ENLARGING = ("bilinear", "nearest", "bicubic")


def resample(maps: np.ndarray, size: tuple[int, int], how: str = "bilinear") -> np.ndarray:
    """Resize maps (N, h, w) to (N, height, width), `size` being (height, width).

    `how`, one of `ENLARGING`, says how an axis is enlarged; samples lie at the middles of equal parts, and the outermost
    go on beyond themselves, as in torch's `interpolate`. What is shrunk is averaged, as `lay_on` does it.
    """
    rows, columns = (_resizing(before, after, how) for before, after in zip(maps.shape[1:], size, strict=True))
    return rows @ maps @ columns.T


def _resizing(samples: int, length: int, how: str) -> np.ndarray:
    """Weights, float32 (length, samples)."""
    if how == "bilinear" or length <= samples:
        return _axis_weights(samples, 0, length, length)
    position = (np.arange(length) + 0.5) * samples / length - 0.5
    if how == "nearest":
        taps = [(np.floor(position + 0.5), np.ones(length))]
    else:
        first = np.floor(position)
        taps = [(first + k, _cubic(np.abs(position - first - k))) for k in (-1, 0, 1, 2)]
    weights = np.zeros((length, samples), dtype=np.float32)
    for place, weight in taps:
        np.add.at(weights, (np.arange(length), place.clip(0, samples - 1).astype(int)), weight)
    return weights


def _cubic(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Cubic convolution (Keys 1981) at distances in [0, 2] from a sample; `a` is torch's and OpenCV's."""
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    return np.where(distance <= 1, near, a * (distance**3 - 5 * distance**2 + 8 * distance - 4))


def _axis_weights(samples: int, start: float, stop: float, length: int) -> np.ndarray:
    """Weights, float32 (length, samples), of samples that divide [start, stop) evenly, at pixels 0 ... length - 1.

    A tent as wide as the coarser of the two grids, as in Pillow's resize and torch's `interpolate(antialias=True)`.
    """
    step = (stop - start) / samples
    position = (np.arange(length) + 0.5 - start) / step
    distance = np.abs(position[:, None] - (np.arange(samples) + 0.5))
    weights = np.maximum(0.0, 1.0 - distance * min(1.0, step))
    inside = (position >= 0) & (position < samples)
    weights[~inside] = 0.0
    weights[inside] /= weights[inside].sum(axis=1, keepdims=True)
    return weights.astype(np.float32)
