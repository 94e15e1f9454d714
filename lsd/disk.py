"""Room on disk for what is downloaded: a budget, and who goes when it is spent.

    LSD_CACHE_BYTES     bytes for what is kept of downloads; 0 for no limit. By default a public page has half of the disk, and
                        everybody else no limit: his Hugging Face cache is his own, and nothing in it is deleted

What was not used for longest goes first; what is in use stays.
"""

import contextlib
import errno
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakSet

from lsd.account import readable
from lsd.environment import number
from lsd.errors import LSDError
from lsd.public import is_public

SPARE = 256 * 2**20  # bytes that stay free, for temporary files
_SHARE = 0.5  # of the disk, for a public page
_FRESH = 60.0  # seconds in which a file that was asked for is about to be read


class DiskLimitError(LSDError):
    """What is to be downloaded does not fit on the disk, or in the part of it that is for downloads."""


@dataclass(frozen=True)
class Kept:
    """Something that was downloaded.

    Attributes:
        path: of a file, or of a folder that goes as a whole.
        pointers: links to it, which go with it.
        nbytes: that are free once it is gone.
        used: when it was asked for, in seconds since 1970.
    """

    path: Path
    pointers: tuple[Path, ...]
    nbytes: int
    used: float


_lock = threading.RLock()
_promised = 0
_holders: dict[Path, WeakSet] = {}


def hub_cache() -> Path:
    """Where the Hub's client keeps files."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def budget() -> int | None:
    """Bytes for what is kept of downloads; None for no limit."""
    asked = number("LSD_CACHE_BYTES")
    if asked is not None:
        return int(asked) or None
    return int(_SHARE * shutil.disk_usage(_there(hub_cache())).total) if is_public() else None


def hold(path: Path, holder: object) -> None:
    """Keep what lies at `path` for as long as `holder` is there, and note that it was asked for."""
    with _lock:
        _holders.setdefault(path.resolve(), WeakSet()).add(holder)
    touch(path)


def touch(path: Path) -> None:
    """Note that what lies at `path` was asked for: the system itself often does not."""
    with contextlib.suppress(OSError):  # not ours, or gone
        os.utime(path, (time.time(), path.stat().st_mtime))


@contextlib.contextmanager
def room(nbytes: int, what: str) -> Iterator[None]:
    """Have room for a download of so many bytes within the block.

    Args:
        what: is downloaded, as a sentence begins.

    Raises:
        DiskLimitError: it does not fit, or not beside what is in use.
    """
    global _promised
    with _lock:
        _make_room(nbytes, what)
        _promised += nbytes
    try:
        yield
    except Exception as error:
        if is_full(error):
            raise DiskLimitError(f"{what} could not be downloaded: the disk is full here.") from error
        raise
    finally:
        with _lock:
            _promised -= nbytes


def _make_room(nbytes: int, what: str) -> None:
    limit = budget()
    if limit is not None and nbytes > limit:
        raise DiskLimitError(
            f"{what} takes {readable(nbytes)}, and at most {readable(limit)} are kept of downloads here (LSD_CACHE_BYTES)."
        )
    if limit is not None:
        found = kept()
        over = sum(one.nbytes for one in found) + _promised + nbytes - limit
        missing = max(over, nbytes + _promised + SPARE - _free())
        for one in sorted(found, key=lambda one: one.used):
            if missing <= 0:
                break
            if not _is_in_use(one):
                _delete(one)
                missing -= one.nbytes
        if missing > 0 and over > 0:
            raise DiskLimitError(f"{what} takes {readable(nbytes)}, which is in use by others; please try again later.")
    free = _free() - _promised - SPARE
    if nbytes > free:
        raise DiskLimitError(
            f"{what} takes {readable(nbytes)}, and {readable(max(free, 0))} are free on the disk here."
        )


def kept() -> list[Kept]:
    """All that is kept of downloads: the Hub's files, and the tables that data sets were made into."""
    return [*_files(), *_tables()]


def _files() -> Iterator[Kept]:
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repositories = scan_cache_dir(hub_cache()).repos
    except CacheNotFound:
        return
    for part in hub_cache().glob("*/blobs/*.incomplete"):  # of a download that was cut, or is under way
        with contextlib.suppress(OSError):
            yield Kept(part, (), part.stat().st_size, part.stat().st_mtime)
    for repository in repositories:
        pointers: dict[Path, list[Path]] = {}
        for file in (file for revision in repository.revisions for file in revision.files):
            pointers.setdefault(file.blob_path, []).append(file.file_path)
        for blob, links in pointers.items():
            with contextlib.suppress(OSError):
                state = blob.stat()
                yield Kept(blob, tuple(links), state.st_size, max(state.st_atime, state.st_mtime))


def _tables() -> Iterator[Kept]:
    home = os.environ.get("HF_DATASETS_CACHE") or hub_cache().parent / "datasets"
    for folder in Path(home).glob("*___*"):
        with contextlib.suppress(OSError):
            states = [file.stat() for file in folder.rglob("*") if file.is_file()]
            used = max((max(state.st_atime, state.st_mtime) for state in states), default=0.0)
            yield Kept(folder, (), sum(state.st_size for state in states), used)


def _is_in_use(one: Kept) -> bool:
    place = one.path.resolve()
    held = any(holders and path.is_relative_to(place) for path, holders in _holders.items())
    return held or time.time() - one.used < _FRESH


def _delete(one: Kept) -> None:
    for pointer in one.pointers:
        pointer.unlink(missing_ok=True)
    if one.path.is_dir():
        shutil.rmtree(one.path, ignore_errors=True)
    else:
        one.path.unlink(missing_ok=True)


def _free() -> int:
    return shutil.disk_usage(_there(hub_cache())).free


def _there(folder: Path) -> Path:
    """The innermost folder of a path that is there already."""
    return next(one for one in (folder, *folder.parents) if one.is_dir())


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False
