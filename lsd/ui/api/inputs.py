"""What programs send: a picture as a text, and the name of a network with what is said of it."""

import base64
import hashlib
from collections.abc import Sequence

from PIL import Image

from lsd.errors import ImageError, LSDError
from lsd.images import open_image
from lsd.layers import as_said
from lsd.models import ImageModel, get_model
from lsd.reasons.region import Box, region_of
from lsd.said import Said
from lsd.ui.shared.examples import examples
from lsd.ui.shared.jobs import about, aside
from lsd.ui.shared.reasoned import MAX_OFF, Account

_MAX_CHARACTERS = 32 * 2**20  # of a picture in base64: 24 MB


def network(name: str, outputs: str, layouts: dict | None = None) -> ImageModel:
    """The network of that name. Raises LSDError for one that cannot be had, or for what cannot be said of it."""
    said = Said.from_dict({"outputs": outputs, "layouts": layouts})
    model = aside(get_model, name)
    about(model.name)
    return as_said(model, said)


def off(names: Sequence[str] | None, account: Account) -> list[str]:
    """What is to be switched off. Raises LSDError for more than `MAX_OFF`, or what is nothing that can be."""
    names = list(dict.fromkeys(names or ()))
    if len(names) > MAX_OFF:
        raise LSDError(f"At most {MAX_OFF} reasons can be off at once, and these are {len(names)}.")
    for name in names:
        if account.find(name) is None:
            raise LSDError(f"“{name[:60]}” is nothing that can be switched off in {account.reasons.layer}.")
    return names


def region(corners: Sequence[float] | None, off: Sequence[str] | None) -> Box | None:
    """The part of the picture in which something is off. Raises LSDError for none that is one, or where nothing is off."""
    if corners is None:
        return None
    found = region_of(corners)
    if found is None:
        raise LSDError(
            "A region is left, top, right and bottom, as parts of the picture from 0 to 1: [0.5, 0, 1, 0.4]."
        )
    if not off:
        raise LSDError("A region is where something is off; name in off what is.")
    return found


def picture(text: str) -> tuple[Image.Image, str]:
    """The picture, and the SHA-256 of its file. Raises LSDError for a text that is none."""
    if len(text) > _MAX_CHARACTERS:
        raise ImageError("The picture must be a text: base64 of at most 24 MB, or example:NAME.")
    if text.startswith("example:"):
        name = text.removeprefix("example:")
        if name not in examples():
            raise LSDError(f"There is no example “{name}”; choose one of {', '.join(examples())}.")
        data = examples()[name].read_bytes()
    else:
        try:
            data = base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
        except ValueError as error:  # binascii's own, and what is no ASCII
            raise ImageError("The picture is not valid base64; send the bytes of a PNG, JPEG or WebP file.") from error
    return open_image(data), hashlib.sha256(data).hexdigest()
