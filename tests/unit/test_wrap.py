"""Networks as their owners hold them: each is right, by plain autograd on the network itself, or refused in a sentence."""

import copy
import pickle
import threading
import warnings

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

import lsd
from benchmarks.families import randomize
from lsd.errors import LSDError, ModelError, UndefinedError
from lsd.images import prepare
from lsd.layers import curated_layers, deepest_grid
from lsd.saliency.crosscheck import TOLERANCE, crosscheck
from lsd.saliency.explain import to_input
from lsd.saliency.methods import attribute
from lsd.saliency.targets import Target

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)


class Own(nn.Module):
    """Somebody's network: `after` is what it does to its logits, `channels` what it takes."""

    def __init__(self, outputs: int = 2, side: int = 16, channels: int = 3, after=lambda x: x):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU())
        self.head = nn.Linear(8 * (side // 2) ** 2, outputs)
        self.after = after

    def forward(self, x):
        return self.after(self.head(self.stem(x).flatten(1)))


class Two(Own):
    def forward(self, x, y):
        return super().forward(x + y)


class ByKeyword(Own):
    def forward(self, *, pixel_values):
        return super().forward(pixel_values)


def wrapped(net=None, **settings):
    given = {"size": 16, "mean": MEAN, "std": STD}
    return lsd.wrap(Own().double() if net is None else net, **(given | settings))


def own_gradient(net: nn.Module, x: torch.Tensor, index: int, channels: int = 3, mean=MEAN, std=STD) -> torch.Tensor:
    """∂ log-odds / ∂x by plain autograd, the picture normalised by hand."""
    x = x.clone().requires_grad_(True)
    seen = (x - x.new_tensor(mean).view(1, 3, 1, 1)) / x.new_tensor(std).view(1, 3, 1, 1)
    if channels == 1:
        seen = 0.299 * seen[:, :1] + 0.587 * seen[:, 1:2] + 0.114 * seen[:, 2:]
    logits = copy.deepcopy(net).eval()(seen)
    others = [i for i in range(logits.shape[1]) if i != index]
    (logits[:, index] - logits[:, others].logsumexp(1)).sum().backward()
    return x.grad


HOLDERS = {
    "one's own": lambda: Own().double(),
    "in train mode": lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), Own()).double().train(),
    "with an old weight norm": lambda: _normed(nn.utils.weight_norm),
    "with a weight norm": lambda: _normed(nn.utils.parametrizations.weight_norm),
    "in DataParallel": lambda: nn.DataParallel(Own().double()),
    "with DataParallel inside": lambda: nn.Sequential(nn.DataParallel(Own().double()), nn.Identity()),
    "compiled": lambda: torch.compile(Own().double()),
    "compiled in place": lambda: _compiled_in_place(Own().double()),
    "ending in log-softmax": lambda: Own(after=lambda x: x.log_softmax(1)).double(),
}


def _normed(norm) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = Own().double()
        norm(net.head)
    net(torch.rand(1, 3, 16, 16, dtype=torch.float64))  # after which the old one cannot be copied as it is
    return net


def _compiled_in_place(net: nn.Module) -> nn.Module:
    net.compile()
    return net


def _plain(net: nn.Module) -> nn.Module:
    """The network without what compiles it, which nothing here has time for."""
    net = getattr(net, "_orig_mod", net)
    net = net.module if isinstance(net, nn.DataParallel) else net
    net._compiled_call_impl = None
    return net


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("holder", HOLDERS)
def test_a_network_is_explained_as_it_is(holder):
    net = HOLDERS[holder]()
    model = wrapped(net)
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    ours = attribute("gradient", model, x, Target(1))
    weights = {k: v.detach() for k, v in _plain(net).state_dict().items()}
    plain = _plain(net)
    if "old" in holder:
        plain = Own().double()
        plain.load_state_dict(
            {k: v for k, v in model.net.state_dict().items() if k in plain.state_dict()}, strict=False
        )
        plain.head.weight = nn.Parameter(torch._weight_norm(weights["head.weight_v"], weights["head.weight_g"], 0))
    torch.testing.assert_close(ours.values, own_gradient(plain, x, 1))


@pytest.mark.parametrize("name, settings", [
    ("vit_tiny_patch16_224", {"img_size": 64, "num_classes": 3}), ("test_resnet", {"num_classes": 2}),
    ("test_vit", {"in_chans": 1, "num_classes": 4}), ("test_convnext", {"num_classes": 5}),
])  # fmt: skip
def test_timms_networks_with_arguments(name, settings):
    net = randomize(timm.create_model(name, **settings)).double()
    model = lsd.wrap(net)
    x = torch.rand(1, 3, model.spec.height, model.spec.width, dtype=torch.float64)
    grey = settings.get("in_chans") == 1
    mean, std = ((sum(v) / 3,) * 3 if grey else v for v in (net.pretrained_cfg["mean"], net.pretrained_cfg["std"]))
    expected = own_gradient(net, x, 1, 1 if grey else 3, mean, std)
    assert model.num_classes == settings["num_classes"] and model.spec.height == settings.get("img_size", 160)
    torch.testing.assert_close(attribute("gradient", model, x, Target(1)).values, expected)


TORCHVISION = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=5),
    "VisionTransformer": lambda: torchvision.models.VisionTransformer(32, 8, 3, 2, 32, 64, num_classes=5),
    "convnext": lambda: torchvision.models.convnext_tiny(num_classes=5),
    "vgg": lambda: torchvision.models.vgg11(num_classes=5),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_networks(name):
    net = randomize(TORCHVISION[name]()).double()
    model = lsd.wrap(net, **({} if name == "VisionTransformer" else {"size": 64}))
    x = torch.rand(1, 3, model.spec.height, model.spec.width, dtype=torch.float64)
    imagenet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    values = attribute("gradient", model, x, Target(1)).values
    torch.testing.assert_close(
        values, own_gradient(net, x, 1, **imagenet), rtol=1e-5, atol=1e-6
    )  # mean and std are in fp32
    assert crosscheck(model, x, Target(1), "depth_fusion").agrees
    assert deepest_grid(model).height > 1 and curated_layers(model)
    assert (
        lsd.explain(model, x[0], like=np.full((64, 64, 3), 0.25)).score <= 1
    )  # its last linear layer has an embedding


def test_torchvisions_transformer_has_its_blocks():
    model = lsd.wrap(randomize(TORCHVISION["VisionTransformer"]()))
    assert [layer.name for layer in curated_layers(model)] == [f"encoder.layers.encoder_layer_{i}" for i in range(3)]
    assert curated_layers(model)[0].prefix == 1 and deepest_grid(model).name == "encoder.layers.encoder_layer_2.ln_1"


def test_a_network_without_biases_is_not_deaf_on_a_picture_of_one_colour():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.ReLU(),
                        nn.Flatten(), nn.Linear(8 * 256, 64, bias=False), nn.ReLU(), nn.Linear(64, 2, bias=False))  # fmt: skip
    assert deepest_grid(wrapped(net)).name == "3"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["gradient", "smoothgrad", "grad_cam", "depth_fusion"])
def test_networks_of_half_the_precision(dtype, method, tmp_path):
    """Near to what the same weights give in fp32, held to Captum, drawn and kept."""
    net = randomize(timm.create_model("test_resnet", num_classes=5)).to(dtype)
    model, single = lsd.wrap(net, size=64), lsd.wrap(copy.deepcopy(net).float(), size=64)
    assert model.net_dtype == dtype and model.dtype == torch.float32 and next(model.net.parameters()).dtype == dtype
    settings = {"samples": 4} if method == "smoothgrad" else {}
    x = torch.rand(1, 3, 64, 64)
    ours, theirs = (attribute(method, m, x, Target(1), **settings).values for m in (model, single))
    assert ours.dtype == torch.float32 and torch.cosine_similarity(ours.flatten(), theirs.flatten(), 0) > 0.95
    check = crosscheck(model, x, Target(1), method, **settings)
    assert check.tolerance == TOLERANCE[dtype] and check.agrees
    found = lsd.explain(model, x[0], method, **settings)
    assert found.overlay().size == (64, 64) and (found.save(tmp_path) / "manifest.json").is_file()


def test_batch_norms_may_stay_in_single_precision():
    """As mixed-precision training leaves them; and a network of half the precision says what torch says."""
    net = randomize(timm.create_model("test_resnet", num_classes=5)).bfloat16().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.float()
    model = lsd.wrap(net, size=64, mean=0, std=1)
    assert (
        {p.dtype for p in model.net.parameters()}
        == {torch.bfloat16, torch.float32}
        == {p.dtype for p in net.parameters()}
    )
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(model(x), net(x.bfloat16()).float(), rtol=0.02, atol=0.02)
    assert attribute("grad_cam", model, x, Target(1)).values.abs().sum() > 0


def test_doubles_go_all_the_way(tmp_path):
    model = wrapped()
    found = lsd.explain(model, torch.rand(3, 16, 16, dtype=torch.float64), "smoothgrad", samples=4)
    assert found.values.dtype == np.float64 and (found.save(tmp_path) / "attributions.npz").is_file()
    assert lsd.crosscheck(model, torch.rand(3, 16, 16), "smoothgrad", samples=4).tolerance == TOLERANCE[torch.float64]


def test_the_callers_network_stays_as_it_is_and_the_models_too():
    net = nn.Sequential(nn.BatchNorm2d(3), Own()).train()
    before = copy.deepcopy(net.state_dict())
    model = wrapped(net)
    assert net.training and all(p.requires_grad for p in net.parameters())
    assert all(torch.equal(net.state_dict()[key], before[key]) for key in before)
    assert not model.net.training and not any(p.requires_grad for p in model.parameters())
    x = torch.rand(1, 3, 16, 16)
    said, digest = model(x), model.identity.digest
    with torch.no_grad():
        net[1].head.weight.add_(1)
    assert torch.equal(model(x), said) and wrapped(net).identity.digest != digest


def test_autocast_and_inference_mode_change_nothing():
    model = lsd.wrap(randomize(timm.create_model("test_vit", num_classes=5)), size=32)
    x = torch.rand(2, 3, 32, 32)

    def everything():
        found = [attribute(m, model, x, Target(1)).values for m in ("gradient", "depth_fusion", "captum:saliency")]
        made = lsd.visualize(model, 1, steps=3, progress=False)
        return [
            *found,
            model.probabilities(x),
            torch.from_numpy(made[0].pixels),
            torch.tensor(deepest_grid(model).height),
        ]

    plain = everything()
    model = lsd.wrap(randomize(timm.create_model("test_vit", num_classes=5)), size=32)  # nothing is known of it yet
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        x = x.clone()  # made under inference mode, as a caller's pictures are
        disturbed = everything()
    assert all(torch.equal(a, b) for a, b in zip(plain, disturbed, strict=True))


def test_a_network_made_under_inference_mode():
    with torch.inference_mode():
        model = wrapped(Own())
        x = torch.rand(1, 3, 16, 16)
    assert attribute("gradient", model, x, Target(0)).values.abs().sum() > 0


def test_an_ascent_leaves_its_readers_mode_alone():
    model = wrapped()
    from lsd.features.ascent import ascend
    from lsd.features.recipes import described

    with torch.inference_mode():
        for _ in ascend(model, ["class/0"], described("none", steps=2), every=1):
            assert torch.is_inference_mode_enabled()


@pytest.mark.parametrize("spoil, says", [
    (lambda x: (x - 0.5) / 0.25, "before they are normalised"), (lambda x: x * 255, "divide them by 255"),
    (lambda x: x * float("nan"), "not finite"), (lambda x: (x * 255).byte(), "divide them by 255"),
])  # fmt: skip
@pytest.mark.parametrize("method", ["gradient", "captum:saliency"])
def test_pictures_that_are_not_from_0_to_1_are_refused(spoil, says, method):
    model, x = wrapped(), torch.rand(1, 3, 16, 16)
    for ask in (lambda: attribute(method, model, spoil(x), Target(0)), lambda: model.probabilities(spoil(x))):
        with pytest.raises(UndefinedError, match=says):
            ask()


def test_copies_are_other_networks():
    model = wrapped()
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(wrapped(nn.Sequential(nn.Flatten(), nn.Linear(768, 2))))),
    ):
        assert other.lock is not model.lock
        with other.lock:
            thread = threading.Thread(target=lambda other=other: other.lock.acquire(blocking=False) and None)
            thread.start()
            thread.join()
        other(torch.rand(1, 3, 16, 16, dtype=other.dtype))
    twin = copy.deepcopy(model)
    twin.net.head.weight.zero_()
    assert model.net.head.weight.abs().sum() > 0
    assert copy.copy(model).lock is model.lock  # a view of the same network


REFUSED = {
    "no module": (lambda: len, "nn.Module"),
    "a class": (lambda: Own, r"Own\(…\)"),
    "a name": (lambda: "resnet18", "nn.Module"),
    "scripted": (lambda: torch.jit.trace(Own(), torch.rand(1, 3, 16, 16)), "no layers to look into"),
    "wrapped already": (lambda: wrapped(), "wrapped already"),
    "two inputs": (Two, r"several inputs \(x, y\)"),
    "four channels": (lambda: Own(channels=4), "takes 4 channels"),
    "another size": (lambda: Own(side=32), "give size=32"),
    "a dict": (lambda: Own(after=lambda x: {"logits": x}), r"dict \(logits\)"),
    "a tuple": (lambda: Own(after=lambda x: (x,)), "tuple"),
    "nothing": (lambda: Own(after=lambda x: None), "NoneType"),
    "argmax": (lambda: Own(after=lambda x: x.argmax(1)), "int64"),
    "no gradient": (lambda: Own(after=lambda x: x.detach()), "without a gradient"),
    "a number": (lambda: Own(after=lambda x: x.sum()), "one row each"),
    "a map": (lambda: Own(after=lambda x: x[:, :, None]), "one vector each"),
    "classes": (lambda: Own(after=lambda x: x.softmax(1)), "ends in a softmax"),
    "a softmax under a view": (lambda: Own(after=lambda x: x.softmax(1).view(-1, 2).clone()), "ends in a softmax"),
    "sigmoid": (lambda: Own(after=torch.sigmoid), "ends in a sigmoid"),
    "dropout left on": (lambda: Own(after=lambda x: torch.dropout(x, 0.5, True)), "something else at every call"),
    "dropout of one output": (
        lambda: Own(1, after=lambda x: torch.dropout(x, 0.5, True)),
        "something else at every call",
    ),
    "a batch that meets": (lambda: Own(after=lambda x: x - x.mean(0)), "depends on the others"),
    "no running statistics": (
        lambda: nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), Own()),
        "depends on the others",
    ),
    "a fixed batch": (lambda: Own(after=lambda x: x.view(2, 2)), "two pictures at once and not one"),
    "another fixed batch": (lambda: Own(after=lambda x: x.view(4, 2)), "takes 4 at once"),
    "one picture at a time": (lambda: Own(after=lambda x: x.view(1, 2)), "takes 1 at once"),
    "complex numbers": (lambda: Own(after=torch.fft.fft), "complex64"),
    "no outputs": (lambda: Own(0), "no numbers"),
    "pictures by keyword": (ByKeyword, "pixel_values="),
    "lazy": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "lazy layers"),
    "on the meta device": (lambda: Own().to("meta"), "no numbers in its weights"),
    "quantised": (lambda: torch.ao.quantization.quantize_dynamic(Own()), "quantised network"),
    "not finite": (lambda: Own(after=lambda x: x / 0 * 0), "not finite"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", REFUSED)
def test_a_misfit_is_one_sentence(case):
    make, says = REFUSED[case]
    with pytest.raises(ModelError, match=says) as refused:
        wrapped(make())
    assert "\n" not in str(refused.value) and str(refused.value).endswith(".")


@pytest.mark.parametrize("settings, says", [
    ({"size": -1}, "number of pixels"), ({"size": (16, "a")}, "number of pixels"), ({"size": True}, "number of pixels"),
    ({"mean": (123, 117, 104)}, "divide it by 255"), ({"mean": (1, 2)}, "one for each"), ({"std": 0}, "above 0"),
    ({"mean": "grey"}, "one for each"), ({"class_names": ["cat"]}, "1 class names were given, and Own has 2"),
    ({"class_names": ["cat", ""]}, "none of them empty"), ({"outputs": "logits"}, "not “logits”"),
    ({"outputs": "embedding", "class_names": ["a", "b"]}, "has no classes"),
])  # fmt: skip
def test_arguments_that_make_no_sense_are_refused(settings, says):
    with pytest.raises(LSDError, match=says):
        wrapped(**settings)


def test_what_the_arguments_say_is_so():
    model = wrapped(Own(), class_names=["cat", "dog"], name="pets")
    assert (model.name, model.class_names, model.outputs, model.names_assumed) == (
        "pets",
        ("cat", "dog"),
        "classes",
        False,
    )
    x = torch.rand(1, 3, 16, 16)
    assert lsd.explain(model, x, target="dog")[0].attribution.target.index == 1
    assert wrapped(Own(1)).outputs == "sigmoid" and wrapped(Own(4), outputs="sigmoid").outputs == "sigmoid"
    assert (
        wrapped(Own(4), outputs="classes").outputs == "classes"
        and wrapped(Own(4), outputs="embedding").num_classes == 0
    )
    with pytest.raises(ModelError, match="single output"):
        wrapped(Own(1), outputs="classes")
    assert lsd.wrap(timm.create_model("test_resnet", num_classes=0)).outputs == "embedding"


def test_grey_networks_see_the_luminance():
    net = Own(channels=1)
    model = wrapped(net, mean=0.3, std=0.5)
    picture = lsd.open_image("example:Coffee cup")
    x = to_input(model, picture)
    grey = torch.from_numpy(prepare(picture.convert("L").convert("RGB"), model.spec))[None, :1]
    torch.testing.assert_close(model(x), net.eval()((grey - 0.3) / 0.5), atol=0.02, rtol=0.02)  # "L" has 256 levels


def test_an_unknown_normalisation_is_not_assumed_without_a_word():
    with pytest.warns(UserWarning, match="ImageNet's mean and standard deviation are assumed") as told:
        lsd.wrap(Own(), size=16)
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lsd.wrap(Own(), size=16, mean=0, std=1)
        lsd.wrap(torchvision.models.resnet18(num_classes=2), size=32)


def test_it_takes_four_passes():
    """Two pictures with a gradient, and one twice: what it costs, of which docs/library.md tells."""
    seen = []
    net = Own(after=lambda x: (seen.append(len(x)), x)[1])
    wrapped(net)
    assert seen == [2, 1, 1]
