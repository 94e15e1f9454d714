"""A network as its owner holds it, as an `ImageModel`: `lsd.wrap`.

What the library is given here it has not built, so nothing is taken on trust: the network runs a few times on noise, and whatever
would go wrong later, or be wrong without a word, is said at once, in one sentence.
"""

import copy
import inspect
import numbers
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin

from lsd.errors import ModelError
from lsd.identity import WeightIdentity, tensors_digest
from lsd.models import ImageModel
from lsd.precision import undisturbed
from lsd.process import quiet

_USUAL_SIDES = (28, 32, 48, 64, 96, 112, 128, 160, 192, 224, 256, 288, 299, 320, 336, 384, 448, 512)
_SAME = 1e-3  # of the largest output: what rounding in batches of other sizes may change, in fp32


def wrap(
    net: nn.Module,
    *,
    name: str | None = None,
    size: int | tuple[int, int] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    class_names: Sequence[str] | None = None,
    outputs: str | None = None,
) -> ImageModel:
    """Any network on images, frozen and with its normalisation inside: RGB (N, 3, H, W) in [0, 1] → outputs (N, C).

    The network is copied: yours keeps its mode, its gradients and its hooks, and what is explained stays as it was however you
    train on. It stays on its device and in its floating-point type. `DataParallel` and `torch.compile` are taken off the copy.

    Args:
        net: `nn.Module` from normalised pictures (N, 3, H, W), or grey ones (N, 1, H, W), to logits or embeddings (N, C): timm's,
            torchvision's, your own. A grey one is shown the luminance of RGB pictures (ITU-R BT.601, as Pillow's mode "L").
        name: what to call it; by default timm's name of its architecture, or its class's.
        size: the side, or (height, width), of the pictures that it takes, in pixels. By default what it says itself, else 224.
        mean, std: of its normalisation, (x − mean) / std with x in [0, 1]: a number, or one for each colour. By default what timm
            knows of it, else ImageNet's, as torchvision's networks have them; of any other network a warning says so.
        class_names: one for each output. By default what timm knows of it, or "class 0", "class 1", ….
        outputs: "classes", of which one is right (a softmax); "sigmoid", each a question of its own; or "embedding", no classes.
            By default what timm knows of it, else classes, and a sigmoid of a single output.

    Raises:
        ModelError: what is no network on images, puts out something else than one vector a picture, has no gradient, is not the
            same function at every call, lets the pictures of a batch meet, or does not fit the arguments.
    """
    with torch.inference_mode(False), torch.enable_grad():
        return _wrapped(_unwrapped(net), name, size, mean, std, class_names, outputs)


def _wrapped(plain: nn.Module, name, size, mean, std, class_names, outputs) -> ImageModel:
    own = _copied(plain)
    config = dict(getattr(plain, "pretrained_cfg", None) or {})
    name = name or config.get("architecture") or type(plain).__name__
    parameter = next((p for p in own.parameters() if p.is_floating_point()), torch.zeros(()))
    if outputs is None and getattr(plain, "num_classes", None) == 0:  # timm's word for no classifier
        outputs = "embedding"
    runs = _Runs(own, name, parameter.device, parameter.dtype)
    pictures, both = _first_run(runs, plain, size, config)
    channels, height, width = pictures.shape[1:]
    count = _checked(runs, pictures, both, outputs)
    config |= {"input_size": (3, height, width), "num_classes": count}
    config |= _normalisation(plain, name, mean, std, channels, config)
    if class_names is not None:
        config |= {"label_names": _names(name, class_names, count, outputs), "label_descriptions": None}
    identity = WeightIdentity("memory", name, None, None, tensors_digest(own.state_dict()))
    model = ImageModel(own, name, identity, outputs, config=config, channels=channels)
    pictures = torch.promote_types(parameter.dtype, torch.float32)
    for key in ("mean", "std"):  # these alone: the network may have several types
        setattr(model, key, getattr(model, key).to(parameter.device, pictures))
    return model


def _unwrapped(net: object) -> nn.Module:
    """The network itself, out of what runs it elsewhere or faster.

    Raises:
        ModelError: no module, or one whose inside cannot be seen.
    """
    while (inside := _inside(net)) is not None:
        net = inside
    if isinstance(net, ImageModel):
        raise ModelError(f"{net.name} is wrapped already: use it as it is.")
    if isinstance(net, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        raise ModelError(
            "A scripted or traced network has no layers to look into: give the nn.Module that it was made from."
        )
    if isinstance(net, type):
        raise ModelError(f"{net.__name__} is a class and no network yet: give an object of it, {net.__name__}(…).")
    if not isinstance(net, nn.Module):
        raise ModelError(f"A network is an nn.Module, and this is a {type(net).__name__}: put it into one.")
    if type(net).__name__ == "FullyShardedDataParallel" or hasattr(net, "_fsdp_wrapped_module"):
        raise ModelError("A sharded network (FSDP) is not whole here: gather its weights into a plain nn.Module.")
    return net


def _inside(module: object) -> nn.Module | None:
    """What a module runs elsewhere (on several devices) or faster (compiled); None of any other."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return module.module
    return getattr(module, "_orig_mod", None)


def _copied(net: nn.Module) -> nn.Module:
    """A frozen copy in eval mode, with nothing left inside that runs it elsewhere or faster.

    Raises:
        ModelError: it cannot be copied.
    """
    tensors = [*net.parameters(), *net.buffers()]
    if any(isinstance(tensor, UninitializedTensorMixin) for tensor in tensors):
        raise ModelError(
            f"{type(net).__name__} has lazy layers whose sizes are not known yet: run it once on a picture, and give it then."
        )
    if any(tensor.is_meta for tensor in tensors):
        raise ModelError(f"{type(net).__name__} has no numbers in its weights (device meta): load them first.")
    # What a module keeps that has a history (the old weight_norm's weight) torch does not copy, and is made anew when it runs.
    kept = [value for module in net.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    memo = {id(tensor): tensor.detach().clone() for tensor in kept if not tensor.is_leaf}
    try:
        own = copy.deepcopy(net, memo)
    except Exception as error:  # whatever a stranger's modules raise
        raise ModelError(
            f"{type(net).__name__} cannot be copied, so it cannot be kept as it is now: copy.deepcopy says {_reason(error)}."
        ) from error
    for parent in list(own.modules()):
        for child_name, child in list(parent.named_children()):
            if (inside := _inside(child)) is not None:
                setattr(parent, child_name, inside)
    for module in own.modules():
        module._compiled_call_impl = None  # of `net.compile()`, which changes how a module is called
    return own.eval().requires_grad_(False)


class _Runs:
    """The network's passes on noise."""

    def __init__(self, net: nn.Module, name: str, device: torch.device, dtype: torch.dtype):
        self.net, self.name, self.device, self.dtype = net, name, device, dtype

    def noise(self, count: int, channels: int, height: int, width: int) -> Tensor:
        """Pictures as they are after normalisation, each of a generator of its own, so that the first is the same in any batch."""
        generators = [torch.Generator().manual_seed(i) for i in range(count)]
        with undisturbed(self.device):
            drawn = torch.stack([torch.randn((channels, height, width), generator=g) for g in generators])
            return drawn.to(self.device, self.dtype).requires_grad_(True)

    def __call__(self, images: Tensor) -> Any:
        """What the network puts out, with its graph, or the exception that it raises."""
        with undisturbed(self.device), torch.enable_grad(), quiet():
            try:
                return self.net(images)
            except Exception as error:
                return error

    def fails(self, *shape: int) -> bool:
        """Whether it raises an exception at (count, channels, height, width)."""
        return isinstance(self(self.noise(*shape)), Exception)


def _first_run(
    runs: _Runs, net: nn.Module, size: int | tuple[int, int] | None, config: Mapping[str, Any]
) -> tuple[Tensor, Any]:
    """Two pictures of the kind that the network takes, and what it puts out.

    Raises:
        ModelError: it takes none of those that were tried.
    """
    _one_input(net, runs.name)
    sizes = [_pair(size)] if size is not None else _own_sizes(net, config)
    first = None
    for height, width in sizes:
        for channels in (3, 1):
            pictures = runs.noise(2, channels, height, width)
            found = runs(pictures)
            if not isinstance(found, Exception):
                return pictures, found
            first = first or found
    height, width = sizes[0]
    raise ModelError(
        f"{runs.name} does not take two pictures of {height} × {width} pixels: {_reason(first)}. {_advice(runs, net, sizes[0])}"
    )


def _advice(runs: _Runs, net: nn.Module, size: tuple[int, int]) -> str:
    """What to do about a network that takes no pictures of the sizes that were tried."""
    convolution = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    if convolution is not None and convolution.in_channels not in (1, 3):
        return f"Its first convolution takes {convolution.in_channels} channels, and only RGB and grey pictures can be explained."
    for count in (1, 4, 8, 16):
        if not all(runs.fails(count, channels, *size) for channels in (3, 1)):
            return f"It takes {count} at once, and must take batches of any length."
    for side in _USUAL_SIDES:
        if not all(runs.fails(2, channels, side, side) for channels in (3, 1)):
            return f"It takes {side} × {side}: give size={side}."
    return "If it is the size, give the one that it takes, as size=(height, width)."


def _one_input(net: nn.Module, name: str) -> None:
    try:
        parameters = inspect.signature(net.forward).parameters.values()
    except (TypeError, ValueError):
        return
    needed = [
        p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    needed += [p.name for p in parameters if p.default is p.empty and p.kind == p.KEYWORD_ONLY]
    if len(needed) > 1:
        raise ModelError(
            f"{name} takes several inputs ({', '.join(needed)}): wrap an nn.Module whose forward takes the pictures alone and "
            "fills in the rest."
        )
    if any(p.name in needed and p.kind == p.KEYWORD_ONLY for p in parameters):
        raise ModelError(
            f"{name} takes its pictures as {needed[0]}= alone: wrap an nn.Module whose forward takes them first."
        )


def _own_sizes(net: nn.Module, config: Mapping[str, Any]) -> list[tuple[int, int]]:
    """The sizes to try, the likeliest first: what the network was built for, what timm knows of it, and 224."""
    holders = (net, getattr(net, "patch_embed", None), getattr(net, "stem", None))
    said = [getattr(holder, key, None) for holder in holders for key in ("img_size", "image_size")]
    sizes = [*said, (config.get("input_size") or ())[-2:], 224]
    return list(dict.fromkeys(pair for pair in map(_pair_or_none, sizes) if pair))


def _pair_or_none(size: object) -> tuple[int, int] | None:
    try:
        return _pair(size)
    except ModelError:
        return None


def _pair(size: object) -> tuple[int, int]:
    sides = tuple(size) if isinstance(size, Sequence) and not isinstance(size, str) else (size, size)
    whole = all(isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in sides)
    if len(sides) != 2 or not whole or not all(1 <= n <= 4096 for n in sides):
        raise ModelError(f"A size is a number of pixels, or (height, width), each from 1 to 4096, and not {size!r}.")
    return int(sides[0]), int(sides[1])


def _checked(runs: _Runs, pictures: Tensor, both: Any, outputs: str | None) -> int:
    """How many outputs there are of a picture, after trials that show them to be what the library takes them for.

    Args:
        both: what the network puts out of two `pictures`.

    Raises:
        ModelError: they are not.
    """
    name = runs.name
    _is_vectors(both, name, outputs)
    if not both.requires_grad or torch.autograd.grad(both.sum(), pictures, allow_unused=True)[0] is None:
        raise ModelError(
            f"{name} puts out numbers without a gradient to its picture, so nothing can be explained: leave no_grad, detach, "
            "argmax and NumPy out of its forward pass (a quantised network has none either: give the one that it was made from)."
        )
    if not torch.isfinite(both).all():
        raise ModelError(
            f"{name} puts out numbers that are not finite in {_called(runs.dtype)}: give it in another type, net.float()."
        )
    last = _last_operation(both)
    if last.startswith("Softmax") and outputs != "embedding":
        raise ModelError(
            f"{name} ends in a softmax and puts out probabilities, and logits are needed, as it has them before: leave that layer "
            "out."
        )
    if last.startswith("Sigmoid") and outputs != "embedding":
        raise ModelError(
            f"{name} ends in a sigmoid and puts out probabilities, and logits are needed, as it has them before: leave that layer "
            'out, and say outputs="sigmoid".'
        )
    _is_a_function(runs, pictures[:1].detach(), both[:1].detach())
    return both.shape[1]


def _is_vectors(found: object, name: str, outputs: str | None) -> None:
    advice = "wrap an nn.Module that calls it and returns the logits alone, one row a picture"
    if isinstance(found, Mapping):
        raise ModelError(f"{name} puts out a dict ({', '.join(map(str, found))}): {advice}.")
    if not isinstance(found, Tensor):
        raise ModelError(f"{name} puts out a {type(found).__name__} and no tensor: {advice}.")
    shape = " × ".join(map(str, found.shape)) or "one number"
    if not found.is_floating_point():
        raise ModelError(f"{name} puts out numbers of type {_called(found.dtype)}, and floats are needed: {advice}.")
    if not found.ndim or found.shape[0] != 2:
        raise ModelError(f"{name} puts out {shape} for two pictures, and not one row each: {advice}.")
    if not found.numel():
        raise ModelError(f"{name} puts out no numbers ({shape} for two pictures), so there is nothing to explain.")
    if found.ndim < 2 or (found.ndim > 2 and outputs != "embedding"):
        raise ModelError(f"{name} puts out {shape} for two pictures, and not one vector each: {advice}.")


def _is_a_function(runs: _Runs, picture: Tensor, among: Tensor) -> None:
    """Raises ModelError where the output of a picture depends on anything but the picture.

    Args:
        picture: one picture, (1, C, H, W).
        among: what the network put out of it beside another.
    """
    before = torch.get_rng_state()
    alone = [runs(picture)]
    if isinstance(alone[0], Exception):
        raise ModelError(
            f"{runs.name} takes two pictures at once and not one ({_reason(alone[0])}): it must take batches of any length."
        )
    # Where chance was called upon, two calls may agree by chance.
    alone += [runs(picture) for _ in range(1 if torch.equal(torch.get_rng_state(), before) else 15)]
    torch.set_rng_state(before)
    # Half of the significant digits of the type; a thousandth in fp32, where other kernels serve other batches.
    tolerance = max(_SAME, torch.finfo(among.dtype).eps ** 0.5) * among.abs().max().clamp(min=1e-12)
    if any((alone[0] - found).abs().max() > tolerance for found in alone[1:]):
        raise ModelError(
            f"{runs.name} puts out something else at every call, though it is in eval mode: switch off what is drawn at random "
            "(dropout called as a function with training left on), or what is remembered between calls."
        )
    if (alone[0] - among).abs().max() > tolerance:
        raise ModelError(
            f"What {runs.name} puts out of a picture depends on the others in its batch: use layers that treat pictures apart (a "
            "batch norm needs its running statistics, track_running_stats=True)."
        )


_PASSING = (
    "View",
    "UnsafeView",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Clone",
    "Alias",
    "Contiguous",
    "ToCopy",
    "Transpose",
    "T",
)


def _last_operation(outputs: Tensor) -> str:
    """The name of the last operation that changed numbers, as autograd calls it ("SoftmaxBackward0")."""
    node = outputs.grad_fn
    while node is not None and node.name().partition("Backward")[0] in _PASSING:
        node = node.next_functions[0][0]
    return node.name() if node is not None else ""


def _normalisation(
    net: nn.Module,
    name: str,
    mean: float | Sequence[float] | None,
    std: float | Sequence[float] | None,
    channels: int,
    config: Mapping[str, Any],
) -> dict[str, tuple[float, float, float]]:
    """Mean and standard deviation, three of each; of grey pictures thrice the same."""
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    known = bool(config.get("mean")) or type(net).__module__.startswith("torchvision.")
    if not known and (mean is None or std is None):
        warnings.warn(
            f"{name} does not say how its pictures are normalised; ImageNet's mean and standard deviation are assumed. Give mean= "
            "and std= (0 and 1 if it takes them as they are).",
            stacklevel=4,
        )
    found = {}
    for key, given, usual in (("mean", mean, IMAGENET_DEFAULT_MEAN), ("std", std, IMAGENET_DEFAULT_STD)):
        values = _colours(key, given if given is not None else config.get(key) or usual)
        found[key] = values if channels == 3 else (sum(values) / 3,) * 3  # as timm does for networks of one channel
    if min(found["std"]) <= 0:
        raise ModelError(f"A standard deviation is above 0, and std is {std!r}.")
    return found


def _colours(key: str, given: object) -> tuple[float, float, float]:
    try:
        values = [float(v) for v in torch.as_tensor(given, dtype=torch.float64).flatten()]
    except (TypeError, ValueError, RuntimeError):
        values = []
    if len(values) not in (1, 3) or not all(abs(v) < 256 for v in values):
        raise ModelError(
            f"{key} is a number, or one for each of three colours, of pictures in [0, 1], and not {given!r}."
        )
    if max(map(abs, values)) > 5:
        raise ModelError(f"{key} is for pictures in [0, 1], and {given!r} is for 0 to 255: divide it by 255.")
    return tuple(values * (3 // len(values)))


def _names(name: str, given: Sequence[str], count: int, outputs: str | None) -> list[str]:
    if outputs == "embedding":
        raise ModelError(f"{name} is said to put out an embedding, which has no classes: leave class_names away.")
    names = [given] if isinstance(given, str) else list(given)
    if len(names) != count:
        raise ModelError(
            f"{len(names)} class names were given, and {name} has {count} outputs: give one for each, in their order."
        )
    if not all(isinstance(text, str) and text.strip() for text in names):
        raise ModelError("Class names are texts, none of them empty.")
    return names


def _called(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return textwrap.shorten(text, 160, placeholder=" …").rstrip(".:")
