"""What a network's outputs are: one class of several, questions each by itself, or no classes at all."""

import json
from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from lsd import heads
from lsd.errors import ModelError, UndefinedError
from lsd.features import objectives
from lsd.features.ascent import ascend
from lsd.features.judge import classify
from lsd.features.recipes import RECIPES
from lsd.features.units import parse
from lsd.layers import as_said
from lsd.models import ImageModel, load_model
from lsd.said import Said
from lsd.saliency.explain import TargetSpec, explain
from lsd.saliency.targets import Target

LOGITS = torch.tensor([[-2.0, 0.5, 3.0]], dtype=torch.float64)


class Given(nn.Module):
    """Puts out the same logits for every picture, and its mean colour besides, so that a gradient flows."""

    def __init__(self, logits):
        super().__init__()
        self.register_buffer("logits", logits)

    def forward(self, x):
        return self.logits.to(x.dtype) + x.mean((1, 2, 3))[:, None]


def given(logits, outputs=None):
    net = Given(logits)
    net.num_classes = logits.shape[1]
    net.pretrained_cfg = {"input_size": (3, 8, 8), "mean": (0, 0, 0), "std": (1, 1, 1)}
    return ImageModel(net, "given", outputs=outputs)


@pytest.mark.parametrize("classes, said, outputs", [
    (3, None, "classes"), (3, "sigmoid", "sigmoid"), (3, "embedding", "embedding"), (0, "embedding", "embedding"),
    (1, None, "sigmoid"), (1, "sigmoid", "sigmoid"), (0, None, "embedding"),
])  # fmt: skip
def test_what_the_outputs_are(classes, said, outputs):
    model = given(torch.zeros(1, classes), said)
    assert model.outputs == outputs == as_said(given(torch.zeros(1, classes)), Said(said)).outputs
    assert model.said == Said(said)


@pytest.mark.parametrize("classes, said, why", [
    (3, "tanh", "The outputs of given are classes, sigmoid or an embedding, not “tanh”"),
    (1, "classes", "given has a single output, and a softmax of one is 1 whatever the picture"),
    (0, "sigmoid", "given puts out an embedding and no classes, so its outputs are neither"),
    (0, "classes", "given puts out an embedding and no classes, so its outputs are neither"),
])  # fmt: skip
def test_no_other_outputs_can_be_said(classes, said, why):
    with pytest.raises(ModelError, match=why):
        given(torch.zeros(1, classes), said)
    with pytest.raises(ModelError, match=why):
        as_said(given(torch.zeros(1, classes)), Said(said))


def test_probabilities_follow_the_outputs(picture):
    black = torch.zeros(1, 3, 8, 8)
    torch.testing.assert_close(given(LOGITS).probabilities(black), LOGITS.float().softmax(1))
    torch.testing.assert_close(given(LOGITS, "sigmoid").probabilities(black), LOGITS.float().sigmoid())
    assert given(LOGITS[:, 1:2]).probabilities(black).item() == pytest.approx(0.622, abs=1e-3)  # and not 1


@pytest.fixture
def picture():
    from PIL import Image

    return Image.new("RGB", (8, 8))


def test_a_single_output_is_a_question_and_its_log_odds_are_the_logit(picture):
    model = given(LOGITS[:, :1])
    found = explain(model, picture, TargetSpec("top1", "log_odds"), "gradient")
    assert found.top == ((0, "class 0", pytest.approx(torch.tensor(-2.0).sigmoid().item())),)
    assert found.attribution.target == Target(0, "log_odds", outputs="sigmoid")
    assert found.attribution.values.sum().item() == pytest.approx(1.0, rel=1e-5)  # of the mean colour, and nothing else


@pytest.mark.parametrize("kind, value", [
    ("log_odds", 0.5), ("logit", 0.5), ("probability", torch.tensor(0.5).sigmoid().item()),
    ("log_probability", nn.functional.logsigmoid(torch.tensor(0.5)).item()), ("contrast", 2.5),
])  # fmt: skip
def test_targets_and_units_of_sigmoids(kind, value):
    """What other classes say changes nothing, but where one is held against another."""
    model = given(LOGITS, "sigmoid")
    unit = parse("contrast/1/0" if kind == "contrast" else f"{kind}/1")
    found = objectives.evaluate([unit], {"": model}, {"": {objectives.tap(unit): LOGITS}})
    assert found.item() == pytest.approx(value, rel=1e-6)
    if kind != "log_probability":
        target = Target(1, kind, 0 if kind == "contrast" else None, "sigmoid")
        assert target(LOGITS).item() == pytest.approx(value, rel=1e-6)
        assert Target(**target.to_dict()) == target and target.of(0) == target


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(0)
    return ImageModel(timm.create_model("test_vit", num_classes=0), "tower")


def test_an_embedding_predicts_nothing(tower, picture):
    why = "tower puts out an embedding and no classes, so it predicts none; ask for the similarity to another picture, or look"
    for ask in (
        lambda: tower.probabilities(torch.zeros(1, 3, 160, 160)),
        lambda: explain(tower, picture, TargetSpec()),
        lambda: classify([torch.zeros(160, 160, 3, dtype=torch.uint8).numpy()], tower),
    ):
        with pytest.raises(UndefinedError, match=why):
            ask()
    with pytest.raises(UndefinedError, match="has no classifier"):
        next(ascend(tower, ["class/0"], RECIPES["none"]))
    shots = list(ascend(tower, ["blocks.2/channel/3"], replace(RECIPES["lsd"], steps=4)))
    assert shots[-1].finished[0].status == "ok"


TOWER = {"architecture": "vit_base_patch16_clip_224", "tag": "openai"}


@pytest.mark.parametrize("width, config, embedding", [
    (512, TOWER, True),
    (1024, {"architecture": "resnet50_clip", "tag": "openai"}, True),
    (640, {"architecture": "convnext_base", "tag": "clip_laion2b"}, True),
    (512, {"architecture": "vit_pe_core_tiny_patch16_384", "tag": "fb"}, True),
    (0, {}, True),
    (5, TOWER, False),  # trained further
    (512, TOWER | {"tag": "flowers"}, False),
    (512, TOWER | {"label_names": [*map(str, range(512))]}, False),
    (11821, {"architecture": "vit_base_patch16_clip_224", "tag": "openai_ft_in12k"}, False),
    (19168, {"architecture": "mvitv2_base_cls", "tag": "fb_inw21k"}, False),
    (512, {"architecture": "resnet18"}, False),
])  # fmt: skip
def test_the_projection_of_a_tower_is_no_head_for_classes(width, config, embedding):
    assert heads.is_embedding(width, config) is embedding


def test_a_tower_has_no_classes_unless_somebody_says_so():
    net = Given(torch.zeros(1, 512))
    net.num_classes, net.pretrained_cfg = 512, timm.get_pretrained_cfg("vit_base_patch16_clip_224.openai").to_dict()
    model = ImageModel(net, "vit_base_patch16_clip_224.openai")
    assert (model.outputs, model.num_classes, model.class_names) == ("embedding", 0, ())
    model = ImageModel(net, "vit_base_patch16_clip_224.openai", outputs="classes")
    assert (model.outputs, model.num_classes, len(model.class_names)) == ("classes", 512, 512)
    back = as_said(model, Said("embedding"))
    assert (back.outputs, back.num_classes, back.class_names) == ("embedding", 0, ())
    assert (model.outputs, model.num_classes) == ("classes", 512)  # of others


def test_an_embedding_of_every_place_is_no_prediction_either():
    """As the encoders of language models put it out, whatever the number of classes that they are made with."""

    class Tokens(Given):
        def forward(self, x):
            return super().forward(x)[:, None].expand(-1, 4, -1)

    model = given(LOGITS)
    model.net.__class__ = Tokens
    with pytest.raises(UndefinedError, match="puts out an embedding and no classes"):
        model.probabilities(torch.zeros(1, 3, 8, 8))
    with pytest.raises(UndefinedError, match="puts out 4 × 3 numbers and not one a class"):
        Target(0)(model(torch.zeros(1, 3, 8, 8)))


def test_a_head_that_timm_would_draw_by_chance_is_refused(model_folder):
    folder = model_folder()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_args": {"num_classes": 5}}))
    with pytest.raises(
        ModelError, match="asks for 5 classes in its model_args, and its weights are for 10; correct one"
    ):
        load_model(f"local-dir:{folder}", device="cpu")
    (folder / "config.json").write_text(json.dumps(config | {"model_args": {"num_classes": 0}}))
    assert load_model(f"local-dir:{folder}", device="cpu").outputs == "embedding"
