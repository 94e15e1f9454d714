"""A unit's page with the photos that excite it: shown where they are at hand, told where not, and anybody's rows do no harm."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gallery_fixture import MODELS, make_gallery, make_row
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from gallery import exemplars, pictures
from gallery.exemplars import Exemplar, crop, locate, read
from gallery.index import build
from gallery.queries import Gallery
from lsd.evaluation.trust_path import Step
from lsd.images import file_sha256
from lsd.ui.gallery.exemplars import exemplars_section, path_words
from lsd.ui.gallery.photo_plots import answers_plot, path_plot
from lsd.ui.gallery.pictures import ROUTES, exemplar_address
from lsd.ui.gallery.unit import unit_page

MODEL = MODELS[0][0]
EVIL = '"><script>alert(1)</script>'


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    (folder / "dogs").mkdir()
    random = np.random.default_rng(0)
    for number in range(3):
        pixels = random.integers(0, 256, (10, 15, 3), dtype=np.uint8).repeat(40, 0).repeat(40, 1)
        Image.fromarray(pixels).save(folder / f"dogs/{number}.png")
    return folder


def about(**changes):
    told = {
        "count": 400,
        "digest": "1" * 64,
        "note": "",
        "value": 5.5,
        "below": 1.0,
        "quantiles": np.linspace(-8, 3, 33).tolist(),
    }
    return told | changes


def step(layer, likeness):
    return {"layer": layer, "picture": 0.5, "alike": 0.8, "next": 0.7, "apart": 0.3, "likeness": likeness}


def named(photos, *files):
    return [
        {"file": file, "digest": file_sha256(photos / file), "box": [40, 80, 240, 280], "value": 3.0 - place}
        for place, file in enumerate(files)
    ]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory, photos):
    """Classes 207: all is there; 208: with copies; 281: nothing but a reason; 282: one who means no good; 292: no photos."""
    path = [step("layer1", None), step("layer2", 0.9), step("layer3", 0.8)]
    copy = pictures.webp(np.zeros((8, 8, 3), np.uint8))
    whole = {"photos": about(), "exemplars": named(photos, "dogs/0.png", "dogs/1.png"), "path": path}
    hostile = [
        {"file": file, "digest": EVIL, "box": box, "value": 1.0}
        for file, box in (
            ("../../etc/passwd", [0, 0, 9, 9]),
            ("/etc/passwd", [0, 0, 9, 9]),
            (EVIL, [0, 0, 2**31 - 1, 9]),
        )
    ]
    rows = [
        make_row(unit="class/207", **whole),
        make_row(unit="class/208", **whole | {"crops": [{"bytes": copy, "path": None}] * 2}),
        make_row(unit="class/281", photos={"count": 400, "digest": "", "note": "It is a unit of several networks."}),
        make_row(unit="class/282", photos=about(note=EVIL), exemplars=hostile, path=[step(EVIL, 0.1), step(EVIL, 0.2)]),
        make_row(unit="class/292"),
    ]
    folder = make_gallery(tmp_path_factory.mktemp("gallery"), rows)
    build(folder)
    return Gallery(folder)


def page(gallery, number):
    return unit_page(gallery, gallery.entry(f"{MODEL}/class/{number}/lucid/0"))


@pytest.fixture
def at_hand(photos, monkeypatch):
    monkeypatch.setenv("LSD_PHOTOS", str(photos))
    return photos


def test_photos_at_hand_are_beside_the_picture_and_their_parts_are_served(gallery, at_hand, monkeypatch):
    found = page(gallery, 207)
    address = exemplar_address(f"{MODEL}/class/207/lucid/0", 1)
    assert found.count("gallery-photo?") == 2 and address.replace("&", "&amp;") in found and "not here" not in found
    assert (
        "of 400 photos" in found
        and "The unit answers to the picture with 5.5, to the strongest of 400 photos with 3" in found
    )
    assert "more than to any of them" in found and "Mostly: on the way" in found and "2 of 3 layers" in found
    monkeypatch.setattr("gallery.source.open_gallery", lambda: gallery)
    client = TestClient(Starlette(routes=ROUTES))
    answer = client.get(f"/{address}")
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/webp"
    shown = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"), float)
    original = np.asarray(Image.open(at_hand / "dogs/1.png"), float)[80:280, 40:240]
    assert shown.shape == original.shape and np.abs(shown - original).mean() < 8
    assert client.get(f"/{address}", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    for wrong in (
        exemplar_address(f"{MODEL}/class/207/lucid/0", 2),
        "gallery-photo?u=x&n=0",
        "gallery-photo",
        f"{address}x",
        f"{address}²",
    ):
        assert client.get(f"/{wrong}").status_code == 404


def test_without_the_folder_names_and_answers_are_told(gallery, monkeypatch):
    monkeypatch.delenv("LSD_PHOTOS", raising=False)
    found = page(gallery, 207)
    assert "gallery-photo?" not in found and found.count("not here") == 2 and "1.png" in found and "LSD_PHOTOS" in found


def test_copies_are_shown_wherever_the_photos_are(gallery, monkeypatch):
    monkeypatch.delenv("LSD_PHOTOS", raising=False)
    found = page(gallery, 208)
    assert "gallery-photo?" not in found and "not here" not in found and "LSD_PHOTOS" not in found
    entry = gallery.entry(f"{MODEL}/class/208/lucid/0")
    assert len(gallery.crops(entry)) == 2 and "crops" not in gallery.details(entry)


def test_why_there_is_nothing_is_told_and_rows_of_before_tell_nothing(gallery):
    assert "It is a unit of several networks." in page(gallery, 281) and "this picture" not in page(gallery, 281)
    assert "In photos" not in page(gallery, 292)


def test_a_photo_with_other_contents_is_not_shown(gallery, photos, tmp_path, monkeypatch):
    (tmp_path / "dogs").mkdir()
    (tmp_path / "dogs/0.png").write_bytes((photos / "dogs/2.png").read_bytes())
    (tmp_path / "dogs/1.png").write_bytes((photos / "dogs/1.png").read_bytes())
    monkeypatch.setenv("LSD_PHOTOS", str(tmp_path))
    first, second = read(gallery.details(gallery.entry(f"{MODEL}/class/207/lucid/0"))).exemplars
    assert locate(first) is None and crop(first) == b"" and locate(second) == tmp_path / "dogs/1.png"
    assert page(gallery, 207).count("not here") == 1
    (tmp_path / "dogs/0.png").write_bytes((photos / "dogs/0.png").read_bytes())
    assert locate(first)


def test_nothing_outside_of_the_folder_is_read_and_nothing_of_a_row_is_markup(gallery, at_hand):
    found = page(gallery, 282)
    assert "<script>alert" not in found and "gallery-photo?" not in found and found.count("not here") == 3
    digest = file_sha256(at_hand / "dogs/0.png")
    (at_hand.parent / "outside.png").write_bytes((at_hand / "dogs/0.png").read_bytes())
    for file in ("../outside.png", str(at_hand / "dogs/0.png"), "dogs/../../outside.png", "dogs", "no\0thing"):
        assert locate(Exemplar(file, digest, (0, 0, 5, 5), 1.0)) is None
    beyond = Exemplar("dogs/0.png", digest, (0, 0, 601, 400), 1.0)
    assert locate(beyond) and crop(beyond) == b""


@pytest.mark.parametrize("change", [
    {"exemplars": [{"file": "a", "digest": "", "box": [5, 0, 5, 9], "value": 1.0}]},
    {"exemplars": [{"file": "a", "digest": "", "box": [0, 0, 9], "value": 1.0}]},
    {"exemplars": [{"file": "a", "digest": "", "box": None, "value": 1.0}]},
    {"exemplars": [{"file": "a", "digest": "", "box": [0, 0, 9, 9], "value": float("nan")}]},
    {"path": [step("a", 0.5) | {"alike": None}]},
    {"photos": about(quantiles=[0.0, None])},
    {"photos": about(quantiles=[1.0, 0.0])},
    {"photos": about(count=0)},
    {"photos": None},
], ids=str)  # fmt: skip
def test_what_cannot_be_is_nothing(change):
    assert read({"photos": about(), "exemplars": None, "path": None} | change) is None


def test_a_scale_without_length_tells_nothing():
    (told,) = read({"photos": about(), "path": [step("a", 0.5) | {"alike": 0.3}]}).path
    assert told.likeness is None and told.picture == 0.5


def test_the_sentence_says_how_far_to_believe_it():
    found = read({"photos": about(), "path": [step("a", 0.5)]})
    words = [
        path_words(replace(found, path=(Step("a", 0.5, 0.8, 0.7, 0.3, likeness),)))
        for likeness in (0.9, 0.5, 0.1, None)
    ]
    assert [text.split(" ")[0] for text in words] == ["Mostly:", "In", "Hardly:", "These"]
    assert "need not be what drives the unit" in words[2] and "told by 1 of 1 layers" in words[0]


def test_a_picture_below_some_photos_and_a_class_that_none_is_taken_for(gallery):
    entry = gallery.entry(f"{MODEL}/class/207/lucid/0")
    row = gallery.details(entry)
    row["photos"] = about(value=0.5, below=0.9975)
    assert "more than to 99% of them" in exemplars_section(gallery, entry, row)
    row["photos"] = about(below=0.0)
    assert "no more than to any of them" in exemplars_section(gallery, entry, row)
    row["exemplars"] = [one | {"value": -1.5} for one in row["exemplars"]]
    assert "None of these photos is taken for its class" in exemplars_section(gallery, entry, row)
    assert "−1.5" in exemplars_section(gallery, entry, row)


def test_the_plots_bear_what_there_is():
    assert answers_plot([], 1.0, "") == answers_plot([2.0, 2.0], 2.0, "") == path_plot([], "") == ""
    assert path_plot([Step("a", 0, 1, 1, 0, None)], "") == ""
    assert answers_plot([0.0, 1.0, 1.0], -5.0, "").count("<path") == 1
    drawn = path_plot([Step(f"stages.{i}.blocks.0", 0.5, 0.8, 0.7, 0.3, i / 12) for i in range(12)], "")
    assert drawn.count("<circle") == 24 and "…" in drawn


def test_the_same_part_is_not_cut_out_twice(at_hand, monkeypatch):
    opened = []
    monkeypatch.setattr(
        exemplars, "open_image", lambda path: opened.append(Path(path)) or Image.open(path).convert("RGB")
    )
    one = Exemplar("dogs/2.png", file_sha256(at_hand / "dogs/2.png"), (0, 0, 50, 50), 1.0)
    assert crop(one) == crop(one) != b"" and len(opened) == 1
