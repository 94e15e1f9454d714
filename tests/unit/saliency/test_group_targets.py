"""A group's log-odds and those of a class within it, against brute force in fp64."""

import math

import pytest
import timm
import torch

from benchmarks.families import randomize
from lsd.errors import UndefinedError
from lsd.groups import Group
from lsd.layers import as_said
from lsd.said import Said
from lsd.saliency.explain import OfGroup, explain_inputs
from lsd.saliency.methods import attribute
from lsd.saliency.targets import GroupTarget, Target, joined, of_group

Z = torch.tensor([[1.0, -2.0, 0.5, 3.0, -0.25], [3.0, 0.0, -1.0, 0.5, 2.0]], dtype=torch.float64)
PETS = Group("pet", (0, 2, 4))


@pytest.fixture
def network(wrap):
    """Of a thousand classes, which go by ImageNet's names."""
    return wrap(randomize(timm.create_model("test_resnet", num_classes=1000)), 32, 1000)


def probabilities(z):
    total = math.fsum(math.exp(v) for v in z)
    return [math.exp(v) / total for v in z]


def brute_force(z, members, index=None):
    """The log-odds spelled out in Python floats, of probabilities that are added up."""
    p = probabilities(z)
    inside = math.fsum(p[k] for k in members)
    if index is None:
        return math.log(inside / math.fsum(p[k] for k in range(len(p)) if k not in members))
    return math.log((p[index] / inside) / (math.fsum(p[k] for k in members if k != index) / inside))


def gradient(target, logits):
    logits = logits.clone().requires_grad_(True)
    return torch.autograd.grad(target(logits).sum(), logits)[0]


@pytest.mark.parametrize("members", [(0, 2, 4), (1,), (0, 1, 2, 3)])
def test_the_groups_log_odds(members):
    found = GroupTarget(Group("some", members))(Z).tolist()
    assert found == pytest.approx([brute_force(z, members) for z in Z.tolist()], rel=1e-12)


@pytest.mark.parametrize("index", [0, 2, 4, (2, 0)])
def test_the_log_odds_of_a_class_within(index):
    own = index if isinstance(index, tuple) else (index, index)
    wanted = [brute_force(z, PETS.members, i) for z, i in zip(Z.tolist(), own, strict=True)]
    assert GroupTarget(PETS, index)(Z).tolist() == pytest.approx(wanted, rel=1e-12)


def test_a_group_of_one_is_the_class_and_the_rest_is_its_opposite():
    assert GroupTarget(Group("one", (3,)))(Z).tolist() == pytest.approx(Target(3)(Z).tolist(), rel=1e-14)
    others = GroupTarget(Group("others", (1, 3)))(Z)
    assert GroupTarget(PETS)(Z).tolist() == pytest.approx((-others).tolist(), rel=1e-14)


def test_what_moves_the_whole_group_leaves_the_class_within_as_it_is():
    slopes = gradient(GroupTarget(PETS, 2), Z)
    assert slopes[:, [1, 3]].abs().max() == 0
    assert slopes.sum(1).abs().max() < 1e-14 and torch.allclose(slopes[:, 2], torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("sureness", [5.0, 23.0, 60.0, 150.0])
@pytest.mark.parametrize("index", [None, 2])
def test_they_stay_exact_in_fp32_where_the_network_is_sure(sureness, index):
    """At 23 logits of distance fp32 cannot tell 1 − p from nothing, and at 150 no exponential is finite."""
    logits = torch.tensor([[sureness, 0.3, sureness - 1.5, 0.1, -1.0]], dtype=torch.float64)
    target = GroupTarget(PETS, index)
    single = gradient(target, logits.float()).double()
    exact = gradient(target, logits)
    assert target(logits.float()).item() == pytest.approx(target(logits).item(), rel=1e-6)
    assert ((single - exact).abs() <= 2e-5 * exact.abs() + 1e-30).all() and exact.abs().max() > 0.1


@pytest.mark.parametrize("spec", [OfGroup("dog"), OfGroup("dog", "top1"), OfGroup("dog", "beagle")])
def test_a_networks_gradient_is_the_central_difference(network, pictures, spec):
    model, images = network, pictures(1, 32)
    (found,) = explain_inputs(model, images, spec, "gradient")
    target = found.attribution.target
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        way = torch.randn(images.shape, generator=generator, dtype=torch.float64)
        ends = [
            brute_force(model(images + s * 1e-6 * way)[0].tolist(), target.group.members, target.index) for s in (1, -1)
        ]
        assert (found.attribution.values * way).sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4)


def test_first_and_second_are_the_groups_own(network, pictures):
    model, images = network, pictures(2, 32)
    ranked = model.probabilities(images)[:, 151:269].argsort(1, descending=True) + 151
    for rank in (0, 1):
        found = explain_inputs(model, images, OfGroup("dog", f"top{rank + 1}"), "gradient")
        assert [one.attribution.target.index for one in found] == ranked[:, rank].tolist()


def test_several_targets_share_a_pass_and_a_batch(network, pictures):
    model, images = network, pictures(2, 32)
    targets = [GroupTarget(PETS), GroupTarget(PETS, (0, 4)), Target(7)]
    together = attribute("gradient", model, images, targets)
    for one, target in zip(together, targets, strict=True):
        for i in range(2):
            alone = attribute("gradient", model, images[i : i + 1], target.of(i))
            assert torch.allclose(one.values[i : i + 1], alone.values, rtol=1e-9, atol=1e-15)
    assert joined([GroupTarget(PETS, 0), GroupTarget(PETS, 4)]) == targets[1]
    assert joined([targets[0], targets[0]]) == targets[0]


@pytest.mark.parametrize(
    "target, why",
    [
        (GroupTarget(Group("all", (0, 1, 2, 3, 4))), "group of all classes has nothing to be held against"),
        (GroupTarget(Group("none", ())), "A group needs a class"),
        (GroupTarget(PETS, 1), "not one of the group"),
        (GroupTarget(Group("one", (3,)), 3), "alone in its group"),
        (GroupTarget(Group("far", (3, 5))), "Class 5 is out of range: this model has 5 classes"),
        (GroupTarget(PETS, (0, 2, 4)), "3 target classes were given for 2 pictures"),
    ],
)
def test_what_is_not_defined_is_refused(target, why):
    with pytest.raises(UndefinedError, match=why):
        target(Z)


def test_a_network_refuses_what_it_has_no_groups_for(network, pictures):
    model, images = network, pictures(1, 32)
    for spec, why in [
        (OfGroup("entity"), "All classes of handmade are kinds of “entity”"),
        (OfGroup("dog", "goldfish"), "goldfish is no kind of dog to handmade"),
        (OfGroup("dog", "no such class"), "No class of this model is called"),
    ]:
        with pytest.raises(UndefinedError, match=why):
            explain_inputs(model, images, spec)
    with pytest.raises(UndefinedError, match="each a question of its own: several of a group can be true at once"):
        explain_inputs(as_said(model, Said("sigmoid")), images, OfGroup("dog"))
    with pytest.raises(UndefinedError, match="an embedding and no classes"):
        of_group(as_said(model, Said("embedding")), PETS)
    with pytest.raises(UndefinedError, match="DeepLift has no rule for the group"):
        explain_inputs(model, images, OfGroup("dog"), "captum:deep_lift")


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients", "grad_cam", "depth_fusion"])
def test_captum_agrees(network, pictures, method):
    from lsd.saliency.crosscheck import crosscheck

    model, images = network, pictures(1, 32)
    settings = {"steps": 4, "quadrature_kind": "midpoint"} if method == "integrated_gradients" else {}
    for target in (GroupTarget(PETS), GroupTarget(PETS, 2)):
        assert crosscheck(model, images, target, method, **settings).agrees


def test_what_they_say_of_themselves_is_plain():
    assert GroupTarget(PETS, 2).to_dict() == {
        "kind": "within", "index": 2, "group": "pet", "synset": "", "members": (0, 2, 4),
    }  # fmt: skip
    assert "index" not in GroupTarget(PETS).to_dict() and GroupTarget(PETS).kind == "group"
