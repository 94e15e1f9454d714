"""The nearest rows, held against a slow search over dictionaries; embeddings that go with their shards."""

import math

import numpy as np
import pytest
from gallery_fixture import make_gallery, make_row, write_shard

from gallery import embeddings, nearest, pictures
from gallery.__main__ import main
from gallery.index import build, find_shards
from gallery.queries import Gallery
from gallery.source import SAMPLE
from lsd.errors import LSDError

CLASSES = ("tabby", "lynx", "zebra", "tench")


def _answers(draw, count):
    chosen = draw.choice(len(CLASSES), count, replace=False).tolist()
    return [{"index": i, "name": CLASSES[i], "probability": float(np.float32(draw.random()))} for i in chosen]


@pytest.fixture(scope="module")
def rows():
    draw = np.random.default_rng(0)
    made = []
    for number in range(40):
        verifiers = [{"model": f"m{i}", "top": _answers(draw, int(draw.integers(0, 4)))} for i in range(number % 4)]
        made.append(make_row(unit=f"class/{number}", own_top=_answers(draw, number % 3), verifiers=verifiers))
    made[7]["own_top"], made[7]["verifiers"] = None, None
    return made


@pytest.fixture
def folder(tmp_path, rows):
    made = make_gallery(tmp_path / "gallery", rows, shard_rows=15)
    build(made)
    return made


@pytest.fixture
def mean_colours(monkeypatch):
    """In place of a network's embedding the mean colour; how many pictures were looked at."""
    seen = []

    def look(pixels, model):
        seen.extend(pixels)
        return np.stack([p.reshape(-1, 3).mean(0) for p in pixels]).astype(np.float32)

    monkeypatch.setattr(embeddings, "of_pictures", look)
    monkeypatch.setattr(embeddings, "get_model", lambda name: None)
    return seen


def _sums(row):
    sums = dict.fromkeys(CLASSES, 0.0)
    for top in [row["own_top"], *(judge["top"] for judge in row["verifiers"] or [])]:
        for answer in top or []:
            sums[answer["name"]] += answer["probability"]
    return list(sums.values())


def _cosine(one, other):
    length = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / length if length else None


def _slow(rows, vectors, place):
    found = [(_cosine(vectors[place], v), row["unit_id"]) for row, v in zip(rows, vectors, strict=True)]
    return sorted([pair for i, pair in enumerate(found) if i != place and pair[0] is not None], reverse=True)


def _hold(found, expected, tolerance):
    assert len(found) == len(expected)
    for (entry, near), (cosine, _) in zip(found, expected, strict=True):
        assert near == pytest.approx(cosine, abs=tolerance)
        assert dict((name, value) for value, name in expected)[entry.unit_id] == pytest.approx(near, abs=tolerance)


@pytest.mark.parametrize("place", [1, 11, 38])
def test_by_answers(folder, rows, place):
    gallery = Gallery(folder)
    expected = _slow(rows, [_sums(row) for row in rows], place)
    _hold(gallery.nearest(gallery.entry(rows[place]["unit_id"]), "answers", 100), expected, 1e-6)
    few = gallery.nearest(gallery.entry(rows[place]["unit_id"]), count=3)
    assert [near for _, near in few] == pytest.approx([cosine for cosine, _ in expected[:3]], abs=1e-6)


def test_by_picture(folder, rows, mean_colours):
    assert embeddings.make(folder) == 3 and len(mean_colours) == 40
    vectors = [pictures.pixels(row["thumbnail"]).reshape(-1, 3).mean(0).tolist() for row in rows]
    gallery = Gallery(folder)
    found = gallery.nearest(gallery.entry(rows[3]["unit_id"]), "picture", 100)
    _hold(found, _slow(rows, vectors, 3), 2e-3)  # they lie there in half precision
    assert len(find_shards(folder)) == 3  # embeddings are no shards


def test_embeddings_go_with_their_shards(folder, mean_colours):
    embeddings.make(folder)
    assert embeddings.make(folder) == 0
    write_shard(folder, "more", [make_row(unit="class/99")])
    build(folder)
    gallery = Gallery(folder)
    with pytest.raises(LSDError, match=r"Of 1 of 4 files it is not known .* python -m gallery embed"):
        gallery.nearest(gallery.entry(make_row(unit="class/99")["unit_id"]), "picture")
    mean_colours.clear()
    assert embeddings.make(folder) == 1 and len(mean_colours) == 1
    assert len(gallery.nearest(gallery.entry(make_row(unit="class/99")["unit_id"]), "picture")) == 12


def test_a_row_without_a_picture_is_nobodys_neighbour(tmp_path, mean_colours):
    rows = [make_row(unit="class/1"), make_row(unit="class/2", status="failed", picture=None, thumbnail=None)]
    folder = make_gallery(tmp_path, rows)
    embeddings.make(folder)
    gallery = Gallery(folder)
    assert gallery.nearest(gallery.entry(rows[0]["unit_id"]), "picture") == []
    with pytest.raises(LSDError, match="has no picture"):
        gallery.nearest(gallery.entry(rows[1]["unit_id"]), "picture")


def test_what_cannot_be_asked_is_one_sentence(folder, rows):
    gallery = Gallery(folder)
    with pytest.raises(LSDError, match="choose one of answers, picture"):
        gallery.nearest(gallery.entry(rows[0]["unit_id"]), "colour")
    with pytest.raises(LSDError, match="Nothing is known"):
        gallery.nearest(gallery.entry(rows[7]["unit_id"]))
    elsewhere = Gallery(folder, locate=lambda shard: folder / shard)
    with pytest.raises(LSDError, match="download the whole data set"):
        elsewhere.nearest(elsewhere.entry(rows[0]["unit_id"]))
    with pytest.raises(LSDError, match="no shards"):
        embeddings.make(folder / "nowhere")


def test_the_commands(folder, rows, mean_colours, capsys):
    unit = rows[1]["unit_id"]
    assert main(["neighbours", str(folder), unit, "--count", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    near = nearest.nearest(folder, unit, "answers", 3)
    assert [line.split()[1] for line in lines] == [name for name, _ in near] and len(lines) == 3
    assert main(["neighbours", str(folder), unit, "--by", "picture"]) == 2
    assert "python -m gallery embed" in capsys.readouterr().err
    assert main(["embed", str(folder)]) == 0 and main(["embed", str(folder)]) == 0
    assert "3 files written" in capsys.readouterr().out
    assert main(["neighbours", str(folder), unit, "--by", "picture"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 12
    assert main(["neighbours", str(folder), "nobody"]) == 2
    assert main(["neighbours", str(folder), unit, "--count", "0"]) == 2


def test_a_class_in_another_network_is_nearer_than_another_class():
    """With the real network, on pictures that ship."""
    gallery = Gallery(SAMPLE)
    models, numbers = ("resnet50.tf_uint8_in1k", "mobilenetv2_100.tflite_qat_in1k"), (1, 207)
    entries = [gallery.of_units(model, [f"class/{number}"])[0] for number in numbers for model in models]
    pixels = [pictures.pixels(data) for data in gallery.thumbnails(entries)]
    vectors = embeddings.of_pictures(pixels, embeddings.get_model(embeddings.NETWORK))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    near = vectors @ vectors.T
    assert min(near[0, 1], near[2, 3]) > near[:2, 2:].max() + 0.05
