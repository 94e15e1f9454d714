"""Which channels are told: the ones that a decision cannot do without together."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from lsd.layers import find_layer
from lsd.reasons.choice import CANDIDATES, carry_most
from lsd.reasons.explain import find_reasons
from lsd.reasons.shares import shares
from lsd.reasons.switch import without
from lsd.saliency.targets import Target

TARGET = Target(2, "contrast", 5)


class Repeated(nn.Module):
    """Four channels, each the mean of the picture; class 0 hears the louder of the first two, which say the same, and each of the
    last two, a little less."""

    def __init__(self):
        super().__init__()
        self.spread = nn.Conv2d(3, 4, 1)
        with torch.no_grad():
            self.spread.weight.copy_(torch.tensor([1.0, 1.0, 0.8, 0.8])[:, None, None, None].expand(4, 3, 1, 1))
            self.spread.bias.zero_()

    def forward(self, x):
        a = self.spread(x).mean((2, 3))
        loud = (4 * a[:, :2]).logsumexp(1) / 4
        return torch.stack([2 * loud + a[:, 2] + a[:, 3], loud * 0, loud * 0], 1)


@pytest.mark.parametrize(
    ("name", "settings", "layer"), [("test_resnet", {}, "layer3"), ("test_vit", {"img_size": 32}, "blocks.2")]
)
@pytest.mark.parametrize("batch_size", [3, 64])
def test_told_are_those_that_are_missed_most(image_model, pictures, name, settings, layer, batch_size):
    model, image, count = image_model(name, 32, **settings), pictures(1), 4
    (own,) = shares(model, image, [TARGET], [layer], method="joint")[layer]
    ranked = [c for c in own.order()[0].tolist() if own.values[0, c] > 0][: CANDIDATES * count]
    assert len(ranked) > count

    def left(channels):
        off = torch.zeros(1, own.layer.channels)
        off[0, channels] = 1
        return float(TARGET(without(model, image, find_layer(model, layer), off)))

    first = ranked[:count]
    missed = {c: left([o for o in first if o != c]) - left(first) for c in first}
    missed |= {c: left(first) - left([*first, c]) for c in ranked[count:]}
    best = sorted(missed, key=missed.get, reverse=True)[:count]
    told = carry_most(model, image, own, count, batch_size=batch_size)
    assert told == [c for c in ranked if c in best]


def test_what_only_repeats_another_gives_way(wrap, pictures):
    model, image = wrap(Repeated()), pictures(1, 8)
    (own,) = shares(model, image, [Target(0, "logit")], ["spread"])["spread"]
    ranked = replace(own, values=torch.tensor([[1.0, 0.1, 0.9, 0.2]]).to(own.values))
    assert carry_most(model, image, ranked, 1) == [2]  # without channel 0, channel 1 says the same
    assert carry_most(model, image, ranked, 4) == [0, 2, 3, 1]


def test_where_nothing_speaks_for_it_nothing_is_told(image_model, pictures):
    model, image = image_model("test_resnet", 32), pictures(1)
    (own,) = shares(model, image, [TARGET], ["layer3"])["layer3"]
    own.values.neg_().clamp_(max=0)
    assert carry_most(model, image, own, 5) == []


def test_reasons_are_told_by_it_and_other_methods_by_their_order(image_model, pictures):
    model, image = image_model("test_resnet", 32), pictures(1)
    reasons = find_reasons(model, image, layer="layer3", count=4)
    assert [int(one.unit.rsplit("/", 1)[1]) for one in reasons.channels] == carry_most(model, image, reasons.shares, 4)
    plain = find_reasons(model, image, layer="layer3", count=4, method="gradient_x_activation")
    assert [one.share for one in plain.channels] == pytest.approx(plain.values.topk(4).values.tolist())
