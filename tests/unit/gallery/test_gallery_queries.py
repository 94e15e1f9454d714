"""Every question against an answer worked out row by row."""

import io
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gallery_fixture import CLASSES, MODELS, make_gallery, make_row, make_rows, write_shard
from hypothesis import given
from hypothesis import strategies as st

from gallery import pictures
from gallery.index import INDEX_SCHEMA, build
from gallery.queries import SORTS, ClassHit, Entry, Filters, Gallery
from gallery.schema import HEAVY
from gallery.shards import CROPS, PICTURES, ShardError
from lsd import labels, wordnet
from lsd.errors import LSDError

RESNET, VIT, CONVNEXT = (name for name, *_ in MODELS)
FACETS = ("model", "family", "layer", "kind", "recipe", "status")
SEARCHES = (
    *("", "dog", "cat", "tiger cat", "retriever", "tabby", "sports car", "resnet", "layer3", "layer3.5/channel/1"),
    *("channel/12", "channel", "head", "lucid", "maco", "12", "207", "50", "golden lucid", "dog resnet maco"),
    *("retriever −", "n02099601", "nothing at all", "blocks 2", "Egyptian", "class", "class/207"),
)


def _names_class(row: dict, phrase: str) -> bool:
    """Whether a class is named, by the gallery's rule, given that in this small gallery every part begins a word."""
    if not row["class_name"]:
        return False
    above = wordnet.below(phrase) | wordnet.named(phrase) | {phrase}
    return phrase in row["class_name"].lower() or row["synset"] in above


def _fits_word(row: dict, word: str) -> bool:
    if word.isdecimal():
        digits = "".join(c if c.isdecimal() else " " for c in row["model"]).split()
        return row["index"] == int(word) or word in digits
    spelled_out = row["kind"] in ("contrast", "expression") and word in f"{row['unit']} {row['title']}".lower()
    path = row["unit_id"] + "/"
    return (
        _names_class(row, word)
        or word in row["model"]
        or word in row["layer"]
        or row["kind"].startswith(word)
        or row["recipe"].startswith(word)
        or spelled_out
        or ("/" in word and (f"{word}/" if word[-1].isdecimal() else word) in path)
    )


def _fits_search(rows: list[dict], row: dict, search: str) -> bool:
    words = search.lower().split()
    phrase = " ".join(words)
    if len(words) > 1 and any(_names_class(other, phrase) for other in rows):
        return _names_class(row, phrase)
    return all(_fits_word(row, word) for word in words)


def _fits(rows: list[dict], row: dict, filters: Filters, without: str = "") -> bool:
    for name in FACETS:
        wanted = getattr(filters, name)
        if name != without and wanted != (None if name == "layer" else "") and row[name] != wanted:
            return False
    return _fits_search(rows, row, filters.search)


def _sorted(rows: list[dict], sort: str) -> list[dict]:
    column = {"own": "own_probability", "score": "score", "agreement": "agreement", "fine": "fine_energy"}.get(sort)
    if sort == "name":
        return sorted(rows, key=lambda row: row["title"].lower())
    if column is None:
        return rows
    sign = 1 if sort == "fine" else -1
    return sorted(rows, key=lambda row: (row[column] is None, sign * (row[column] or 0.0)))


FILTERS = st.builds(
    Filters,
    search=st.sampled_from(SEARCHES),
    model=st.sampled_from(["", "", RESNET, VIT, "nobody"]),
    family=st.sampled_from(["", "", "resnet"]),
    layer=st.sampled_from([None, None, "", "layer3.5"]),
    kind=st.sampled_from(["", "", "class", "channel"]),
    recipe=st.sampled_from(["", "", "lucid", "maco"]),
    status=st.sampled_from(["", "", "ok", "dead", "failed"]),
)


@given(FILTERS, st.sampled_from(list(SORTS)), st.integers(-1, 9), st.integers(1, 60))
def test_a_page(small, rows, filters, sort, number, size):
    expected = [row["unit_id"] for row in _sorted([row for row in rows if _fits(rows, row, filters)], sort)]
    page = small.page(filters, sort, number, size)
    assert page.total == len(expected)
    assert page.pages == max(1, -(-len(expected) // size))
    assert page.number == min(max(number, 1), page.pages)
    start = (page.number - 1) * size
    assert [entry.unit_id for entry in page.entries] == expected[start : start + size]


@pytest.mark.parametrize("search", SEARCHES)
def test_each_search(small, rows, search):
    expected = [row["unit_id"] for row in rows if _fits_search(rows, row, search)]
    assert [entry.unit_id for entry in small.page(Filters(search), size=1000).entries] == expected


@given(FILTERS)
def test_facets_count_what_fits_the_other_filters(small, rows, filters):
    facets = small.facets(filters)
    assert tuple(facets) == FACETS
    for name in FACETS:
        fits = [row[name] for row in rows if _fits(rows, row, filters, without=name)]
        assert dict(facets[name]) == {value: fits.count(value) for value in fits}
        assert len(dict(facets[name])) == len(facets[name])


def test_the_order_of_facets(small):
    facets = small.facets(Filters())
    assert [model for model, _ in facets["model"]] == sorted([RESNET, VIT, CONVNEXT])
    assert [layer for layer, _ in small.layers(RESNET)] == ["layer1.0.conv2", "layer3.5", ""]
    counts = [count for _, count in facets["recipe"]]
    assert counts == sorted(counts, reverse=True)
    assert small.models() == facets["model"]
    assert small.rows == sum(count for _, count in small.models())


def test_searches_that_people_make(small):
    def classes(search):
        return {entry.class_name.split(",")[0] for entry in small.page(Filters(search), size=1000).entries}

    assert classes("dog") == {"golden retriever", "Labrador retriever"}
    assert classes("retriever") == {"golden retriever", "Labrador retriever", ""}  # "" is their contrast
    assert classes("tiger cat") == {"tiger cat"}
    assert {"tabby", "tiger cat"} <= classes("cat")


def test_layers_before_classes_and_channels_by_number(small):
    entries = small.page(Filters(model=RESNET, kind="channel", layer="layer3.5"), size=100).entries
    assert [entry.index for entry in entries] == list(range(20))


def test_an_entry_is_the_row(small, rows):
    assert [field.name for field in fields(Entry)] == INDEX_SCHEMA.names
    for row in rows[::5]:
        entry = small.entry(row["unit_id"])
        for name in INDEX_SCHEMA.names[:-3]:
            value = getattr(entry, name)
            value = list(value) if isinstance(value, tuple) else value
            assert value == (pytest.approx(row[name]) if isinstance(value, float) else row[name])
    assert small.entry("nobody/class/1/lucid/0") is None


def test_what_was_not_said_is_empty(tmp_path):
    gallery = Gallery(make_gallery(tmp_path, [{"unit_id": "a", "model": "m", "score": float("nan")}, make_row()]))
    entry = gallery.entry("a")
    assert (entry.title, entry.score, entry.width, entry.status) == ("", None, None, "")
    assert [e.unit_id for e in gallery.page(Filters(), "score").entries][-1] == "a"


def test_the_models_whose_names_are_assumed_are_known(small, tmp_path):
    assert small.names_assumed == ()
    assumed = {"model-b": ["model-b"], "model-a": ["a judge"], "model-c": ["a judge", "model-c"]}
    rows = [make_row(model, names_assumed=names) for model, names in assumed.items()]
    assert Gallery(make_gallery(tmp_path, rows)).names_assumed == ("model-b", "model-c")


def test_details_are_the_whole_row(small, rows):
    for row in rows[::9]:
        details = small.details(small.entry(row["unit_id"]))
        assert details.keys() == row.keys() - {*PICTURES, CROPS}
        assert details["trace"] == pytest.approx(row["trace"])
        assert details["recipe_json"] == "{}" and set(HEAVY) - {*PICTURES, CROPS} <= details.keys()


def test_pictures_are_the_rows_own(small, rows):
    shuffled = random.Random(0).sample(rows, len(rows))
    entries = [small.entry(row["unit_id"]) for row in shuffled]
    assert small.thumbnails(entries) == [row["thumbnail"] or b"" for row in shuffled]
    assert [small.picture(entry) for entry in entries[:20]] == [row["picture"] or b"" for row in shuffled[:20]]
    assert any(row["picture"] is None for row in rows) and small.thumbnails([]) == []
    ok = next(entry for entry in entries if entry.status == "ok")
    assert pictures.pixels(small.picture(ok)).shape == (32, 48, 3)


def test_the_same_class_in_other_models(small, rows):
    for row in rows:
        entry = small.entry(row["unit_id"])
        found = small.same_class(entry)
        expected = []
        for model in sorted({other["model"] for other in rows} - {row["model"]}):
            same = [
                other for other in rows if other["model"] == model and other["class_name"] == row["class_name"] != ""
            ]
            same.sort(key=lambda other: (other["kind"] != row["kind"], other["recipe"] != row["recipe"], other["seed"]))
            expected += [other["unit_id"] for other in same[:1]]
        assert [other.unit_id for other in found] == expected


def test_a_class_of_another_name_is_the_same_by_its_wordnet_id(tmp_path):
    rows = [make_row("a"), make_row("b", class_name="golden", title="golden"), make_row("c", synset="")]
    gallery = Gallery(make_gallery(tmp_path, rows))
    assert [entry.model for entry in gallery.same_class(gallery.entry(rows[0]["unit_id"]))] == ["b", "c"]


def test_rows_of_units(small, rows):
    model = rows[0]["model"]
    units = [row["unit"] for row in rows if row["model"] == model][:3]
    found = small.of_units(model, [*units, "nothing", "'; DROP TABLE rows"])
    assert {e.unit_id for e in found} == {r["unit_id"] for r in rows if r["model"] == model and r["unit"] in units}
    assert small.of_units("nobody", units) == [] == small.of_units(model, [])


def test_variants(small, rows):
    for row in rows:
        found = small.variants(small.entry(row["unit_id"]))
        expected = [
            other["unit_id"]
            for other in rows
            if (other["model"], other["unit"]) == (row["model"], row["unit"]) and other is not row
        ]
        assert [other.unit_id for other in found] == expected


@pytest.mark.parametrize("count", [0, 1, 5, 12, 100])
def test_neighbours(small, rows, count):
    key = ("model", "layer", "kind", "recipe", "seed")
    for row in rows:
        around = [other for other in rows if all(other[name] == row[name] for name in key)]
        place = around.index(row)
        before, after = around[:place], around[place + 1 :]
        first = min(len(before), max(count // 2, count - len(after)))
        expected = before[len(before) - first :] + after[: count - first]
        found = small.neighbours(small.entry(row["unit_id"]), count)
        assert [other.unit_id for other in found] == [other["unit_id"] for other in expected]


def test_classes(small, rows):
    def models(number):
        return len({row["model"] for row in rows if row["class_name"] == labels.class_names(1000)[number]})

    expected = [ClassHit(labels.class_names(1000)[i], labels.synsets(1000)[i], models(i)) for i in CLASSES]
    expected.sort(key=lambda hit: hit.class_name.lower())
    assert small.classes() == expected
    assert small.classes(limit=2) == expected[:2]
    assert [hit.class_name for hit in small.classes("dog")] == ["golden retriever", "Labrador retriever"]
    assert [hit.class_name for hit in small.classes("retriever golden")] == ["golden retriever"]
    assert small.classes("nothing") == [] == small.classes("dog cat")


def test_compare(small, rows):
    names = [labels.class_names(1000)[i] for i in (281, 207, 954)]
    table = small.compare([VIT, "nobody", CONVNEXT], [*names, "unheard of"])
    for name, line in zip(names, table, strict=False):
        for model, entry in zip((VIT, "nobody", CONVNEXT), line, strict=True):
            same = [r for r in rows if r["model"] == model and r["class_name"] == name and r["kind"] == "class"]
            same.sort(key=lambda row: (row["recipe"] != "lucid", row["recipe"], row["seed"]))
            assert (entry and entry.unit_id) == (same[0]["unit_id"] if same else None)
    assert table[3] == [None] * 3
    assert small.compare([VIT], names[1:2], "lucid") == [[None]]
    assert small.compare([VIT], names[1:2], "maco")[0][0].recipe == "maco"
    assert small.compare([], names) == [[]] * 3 and small.compare([VIT], []) == []


HOSTILE = (
    "'; DROP TABLE rows; --", '"', "\0", "a\0b", "%", "_", "\\", "*", "[", "(", "(?", "\ud800", "‮", "x" * 10_000,
    "dog " * 10_000, "/" * 500, "1" * 500, "٣", "²", "class/²", "-1", "🐕", "\n\t", "$1", "?", "{}", "ﬁ", "İ" * 300,
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text(small, text):
    before = small.rows
    for filters in (Filters(text), Filters(model=text, layer=text, kind=text), Filters(f"dog {text}", recipe=text)):
        page = small.page(filters)
        assert len(page.entries) == min(page.total, 48)
        small.facets(filters)
    assert small.entry(text) is None and small.layers(text) == []
    small.classes(text)
    assert small.compare([text], [text], text) == [[None]]
    assert small.rows == before == small.page(Filters()).total


@given(st.text(max_size=300))
def test_any_text_can_be_searched(small, text):
    assert small.page(Filters(text)).total == sum(count for _, count in small.facets(Filters(text))["model"])


def test_an_unknown_sort_is_one_sentence(small):
    with pytest.raises(LSDError, match="sorted by “colour”"):
        small.page(Filters(), "colour")


def test_a_missing_index_is_made(tmp_path):
    make_gallery(tmp_path, [make_row()])
    assert Gallery(tmp_path).rows == 1
    assert (tmp_path / "index.parquet").is_file()


def test_a_folder_without_a_gallery_is_left_alone(tmp_path):
    with pytest.raises(LSDError, match="no gallery"):
        Gallery(tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(LSDError, match="no gallery"):
        Gallery(tmp_path / "nowhere")


@pytest.mark.parametrize("data", [b"", b"no parquet"])
def test_a_damaged_index_is_one_sentence(tmp_path, data):
    (tmp_path / "index.parquet").write_bytes(data)
    with pytest.raises(LSDError, match="make it again"):
        Gallery(tmp_path)


def test_an_index_of_another_version_is_one_sentence(tmp_path):
    path = write_shard(tmp_path, "a", [make_row()])
    (tmp_path / "index.parquet").write_bytes(path.read_bytes())
    with pytest.raises(LSDError, match="another version"):
        Gallery(tmp_path)


def test_a_shard_that_changed_never_shows_another_rows_picture(tmp_path):
    rows = [make_row(unit=f"class/{i}") for i in range(3)]
    path = write_shard(tmp_path, "a", rows)
    gallery = Gallery(tmp_path)
    entry = gallery.entry(rows[1]["unit_id"])
    write_shard(tmp_path, "a", rows[2:])
    with pytest.raises(ShardError, match="make the index again"):
        gallery.thumbnails([entry])
    path.unlink()
    with pytest.raises(ShardError, match="make the index again"):
        gallery.details(entry)
    for shard in ("../secret.parquet", "/etc/passwd"):
        with pytest.raises(ShardError, match="not among its own"):
            gallery.picture(replace(entry, shard=shard))


def test_shards_that_are_newer_than_the_index_change_nothing(tmp_path):
    write_shard(tmp_path, "a", [make_row()])
    build(tmp_path)
    write_shard(tmp_path, "b", [make_row(unit="class/3")])
    assert Gallery(tmp_path).rows == 1


def test_many_threads_read_at_once(gallery_folder: Path, rows):
    gallery = Gallery(gallery_folder)
    by_id = {row["unit_id"]: row for row in rows}
    searches = [Filters(search) for search in SEARCHES]
    expected = [gallery.page(filters) for filters in searches]

    def visit(number: int) -> None:
        choice = random.Random(number)
        for _ in range(10):
            place = choice.randrange(len(searches))
            assert gallery.page(searches[place]) == expected[place]
            found = expected[place].entries
            assert gallery.thumbnails(found) == [by_id[entry.unit_id]["thumbnail"] or b"" for entry in found]
            row = choice.choice(rows)
            entry = gallery.entry(row["unit_id"])
            assert gallery.picture(entry) == (row["picture"] or b"")
            assert gallery.details(entry)["unit_id"] == row["unit_id"]
            gallery.facets(searches[place])
            gallery.same_class(entry)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(visit, range(16)))


def test_an_empty_gallery_answers(tmp_path):
    gallery = Gallery.empty("There is nothing.")
    assert gallery.rows == 0 and gallery.origin == "There is nothing."
    assert gallery.page(Filters("dog"), number=3).entries == [] and gallery.models() == [] == gallery.classes("dog")
    assert gallery.facets(Filters("dog", layer="")) == {name: [] for name in FACETS}
    assert gallery.entry("a") is None and gallery.compare(["a"], ["b"]) == [[None]]


def test_an_index_from_before_there_were_digests_is_opened(tmp_path):
    folder = make_gallery(tmp_path, make_rows())
    build(folder)
    table = pq.read_table(folder / "index.parquet").drop_columns(["weights_digest"])
    pq.write_table(table, folder / "index.parquet")
    gallery = Gallery(folder)
    assert gallery.page(Filters()).entries[0].weights_digest in (None, "") and gallery.rows == len(table)


def test_a_shard_that_is_harmed_while_it_is_served_is_one_sentence_and_mends_itself(tmp_path):
    """Cut, gone, another file, of other columns; then whole again, in other bytes."""
    rows = [make_row(unit=f"class/{i}") for i in range(3)]
    folder = make_gallery(tmp_path / "gallery", rows)
    build(folder)
    gallery = Gallery(folder)
    entry = gallery.entry(rows[0]["unit_id"])
    shard = folder / entry.shard
    whole, other = shard.read_bytes(), io.BytesIO()
    assert gallery.picture(entry)
    pq.write_table(pa.table({"unit_id": [rows[0]["unit_id"]]}), other)
    hollow = whole[:4] + bytes(len(whole) - 8) + whole[-4:]
    for harmed in (whole[: len(whole) // 2], b"", b"<html>", hollow, other.getvalue(), None):
        shard.unlink()
        if harmed is not None:
            shard.write_bytes(harmed)
        for ask in (gallery.picture, gallery.details):
            with pytest.raises(LSDError) as caught:
                ask(entry)
            assert "\n" not in str(caught.value)
    pq.write_table(pq.read_table(io.BytesIO(whole)), shard, row_group_size=100)
    assert gallery.picture(entry) == rows[0]["picture"]
