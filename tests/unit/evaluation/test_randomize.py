import copy

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import nn

from lsd.errors import UndefinedError
from lsd.evaluation.randomize import ZERO_DEVIATION, cascade, stages
from lsd.saliency.gradients import gradient
from lsd.saliency.targets import Target

LEVIT = {"img_size": 64, "depth": (1, 1, 1), "embed_dim": (32, 48, 64)}
FAMILIES = [
    ("test_resnet", 32, {}),
    ("test_vit", 32, {"img_size": 32}),  # a class token and position embeddings
    ("test_convnext", 32, {}),  # gains of residual branches that a block holds itself
    ("test_efficientnet", 32, {}),
    ("hgnetv2_b0", 32, {}),  # single numbers
    ("deit_tiny_distilled_patch16_224", 32, {"img_size": 32, "depth": 2, "embed_dim": 48}),  # two classifiers
    ("levit_128s", 64, LEVIT),  # two classifiers with batch normalization; keeps its attention biases once computed
]
families = pytest.mark.parametrize("name, size, settings", FAMILIES, ids=[name for name, *_ in FAMILIES])


def parameters(model):
    return {name: p.detach().numpy() for name, p in model.net.named_parameters()}


def state(model):
    """All that must not change: tensors, flags and hooks."""
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    return tensors, flags + [p.requires_grad for p in model.parameters()]


@families
def test_every_parameter_is_in_exactly_one_stage(image_model, name, size, settings):
    model = image_model(name, size, torch.float32, **settings)
    found = stages(model)
    assert len(found) == 6 and found[0].name == "classifier"
    listed = [p for stage in found for p in stage.parameters]
    assert sorted(listed) == sorted(parameters(model))
    modules = [len({p.rpartition(".")[0] for p in stage.parameters}) for stage in found[1:]]
    assert max(modules) - min(modules) <= 1
    classifier = model.net.get_classifier()
    heads = classifier if isinstance(classifier, tuple) else (classifier,)
    own = {id(p) for head in heads for p in head.parameters()}
    assert {n for n, p in model.net.named_parameters() if id(p) in own} == set(found[0].parameters)


@families
def test_the_cascade_randomizes_one_stage_after_the_other(image_model, pictures, name, size, settings):
    model = image_model(name, size, torch.float32, **settings)
    images = pictures(8, size).float()
    before, logits, original = state(model), model(images), parameters(model)
    plain = gradient(model, images[:1], Target(0)).values.flatten()
    random, earlier = set(), {}
    for expected, (stage, twin) in zip(stages(model), cascade(model, images), strict=True):
        assert stage == expected
        random |= set(stage.parameters)
        for parameter, values in parameters(twin).items():
            if parameter in random:
                assert (values != original[parameter]).mean() > 0.99, parameter
            else:
                assert np.array_equal(values, original[parameter]), parameter
        assert all(np.array_equal(parameters(twin)[p], values) for p, values in earlier.items())
        earlier = {p: parameters(twin)[p] for p in random}
        assert not any(p.requires_grad for p in twin.parameters()) and not any(m.training for m in twin.net.modules())
        assert torch.isfinite(twin(images)).all() and twin(images).std(0).min() > 1e-3
    assert random == set(original)
    changed = gradient(twin, images[:1], Target(0)).values.flatten()
    assert abs(torch.corrcoef(torch.stack([plain, changed]))[0, 1]) < 0.2
    assert twin.identity.sha256 is None and twin.name != model.name and twin.lock is not model.lock
    assert torch.equal(model(images), logits)
    tensors, flags = state(model)
    assert flags == before[1] and all(torch.equal(tensors[n], value) for n, value in before[0].items())


@families
def test_scales_stay_and_values_do_not(image_model, pictures, name, size, settings):
    model = image_model(name, size, torch.float32, **settings)
    *_, (_, twin) = cascade(model, pictures(2, size).float(), count=1)
    drawn = parameters(twin)
    for parameter, values in parameters(model).items():
        if values.size > 2000:
            error = values.std() / values.size**0.5
            assert abs(drawn[parameter].mean() - values.mean()) < 5 * error
            assert drawn[parameter].std() == pytest.approx(values.std(), rel=0.1)
            assert abs(np.corrcoef(values.ravel(), drawn[parameter].ravel())[0, 1]) < 0.12, parameter


def test_the_last_stage_holds_what_the_network_itself_holds(image_model):
    found = stages(image_model("test_vit", 32, torch.float32, img_size=32))
    assert {"cls_token", "pos_embed", "patch_embed.proj.weight"} <= set(found[-1].parameters)
    assert found[-1].name.startswith("cls_token … blocks.0.")
    assert found[1].name == "blocks.5.norm1 … norm"


def test_what_is_drawn_depends_on_the_seed_and_not_on_the_stages(image_model, pictures):
    model, images = image_model("test_resnet", 32, torch.float32), pictures(4).float()

    def final(**settings):
        return list(cascade(model, images, **settings))[-1][1].net.state_dict()

    first, again, fewer, other = final(), final(seed=0), final(count=2), final(seed=1)
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name]) and torch.equal(tensor, fewer[name])
        assert not torch.equal(tensor, other[name]) or "num_batches" in name, name


def test_no_copy_changes_another(image_model, pictures):
    model, images = image_model("test_resnet", 32, torch.float32), pictures(4).float()
    steps = cascade(model, images, count=2)
    _, first = next(steps)
    weights = first.net.state_dict()["conv1.0.weight"].clone()
    first.net.fc.weight.zero_()
    _, second = next(steps)
    assert torch.equal(first.net.conv1[0].weight, weights) and second.net.fc.weight.any()


def test_nothing_computed_from_the_old_weights_is_left(image_model, pictures):
    model, images = image_model("levit_128s", 64, torch.float32, **LEVIT), pictures(4, 64).float()
    model(images)  # fills the network's cache of attention biases
    *_, (_, twin) = cascade(model, images)
    fresh = copy.copy(twin)
    fresh._modules = {"net": timm.create_model("levit_128s", num_classes=10, **LEVIT).eval()}
    fresh.net.load_state_dict(twin.net.state_dict())
    torch.testing.assert_close(twin(images), fresh(images))


class Scattered(nn.Module):
    """Defined in the wrong order, with parameters in all kinds of places."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.third = nn.Conv2d(4, 4, 1)
        self.never = nn.Linear(2, 2)
        self.first = nn.Conv2d(3, 4, 1)
        self.second = nn.Module()
        self.second.gain = nn.Parameter(torch.tensor(3.0))
        self.second.list = nn.ParameterList([torch.zeros(2000), torch.full((2000,), 0.1, dtype=torch.double)])
        self.second.forward = lambda x: x * self.second.gain + self.second.list[0][0] + self.second.list[1][0]
        self.offset = nn.Parameter(torch.ones(4, 1, 1))

    def get_classifier(self):
        return self.fc

    def forward(self, x):
        x = self.first(x) + self.offset
        return self.fc(self.third(self.second(x)).mean((2, 3)))


def test_the_order_is_that_of_execution(wrap):
    found = stages(wrap(Scattered()), count=6)
    assert [stage.name for stage in found] == [
        "classifier", "third", "second.list", "second", "first", "never", "offset"
    ]  # fmt: skip
    assert [stage.name for stage in stages(wrap(Scattered()), count=2)] == [
        "classifier", "second … third", "offset … first"
    ]  # fmt: skip
    assert len(stages(wrap(Scattered()), count=100)) == 7


def test_equal_numbers_are_drawn_around_their_value(wrap, pictures):
    for seed in range(5):
        *_, (_, twin) = cascade(wrap(Scattered()), pictures(1, 8), seed)
        drawn = parameters(twin)
        assert drawn["second.gain"] != 3 and abs(drawn["second.gain"] - 3) < 15
        assert (drawn["offset"] != 1).all()
        zeros, tenths = drawn["second.list.0"], drawn["second.list.1"]
        assert zeros.std() == pytest.approx(ZERO_DEVIATION, rel=0.1) and abs(zeros.mean()) < 0.1 * ZERO_DEVIATION
        assert tenths.std() == pytest.approx(0.1, rel=0.1) and tenths.mean() == pytest.approx(0.1, rel=0.1)


def test_a_network_without_a_classifier_has_no_such_stage(image_model, wrap):
    net = wrap(nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)))
    assert [stage.name for stage in stages(net)] == ["3", "0"]
    headless = timm.create_model("test_resnet", num_classes=0)
    assert stages(wrap(headless, 32, 0))[0].name.startswith("layer4")


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3), BatchNormAct2d(4, drop_layer=nn.Dropout)
        self.conv2, self.bn2 = nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5, momentum=None)
        self.fc = nn.Linear(5, 3)
        for norm in (self.bn1, self.bn2):
            norm.running_mean.normal_()
            norm.running_var.uniform_(1, 2)

    def get_classifier(self):
        return self.fc

    def forward(self, x):
        return self.fc(self.bn2(self.conv2(self.bn1(self.conv1(x)))).mean((2, 3)))


def test_batch_norms_behind_random_weights_have_the_statistics_of_the_images(wrap, pictures):
    model, images = wrap(Normalised()), pictures(8, 8)
    (_, head), (_, upper), (_, whole) = cascade(model, images, count=2)
    learned = model.net

    def kept(norm, original):
        return torch.equal(norm.running_mean, original.running_mean) and torch.equal(
            norm.running_var, original.running_var
        )

    def fitted(norm, x):
        places = x.transpose(0, 1).flatten(1).numpy()  # channels, pictures and places
        torch.testing.assert_close(norm.running_mean.numpy(), np.array([row.mean() for row in places]))
        torch.testing.assert_close(norm.running_var.numpy(), np.array([row.var(ddof=1) for row in places]))

    assert kept(head.net.bn1, learned.bn1) and kept(head.net.bn2, learned.bn2)
    assert kept(upper.net.bn1, learned.bn1)
    fitted(upper.net.bn2, upper.net.conv2(learned.bn1(learned.conv1(images))))
    net = whole.net
    y = net.conv1(images)
    fitted(net.bn1, y)
    mean, deviation = y.mean((0, 2, 3), keepdim=True), (y.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    y = F.relu((y - mean) / deviation * net.bn1.weight.view(-1, 1, 1) + net.bn1.bias.view(-1, 1, 1))
    fitted(net.bn2, net.conv2(y))
    assert net.bn2.momentum is None and net.bn1.momentum == 0.1


def test_what_makes_no_sense_is_refused(image_model, pictures):
    model = image_model("test_resnet", 32, torch.float32)
    for act, words in (
        (lambda: stages(model, 0), "at least 1 stage"),
        (lambda: list(cascade(model, pictures(4), count=0)), "at least 1 stage"),
        (lambda: list(cascade(model, pictures(1))), "at least 2 images"),
        (lambda: list(cascade(model, pictures(4, 16))), "takes pictures of shape"),
    ):
        with pytest.raises(UndefinedError, match=words) as error:
            act()
        assert str(error.value).endswith(".") and "\n" not in str(error.value)
