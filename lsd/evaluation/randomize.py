"""Parameter randomization (Adebayo et al., NeurIPS 2018): does a map depend on what the network has learned?

The network is randomized from the logits down to the input, a stage at a time. A method whose maps stay as they were
shows the picture, or the architecture, and not what was learned.

Every parameter is drawn from a normal distribution with its own mean and standard deviation. So scales stay what they
were, and no type of module needs to be known: position embeddings, class tokens, the gains of residual branches and
temperatures are as random as the weights.
"""

import copy
import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lsd.errors import UndefinedError
from lsd.identity import WeightIdentity
from lsd.models import ImageModel

ZERO_DEVIATION = 0.02  # of what stands in for zeros: with it, weights of transformers are usually initialised


@dataclass(frozen=True)
class Stage:
    """Parameters that are randomized together.

    Attributes:
        name: "classifier", or the first and the last module in the order in which they run
            ("blocks.9.norm1 … blocks.11.mlp.fc2").
        parameters: their dotted names in the network, the last to run first.
    """

    name: str
    parameters: tuple[str, ...]


def stages(model: ImageModel, count: int = 5) -> list[Stage]:
    """All parameters of the network, each in one stage: the classifier first, then from the logits down to the input.

    The order is that in which the network runs, not the one in which it is defined. Parameters count by the module that
    holds them, and that by when it first starts; one that is never called itself (lists of parameters, heads that
    serve training only) by the module around it. So what the network itself holds (a class token, position embeddings)
    is nearest to the input.

    Args:
        count: stages after the classifier, of about equally many modules that hold parameters; fewer where there are
            fewer such modules. A network without a classifier has these alone.

    Raises:
        UndefinedError: `count` below 1.
    """
    return _stages(model, count, _order(model))


def cascade(model: ImageModel, images: Tensor, seed: int = 0, count: int = 5) -> Iterator[tuple[Stage, ImageModel]]:
    """For each of the `stages`, a copy of the model in which that stage and all before it are randomized.

    Each copy is fresh, shares nothing learned with the model or the others, and is the caller's to keep; the model stays
    as it is. A tensor is drawn from a normal distribution with its own mean and standard deviation. Where all of its
    numbers are equal (or it is one number), the standard deviation is their magnitude instead, `ZERO_DEVIATION` for
    zeros. What is drawn depends on `seed`, the tensor and its name, so it is the same in every copy.

    The running statistics of batch normalization do not fit behind random weights, where maps would only show signals
    that explode or vanish. So all that run after a randomized parameter are taken anew, in one pass: mean and unbiased
    variance of these images (the normalizations before it at their own batch's statistics, as in training). Those
    that run before it are what they were.

    Args:
        images: (N, 3, H, W), RGB in [0, 1]; N ≥ 8 is advisable. They matter to networks with batch normalization only.
        count: as in `stages`.

    Raises:
        UndefinedError: `count` below 1, images of another shape, or one image alone for batch normalization.
    """
    order = _order(model)
    names: list[str] = []
    for stage in _stages(model, count, order):
        names += stage.parameters
        twin = _copy(model, f"{model.name}, randomized down to {stage.name}")
        parameters = dict(twin.net.named_parameters())
        for name in names:
            _draw(parameters[name], name, seed)
        first = min(order[_owner(name)] for name in names)
        _fit_batch_norms(twin, images, [name for name, place in order.items() if place >= first])
        yield stage, twin


def _stages(model: ImageModel, count: int, order: dict[str, int]) -> list[Stage]:
    if count < 1:
        raise UndefinedError(f"Randomize in at least 1 stage after the classifier, not {count}.")
    classifier = _classifier(model.net)
    held: dict[str, list[str]] = {}  # module → its parameters
    for name, parameter in model.net.named_parameters():
        if id(parameter) not in classifier:
            held.setdefault(_owner(name), []).append(name)
    owners = sorted(held, key=order.__getitem__)[::-1]
    found = [name for name, parameter in model.net.named_parameters() if id(parameter) in classifier]
    split = [Stage("classifier", tuple(found))] if found else []
    count = min(count, len(owners))
    for k in range(count):
        group = owners[k * len(owners) // count : (k + 1) * len(owners) // count]
        # The network itself has no name; what it holds has.
        ends = dict.fromkeys(owner or held[owner][0] for owner in (group[-1], group[0]))
        split.append(Stage(" … ".join(ends), tuple(name for owner in group for name in held[owner])))
    return split


def _owner(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _classifier(net: nn.Module) -> set[int]:
    """The identities of the classifier's parameters; none for a network that has no classifier, or does not tell."""
    found = net.get_classifier() if hasattr(net, "get_classifier") else None
    modules: Sequence = found if isinstance(found, Sequence) else [found]  # distilled networks have two
    return {id(p) for module in modules if isinstance(module, nn.Module) for p in module.parameters()}


@torch.no_grad()
def _order(model: ImageModel) -> dict[str, int]:
    """Module name → its place in the order in which modules first start; one that does not has its parent's place."""
    started: dict[str, int] = {}

    def hook(name: str):
        def note(_module, _inputs):
            started.setdefault(name, len(started))

        return note

    with model.lock:
        handles = [module.register_forward_pre_hook(hook(name)) for name, module in model.net.named_modules()]
        try:
            model(model.mean.expand(1, 3, model.spec.height, model.spec.width))
        finally:
            for handle in handles:
                handle.remove()
    order: dict[str, int] = {}
    for name, _ in model.net.named_modules():  # parents come first
        order[name] = started[name] if name in started else order[_owner(name)]
    return order


def _copy(model: ImageModel, name: str) -> ImageModel:
    """A copy with a network and a lock of its own, in eval mode; no file holds its weights."""
    twin = copy.copy(model)
    twin._modules, twin._buffers = dict(model._modules), dict(model._buffers)
    twin.lock = threading.RLock()
    twin.name, twin.identity = name, WeightIdentity("memory", name, None, None)
    with model.lock:
        twin.net = copy.deepcopy(model.net)
    # This also lets go of what LeViT and its like keep because it follows from their weights.
    twin.net.eval().requires_grad_(False)
    return twin


@torch.no_grad()
def _draw(parameter: nn.Parameter, name: str, seed: int) -> None:
    values = parameter.double()
    mean, deviation = values.mean().item(), values.std(correction=0).item()
    if deviation <= torch.finfo(parameter.dtype).eps * abs(mean):  # equal numbers, but for the rounding of their mean
        deviation = abs(mean) or ZERO_DEVIATION
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:4]))
    # On the CPU and in fp32, so that a seed means the same network on every device and at every precision.
    noise = torch.randn(parameter.shape, generator=generator)
    parameter.copy_(mean + deviation * noise.to(values))


@torch.no_grad()
def _fit_batch_norms(model: ImageModel, images: Tensor, names: Sequence[str]) -> None:
    """Give the batch normalizations among the modules `names` the statistics of `images`."""
    modules = dict(model.net.named_modules())
    norms = [modules[name] for name in names if isinstance(modules[name], nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    if len(images) < 2:
        raise UndefinedError(f"{model.name} has batch normalization: give at least 2 images for its statistics.")
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.training = True  # not train(), which would reach the dropout that some hold
        norm.momentum = 1.0  # nothing of the former statistics stays
    model(images.to(model.device, model.dtype))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.training, norm.momentum = False, momentum
