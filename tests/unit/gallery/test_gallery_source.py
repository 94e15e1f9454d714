import gc
import math
import threading
import weakref

import fsspec
import httpx
import huggingface_hub
import pytest
from gallery_fixture import make_gallery, make_row, write_shard
from huggingface_hub.errors import EntryNotFoundError, HFValidationError

from gallery import index, source
from gallery.queries import Filters
from lsd.errors import LSDError
from lsd.ui.gallery.browse import front
from lsd.ui.gallery.classes import classes_of

COMMIT = "c" * 40


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    """No gallery anywhere, and nothing remembered."""
    for name in ("LSD_GALLERY", "LSD_GALLERY_REPO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(source, "SAMPLE", tmp_path / "no sample")
    monkeypatch.setattr(source, "_current", None)


@pytest.fixture
def folder(tmp_path):
    return make_gallery(tmp_path / "here", [make_row()])


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub with one data set; what was asked of it is noted."""
    remote = make_gallery(tmp_path / "remote", [make_row(unit=f"class/{i}") for i in range(3)])
    index.build(remote)
    snapshot = tmp_path / "snapshots" / COMMIT
    asked = []

    def download(repo, filename, *, repo_type, revision):
        asked.append((repo, filename, repo_type, revision))
        if repo != "user/name" or not (remote / filename).exists():
            raise EntryNotFoundError("404")
        target = snapshot / filename
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((remote / filename).read_bytes())
        return str(target)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


def test_without_anything_the_gallery_is_empty_and_says_so():
    gallery = source.open_gallery()
    assert gallery.rows == 0 and "is empty" in gallery.origin
    assert source.open_gallery() is gallery


def test_a_new_index_is_noticed(folder, monkeypatch):
    monkeypatch.setenv("LSD_GALLERY", str(folder))
    before = source.open_gallery()
    assert source.open_gallery() is before and before.rows == 1
    write_shard(folder, "more", [make_row(unit="class/1"), make_row(unit="class/2")])
    index.build(folder)
    after = source.open_gallery()
    assert after.rows == 3 and source.open_gallery() is after
    (folder / index.NAME).unlink()  # and one that is gone is made again, rather than losing the gallery
    assert source.open_gallery().rows == 3


def test_the_folder_comes_first(folder, hub, monkeypatch):
    monkeypatch.setenv("LSD_GALLERY", str(folder))
    monkeypatch.setenv("LSD_GALLERY_REPO", "user/name@v1")
    gallery = source.open_gallery()
    assert gallery.rows == 1 and str(folder) in gallery.origin and not hub


def test_the_hub_gives_shards_as_they_are_looked_into(hub, monkeypatch):
    monkeypatch.setenv("LSD_GALLERY_REPO", "user/name@v1")
    gallery = source.open_gallery()
    assert gallery.rows == 3 and "user/name" in gallery.origin and "v1" in gallery.origin
    assert hub == [("user/name", "index.parquet", "dataset", "v1")]
    entries = gallery.page(Filters()).entries
    assert all(gallery.thumbnails(entries)) and gallery.picture(entries[0])
    assert hub[1:] == [("user/name", entries[0].shard, "dataset", COMMIT)]  # the tag may have moved meanwhile


@pytest.mark.parametrize("name", ["user/name", "user/name@", "user/name@main", ""])
def test_a_revision_that_moves_is_refused(hub, name):
    with pytest.raises(LSDError, match="not pinned"):
        source.open_hub(name)
    assert not hub


@pytest.mark.parametrize(
    "error", [OSError("no network"), HFValidationError("bad"), EntryNotFoundError("404"), httpx.ReadTimeout("slow")]
)
def test_offline_the_sample_is_shown_and_why_is_said(folder, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    monkeypatch.setenv("LSD_GALLERY_REPO", "user/name@v1")
    monkeypatch.setattr(source, "SAMPLE", folder)
    gallery = source.open_gallery()
    assert gallery.rows == 1
    assert "sample" in gallery.origin and "cannot be downloaded" in gallery.origin and "\n" not in gallery.origin


def test_a_shard_that_cannot_be_downloaded_is_one_sentence(hub, monkeypatch):
    gallery = source.open_hub("user/name@v1")

    def fail(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(LSDError, match="cannot be downloaded"):
        gallery.thumbnails(gallery.page(Filters()).entries)


def test_a_folder_without_a_gallery_is_passed_over(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("LSD_GALLERY", str(tmp_path / "nowhere"))
    monkeypatch.setattr(source, "SAMPLE", folder)
    gallery = source.open_gallery()
    assert gallery.rows == 1 and "nowhere" in gallery.origin


def soon(wanted) -> bool:
    """Whether it comes true while a thread has time to do it; the clock may stand still."""
    for _ in range(2000):
        if wanted():
            return True
        threading.Event().wait(0.01)
    return False


def test_one_hiccup_of_the_hub_is_over_after_a_minute(folder, hub, monkeypatch):
    """The sample meanwhile; nobody waits, and the Hub is not asked again before."""
    works, now = huggingface_hub.hf_hub_download, [1000.0]
    tries = []

    def fail(*_, **__):
        tries.append(now[0])
        raise OSError("429")

    monkeypatch.setattr(source.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    monkeypatch.setenv("LSD_GALLERY_REPO", "user/name@v1")
    monkeypatch.setattr(source, "SAMPLE", folder)
    first = source.open_gallery()
    assert first.rows == 1 and "sample" in first.origin and "tried again every minute" in first.origin
    now[0] += 59
    assert source.open_gallery() is first and tries == [1000.0]
    now[0] += 2
    assert source.open_gallery() is first
    assert soon(lambda: len(tries) == 2)
    assert source.open_gallery() is first
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", works)
    assert soon(lambda: source._current.again < 1e9)
    now[0] += 61
    source.open_gallery()
    assert soon(lambda: source.open_gallery().rows == 3)
    assert "tried again" not in source.open_gallery().origin


def test_even_a_defect_does_not_pin_the_sample(folder, hub, monkeypatch):
    monkeypatch.setattr(source, "SAMPLE", folder)
    monkeypatch.setattr(source, "_PAUSE", 0)
    monkeypatch.setenv("LSD_GALLERY_REPO", "user/nobody@v1")
    assert source.open_gallery().rows == 1
    opened = source._opened
    ended = []
    monkeypatch.setattr(source.threading, "excepthook", lambda what: ended.append(what.exc_type))
    monkeypatch.setattr(source, "_opened", lambda stamp: 1 / 0)
    source.open_gallery()
    assert soon(lambda: ended == [ZeroDivisionError])
    monkeypatch.setattr(source, "_opened", opened)
    monkeypatch.setenv("LSD_GALLERY_REPO", "user/name@v1")
    assert soon(lambda: source.open_gallery().rows == 3)


def test_old_galleries_go_when_there_is_a_new_one(folder, monkeypatch):
    monkeypatch.setenv("LSD_GALLERY", str(folder))
    seen = weakref.WeakSet()
    for number in range(6):
        write_shard(folder, f"more-{number}", [make_row(unit=f"class/{number}")])
        index.build(folder)
        gallery = source.open_gallery()
        seen.add(gallery)
        assert classes_of(gallery) is classes_of(gallery) and front(gallery)
        del gallery
    gc.collect()
    assert list(seen) == [source.open_gallery()]


def test_a_gallery_that_is_there_is_not_asked_for_again(hub, monkeypatch):
    monkeypatch.setenv("LSD_GALLERY_REPO", "user/name@v1")
    source.open_gallery()
    monkeypatch.setattr(source.threading, "Thread", lambda **_: pytest.fail("it was tried again"))
    monkeypatch.setattr(source, "_PAUSE", 0)
    assert source.open_gallery() is source.open_gallery()


def test_a_new_index_of_a_bucket_is_noticed_within_a_minute_and_nobody_waits(folder, monkeypatch):
    """As long as it is out of reach, or the same, what is there stays."""
    index.build(folder)
    bucket, now, url = fsspec.filesystem("memory"), [1000.0], "memory://noticed/run"
    monkeypatch.setattr(source.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("LSD_GALLERY", url)

    def put() -> None:
        bucket.put(str(folder) + "/", url, recursive=True)

    def look() -> None:
        """Somebody looks a minute later, and the bucket is asked."""
        now[0] += 61
        assert source.open_gallery() is first
        assert soon(lambda: source._current.again < math.inf)

    put()
    first = source.open_gallery()
    assert first.rows == 1 and "bucket" in first.origin
    look()
    assert source.open_gallery() is first
    with monkeypatch.context() as broken:
        broken.setattr(source, "index_stamp", lambda url: "")
        look()
    assert source.open_gallery() is first
    write_shard(folder, "more", [make_row(unit="class/1"), make_row(unit="class/2")])
    index.build(folder)
    put()
    now[0] += 30
    assert source.open_gallery() is first and source._current.again < math.inf
    look()
    after = source.open_gallery()
    assert after.rows == 3 and after.page(Filters()).total == 3
