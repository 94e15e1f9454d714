"""Any timm model as a function from pictures to logits.

An `ImageModel` takes float RGB in [0, 1] and holds the network's own normalisation inside, so that everything outside
(attributions, noise levels, baselines, optimised pictures) speaks of pixels and means the same for every model.
"""

import contextlib
import functools
import logging
import os
import textwrap
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from lsd import disk, heads, labels, packages
from lsd.account import ACCOUNT, readable
from lsd.batch_norm import FixedBatchNorm, has_batch_norm
from lsd.depth import no_deeper_than
from lsd.errors import LSDError, ModelError, UndefinedError
from lsd.footprint import LOOK, Footprint, footprint, hollow, hollowed
from lsd.identity import WeightIdentity, tensors_digest
from lsd.images import InputSpec
from lsd.memory import is_out_of_memory
from lsd.precision import at_least_fp32
from lsd.process import is_gpu_lent, quiet
from lsd.said import Said
from lsd.weights import (
    Location,
    canonical,
    file_state,
    forget_damaged,
    locate,
    read_config,
    ready_models,
    weights_sha256,
)

DEFAULT_CACHE_BYTES = 4 * 2**30
_READING = 2  # times a network's own size while it is loaded: it is built, and the file lies beside it

_OVER = 1e-3  # how far values of pictures may lie outside [0, 1]: rounding
_LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601, as in Pillow's mode "L"

log = logging.getLogger("lsd")


class ImageModel(nn.Module):
    """A frozen timm network with its normalisation inside: RGB (N, 3, H, W) in [0, 1] → logits (N, C).

    Attributes:
        name: by which `load_model` finds it again.
        architecture, family: timm's name of the network and of the module that defines it ("resnet").
        spec: how a picture is resized and cropped for it; `height` × `width` is its input size.
        class_names: one for each logit; empty if the network has no classifier.
        names_assumed: whether nothing but their number says that these are the names.
        names_note: one sentence on that, or on names of its configuration that are not used; "" where there is nothing to say.
        outputs: what the logits are of: "classes", one class of several; "sigmoid", each a question of its own, as a single
            output is; or "embedding", no classes at all.
        said: what a person has said of it; `lsd.layers.as_said` has the same network read otherwise.
        identity: which weights these are.
        lock: held by whatever hooks or runs the network, so that users of one model never meet inside it.
    """

    def __init__(
        self,
        net: nn.Module,
        name: str,
        identity: WeightIdentity | None = None,
        outputs: str | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        channels: int = 3,
    ):
        """
        Args:
            net: which is frozen and put into eval mode, and afterwards belongs to the model; `lsd.wrap` takes a copy.
            outputs: "sigmoid" for a network of several outputs of which each is a question of its own; None for what their
                number says.
            config: what timm's `pretrained_cfg` would say of it, with the number of its outputs as `num_classes`; None for a
                network of timm's as it stands.
            channels: 3, or 1 for a network that is shown the luminance of the pictures.

        Raises:
            ModelError: other than three colour channels, or outputs that the network cannot have.
        """
        super().__init__()
        from timm.data import resolve_data_config

        width = getattr(net, "num_classes", 0) if config is None else config["num_classes"]
        config = dict(getattr(net, "pretrained_cfg", None) or {}) if config is None else dict(config)
        data = resolve_data_config(pretrained_cfg=config)
        if data["input_size"][0] != 3:
            raise ModelError(
                f"{name} takes pictures of {data['input_size'][0]} channels; only RGB models can be explained here."
            )
        self.net = net.eval().requires_grad_(False)
        self.name = name
        self.architecture = config.get("architecture") or name.partition(".")[0]
        self.family = _family(net, self.architecture)
        self.spec = InputSpec.from_config(data)
        self._width = int(width or 0)
        self._is_grey = channels == 1
        self._config = config
        self.read_as(Said(outputs))
        self.num_prefix_tokens = int(getattr(net, "num_prefix_tokens", 0) or 0)
        self.identity = identity or WeightIdentity("memory", name, None, None)
        self.lock = threading.RLock()
        self._has_batch_norm = has_batch_norm(self.net)
        self.register_buffer("mean", torch.tensor(data["mean"], dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(data["std"], dtype=torch.float32).view(1, 3, 1, 1))
        if not (self.mean.isfinite().all() and self.std.isfinite().all() and (self.std > 0).all()):
            raise ModelError(
                f"{name} is normalised by {data['mean']} and {data['std']}, which leaves no numbers of a picture."
            )

    def read_as(self, said: Said) -> None:
        """Have the outputs read as a person says; for views of a network (`lsd.layers.as_said`), not for what others use.

        Raises:
            ModelError: outputs that the network cannot have.
        """
        outputs = _outputs(self.name, self._width, self._config, said.outputs)
        self.said, self.outputs = said, outputs
        self.num_classes = 0 if outputs == "embedding" else self._width
        named = labels.named(self.num_classes, self._config)
        self.class_names, self.names_assumed, self.names_note = named.names, named.assumed, named.note

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C) of RGB images (N, 3, H, W) in [0, 1].

        Raises:
            UndefinedError: images of another shape than (N, 3, height, width).
        """
        expected = (3, self.spec.height, self.spec.width)
        if tuple(images.shape[1:]) != expected:
            raise UndefinedError(f"{self.name} takes pictures of shape {expected}, not {tuple(images.shape[1:])}.")
        fixed = FixedBatchNorm() if self._has_batch_norm else contextlib.nullcontext()
        with fixed, torch.autocast(images.device.type, enabled=False):
            normalised = (images - self.mean) / self.std
            if self._is_grey:
                normalised = (normalised * normalised.new_tensor(_LUMINANCE).view(1, 3, 1, 1)).sum(1, keepdim=True)
            if normalised.requires_grad:
                # A network with channels last hands back a gradient laid out so, which takes three times as long to divide.
                normalised.register_hook(Tensor.contiguous)
            found = self.net(normalised.to(self.net_dtype))
            return at_least_fp32(found) if isinstance(found, Tensor) else found

    def __copy__(self) -> "ImageModel":
        """The same network, under the same lock."""
        other = type(self).__new__(type(self))
        vars(other).update(vars(self))
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Without the lock, so that deep copies and pickles, which are other networks, get their own."""
        return {name: value for name, value in super().__getstate__().items() if name != "lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.lock = threading.RLock()

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.mean.device

    @property
    def dtype(self) -> torch.dtype:
        """The pictures' floating-point type: the parameters', but float32 for a network of half the precision, whose steps are
        as coarse as grey levels."""
        return self.mean.dtype

    @property
    def net_dtype(self) -> torch.dtype:
        """The parameters' floating-point type."""
        return next((p.dtype for p in self.net.parameters() if p.is_floating_point()), self.mean.dtype)

    @functools.cached_property
    def parameter_count(self) -> int:
        """How many numbers were learned."""
        return sum(p.numel() for p in self.net.parameters())

    @property
    def nbytes(self) -> int:
        """Memory of parameters and buffers, in bytes."""
        return sum(t.numel() * t.element_size() for t in self.tensors)

    @property
    def tensors(self) -> list[Tensor]:
        """Parameters and buffers."""
        return [*self.parameters(), *self.buffers()]

    def take(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) on the network's device and in its type, without a history.

        Raises:
            UndefinedError: other values than RGB in [0, 1], as of pictures that are normalised already.
        """
        images = images.detach().to(self.device, self.dtype).contiguous()
        low, high = images.aminmax() if images.numel() else (0, 0)
        if not (low >= -_OVER and high <= 1 + _OVER):
            if not torch.isfinite(images).all():
                raise UndefinedError("The pictures hold numbers that are not finite (NaN or infinity); give others.")
            between = f"The pictures' values run from {low:.3g} to {high:.3g}, and RGB from 0 to 1 is needed: "
            if low >= 0 and high > 2:
                raise UndefinedError(between + "divide them by 255.")
            raise UndefinedError(
                between
                + "give them as they are before they are normalised, which the model does itself, cut off at 0 and 1."
            )
        return images.clone() if images.is_inference() else images

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Probabilities (N, C) of images (N, 3, H, W), without gradients: the softmax of the logits, or each one's sigmoid.

        Raises:
            UndefinedError: the network has no classes.
        """
        if self.outputs == "embedding":
            self.refuse_classes()
        with self.lock:
            logits = self(self.take(images))
        if logits.ndim != 2:  # as encoders of language models have it, a vector for every place
            self.refuse_classes()
        return logits.sigmoid() if self.outputs == "sigmoid" else logits.softmax(1)

    def refuse_classes(self) -> NoReturn:
        """Raises UndefinedError, saying that the network has no classes and what can be asked instead."""
        raise UndefinedError(
            f"{self.name} puts out an embedding and no classes, so it predicts none; ask for the similarity to another picture, "
            "or look at its layers' channels."
        )


def _outputs(name: str, width: int, config: dict, said: str | None) -> str:
    """What a head's outputs are (`ImageModel.outputs`): what a person says, or else its width and configuration."""
    if said not in (None, "classes", "sigmoid", "embedding"):
        raise ModelError(f"The outputs of {name} are classes, sigmoid or an embedding, not “{said}”.")
    if said in ("classes", "sigmoid") and not width:
        raise ModelError(
            f"{name} puts out an embedding and no classes, so its outputs are neither classes nor sigmoid."
        )
    if said == "classes" and width == 1:
        raise ModelError(
            f"{name} has a single output, and a softmax of one is 1 whatever the picture; it is a sigmoid."
        )
    if heads.is_embedding(width, config):
        return said or "embedding"
    return said or ("sigmoid" if width == 1 else "classes")


def _family(net: nn.Module, architecture: str) -> str:
    import timm

    if not timm.is_model(architecture):
        return architecture
    family = timm.model_entrypoint(architecture).__module__.rpartition(".")[2]
    # The entry points of names that timm has deprecated all live in its registry.
    return family if family != "_registry" else type(net).__module__.rpartition(".")[2]


def resolve_device(device: str) -> torch.device:
    """ "auto" → the first NVIDIA GPU that is this process's own, else Apple's (which nothing here was tested on), else the CPU;
    anything else as torch names it."""
    if device == "auto":
        cuda = torch.cuda.is_available() and not is_gpu_lent()
        device = "cuda" if cuda else "mps" if torch.backends.mps.is_available() else "cpu"
    return torch.device(device)


def load_model(name: str, *, device: str = "auto", allow_pickle: bool = False) -> ImageModel:
    """Load a network by name, frozen and in eval mode, with its normalisation inside: RGB (N, 3, H, W) in [0, 1] → logits (N, C).

    Args:
        name: timm's, with its tag ("resnet50.a1_in1k"), "hf-hub:owner/repository", "local-dir:PATH", "demo:NAME", or as it is
            pasted (`lsd.weights.canonical`).
        device: "auto", "cpu", "cuda", "cuda:1", ….
        allow_pickle: read pickled weights where there is no safetensors file. They can run code: only for your own.

    Raises:
        ModelError: one sentence: unknown, offline, too large, damaged, or weights that do not fit.
    """
    location = locate(name, allow_pickle=allow_pickle)
    with torch.inference_mode(False):  # or its weights could have no gradient behind them, ever
        return _loaded(location, device, allow_pickle)


def _loaded(location: Location, device: str, allow_pickle: bool) -> ImageModel:
    try:
        net = _build(location)
    except ModelError as refused:
        if forget_damaged(location):
            location = locate(location.name, allow_pickle=allow_pickle)
            net = _build(location)
        elif location.source == "package":
            location, net = _in_place_of(location, refused, allow_pickle)
        else:
            raise
    identity = WeightIdentity(
        location.source, location.repo, location.revision, weights_sha256(location), tensors_digest(net.state_dict())
    )
    if location.source == "hub":
        disk.hold(location.weights, net)
    with _fitting(location):
        model = ImageModel(net, location.name, identity).to(resolve_device(device))
    ACCOUNT.keep(model.tensors)
    return model


def _in_place_of(package: Location, refused: ModelError, allow_pickle: bool) -> tuple[Location, nn.Module]:
    """The network on the Hub that has the name of a refused package."""
    log.warning("%s", refused)
    try:
        location = locate(package.name, allow_pickle=allow_pickle, packages=False)
    except ModelError as error:
        raise ModelError(f"{str(refused).rstrip('.')}; and {error}") from error
    return location, _build(location)


def _build(location: Location) -> nn.Module:
    """The network of a location. Where memory is bounded it is asked for first, and counted for as long as the network is there.

    Raises:
        ModelError: its files are damaged, or do not fit.
        MemoryLimitError: it takes more than there is.
    """
    if ACCOUNT.limit is None:
        return _filled(location)
    try:
        found = _location_footprint(location)
    except Exception:  # a configuration that is wrong, which loading it will say
        found = Footprint(location.weights.stat().st_size, 0, (0, 0))
    height, width = found.size
    what = f"{location.name}, with {readable(found.weights)} of weights and pictures of {width} × {height} pixels,"
    with ACCOUNT.room(max(_READING * found.weights, found.weights + found.passes(LOOK)), what):
        net = _filled(location)
        ACCOUNT.keep((*net.parameters(), *net.buffers()))
    _footprints[net] = found
    return net


def _known(location: Location) -> str:
    """By which timm knows a network."""
    return location.name if location.config is None else f"local-dir:{location.config.parent}"


def _location_footprint(location: Location) -> Footprint:
    """Of a network that is not loaded. Raises whatever a foreign configuration makes timm or torch raise."""
    import timm
    from timm.data import resolve_data_config

    with quiet("timm"), no_deeper_than(location.weights):
        net = hollow(lambda: timm.create_model(_known(location)))
    channels, height, width = resolve_data_config(pretrained_cfg=net.pretrained_cfg)["input_size"]
    return footprint(net, height, width, channels)


_footprints: "weakref.WeakKeyDictionary[nn.Module, Footprint]" = weakref.WeakKeyDictionary()


def model_footprint(model: ImageModel | str) -> Footprint:
    """What a model takes in memory: its weights, and each picture of a pass. Nothing is loaded, and no memory taken.

    Args:
        model: one that is there, or a name for `load_model`; of one on the Hub the files are downloaded.

    Raises:
        ModelError: it cannot be had.
    """
    if isinstance(model, str):
        try:
            return _location_footprint(locate(model))
        except LSDError:
            raise
        except Exception as error:
            raise ModelError(f"What {model} takes cannot be told, its configuration is damaged.") from error
    if model.net not in _footprints:
        size = model.spec.height, model.spec.width, 1 if model._is_grey else 3
        with model.lock:
            try:
                found = footprint(hollowed(model.net), *size)
            except Exception:  # its way depends on numbers: a pass with them tells
                found = footprint(model.net, *size)
        _footprints[model.net] = found
    return _footprints[model.net]


def _filled(location: Location) -> nn.Module:
    """The network with its weights."""
    import timm

    if location.source == "package":
        net = timm.create_model(location.name)
        packages.load_into(net, location.name, location.weights)
        return net
    architecture = read_config(location)["architecture"]
    if not timm.is_model(architecture):
        raise ModelError(
            f"{location.name} is a “{architecture}”, which this version of timm ({timm.__version__}) lacks."
        )
    # The weights file is named outright, because timm left to itself may prefer a pickled one beside it.
    overlay = {"file": str(location.weights), "source": "", "custom_load": False}
    # timm warns of each key of a head that is not used; that is not for the user's eyes.
    with quiet("timm"), _fitting(location), no_deeper_than(location.weights):
        net = timm.create_model(_known(location), pretrained=True, pretrained_cfg_overlay=overlay)
    trained = (getattr(net, "pretrained_cfg", None) or {}).get("num_classes")
    if net.num_classes and trained is not None and trained != net.num_classes:  # timm draws such a head by chance
        raise ModelError(
            f"The config.json of {location.name} asks for {net.num_classes} classes in its model_args, and its weights are for "
            f"{trained}; correct one of the two."
        )
    return net


@contextlib.contextmanager
def _fitting(location: Location) -> Iterator[None]:
    """Raises ModelError for whatever a damaged file or a foreign configuration makes timm or torch raise in the block."""
    try:
        yield
    except LSDError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = textwrap.shorten(str(error), 160, placeholder=" …").rstrip(".:") or type(error).__name__
        raise ModelError(f"{location.name} cannot be loaded, its files are damaged or do not fit: {reason}.") from error


class ModelCache:
    """Loaded models, the least recently used ones dropped when they exceed `max_bytes` together.

    Thread-safe. Whoever asks for a model that is being loaded waits for that load instead of starting another. A model
    that is dropped while somebody still uses it lives on until they let go of it.
    """

    def __init__(self, max_bytes: int = DEFAULT_CACHE_BYTES, load=load_model):
        self._max_bytes = max_bytes
        self._load = load
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, Future[ImageModel]] = OrderedDict()

    def get(self, name: str) -> ImageModel:
        """The model called `name`, loaded if it is not there yet. Raises what `load_model` raises."""
        with self._lock:
            future = self._entries.get(name)
            mine = future is None
            if mine:
                future = self._entries[name] = Future()
            self._entries.move_to_end(name)
        if mine:
            try:
                future.set_result(self._load(name))
            except BaseException as error:
                with self._lock:  # a failure is not kept: the next user tries again
                    self._entries.pop(name, None)
                future.set_exception(error)
            else:
                self._evict(keep=name)
        return future.result()

    def peek(self, name: str) -> ImageModel | None:
        """The model called `name` if it is loaded already, else None."""
        with self._lock:
            future = self._entries.get(name)
        return future.result() if future is not None and future.done() and not future.exception() else None

    def forked(self) -> None:
        """In a process that was forked: forget what other threads were loading, who are not there, and whatever lock they held."""
        self._lock = threading.Lock()
        self._entries = OrderedDict((name, future) for name, future in self._entries.items() if future.done())

    def _evict(self, keep: str) -> None:
        with self._lock:
            loaded = {n: f.result().nbytes for n, f in self._entries.items() if f.done()}
            total = sum(loaded.values())
            for name, size in loaded.items():
                if total <= self._max_bytes:
                    break
                if name != keep:
                    del self._entries[name]
                    total -= size

    def let_go(self) -> bool:
        """Drop the model that was not asked for longest; whether there was one."""
        with self._lock:
            name = next((n for n, f in self._entries.items() if f.done()), None)
            return self._entries.pop(name, None) is not None

    def names(self) -> list[str]:
        """Names of the models that are loaded, the least recently used first."""
        with self._lock:
            return [n for n, f in self._entries.items() if f.done()]


_cache = ModelCache()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_cache.forked)
ACCOUNT.offers(_cache.let_go)


def get_model(name: str) -> ImageModel:
    """`load_model` through one cache for the whole process."""
    return _cache.get(canonical(name))


def loaded_model(name: str) -> ImageModel | None:
    """The model called `name` if it is in that cache already, else None; nothing is loaded."""
    return _cache.peek(canonical(name))


def holds(location: Location, digest: str | None, sha256: str | None) -> bool:
    """Whether the files at a location hold the weights of a record: the same file, or else the same tensors.

    Only if the file is another is the network built, from just these files, to compare the tensors; once for each state of
    the file.

    Raises:
        ModelError: the network has to be built, and cannot be.
    """
    if weights_sha256(location) == sha256:
        return True
    return bool(digest) and _digest(location, file_state(location.weights)) == digest


@functools.lru_cache(maxsize=256)
def _digest(location: Location, state: tuple[int, int]) -> str:
    return tensors_digest(_build(location).state_dict())


__all__ = [
    "ImageModel",
    "ModelCache",
    "get_model",
    "holds",
    "load_model",
    "loaded_model",
    "model_footprint",
    "ready_models",
    "resolve_device",
]
