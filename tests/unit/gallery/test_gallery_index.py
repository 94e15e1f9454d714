import os
import time
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gallery_fixture import make_gallery, make_row, write_shard

from gallery import index, orders, shards
from gallery.__main__ import main
from gallery.filters import Filters
from gallery.index import ORDER, build, find_shards
from gallery.orders import PATH
from gallery.queries import Gallery
from gallery.rows import INDEX_SCHEMA, Rows
from lsd.errors import LSDError

SHIPPED = Path(__file__).parents[2] / "data" / "gallery_formats"


def _index(folder: Path) -> list[dict]:
    return pq.read_table(folder / "index.parquet").to_pylist()


def test_every_row_is_there_in_order_and_leads_to_its_place(gallery_folder, rows):
    found = _index(gallery_folder)
    assert list(found[0]) == [*INDEX_SCHEMA.names, *(f"by_{order}" for order in (PATH, *orders.SORTS))]
    assert sorted(row["unit_id"] for row in found) == sorted(row["unit_id"] for row in rows)
    assert found == sorted(found, key=lambda row: [row[name] for name in ORDER])
    for row in found[::7]:
        with pq.ParquetFile(gallery_folder / row["shard"]) as file:
            there = file.read_row_group(row["row_group"]).to_pylist()[row["row"]]
        assert {name: there[name] for name in row if name in there} == {n: v for n, v in row.items() if n in there}


def test_the_last_made_of_the_same_row_counts(tmp_path):
    old = [make_row(unit=f"class/{i}", created="2026-01-01") for i in range(3)]
    new = [make_row(unit="class/1", created="2026-01-02", score=99.0)]
    write_shard(tmp_path, "b-old", old)
    write_shard(tmp_path, "a-new", new)
    built = build(tmp_path)
    assert (built.rows, built.shards, built.dropped, built.damaged) == (3, 2, 1, {})
    assert [row["score"] for row in _index(tmp_path) if row["unit"] == "class/1"] == [99.0]


def test_a_later_failure_does_not_hide_a_picture(tmp_path):
    def one(unit, day, status="ok", **more):
        return make_row(unit=unit, created=f"2026-01-0{day}", status=status, **more)

    write_shard(tmp_path, "a", [one("class/1", 1, score=1.0), one("class/2", 1, "failed")])
    write_shard(tmp_path, "b", [one("class/1", 2, "failed"), one("class/2", 2, "failed", error="the last word")])
    build(tmp_path)
    first, second = _index(tmp_path)
    assert first["status"] == "ok" and first["score"] == 1.0 and second["error"] == "the last word"


def test_of_rows_made_at_the_same_time_one_is_kept(tmp_path):
    for name in ("a", "b"):
        write_shard(tmp_path, name, [make_row()])
    assert (build(tmp_path).dropped, len(_index(tmp_path))) == (1, 1)
    first = (tmp_path / "index.parquet").read_bytes()
    build(tmp_path)
    assert (tmp_path / "index.parquet").read_bytes() == first


@pytest.mark.parametrize("damage", ["cut", "empty", "inside", "other"])
def test_a_damaged_shard_is_named_and_the_rest_is_there(tmp_path, damage):
    whole = write_shard(tmp_path, "whole", [make_row(unit=f"class/{i}") for i in range(3)])
    bad = write_shard(tmp_path, "bad", [make_row(unit=f"class/{i}") for i in range(3, 100)])
    data = bytearray(bad.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "empty":
        data = b""
    elif damage == "inside":
        group = pq.read_metadata(bad).row_group(1)
        data[group.column(0).data_page_offset + group.column(0).total_compressed_size - 1] ^= 1
    else:
        pq.write_table(shards.read_table(whole).drop_columns(["unit_id"]), bad)
        data = bad.read_bytes()
    bad.write_bytes(data)
    built = build(tmp_path)
    assert (built.rows, built.shards) == (3, 1)
    assert list(built.damaged) == [bad.relative_to(tmp_path).as_posix()]
    assert "bad.parquet" in built.damaged[bad.relative_to(tmp_path).as_posix()]


def test_unfinished_files_are_nobodys_shards(tmp_path):
    shard = write_shard(tmp_path, "a", [make_row()])
    (shard.parent / ".b.parquet.part").write_bytes(b"half")
    (shard.parent / ".c.parquet").write_bytes(b"half")
    (tmp_path / "data" / ".scratch").mkdir()
    (tmp_path / "data" / ".scratch" / "d.parquet").write_bytes(b"half")
    assert find_shards(tmp_path) == [shard]
    assert build(tmp_path).damaged == {}


def test_nothing_else_is_left_behind(tmp_path):
    make_gallery(tmp_path)
    build(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["data", "index.parquet"]


def test_what_a_killed_build_left_is_swept_up_once_nobody_can_be_at_work_in_it(tmp_path):
    make_gallery(tmp_path)
    old, young = tmp_path / ".index-old", tmp_path / ".index-young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "rows.duckdb").write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    build(tmp_path)
    assert not old.exists() and (young / "rows.duckdb").read_bytes() == b"half"


def test_a_new_index_replaces_the_old_one_at_once(tmp_path):
    write_shard(tmp_path, "a", [make_row()])
    build(tmp_path)
    with open(tmp_path / "index.parquet", "rb") as reading:
        before = reading.read(100)
        write_shard(tmp_path, "b", [make_row(unit="class/5")])
        build(tmp_path)
        reading.seek(0)
        assert reading.read(100) == before
    assert len(_index(tmp_path)) == 2


@pytest.mark.parametrize("change", ["added", "replaced", "removed"])
def test_of_two_builds_at_once_the_one_that_began_later_stays(tmp_path, monkeypatch, change):
    """The other one goes on where it was, and ends last."""
    for name in ("a", "b"):
        write_shard(tmp_path, name, [make_row(unit=f"class/{name == 'b':d}")])
    original, began = index.light_rows, []

    def interrupted(path, name):
        found = original(path, name)
        if not began:
            began.append(name)
            if change == "removed":
                (path.parent / "b.parquet").unlink()
            else:
                name = {"added": "c", "replaced": "b"}[change]
                write_shard(tmp_path, name, [make_row(unit=f"class/{i}") for i in (5, 6)])
            build(tmp_path)
        return found

    monkeypatch.setattr(index, "light_rows", interrupted)
    built = build(tmp_path)
    units = {"added": {0, 1, 5, 6}, "replaced": {0, 5, 6}, "removed": {0}}[change]
    assert {row["index"] for row in _index(tmp_path)} == units and built.rows == len(units)
    assert index.behind(tmp_path) == 0


def test_a_later_build_replaces_an_index_that_does_not_say_what_it_covers(tmp_path):
    write_shard(tmp_path, "a", [make_row()])
    (tmp_path / "index.parquet").write_bytes(b"no index")
    assert build(tmp_path).rows == 1 and index.covered(tmp_path / "index.parquet") == index.shard_sizes(tmp_path)


def test_a_gallery_without_shards_has_an_empty_index(tmp_path):
    assert build(tmp_path).rows == 0
    assert Gallery(tmp_path).rows == 0


def test_no_folder_is_one_sentence(tmp_path):
    with pytest.raises(LSDError, match="no such folder"):
        build(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), duckdb.IOException("No space left\non it")]
)
def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch, error):
    make_gallery(tmp_path, [make_row()])

    def refuse(*_):
        raise error

    monkeypatch.setattr(index, "_build", refuse)
    with pytest.raises(LSDError, match="No index can be written") as caught:
        Gallery(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_command(tmp_path, capsys):
    make_gallery(tmp_path, [make_row()])
    write_shard(tmp_path, "again", [make_row()])
    assert main(["index", str(tmp_path)]) == 0
    assert "1 rows from 2 shards" in capsys.readouterr().out
    (tmp_path / "data" / "bad.parquet").write_bytes(b"no")
    assert main(["index", str(tmp_path)]) == 1
    assert "bad.parquet" in capsys.readouterr().err
    assert main(["index", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_an_index_has_its_orders_and_no_question_takes_a_pass_over_all_rows(gallery_folder, monkeypatch):
    gallery, older = Gallery(gallery_folder), Gallery(SHIPPED / "3")
    monkeypatch.delattr(Rows, "blocks")
    for sort in orders.SORTS:
        assert len(gallery.page(Filters(), sort, size=20).entries) == 20
    assert gallery.page(Filters("/lucid")).total
    with pytest.raises(AttributeError, match="blocks"):
        older.page(Filters(), "score")


def test_orders_of_other_rows_do_not_count(gallery_folder, tmp_path):
    """As somebody leaves them who has taken rows out."""
    table = pq.read_table(gallery_folder / "index.parquet")
    pq.write_table(table.slice(5), tmp_path / "index.parquet")
    by_score = Gallery(tmp_path).page(Filters(), "score", size=1000)
    scores = [entry.score for entry in by_score.entries if entry.score is not None]
    assert len(by_score.entries) == len(table) - 5 and scores == sorted(scores, reverse=True)


def test_a_damaged_order_is_one_sentence(gallery_folder, tmp_path):
    table = pq.read_table(gallery_folder / "index.parquet")
    place = table.column_names.index("by_score")
    pq.write_table(
        table.set_column(place, "by_score", pa.array([len(table)] * len(table), pa.int32())), tmp_path / "index.parquet"
    )
    with pytest.raises(LSDError, match="cannot be read; make it again"):
        Gallery(tmp_path).page(Filters(), "score")
