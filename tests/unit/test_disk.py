"""What is downloaded has a budget on disk; what was not used for longest makes room, and a user's own cache is left alone."""

import errno
import os
import time
from types import SimpleNamespace

import pytest

from lsd import disk
from lsd.disk import DiskLimitError, hold, is_full, kept, room, touch
from lsd.errors import ModelError
from lsd.ui.shared.jobs import sentence

MB = 10**6


class Holder:
    """Somebody who uses a file."""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A Hub's cache and a disk of 100 GB; `add(repository, name, bytes, hours)` puts a file there that was used so long ago."""
    home = tmp_path / "hub"
    monkeypatch.setattr(disk, "hub_cache", lambda: home)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(total=100_000 * MB, free=fake.free))
    monkeypatch.delenv("LSD_CACHE_BYTES", raising=False)
    monkeypatch.setenv("LSD_PUBLIC", "1")

    def add(repository, name, nbytes, hours):
        folder = home / repository
        blob, link = folder / "blobs" / f"{name}-blob", folder / "snapshots" / "c0ffee" / name
        for file in (blob, link, folder / "refs" / "main"):
            file.parent.mkdir(parents=True, exist_ok=True)
        (folder / "refs" / "main").write_text("c0ffee")
        blob.write_bytes(b"\0" * nbytes)
        link.symlink_to(f"../../blobs/{blob.name}")
        then = time.time() - 3600 * hours
        os.utime(blob, (then, then))
        return link

    fake = SimpleNamespace(home=home, add=add, free=50_000 * MB, names=lambda: {file.path.name for file in kept()})
    return fake


def test_what_was_not_used_for_longest_makes_room(cache, monkeypatch):
    monkeypatch.setenv("LSD_CACHE_BYTES", str(4 * MB))
    old = cache.add("models--a--old", "model.safetensors", MB, 9)
    older = cache.add("models--a--older", "model.safetensors", MB, 10)
    new = cache.add("datasets--a--gallery", "shard.parquet", MB, 1)
    with room(2 * MB, "It"):
        assert not older.is_symlink() and old.exists() and new.exists()
        with room(MB, "Another"):  # beside what is promised
            assert not old.is_symlink() and new.exists()
    assert sum(file.nbytes for file in kept()) == MB


def test_what_was_asked_for_again_is_not_old(cache, monkeypatch):
    monkeypatch.setenv("LSD_CACHE_BYTES", str(2 * MB))
    first, second = cache.add("models--a--b", "one", MB, 9), cache.add("models--a--b", "two", MB, 8)
    touch(first)
    with room(MB, "It"):
        assert first.exists() and not second.is_symlink()


def test_what_is_in_use_stays_and_who_comes_is_told(cache, monkeypatch):
    monkeypatch.setenv("LSD_CACHE_BYTES", str(2 * MB))
    used, holder = cache.add("models--a--b", "one", 2 * MB, 9), Holder()
    hold(used, holder)
    os.utime(used, (time.time() - 7200,) * 2)
    with (
        pytest.raises(DiskLimitError, match=r"^It takes 1 MB, which is in use by others; please try again later"),
        room(MB, "It"),
    ):
        raise AssertionError
    assert used.exists()
    del holder
    with room(MB, "It"):
        assert not used.is_symlink()


def test_a_single_file_that_never_fits_is_refused_and_nothing_goes(cache, monkeypatch):
    monkeypatch.setenv("LSD_CACHE_BYTES", str(2 * MB))
    there = cache.add("models--a--b", "one", MB, 9)
    with (
        pytest.raises(DiskLimitError, match=r"^It takes 3 MB, and at most 2 MB are kept of downloads here"),
        room(3 * MB, "It"),
    ):
        raise AssertionError
    assert there.exists()


def test_tables_of_data_sets_and_parts_of_cut_downloads_go_too(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("LSD_CACHE_BYTES", str(3 * MB))
    cache.add("models--a--b", "one", MB, 1)
    part, table = (
        cache.home / "models--a--b" / "blobs" / "x.incomplete",
        tmp_path / "datasets" / "owner___set" / "0" / "a.arrow",
    )
    table.parent.mkdir(parents=True)
    for file in (part, table):
        file.write_bytes(b"\0" * MB)
    for place in (part, table, *table.parents[:2]):
        os.utime(place, (time.time() - 7200,) * 2)
    with room(2 * MB, "It"):
        assert not part.exists() and not table.parents[1].exists()


def test_a_users_own_cache_is_never_deleted_from(cache, monkeypatch):
    monkeypatch.setenv("LSD_PUBLIC", "0")
    there = cache.add("models--a--b", "one", MB, 9)
    cache.free = disk.SPARE + 2 * MB
    with room(2 * MB, "It"):
        assert there.exists()
    with pytest.raises(DiskLimitError, match=r"^It takes 3 MB, and 2 MB are free on the disk here"), room(3 * MB, "It"):
        raise AssertionError
    assert there.exists()


def test_a_public_page_has_half_of_the_disk(cache, monkeypatch):
    assert disk.budget() == 50_000 * MB
    monkeypatch.setenv("LSD_CACHE_BYTES", "0")
    assert disk.budget() is None
    monkeypatch.delenv("LSD_CACHE_BYTES")
    monkeypatch.setenv("LSD_PUBLIC", "0")
    assert disk.budget() is None


def test_without_any_cache_there_is_room(cache):
    with room(MB, "It"):
        assert kept() == []


def test_a_disk_that_runs_full_in_the_middle_is_told_in_a_sentence(cache):
    with pytest.raises(DiskLimitError, match=r"^It could not be downloaded: the disk is full here"), room(MB, "It"):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise ModelError("could not be downloaded (OSError)") from error


def test_a_full_disk_is_known_by_its_number():
    assert is_full(OSError(errno.ENOSPC, "")) and is_full(OSError(errno.EDQUOT, ""))
    assert not is_full(OSError(errno.ENOENT, "")) and not is_full(ValueError())


def test_the_page_says_that_the_disk_is_full():
    assert (
        sentence(OSError(errno.ENOSPC, "No space left on device"))
        == "The disk is full here; please try again in a few minutes."
    )
