"""Files that call themselves pictures: a picture, or one sentence; quickly, and never more than was sent for."""

import io

import pytest
from PIL import Image

from benchmarks.hostile.pictures import files, photo, saved
from lsd.errors import ImageError
from lsd.images import MAX_PIXELS, open_image

FILES = [file for file in files() if len(file.content) < 2 * 2**20]
assert len(FILES) > 200


@pytest.mark.parametrize("kind", sorted({file.kind for file in FILES}))
def test_a_file_is_a_picture_or_a_sentence(kind):
    for file in (file for file in FILES if file.kind == kind):
        try:
            picture = open_image(file.content)
        except ImageError as error:
            assert not file.readable, f"{file.name}: {error}"
            assert "\n" not in str(error)
        else:
            assert file.readable in (True, None), file.name
            assert picture.mode == "RGB" and picture.width * picture.height <= MAX_PIXELS and not picture.info


def test_what_lies_beside_the_pixels_goes_into_nothing_that_is_made_of_them():
    """A comment as long as JPEG allows does not fit into the encoder's buffer with what it writes itself."""
    jpeg = saved(photo(), "JPEG")
    picture = open_image(jpeg[:2] + (b"\xff\xfe\xff\xff" + bytes(65533)) * 3 + jpeg[2:])
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG")
    assert Image.open(buffer).info.get("comment") is None
