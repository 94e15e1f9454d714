"""Which weights a network has: where they came from, and what they are, whatever file or source they came in."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

# How many batches were seen in training: a file may leave it out, and in evaluation nothing depends on it.
_UNUSED = "num_batches_tracked"


@dataclass(frozen=True)
class WeightIdentity:
    """Which weights exactly.

    Attributes:
        source: "demo", "local", "package", "hub" or "memory" (a network made by the caller).
        repo: the repository on the Hub, the package, or the folder's name.
        revision: commit on the Hub, version of the package, None elsewhere.
        sha256: of the weights file, in hex; None for "memory".
        digest: of the tensors themselves, see `tensors_digest`; None where it was not computed.
    """

    source: str
    repo: str
    revision: str | None
    sha256: str | None
    digest: str | None = None

    def to_dict(self) -> dict:
        """As plain JSON values."""
        return asdict(self)

    def is_of(self, digest: str | None, sha256: str | None) -> bool:
        """Whether these are the weights of a record with that digest, or, if it is from before there were digests
        (None or ""), of a record with that SHA-256 of the file."""
        return self.digest == digest if digest else self.sha256 == sha256

    def is_told_by(self, weights: Mapping[str, Any]) -> bool:
        """Whether these are the weights that a manifest tells of, as `to_dict` put them there."""
        return self.is_of(weights.get("digest"), weights.get("sha256"))


def tensors_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256, in hex, of a network's tensors: their names, shapes and values.

    The same for the same tensors, whatever file, format, order or floating-point type they came in: values are hashed as
    float32, or int64 where they are whole numbers, little-endian.

    Args:
        state: the network's `state_dict()`.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        if name.rpartition(".")[2] == _UNUSED:
            continue
        tensor = state[name].detach()
        kind = torch.float32 if tensor.is_floating_point() else torch.int64
        values = tensor.to("cpu", kind).contiguous().numpy()
        digest.update(json.dumps([name, list(values.shape)]).encode() + b"\n")
        digest.update(values.astype(values.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()
