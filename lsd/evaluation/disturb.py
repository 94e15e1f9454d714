"""Small changes under which a picture should still be what it was: does it hang on single pixels?"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

_GREY = (128, 128, 128)


def disturbed(pixels: Sequence[np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Pictures, uint8 (H, W, 3), → what was done → the pictures thereafter, of the same size.

    JPEG at quality 75, a shift of 5 pixels down and to the right, a turn by 10°, and a reduction to .8 of the size in the
    middle of grey; what is uncovered is grey.
    """
    images = [Image.fromarray(p) for p in pixels]
    changes = {"JPEG 75": _jpeg, "5 pixels": _shifted, "10°": _turned, "× 0.8": _reduced}
    return {name: [np.array(change(image)) for image in images] for name, change in changes.items()}


def _jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=75)
    return Image.open(file).convert("RGB")


def _shifted(image: Image.Image) -> Image.Image:
    made = Image.new("RGB", image.size, _GREY)
    made.paste(image, (5, 5))
    return made


def _turned(image: Image.Image) -> Image.Image:
    return image.rotate(10, Image.Resampling.BILINEAR, fillcolor=_GREY)


def _reduced(image: Image.Image) -> Image.Image:
    width, height = round(image.width * 0.8), round(image.height * 0.8)
    made = Image.new("RGB", image.size, _GREY)
    small = image.resize((width, height), Image.Resampling.BICUBIC)
    made.paste(small, ((image.width - width) // 2, (image.height - height) // 2))
    return made
