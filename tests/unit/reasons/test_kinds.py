"""Reasons that are no channels: the heads of an attention layer, and the places of a layer."""

import pytest
import torch

import lsd
from lsd.errors import UndefinedError
from lsd.features.units import check, parse
from lsd.reasons.answer import answer, with_missing
from lsd.reasons.explain import find_reasons, switched, together, try_reasons
from lsd.reasons.heads import default_heads, head_shares, without_heads
from lsd.reasons.switch import without
from lsd.saliency.targets import Target

VIT = "test_vit"


@pytest.fixture
def vit(image_model):
    return image_model(VIT, 32, img_size=32)


def test_heads_are_told_and_tried_as_heads(vit, pictures):
    image = pictures(1)
    reasons = find_reasons(vit, image, kind="head", count=1)
    layer = default_heads(vit)
    assert reasons.layer == layer and reasons.groups == () and reasons.explained == 0
    (own,) = head_shares(vit, image, [reasons.target], layer)
    torch.testing.assert_close(reasons.values, own.values[0])
    assert reasons.channels[0].share == pytest.approx(float(own.values.max()))
    assert reasons.channels[0].unit == f"{layer}/head/{int(own.values.argmax())}" and reasons.channels[0].map is None
    check(parse(reasons.channels[0].unit), vit)
    tried = try_reasons(vit, image, reasons)
    off = torch.zeros(1, own.values.shape[1])
    off[0, own.values.argmax()] = 1
    torch.testing.assert_close(tried.channels[0].logits, without_heads(vit, image, layer, off)[0])
    assert len(tried.random) == 8 and all(trial.logits.shape == (vit.num_classes,) for trial in tried.random)


def test_all_heads_at_random_are_no_control(vit, pictures):
    image = pictures(1)
    reasons = find_reasons(vit, image, kind="head", method="ablation")
    if len(reasons.channels) == len(reasons.values):
        assert try_reasons(vit, image, reasons).random == ()
    with pytest.raises(UndefinedError, match="to zero, and everywhere"):
        switched(vit, image, reasons, [reasons.channels[0].off], fill=torch.zeros(3))


def test_the_ablation_of_a_head_is_what_is_lost_without_it(vit, pictures):
    images, target, layer = pictures(2), Target(2, "contrast", 5), default_heads(vit)
    (own,) = head_shares(vit, images, [target], layer, method="ablation")
    heads = own.values.shape[1]
    for head in range(heads):
        off = torch.zeros(2, heads)
        off[:, head] = 1
        lost = target(vit(images)) - target(without_heads(vit, images, layer, off))
        torch.testing.assert_close(own.values[:, head], lost)
    torch.testing.assert_close(own.zero, target(without_heads(vit, images, layer, torch.ones(2, heads))))


@pytest.mark.parametrize(
    ("name", "settings", "layer"), [("test_resnet", {}, "layer2"), (VIT, {"img_size": 32}, "blocks.2")]
)
def test_places_are_told_and_tried_as_places(image_model, pictures, name, settings, layer):
    model, image = image_model(name, 32, **settings), pictures(1)
    reasons = find_reasons(model, image, layer=layer, kind="position", count=3)
    places = reasons.shares.places[0]
    torch.testing.assert_close(reasons.values, places.flatten())
    assert [one.share for one in reasons.channels] == pytest.approx(places.flatten().topk(3).values.tolist())
    assert reasons.total == pytest.approx(float(places.clamp(min=0).sum())) and reasons.groups == ()
    for one in (*reasons.channels, *reasons.against):
        check(parse(one.unit), model)
        row, column = map(int, one.unit.split("/")[-2:])
        assert one.map[row, column] == pytest.approx(one.share) and int((one.map != 0).sum()) == 1
    tried = try_reasons(model, image, reasons)
    off = together([one.off for one in reasons.channels])
    assert int(off[0].sum()) == 3 and (off == off[:1]).all()
    torch.testing.assert_close(
        tried.channels_so_far[-1].logits, without(model, image, reasons.shares.layer, off[None])[0]
    )
    assert len(tried.random) == 8 and len({trial.score for trial in tried.random}) > 1


def test_what_is_not_defined_is_refused(vit, image_model, pictures):
    resnet, image = image_model("test_resnet", 32), pictures(1)
    for model, asked, why in (
        (resnet, {"kind": "head"}, "no attention heads; ask for channels"),
        (resnet, {"kind": "neuron"}, "no “neuron”; choose one of channel, head, position"),
        (vit, {"kind": "head", "layer": "blocks.1"}, "no attention layer"),
        (
            vit,
            {"kind": "head", "method": "joint"},
            "not found by “joint”; choose one of gradient_x_activation, ablation",
        ),
        (resnet, {"kind": "position", "method": "ablation"}, "ablation says nothing of places"),
        (resnet, {"kind": "position", "layer": "fc"}, "fc has no places"),
    ):
        with pytest.raises(UndefinedError, match=why):
            find_reasons(model, image, **asked)


def test_what_is_missing_is_told_of_channels_alone():
    model, picture = lsd.load_model("demo:resnet"), lsd.open_image("example:Chelsea the cat")
    found = answer(model, picture, kind="position", count=2)
    with pytest.raises(UndefinedError, match="told of channels, not of positions"):
        with_missing(found)


def test_the_library_tells_heads_and_makes_them_again(tmp_path):
    why = lsd.find_reasons("demo:vit", "example:Chelsea the cat", kind="head", count=2, pictures=False, progress=False)
    assert " head " in why.sentence and why.shares.shape == (why.answer.reasons.shares.layer.channels,)
    assert why.request.method == "gradient_x_activation" and why.request.kind == "head"
    assert "heads" in (why.save(tmp_path) / "report.html").read_text("utf-8")
