"""Pictures are made again from their rows alone, and what was changed is noticed."""

import json

import numpy as np
import pytest
import torch

from gallery import pictures, shards
from gallery.index import find_shards
from lsd.errors import LSDError, ModelError
from lsd.features import networks
from lsd.features.ascent import ascend_jobs
from lsd.tracing import run_to
from lsd.weights import HUB, Availability
from precompute import verify as verifying
from precompute.publish import assemble
from precompute.run import run
from precompute.verify import SIMILAR, UNAVAILABLE, parse_sample, verify


def change(folder, edit) -> None:
    """Write the only shard again with rows changed by `edit(row)`; a row is left out where it returns False."""
    (path,) = find_shards(folder)
    rows = [row for row in shards.read_rows(path) if edit(row) is not False]
    path.write_bytes(shards.table_bytes(shards.to_table(rows)))


def test_untouched_rows_are_made_again_bit_for_bit(finished_run):
    checks = list(verify(finished_run, 1.0))
    assert len(checks) == 10 and {check.verdict for check in checks} == {"identical"}
    assert all(check.similarity == pytest.approx(1) for check in checks)


def test_what_was_said_of_the_networks_is_said_again(plan_of, tmp_path):
    """Rows keep it of the network, of another that a unit names, and of verifiers; without it other pictures come."""
    units = ("class/1 + demo:vit::class/1", "layer2/channel/1")
    said = {"outputs": ["sigmoid", "demo:vit=sigmoid", "demo:convnext=sigmoid"], "layout": ["layer2=nhwc"]}
    recipe = {"recipe": ["none"], "set": ["output=log_odds"], "steps": 8}
    run(plan_of(*units, verifiers=["demo:convnext"], **said, **recipe), str(tmp_path))
    (first, _) = shards.read_rows(find_shards(tmp_path)[0])
    sigmoid = {"outputs": "sigmoid"}
    assert json.loads(first["said"]) == {
        "demo:resnet": sigmoid | {"layouts": {"layer2": "nhwc"}}, "demo:vit": sigmoid, "demo:convnext": sigmoid,
    }  # fmt: skip
    assert sum(one["probability"] for one in first["verifiers"][0]["top"]) > 1.01
    assert [check.verdict for check in verify(tmp_path, 1.0)] == ["identical"] * 2
    for model, left, unit in (
        ("demo:resnet", sigmoid, "layer2/channel/1"), ("demo:resnet", {"layouts": {"layer2": "nhwc"}}, units[0]),
        ("demo:vit", None, units[0]),
    ):  # fmt: skip
        changed = json.dumps({name: was for name, was in (json.loads(first["said"]) | {model: left}).items() if was})
        change(tmp_path, lambda row, changed=changed: row.update(said=changed))
        others = [check.unit_id for check in verify(tmp_path, 1.0) if check.verdict != "identical"]
        assert len(others) == 1 and others[0].startswith(f"demo:resnet/{unit}/")
    change(tmp_path, lambda row: row.update(said='{"demo:resnet": 3}'))
    assert {(check.verdict, check.reason[:32]) for check in verify(tmp_path, 1.0)} == {
        ("impossible", "What is said of a network is a t")
    }
    change(tmp_path, lambda row: row.update(said=None))  # of an earlier format
    assert "impossible" not in {check.verdict for check in verify(tmp_path, 1.0)}


def test_a_sample_is_whole_batches_and_the_seed_chooses_them(plan_of, tmp_path):
    run(plan_of("class:0-7", batch_size=2), str(tmp_path))
    samples = [tuple(check.unit_id for check in verify(tmp_path, 3, seed)) for seed in range(6)]
    assert {len(sample) for sample in samples} == {4} and len(set(samples)) > 1
    assert samples[0] == tuple(check.unit_id for check in verify(tmp_path, 3, 0))
    assert len(list(verify(tmp_path, 0.3))) == 4 and len(list(verify(tmp_path, 99))) == 8


@pytest.mark.parametrize("text, sample", [("1%", 0.01), ("100%", 1.0), ("0.5%", 0.005), ("40", 40)])
def test_samples_are_shares_or_numbers(text, sample):
    assert parse_sample(text) == sample and type(parse_sample(text)) is type(sample)


@pytest.mark.parametrize("text", ["", "%", "0", "0%", "-1", "101%", "nan%", "inf%", "0.5", "many"])
def test_what_is_no_sample_is_refused(text):
    with pytest.raises(LSDError, match="sample"):
        parse_sample(text)


def test_another_picture_in_a_row_is_different(finished_run):
    noise = pictures.webp(np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8))
    change(finished_run, lambda row: row.update(picture=noise) if row["unit"] == "class/1" else None)
    verdicts = {check.unit_id: check.verdict for check in verify(finished_run, 1.0)}
    assert {unit.split("/", 1)[1][:7] for unit, v in verdicts.items() if v == "different"} == {"class/1"}
    assert list(verdicts.values()).count("identical") == 8


def test_a_picture_of_another_size_is_different(finished_run):
    small = pictures.webp(np.zeros((48, 48, 3), np.uint8))
    change(finished_run, lambda row: row.update(picture=small))
    assert {(check.verdict, check.similarity) for check in verify(finished_run, 1)} == {("different", None)}


def test_a_picture_that_cannot_be_opened_is_told(finished_run):
    change(finished_run, lambda row: row.update(picture=b"RIFF no picture"))
    check = next(iter(verify(finished_run, 1)))
    assert check.verdict == "impossible" and check.reason


def test_other_numbers_behind_the_same_picture_are_similar(finished_run):
    change(finished_run, lambda row: row.update(pixels_sha256="0" * 64))
    checks = list(verify(finished_run, 1.0))
    assert {check.verdict for check in checks} == {"similar"} and min(c.similarity for c in checks) >= SIMILAR


def test_a_row_that_says_another_seed_is_not_identical(finished_run):
    change(finished_run, lambda row: row.update(seed=row["seed"] + 7))
    assert {check.verdict for check in verify(finished_run, 1.0)} == {"different"}


def test_pictures_of_the_lowest_quality_are_still_themselves(plan_of, tmp_path):
    run(plan_of("class:0-3", steps=12, quality=1), str(tmp_path))
    assert {check.verdict for check in verify(tmp_path, 1.0)} == {"identical"}


def test_a_model_that_is_not_here_is_told_once(finished_run):
    change(finished_run, lambda row: row.update(model="demo:nosuch"))
    (check,) = verify(finished_run, 1.0)
    assert (check.verdict, check.unit_id) == (UNAVAILABLE, "demo:nosuch")
    assert "There is no model demo:nosuch" in check.reason


def test_other_weights_are_told_once(finished_run):
    change(finished_run, lambda row: row.update(weights_digest="0" * 64, weights_sha256="0" * 64))
    (check,) = verify(finished_run, 1.0)
    assert check.verdict == UNAVAILABLE and "are not the ones that the pictures were made from" in check.reason


def test_the_same_tensors_from_another_file_are_the_same(finished_run):
    change(finished_run, lambda row: row.update(weights_sha256="0" * 64))
    assert {check.verdict for check in verify(finished_run, 1.0)} == {"identical"}


def test_batches_that_memory_halved_are_made_again_as_they_were(plan_of, tmp_path, monkeypatch):
    def scarce(network, images, taps):
        if len(images) > most:
            raise torch.OutOfMemoryError("not enough")
        sizes.append(len(images))
        return run_to(network, images, taps)

    monkeypatch.setattr(networks, "run_to", scarce)
    sizes, most = [], 3
    run(plan_of("class:0-4"), str(tmp_path))
    rows = [row for path in find_shards(tmp_path) for row in shards.read_rows(path)]
    made = sorted((row["batch"], row["batch_place"], row["batch_size"]) for row in rows)
    assert made == [(0, 0, 2), (0, 1, 2), (1, 0, 2), (1, 1, 2), (2, 0, 1)]
    sizes, most = [], 8
    assert {check.verdict for check in verify(tmp_path, 1.0)} == {"identical"} and set(sizes) == {2}


def test_the_sample_is_of_what_can_be_made(plan_of, tmp_path):
    """However few of the rows have a model that is here, so many of theirs are made again."""
    run(plan_of("class:0-7", batch_size=2), str(tmp_path))
    gone = [f"class/{i}" for i in range(6)]
    change(tmp_path, lambda row: row.update(model="demo:nosuch") if row["unit"] in gone else None)
    first, *made = verify(tmp_path, 2)
    assert first.verdict == UNAVAILABLE and [check.verdict for check in made] == ["identical"] * 2


def test_only_the_models_that_are_asked_for(plan_of, tmp_path):
    run(plan_of("class:0", models=["demo:resnet", "demo:vit"]), str(tmp_path))
    assert [check.unit_id.partition("/")[0] for check in verify(tmp_path, 1.0, models=["demo:v*"])] == ["demo:vit"]
    with pytest.raises(LSDError, match="no pictures of nosuch in"):
        next(verify(tmp_path, models=["nosuch"]))


def test_a_model_that_cannot_be_downloaded_is_unavailable(finished_run, monkeypatch):
    def offline(name):
        raise ModelError(f"{name} cannot be downloaded.")

    monkeypatch.setattr(verifying, "availability", lambda name: Availability(HUB))
    monkeypatch.setattr(verifying, "get_model", offline)
    (check,) = verify(finished_run, 1.0)  # two batches, and told once
    assert (check.verdict, check.reason) == (UNAVAILABLE, "demo:resnet cannot be downloaded.")


def test_a_device_that_gives_up_makes_it_impossible(finished_run, monkeypatch):
    def broken(*arguments, **settings):
        raise RuntimeError("CUDA error: out of luck")

    monkeypatch.setattr(verifying, "ascend_jobs", broken)
    (check, *_) = verify(finished_run, 1)
    assert check.verdict == "impossible" and check.reason == "RuntimeError: CUDA error: out of luck"


def test_a_batch_that_lost_some_of_its_rows_is_made_again_in_its_own_shape(finished_run, monkeypatch):
    sizes = []

    def counted(model, jobs, *arguments, **settings):
        sizes.append((len(jobs), settings["batch_size"]))
        return ascend_jobs(model, jobs, *arguments, **settings)

    monkeypatch.setattr(verifying, "ascend_jobs", counted)
    change(finished_run, lambda row: row["unit"] != "class/1")
    checks = list(verify(finished_run, 1.0))
    assert len(checks) == 8 and {check.verdict for check in checks} == {"identical"}
    assert sorted(sizes) == [(2, 2), (8, 8)]


def test_rows_without_a_picture_are_not_asked_for(finished_run):
    def fail(row):
        if row["unit"] == "class/1":
            row.update(status="failed", error="It broke.", picture=None, thumbnail=None, batch=None, batch_place=None)

    change(finished_run, fail)
    assert [check.verdict for check in verify(finished_run, 1.0)] == ["identical"] * 8


def test_a_batch_is_made_again_with_as_many_threads_as_it_had(finished_run, monkeypatch):
    import torch

    seen = []

    def counted(*arguments, **settings):
        seen.append(torch.get_num_threads())
        return ascend_jobs(*arguments, **settings)

    def more_threads(row):
        row["environment"] = json.dumps(json.loads(row["environment"]) | {"threads": 2})

    monkeypatch.setattr(verifying, "ascend_jobs", counted)
    change(finished_run, more_threads)
    before = torch.get_num_threads()
    list(verify(finished_run, 1))
    assert seen == [2] and torch.get_num_threads() == before


def test_units_of_several_models_are_made_again(plan_of, tmp_path):
    run(plan_of("class/0 + demo:vit::class/0"), str(tmp_path))
    assert [check.verdict for check in verify(tmp_path, 1.0)] == ["identical"]


def test_a_published_folder_is_verified_like_the_run(finished_run, tmp_path):
    assemble(finished_run, "user/name", tmp_path / "published")
    assert [check.verdict for check in verify(tmp_path / "published", 1.0)] == ["identical"] * 10


def test_where_there_are_no_pictures_there_is_nothing_to_verify(tmp_path):
    with pytest.raises(LSDError, match="There are no pictures in"):
        next(verify(tmp_path))
