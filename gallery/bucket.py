"""A gallery in a bucket, looked at where it lies: its index is fetched, and of its shards the parts that are asked for."""

import io
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

import fsspec

from gallery.index import NAME, covered
from gallery.queries import Gallery
from gallery.shards import ShardError
from lsd.errors import LSDError

_WHOLE = 2**20  # bytes up to which a file is fetched as a whole: one answer in place of several


class Ranges(io.RawIOBase):
    """A file in a bucket, open for reading: every read is a request for just these bytes.

    Args:
        fetch: the bytes from a place to another. Whatever it raises becomes a ShardError.
        nbytes: of the file.
        name: what it is called in errors.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], nbytes: int, name: str):
        self._fetch, self.nbytes, self._name = fetch, nbytes, name
        self._at, self._all = 0, b""

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.nbytes}[whence]
        return self._at

    def tell(self) -> int:
        """As of any file."""
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes, or all that are left."""
        end = self.nbytes if size is None or size < 0 else min(self._at + size, self.nbytes)
        begin, self._at = self._at, max(end, self._at)
        if end <= begin:
            return b""
        if self.nbytes > _WHOLE:
            return self._ask(begin, end)
        self._all = self._all or self._ask(0, self.nbytes)
        return self._all[begin:end]

    def _ask(self, begin: int, end: int) -> bytes:
        try:
            data = self._fetch(begin, end)
        except Exception as error:  # whatever a bucket's client raises
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ShardError(f"{self._name} cannot be read ({reason.rstrip('.')}); is the bucket in reach?") from error
        if len(data) != end - begin:
            raise ShardError(f"{self._name} has changed since its index was made; make the index again.")
        return data


def index_stamp(url: str) -> str:
    """What differs between two indexes of the gallery at a URL; "" where there is none, or it is out of reach."""
    try:
        fs, root = fsspec.core.url_to_fs(url)
        fs.invalidate_cache(root)
        return fs.ukey(f"{root}/{NAME}")
    except Exception:  # whatever a bucket's client raises
        return ""


def open_bucket(url: str) -> Gallery:
    """The gallery at a URL that fsspec knows (`s3://bucket/folder`), as `python -m precompute compact` leaves it there.

    Raises:
        LSDError: it cannot be read, or has no index.
    """
    scratch = tempfile.TemporaryDirectory(prefix="lsd-gallery-")
    index = Path(scratch.name) / NAME
    try:
        fs, root = fsspec.core.url_to_fs(url)
        fs.get_file(f"{root}/{NAME}", str(index))
    except FileNotFoundError as error:
        raise LSDError(f"The gallery at {url} has no index: python -m precompute compact {url} makes it.") from error
    except Exception as error:  # whatever a bucket's client raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise LSDError(f"The gallery at {url} cannot be read ({reason.rstrip('.')}).") from error
    sizes = covered(index) or {}

    def locate(shard: str) -> Ranges:
        if shard not in sizes:
            raise ShardError(f"The gallery's file {shard} is not among its own; make the index again.")
        path = f"{root}/{shard}"
        return Ranges(lambda begin, end: fs.cat_file(path, start=begin, end=end), sizes[shard], f"{shard} in {url}")

    try:
        gallery = Gallery(scratch.name, locate, f"The bucket {url}.")
    except LSDError as error:
        said = str(error).replace(f"make it again: python -m gallery index {scratch.name}", "make it again")
        raise LSDError(
            f"{said.replace(str(index), f'{url}/{NAME}')} python -m precompute compact {url} does."
        ) from error
    weakref.finalize(gallery, scratch.cleanup)
    return gallery
