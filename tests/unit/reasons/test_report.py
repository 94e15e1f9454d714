"""The report: one file, whatever is in it."""

import copy
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lsd.demo import render
from lsd.models import get_model
from lsd.reasons import words
from lsd.reasons.answer import answer, with_missing, with_pictures
from lsd.reasons.bundle import Request, files, manifest, pictures
from lsd.reasons.drawn import OF_CLASSES, Drawn
from lsd.reasons.explain import DECISION
from lsd.reasons.report import report
from lsd.said import NOTHING


@pytest.fixture(scope="module")
def made():
    """(record, pictures) of two demo networks on one picture, with what is missing and some pictures of units."""
    photo = Image.fromarray(render(6, 2**31 + 6, size=160).image)

    def kept(model, units):
        """The photo itself is every unit's picture."""
        return {unit: Drawn(unit, np.array(photo), OF_CLASSES.to_dict(), 0, "gallery") for unit in units}

    answers = [
        with_pictures(with_missing(answer(get_model(name), photo, count=3), kept=kept), kept=kept)
        for name in ("demo:resnet", "demo:vit")
    ]
    names = tuple(found.model.name for found in answers)
    request = Request(names, (None, None), (NOTHING, NOTHING), DECISION, "gradient_x_activation", 3, missing=True)
    return manifest({"file": "a.png", "path": None, "sha256": "0" * 64}, request, answers), pictures(answers)


class _Read(HTMLParser):
    """What a browser would fetch, run and show."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.tags, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        assert not [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        self.text += data


def test_it_needs_nothing_else(made):
    found = _Read(report(*made))
    assert found.addresses and all(address.startswith("data:image/webp;base64,") for address in found.addresses)
    assert not {"script", "link", "iframe"} & {*found.tags}
    assert not re.search(r"url\(|@import", report(*made))


def test_it_tells_each_network_its_reasons_and_what_is_missing(made):
    record, shown = made
    text = _Read(report(record, shown)).text.replace("\u00a0", " ")
    for result in record["results"]:
        assert result["sentence"]["decision"] in text
        for one in (*result["groups"], *result["channels"]):
            assert words.without(one, result) in text
        assert f"Why not {result['missing']['class']['name']}?" in text
    assert "The same things?" in text


def test_names_of_strangers_are_escaped(made):
    record, shown = copy.deepcopy(made[0]), made[1]
    hostile = "<img src=x onerror=alert(1)>\"'&"

    foreign = ("name", "model", "file", "text", "decision", "guess")

    def poison(value):
        """All texts that are not ours to choose."""
        if isinstance(value, dict):
            return {key: hostile if key in foreign else poison(own) for key, own in value.items()}
        if isinstance(value, list):
            return [hostile if isinstance(own, str) else poison(own) for own in value]
        return value

    poisoned = poison(record)
    for result in poisoned["results"]:
        result["channels"][0]["guess"] = hostile
    found = _Read(report(poisoned, shown))
    assert all(address.startswith("data:") for address in found.addresses)
    assert hostile in found.text


def test_without_pictures_and_reasons_it_still_stands(made):
    record = copy.deepcopy(made[0])
    for result in record["results"]:
        result |= {"channels": [], "groups": [], "against": [], "random": {"draws": 0, "changed": 0}}
        result["sentence"] |= {"things": [], "text": "Nothing speaks for it."}
        del result["missing"]
    found = _Read(report(record, {}))
    assert found.addresses == [] and "Nothing speaks for it." in found.text


def test_a_unit_that_is_dead_is_told(made):
    record = copy.deepcopy(made[0])
    record["results"][1]["groups"][0]["picture"]["dead"] = True
    assert report(record, made[1]).count("No gradient reaches") == 1


def test_a_picture_on_which_nothing_speaks_for_the_answer_has_a_bundle_all_the_same(wrap):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        net[0].weight.abs_()  # or chance would leave nothing to be seen
        net[0].bias.zero_()
        net[4].weight.copy_(torch.tensor([[0.0] * 4, [1.0] * 4]))
        net[4].bias.copy_(
            torch.tensor([100.0, 0.0])
        )  # class 0 whatever is seen, and all that is seen speaks against it
    found = answer(wrap(net, classes=2).float(), Image.new("RGB", (8, 8), (200, 90, 10)), layer="1")
    request = Request(("handmade",), ("1",), (NOTHING,), DECISION, "gradient_x_activation", 10, pictures=False)
    record = manifest({"file": "a.png", "path": None, "sha256": "0" * 64}, request, [found])
    made = files([found], record)
    assert "class 0 rather than class 1: nothing in 1 speaks for it." in made["report.html"].decode()
    assert "Against it" in made["report.html"].decode() and "sheet-handmade.png" in made


@pytest.fixture
def result():
    first = {"name": "husky", "probability": 0.9}
    return {
        "before": {"score": 5.0, "probability": 0.9, "first": first}, "classes": [{"name": "husky"}],
        "layer_channels": 96, "flips": {"channels": None, "groups": 1}, "random": {"draws": 8, "changed": 0},
        "groups": [], "channels": [],
    }  # fmt: skip


def one(name, probability, score, changed, share=2.0):
    after = {
        "first": {"name": name, "probability": probability},
        "probability": 0.5,
        "score": score,
        "changed": changed,
    }
    return {"unit": "layer4/channel/3", "share": share, "without": after, "without_all_so_far": after}


def test_what_is_said_without_a_reason(result):
    assert words.without(one("malamute", 0.61, -1.0, True), result) == "Without it: malamute, 61%."
    assert words.without(one("husky", 0.5, 3.0, False), result) == "Without it: husky 90% → 50%."
    assert words.without(one("husky", 0.9, 4.9, False), result) == "Without it hardly anything changes."
    assert not words.idle(one("malamute", 0.5, 4.9, True), result)


def test_what_came_of_the_test(result):
    result |= {"groups": [one("malamute", 0.6, 0, True)], "channels": [one("husky", 0.8, 4, False)] * 2}
    assert words.test(result) == [
        "The first group off: malamute.",
        "All 2 channels off: the answer stays.",
        "2 channels of 96 off at random: another answer in none of 8 draws.",
    ]
