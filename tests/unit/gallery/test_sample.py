"""The gallery that ships: what visitors see first."""

import datasets

from gallery import pictures, shards
from gallery.index import find_shards
from gallery.queries import Filters, Gallery
from gallery.source import SAMPLE

IMAGENET = ("mobilenetv2_100.tflite_qat_in1k", "resnet50.tf_uint8_in1k", "vit_tiny_patch16_224.augreg_in1k")


def test_it_is_small_enough_to_ship_and_holds_nothing_else():
    files = [path for path in SAMPLE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 20_000_000
    assert {path.name for path in files if path.suffix != ".parquet"} == {"README.md"}


def test_it_has_a_hundred_classes_of_three_imagenet_networks():
    gallery = Gallery(SAMPLE)
    for model in IMAGENET:
        assert gallery.page(Filters(model=model, layer="", status="ok")).total >= 100
        assert any(count >= 16 for layer, count in gallery.layers(model) if layer)
    names = [hit for hit in gallery.classes(limit=1000) if hit.models >= 3 and hit.synset]
    assert len(names) >= 100


def test_every_picture_opens_and_none_is_grey_dead_or_failed_among_the_classes():
    for path in find_shards(SAMPLE):
        for row in shards.read_rows(path, ["picture", "thumbnail", "width", "height", "status", "flat", "kind"]):
            if row["kind"] == "class":
                assert row["status"] == "ok" and row["flat"] != "grey"
            assert pictures.pixels(row["picture"]).shape == (row["height"], row["width"], 3)
            assert max(pictures.pixels(row["thumbnail"]).shape) <= 128


def test_datasets_opens_it(tmp_path):
    found = datasets.load_dataset(str(SAMPLE), split="train", cache_dir=str(tmp_path))
    assert len(found) == Gallery(SAMPLE).rows
