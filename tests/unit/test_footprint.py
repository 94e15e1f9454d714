"""What a network would take, held against what torch's allocator hands out when it runs."""

from dataclasses import replace

import pytest
import timm
import torch

from benchmarks.memory import peak_bytes
from lsd.features.ascent import ascend
from lsd.features.price import memory_of_ascent, smaller_ascent
from lsd.features.recipes import find_recipe
from lsd.footprint import SLACK, footprint, hollow, hollowed
from lsd.models import ImageModel, load_model, model_footprint
from lsd.saliency.methods import METHODS, attribute
from lsd.saliency.price import largest_batch, memory_of_method
from lsd.saliency.targets import of_class

NAMES = ("demo:resnet", "demo:vit", "demo:convnext", "mobilenetv2_050")
models = pytest.mark.parametrize("name", NAMES)
_loaded = {}


def model_of(name):
    if name not in _loaded:
        made = load_model(name, device="cpu") if ":" in name else ImageModel(timm.create_model(name), name)
        _loaded[name] = made
    return _loaded[name]


def pictures(model, count=1):
    shape = (count, 3, model.spec.height, model.spec.width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@models
@pytest.mark.parametrize("count", [2, 8])
def test_a_pass_there_and_back_takes_what_was_counted_on_nothing(name, count):
    """What is counted and what is taken differ by the kernels' own buffers."""
    model = model_of(name)

    def work():
        images = pictures(model, count).requires_grad_()
        torch.autograd.grad(model(images).sum(), images)

    counted = model_footprint(model).passes(count) / SLACK
    assert counted <= peak_bytes(work) <= SLACK * counted


@pytest.mark.parametrize("name", NAMES[:2] + NAMES[3:])
@pytest.mark.parametrize(("method", "settings"), [
    ("gradient", {}), ("smoothgrad", {"samples": 16, "batch_size": 8}), ("smoothgrad", {"samples": 4, "batch_size": 8}),
    ("integrated_gradients", {"steps": 8}), ("depth_fusion", {}), ("grad_cam", {}),
    ("captum:smoothgrad", {"samples": 8, "batch_size": 4}),
])  # fmt: skip
def test_a_method_takes_what_it_was_told_to_or_less(name, method, settings):
    """Within a factor of 4, on a network whose layers nobody has looked through."""
    model = ImageModel(model_of(name).net, name)
    settings = METHODS[method].parse(settings)
    images, target = pictures(model), of_class(model, 0, "log_odds", None)
    told = memory_of_method(model, method, settings)
    taken = peak_bytes(lambda: attribute(method, model, images, target, **settings))
    assert told / 4 <= taken <= told


@pytest.mark.parametrize("name", NAMES[:2])
@pytest.mark.parametrize(("count", "views", "size"), [(2, 1, None), (4, 2, None), (1, 2, 256)])
def test_an_ascent_takes_what_it_was_told_to_or_less(name, count, views, size):
    """Within a factor of 3."""
    model, lsd = ImageModel(model_of(name).net, name), find_recipe("lsd")
    recipe = replace(lsd, steps=2, size=size, transforms=replace(lsd.transforms, views=views))
    told = memory_of_ascent([model], recipe, count)
    taken = peak_bytes(lambda: list(ascend(model, ["class/0"], recipe, range(count))))
    assert told / 3 <= taken <= told


def test_of_a_hollow_network_nothing_is_taken():
    def work():
        net = hollow(lambda: timm.create_model("resnet50", num_classes=3_000_000))
        assert footprint(net, 3000, 3000).picture > 5e9

    assert peak_bytes(work) < 1e6


@models
def test_a_network_and_its_hollow_copy_take_the_same(name):
    net = model_of(name).net
    size = model_of(name).spec.height, model_of(name).spec.width
    digest = {key: tensor.sum().item() for key, tensor in net.state_dict().items()}
    copy = hollowed(net)
    assert all(tensor.is_meta for tensor in (*copy.parameters(), *copy.buffers()))
    assert footprint(copy, *size).weights == footprint(net, *size).weights
    assert footprint(copy, *size).picture == pytest.approx(footprint(net, *size).picture, rel=0.3)
    assert digest == {key: tensor.sum().item() for key, tensor in net.state_dict().items()}


def test_the_largest_batch_fits_and_the_next_does_not():
    model, settings = model_of("demo:resnet"), {"samples": 512}
    most = largest_batch(model, 10**9)
    assert memory_of_method(model, "smoothgrad", settings | {"batch_size": most}) <= 10**9
    assert memory_of_method(model, "smoothgrad", settings | {"batch_size": most + 1}) > 10**9


def test_what_is_told_of_a_smaller_ascent_fits():
    model, lsd = model_of("demo:resnet"), find_recipe("lsd")
    many = replace(lsd, size=512, transforms=replace(lsd.transforms, views=32))
    least = memory_of_ascent([model], replace(many, transforms=replace(lsd.transforms, views=3)), 8)
    assert smaller_ascent([model], many, 8, least) == "3 views a step would fit"
    one = memory_of_ascent([model], replace(many, transforms=replace(lsd.transforms, views=1)), 2)
    assert smaller_ascent([model], many, 8, one) == "2 pictures of one view would fit"
    assert smaller_ascent([model], many, 8, 1000) == "choose a smaller model"


def test_a_model_can_be_asked_by_name():
    asked, loaded = model_footprint("demo:vit"), model_of("demo:vit")
    assert asked == model_footprint(loaded)
