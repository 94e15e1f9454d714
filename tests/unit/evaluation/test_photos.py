"""The photos that are at hand everywhere: their labels, and that real networks get some of them wrong."""

import numpy as np
import pytest

from lsd import labels
from lsd.errors import UndefinedError
from lsd.evaluation import labelled
from lsd.evaluation.labelled import DataError, available_sets, open_set, true_indices
from lsd.evaluation.mistakes import scan
from lsd.images import CREDITS, example_images, open_image
from lsd.models import get_model
from lsd.packages import installed

CLASSES = {
    "Chelsea the cat": "tabby",
    "Clock in motion": "wall clock",
    "Coffee cup": "espresso",
    "Summer Palace": "palace",
    "Cameraman": "tripod",
    "Astronaut: the shuttle behind her": "space shuttle",
}

lites = pytest.mark.skipif(not installed(), reason="no ImageNet networks are installed as packages")


def test_they_come_first_with_these_labels():
    assert available_sets()[0] == "example-photos"
    photos = open_set("example-photos", limit=160)
    assert {item.id: item.label.text for item in photos} == CLASSES
    for item in photos:
        assert item.label.synset == labels.synsets(1000)[item.label.number]
        assert labels.short(labels.class_names(1000)[item.label.number]) == item.label.text


def test_they_open_and_one_is_a_part():
    *whole, part = open_set("example-photos")
    assert {item.id: item.picture().size for item in whole} == {
        item.id: open_image(example_images()[item.id]).size for item in whole
    }
    left, top, right, bottom = part.box
    astronaut = np.asarray(open_image(example_images()["Astronaut"]))
    assert np.array_equal(np.asarray(part.picture()), astronaut[top:bottom, left:right])


def test_who_asks_to_be_named_is_named():
    notes = " ".join(open_set("example-photos").notes)
    assert CREDITS["Summer Palace"] in notes and CREDITS["Dahlia"] not in notes


@lites
def test_a_network_in_a_package_has_their_classes():
    model = get_model(installed()[0])
    indices = true_indices(open_set("example-photos"), model)
    assert [labels.short(model.class_names[i]) for i in indices] == list(CLASSES.values())


@lites
def test_every_network_in_a_package_gets_some_wrong_and_some_right():
    *_, last = scan(installed(), open_set("example-photos"))
    wrong = last.result.wrong
    assert wrong.any(axis=1).all() and not wrong.all(axis=1).any()
    assert wrong[:, 0].all()  # the cat, by all of them


def test_a_model_of_other_classes_is_refused():
    with pytest.raises(UndefinedError, match="labels of the example photos are not classes of demo:resnet"):
        true_indices(open_set("example-photos"), get_model("demo:resnet"))


def test_where_the_files_are_not_there_is_no_such_set(monkeypatch):
    monkeypatch.setattr(labelled, "labelled_photos", list)
    assert "example-photos" not in available_sets()
    with pytest.raises(DataError, match="There are no pictures called “example-photos”"):
        open_set("example-photos")


def test_those_whose_wheel_is_there_are_opened(monkeypatch):
    files = {name: path for name, path in example_images().items() if "skimage" in str(path)}
    monkeypatch.setattr("lsd.evaluation.photos.example_images", lambda: files)
    assert {item.id for item in open_set("example-photos")} == set(CLASSES) - {"Summer Palace"}
