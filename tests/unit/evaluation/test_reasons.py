"""The study of reasons, on networks whose reasons are known."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from lsd.evaluation import __main__ as command
from lsd.evaluation.labelled import open_set
from lsd.evaluation.reasons import ALL, CHOOSING, JUDGING, split
from lsd.evaluation.reasons_trials import COUNTS, RANDOM, _inside, _scattered, counts, study
from lsd.layers import attention_heads, find_layer
from lsd.layout import Layer
from lsd.reasons.heads import default_heads, head_shares
from lsd.saliency.targets import of_class


class OneReason(nn.Module):
    """Twelve channels, each a mean of the picture; class 0 hears channel 7 loudest, and class 1 all others a little."""

    def __init__(self):
        super().__init__()
        self.spread = nn.Conv2d(3, 12, 1)
        self.fc = nn.Linear(12, 3)
        with torch.no_grad():
            self.spread.weight.fill_(1 / 3)
            self.spread.bias.zero_()
            self.fc.weight.zero_()
            self.fc.bias.copy_(torch.tensor([0.0, 0.0, -9.0]))
            self.fc.weight[0, 7] = 4.0
            self.fc.weight[1] = 0.3
            self.fc.weight[1, 7] = 0.0

    def forward(self, x):
        return self.fc(self.spread(x).mean((2, 3)))


@pytest.mark.parametrize("ranking", ["told", "gradient_x_activation", "joint", "integrated", "ablation"])
def test_the_one_channel_that_decides_is_found(wrap, pictures, ranking):
    model = wrap(OneReason())
    rows = study(model, find_layer(model, "spread"), pictures(3, 8), ["a", "b", "c"], [ranking])
    assert [row.picture for row in rows] == ["a", "b", "c"] and {row.ranking for row in rows} == {ranking}
    for row in rows:
        assert row.off[:4] == (True,) * 4  # one is enough; of 20 and 50 there are none
        assert row.kept == (True,) * len(COUNTS) and row.shares == pytest.approx(1.0)
        assert all(lost > 0 for lost in row.lost[:2])


def test_the_split_is_by_the_class_and_no_picture_is_lost_or_counted_twice():
    pictures = open_set("demo")
    some, others = split(pictures, CHOOSING), split(pictures, JUDGING)
    assert {item.id for item in some} | {item.id for item in others} == {item.id for item in pictures}
    assert len(some) + len(others) == len(pictures) == len(split(pictures, ALL))
    assert {item.label.number % 5 for item in some} == {0} and 0 not in {item.label.number % 5 for item in others}


def test_controls_do_not_find_it_and_chance_is_the_same_for_the_same_picture(wrap, pictures):
    model = wrap(OneReason())
    layer = find_layer(model, "spread")
    activation, chance = study(model, layer, pictures(1, 8), ["picture"], ["activation", RANDOM])
    assert activation.off[0] is False and activation.shares == pytest.approx(10 / 12)  # all channels answer alike
    assert study(model, layer, pictures(1, 8), ["picture"], [RANDOM])[0].off == chance.off


def test_the_group_that_decides_is_found_and_its_mask_elsewhere_decides_nothing(wrap, pictures):
    model = wrap(OneReason())
    rows = study(model, find_layer(model, "spread"), pictures(2, 8), ["a", "b"], ["groups", "groups/elsewhere"])
    for row in rows:
        assert row.shares == pytest.approx(1.0)
        assert row.off == ((True,) * 3 if row.ranking == "groups" else (False,) * 3)
        assert row.kept == (True,) * 3 or row.ranking == "groups/elsewhere"


def test_what_is_scattered_is_as_much_as_the_groups_and_nothing_twice():
    numbers = np.random.default_rng(0)
    parts = torch.from_numpy(numbers.normal(size=(40, 60)))
    speaks = parts.clamp(min=0)
    sizes = torch.tensor([0.4, 0.2, 0.1]).double() * speaks.sum()
    masks = _scattered(parts, sizes, numbers)
    torch.testing.assert_close((masks * speaks).sum((1, 2)), sizes, rtol=0.05, atol=0)
    assert masks.sum(0).max() == 1 and not masks[:, parts <= 0].any()


def test_a_lying_tag_is_the_first_group_and_without_it_the_network_is_right(tmp_path, capsys):
    arguments = ["reasons", "--models", "demo:shortcut", "--images", "demo:misleading-tags", "--every", "0::73", "--wrong",
                 "--rankings", "groups", "groups/elsewhere", "--output", str(tmp_path)]  # fmt: skip
    assert command.main(arguments) == 0
    assert "mended at 1" in (tmp_path / "table.md").read_text() and "nan" not in capsys.readouterr().out
    (file,) = tmp_path.glob("*/*.wrong.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    own, control = ([row for row in rows if row["ranking"] == ranking] for ranking in ("groups", "groups/elsewhere"))
    assert len(own) == len(control) > 15
    assert np.mean([row["inside"] for row in own]) > 0.75
    assert np.mean([row["mended"][0] for row in own]) > 0.65
    assert np.mean([row["mended"][0] for row in control]) < 0.15


def test_what_lies_at_the_tag():
    where, tag = torch.tensor([[1.0, 3.0], [-5.0, 4.0]]), np.zeros((6, 6), bool)
    tag[4:, 2:5] = True  # in both places of the lower row
    assert _inside(where, tag) == pytest.approx(0.5)
    assert np.isnan(_inside(None, tag)) and np.isnan(_inside(where, None))


def test_a_mistake_is_mended_when_the_right_class_is_first(wrap, pictures):
    model = wrap(OneReason())
    for right, mended in ((1, True), (2, False)):
        (row,) = study(model, find_layer(model, "spread"), pictures(1, 8), ["a"], ["joint"], right=[right])
        assert row.off[0] and row.mended[0] == mended


def test_the_command_keeps_rows_and_makes_none_twice(tmp_path, capsys, monkeypatch):
    arguments = ["reasons", "--models", "demo:resnet", "--images", "demo", "--every", "0::300", "--layers", "layer3",
                 "--output", str(tmp_path)]  # fmt: skip
    assert command.main(arguments) == 0
    table = capsys.readouterr().out
    assert table.count("| layer3 (") == 7 and "gradient_x_activation" in table and "nan" not in table
    (file,) = tmp_path.glob("*/layer3.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) == 7 * len({row["picture"] for row in rows})
    lost = [row for row in rows if (row["picture"], row["ranking"]) == (rows[0]["picture"], "random")]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows if row not in lost))
    assert command.main(arguments) == 0  # just the row that was lost is made, and none of its batch's twice
    assert capsys.readouterr().out == table
    again = [json.loads(line) for line in file.read_text().splitlines()]
    assert again[-1:] == lost and len(again) == len(rows)
    monkeypatch.setattr("lsd.evaluation.reasons.study", lambda *_: pytest.fail("made again"))
    assert command.main(arguments) == 0
    assert capsys.readouterr().out == table
    assert command.main([*arguments[:6], "often", *arguments[7:]]) == 2
    assert "--every is written as in 3::20" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main([*arguments, "--rankings", "groups/0"])
    assert "there is no ranking “groups/0”" in capsys.readouterr().err


class TwoPlaces(nn.Module):
    """Keeps a picture of 4 × 4 as it is; class 0 hears the place 1, 2 loudest, and class 1 all others a little."""

    def __init__(self):
        super().__init__()
        self.same = nn.Conv2d(3, 3, 1)
        self.fc = nn.Linear(48, 3)
        with torch.no_grad():
            self.same.weight.copy_(torch.eye(3)[..., None, None])
            self.same.bias.zero_()
            self.fc.bias.copy_(torch.tensor([0.0, 0.0, -9.0]))
            heard = self.fc.weight.view(3, 3, 4, 4)
            heard.zero_()
            heard[1] = 0.05
            heard[:, :, 1, 2] = torch.tensor([[9.0], [0.0], [0.0]])

    def forward(self, x):
        return self.fc(self.same(x).flatten(1))


def test_the_one_place_that_decides_is_found_and_at_random_it_is_not(wrap):
    model = wrap(TwoPlaces(), 4)
    images = torch.full((2, 3, 4, 4), 0.5)
    found, chance = (
        [row for row in study(model, find_layer(model, "same"), images, ["a", "b"], [f"position/{way}"])]
        for way in ("joint", RANDOM)
    )
    for row in found:
        assert row.off[:4] == (True,) * 4 and row.kept == (True,) * len(COUNTS) and row.shares == pytest.approx(1.0)
    assert not all(row.off[0] for row in chance)
    assert [row.off for row in chance] == [
        row.off for row in study(model, find_layer(model, "same"), images, ["a", "b"], ["position/random"])
    ]


def test_heads_are_switched_off_as_heads(image_model, pictures):
    model, images = image_model("test_vit", 32, img_size=32), pictures(2)
    layer = default_heads(model)
    heads = Layer(layer, "heads", attention_heads(model, layer))
    rows = study(model, heads, images, ["a", "b"], ["head/ablation", "head/activation", "head/random"])
    assert [row.ranking for row in rows[::2]] == ["head/ablation", "head/activation", "head/random"]
    first, second = model(images).topk(2, dim=1).indices.T.tolist()
    target = of_class(model, first, "contrast", second)
    (own,) = head_shares(model, images, [target], layer, method="ablation")
    for row, values in zip(rows[:2], own.values, strict=True):
        assert len(row.off) == len(counts("head/ablation")) and row.lost[0] == pytest.approx(
            float(values.max()), rel=1e-4
        )


def test_the_command_tries_heads_where_heads_are_and_places_where_places_are(tmp_path, capsys):
    arguments = ["reasons", "--models", "demo:vit", "--images", "demo", "--every", "0::300", "--rankings", "position/joint",
                 "position/random", "head/ablation", "head/random", "--output", str(tmp_path)]  # fmt: skip
    assert command.main(arguments) == 0
    kept = {file.name: file.read_text() for file in tmp_path.glob("*/*.jsonl")}
    assert len(kept) == 2 and sum("head/ablation" in text for text in kept.values()) == 1
    assert "nan" not in capsys.readouterr().out
    for wrong in ("head/joint", "position/ablation", "head/groups", "position/told"):
        with pytest.raises(SystemExit):
            command.main([*arguments, "--rankings", wrong])
        assert f"there is no ranking “{wrong}”" in capsys.readouterr().err
