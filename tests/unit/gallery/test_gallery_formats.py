"""Galleries of every format that was ever shipped, as the version of that time wrote them (tests/data/gallery_formats)."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from gallery_fixture import make_gallery, make_row

from gallery import exemplars, shards, source
from gallery.formats import FORMAT, KEY, why_not
from gallery.index import behind, build
from gallery.queries import Filters, Gallery
from gallery.rows import INDEX_REQUIRED, INDEX_SCHEMA
from gallery.schema import OF_PHOTOS, REQUIRED, SCHEMA
from lsd.errors import LSDError

SHIPPED = Path(__file__).parents[2] / "data" / "gallery_formats"
LACKS = {
    "1": {"weights_digest", "contrast", "clipped", "notes", "said", "names_assumed", *OF_PHOTOS},
    "2": {"contrast", "clipped", "notes", "said", "names_assumed", *OF_PHOTOS},
    "2-contrast": {"notes", "said", "names_assumed", *OF_PHOTOS},
    "2-notes": {"said", "names_assumed", *OF_PHOTOS},
    "2-said": {*OF_PHOTOS},
    "3": {*OF_PHOTOS},
    "4": set(),
}


@pytest.fixture(params=sorted(LACKS))
def shipped(request, tmp_path) -> tuple[str, Path]:
    """A format, and a gallery of it, a copy of one's own."""
    return request.param, Path(shutil.copytree(SHIPPED / request.param, tmp_path / "gallery"))


def test_every_format_has_its_gallery_here():
    assert {path.name for path in SHIPPED.iterdir()} == LACKS.keys()
    assert max(int(name.partition("-")[0]) for name in LACKS) == FORMAT, "a new format: keep a gallery of it"
    (shard,) = (SHIPPED / str(FORMAT) / "data").rglob("*.parquet")
    for path in (shard, SHIPPED / str(FORMAT) / "index.parquet"):
        assert pq.read_schema(path).metadata[KEY.encode()] == str(FORMAT).encode()
    assert pq.read_schema(shard).equals(SCHEMA), "a new column: count the format up, and keep one"


def test_shards_of_every_format_are_read(shipped):
    name, folder = shipped
    (path,) = (folder / "data").rglob("*.parquet")
    assert {*SCHEMA.names} - {*pq.read_schema(path).names} == LACKS[name]
    picture, failed = shards.read_rows(path)
    assert picture["unit_id"] == "resnet50.a1_in1k/class/207/lucid/0" and picture["picture"] and picture["seed"] == 0
    assert failed["status"] == "failed" and failed["picture"] is None
    assert all(picture[column] is None for column in LACKS[name])


@pytest.mark.parametrize("again", [False, True])
def test_galleries_of_every_format_are_browsed(shipped, again):
    """With the index of that time, and with one that is made now."""
    name, folder = shipped
    if again:
        assert build(folder).damaged == {}
    gallery = Gallery(folder)
    entry, _ = gallery.page(Filters(search="golden retriever")).entries + gallery.page(Filters(status="failed")).entries
    assert gallery.rows == 2 and gallery.picture(entry) and gallery.thumbnails([entry])[0]
    assert gallery.details(entry)["recipe_json"] == "{}" and "changed since" not in gallery.origin
    assert (entry.contrast is None) == ("contrast" in LACKS[name]) and entry.weights_sha256 == "1" * 64


def test_what_rows_tell_of_photos_is_read_and_older_ones_tell_nothing(shipped):
    name, folder = shipped
    gallery = Gallery(folder)
    (entry,) = gallery.page(Filters(search="golden retriever")).entries
    found, crops = exemplars.read(gallery.details(entry)), gallery.crops(entry)
    if LACKS[name]:
        assert found is None and crops == []
        return
    assert (found.count, found.value, len(found.quantiles)) == (40, 4.5, 33)
    assert [one.box for one in found.exemplars] == [(10, 0, 110, 100), (0, 0, 64, 48)] and len(crops) == 2
    assert crops == gallery.thumbnails([entry]) * 2 and [step.likeness for step in found.path] == [0.5, None]


def test_shards_of_all_formats_make_one_index(tmp_path):
    for name in LACKS:
        shutil.copytree(SHIPPED / name / "data", tmp_path / "data" / name)
    built = build(tmp_path)
    assert (built.rows, built.shards, built.damaged) == (2, len(LACKS), {})


def _with_format(path: Path, stated: int) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({KEY: str(stated)}), path)


def test_a_newer_index_is_refused_in_a_sentence(tmp_path, monkeypatch):
    folder = make_gallery(tmp_path / "gallery", [make_row()])
    build(folder)
    _with_format(folder / "index.parquet", FORMAT + 1)
    with pytest.raises(
        LSDError, match=f"is of format {FORMAT + 1}, and this version reads formats up to {FORMAT}; update"
    ):
        Gallery(folder)
    monkeypatch.setenv("LSD_GALLERY", str(folder))
    monkeypatch.setattr(source, "_current", None)
    assert f"is of format {FORMAT + 1}" in source.open_gallery().origin  # whoever sees the sample sees why


def test_newer_shards_are_left_out_and_told(tmp_path):
    folder = make_gallery(tmp_path / "gallery", [make_row()])
    (path,) = (folder / "data").rglob("*.parquet")
    _with_format(path, FORMAT + 1)
    (reason,) = build(folder).damaged.values()
    assert f"is of format {FORMAT + 1}" in reason


@pytest.mark.parametrize("name", [name for name in INDEX_SCHEMA.names if name not in INDEX_REQUIRED])
def test_an_index_without_some_column_is_read_with_nulls(tmp_path, name):
    folder = make_gallery(tmp_path / "gallery", [make_row()])
    build(folder)
    path = folder / "index.parquet"
    pq.write_table(pq.read_table(path).drop_columns([name]), path)
    gallery = Gallery(folder)
    (entry,) = gallery.page(Filters()).entries
    assert not getattr(entry, name) and gallery.picture(entry)


def test_an_index_with_a_column_more_is_read(tmp_path):
    folder = make_gallery(tmp_path / "gallery", [make_row()])
    build(folder)
    path = folder / "index.parquet"
    pq.write_table(pq.read_table(path).append_column("mine", [["x"]]), path)
    assert Gallery(folder).rows == 1


def test_what_is_required_is_what_a_row_is():
    assert why_not(SCHEMA, SCHEMA, REQUIRED) == "" and REQUIRED[0] == "unit_id" and "seed" in REQUIRED
    assert "lacks “model”" in why_not(SCHEMA.remove(SCHEMA.get_field_index("model")), SCHEMA, REQUIRED)


def test_files_that_the_index_does_not_know_are_noticed(tmp_path):
    folder = make_gallery(tmp_path / "gallery", [make_row(unit=f"class/{i}") for i in range(4)], shard_rows=1)
    build(folder)
    assert behind(folder) == 0 and "changed" not in Gallery(folder).origin
    first, second, *_ = sorted((folder / "data").rglob("*.parquet"))
    first.unlink()
    assert "One of its files has changed since its index was made: python -m gallery index" in Gallery(folder).origin
    second.with_name("more.parquet").write_bytes(second.read_bytes())
    second.write_bytes(second.read_bytes() + b"more")
    assert behind(folder) == 3 and "3 of its files have changed" in Gallery(folder).origin
