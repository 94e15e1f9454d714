"""A copy of a network made for many passes: what is the same at every pass is done once.

Batch normalisation with fixed statistics is a scale and a shift of each channel, so behind a convolution it can be part
of the convolution (exact but for rounding), and grouped convolutions run several times faster with channels last. The
model itself is left as it is.
"""

import copy
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable

import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lsd.layers import list_layers
from lsd.models import ImageModel

_prepared: "weakref.WeakKeyDictionary[ImageModel, tuple[tuple, ImageModel]]" = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def prepare(model: ImageModel, keep: Iterable[str] = (), *, fold: bool = True) -> ImageModel:
    """A twin of `model` with the same outputs, faster to run many times.

    Args:
        keep: modules whose own output is looked at, and which must therefore compute what they did.
        fold: merge batch normalisations into convolutions; False where their inputs are looked at.

    The last twin of each model is kept with it.
    """
    key = (frozenset(keep) if fold else None, model.device, model.dtype)
    with _lock:
        if model in _prepared and _prepared[model][0] == key:
            return _prepared[model][1]
    twin = _twin(model, frozenset(keep), fold)
    with _lock:
        _prepared[model] = (key, twin)
    return twin


def _twin(model: ImageModel, keep: frozenset[str], fold: bool) -> ImageModel:
    twin = copy.copy(model)
    twin._modules, twin._buffers = dict(model._modules), dict(model._buffers)
    twin.lock = threading.RLock()
    with model.lock:
        pairs = folding_pairs(model) if fold else []
        twin.net = copy.deepcopy(model.net)
        probe = _probe(model)
        with torch.no_grad():
            expected = model(probe)
    for conv, norm in pairs:
        if not any(_ends_between(name, conv, norm) for name in keep):
            _fold(twin.net, conv, norm)
    with torch.no_grad():
        off = (twin(probe) - expected).abs().max() / expected.abs().max().clamp(min=1e-12)
    if not off < 1e-3:  # somebody else used what a convolution put out: then it must stay what it was
        twin.net = copy.deepcopy(model.net)
    if wants_channels_last(twin.net):
        twin.net = twin.net.to(memory_format=torch.channels_last)
    list_layers(twin)  # traced now, while nobody listens to its layers
    return twin


def _ends_between(name: str, conv: str, norm: str) -> bool:
    """Whether the module called `name` holds a convolution, or is it, and puts out what its batch norm has not seen."""
    return f"{conv}.".startswith(f"{name}.") and not f"{norm}.".startswith(f"{name}.")


def _probe(model: ImageModel) -> torch.Tensor:
    shape = (1, 3, model.spec.height, model.spec.width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(model.device, model.dtype)


def wants_channels_last(net: nn.Module) -> bool:
    """Whether the network's convolutions are faster with channels last.

    At batch 8 on two cores MobileNetV2 takes a fifth of the time and a ResNet-50 nine tenths; a ViT, with its one patch
    convolution, does not care. A rule rather than a measurement at run time, because the layout changes the rounding,
    and the same call must give the same picture.
    """
    return sum(isinstance(module, nn.Conv2d) for module in net.modules()) > 4


def folding_pairs(model: ImageModel) -> list[tuple[str, str]]:
    """(convolution, batch norm) names where the second takes exactly what the first puts out, and nobody else does.

    Found by running the network once: by the identity of the tensors, not by the modules' names or places.
    """
    names = {module: name for name, module in model.net.named_modules()}
    produced: dict[int, str] = {}
    consumers: dict[int, list[str]] = {}
    alive, runs = [], {}

    def before(module: nn.Module, inputs) -> None:
        for value in inputs:
            if isinstance(value, torch.Tensor):
                alive.append(value)  # so that no other tensor gets its id
                consumers.setdefault(id(value), []).append(names[module])

    def after(module: nn.Module, _inputs, output) -> None:
        runs[names[module]] = runs.get(names[module], 0) + 1
        if isinstance(output, torch.Tensor) and type(module) is not nn.Identity:
            alive.append(output)
            if isinstance(module, nn.Conv2d):
                produced[id(output)] = names[module]

    leaves = [m for m in model.net.modules() if not any(True for _ in m.children()) or isinstance(m, nn.BatchNorm2d)]
    handles = [m.register_forward_pre_hook(before) for m in leaves] + [m.register_forward_hook(after) for m in leaves]
    try:
        with torch.no_grad():
            model(_probe(model))
    finally:
        for handle in handles:
            handle.remove()
    modules = dict(model.net.named_modules())
    pairs = []
    for tensor, conv in produced.items():
        takers = consumers.get(tensor, [])
        if len(takers) != 1 or runs[conv] != 1 or runs.get(takers[0]) != 1:
            continue
        norm = modules[takers[0]]
        foldable = type(norm) in (nn.BatchNorm2d, BatchNormAct2d) and norm.running_mean is not None
        if foldable and not norm.training and _same_output(model, modules[conv]):
            pairs.append((conv, takers[0]))
    return pairs


def _same_output(model: ImageModel, conv: nn.Module) -> bool:
    """Whether a convolution's weights are its own parameters, so that they can be multiplied (standardised ones are not)."""
    return type(conv).forward is nn.Conv2d.forward or type(conv).__name__ == "Conv2dSame"


def _fold(net: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = net.get_submodule(conv_name), net.get_submodule(norm_name)
    net.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm).requires_grad_(False))
    if isinstance(norm, BatchNormAct2d):  # timm's, which also activates
        net.set_submodule(norm_name, nn.Sequential(OrderedDict(drop=norm.drop, act=norm.act)).eval())
    else:
        net.set_submodule(norm_name, nn.Identity().eval())
