"""Which gallery is shown: a folder, a data set on the Hugging Face Hub, or the sample that ships with the project.

LSD_GALLERY=/data/gallery                   a folder with `index.parquet` and the shards, or a bucket: s3://bucket/folder
LSD_GALLERY_REPO=user/name@REVISION         a data set on the Hub, pinned to a commit or a tag
"""

import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from gallery.bucket import index_stamp, open_bucket
from gallery.index import NAME
from gallery.queries import Gallery
from lsd import disk, hub
from lsd.errors import LSDError

SAMPLE = Path(__file__).with_name("sample")

_SHARD = 320 * 2**20  # bytes of a shard at the most, as `precompute` writes them: 256 MiB of pictures, and thumbnails
_BRANCHES = ("main", "master")  # what moves is no revision to pin to
_SOON = "It is tried again every minute."
_PAUSE = 60.0  # seconds between two tries for a gallery that could not be had


@dataclass(frozen=True)
class _Opened:
    """What is shown.

    Attributes:
        stamp: of its index.
        wanted: whether it is the one that was asked for; else that one is tried again.
        again: not before this time is it tried again, or looked whether a bucket's index is another by now.
        mark: of the bucket's index, before it was fetched; "" for all but buckets.
    """

    stamp: tuple[int, ...]
    gallery: Gallery
    wanted: bool
    again: float
    mark: str = ""


_lock = threading.Lock()
_current: _Opened | None = None


def open_gallery() -> Gallery:
    """The first gallery that can be had: `LSD_GALLERY`, then `LSD_GALLERY_REPO`, then the sample; else an empty one.

    Opened once in each process, and again when the folder has a new index: what a run adds is seen without a restart. A bucket is
    asked every minute while somebody looks. Where it is not the one that was asked for, that one is tried again as often. Nobody
    waits for either.
    Never fails: `Gallery.origin` tells where it is from, and why it is not from elsewhere.
    """
    global _current
    with _lock:  # two visitors who come first at the same moment share one
        stamp = _stamp()
        if _current is None or _current.stamp != stamp:
            _current = _opened(stamp)
        elif time.monotonic() >= _current.again:
            known = _current.mark if _current.wanted else ""
            _current = replace(_current, again=math.inf)  # while somebody is at it
            threading.Thread(target=_try_again, args=(known,), name="lsd-gallery", daemon=True).start()
        return _current.gallery


def _opened(stamp: tuple[int, ...]) -> _Opened:
    mark = _mark()
    gallery, wanted = _open()
    again = time.monotonic() + _PAUSE if mark or not wanted else math.inf
    return _Opened(stamp or _stamp(), gallery, wanted, again, mark)  # opening may have made an index


def _try_again(known: str) -> None:
    """Open the gallery anew, unless it is in a bucket whose index is the known one, or cannot be looked at."""
    global _current
    found = None
    try:
        if not known or _mark() not in ("", known):
            found = _opened(_stamp())
    finally:  # whatever it was, the next minute is another try
        with _lock:
            wanted = found is not None and found.wanted
            _current = found if wanted else replace(_current, again=time.monotonic() + _PAUSE)


def _stamp() -> tuple[int, ...]:
    """What differs between two indexes of the folder; () where there is none."""
    try:
        found = Path(os.environ["LSD_GALLERY"]).expanduser().joinpath(NAME).stat()
    except (KeyError, OSError):
        return ()
    return found.st_mtime_ns, found.st_size


def _mark() -> str:
    """The same of a bucket; "" where the gallery is in none."""
    url = os.environ.get("LSD_GALLERY", "")
    return index_stamp(url) if "://" in url else ""


def _open() -> tuple[Gallery, bool]:
    """The first that can be had, and whether it is the first that was asked for."""
    sources: list[Callable[[], Gallery]] = []
    if folder := os.environ.get("LSD_GALLERY"):
        sources.append(lambda: open_bucket(folder) if "://" in folder else Gallery(Path(folder).expanduser()))
    if repo := os.environ.get("LSD_GALLERY_REPO"):
        sources.append(lambda: open_hub(repo))
    if SAMPLE.is_dir():
        sources.append(lambda: Gallery(SAMPLE, origin="The sample that ships with LSD."))
    reasons = []
    for source in sources:
        try:
            gallery = source()
        except LSDError as error:
            reasons.append(str(error))
            continue
        gallery.origin = " ".join([gallery.origin, *reasons, *([_SOON] if reasons else [])])
        return gallery, not reasons
    empty = "The gallery is empty: set LSD_GALLERY to a folder with one, or LSD_GALLERY_REPO."
    return Gallery.empty(" ".join([empty, *reasons])), not reasons


def open_hub(name: str) -> Gallery:
    """The gallery of a data set on the Hub, “user/name@revision”; its shards are downloaded when they are looked into.

    A tag stands for the commit that it names now, so index and shards belong together however long this runs.

    Raises:
        LSDError: no revision is given, or the index cannot be had.
    """
    repo, _, revision = name.strip().partition("@")
    if not revision or revision in _BRANCHES:
        raise LSDError(f"The gallery “{name}” is not pinned: write user/name@revision, with a commit or a tag.")
    snapshot = _download(repo, NAME, revision).parent  # …/snapshots/<commit>

    def locate(shard: str) -> Path:
        there = snapshot / shard
        file = there if there.exists() else _download(repo, shard, snapshot.name)
        disk.touch(file)  # those that nobody looks into make room for others
        return file

    gallery = Gallery(snapshot, locate, f"The data set {repo} on the Hugging Face Hub, at {revision}.")
    disk.hold(snapshot / NAME, gallery)
    return gallery


def _download(repo: str, filename: str, revision: str) -> Path:
    try:
        with disk.room(_SHARD, f"{filename} of the gallery {repo}"):
            return hub.download(repo, filename, repo_type="dataset", revision=revision)
    except LSDError:  # there is no room
        raise
    except Exception as error:  # all that the Hub answers with, and whatever its transport raises
        raise LSDError(
            f"{filename} of the gallery {repo} cannot be downloaded ({hub.reason(error)}): check its name, its "
            "revision and the network."
        ) from error
