"""Files of a run, on a disk or in a bucket: each is there whole or not at all.

A file is written under a temporary name, forced onto the disk, read again and compared, and only then takes its own
name. Whatever kills the process in between leaves a temporary file, which readers pass over and the next run removes. A
bucket itself takes a file whole or not at all, with a checksum of what was sent: there one request writes it.

What a disk or a bucket says is passing (too many requests, no answer, a connection that was dropped) is tried again a few
times, with longer and longer pauses. All that is done here can be done twice.
"""

import errno
import hashlib
import os
import random
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from lsd.errors import LSDError
from lsd.faults import is_network

Found = TypeVar("Found")
Item = TypeVar("Item")

_PAUSES = (0.5, 2.0, 6.0)  # seconds between tries, about
_PASSING = tuple(
    getattr(errno, name) for name in ("EAGAIN", "EBUSY", "EINTR", "EIO", "ESTALE", "ENOLCK") if hasattr(errno, name)
)
# What a bucket's client says of a key, a right or its own use, in whatever type of exception.
_LASTING = (
    "AccessDenied",
    "NoSuchBucket",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "Credentials",
    "ExpiredToken",
)
_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss", "tos", "memory"})
AT_ONCE = 16  # requests to a bucket
_STALE = 24 * 3600  # seconds after which a temporary file of another machine belongs to nobody


class StorageError(LSDError):
    """The run's folder cannot be written to or read from; whatever is there stays as it is."""


class BusyError(StorageError):
    """The folder could not be used several times in a row, for a reason that passes."""


class Storage:
    """The folder of a run: a path, or any URL that fsspec knows (`s3://bucket/folder`, `memory://folder`)."""

    def __init__(self, url: str):
        try:
            # Other runs write here, too: what a folder held a minute ago is no news.
            self._fs, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False, **_settings(url))
        except (ValueError, ImportError) as error:
            raise StorageError(f"{url} cannot be opened: {error}.") from error
        self.local = isinstance(self._fs, LocalFileSystem)
        protocols = {self._fs.protocol} if isinstance(self._fs.protocol, str) else {*self._fs.protocol}
        self.bucket = bool(protocols & _BUCKETS)
        self.url = self._root if self.local else url  # the same folder for every worker, wherever it is started

    @property
    def folder(self) -> Path:
        """The path of a folder on a disk.

        Raises:
            StorageError: it is in a bucket.
        """
        if not self.local:
            raise StorageError(f"{self.url} is not a folder of this machine; copy it here first.")
        return Path(self._root)

    def put(self, path: str, data: bytes, check: Callable[[bytes], None] = lambda data: None) -> None:
        """Write a file, whole or not at all, in place of any that is there.

        Args:
            check: is given what was read back from the disk, and raises if that will not do; of a bucket, what is sent there.

        Raises:
            StorageError: no room, no rights, or other bytes than were written.
        """
        self._ask(lambda: self._put(path, data, check))

    def _put(self, path: str, data: bytes, check: Callable[[bytes], None]) -> None:
        target = self._at(path)
        if self.bucket:
            check(data)
            self._fs.pipe_file(target, data)
            return
        parent, name = target.rpartition("/")[::2]
        temporary = f"{parent}/.{name}.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            self._fs.makedirs(parent, exist_ok=True)
            self._write(temporary, data)
            stored = self._fs.cat_file(temporary)
            if stored != data:
                raise StorageError(f"{path} came back from {self.url} with other bytes than were written.")
            check(stored)
            if self.local:
                os.replace(temporary, target)
                _sync_folder(parent)
            else:
                self._fs.mv(temporary, target)
        finally:
            self._forget(temporary)

    def _write(self, path: str, data: bytes) -> None:
        if not self.local:
            self._fs.pipe_file(path, data)
            return
        with open(path, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _forget(self, temporary: str) -> None:
        try:
            if self._fs.exists(temporary):
                self._fs.rm_file(temporary)
        except Exception:  # whatever its client raises; the next run's `clean` has another go
            pass

    def get(self, path: str) -> bytes | None:
        """A file's bytes; None if it is not there."""
        return self._ask(lambda: self._fs.cat_file(self._at(path)), None)

    def part(self, path: str, begin: int, end: int) -> bytes:
        """The bytes of a file from a place to another."""
        return self._ask(lambda: self._fs.cat_file(self._at(path), start=begin, end=end))

    def get_all(self, paths: Sequence[str]) -> dict[str, bytes]:
        """The bytes of many small files that are there, by path: of a bucket's, many at once."""
        found = zip(paths, self.each(self.get, paths), strict=True)
        return {path: data for path, data in found if data is not None}

    def each(self, action: Callable[[Item], Found], items: Iterable[Item], at_once: int = AT_ONCE) -> Iterator[Found]:
        """What `action` returns for each item, in order; a bucket is asked for several at once, and as many again ahead."""
        if not self.bucket:
            yield from map(action, items)
            return
        waiting: deque[Future[Found]] = deque()
        with ThreadPoolExecutor(at_once, "storage") as pool:
            try:
                for item in items:
                    waiting.append(pool.submit(action, item))
                    if len(waiting) >= 2 * at_once:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def size(self, path: str) -> int | None:
        """A file's bytes in number; None if it is not there."""
        return self._ask(lambda: self._fs.info(self._at(path))["size"], None)

    def sizes(self, folder: str) -> dict[str, int]:
        """The bytes in number of all files below a folder, by path, in one listing; temporary files never count."""
        found = self._ask(lambda: self._fs.find(self._at(folder), withdirs=False, detail=True), {})
        root = self._fs._strip_protocol(self._root)
        below = {PurePosixPath(name).relative_to(root): info["size"] for name, info in found.items()}
        return {str(path): size for path, size in below.items() if not any(p.startswith(".") for p in path.parts)}

    def names(self, folder: str, suffix: str) -> list[str]:
        """Paths of the files in a folder below this one that end so, sorted; temporary files never count."""
        found = [
            PurePosixPath(path).name for path in self._ask(lambda: self._fs.ls(self._at(folder), detail=False), [])
        ]
        return sorted(f"{folder}/{name}" for name in found if name.endswith(suffix) and not name.startswith("."))

    def delete(self, path: str) -> None:
        """Remove a file, if it is there."""
        self._ask(lambda: self._fs.rm_file(self._at(path)), None)

    def clean(self) -> int:
        """Remove temporary files whose process is dead; how many. For the beginning and the end of a run.

        A bucket has none.
        """
        if self.bucket:
            return 0
        removed = 0
        found = self._ask(lambda: self._fs.find(self._root, withdirs=False, detail=True), {})
        for info in found.values():
            name = PurePosixPath(info["name"]).name
            if name.startswith(".") and name.endswith(".tmp") and self._abandoned(name, info):
                self._forget(info["name"])
                removed += 1
        return removed

    def _abandoned(self, name: str, info: dict) -> bool:
        *_, process, _, _ = name.split(".")
        host = socket.gethostname()
        if process.isdecimal() and f".{host}.{process}." in name:
            return int(process) == os.getpid() or not _alive(int(process))  # nothing of ours is under way
        modified = info.get("mtime") or info.get("created") or 0
        modified = modified.timestamp() if hasattr(modified, "timestamp") else float(modified)
        return time.time() - modified > _STALE

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _ask(self, action: Callable[[], Found], *missing: Found) -> Found:
        """What `action` returns, or `missing`, if that is given and there is no such file; tried again while that may help.

        What a disk or a bucket's client raises becomes a `StorageError` with a sentence.
        """
        for pause in (*_PAUSES, None):
            try:
                return action()
            except LSDError:
                raise
            except Exception as error:
                if missing and isinstance(error, FileNotFoundError):
                    return missing[0]
                if self.local and not isinstance(error, OSError):
                    raise  # a defect of the program
                passing = self._passes(error)
                if not passing or pause is None:
                    raise self._told(error, BusyError if passing else StorageError) from error
            time.sleep(pause * random.uniform(0.75, 1.25))  # many workers do not come back all at once
        raise AssertionError

    def _passes(self, error: Exception) -> bool:
        text = f"{type(error).__name__} {error}"
        if _is_full(error) or any(word in text for word in _LASTING):
            return False
        if is_network(error) or getattr(error, "errno", None) in _PASSING:
            return True
        # Buckets' clients have types of their own for what they were answered; those of files are final.
        final = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
        return not self.local and not isinstance(error, (*final, ValueError, TypeError, NotImplementedError))

    def _told(self, error: Exception, kind: type[StorageError]) -> StorageError:
        if _is_full(error):
            sentence = f"There is no room left in {self.url}: make some"
        else:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
            sentence = f"{self.url} cannot be used ({reason.rstrip('.')}): mend that"
        return kind(f"{sentence}, and run the same command again to go on.")


def _settings(url: str) -> dict:
    """S3's client asks for a file's length and then for its parts, which may be of two versions, unless it asks for one thing
    at a time."""
    return {"max_concurrency": 1} if url.startswith(("s3://", "s3a://")) else {}


def _is_full(error: Exception) -> bool:
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(folder: str) -> None:
    """Force a new name onto the disk, where folders can be opened (not on Windows)."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256(data: bytes) -> str:
    """In hex."""
    return hashlib.sha256(data).hexdigest()
