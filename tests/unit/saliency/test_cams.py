"""Class activation maps against the formulas of their papers in plain loops, with slopes by finite differences where it counts."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsd.errors import UndefinedError
from lsd.groups import Group
from lsd.layers import depth_layers
from lsd.saliency import cams
from lsd.saliency.gradients import baseline, grad_cam
from lsd.saliency.targets import GroupTarget, Similarity, Target
from lsd.tracing import capture

ONE_LAYER = {
    "hires_cam": cams.hires_cam, "grad_cam_plus_plus": cams.grad_cam_plus_plus, "finer_cam": cams.finer_cam,
    "score_cam": cams.score_cam,
}  # fmt: skip
FUSED = {"layer_cam": cams.layer_cam, "refine_cam": cams.refine_cam}
CAMS = ONE_LAYER | FUSED
SETTINGS = {"score_cam": {"masks": 4}}
PAIR = Group("pair", (1, 2))
each_cam = pytest.mark.parametrize("name", CAMS)


class Stages(nn.Module):
    """Three smooth stages of activations above 0 on grids of 8, 4 and 2, and a head that is not linear."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stage1 = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1), nn.Softplus())
        self.stage2 = nn.Sequential(nn.Conv2d(5, 6, 3, 2, 1), nn.Softplus())
        self.stage3 = nn.Sequential(nn.Conv2d(6, 7, 3, 2, 1), nn.Softplus())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(28, 6), nn.Tanh(), nn.Linear(6, 4))

    def tail(self, activation, after):
        """From the output of stage `after` (1 to 3) to the logits."""
        for stage in (self.stage1, self.stage2, self.stage3)[after:]:
            activation = stage(activation)
        return self.head(activation)

    def forward(self, x):
        return self.tail(self.stage1(x), 1)


@pytest.fixture(scope="module")
def stages(wrap):
    return wrap(Stages(), 16, 4)


def activations(model, x):
    """What each stage puts out, (C, h, w)."""
    with torch.no_grad(), capture(model, ["stage1", "stage2", "stage3"]) as captured:
        model(x)
    return [captured[f"stage{i}"][0].clone() for i in (1, 2, 3)]


def slope_by_differences(model, activation, stage, function, step=1e-5):
    """∂ function(logits) / ∂ each number of the activation (C, h, w) of a stage."""
    slope = torch.zeros_like(activation)
    with torch.no_grad():
        for place in np.ndindex(*activation.shape):
            ends = []
            for sign in (1, -1):
                moved = activation.clone()
                moved[place] += sign * step
                ends.append(function(model.net.tail(moved[None], stage)).item())
            slope[place] = (ends[0] - ends[1]) / (2 * step)
    return slope


def slow_map(a, g, name):
    """Σ_k weight_k(place) A_k of (C, h, w), place by place."""
    channels, height, width = a.shape
    out = torch.zeros(height, width, dtype=a.dtype)
    for k in range(channels):
        if name == "grad_cam":
            weight = torch.full((height, width), g[k].mean().item(), dtype=a.dtype)
        elif name == "hires_cam":
            weight = g[k]
        elif name == "layer_cam":
            weight = g[k] * (g[k] > 0)
        else:  # equations 18 and 19 of the paper, with its g² and g³
            total = 0.0
            for i in range(height):
                for j in range(width):
                    slope = g[k, i, j].item()
                    if slope > 0:
                        total += slope * slope**2 / (2 * slope**2 + a[k].sum().item() * slope**3)
            weight = torch.full((height, width), total, dtype=a.dtype)
        out += weight * a[k]
    return out


def close(found, expected, rtol=1e-6):
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=rtol, atol=rtol * expected.abs().max().item())


@pytest.mark.parametrize("kind", ["logit", "log_odds", "contrast"])
@pytest.mark.parametrize("name", ["hires_cam", "grad_cam_plus_plus"])
def test_one_layer_is_the_formula_by_finite_differences(stages, pictures, name, kind):
    x, target = pictures(1, 16), Target(1, kind, 3 if kind == "contrast" else None)
    for number, a in enumerate(activations(stages, x), 1):
        g = slope_by_differences(stages, a, number, target)
        assert (g > 0).any() and (g < 0).any()
        found = CAMS[name](stages, x, target, layer=f"stage{number}")
        close(found.values[0, 0], slow_map(a, g, name))
        assert found.settings == {"layer": f"stage{number}"} and found.passes == 1
        torch.testing.assert_close(found.scores, target(stages(x)))


def test_hires_cam_adds_up_to_the_logit_where_the_rest_is_linear(wrap, pictures):
    """The paper's claim: with a linear layer behind, the map's sum is the logit without its bias."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3)
    )
    model, x = wrap(net, 16), pictures(2, 16)
    found = cams.hires_cam(model, x, Target(1, "logit"), layer="3")
    torch.testing.assert_close(found.values.sum((1, 2, 3)), model(x)[:, 1].detach() - net[5].bias[1].detach())


def test_grad_cam_plus_plus_is_refused_where_it_would_divide_by_nothing(wrap, pictures):
    torch.manual_seed(0)
    model = wrap(nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.Flatten(), nn.Linear(256, 3)), 16)
    model.net[0].bias.data -= 5  # sums far below zero
    model.net[2].weight.data.abs_()
    with pytest.raises(UndefinedError, match="not positive everywhere") as refused:
        cams.grad_cam_plus_plus(model, pictures(1, 16), Target(1, "logit"), layer="0")
    assert "\n" not in str(refused.value)
    assert cams.hires_cam(model, pictures(1, 16), Target(1, "logit"), layer="0").values.abs().max() > 0


# Finer-CAM


def finer(logits, index, references, strength, kind):
    """The objective of one picture (1, C) in plain Python: its references by the distance of their logits."""
    z = logits[0].tolist()
    near = sorted((c for c in range(len(z)) if c != index), key=lambda c: abs(z[c] - z[index]))[:references]
    return Target(index, kind)(logits) - strength * sum(Target(c, kind)(logits) for c in near) / len(near)


@pytest.mark.parametrize("kind", ["logit", "log_odds", "probability"])
@pytest.mark.parametrize("index, references, strength", [(0, 1, 0.6), (1, 2, 0.6), (2, 3, 1.0), (3, 20, 0.3)])
def test_finer_cam_is_grad_cam_of_the_difference(stages, pictures, kind, index, references, strength):
    x, target = pictures(1, 16, seed=3), Target(index, kind)
    a = activations(stages, x)[1]
    g = slope_by_differences(stages, a, 2, lambda logits: finer(logits, index, references, strength, kind))
    found = cams.finer_cam(stages, x, target, references=references, strength=strength, layer="stage2")
    close(found.values[0, 0], slow_map(a, g, "grad_cam"), 1e-5)
    torch.testing.assert_close(found.scores, target(stages(x)))
    assert found.settings == {"layer": "stage2", "references": references, "strength": strength}


def test_finer_cam_without_strength_is_grad_cam(stages, pictures):
    x = pictures(2, 16)
    plain = grad_cam(stages, x, Target((1, 2)), layer="stage2").values
    torch.testing.assert_close(cams.finer_cam(stages, x, Target((1, 2)), strength=0.0, layer="stage2").values, plain)
    assert not torch.allclose(cams.finer_cam(stages, x, Target((1, 2)), layer="stage2").values, plain)


def test_a_contrast_names_finer_cams_reference(stages, pictures):
    x = pictures(1, 16)
    whole = cams.finer_cam(stages, x, Target(1, "contrast", 2), strength=1.0, layer="stage2")
    expected = grad_cam(stages, x, Target(1, "contrast", 2), layer="stage2")
    torch.testing.assert_close(whole.values, expected.values)
    torch.testing.assert_close(whole.scores, expected.scores)
    own, other = (grad_cam(stages, x, Target(i, "logit"), layer="stage2").values for i in (1, 2))
    half = cams.finer_cam(stages, x, Target(1, "contrast", 2), strength=0.5, layer="stage2").values
    torch.testing.assert_close(half, own - 0.5 * other)


def test_finer_cam_needs_a_class_to_hold_against(stages, wrap, pictures):
    with pytest.raises(UndefinedError, match="a similarity has no class"):
        cams.finer_cam(stages, pictures(1, 16), Similarity(torch.ones(4), {}))
    for group in (GroupTarget(PAIR), GroupTarget(PAIR, 2)):
        with pytest.raises(UndefinedError, match="a group says itself what it is held against"):
            cams.finer_cam(stages, pictures(1, 16), group)
    torch.manual_seed(0)
    single = wrap(nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 1)), 16, 1)
    with pytest.raises(UndefinedError, match="this network has but one"):
        cams.finer_cam(single, pictures(1, 16), Target(0, "logit"), layer="1")
    for wrong in ({"references": 0}, {"strength": -1.0}):
        with pytest.raises(UndefinedError, match="one reference or more"):
            cams.finer_cam(stages, pictures(1, 16), Target(1), **wrong)


# Several layers


def depth_maps(model, x, target, name):
    return [
        slow_map(a, slope_by_differences(model, a, number, target), name).clamp(min=0)
        for number, a in enumerate(activations(model, x), 1)
    ]


def enlarged(values):
    """By half-pixel centres, number by number."""
    side, out = len(values), torch.zeros(16, 16, dtype=values.dtype)
    for i in range(16):
        for j in range(16):
            y, x = (min(max((p + 0.5) * side / 16 - 0.5, 0), side - 1) for p in (i, j))
            top, left = int(y), int(x)
            low, right = min(top + 1, side - 1), min(left + 1, side - 1)
            dy, dx = y - top, x - left
            out[i, j] = (1 - dy) * ((1 - dx) * values[top, left] + dx * values[top, right]) + dy * (
                (1 - dx) * values[low, left] + dx * values[low, right]
            )
    return out


@pytest.mark.parametrize("kind", ["logit", "log_odds"])
def test_layer_cam_is_the_strongest_depth(stages, pictures, kind):
    x, target = pictures(1, 16), Target(2, kind)
    maps = depth_maps(stages, x, target, "layer_cam")
    every = torch.stack([enlarged(torch.tanh(2 * m / m.max())) for m in maps])
    found = cams.layer_cam(stages, x, target)
    close(found.values[0, 0], every.amax(0))
    assert len(every.argmax(0).unique()) > 1  # more than one depth decides
    assert found.settings == {"layers": ["stage1", "stage2", "stage3"]} and found.passes == 1


@pytest.mark.parametrize("base", cams.MAPS)
def test_refine_cam_is_the_product_of_the_depths(stages, pictures, base):
    x = pictures(1, 16)
    asked = [Target(a, "contrast", b) for a in range(4) for b in range(4) if a != b]
    every = ((target, depth_maps(stages, x, target, base)) for target in asked)
    target, maps = next((t, maps) for t, maps in every if all(one.max() > 0 for one in maps))
    expected = torch.ones(16, 16, dtype=x.dtype)
    for one in maps:
        expected *= enlarged((one - one.min()) / (one.max() - one.min()))
    found = cams.refine_cam(stages, x, target, base=base)
    close(found.values[0, 0], expected, 1e-5)
    assert found.settings == {"base": base, "layers": ["stage1", "stage2", "stage3"]}


def test_refine_cam_refuses_a_base_that_is_none(stages, pictures):
    with pytest.raises(UndefinedError, match="no base “lime”; choose one of grad_cam_plus_plus, "):
        cams.refine_cam(stages, pictures(1, 16), Target(1), base="lime")


def test_a_class_that_nothing_moves_has_fused_maps_of_zeros(wrap, pictures):
    model, x = wrap(Stages(), 16, 4), pictures(1, 16)
    model.net.head[3].weight.data[2] = 0
    for name in FUSED:
        assert not FUSED[name](model, x, Target(2, "logit")).values.any()
    with pytest.raises(UndefinedError, match="do not reach the output"):
        cams.hires_cam(model, x, Target(2, "logit"), layer="stage2")


# Score-CAM


def slow_score_cam(model, x, target, layer, masks, kind):
    """Mask by mask: one channel, one picture, one pass."""
    a = activations(model, x)[layer - 1]
    behind = baseline(model, x, kind)
    order = sorted(range(len(a)), key=lambda k: -a[k].var(correction=0).item())[:masks]
    scores, kept = [], []
    with torch.no_grad():
        for k in sorted(order):
            mask = enlarged(a[k])
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            scores.append(target(model(behind + mask * (x - behind))).item() - target(model(behind)).item())
            kept.append(a[k])
    weights = np.exp(np.array(scores) - max(scores))
    weights /= weights.sum()
    return sum(w * one for w, one in zip(weights, kept, strict=True))


@pytest.mark.parametrize("masks", [1, 3, 6, 64])
@pytest.mark.parametrize("kind, batch_size", [("mean", 4), ("black", 1), ("blur", 8)])
def test_score_cam_is_the_formula(stages, pictures, masks, kind, batch_size):
    x, target = pictures(1, 16), Target(2, "logit")
    found = cams.score_cam(stages, x, target, layer="stage2", masks=masks, baseline_kind=kind, batch_size=batch_size)
    close(found.values[0, 0], slow_score_cam(stages, x, target, 2, masks, kind), 1e-9)
    assert found.passes == 1 + min(masks, 6)


def test_score_cam_leaves_channels_out_that_are_the_same_everywhere(wrap, pictures):
    model, x = wrap(Stages(), 16, 4), pictures(1, 16)
    model.net.stage3[0].weight.data[:5] = 0
    found = cams.score_cam(model, x, Target(1), layer="stage3")
    assert found.passes == 1 + 2
    model.net.stage3[0].weight.data[:] = 0
    with pytest.raises(UndefinedError, match="No channel of stage3 varies"):
        cams.score_cam(model, x, Target(1), layer="stage3")


def test_score_cam_refuses_settings_without_meaning(stages, pictures):
    for wrong in ({"masks": 0}, {"batch_size": 0}):
        with pytest.raises(UndefinedError, match="at least 1"):
            cams.score_cam(stages, pictures(1, 16), Target(1), **wrong)
    with pytest.raises(UndefinedError, match="no baseline “pink”"):
        cams.score_cam(stages, pictures(1, 16), Target(1), baseline_kind="pink")


# What holds for all


@each_cam
def test_targets_and_pictures_are_each_alone(stages, pictures, name):
    function, settings = CAMS[name], SETTINGS.get(name, {})
    x, targets = pictures(3, 16), [Target((1, 0, 2)), Target(3, "logit"), Target(2, "contrast", 1)]
    for target, together in zip(targets, function(stages, x, targets, **settings), strict=True):
        alone = function(stages, x, target, **settings)
        assert torch.equal(together.values, alone.values) and torch.equal(together.scores, alone.scores)
        assert together.target == target and together.method == name
        for i in range(3):
            one = function(stages, x[i : i + 1], target.of(i), **settings)
            close(together.values[i], one.values[0], 1e-9)


@each_cam
def test_the_layers_are_chosen_and_laid_out(image_model, pictures, name):
    """Tokens behind a class token, and channels last, as well as convolutions."""
    for arch, size in (("test_resnet", 32), ("test_vit", 32), ("test_mambaout", 64)):
        model = image_model(arch, size, **({"img_size": size} if arch == "test_vit" else {}))
        try:
            found = CAMS[name](model, pictures(2, size), Target(3), **SETTINGS.get(name, {}))
        except UndefinedError as refused:
            assert "Grad-CAM++ divides by" in str(refused) and arch != "test_resnet"
            continue
        layers = depth_layers(model)
        if name in FUSED:
            assert found.values.shape == (2, 1, size, size) and found.settings["layers"] == [la.name for la in layers]
            assert found.values.min() >= 0 and 0 < found.values.max() <= 1
        else:
            assert found.values.shape == (2, 1, layers[-1].height, layers[-1].width)
            assert found.settings["layer"] == layers[-1].name and found.values.abs().max() > 0


@each_cam
def test_nothing_is_left_behind(image_model, pictures, name):
    model, x = image_model("test_resnet"), pictures()
    CAMS[name](model, x, Target(3), **SETTINGS.get(name, {}))
    with pytest.raises(UndefinedError, match="out of range"):
        CAMS[name](model, x, Target(99), **SETTINGS.get(name, {}))
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())
    assert all(p.grad is None and not p.requires_grad for p in model.parameters()) and not x.requires_grad
    assert model.lock.acquire(blocking=False), "the lock is still held"
    model.lock.release()


@each_cam
def test_likenesses_and_groups_are_explained_too_where_they_can_be(stages, pictures, name):
    likeness = Similarity(torch.tensor([1.0, -0.5, 0.2, 0.3], dtype=torch.float64), {"name": "x"})
    if name == "finer_cam":
        return  # refused above
    for target in (likeness, GroupTarget(PAIR), GroupTarget(PAIR, 2)):
        found = CAMS[name](stages, pictures(1, 16), target, **SETTINGS.get(name, {}))
        assert found.values.abs().max() > 0 and found.target is target


@pytest.mark.parametrize("name", ONE_LAYER)
def test_a_layer_without_places_is_refused(image_model, pictures, name):
    with pytest.raises(UndefinedError, match="not laid out over the picture"):
        ONE_LAYER[name](image_model("test_resnet"), pictures(), Target(3), layer="fc")


@each_cam
def test_a_network_without_places_is_refused(wrap, pictures, name):
    with pytest.raises(UndefinedError, match="no layer whose places reach the output"):
        CAMS[name](wrap(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), 8), pictures(1, 8), Target(1))


def test_enlarging_by_hand_is_torchs():
    values = torch.rand(4, 4, dtype=torch.float64)
    expected = F.interpolate(values[None, None], (16, 16), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(enlarged(values), expected)
