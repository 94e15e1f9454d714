"""What a caller may give in place of a model and a picture, and how a picture is shown to him."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from lsd import images
from lsd.errors import ImageError, ModelError
from lsd.models import ImageModel, get_model
from lsd.provenance import png

PictureLike = Image.Image | np.ndarray | str | Path | bytes


def open_image(source: str | Path | bytes) -> Image.Image:
    """Decode a picture to upright 8-bit RGB, of at most 24 megapixels; larger JPEGs are decoded reduced.

    Args:
        source: a path, "example:NAME" of one that ships with scikit-image or scikit-learn ("example:Chelsea the cat"), or the
            bytes of a file.

    Raises:
        ImageError: missing, too large, damaged, or no PNG, JPEG, WebP, AVIF, GIF, BMP or TIFF.
    """
    return images.open_image(source)


def as_model(model: object) -> ImageModel:
    """Such a model, or the one of that name. Raises ModelError."""
    if isinstance(model, ImageModel):
        return model
    if isinstance(model, str):
        return get_model(model)
    if isinstance(model, nn.Module):
        raise ModelError(
            f"{type(model).__name__} is a network as torch has it: give lsd.wrap(net), which says what it takes."
        )
    raise ModelError(f"A model is a name, or what lsd.load_model or lsd.wrap gives, and no {type(model).__name__}.")


def as_picture(source: PictureLike) -> tuple[Image.Image, Path | None]:
    """An upright RGB picture, and the file it is from, if it is from one. Raises ImageError."""
    if isinstance(source, str | Path):
        path = images.picture_path(source)
        return images.open_image(path), path
    if isinstance(source, bytes):
        return images.open_image(source), None
    if isinstance(source, Image.Image):
        return images.open_image(png(source)) if source.mode != "RGB" else source.copy(), None
    if isinstance(source, np.ndarray):
        return Image.fromarray(_pixels(source)), None
    raise ImageError(f"A picture is a path, a Pillow image, an array or a tensor, and no {type(source).__name__}.")


def _pixels(array: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) of such an array, of one of grey, or of floats in [0, 1]."""
    pixels = np.repeat(array[..., None], 3, 2) if array.ndim == 2 else array
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(f"An array of a picture has the shape (height, width, 3), and this one {array.shape}.")
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if not np.issubdtype(pixels.dtype, np.floating) or not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ImageError(
            f"An array of a picture is uint8, or floats from 0 to 1; this one is {pixels.dtype}, from {pixels.min():.3g} to "
            f"{pixels.max():.3g}."
        )
    return np.round(pixels * 255).astype(np.uint8)


def show(image: Image.Image) -> None:
    """In a notebook's cell, else in the system's picture viewer."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        image.show()
        return
    if get_ipython():
        display(image)
    else:
        image.show()
