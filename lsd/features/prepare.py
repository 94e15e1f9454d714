"""A copy of a network made for many passes: what is the same at every pass is done once.

Batch normalisation with fixed statistics is a scale and a shift of each channel, so behind a convolution it can be part
of the convolution (exact but for rounding); grouped convolutions run several times faster with channels last; and in a
transformer that reads its class token alone, the last block's patch tokens are needed as keys and values and for
nothing else. The model itself is left as it is.
"""

import copy
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lsd.account import ACCOUNT
from lsd.batch_norm import has_batch_norm
from lsd.errors import UndefinedError
from lsd.layers import find_layer, same_layers
from lsd.models import ImageModel
from lsd.tracing import split_run

_prepared: "weakref.WeakKeyDictionary[ImageModel, _Twins]" = weakref.WeakKeyDictionary()
_lock = threading.Lock()


@dataclass
class _Twins:
    """What was made of a model for one question: the plain twin, and by the share of the input's side what is run."""

    key: tuple
    plain: ImageModel
    ready: dict[float, ImageModel] = field(default_factory=dict)


def prepare(
    model: ImageModel,
    keep: Iterable[str] = (),
    *,
    fold: bool = True,
    compiled: bool = False,
    half: bool = False,
    share: float = 1.0,
) -> ImageModel:
    """A twin of `model` with the same outputs, faster to run many times.

    Args:
        keep: modules (or runs of them) whose own output is looked at, and which must therefore compute what they did.
        fold: change modules at all; False where batch normalisations' inputs are looked at.
        compiled: run it through `torch.compile`, which pays on GPUs after a minute or so; only where no layer inside is
            looked at, as compiled networks neither stop early nor show what is inside.
        half: cast to bfloat16, once; what is shown to it must be cast as well.
        share: of the side of the model's own input: the twin takes smaller pictures, if it can (see `_on_smaller_input`).

    The last twins of each model are kept with it.
    """
    keep = frozenset(keep)
    if compiled and (keep or not fold):
        raise UndefinedError("Only whole networks can be compiled: leave it off for units of layers inside.")
    key = (keep if fold else None, compiled, half, model.device, model.dtype)
    with _lock:
        twins = _prepared.get(model)
        if twins is not None and twins.key == key and share in twins.ready:
            return twins.ready[share]
    if twins is None or twins.key != key:
        twins = _Twins(key, _twin(model, keep, fold))
    # Somebody may be running it, with hooks that a copy would have too, and that would hear the trial.
    with twins.plain.lock:
        small = _on_smaller_input(twins.plain, share, keep)
        with _lock:
            same = [ready for ready in twins.ready.values() if ready.spec == small.spec]
        twin = same[0] if same else _finished(small, compiled, half)
    ACCOUNT.keep(twin.tensors)
    with _lock:
        twins.ready[share] = twin
        _prepared[model] = twins
    return twin


def _finished(twin: ImageModel, compiled: bool, half: bool) -> ImageModel:
    if not (compiled or half):
        return twin
    done = _copied(twin)
    if half:
        done.net = copy.deepcopy(twin.net).bfloat16()
        done.mean, done.std = twin.mean.bfloat16(), twin.std.bfloat16()
    if compiled:
        done.net = _compiled(done.net)
    return done


def _copied(twin: ImageModel) -> ImageModel:
    """The same network under another name, so that either can be changed."""
    other = copy.copy(twin)
    other._modules, other._buffers = dict(twin._modules), dict(twin._buffers)
    return other


def _twin(model: ImageModel, keep: frozenset[str], fold: bool) -> ImageModel:
    twin = _copied(model)
    twin.lock = threading.RLock()
    with model.lock:  # no hooks of anybody else's are copied
        pairs = folding_pairs(model) if fold else []
        twin.net = _sharing(model.net)
        probe = _probe(model)
        with torch.no_grad():
            expected = model(probe)
    for conv, norm in pairs:
        if not any(_ends_between(split_run(name)[0], conv, norm) for name in keep):
            _fold(twin.net, conv, norm)
    if fold and not keep and _reads_class_token(twin.net):
        twin.net.blocks[-1] = _LastBlock(twin.net.blocks[-1], twin.net.num_prefix_tokens)
    with torch.no_grad():
        off = (twin(probe) - expected).abs().max() / expected.abs().max().clamp(min=1e-12)
    if not off < 1e-3:  # somebody else used what a convolution put out: then it must stay what it was
        with model.lock:
            twin.net = _sharing(model.net)
    for module in twin.net.modules():
        if isinstance(module, nn.Hardtanh):  # ReLU6 too: in place, autograd clones the input that it needs again
            module.inplace = False
    twin._has_batch_norm = has_batch_norm(twin.net)
    if wants_channels_last(twin.net):
        _to_channels_last(twin.net)
    same_layers(twin, model)
    return twin


def _sharing(net: nn.Module) -> nn.Module:
    """Modules and tensors of its own over the same memory, which nobody writes to: what differs is put in their place."""
    return copy.deepcopy(net, {id(tensor): _over(tensor) for tensor in (*net.parameters(), *net.buffers())})


def _over(tensor: Tensor) -> Tensor:
    shared = tensor.detach()
    return nn.Parameter(shared, requires_grad=False) if isinstance(tensor, nn.Parameter) else shared


def _to_channels_last(net: nn.Module) -> None:
    """What has four dimensions; `Module.to` would ask it of 3-d convolutions' weights as well, which cannot be laid out so."""
    for module in net.modules():
        for name, tensor in module.named_parameters(recurse=False):
            if tensor.dim() == 4 and not tensor.is_contiguous(memory_format=torch.channels_last):
                laid_out = tensor.detach().contiguous(memory_format=torch.channels_last)
                module.register_parameter(name, nn.Parameter(laid_out, requires_grad=False))


def _compiled(net: nn.Module) -> nn.Module:
    """The network compiled for batches of any length: the last batch of a run, or one that was halved, is no new network."""
    compiled = torch.compile(net)

    class AnyLength(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            torch._dynamo.maybe_mark_dynamic(x, 0)
            return compiled(x)

    return AnyLength()


def _on_smaller_input(twin: ImageModel, share: float, keep: frozenset[str]) -> ImageModel:
    """A twin that takes pictures of `share` of the side, for steps in which that is fine enough; itself if it takes no others.

    Convolutional networks take any size. Those that were built for one are asked to change it (timm's `set_input_size`:
    transformers resample their positions, some their windows); where that cannot be done, or a layer in `keep` no longer puts
    out what it did, the network stays at its own size. Sides are whole patches, or multiples of 16.
    """
    patch = getattr(getattr(twin.net, "patch_embed", None), "patch_size", None)
    unit = patch if isinstance(patch, tuple) else (16, 16)
    height, width = (
        max(2, round(n * share / u)) * u for n, u in zip((twin.spec.height, twin.spec.width), unit, strict=True)
    )
    if share == 1 or height >= twin.spec.height or width >= twin.spec.width:
        return twin
    small = _copied(twin)
    small.spec = replace(twin.spec, height=height, width=width)
    try:
        if hasattr(twin.net, "set_input_size"):
            small.net = _sharing(twin.net)
            small.net.set_input_size(img_size=(height, width))
            small.net.requires_grad_(False)
        elif (getattr(twin.net, "pretrained_cfg", None) or {}).get("fixed_input_size"):
            return twin
        with torch.no_grad():
            logits = small(_probe(small))
        same_layers(small, twin)
        before, after = (
            [(find_layer(n, name).layout, find_layer(n, name).channels) for name in keep] for n in (twin, small)
        )
    except Exception:  # whatever a network raises that was not made for this
        return twin
    return small if before == after and bool(logits.isfinite().all()) else twin


def _reads_class_token(net: nn.Module) -> bool:
    """Whether this is timm's plain vision transformer, and its logits depend on the class token alone."""
    from timm.layers import (
        Attention,
    )  # late, as everywhere: timm takes half a second to import, and the page needs none yet
    from timm.models.vision_transformer import Block, VisionTransformer

    if type(net) is not VisionTransformer or net.global_pool != "token" or net.attn_pool is not None:
        return False
    block = net.blocks[-1]
    return type(block) is Block and type(block.attn) is Attention and getattr(block.attn, "gate", None) is None


class _LastBlock(nn.Module):
    """timm's `Block`, for the prefix tokens alone: (N, tokens, C) → (N, prefix, C). The others serve as keys and values."""

    def __init__(self, block: nn.Module, prefix: int):
        super().__init__()
        self.block, self.prefix = block, prefix

    def forward(self, x: Tensor) -> Tensor:
        block, attn = self.block, self.block.attn
        normed = block.norm1(x)
        weight, bias = attn.qkv.weight, attn.qkv.bias
        width = weight.shape[0] // 3
        q = F.linear(normed[:, : self.prefix], weight[:width], None if bias is None else bias[:width])
        kv = F.linear(normed, weight[width:], None if bias is None else bias[width:])
        q = q.unflatten(2, (attn.num_heads, -1)).transpose(1, 2)
        k, v = kv.unflatten(2, (2, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(attn.q_norm(q), attn.k_norm(k), v, scale=attn.scale)
        mixed = attn.proj(attn.norm(mixed.transpose(1, 2).flatten(2)))
        x = x[:, : self.prefix] + block.ls1(mixed)
        return x + block.ls2(block.mlp(block.norm2(x)))


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
    with model.lock:
        handles = [m.register_forward_pre_hook(before) for m in leaves]
        handles += [m.register_forward_hook(after) for m in leaves]
        try:
            with torch.no_grad():
                model(_probe(model))
        finally:
            for handle in handles:
                handle.remove()
    from timm.layers import BatchNormAct2d

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
    from timm.layers import BatchNormAct2d

    conv, norm = net.get_submodule(conv_name), net.get_submodule(norm_name)
    net.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm).requires_grad_(False))
    if isinstance(norm, BatchNormAct2d):  # timm's, which also activates
        net.set_submodule(norm_name, nn.Sequential(OrderedDict(drop=norm.drop, act=norm.act)).eval())
    else:
        net.set_submodule(norm_name, nn.Identity().eval())
