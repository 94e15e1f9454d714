"""The layers of a network: which there are, and which of them to look at."""

import copy
import math
import re
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from lsd import layout, places
from lsd.errors import UndefinedError
from lsd.layout import Layer, to_grid
from lsd.models import ImageModel
from lsd.precision import at_least_fp32, undisturbed
from lsd.said import Said
from lsd.tracing import Tap, blank, capture, module_of, of_run, run_to, split_run, trace

CANCELLED = 1e-3  # of Σ_c |A_c · ∂f/∂A_c|: an epsilon in the normalisation leaves less, and nothing else as little

_listed: "weakref.WeakKeyDictionary[ImageModel, dict[str, Layer]]" = weakref.WeakKeyDictionary()
_originals: "weakref.WeakKeyDictionary[ImageModel, weakref.ref[ImageModel]]" = weakref.WeakKeyDictionary()


def list_layers(model: ImageModel) -> tuple[Layer, ...]:
    """Every module that puts out one tensor, in the order in which they finish; found once a model.

    Modules that run several times are listed once, where they last finish; `runs_of` has the others.
    """
    return tuple(layer for name, layer in _layers(model).items() if not split_run(name)[1])


def runs_of(model: ImageModel, layer: Layer) -> tuple[Layer, ...]:
    """The runs of a module that runs several times, those that put out one tensor, in their order; () of one that runs once."""
    names = (of_run(layer.name, run) for run in range(1, layer.runs + 1))
    return tuple(_layers(model)[name] for name in names if name in _layers(model))


def _layers(model: ImageModel) -> dict[str, Layer]:
    known = _listed.get(model)
    if known is None:
        with undisturbed(model.device):
            known = _listed[model] = _find_layers(model)
    return known


def _find_layers(model: ImageModel) -> dict[str, Layer]:
    original = _originals[model]() if model in _originals else None
    known = places.placed(model, trace(model)) if original is None else _like(model, original)
    heard = () if original is None else original.said.layouts
    return known | {
        name: _laid_out(model, known, name, how) for name, how in model.said.layouts if (name, how) not in heard
    }


def _like(twin: ImageModel, model: ImageModel) -> dict[str, Layer]:
    known, picture = _layers(model), (twin.spec.height, twin.spec.width)
    small = picture != (model.spec.height, model.spec.width)
    found = {}
    for name, shape in trace(twin).shapes.items():
        layer = known.get(name, Layer(name, "other"))
        if small and layer.height:
            layer = layout.resized(layer, shape, picture) or Layer(name, "other")
        found[name] = layer
    return found


def as_said(model: ImageModel, said: Said) -> ImageModel:
    """The network read as a person says: another model over the same weights, under the same lock. `model` stays as it is.

    Of what was said of `model` before, all holds that is not said otherwise now. If there is nothing new it is `model` itself.

    Raises:
        ModelError: outputs that the network cannot have.
        UndefinedError: a layout of a module that there is not, or that its output cannot have.
    """
    told = model.said | said
    if told == model.said:
        return model
    view = copy.copy(model)
    view.read_as(told)
    _originals[view] = weakref.ref(model)  # whose places need not be found again
    if said.layouts:
        _layers(view)  # so that a layout that cannot be is refused now
    return view


def _laid_out(model: ImageModel, known: dict[str, Layer], name: str, how: str | Callable[[Tensor], Tensor]) -> Layer:
    """A layer as a person says it is laid out."""
    _found(model, known, name)
    if isinstance(how, str):
        layer = layout.said(name, trace(model).shapes[name], (model.spec.height, model.spec.width), how)
    else:
        with torch.no_grad():
            layer = layout.custom(name, how, run_to(model, blank(model), [Tap(name)])[Tap(name)])
    return replace(layer, runs=known[name].runs)


def same_layers(twin: ImageModel, model: ImageModel) -> None:
    """Have the layers of a twin laid out as the model's are: the same modules, for pictures of the same size or smaller ones.

    The twin runs once, now, while nobody listens to it.
    """
    trace(twin)
    _originals[twin] = weakref.ref(model)


def find_layer(model: ImageModel, name: str) -> Layer:
    """The layer of that name; of a module that runs several times its last run, or the one that is named (`lsd.tracing`).

    Raises:
        UndefinedError: no such module or run, or one that puts out no single tensor.
    """
    return _found(model, _layers(model), name)


def _found(model: ImageModel, known: dict[str, Layer], name: str) -> Layer:
    if name not in known:
        module_of(model, name)
        raise UndefinedError(f"{name} of {model.name} does not put out one tensor; choose a layer inside or around it.")
    return known[name]


def curated_layers(model: ImageModel) -> list[Layer]:
    """The layers to look at first, from the input on: a network's stages and its blocks, none twice; found once a model.

    A block is a numbered module with modules of its own (`layer1.0`, `stages.2.blocks.5`, `blocks.11`), at most two
    numbers deep; a stage is what holds blocks. Networks without blocks (VGG, Inception) are given by the stages that timm names, or
    by their outermost layers where it names none.

    A stage mostly puts out what its last block does. Of layers with the same numbers on their places the outermost that is one
    of several of its kind is listed, by whose name people know the place: `layer4` for `layer4.2`, but `blocks.11` for `blocks`.
    """
    if model not in _curated:
        _curated[model] = _each_once(model, _stages_and_blocks(model))
    return list(_curated[model])


_curated: "weakref.WeakKeyDictionary[ImageModel, list[Layer]]" = weakref.WeakKeyDictionary()


@torch.no_grad()
def _each_once(model: ImageModel, layers: Sequence[Layer]) -> list[Layer]:
    with capture(model, [layer.name for layer in layers]) as captured:
        model(_noise(model))
    alike: list[tuple[Tensor, list[Layer]]] = []
    for layer in layers:
        grid = to_grid(layer, captured.pop(layer.name))
        same = next((those for seen, those in alike if seen.shape == grid.shape and torch.equal(seen, grid)), None)
        if same is None:
            alike.append((grid, same := []))
        same.append(layer)
    kinds = Counter(_kind(layer) for layer in layers)
    kept = {min(those, key=lambda one: (kinds[_kind(one)] == 1, one.name.count("."))).name for _, those in alike}
    return [layer for layer in layers if layer.name in kept]


def _kind(layer: Layer) -> str:
    """Alike for modules whose names differ in numbers only."""
    return re.sub("[0-9]+", "#", layer.name)


def _stages_and_blocks(model: ImageModel) -> list[Layer]:
    """`curated_layers`, and what puts out the same as one of them."""
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
    if any(layer.name.rpartition(".")[2].isdecimal() for layer in chosen):
        return chosen
    stages = getattr(model.net, "feature_info", None) or ()
    named = {stage.get("module") for stage in stages if isinstance(stage, dict)}
    of_timm = [layer for layer in grids if layer.name in named]
    return of_timm or _numbered_in_a_word(modules, grids) or chosen or [g for g in grids if g.name.count(".") <= 1]


def _numbered_in_a_word(modules: dict[str, nn.Module], grids: Sequence[Layer]) -> list[Layer]:
    """Modules with modules of their own whose last name differs in its number alone, the outermost such: torchvision's
    transformer has `encoder.layers.encoder_layer_0` and so on."""
    composite = [layer for layer in grids if any(True for _ in modules[layer.name].children())]
    kinds = Counter(_kind(layer) for layer in composite)
    several = [layer for layer in composite if kinds[_kind(layer)] > 1]
    outermost = min((layer.name.count(".") for layer in several), default=0)
    return [layer for layer in several if layer.name.count(".") == outermost]


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
        UndefinedError: no such module or run, or none that is built in this way.
    """
    module_of(model, name)
    name, known = split_run(name)[0], attention_layers(model)
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
    curated = [layer for layer in _stages_and_blocks(model) if layer.name in before and _is_trunk(model, layer, before)]
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
    grids = [layer for layer in list_layers(model) if layer.height]
    for layer, activation, slope in _slopes(model, _noise(model), grids):
        products = to_grid(layer, at_least_fp32(activation) * slope)
        if products.sum(1).abs().sum() < max(CANCELLED, torch.finfo(model.net_dtype).eps) * products.abs().sum():
            yield layer.name


def _noise(model: ImageModel) -> Tensor:
    """A picture (1, 3, H, W), always the same, of which no two places are alike."""
    return torch.rand(blank(model).shape, generator=torch.Generator().manual_seed(0)).to(model.device, model.dtype)


def _slopes(model: ImageModel, image: Tensor, layers: Sequence[Layer]) -> list[tuple[Layer, Tensor, Tensor]]:
    """Of the layers between a picture (1, 3, H, W) and the logits, in their order: activation, and slope of a mix of all logits."""
    names = [layer.name for layer in layers]
    with undisturbed(model.device), torch.enable_grad(), capture(model, names) as captured:
        logits = model(model.take(image).requires_grad_(True))  # so that there is a graph: the parameters are frozen
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


def _stream_widths(model: ImageModel, modules: dict[str, nn.Module]) -> set[int]:
    """Channels of the residual stream: one number, or in networks of several stages one for each.

    Of networks that do not say them as timm's do, the width that most of the token layers have.
    """
    widths: set[int] = set()
    for value in (getattr(model.net, "num_features", None), getattr(model.net, "embed_dim", None)):
        widths.update(value if isinstance(value, Sequence) else [value or 0])
    tokens = [layer for layer in list_layers(model) if layer.layout == "tokens"]
    if not widths.intersection(layer.channels for layer in tokens):
        counted = Counter(t.channels for t in tokens if not isinstance(modules[t.name], nn.Linear))
        widths.update(channels for channels, _ in counted.most_common(1))
    return widths


def _find_deepest(model: ImageModel) -> str:
    modules = dict(model.net.named_modules())
    stream = _stream_widths(model, modules)
    candidates = [
        layer
        for layer in list_layers(model)
        if not isinstance(modules[layer.name], nn.Identity | nn.Dropout)
        if layer.layout in ("nchw", "nhwc", "custom")
        or (layer.layout == "tokens" and layer.channels in stream and not isinstance(modules[layer.name], nn.Linear))
    ]
    # Only the deepest can win; a dozen of them is enough, and keeps the trial pass light. On a picture of one colour a network
    # without biases is silent, and its ReLUs are shut; on noise it is not.
    for picture in (blank(model), _noise(model)):
        for chunk in (candidates[-12:], candidates[:-12]):
            for layer, _, slope in reversed(_slopes(model, picture, chunk)):
                if to_grid(layer, slope).abs().amax() > 0:
                    return layer.name
    raise UndefinedError(
        f"{model.name} has no layer whose places reach the output, so neither Grad-CAM nor depth fusion is defined for it."
    )
