"""The gallery that ships: what visitors see first."""

import datasets

from gallery import pictures, shards
from gallery.index import find_shards
from gallery.queries import Filters, Gallery
from gallery.source import SAMPLE
from lsd.packages import PACKAGES

LAB = ("mobilenetv2_100.tflite_qat_in1k", "resnet50.tf_uint8_in1k", "vit_tiny_patch16_224.augreg_in1k")


def test_it_is_small_enough_to_ship_and_holds_nothing_else():
    files = [path for path in SAMPLE.rglob("*") if path.is_file()]
    sizes = [path.stat().st_size for path in files]
    assert sum(sizes) <= 60_000_000 and max(sizes) <= 8_000_000
    assert {path.name for path in files if path.suffix != ".parquet"} == {"README.md", "croissant.json"}


def test_it_has_two_hundred_classes_and_every_stage_of_the_networks_that_everybody_has():
    gallery = Gallery(SAMPLE)
    for model in PACKAGES:
        assert gallery.page(Filters(model=model, layer="", status="ok")).total >= 200
        stages = {layer: count for layer, count in gallery.layers(model) if layer}
        assert len(stages) == 7 and all(stages[f"blocks.{i}"] == 24 for i in (1, 2, 3, 4, 6))
        assert stages["blocks.5"] >= 192  # all of the stage that reasons speak of
    for model in LAB:
        assert gallery.page(Filters(model=model, layer="", status="ok")).total >= 100
        assert any(count >= 16 for layer, count in gallery.layers(model) if layer)
    assert len([hit for hit in gallery.classes(limit=1000) if hit.models >= 6 and hit.synset]) >= 100


def test_every_row_tells_its_weights_and_those_of_the_packages_are_the_packages():
    for path in find_shards(SAMPLE):
        for row in shards.read_rows(path, ["model", "weights_digest"]):
            assert len(row["weights_digest"]) == 64
            assert row["model"] not in PACKAGES or row["weights_digest"] == PACKAGES[row["model"]].digest


def test_five_networks_judge_the_classes_of_those_that_everybody_has():
    for path in find_shards(SAMPLE):
        for row in shards.read_rows(path, ["model", "kind", "verifiers"]):
            if row["model"] in PACKAGES and row["kind"] == "class":
                assert {v["model"] for v in row["verifiers"]} == {*PACKAGES, *LAB} - {row["model"]}


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
