"""Files of a run, on a disk or in a bucket: each is there whole or not at all.

A file is written under a temporary name, forced onto the disk, read again and compared, and only then takes its own
name. Whatever kills the process in between leaves a temporary file, which readers pass over and the next run removes.
"""

import errno
import hashlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import fsspec
from fsspec.implementations.local import LocalFileSystem

from lsd.errors import LSDError

_STALE = 24 * 3600  # seconds after which a temporary file of another machine belongs to nobody


class StorageError(LSDError):
    """The run's folder cannot be written to or read from; whatever is there stays as it is."""


class Storage:
    """The folder of a run: a path, or any URL that fsspec knows (`s3://bucket/folder`, `memory://folder`)."""

    def __init__(self, url: str):
        try:
            # Other runs write here, too: what a folder held a minute ago is no news.
            self._fs, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise StorageError(f"{url} cannot be opened: {error}.") from error
        self.local = isinstance(self._fs, LocalFileSystem)
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
            check: is given what was read back from the storage, and raises if that will not do.

        Raises:
            StorageError: no room, no rights, or other bytes than were written.
        """
        target = self._at(path)
        parent, name = target.rpartition("/")[::2]
        temporary = f"{parent}/.{name}.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            with self._answering():
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
        except Exception:  # whatever a bucket's client raises; the next run's `clean` has another go
            pass

    def get(self, path: str) -> bytes | None:
        """A file's bytes; None if it is not there."""
        with self._answering():
            try:
                return self._fs.cat_file(self._at(path))
            except FileNotFoundError:
                return None

    def size(self, path: str) -> int | None:
        """A file's bytes in number; None if it is not there."""
        with self._answering():
            try:
                return self._fs.info(self._at(path))["size"]
            except FileNotFoundError:
                return None

    def names(self, folder: str, suffix: str) -> list[str]:
        """Paths of the files in a folder below this one that end so, sorted; temporary files never count."""
        with self._answering():
            try:
                found = [PurePosixPath(path).name for path in self._fs.ls(self._at(folder), detail=False)]
            except FileNotFoundError:
                return []
        return sorted(f"{folder}/{name}" for name in found if name.endswith(suffix) and not name.startswith("."))

    def clean(self) -> int:
        """Remove temporary files whose process is dead; how many. For the beginning and the end of a run."""
        removed = 0
        with self._answering():
            found = self._fs.find(self._root, withdirs=False, detail=True)
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
        modified = info.get("mtime") or info.get("LastModified") or info.get("created") or 0
        modified = modified.timestamp() if hasattr(modified, "timestamp") else float(modified)
        return time.time() - modified > _STALE

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Within the block, what a disk or a bucket's client raises becomes a `StorageError` with a sentence."""
        try:
            yield
        except LSDError:
            raise
        except Exception as error:
            if self.local and not isinstance(error, OSError):
                raise  # a defect of the program
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                sentence = f"There is no room left in {self.url}: make some"
            else:
                reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
                sentence = f"{self.url} cannot be used ({reason.rstrip('.')}): mend that"
            raise StorageError(f"{sentence}, and run the same command again to go on.") from error


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
