"""The layers of a network: which there are, what shape they put out, and how to read one while the network runs.

Networks lay out their activations in three ways, and mixing them up gives a map that is wrong without any error:

- "nchw": (N, C, h, w), most convolutional networks
- "nhwc": (N, h, w, C), Swin, and other networks that keep channels last
- "tokens": (N, P + h·w, C), transformers; the P prefix tokens (class token, registers) come first and have no place

`to_grid` brings all three to (N, C, h, w). After pooling there are "vector"s, (N, C), with channels but no places.
"""

import contextlib
import math
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from lsd.errors import UndefinedError
from lsd.models import ImageModel

CANCELLED = 1e-3  # of Σ_c |A_c · ∂f/∂A_c|: an epsilon in the normalisation leaves less, and nothing else as little


@dataclass(frozen=True)
class Layer:
    """One module's output.

    Attributes:
        name: the module's dotted name inside the timm network ("layer4.2.conv3").
        layout: "nchw", "nhwc", "tokens", "vector", or "other" where nothing is known (windows, attention matrices).
        channels: number of channels (0 for "other").
        height, width: of the grid of places (0 where there is none).
        prefix: tokens before the grid, 0 but for "tokens".
    """

    name: str
    layout: str
    channels: int = 0
    height: int = 0
    width: int = 0
    prefix: int = 0


@contextlib.contextmanager
def capture(model: ImageModel, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Within the block, the outputs of the named modules appear in the dict that is yielded, as the network runs.

    The network goes on with a copy of what is captured, so in-place operations further down cannot change it, and the
    gradient with respect to it is that of the layer itself. Hooks are removed however the block ends; the model is
    locked meanwhile, so that nobody else's pass is caught.

    Raises:
        UndefinedError: a name that no module has.
    """
    modules = dict(model.net.named_modules())
    for name in names:
        if not name or name not in modules:
            raise UndefinedError(f"{model.name} has no layer “{name}”; it has {_some_names(model)}.")
    captured: dict[str, Tensor] = {}

    def hook(name: str):
        def keep(_module: nn.Module, _inputs, output):
            if isinstance(output, Tensor):
                captured[name] = output
                return output.clone()
            return None

        return keep

    with model.lock:
        handles = [modules[name].register_forward_hook(hook(name)) for name in names]
        try:
            yield captured
        finally:
            for handle in handles:
                handle.remove()


def _some_names(model: ImageModel) -> str:
    names = [name for name, _ in model.net.named_children()]
    return ", ".join(names[:6]) + (f" … ({len(list(model.net.modules())) - 1} in all)" if names else "")


@dataclass(frozen=True)
class Tap:
    """Where activations are read: what a module puts out, or, with `inside`, what it is given.

    The empty name stands for the logits.
    """

    name: str
    inside: bool = False


class _Reached(Exception):
    """Ends a forward pass whose remaining layers nobody needs."""


def run_to(model: ImageModel, images: Tensor, taps: Sequence[Tap]) -> dict[Tap, Tensor]:
    """The activations at `taps` for images (N, 3, H, W) in [0, 1]; the pass stops as soon as all of them are there.

    Hooks are removed however the pass ends, and the model is locked meanwhile. Of a module that runs several times the
    last output is taken, as in `list_layers`. Gradients flow back from what is returned to the images.

    Raises:
        UndefinedError: a name that no module has, or a module that did not run or put out no single tensor.
    """
    wanted = set(taps)
    inner = [tap for tap in wanted if tap.name]
    modules = dict(model.net.named_modules())
    for tap in inner:
        if tap.name not in modules:
            raise UndefinedError(f"{model.name} has no layer “{tap.name}”; it has {_some_names(model)}.")
    captured: dict[Tap, Tensor] = {}
    runs = _count_runs(model)
    left = {tap: runs.get(tap.name, 1) for tap in inner}

    def note(tap: Tap, value: object) -> Tensor | None:
        left[tap] -= 1
        if left[tap] > 0 or not isinstance(value, Tensor):
            return None
        captured[tap] = value
        if len(captured) == len(wanted):
            raise _Reached
        return value.clone()  # the network may go on in place

    def after(tap: Tap):
        return lambda _module, _inputs, output: note(tap, output)

    def before(tap: Tap):
        def hook(_module, inputs):
            value = note(tap, inputs[0] if inputs else None)
            return None if value is None else (value, *inputs[1:])

        return hook

    with model.lock:
        handles = []
        try:
            for tap in inner:
                module = modules[tap.name]
                handles.append(
                    module.register_forward_pre_hook(before(tap)) if tap.inside
                    else module.register_forward_hook(after(tap))
                )  # fmt: skip
            logits = model(images)
            if Tap("") in wanted:
                captured[Tap("")] = logits
        except _Reached:
            pass
        finally:
            for handle in handles:
                handle.remove()
    for tap in inner:
        if tap not in captured:
            raise UndefinedError(
                f"{tap.name} of {model.name} does not put out one tensor; choose a layer inside or around it."
            )
    return captured


_runs: "weakref.WeakKeyDictionary[ImageModel, dict[str, int]]" = weakref.WeakKeyDictionary()


def _count_runs(model: ImageModel) -> dict[str, int]:
    """How often each module runs in one pass."""
    if model not in _runs:
        _trace(model)
    return _runs[model]


_traced: "weakref.WeakKeyDictionary[ImageModel, tuple[Layer, ...]]" = weakref.WeakKeyDictionary()


def list_layers(model: ImageModel) -> tuple[Layer, ...]:
    """Every module that puts out one tensor, in the order in which they finish; traced once a model.

    Modules that run several times are listed where they last finish.
    """
    if model not in _traced:
        _traced[model] = tuple(describe(model, name, shape) for name, shape in _trace(model).items())
    return _traced[model]


@torch.no_grad()
def _trace(model: ImageModel) -> dict[str, tuple[int, ...]]:
    """Module name → shape of its output for one picture, in order of execution; counts their runs on the way."""
    shapes: dict[str, tuple[int, ...]] = {}
    runs: dict[str, int] = {}

    def hook(name: str):
        def note(_module, _inputs, output):
            runs[name] = runs.get(name, 0) + 1
            if isinstance(output, Tensor):
                shapes.pop(name, None)
                shapes[name] = tuple(output.shape)

        return note

    with model.lock:
        handles = [m.register_forward_hook(hook(n)) for n, m in model.net.named_modules() if n]
        try:
            model(_blank(model))
        finally:
            for handle in handles:
                handle.remove()
    _runs[model] = runs
    return shapes


def _blank(model: ImageModel) -> Tensor:
    return model.mean.expand(1, 3, model.spec.height, model.spec.width).clone()


def describe(model: ImageModel, name: str, shape: Sequence[int]) -> Layer:
    """What a module's output of `shape` for one picture is: its layout and its grid of places.

    A grid is recognised by its aspect, which must be the input's (one place for every r × r pixels, give or take the
    rounding of odd sizes): that tells channels-last from channels-first, and keeps attention matrices out.
    """
    if len(shape) == 4 and shape[0] == 1:
        first, last = _is_grid(model, shape[2], shape[3]), _is_grid(model, shape[1], shape[2])
        if last and (not first or getattr(model.net, "output_fmt", None) == "NHWC"):
            return Layer(name, "nhwc", shape[3], shape[1], shape[2])
        if first:
            return Layer(name, "nchw", shape[1], shape[2], shape[3])
    if len(shape) == 3 and shape[0] == 1:
        for prefix in dict.fromkeys((model.num_prefix_tokens, 0, 1)):
            grid = _token_grid(model, shape[1] - prefix)
            if grid:
                return Layer(name, "tokens", shape[2], *grid, prefix)
    if len(shape) == 2 and shape[0] == 1:
        return Layer(name, "vector", shape[1])
    return Layer(name, "other")


def _is_grid(model: ImageModel, height: int, width: int) -> bool:
    if not (1 < height <= model.spec.height and 1 < width <= model.spec.width):
        return False
    down, across = model.spec.height / height, model.spec.width / width
    if 1.1 < down < 1.8:  # no stride is that small: so many rows are the tokens of an attention matrix
        return False
    return abs(down - across) / max(down, across) < 0.5 / min(height, width) + 1e-9


def _token_grid(model: ImageModel, count: int) -> tuple[int, int] | None:
    height = round((max(count, 0) * model.spec.height / model.spec.width) ** 0.5)
    if height < 2 or count % height:
        return None
    width = count // height
    return (height, width) if _is_grid(model, height, width) else None


def to_grid(layer: Layer, activation: Tensor) -> Tensor:
    """A layer's output for N pictures → (N, C, h, w), prefix tokens left out.

    Raises:
        UndefinedError: the layer has no grid of places.
    """
    if layer.layout == "nchw":
        return activation
    if layer.layout == "nhwc":
        return activation.permute(0, 3, 1, 2)
    if layer.layout == "tokens":
        patches = activation[:, layer.prefix :]
        return patches.transpose(1, 2).unflatten(2, (layer.height, layer.width))
    raise UndefinedError(f"The output of {layer.name} is not laid out over the picture, so there is no map of it.")


def find_layer(model: ImageModel, name: str) -> Layer:
    """The layer of that name.

    Raises:
        UndefinedError: no such module, or one that puts out no single tensor.
    """
    for layer in list_layers(model):
        if layer.name == name:
            return layer
    if name in dict(model.net.named_modules()) and name:
        raise UndefinedError(f"{name} of {model.name} does not put out one tensor; choose a layer inside or around it.")
    raise UndefinedError(f"{model.name} has no layer “{name}”; it has {_some_names(model)}.")


def curated_layers(model: ImageModel) -> list[Layer]:
    """The layers to look at first, from the input on: a network's stages and its blocks.

    A block is a numbered module with modules of its own (`layer1.0`, `stages.2.blocks.5`, `blocks.11`), at most two
    numbers deep; a stage is what holds blocks and puts out their last one's tensor. Networks without blocks (VGG) are
    given by their outermost layers.
    """
    modules = dict(model.net.named_modules())
    grids = [layer for layer in list_layers(model) if layer.height]
    chosen = []
    for layer in grids:
        parts = layer.name.split(".")
        numbers = [i for i, part in enumerate(parts) if part.isdecimal()]
        composite = any(True for _ in modules[layer.name].children())
        numbered = composite and numbers and numbers[-1] == len(parts) - 1 and len(numbers) <= 2
        holder = composite and len(numbers) <= 1 and any(n.isdecimal() for n, _ in modules[layer.name].named_children())
        if (numbered or holder) and "downsample" not in parts and "shortcut" not in parts:
            chosen.append(layer)
    return chosen or [layer for layer in grids if layer.name.count(".") <= 1]


def attention_layers(model: ImageModel) -> dict[str, int]:
    """Name → number of heads of every attention layer whose heads can be told apart, in the order of definition."""
    return {
        name: module.num_heads
        for name, module in model.net.named_modules()
        if isinstance(getattr(module, "num_heads", None), int)
        and isinstance(getattr(module, "proj", None), nn.Linear)
        and module.proj.in_features % module.num_heads == 0
    }


def attention_heads(model: ImageModel, name: str) -> int:
    """How many heads the attention module called `name` has, all of whose outputs enter its `proj` side by side.

    Raises:
        UndefinedError: no such module, or none that is built in this way.
    """
    modules = dict(model.net.named_modules())
    if not name or name not in modules:
        raise UndefinedError(f"{model.name} has no layer “{name}”; it has {_some_names(model)}.")
    known = attention_layers(model)
    if name not in known:
        where = f"its attention layers are {', '.join(list(known)[:3])} …" if known else "it has no attention heads"
        raise UndefinedError(f"{name} of {model.name} is no attention layer whose heads can be told apart; {where}.")
    return known[name]


def depth_layers(model: ImageModel, count: int = 4) -> list[Layer]:
    """Layers at several depths, in the order in which they run, the last one being `deepest_grid`.

    In a network that becomes coarser, the last stage or block of each size of grid; in one that keeps its grid (most
    transformers), or has but two sizes, blocks at equal distances. Sizes within the same power of two are one: an
    unpadded convolution takes off a border, which makes nothing coarser. Layers on which gradient × activation cancels
    (`_cancelling`) are passed over, as the last of a stage that is followed by a layer normalisation.

    Args:
        count: layers in a network that keeps its grid, the deepest included; fewer where it has fewer blocks.

    Raises:
        UndefinedError: the network has no layer whose places reach the output.
    """
    deepest = deepest_grid(model)
    grids = [layer for layer in list_layers(model) if layer.height]
    before = {layer.name: layer for layer in grids[: grids.index(deepest)]}
    curated = [layer for layer in curated_layers(model) if layer.name in before and _is_trunk(model, layer, before)]
    trunk = curated or list(before.values())
    kept = {name: layer for name, layer in before.items() if name not in _cancelling(model)}

    order = list(before)
    if len({_octave(model, layer) for layer in trunk} - {_octave(model, deepest)}) > 1:
        last = {_octave(model, layer): _outermost(layer, kept) for layer in trunk if layer.name in kept}
        last.pop(_octave(model, deepest), None)
        return [*sorted(last.values(), key=lambda layer: order.index(layer.name)), deepest]

    blocks = [layer for layer in trunk if layer.name.rpartition(".")[2].isdecimal()]
    # What ends a layer puts out the same as the layer does.
    blocks = [one for one, after in pairwise([*blocks, deepest]) if not one.name.startswith(f"{after.name}.")]
    if not blocks:  # those of TNT put out two tensors: the deepest layer's place in each
        blocks = [layer for layer in before.values() if _numberless(layer.name) == _numberless(deepest.name)] or trunk
    places = [(i * (len(blocks) + 1)) // count - 1 for i in range(1, count)]
    shallower = [next((b for b in reversed(blocks[: i + 1]) if b.name in kept), None) for i in places if i >= 0]
    return [*dict.fromkeys(filter(None, shallower)), deepest]


_cancels: "weakref.WeakKeyDictionary[ImageModel, frozenset[str]]" = weakref.WeakKeyDictionary()


def _cancelling(model: ImageModel) -> frozenset[str]:
    """Layers whose Σ_c A_c · ∂f/∂A_c is zero at every place but for rounding, whatever the picture and f; found once a model.

    Where all that follows a layer normalises each place by itself (a layer normalisation and nothing beside it), f stays
    the same when a place's activations are scaled, so by Euler's theorem on homogeneous functions the sum vanishes.
    """
    if model not in _cancels:
        _cancels[model] = frozenset(_find_cancelling(model))
    return _cancels[model]


def _find_cancelling(model: ImageModel) -> Iterator[str]:
    noise = torch.rand(_blank(model).shape, generator=torch.Generator().manual_seed(0)).to(model.device, model.dtype)
    for layer, activation, slope in _slopes(model, noise, [layer for layer in list_layers(model) if layer.height]):
        products = to_grid(layer, activation * slope)
        if products.sum(1).abs().sum() < CANCELLED * products.abs().sum():
            yield layer.name


def _slopes(model: ImageModel, image: Tensor, layers: Sequence[Layer]) -> list[tuple[Layer, Tensor, Tensor]]:
    """Of the layers between a picture (1, 3, H, W) and the logits, in their order: activation, and slope of a mix of all logits."""
    with torch.enable_grad(), capture(model, [layer.name for layer in layers]) as captured:
        logits = model(image.requires_grad_(True))  # so that there is a graph: the parameters are frozen
        direction = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype, device=logits.device)
        # What does not depend on the picture (tables of positions) has no gradient to ask for.
        kept = [layer for layer in layers if layer.name in captured and captured[layer.name].requires_grad]
        if not kept:
            return []
        slopes = torch.autograd.grad(
            (logits.flatten() * direction).sum(), [captured[layer.name] for layer in kept], allow_unused=True
        )
    found = zip(kept, slopes, strict=True)
    return [(layer, captured[layer.name].detach(), slope) for layer, slope in found if slope is not None]


def _octave(model: ImageModel, layer: Layer) -> int:
    """How often the grid has been halved."""
    return round(math.log2(model.spec.height / layer.height))


def _numberless(name: str) -> list[str]:
    return [part for part in name.split(".") if not part.isdecimal()]


def _holders(name: str) -> list[str]:
    """The names of the modules around the one of that name, the outermost first."""
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _outermost(layer: Layer, before: dict[str, Layer]) -> Layer:
    """The stage or block that ends on the layer's grid, or the layer itself where it stands alone."""
    around = [before[name] for name in _holders(layer.name) if name in before]
    same = (other for other in around if (other.height, other.width) == (layer.height, layer.width))
    return next(same, layer)


def _is_trunk(model: ImageModel, layer: Layer, before: dict[str, Layer]) -> bool:
    """False in the stem of a transformer, and in one branch of a block that makes the grid coarser.

    Such a branch is on the old grid still, and runs later than the last block that is.
    """
    parts = layer.name.split(".")
    if "backbone" in parts or "patch_embed" in parts:  # a hybrid's backbone has stages of its own
        return "backbone" in parts
    coarser = [name for name in _holders(layer.name) if name in before and before[name].height != layer.height]
    children = (model.net.get_submodule(name).named_children() for name in coarser)
    return all(any(child.isdecimal() for child, _ in some) for some in children)  # mere sequences of blocks


_deepest: "weakref.WeakKeyDictionary[ImageModel, str]" = weakref.WeakKeyDictionary()


def deepest_grid(model: ImageModel) -> Layer:
    """The last layer that still has places and whose places reach the output: where Grad-CAM looks by default.

    It is found by running the network, not by the family's name: of all modules with a grid of at least 2 × 2 places
    and, for tokens, the width of the residual stream and more than one linear map (so no queries, keys, values or
    hidden MLP layers), the one that finishes last with a gradient other than zero at the places. In a transformer that
    reads only its class token, the patch tokens after the last attention no longer matter, and this gives the last
    block's first normalisation.

    Raises:
        UndefinedError: the network has no such layer.
    """
    if model not in _deepest:
        _deepest[model] = _find_deepest(model)
    return find_layer(model, _deepest[model])


def _stream_widths(net: nn.Module) -> set[int]:
    """Channels of the residual stream: one number, or in networks of several stages one for each."""
    widths: set[int] = set()
    for value in (getattr(net, "num_features", None), getattr(net, "embed_dim", None)):
        widths.update(value if isinstance(value, Sequence) else [value or 0])
    return widths


def _find_deepest(model: ImageModel) -> str:
    modules = dict(model.net.named_modules())
    stream = _stream_widths(model.net)
    candidates = [
        layer
        for layer in list_layers(model)
        if not isinstance(modules[layer.name], nn.Identity | nn.Dropout)
        if layer.layout in ("nchw", "nhwc")
        or (layer.layout == "tokens" and layer.channels in stream and not isinstance(modules[layer.name], nn.Linear))
    ]
    # Only the deepest can win; a dozen of them is enough, and keeps the trial pass light.
    for chunk in (candidates[-12:], candidates[:-12]):
        for layer, _, slope in reversed(_slopes(model, _blank(model), chunk)):
            if to_grid(layer, slope).abs().amax() > 0:
                return layer.name
    raise UndefinedError(
        f"{model.name} has no layer whose places reach the output, so neither Grad-CAM nor depth fusion is defined for it."
    )
