import math

import pytest
import torch

from lsd.errors import UndefinedError
from lsd.layers import as_said
from lsd.said import Said
from lsd.saliency.targets import KINDS, Target, of_class

LOGITS = torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.0, -1.0]], dtype=torch.float64)


def gradient(target, logits):
    logits = logits.clone().requires_grad_(True)
    return torch.autograd.grad(target(logits).sum(), logits)[0]


def closed_form(kind, z, t, b):
    """One picture's target, spelled out in Python floats."""
    p = [math.exp(v) / sum(math.exp(u) for u in z) for v in z]
    return {
        "logit": z[t],
        "probability": p[t],
        "log_odds": math.log(p[t] / (1 - p[t])),
        "contrast": z[t] - z[b],
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t, b", [(0, 2), (1, 0), (2, 1)])
def test_each_kind_is_its_closed_form(kind, t, b):
    values = Target(t, kind, b if kind == "contrast" else None)(LOGITS)
    assert values.tolist() == pytest.approx([closed_form(kind, z, t, b) for z in LOGITS.tolist()], rel=1e-12)


def test_the_target_of_a_networks_class_is_as_its_outputs_are(image_model):
    model = image_model("test_resnet")
    assert of_class(model, 3, "probability") == Target(3, "probability")
    assert of_class(as_said(model, Said("sigmoid")), 3) == Target(3, outputs="sigmoid")
    with pytest.raises(UndefinedError, match="puts out an embedding and no classes"):
        of_class(as_said(model, Said("embedding")), 3)


def test_each_picture_may_have_its_own_class():
    assert Target((1, 0), "logit")(LOGITS).tolist() == [-2.0, 3.0]
    assert Target((1, 0), "contrast", (0, 2))(LOGITS).tolist() == [-3.0, 4.0]


def test_of_picks_one_pictures_target():
    assert Target((1, 0), "contrast", 2).of(1) == Target(0, "contrast", 2)
    assert Target(1).of(5) == Target(1)


@pytest.mark.parametrize("sureness", [5.0, 18.0, 23.0, 40.0])
def test_log_odds_stay_exact_in_fp32_where_the_network_is_sure(sureness):
    """At 23 logits of distance 1 − p is 1e-10, which fp32 cannot tell from nothing."""
    logits = torch.tensor([[sureness, 0.3, -1.2, 0.1]], dtype=torch.float64)
    exact = gradient(Target(0), logits)
    single = gradient(Target(0), logits.float()).double()
    assert torch.cosine_similarity(single, exact).item() > 0.999
    assert Target(0)(logits.float()).item() == pytest.approx(Target(0)(logits).item(), rel=1e-6)


def test_probability_fades_in_fp32_where_the_network_is_sure():
    logits = torch.tensor([[23.0, 0.3, -1.2, 0.1]], dtype=torch.float64)
    exact, single = gradient(Target(0, "probability"), logits), gradient(Target(0, "probability"), logits.float())
    assert exact.abs().max() > 1e-11
    assert abs(single[0, 0].item() - exact[0, 0].item()) > 0.5 * abs(exact[0, 0].item())


def test_the_logit_changes_under_a_softmax_shift_and_the_others_do_not():
    """Adding one function of the picture to all logits leaves what the network says as it is."""
    x = torch.tensor([0.4, -0.7], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([[1.0, 2.0], [-1.0, 0.5], [0.0, 1.0]], dtype=torch.float64)

    def slope(target, shift):
        logits = (weights @ x)[None] + shift * (x**2).sum()
        return torch.autograd.grad(target(logits).sum(), x)[0]

    for target in (Target(1), Target(1, "probability"), Target(1, "contrast", 2)):
        torch.testing.assert_close(slope(target, 5.0), slope(target, 0.0), rtol=1e-10, atol=1e-12)
    assert (slope(Target(1, "logit"), 5.0) - slope(Target(1, "logit"), 0.0)).abs().max() > 1


@pytest.mark.parametrize("index", [3, -1, (0, 3)])
def test_a_class_out_of_range_is_named(index):
    with pytest.raises(UndefinedError, match=r"Class (3|-1) is out of range: this model has 3 classes, 0 to 2"):
        Target(index, "logit")(LOGITS)


def test_the_second_class_of_a_contrast_is_checked_too():
    with pytest.raises(UndefinedError, match="Class 7 is out of range"):
        Target(0, "contrast", 7)(LOGITS)


def test_one_class_a_picture_means_as_many_classes_as_pictures():
    with pytest.raises(UndefinedError, match="3 target classes were given for 2 pictures"):
        Target((0, 1, 2))(LOGITS)


@pytest.mark.parametrize("kind, against", [("contrast", None), ("logit", 1), ("log_odds", 1)])
def test_only_a_contrast_has_a_second_class(kind, against):
    with pytest.raises(UndefinedError, match="second class"):
        Target(0, kind, against)


@pytest.mark.parametrize("index, against", [(1, 1), ((0, 1), (2, 1)), ((0, 1), 1), (0, (2, 0))])
def test_a_contrast_of_a_class_with_itself_is_refused_for_any_picture(index, against):
    with pytest.raises(UndefinedError, match="contrast of a class with itself"):
        Target(index, "contrast", against)


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(UndefinedError, match=r"logprob.*log_odds, logit"):
        Target(0, "logprob")


def test_log_odds_need_two_classes():
    with pytest.raises(UndefinedError, match="at least two classes"):
        Target(0)(LOGITS[:, :1])
    assert Target(0, "logit")(LOGITS[:, :1]).tolist() == [1.0, 3.0]


@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_network_without_classes_has_no_target(kind):
    with pytest.raises(UndefinedError, match="no classifier"):
        Target(0, kind)(LOGITS[:, :0])


def test_to_dict_holds_what_makes_the_target_again():
    for target in (Target(3), Target(1, "contrast", 2), Target((1, 2), "probability")):
        assert Target(**target.to_dict()) == target
