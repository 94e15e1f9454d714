"""Every answer against the same question in SQL: on the sample that ships, and on galleries full of ties and oddities."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gallery_reference import Reference
from hypothesis import given, settings
from hypothesis import strategies as st

from gallery import find, orders, rows, tables
from gallery.filters import SORTS, Filters
from gallery.queries import Entry, Gallery
from gallery.rows import INDEX_SCHEMA
from gallery.source import SAMPLE

# Texts that are parts of one another, with slashes, capitals and characters whose small letter is another length.
MODELS = ("a", "a/b", "A", "İx", "hf-hub:a/b_c", "resnet50.a1")
UNITS = ("class/1", "class/12", "layer1/channel/1", "layer1/channel/12", "b/class/1", "−1 * Class/1 + x", "a", "")
CLASSES = (
    ("crane", "n01"),
    ("crane", "n02"),
    ("crane, bird", ""),
    ("dog", "n02084071"),
    ("dog", ""),
    ("", ""),
    ("", "n01"),
)
NUMBERS = st.one_of(st.none(), st.sampled_from([0.0, -0.0, 0.5, 1.0, float("nan"), float("inf"), -float("inf")]))
SEARCHES = (
    *(
        "",
        "a",
        "b",
        "1",
        "12",
        "50",
        "crane",
        "dog",
        "dog crane",
        "layer1",
        "class/1",
        "channel/1",
        "channel/12",
        "a/b",
        "/",
    ),
    *(
        "a/",
        "b/class",
        "a/b/class/1",
        "a/class/1/lsd/0",
        "/lsd",
        "lsd/0",
        "//",
        "i̇x/",
        "x/layer1/channel",
        "maco/1",
        "class",
    ),
    *("contrast", "−1", "class/1 x", "zebra", "a/b_c/", "b_c/layer1", "İX/CLASS/12", "whole/of", "n02"),
)


def _maybe(*values):
    return st.sampled_from([*values, None])


@st.composite
def _rows(draw) -> dict:
    model, unit, recipe, seed = draw(
        st.tuples(_maybe(*MODELS), _maybe(*UNITS), _maybe("lsd", "maco", "lucid"), _maybe(0, 1))
    )
    name, synset = draw(st.sampled_from(CLASSES))
    odd = draw(st.sampled_from(["", "", "", "Whole/of another", None]))
    made = f"{model}/{unit}/{recipe}/{seed}"
    return {
        "unit_id": made if odd == "" else odd,
        "model": model,
        "unit": unit,
        "recipe": recipe,
        "seed": seed,
        "class_name": name,
        "synset": synset,
        "family": draw(_maybe("f", "g")),
        "layer": draw(_maybe("", "layer1", "layer2")),
        "depth": draw(_maybe(0, 1, 2)),
        "kind": draw(_maybe("class", "channel", "contrast", "expression")),
        "index": draw(_maybe(1, 12, 50, -1)),
        "title": draw(_maybe("Zebra", "zebra", "ǅ x", "b", "")),
        "status": draw(_maybe("ok", "dead", "failed")),
        "score": draw(NUMBERS),
        "own_probability": draw(NUMBERS),
        "agreement": draw(NUMBERS),
        "fine_energy": draw(NUMBERS),
        "names_assumed": draw(_maybe([], ["a"], [model or "a", "b"])),
    }


FILTERS = st.builds(
    Filters,
    search=st.lists(st.sampled_from(SEARCHES), max_size=2).map(" ".join),
    model=st.sampled_from(["", "", *MODELS]),
    family=st.sampled_from(["", "", "f"]),
    layer=st.sampled_from([None, None, "", "layer1"]),
    kind=st.sampled_from(["", "", "class", "contrast"]),
    recipe=st.sampled_from(["", "", "lsd"]),
    status=st.sampled_from(["", "", "ok"]),
)


def _promised(row: dict) -> dict:
    """A row as an entry is to have it."""
    values = {}
    for field in INDEX_SCHEMA:
        value = row.get(field.name)
        if pa.types.is_string(field.type):
            value = value or ""
        elif pa.types.is_list(field.type):
            value = tuple(value or ())
        elif field.name in ("depth", "index", "seed"):
            value = -1 if value is None else value
        elif isinstance(value, float) and not math.isfinite(value):
            value = None
        values[field.name] = value
    return values


def _place(entry: Entry | None) -> tuple | None:
    return entry and (entry.shard, entry.row_group, entry.row)


def _places(entries) -> list:
    return [_place(entry) for entry in entries]


def _hold_against(gallery: Gallery, reference: Reference, filters: Filters, number: int, size: int) -> list[Entry]:
    facets = gallery.facets(filters)
    assert facets == reference.facets(filters)
    entries = []
    for sort in SORTS:
        page = gallery.page(filters, sort, number, size)
        assert (_places(page.entries), page.total) == reference.page(filters, sort, number, size)
        entries += page.entries
    return entries


def _hold_one_against(gallery: Gallery, reference: Reference, entry: Entry, count: int) -> None:
    assert _places(gallery.neighbours(entry, count)) == reference.neighbours(_place(entry), count)
    assert _place(gallery.entry(entry.unit_id)) == reference.entry(entry.unit_id)[0]
    assert _places(gallery.of_units(entry.model, [entry.unit, "a"])) == reference.of_units(
        entry.model, [entry.unit, "a"]
    )
    assert _places(gallery.variants(entry)) == reference.variants(entry.model, entry.unit, entry.unit_id)
    same = gallery.same_class(entry)
    expected = reference.same_class(entry.class_name, entry.synset, entry.model, entry.kind, entry.recipe)
    assert _places(same) == expected and len(same) == len(expected)
    assert list(same.models) == [other.model for other in same]
    assert _places(same[1:3]) == expected[1:3] and [_place(same[i]) for i in range(len(same))] == expected


def _compare(gallery: Gallery, reference: Reference, names: list[str], recipe: str) -> None:
    models = [*(model for model, _ in gallery.models()), "nobody"]
    found = gallery.compare(models, names, recipe)
    expected = [[reference.compared(model, name, recipe) for model in models] for name in names]
    assert [_places(row) for row in found] == expected
    if not recipe:
        for name, row in zip(names, expected, strict=True):
            assert _places(gallery.in_models(name)) == [place for place in row if place]


@settings(max_examples=60)
@given(
    st.lists(_rows(), min_size=1, max_size=40, unique_by=lambda row: row["unit_id"]),
    st.lists(FILTERS, min_size=1, max_size=4),
    st.integers(1, 12),
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(0, 5),
    st.booleans(),
)
def test_a_made_up_gallery(drawn, questions, group, block, number, count, with_orders):
    """In no order, in small row groups, and read in small blocks; with its orders in the index, or none."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for module in (rows, tables, find):
            patch.setattr(module, "BLOCK", block)
        patch.setattr(find, "STEP", block)
        patch.setattr(find, "SPARSE", 64 * (block % 2))  # 0: always
        for place, row in enumerate(drawn):
            row |= {"shard": "data/a.parquet", "row_group": place // 64, "row": place % 64}
        path = Path(folder) / "index.parquet"
        table = pa.Table.from_pylist(drawn, schema=INDEX_SCHEMA)
        pq.write_table(table, path, row_group_size=group)
        if with_orders:
            made, stated = orders.columns(rows.Rows(path))
            for name, numbers in made.items():
                table = table.append_column(name, pa.array(numbers))
            pq.write_table(table.replace_schema_metadata(stated), path, row_group_size=group)
        gallery, reference = Gallery(folder), Reference(Path(folder))
        for size in (1, 3):  # first what a row group has in common is not known yet
            pages = [gallery.page(Filters(), number=1 + i, size=size).entries for i in range(-(-len(drawn) // size))]
            assert [entry for entries in pages for entry in entries] == [Entry(**_promised(row)) for row in drawn]
        for filters in questions:
            entries = _hold_against(gallery, reference, filters, number, 7)
        assumed = {row["model"] for row in drawn if row["model"] in (row["names_assumed"] or ())}
        assert gallery.names_assumed == tuple(sorted(assumed))
        hits = [(hit.class_name, hit.synset, hit.models) for hit in gallery.classes(limit=100)]
        assert hits == reference.classes("")
        for entry in entries[:3]:
            if entry.unit_id:  # of several without one, any is found
                _hold_one_against(gallery, reference, entry, count)
        names = sorted({text for pair in CLASSES for text in pair})
        _compare(gallery, reference, names, "")
        _compare(gallery, reference, names, "lsd")


def test_the_sample_that_ships():
    gallery, reference = Gallery(SAMPLE), Reference(SAMPLE)
    searches = ("", "dog", "bird", "tiger cat", "lite", "stage", "channel/12", "class/207/lsd", "12", "lsd dog", "xyz")
    model = gallery.models()[0][0]
    for filters in [*map(Filters, searches), Filters(model=model, kind="class"), Filters("dog", status="ok", layer="")]:
        entries = _hold_against(gallery, reference, filters, 2, 20)
        for entry in entries[:: 1 + len(entries) // 4]:
            _hold_one_against(gallery, reference, entry, 12)
    hits = gallery.classes(limit=10**6)
    assert [(hit.class_name, hit.synset, hit.models) for hit in hits] == reference.classes("")
    _compare(gallery, reference, [hit.class_name for hit in hits[::40]], "")
