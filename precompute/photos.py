"""A run's photos: which they are, by their contents, whatever folder they lie in and whatever they are called there."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsd.errors import LSDError
from lsd.images import file_sha256, find_images


@dataclass(frozen=True)
class Photo:
    """A file.

    Attributes:
        file: its path below the folder, with slashes.
        digest: its SHA-256.
    """

    file: str
    digest: str


@dataclass(frozen=True)
class Photos:
    """The pictures below a folder, each content once.

    Attributes:
        folder: where they lie for whoever looks at them; it says nothing of what they are.
        digest: SHA-256 of their names and contents.
        crops: whether rows get copies of the parts of them that they name.
    """

    folder: str
    digest: str
    crops: bool = False

    @classmethod
    def of(cls, folder: str | Path, crops: bool = False) -> "Photos":
        """Those that are there now.

        Raises:
            LSDError: none, or one that cannot be read.
        """
        folder = Path(folder).expanduser().resolve()
        return cls(str(folder), _digest(_found(folder)), crops)

    def files(self) -> list[Photo]:
        """Of every one its path below the folder and its digest, sorted by path; of the same content the first.

        Raises:
            LSDError: there are others by now.
        """
        found = _found(Path(self.folder))
        if _digest(found) != self.digest:
            raise LSDError(f"The photos in {self.folder} are not those of the plan; plan the run again.")
        first: dict[str, Photo] = {}
        for photo in found:
            first.setdefault(photo.digest, photo)
        return list(first.values())

    def identity(self) -> dict[str, Any]:
        """What rows depend on, as plain JSON values."""
        return {"digest": self.digest, "crops": self.crops}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Photos":
        """The inverse of `vars`. Raises TypeError, KeyError or ValueError for what is none."""
        return cls(str(values["folder"]), str(values["digest"]), bool(values["crops"]))


def _found(folder: Path) -> list[Photo]:
    files = [path for path in find_images(folder) if path.is_file()]
    if not files:
        raise LSDError(f"There are no photos in {folder}; give a folder of pictures with --photos.")
    names = (path.relative_to(folder).as_posix() for path in files)
    # A name that is no text is kept as far as it is one, as rows hold texts.
    return [
        Photo(name.encode(errors="replace").decode(), file_sha256(path))
        for name, path in zip(names, files, strict=True)
    ]


def _digest(found: list[Photo]) -> str:
    return hashlib.sha256("".join(f"{photo.digest} {photo.file}\n" for photo in found).encode()).hexdigest()
