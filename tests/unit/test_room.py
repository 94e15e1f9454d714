"""The page's jobs ask for memory; what does not fit is told what would, and the others go on."""

from collections import deque
from dataclasses import replace

import pytest

from lsd import account
from lsd.account import ACCOUNT, MemoryLimitError
from lsd.features.recipes import find_recipe
from lsd.models import get_model
from lsd.saliency.methods import METHODS
from lsd.saliency.price import memory_of_method
from lsd.ui.api.endpoints import feature, saliency
from lsd.ui.saliency.request import Wish, request_of
from lsd.ui.saliency.run import explain_all
from lsd.ui.shared.examples import examples
from lsd.ui.shared.room import room_for_ascents, room_for_method, room_for_passes

PICTURE = "Chelsea the cat"


@pytest.fixture(autouse=True)
def bounded(monkeypatch):
    """The account with another limit, for a while, and with nothing in it that other tests have left."""
    monkeypatch.setattr(account, "PATIENCE", 0.0)  # nobody gives anything back here
    monkeypatch.setattr(ACCOUNT, "limit", None)
    monkeypatch.setattr(ACCOUNT, "_kept", 0)
    monkeypatch.setattr(ACCOUNT, "_gone", deque())


def test_a_batch_that_does_not_fit_is_told_which_would():
    model, smooth = get_model("demo:resnet"), METHODS["smoothgrad"].parse({"samples": 512, "batch_size": 256})
    fitting = smooth | {"batch_size": 20}
    ACCOUNT.enforce(model.nbytes + memory_of_method(model, "smoothgrad", fitting))
    with pytest.raises(MemoryLimitError) as told, room_for_method(model, "smoothgrad", smooth):
        raise AssertionError
    assert str(told.value).startswith("SmoothGrad of Demo ResNet with batch_size 256 would take about ")
    assert str(told.value).endswith(": batch_size 20 would fit.")
    with room_for_method(model, "smoothgrad", fitting):
        pass


def test_what_is_held_against_captum_is_asked_for_as_captum_takes_it():
    model = get_model("demo:resnet")
    ACCOUNT.enforce(model.nbytes + memory_of_method(model, "guided_backprop", {}))
    with room_for_method(model, "guided_backprop", {}):
        pass
    with (
        pytest.raises(MemoryLimitError, match="choose a smaller model"),
        room_for_method(model, "guided_backprop", {}, check=True),
    ):
        raise AssertionError


def test_of_ascents_side_by_side_the_largest_counts_and_all_twins():
    resnet, vit, lsd = get_model("demo:resnet"), get_model("demo:vit"), find_recipe("lsd")
    many = replace(lsd, steps=1024, size=512, transforms=replace(lsd.transforms, views=32))
    ACCOUNT.enforce(10**9)
    ascents = [([resnet], many, 8), ([vit], lsd, 1)]
    refused = pytest.raises(MemoryLimitError, match=r"^This ascent of Demo ResNet would .* views? a step would fit")
    with refused, room_for_ascents(ascents):
        raise AssertionError
    with room_for_ascents(ascents[1:]):
        assert ACCOUNT.held > vit.nbytes


def test_a_scan_that_does_not_fit_is_refused():
    model = get_model("demo:resnet")
    ACCOUNT.enforce(10 * 2**20)
    refused = pytest.raises(MemoryLimitError, match=r"^This scan would take about .*: choose smaller or fewer models")
    with refused, room_for_passes("This scan", [model], 1000):
        raise AssertionError


@pytest.mark.parametrize("call", [
    lambda: saliency(f"example:{PICTURE}", "demo:resnet", "smoothgrad", settings={"samples": 512, "batch_size": 32}),
    lambda: feature("demo:resnet", "class/0", steps=1),
], ids=["saliency", "feature"])  # fmt: skip
def test_the_endpoints_ask_for_memory(call):
    model = get_model("demo:resnet")
    ACCOUNT.enforce(model.nbytes + memory_of_method(model, "gradient", {}))
    with pytest.raises(MemoryLimitError, match=r"would take about .* of memory, and there are"):
        call()


def test_one_model_that_does_not_fit_leaves_the_others():
    models = "demo:resnet", "demo:convnext"
    prices = [memory_of_method(get_model(name), "depth_fusion", {}) for name in models]
    least = prices.index(min(prices))
    ACCOUNT.enforce(min(prices) + get_model(models[least]).nbytes + 2**20)
    wish = Wish(models=models, method="depth_fusion", check=False)
    *_, session = explain_all(request_of(wish, examples()[PICTURE], None))
    assert [answer.place for answer in session.answers] == [least]
    (trouble,) = session.troubles.values()
    assert "would take about" in trouble and trouble.endswith("choose a smaller model.")
