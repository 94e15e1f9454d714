"""Captum's traps: each is a refusal with a reason, or is shown to be disarmed."""

import contextlib
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsd.errors import UndefinedError
from lsd.saliency import captum_methods as captum
from lsd.saliency import gradients as own
from lsd.saliency.crosscheck import crosscheck, relative_difference
from lsd.saliency.targets import Target
from lsd.tracing import capture

ALL = {
    "saliency": {}, "input_x_gradient": {}, "integrated_gradients": {"steps": 4}, "smoothgrad": {"samples": 4},
    "smoothgrad_squared": {"samples": 4}, "vargrad": {"samples": 4}, "guided_backprop": {}, "deconvolution": {},
    "grad_cam": {}, "guided_grad_cam": {}, "occlusion": {"window": 16, "stride": 8}, "gradient_shap": {"samples": 4},
    "deep_lift": {},
}  # fmt: skip
each_method = pytest.mark.parametrize("name", ALL)


LOGIT = Target(3, "logit")


def run(name, model, x, target=LOGIT, **settings):
    return getattr(captum, name)(model, x, target, **(ALL[name] | settings))


class FunctionalReLU(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(F.relu(self.conv(x)).mean((2, 3)))


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


@each_method
def test_every_method_runs_on_a_relu_network_picture_by_picture(image_model, pictures, name):
    model, x, target = image_model("resnet18", layers=(1, 1, 1, 1)), pictures(2), Target((3, 5), "logit")
    both = run(name, model, x, target)
    assert both.method == f"captum:{name}" and both.values.abs().max() > 0
    assert both.values.shape[0] == 2 and both.scores.shape == (2,)
    assert torch.equal(both.values[1:], run(name, model, x[1:], Target(5, "logit")).values)
    assert ALL[name].items() <= both.settings.items()


@each_method
def test_nothing_is_left_on_the_network(image_model, pictures, name):
    model, x = image_model("resnet18", layers=(1, 1, 1, 1)), pictures()
    inplace = [m.inplace for m in model.net.modules() if hasattr(m, "inplace")]
    before, state = own.gradient(model, x, Target(3)).values, torch.random.get_rng_state()
    run(name, model, x)
    assert [m.inplace for m in model.net.modules() if hasattr(m, "inplace")] == inplace and any(inplace)
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())
    assert torch.equal(own.gradient(model, x, Target(3)).values, before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())


@each_method
def test_nothing_is_left_after_a_failure(image_model, pictures, name, monkeypatch):
    model = image_model("resnet18", layers=(1, 1, 1, 1))
    run(name, model, pictures())

    def fail(*_):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(model.net.fc, "forward", fail)
        with pytest.raises((RuntimeError, UndefinedError)):
            run(name, model, pictures())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())
    assert all(m.inplace for m in model.net.modules() if isinstance(m, nn.ReLU))


@each_method
def test_numbers_that_are_not_finite_raise(image_model, pictures, name):
    x = pictures()
    x[0, 0, 3, 3] = float("nan")
    with pytest.raises(UndefinedError):
        run(name, image_model("test_resnet"), x)


@pytest.mark.parametrize("name", ["saliency", "smoothgrad", "input_x_gradient"])
def test_values_are_signed(image_model, pictures, name):
    """Captum's Saliency, and so the NoiseTunnel around it, takes absolute values unless told not to."""
    values = run(name, image_model("test_resnet"), pictures()).values
    assert values.min() < -0.1 * values.max()


@pytest.mark.parametrize("name", ["guided_backprop", "deconvolution", "guided_grad_cam"])
@pytest.mark.parametrize("arch, settings, named", [
    ("test_efficientnet", {}, "SiLU"), ("test_convnext", {}, "GELU"), ("mobilenetv3_small_050", {}, "HardSwish"),
    ("regnetz_c16_evos", {}, "a product of a tensor"),  # x · sigmoid(x); its ReLUs are in the gates
    ("mobilenetv2_050", {}, "0 of the 35 rectifiers"),  # all ReLU6, which Captum does not know
])  # fmt: skip
def test_rules_for_relus_are_refused_where_they_would_be_the_plain_gradient(
    image_model, pictures, name, arch, settings, named
):
    with pytest.raises(UndefinedError, match=named):
        run(name, image_model(arch, **settings), pictures())


def test_rectifiers_that_captum_cannot_see_are_refused_and_handled_by_hand(wrap, pictures):
    model, x = wrap(FunctionalReLU(), 9), pictures(1, 9)
    with pytest.raises(UndefinedError, match="0 of the 1 rectifiers"):
        captum.guided_backprop(model, x, Target(1, "logit"))
    guided = own.guided_backprop(model, x, Target(1, "logit")).values
    assert relative_difference(guided, own.gradient(model, x, Target(1, "logit")).values) > 0.01


@pytest.mark.parametrize("own_name, captum_name", [
    ("guided_backprop", "guided_backprop"), ("deconvnet", "deconvolution"), ("grad_cam", "grad_cam"),
])  # fmt: skip
def test_relus_in_place_change_nothing(image_model, pictures, own_name, captum_name):
    model, x = image_model("test_resnet", 64), pictures(1, 64)
    assert any(m.inplace for m in model.net.modules() if isinstance(m, nn.ReLU))
    settings = {"layer": "layer2.0.bn1"} if own_name == "grad_cam" else {}
    mine = getattr(own, own_name)(model, x, Target(3), **settings).values
    assert relative_difference(mine, run(captum_name, model, x, Target(3), **settings).values) < 1e-10


@pytest.mark.parametrize("name", ["grad_cam", "guided_grad_cam"])
@pytest.mark.parametrize("arch, settings, layout", [
    ("test_vit", {"img_size": 64}, "tokens"), ("test_mambaout", {}, "nhwc"),
    ("swin_tiny_patch4_window7_224",
     {"img_size": 64, "window_size": 2, "depths": (1, 1, 1, 1), "embed_dim": 24}, "nhwc"),
])  # fmt: skip
def test_grad_cam_is_refused_where_the_second_axis_is_not_the_channels(
    image_model, pictures, name, arch, settings, layout
):
    with pytest.raises(UndefinedError, match=f"laid out as {layout}"):
        run(name, image_model(arch, 64, **settings), pictures(1, 64))


def test_grad_cam_refuses_an_unknown_layer(image_model, pictures):
    with pytest.raises(UndefinedError, match="has no layer “nowhere”"):
        run("grad_cam", image_model("test_resnet"), pictures(), layer="nowhere")


def test_guided_grad_cam_is_the_product_of_its_parts(image_model, pictures):
    model, x = image_model("test_resnet", 64), pictures(1, 64)
    cam = own.grad_cam(model, x, Target(3, "logit"), layer="layer2").values.clamp(min=0)
    expected = F.interpolate(cam, (64, 64), mode="bilinear") * own.guided_backprop(model, x, Target(3, "logit")).values
    result = run("guided_grad_cam", model, x, layer="layer2").values
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("target", [Target(3, "logit"), Target(3, "contrast", 1)])
def test_deep_lift_is_complete_where_it_is_accepted(image_model, pictures, target):
    model, x = image_model("resnet18", layers=(1, 1, 1, 1)), pictures()
    values = run("deep_lift", model, x, target).values
    with torch.no_grad():
        change = target(model(x)) - target(model(own.baseline(model, x, "mean")))
    assert values.sum().item() == pytest.approx(change.item(), rel=1e-3)


@pytest.mark.parametrize("kind", ["log_odds", "probability"])
def test_deep_lift_is_refused_for_targets_that_are_not_linear(image_model, pictures, kind):
    with pytest.raises(UndefinedError, match="not linear in the logits"):
        run("deep_lift", image_model("test_resnet"), pictures(), Target(3, kind))


@pytest.mark.parametrize("arch", ["test_vit", "test_convnext"])
def test_deep_lift_is_refused_where_it_does_not_hold(image_model, pictures, arch):
    settings = {"img_size": 32} if arch == "test_vit" else {}
    with pytest.raises(UndefinedError, match=r"does not hold|does not run"):
        run("deep_lift", image_model(arch, **settings), pictures())


def test_deep_lift_is_refused_where_captums_rule_for_pooling_fails(image_model, pictures):
    """Its rule for max-pooling is off where windows overlap and the baseline's maximum lies elsewhere."""
    with pytest.raises(UndefinedError, match="does not hold"):
        run("deep_lift", image_model("resnet18", layers=(1, 1, 1, 1)), pictures(), baseline_kind="black")


def test_occlusion_is_the_loop_over_windows(image_model, pictures):
    model, x, target = image_model("test_resnet"), pictures(), Target(3, "logit")
    base, score = own.baseline(model, x, "mean"), lambda x: target(model(x)).item()
    total, count = torch.zeros_like(x), torch.zeros_like(x)
    with torch.no_grad():
        for top in (0, 16):
            for left in (0, 16):
                covered = x.clone()
                part = (..., slice(top, top + 16), slice(left, left + 16))
                covered[part] = base[part]
                total[part] += score(x) - score(covered)
                count[part] += 1
    result = run("occlusion", model, x, window=16, stride=16)
    torch.testing.assert_close(result.values, total / count, rtol=1e-5, atol=1e-5)  # Captum computes in fp32
    assert result.passes == 4


def test_occlusion_counts_its_passes(image_model, pictures):
    model, batches = image_model("test_resnet"), []
    handle = model.net.register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    result = run("occlusion", model, pictures(), window=12, stride=8, batch_size=1)
    handle.remove()
    assert len(batches) - result.passes in (1, 2)  # the picture itself, for Captum and for the score


@pytest.mark.parametrize("settings", [{"window": 64}, {"window": 8, "stride": 9}, {"stride": 0}])
def test_occlusion_refuses_windows_that_leave_gaps_or_do_not_fit(image_model, pictures, settings):
    with pytest.raises(UndefinedError, match="1 ≤ stride ≤ window ≤ 32"):
        run("occlusion", image_model("test_resnet"), pictures(), **settings)


def test_integrated_gradients_refuse_an_unknown_quadrature(image_model, pictures):
    with pytest.raises(UndefinedError, match="no quadrature “simpson”"):
        run("integrated_gradients", image_model("test_resnet"), pictures(), quadrature_kind="simpson")


def test_captured_layers_are_not_overwritten_in_place(image_model, pictures):
    model = image_model("test_resnet")
    with capture(model, ["conv1", "bn1"]) as captured:
        model(pictures())
    assert captured["bn1"].min() < 0, "the in-place ReLU behind it has run over it"
    torch.testing.assert_close(model.net.bn1(captured["conv1"]), captured["bn1"])


def test_the_gradient_at_a_captured_layer_is_its_own(wrap, pictures):
    """Behind an in-place ReLU, ∂z/∂a is zero where a < 0; read after the ReLU it would not be."""
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    model = wrap(net, 9)
    with capture(model, ["0"]) as captured:
        logits = model(pictures(1, 9).requires_grad_(True))
    (g,) = torch.autograd.grad(logits[0, 1], captured["0"])
    assert (captured["0"] < 0).any() and not g[captured["0"] < 0].any() and g.any()


# Two threads. In each test they meet inside the methods, at a barrier in the networks' forward passes.


def meeting(wrap, parties=2):
    """As many networks as `parties`, whose passes wait for each other (for a second, so that who is locked out goes on)."""
    barrier = threading.Barrier(parties)

    class Meeting(FunctionalReLU):
        meets = False

        def forward(self, x):
            if self.meets:
                with contextlib.suppress(threading.BrokenBarrierError):
                    barrier.wait(1)
            return super().forward(x)

    return [wrap(Meeting(), 9) for _ in range(parties)]


def at_once(functions, models):
    for model in models:
        model.net.meets = True
    with ThreadPoolExecutor(len(models)) as pool:
        return list(pool.map(lambda function, model: function(model), functions, models))


@pytest.mark.parametrize("name", ["smoothgrad", "smoothgrad_squared", "vargrad", "gradient_shap"])
def test_two_models_at_once_draw_what_each_draws_alone(wrap, pictures, name):
    models, x = meeting(wrap), pictures(1, 9)

    def explain(seed):
        return lambda model: run(name, model, x, Target(1, "log_odds"), samples=8, batch_size=2, sigma=0.2, seed=seed)

    functions = [explain(3), explain(4)]
    alone = [function(model).values for function, model in zip(functions, models, strict=True)]
    assert not torch.equal(*alone)
    for found, expected in zip(at_once(functions, models), alone, strict=True):
        assert torch.equal(found.values, expected)


def test_somebody_elses_draws_do_not_shift_the_noise(wrap, pictures):
    """As when a network is built, with random weights to begin with, while another one is explained."""

    class Drawing(FunctionalReLU):
        def forward(self, x):
            torch.rand(3)
            return super().forward(x)

    plain, drawing = wrap(FunctionalReLU(), 9), wrap(Drawing(), 9)
    target = Target(1, "log_odds")
    values = [run("smoothgrad", m, pictures(1, 9), target, batch_size=1).values for m in (plain, drawing)]
    assert torch.equal(*values)


def test_the_cross_check_of_two_models_at_once_accuses_nobody(wrap, pictures):
    models, x = meeting(wrap), pictures(1, 9)

    def check(model):
        return crosscheck(model, x, Target(1, "log_odds"), "smoothgrad", samples=8, batch_size=2)

    for outcome in at_once([check, check], models):
        assert outcome.agrees, outcome


def test_warnings_are_heard_after_two_models_at_once(wrap, pictures):
    models, x = [wrap(nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), Mean()), 9) for _ in range(2)], pictures(1, 9)
    both, first_left = threading.Barrier(2), threading.Event()

    def explain(model, first):
        def meet(*_):
            both.wait(20)
            assert first or first_left.wait(20)
            handle.remove()

        handle = model.net.register_forward_pre_hook(meet)
        captum.guided_backprop(model, x, Target(1, "logit"))
        first_left.set()

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(explain, models, (True, False)))
        warnings.warn("afterwards", stacklevel=1)
    assert [str(warning.message) for warning in heard] == ["afterwards"]


class Apart(nn.Module):
    """Hands on a tensor of its own."""

    def forward(self, x):
        return x.clone()


class PreActivation(nn.Module):
    """A block that begins with a ReLU, and a shortcut around it, as Xception's; `apart` puts something between the two."""

    def __init__(self, apart: bool):
        super().__init__()
        torch.manual_seed(0)
        relu = nn.Sequential(Apart(), nn.ReLU()) if apart else nn.ReLU()
        self.stem, self.branch, self.fc = nn.Conv2d(3, 4, 3), nn.Sequential(relu, nn.Conv2d(4, 4, 1)), nn.Linear(4, 5)

    def forward(self, x):
        x = self.stem(x)
        return self.fc((x + self.branch(x)).mean((2, 3)))


@pytest.mark.parametrize("name, method", [("guided_backprop", "guided_backprop"), ("deconvolution", "deconvnet")])
def test_a_relu_whose_input_goes_elsewhere_too_is_none_of_captums(wrap, pictures, name, method):
    """Captum hooks the input, where the shortcut's gradient has been added: it is right as soon as the ReLU has its own."""
    joint, apart = (wrap(PreActivation(apart), 9, 5) for apart in (False, True))
    x = pictures(1, 9)
    ours = getattr(own, method)(joint, x.clone(), [LOGIT])[0].values
    torch.testing.assert_close(run(name, apart, x).values, ours)
    with pytest.raises(UndefinedError, match="what goes into 1 of the 1 of handmade goes elsewhere as well"):
        run(name, joint, x)
    told = crosscheck(joint, x, LOGIT, method)
    assert told.difference is None and told.reason.startswith(
        "Captum changes the gradient of all that goes into a ReLU"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(captum, "_check_modules_rectify", lambda *_: None)
        assert relative_difference(run(name, joint, x).values, ours) > 0.1
