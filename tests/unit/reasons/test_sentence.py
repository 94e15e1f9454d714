"""The decision as one sentence."""

import torch

from lsd.features.judge import Verdict
from lsd.layout import Layer
from lsd.reasons.explain import Reason, Reasons
from lsd.reasons.sentence import called, guess, in_short, percent, sentence
from lsd.reasons.shares import Shares
from lsd.saliency.targets import Target

NAMES = ("malamute, Alaskan malamute", "Siberian husky", "tabby")


def reasons(values, target=None):
    """Of a layer with so many channels, whose shares these are."""
    values = torch.tensor([values])
    layer = Layer("blocks.4", "vector", values.shape[1])
    shares = Shares(layer, target or Target(1, "contrast", 0), "activation", values, None, *torch.zeros(2, 1))
    total = float(values.clamp(min=0).sum())
    told = [
        Reason(f"blocks.4/channel/{c}", v, v / total, None, torch.zeros(values.shape[1], 1))
        for v, c in sorted(((v, c) for c, v in enumerate(values[0].tolist()) if v > 0), reverse=True)
    ]
    return Reasons(shares, torch.zeros(3), tuple(told), (), (), 0.0)


def test_it_names_the_decision_the_things_and_what_is_left():
    found = sentence(reasons([1.0, 5.0, 2.0, 2.0, -3.0]), NAMES, count=2)
    assert str(found) == (
        "Siberian husky rather than malamute: channel 1 (50%), channel 3 (20%), and 30% in others of blocks.4."
    )
    assert [thing.unit for thing in found.things] == ["blocks.4/channel/1", "blocks.4/channel/3"]


def test_a_name_is_told_as_a_guess_and_an_empty_one_is_none():
    found = sentence(reasons([3.0, 1.0]), NAMES, names={"blocks.4/channel/0": "timber wolf", "blocks.4/channel/1": ""})
    assert (
        str(found) == "Siberian husky rather than malamute: perhaps “timber wolf” (75%), channel 1 (25%) of blocks.4."
    )
    assert [thing.guessed for thing in found.things] == [True, False]


def test_other_targets_have_one_class():
    assert sentence(reasons([1.0], Target(0)), NAMES).decision == "malamute"


def test_where_nothing_speaks_for_it_it_says_so():
    assert str(sentence(reasons([-1.0, 0.0]), NAMES)) == (
        "Siberian husky rather than malamute: nothing in blocks.4 speaks for it."
    )


def test_a_thing_is_called_by_its_number():
    assert (
        called("blocks.4/channel/12", 3) == "channel 12" and called("blocks.4/direction/12:0.8,40:0.5", 3) == "group 3"
    )
    assert called("blocks.4.attn/head/2", 1) == "head 2" and called("layer3/position/7/6", 1) == "position 7, 6"


def test_a_group_is_called_by_its_first_channels():
    assert in_short("blocks.4/direction/12:0.80,40:0.50,7:0.30,9:0.10") == "blocks.4 channels 12 + 40 + 7 + …"
    assert in_short("layer4.1.act@1/direction/12:1.00") == "layer4.1.act@1 channel 12"


def test_a_guess_is_what_others_agree_on():
    def says(model, *top):
        return Verdict(model, tuple((i, name, p) for i, (name, p) in enumerate(top)))

    own = says("mine", ("volcano", 0.99))
    others = [says("a", ("wolf", 0.6), ("husky", 0.2)), says("b", ("husky", 0.5), ("fox", 0.1))]
    assert guess([own, *others], own="mine") == "husky or wolf"
    assert guess([own], own="mine") == ""
    assert guess([says("a", ("wolf", 0.1))]) == ""


def test_a_part_is_told_to_the_whole_percent():
    assert [percent(part) for part in (0.314, -0.1, 1, 0.002)] == ["31%", "−10%", "100%", "0%"]
