import io

import datasets
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from gallery_fixture import make_gallery, make_row
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gallery import pictures, shards
from gallery.formats import FORMAT, KEY
from gallery.index import INDEX_SCHEMA, build
from gallery.schema import REQUIRED, ROW_GROUP, SCHEMA, THUMBNAIL
from gallery.shards import ShardError
from lsd.errors import ImageError, LSDError

ROWS = [make_row(unit=f"class/{i}") for i in range(150)]
DATA = shards.table_bytes(shards.to_table(ROWS))


def _float32(row: dict) -> dict:
    """A row as parquet gives it back: its fractions in single precision."""
    table = shards.to_table([row])
    return {name: value for name, value in table.to_pylist()[0].items() if name not in shards.PICTURES}


def test_rows_come_back():
    read = shards.read_rows(DATA)
    assert len(read) == len(ROWS)
    for row, again in zip(ROWS, read, strict=True):
        assert again["picture"] == row["picture"] and again["thumbnail"] == row["thumbnail"]
        assert {k: v for k, v in again.items() if k not in shards.PICTURES} == _float32(row)


def test_only_the_columns_that_are_asked_for(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(DATA)
    assert shards.read_rows(path, ["seed", "unit_id"])[7] == {"seed": 0, "unit_id": ROWS[7]["unit_id"]}


def test_the_same_rows_give_the_same_bytes():
    assert shards.table_bytes(shards.to_table(ROWS)) == DATA


def test_row_groups_are_small_and_pictures_lie_as_they_are():
    footer = pq.read_metadata(io.BytesIO(DATA))
    assert [footer.row_group(i).num_rows for i in range(footer.num_row_groups)] == [ROW_GROUP, ROW_GROUP, 22]
    columns = {footer.row_group(0).column(i).path_in_schema: footer.row_group(0).column(i) for i in range(20)}
    assert columns["picture.bytes"].compression == "UNCOMPRESSED" and columns["picture.bytes"].statistics is None
    assert columns["model"].statistics.max == ROWS[0]["model"]
    assert ROWS[3]["picture"] in DATA


def test_what_is_left_out_is_null():
    table = shards.to_table([{"unit_id": "a"}])
    assert table.schema.equals(SCHEMA, check_metadata=True)
    assert {name for name in SCHEMA.names if table[name].null_count == 0} == {"unit_id"}
    assert shards.read_rows(shards.table_bytes(table))[0]["picture"] is None


@pytest.mark.parametrize("row, word", [
    ({"colour": 1}, "colour"), ({"seed": "one"}, "seed"), ({"seed": 2**40}, "seed"), ({"score": "high"}, "score"),
    ({"picture": 3}, "picture"), ({"own_top": 3}, "own_top"),
])  # fmt: skip
def test_a_wrong_value_is_one_sentence(row, word):
    with pytest.raises(LSDError, match=f"“{word}”") as caught:
        shards.to_table([row])
    assert "\n" not in str(caught.value)


def test_a_whole_shard_passes_and_another_number_of_rows_does_not():
    shards.check(DATA, 150)
    with pytest.raises(LSDError, match="150 rows instead of 151"):
        shards.check(DATA, 151)


@given(st.data())
def test_a_shard_cut_short_is_noticed(data):
    length = data.draw(st.integers(0, len(DATA) - 1))
    with pytest.raises(LSDError):
        shards.check(DATA[:length], 150)


@given(st.data())
def test_a_flipped_bit_among_the_pictures_is_noticed(data):
    footer = pq.read_metadata(io.BytesIO(DATA))
    group = footer.row_group(data.draw(st.integers(0, 2)))
    column = next(
        group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema == "picture.bytes"
    )
    # past the page's header, some thirty bytes, of which not every bit matters
    place = column.data_page_offset + data.draw(st.integers(64, column.total_compressed_size - 1))
    damaged = bytearray(DATA)
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(LSDError):
        shards.check(bytes(damaged), 150)


def test_other_parquet_is_no_shard():
    buffer = io.BytesIO()
    pq.write_table(shards.to_table(ROWS[:1]).drop_columns(["seed"]), buffer)
    with pytest.raises(LSDError, match="other columns"):
        shards.check(buffer.getvalue(), 1)


def rewritten(table, stated=str(FORMAT)) -> bytes:
    """A table as a parquet file that states another format."""
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({KEY: stated}), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", [name for name in SCHEMA.names if name not in REQUIRED])
def test_a_shard_without_some_column_is_read_with_nulls(name):
    data = rewritten(shards.to_table(ROWS[:2]).drop_columns([name]))
    shards.check(data, 2)
    table = shards.read_table(data)
    assert table.schema.equals(SCHEMA) and table[name].null_count == 2
    assert table["unit_id"].to_pylist() == [row["unit_id"] for row in ROWS[:2]]


def test_columns_of_somebodys_own_are_left_alone():
    table = shards.to_table(ROWS[:2])
    table = table.append_column("my_notes", [["a", "b"]])
    assert shards.read_table(rewritten(table)).equals(shards.to_table(ROWS[:2]))


def test_a_column_of_another_type_is_named():
    table = shards.to_table(ROWS[:2])
    table = table.set_column(table.schema.get_field_index("score"), "score", [["high", "low"]])
    with pytest.raises(ShardError, match="“score” is of another type"):
        shards.check(rewritten(table), 2)


@pytest.mark.parametrize("stated", [str(FORMAT + 1), "99", "next"])
def test_a_newer_format_is_refused_in_a_sentence(stated):
    data = rewritten(shards.to_table(ROWS[:2]), stated)
    with pytest.raises(
        ShardError, match=f"is of format {stated}, and this version reads formats up to {FORMAT}; update"
    ):
        shards.check(data, 2)


def test_the_format_stands_in_every_shard():
    assert pq.read_metadata(io.BytesIO(DATA)).metadata[KEY.encode()] == str(FORMAT).encode()


CARD = """---
configs:
- config_name: default
  data_files: [{split: train, path: "data/*/*.parquet"}]
- config_name: index
  data_files: [{split: train, path: index.parquet}]
---
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A gallery as it is published, of three shards."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = make_gallery(tmp_path / "gallery", ROWS, shard_rows=50)
    build(folder)
    (folder / "README.md").write_text(CARD)
    return folder


def test_datasets_opens_a_gallery(folder):
    whole = datasets.load_dataset(str(folder), split="train")
    assert whole.num_rows == 150 and whole.features.arrow_schema.equals(SCHEMA)
    assert isinstance(whole[0]["picture"], Image.Image) and whole[0]["picture"].size == (48, 32)
    index = datasets.load_dataset(str(folder), "index", split="train")
    assert index.column_names[: len(INDEX_SCHEMA)] == INDEX_SCHEMA.names and index.num_rows == 150


def test_datasets_streams_some_columns_of_some_rows(folder):
    streamed = datasets.load_dataset(
        str(folder), split="train", streaming=True, columns=["unit_id", "index", "thumbnail"],
        filters=pc.field("index") >= 120,
    )  # fmt: skip
    found = list(streamed)
    assert [row["index"] for row in found] == list(range(120, 150))
    assert found[0].keys() == {"unit_id", "index", "thumbnail"}
    assert np.array_equal(np.asarray(found[0]["thumbnail"]), pictures.pixels(ROWS[120]["thumbnail"]))


@given(st.integers(1, 300), st.integers(1, 300))
def test_a_thumbnail_keeps_the_shape(height, width):
    small = pictures.pixels(pictures.thumbnail(np.zeros((height, width, 3), np.uint8)))
    assert max(small.shape[:2]) == min(max(height, width), THUMBNAIL)
    assert abs(small.shape[0] - height * max(small.shape[:2]) / max(height, width)) < 1


def test_a_thumbnail_averages():
    """A checkerboard of single pixels becomes grey; nearest-neighbour shrinking would keep black or white."""
    board = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    assert abs(pictures.pixels(pictures.thumbnail(board)).astype(int) - 128).max() < 12


def test_webp_keeps_the_colours():
    y, x = np.mgrid[0:96, 0:64] / 96
    pixels = (np.stack([y, x, 1 - y], -1) * 255).astype(np.uint8)
    data = pictures.webp(pixels)
    assert data[8:12] == b"WEBP" and data == pictures.webp(pixels)
    assert abs(pictures.pixels(data).astype(int) - pixels).mean() < 3


def test_no_picture_is_one_sentence():
    with pytest.raises(ImageError):
        pictures.pixels(b"RIFF....WEBP")
