"""Pictures as WebP files: made, shrunk, and read again."""

import io

import numpy as np
from PIL import Image

from gallery.schema import THUMBNAIL
from lsd.errors import ImageError
from lsd.images import fit_within, open_image

QUALITY = 90  # at which pictures are kept, unless asked otherwise


def webp(pixels: np.ndarray, quality: int = QUALITY) -> bytes:
    """The WebP file of RGB pixels, uint8 (H, W, 3); the same pixels give the same bytes.

    Args:
        quality: 0 to 100; lossy even at 100.
    """
    return _webp(Image.fromarray(pixels, "RGB"), quality)


def thumbnail(pixels: np.ndarray) -> bytes:
    """The WebP file of RGB pixels, uint8 (H, W, 3), shrunk so that the longer side has `schema.THUMBNAIL` pixels.

    Every pixel counts in what it is shrunk to; a smaller picture keeps its size.
    """
    return _webp(fit_within(Image.fromarray(pixels, "RGB"), THUMBNAIL), 80)


def cut(image: Image.Image, box: tuple[int, int, int, int]) -> bytes:
    """The WebP file of a part of a picture (left, top, right, bottom), shrunk as `thumbnail`s are, to twice their size.

    Raises:
        ImageError: the part reaches beyond the picture.
    """
    if box[2] > image.width or box[3] > image.height:
        raise ImageError(f"The part {box} reaches beyond the picture, which has {image.width} × {image.height} pixels.")
    return _webp(fit_within(image.crop(box), 2 * THUMBNAIL), 80)


def pixels(data: bytes) -> np.ndarray:
    """The RGB pixels, uint8 (H, W, 3), of a WebP file.

    Raises:
        ImageError: it is damaged or no picture.
    """
    return np.array(open_image(data))


def _webp(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()
