"""Reasons of a decision: what is told of them, and what happens without them."""

from dataclasses import replace

import pytest
import timm
import torch

import lsd
from lsd.errors import UndefinedError
from lsd.features.units import check, parse
from lsd.layers import find_layer
from lsd.layout import to_flat
from lsd.reasons.explain import (
    HEARD,
    at_random,
    channel,
    elsewhere,
    find_reasons,
    flips,
    speaks_for,
    switched,
    together,
    try_reasons,
)
from lsd.reasons.switch import means, without
from lsd.saliency.explain import TargetSpec
from lsd.tracing import capture


@pytest.fixture
def case(image_model, pictures):
    model = image_model("test_resnet", 32)
    image = pictures(1)
    return model, image, find_reasons(model, image, layer="layer3", count=4)


def test_the_first_choice_rather_than_the_runner_up(case):
    model, image, reasons = case
    first, second = model(image)[0].topk(2).indices.tolist()
    assert (reasons.target.index, reasons.target.against) == (first, second)
    values = reasons.shares.values[0]
    told = [r.share for r in reasons.channels]
    assert len(told) == 4 and told == sorted(told, reverse=True) and told[-1] >= float(values.topk(8).values[-1])
    assert [r.share for r in reasons.against] == pytest.approx((-values).topk(4).values.neg().tolist())
    assert reasons.total == pytest.approx(float(values[values > 0].sum()))
    for reason in (*reasons.channels, *reasons.against):
        assert float(reason.map.sum()) == pytest.approx(reason.share)
        assert reason.part == pytest.approx(reason.share / reasons.total)


def test_every_reason_is_a_unit_that_has_a_picture(case):
    model, _, reasons = case
    assert reasons.groups
    for reason in (*reasons.channels, *reasons.against, *reasons.groups):
        check(parse(reason.unit), model)


def test_a_reason_switched_off_is_its_channel_at_zero(case):
    model, image, reasons = case
    tried = try_reasons(model, image, reasons)
    off = torch.zeros(1, reasons.shares.layer.channels, dtype=torch.bool)
    for k, (reason, alone, so_far) in enumerate(
        zip(reasons.channels, tried.channels, tried.channels_so_far, strict=True)
    ):
        channel = int(reason.unit.rsplit("/", 1)[1])
        only = torch.zeros_like(off)
        only[0, channel] = off[0, channel] = True
        for trial, which in ((alone, only), (so_far, off)):
            logits = without(model, image, reasons.shares.layer, which)[0]
            torch.testing.assert_close(trial.logits, logits)
            assert trial.score == pytest.approx(float(reasons.target(logits[None])))
            assert trial.first == int(logits.argmax())
            assert trial.changed == (trial.first != reasons.target.index)
        assert int(off.sum()) == k + 1
    assert len(tried.random) == 8
    assert len({float(t.score) for t in tried.random}) > 1


def test_a_group_off_by_a_little_loses_a_little_of_its_share(image_model, pictures):
    model, image = image_model("test_vit", 32, img_size=32), pictures(1)
    slope = "gradient_x_activation"
    reasons = find_reasons(model, image, TargetSpec("top1", "logit"), layer="blocks.2", method=slope, group_count=3)
    before = float(reasons.target(reasons.logits[None]))
    for reason in reasons.groups:
        (trial,) = switched(model, image, reasons, [1e-5 * reason.off.double()])
        assert (before - trial.score) / 1e-5 == pytest.approx(reason.share, rel=1e-3)


def test_groups_together_are_off_by_all_their_parts(case):
    _, _, reasons = case
    whole = together([group.off for group in reasons.groups])
    torch.testing.assert_close(whole, sum(group.off for group in reasons.groups).clamp(max=1))
    assert together([torch.ones(2, 1), torch.full((2, 3), 0.5)]).tolist() == [[1] * 3] * 2


def test_what_else_a_reason_speaks_for_is_what_its_absence_changes(case):
    model, image, reasons = case
    (trial,) = switched(model, image, reasons, [reasons.channels[0].off])
    told = torch.stack([reasons.logits, trial.logits]).log_softmax(1)
    change = (told[0] - told[1])[told.exp().amax(0) >= HEARD]
    raised, lowered = speaks_for(model, reasons.logits, trial, 2)
    assert [v for _, v in raised] == pytest.approx(change.topk(2).values.tolist())
    assert [v for _, v in lowered] == pytest.approx((-change).topk(2).values.neg().tolist())
    assert [float((told[0] - told[1])[c]) for c, _ in raised] == [v for _, v in raised]


def test_classes_that_are_as_good_as_impossible_are_not_told_of(case):
    model, image, reasons = case
    (trial,) = switched(model, image, reasons, [reasons.channels[0].off])
    far = torch.zeros_like(reasons.logits)
    far[4:] = -30
    now = replace(trial, logits=far + torch.linspace(1, -1, len(far)))
    raised, lowered = speaks_for(model, far, now, len(far))
    assert {c for c, _ in raised + lowered} == {0, 1, 2, 3}


def test_means_take_the_place_of_channels_and_a_region_bounds_it(case, pictures):
    model, image, reasons = case
    layer = find_layer(model, "layer3")
    with capture(model, ["layer3"]) as captured:
        model(pictures(5))
    fill = means(model, pictures(5), layer, batch_size=2)
    torch.testing.assert_close(fill, to_flat(layer, captured["layer3"]).mean((0, 2)))
    nowhere = torch.zeros(layer.height, layer.width, dtype=torch.bool)
    (same,) = switched(model, image, reasons, [reasons.channels[0].off], fill=fill, region=nowhere)
    torch.testing.assert_close(same.logits, reasons.logits)
    (filled,) = switched(model, image, reasons, [reasons.channels[0].off], fill=fill)
    assert not torch.allclose(filled.logits, switched(model, image, reasons, [reasons.channels[0].off])[0].logits)


def test_random_channels_are_as_many_and_the_same_each_time(case):
    _, _, reasons = case
    draws = at_random(reasons, 3, 5)
    assert [int(off.sum()) for off in draws] == [3] * 5
    assert all(map(torch.equal, draws, at_random(reasons, 3, 5)))


def test_how_many_flip_a_decision(case):
    model, image, reasons = case
    off = [torch.zeros(reasons.shares.layer.channels, 1), torch.ones(reasons.shares.layer.channels, 1)]
    trials = switched(model, image, reasons, off)
    assert flips(trials[:1]) is None
    assert flips(trials) == (2 if trials[1].changed else None)


def test_a_network_without_classes_gives_no_reasons(pictures):
    net = timm.create_model("test_resnet", num_classes=0).eval()
    with pytest.raises(UndefinedError, match="class"):
        find_reasons(lsd.wrap(net, size=(32, 32)), pictures(1).float(), layer="layer3")


def test_any_channel_can_be_asked_for(case):
    _, _, reasons = case
    first = reasons.channels[0]
    again = channel(reasons.shares, int(first.unit.rsplit("/", 1)[1]))
    assert (again.unit, again.share, again.part) == (first.unit, first.share, first.part)
    torch.testing.assert_close(again.map, first.map)
    with pytest.raises(UndefinedError, match="no channel"):
        channel(reasons.shares, reasons.shares.layer.channels)


def test_parts_of_groups_are_what_is_explained(case):
    _, _, reasons = case
    assert sum(group.part for group in reasons.groups) == pytest.approx(reasons.explained, abs=1e-5)


def test_as_much_is_off_elsewhere(case):
    _, _, reasons = case
    off = reasons.groups[0].off
    draws = elsewhere(off, 5)
    assert all(torch.equal(draw.sort(0).values, off.sort(0).values) for draw in draws)
    assert not any(torch.equal(draw, off) for draw in draws)
    assert all(map(torch.equal, draws, elsewhere(off, 5)))
