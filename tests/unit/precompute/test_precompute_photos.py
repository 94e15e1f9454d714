"""A run with photos: what its rows tell of them, that it goes on where it stopped, and that other photos make other rows."""

import io
import json
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
import torch
from PIL import Image

from gallery import pictures, shards
from gallery.exemplars import read
from gallery.queries import Gallery
from gallery.schema import OF_PHOTOS
from lsd.demo.dataset import render
from lsd.errors import LSDError
from lsd.features.judge import to_batch
from lsd.images import file_sha256
from lsd.models import get_model
from lsd.tracing import Tap, run_to
from precompute import work
from precompute.__main__ import main
from precompute.exemplars import COUNT, with_exemplars
from precompute.photos import Photo, Photos
from precompute.settings import read as read_settings
from precompute.storage import Storage
from precompute.tasks import Task

UNITS = ("class:1", "layer3:channels:2", "layer2/neuron/3/2/2", "class/1 + 0.5 * layer3/channel/1", "contrast/0/1")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """48 pictures of the demo's classes, in folders, one of them twice, and one that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for index in range(16):
        (folder / f"{index:02d}").mkdir()
        for number in range(3):
            Image.fromarray(render(index, 2**31 + 50 * index + number).image).save(folder / f"{index:02d}/{number}.png")
    (folder / "zz again.png").write_bytes((folder / "01/0.png").read_bytes())
    (folder / "00/broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="session")
def made(plan_of, folder):
    """(task, its rows by unit): a run with copies."""
    (task,) = plan_of(*UNITS, steps=3, photos=str(folder), crops=True).tasks
    rows, _ = work.make_rows(replace(task, photos=None))
    told = with_exemplars(rows, get_model(task.model), task.photos, task.photos.files())
    return task, {row["unit"]: row for row in shards.to_table(told).to_pylist()}


def test_photos_are_told_apart_by_their_contents(folder, tmp_path):
    photos = Photos.of(folder)
    files = photos.files()
    assert len(files) == 49 and files[0] == Photo("00/0.png", file_sha256(folder / "00/0.png"))
    assert "zz again.png" not in {photo.file for photo in files}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for photo in (*files, Photo("zz again.png", "")):
        (elsewhere / photo.file).parent.mkdir(exist_ok=True)
        (elsewhere / photo.file).write_bytes((folder / photo.file).read_bytes())
    assert Photos.of(elsewhere).digest == photos.digest
    (elsewhere / "01/1.png").unlink()
    with pytest.raises(LSDError, match="are not those of the plan"):
        replace(photos, folder=str(elsewhere)).files()


def test_a_folder_without_photos_is_one_sentence(tmp_path):
    with pytest.raises(LSDError, match="There are no photos in"):
        Photos.of(tmp_path)
    with pytest.raises(LSDError, match="There are no photos in"):
        read_settings({"models": ["m"], "units": ["class:all"], "photos": str(tmp_path)})


@pytest.mark.parametrize("values, words", [
    ({"photos": 7}, "photos is a text"),
    ({"photos": "x", "crops": 1}, "crops is true or false"),
    ({"crops": True}, "Crops of which photos"),
])  # fmt: skip
def test_what_is_said_wrongly_is_one_sentence(values, words):
    with pytest.raises(LSDError, match=words):
        read_settings({"models": ["m"], "units": ["class:all"]} | values)


def test_other_photos_make_another_task_and_another_place_of_the_same_does_not(task):
    photos = Photos("/here", "ab" * 32)
    with_them = replace(task, photos=photos)
    assert Task.from_dict(json.loads(json.dumps(with_them.to_dict()))) == with_them
    others = [replace(task, photos=replace(photos, **change)) for change in ({"digest": "cd" * 32}, {"crops": True})]
    hashes = [one.hash for one in (task, with_them, *others)]
    assert len({*hashes}) == 4 and replace(task, photos=replace(photos, folder="/there")).hash == with_them.hash
    with pytest.raises(LSDError):
        Task.from_dict(with_them.to_dict() | {"photos": {"folder": "x"}})


def slowly(folder, files, model):
    """{unit: (photo → value, photo → place in the layer)}, one photo after another."""
    found = {"class/1": ({}, {}), "layer3/channel/0": ({}, {}), "layer2/neuron/3/2/2": ({}, {})}
    for photo in files:
        if "broken" in photo.file:
            continue
        batch = to_batch([np.array(Image.open(folder / photo.file))], model)
        seen = run_to(model, batch, [Tap("layer2"), Tap("layer3"), Tap("")])
        logits = seen[Tap("")][0].double()
        rest = torch.cat([logits[:1], logits[2:]])
        found["class/1"][0][photo.file] = (logits[1] - rest.logsumexp(0)).item()
        grid = seen[Tap("layer3")][0, 0]
        found["layer3/channel/0"][0][photo.file] = grid.max().item()
        found["layer3/channel/0"][1][photo.file] = np.unravel_index(grid.argmax(), grid.shape)
        found["layer2/neuron/3/2/2"][0][photo.file] = seen[Tap("layer2")][0, 3, 2, 2].item()
    return found


def test_the_photos_that_excite_a_unit_most_are_named_with_their_places(made, folder):
    task, rows = made
    model = get_model(task.model)
    for unit, (values, places) in slowly(folder, task.photos.files(), model).items():
        row = rows[unit]
        order = sorted(values, key=lambda file: -values[file])
        told = row["exemplars"]
        least = min(values.values())
        wanted = [file for file in order if values[file] > least][:COUNT]
        assert [one["file"] for one in told] == wanted and len(wanted) == len(told) > 0
        assert [one["value"] for one in told] == pytest.approx([values[file] for file in wanted], rel=1e-4)
        assert all(one["digest"] == file_sha256(folder / one["file"]) for one in told)
        about = row["photos"]
        assert (
            about["count"] == 48
            and about["digest"] == task.photos.digest
            and "1 of the files could not" in about["note"]
        )
        assert about["quantiles"] == pytest.approx(
            np.quantile([*values.values()], np.linspace(0, 1, 33)), rel=1e-4, abs=1e-6
        )
        assert about["below"] == np.float32(np.mean([value < about["value"] for value in values.values()]))
        for one in told:
            left, top, right, bottom = one["box"]
            if unit == "class/1":
                assert one["box"] == [0, 0, 96, 96]
            elif places:  # cells of eight pixels
                row_of, column = places[one["file"]]
                assert left <= 8 * column + 4 <= right and top <= 8 * row_of + 4 <= bottom and right - left == 24


def test_the_pictures_own_value_is_the_units_answer_to_what_is_kept(made):
    task, rows = made
    model = get_model(task.model)
    row = rows["layer3/channel/0"]
    batch = to_batch([pictures.pixels(row["picture"]["bytes"])], model)
    assert row["photos"]["value"] == pytest.approx(
        run_to(model, batch, [Tap("layer3")])[Tap("layer3")][0, 0].max().item()
    )


def test_copies_are_the_boxes_cut_out(made, folder):
    _, rows = made
    row = rows["layer3/channel/0"]
    assert len(row["crops"]) == len(row["exemplars"]) == COUNT
    for crop, one in zip(row["crops"], row["exemplars"], strict=True):
        image = np.asarray(Image.open(io.BytesIO(crop["bytes"])).convert("RGB"), float)
        left, top, right, bottom = one["box"]
        original = np.asarray(Image.open(folder / one["file"]), float)[top:bottom, left:right]
        assert image.shape == original.shape and np.corrcoef(image.ravel(), original.ravel())[0, 1] > 0.8  # it is WebP


def test_paths_are_told_up_to_the_units_layer(made):
    _, rows = made
    assert [step["layer"] for step in rows["class/1"]["path"]][-1] == "layer4"
    assert [step["layer"] for step in rows["layer3/channel/0"]["path"]][-1] == "layer3"
    for row in rows.values():
        found = read(row)
        assert found.exemplars and all(step.likeness is None or 0 <= step.likeness <= 1 for step in found.path)


def test_a_row_that_cannot_have_some_of_it_says_why(made, tmp_path):
    task, rows = made
    model = get_model(task.model)
    row = rows["class/1"] | {"picture": rows["class/1"]["picture"]["bytes"]}
    few = [photo for photo in task.photos.files() if photo.file.startswith("01/")]
    (told,) = with_exemplars([row], model, task.photos, few)
    assert len(told["exemplars"]) == 2 and told["path"] == [] and "takes 12 photos or more" in told["photos"]["note"]
    first = row | {"unit": "conv1/channel/0", "layer": "conv1"}
    (told,) = with_exemplars([first], model, task.photos, few)
    assert "among the network's first" in told["photos"]["note"] and told["exemplars"]
    both = row | {"unit": "class/1 + demo:vit::class/1"}
    (told,) = with_exemplars([both], model, task.photos, few)
    assert (
        told["photos"]["note"] == "It is a unit of several networks, and photos are shown to one."
        and not told["exemplars"]
    )
    (nothing,) = with_exemplars([row], model, task.photos, [Photo("00/broken.jpg", "")])
    assert nothing["photos"]["count"] == 0 and read(nothing) is None
    failed = row | {"status": "failed"}
    assert with_exemplars([failed], model, task.photos, few) == [failed | dict.fromkeys(OF_PHOTOS)]


@pytest.mark.parametrize(
    "unit, place", [("blocks.2.attn/head/1", False), ("blocks.2/token/0/5", False), ("blocks.2/channel/5", True)]
)
def test_units_of_transformers_have_exemplars_and_a_path(folder, image_model, unit, place):
    model = image_model("test_vit", 64, torch.float32)
    picture = pictures.webp(render(1, 5).image)
    photos = Photos.of(folder)
    row = {"unit": unit, "status": "ok", "picture": picture}
    (told,) = with_exemplars([row], model, photos, photos.files())
    assert len(told["exemplars"]) == COUNT and len(told["path"]) >= 2 and told["photos"]["value"] is not None
    left, _, right, _ = told["exemplars"][0]["box"]
    assert right - left == (
        69 if place else 92
    )  # of 96 pixels the network is shown 92; three of its four places are 69
    values = [one["value"] for one in told["exemplars"]]
    assert values == sorted(values, reverse=True) and values[0] == pytest.approx(told["photos"]["quantiles"][-1])


def test_a_run_tells_of_photos_and_one_that_follows_without_ascent(folder, tmp_path, rows_in, plan_of, monkeypatch):
    """What was made without photos is made again with them from the pictures that are there."""
    words = ["--models", "demo:resnet", "--units", "class:0,1", "--steps", "2", "--output", str(tmp_path / "run")]
    assert main(["run", *words]) == 0
    before = rows_in(tmp_path / "run")
    assert all(row["photos"] is None and row["exemplars"] is None for row in before.values())
    (task,) = plan_of("class:0,1", recipe=["lsd"], photos=str(folder)).tasks
    assert work.made_without_photos([task, replace(task, units=("class/5",))], Storage(str(tmp_path / "run"))) == {
        task.hash
    }
    monkeypatch.setattr(work, "make_rows", lambda task: pytest.fail("made again"))
    monkeypatch.setattr("precompute.work.datetime", _Later)
    assert main(["run", *words, "--photos", str(folder)]) == 0
    found = [row for path in (tmp_path / "run/data").rglob("*.parquet") for row in shards.read_rows(path)]
    after = {row["unit_id"]: row for row in found if row["photos"]}
    assert len(found) == 4 and after.keys() == before.keys()
    for name, row in after.items():
        assert row["photos"]["count"] == 48 and row["crops"] is None and row["task"] != before[name]["task"]
        assert row["picture"] == before[name]["picture"] and row["pixels_sha256"] == before[name]["pixels_sha256"]
    gallery = Gallery(tmp_path / "run")
    assert gallery.rows == 2 and all(gallery.details(gallery.entry(name))["exemplars"] for name in before)
    assert main(["run", *words, "--photos", str(folder)]) == 0  # nothing is left to do


class _Later:
    """A clock that is ahead: what was made within one second could not be told apart by its time."""

    @staticmethod
    def now(zone):
        return datetime.now(zone) + timedelta(hours=1)


def test_a_run_with_photos_from_the_beginning_has_the_same_rows(folder, tmp_path, made, plan_of, rows_in):
    task, rows = made
    storage = Storage(str(tmp_path / "run"))
    outcome = work.run_task(task, storage.url)
    assert not outcome.failures and outcome.pictures == len(rows)
    again = {row["unit"]: row for row in shards.read_rows(storage.get(task.shard))}
    for unit, row in rows.items():
        assert all(again[unit][name] == row[name] for name in OF_PHOTOS)


def test_photos_that_changed_fail_the_task_before_anything_is_made(tmp_path, plan_of, folder, monkeypatch):
    (task,) = plan_of("class:0", steps=2, photos=str(folder)).tasks
    monkeypatch.setattr(work, "make_rows", lambda task: pytest.fail("hours of work"))
    moved = replace(task, photos=replace(task.photos, digest="0" * 64))
    outcome = work.run_task(moved, str(tmp_path))
    assert outcome.pictures == 0 and "are not those of the plan" in outcome.failures[0][1]


def test_a_network_that_breaks_at_photos_has_its_pictures_all_the_same(tmp_path, plan_of, folder, monkeypatch):
    (task,) = plan_of("class:0", steps=2, photos=str(folder)).tasks

    def broken(*_):
        raise ZeroDivisionError("of its own")

    monkeypatch.setattr(work, "with_exemplars", broken)
    storage = Storage(str(tmp_path))
    assert work.run_task(task, storage.url).pictures == 1
    (row,) = shards.read_rows(storage.get(task.shard))
    assert row["picture"] and row["photos"]["note"] == "ZeroDivisionError: of its own" and row["exemplars"] is None

    def lost(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(work, "with_exemplars", lost)
    (task,) = plan_of("class:1", steps=2, photos=str(folder)).tasks
    outcome = work.run_task(task, storage.url)
    assert outcome.fault and outcome.pictures == 0  # the machine's fault: it is tried again
