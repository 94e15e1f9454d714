"""What pictures are held against: another picture, or a vector of somebody else's making, as an .npy file."""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from lsd.errors import ImageError, LSDError
from lsd.images import file_sha256, open_image, picture_path
from lsd.provenance import png

_NPY = b"\x93NUMPY"
_MAX_BYTES = 2**24  # of an .npy file: four million numbers


@dataclass(frozen=True)
class Reference:
    """A picture or a vector, told from others by its file's content.

    Attributes:
        sha256: of the file.
        content: an upright RGB picture, or a vector (D,), float64, finite and not zero.
        file, path: the file's name, and where it lay; "" where that is nobody's business.
    """

    sha256: str
    content: Image.Image | np.ndarray = field(compare=False)
    file: str = field(compare=False)
    path: str = field(default="", compare=False)

    @property
    def is_vector(self) -> bool:
        """Whether it is a vector, and no picture."""
        return isinstance(self.content, np.ndarray)

    def to_dict(self) -> dict:
        """As plain JSON values: which file it was, without its content."""
        return {"file": self.file, "sha256": self.sha256} | ({"path": self.path} if self.path else {})


def open_reference(source: str | Path) -> Reference:
    """Read a picture, given by its path or as "example:NAME", or an .npy file with a vector.

    Raises:
        LSDError: neither, or a vector that no picture can be compared with.
    """
    path = picture_path(source)
    try:
        with path.open("rb") as file:
            vector = file.read(len(_NPY)) == _NPY
    except OSError:
        vector = False  # said by who opens pictures
    content = _vector(path) if vector else open_image(path)
    return Reference(file_sha256(path), content, path.name, str(path))


def reference_of(picture: Image.Image) -> Reference:
    """A picture that is in no file."""
    data = png(picture)
    return Reference(hashlib.sha256(data).hexdigest(), picture, "picture.png")


def _vector(path: Path) -> np.ndarray:
    if path.stat().st_size > _MAX_BYTES:
        raise LSDError(f"'{path}' is larger than {_MAX_BYTES // 2**20} MiB: give the one vector that is meant.")
    try:
        values = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        vector = np.asarray(values, dtype=np.float64).squeeze()
    except (ValueError, TypeError, EOFError, OSError) as error:
        raise ImageError(f"'{path}' is damaged, or no array of numbers: save it again with numpy.save.") from error
    if vector.ndim != 1:
        raise LSDError(f"'{path}' holds an array of shape {values.shape}, and one vector is needed.")
    if not np.isfinite(vector).all() or not vector.any():
        raise LSDError(f"'{path}' holds a vector that points nowhere: all its numbers are 0, or some are not finite.")
    return vector
