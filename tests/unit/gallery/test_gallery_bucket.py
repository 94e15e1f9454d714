"""A gallery in a bucket, here in fsspec's memory; `tests/cluster/test_s3.py` has one that speaks HTTP."""

import io
import uuid

import fsspec
import pytest
from gallery_fixture import make_gallery, make_row

from gallery import index, source
from gallery.bucket import Ranges, open_bucket
from gallery.filters import Filters
from gallery.queries import Gallery
from gallery.shards import ShardError
from lsd.errors import LSDError


@pytest.fixture
def folder(tmp_path):
    found = make_gallery(tmp_path / "here", [make_row(unit=f"class/{i}") for i in range(5)])
    index.build(found)
    return found


@pytest.fixture
def url(folder) -> str:
    """The same gallery in a bucket."""
    name = f"memory://{uuid.uuid4().hex}"
    fs, root = fsspec.core.url_to_fs(name)
    for path in folder.rglob("*.parquet"):
        fs.pipe_file(f"{root}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return name


def test_it_shows_what_the_same_folder_on_a_disk_shows(folder, url, monkeypatch):
    monkeypatch.setenv("LSD_GALLERY", url)
    monkeypatch.setattr(source, "_current", None)
    there, here = source.open_gallery(), Gallery(folder)
    assert there.origin == f"The bucket {url}." and source.open_gallery() is there
    entries = here.page(Filters()).entries
    assert there.page(Filters()).entries == entries and there.thumbnails(entries) == here.thumbnails(entries)
    assert all(there.details(entry) == here.details(entry) for entry in entries)


def test_what_changed_or_went_since_the_index_is_a_sentence(url):
    fs, root = fsspec.core.url_to_fs(url)
    gallery = open_bucket(url)
    (entry,) = gallery.page(Filters(), size=1).entries
    fs.pipe_file(f"{root}/{entry.shard}", b"shorter")
    with pytest.raises(ShardError, match=r"parquet in memory://\w+ has changed since its index was made"):
        gallery.picture(entry)
    fs.rm_file(f"{root}/{entry.shard}")
    with pytest.raises(ShardError, match=r"parquet in memory://\w+ cannot be read \(.+\); is the bucket in reach\?"):
        gallery.picture(entry)


def test_one_that_cannot_be_had_is_a_sentence(url, monkeypatch):
    with pytest.raises(LSDError, match="has no index: python -m precompute compact memory://nowhere/run makes it"):
        open_bucket("memory://nowhere/run")
    with pytest.raises(LSDError, match="The gallery at nosuch://bucket cannot be read"):
        open_bucket("nosuch://bucket")
    fs, root = fsspec.core.url_to_fs(url)
    fs.pipe_file(f"{root}/{index.NAME}", b"damaged")
    with pytest.raises(
        LSDError, match=f"{url}/index.parquet .* make it again. python -m precompute compact {url} does."
    ) as told:
        open_bucket(url)
    assert "lsd-gallery" not in str(told.value)


@pytest.mark.parametrize("whole", [0, 2**20])
def test_a_file_read_in_ranges_is_a_file(monkeypatch, whole):
    monkeypatch.setattr("gallery.bucket._WHOLE", whole)
    data, asked = bytes(range(256)), []
    file = Ranges(lambda begin, end: (asked.append((begin, end)), data[begin:end])[1], len(data), "It")
    there = io.BytesIO(data)
    for act in (
        lambda f: f.read(10), lambda f: f.seek(-16, io.SEEK_END), lambda f: f.read(100), lambda f: f.read(1), lambda f: f.tell(),
        lambda f: f.seek(3), lambda f: f.seek(4, io.SEEK_CUR), lambda f: f.read(5), lambda f: f.read(), lambda f: f.read(),
    ):  # fmt: skip
        assert act(file) == act(there)
    assert asked == ([(0, 256)] if whole else [(0, 10), (240, 256), (7, 12), (12, 256)])
    assert file.readable() and file.seekable() and not file.writable()
