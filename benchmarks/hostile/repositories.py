"""Repositories that nobody means well with: what a network's config.json and its weights can say."""

import io
import json
import pickle
import struct
from collections.abc import Callable
from typing import Any

import timm
import torch
from safetensors.torch import save

from benchmarks.hostile.values import MARKUP, NESTED

ARCHITECTURE, CLASSES, SIDE = "test_resnet", 10, 32


def config(architecture: Any = ARCHITECTURE, num_classes: Any = CLASSES, **pretrained: Any) -> dict:
    """A configuration in timm's layout."""
    own = {
        "input_size": [3, SIDE, SIDE],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "crop_pct": 1.0,
        "num_classes": num_classes,
    }
    own |= {"first_conv": "conv1.0", "classifier": "fc"} | pretrained
    return {"architecture": architecture, "num_classes": num_classes, "pretrained_cfg": own}


def repositories() -> dict[str, dict[str, bytes]]:
    """owner/name → file → content. “owner/honest” is a network that works."""
    torch.manual_seed(0)
    state = timm.create_model(ARCHITECTURE, num_classes=CLASSES).state_dict()
    weights = save(state)
    found = {"honest": {"config.json": json.dumps(config()).encode(), "model.safetensors": weights}}
    for name, said in _configs().items():
        text = said if isinstance(said, bytes) else json.dumps(said).encode()
        found[f"config-{name}"] = {"config.json": text, "model.safetensors": weights}
    for name, content in _weights(state, weights).items():
        found[f"weights-{name}"] = {"config.json": json.dumps(config()).encode()} | content
    return {f"owner/{name}": files for name, files in found.items()}


def _configs() -> dict[str, Any]:
    wrong: tuple[Any, ...] = (None, "many", -1, 0, 2.5, [], {}, True, NESTED)
    found: dict[str, Any] = {
        "none": b"", "no-json": b"{", "bytes": b"\xff\xfe\x00", "list": [], "nothing": {}, "nested": b"[" * 100_000,
        "architecture-nowhere": config("nowhere"), "architecture-module": config("os.system"),
        "architecture-path": config("../../x"),
        "architecture-hub": config("hf-hub:owner/honest"), "architecture-number": config(3), "architecture-markup": config(MARKUP),
        "classes-millions": config(num_classes=3_000_000), "classes-more": config(num_classes=10**30),
        "input-3000": config(input_size=[3, 3000, 3000]), "input-million": config(input_size=[3, 10**6, 10**6]),
        "input-zero": config(input_size=[3, 0, 0]),
        "input-negative": config(input_size=[3, -5, 32]), "input-one": config(input_size=[3]),
        "input-grey": config(input_size=[1, SIDE, SIDE]), "input-fraction": config(input_size=[3, 32.5, 32.5]),
        "mean-nan": config(mean=[float("nan")] * 3), "std-zero": config(std=[0, 0, 0]), "std-huge": config(std=[1e308] * 3),
        "crop-zero": config(crop_pct=0), "crop-nan": config(crop_pct=float("nan")), "crop-huge": config(crop_pct=1e9),
        "crop-tiny": config(crop_pct=1e-9), "interpolation": config(interpolation=MARKUP), "mode": config(crop_mode="../x"),
        "names-markup": config(label_names=[f"{MARKUP}{i}" for i in range(CLASSES)]),
        "names-few": config(label_names=["a"]), "names-numbers": config(label_names=list(range(CLASSES))),

        "names-nested": config(label_names=[[[i]] for i in range(CLASSES)]),
        "names-long": config(label_names=["x" * 10**6] * CLASSES),
        "names-odd": config(label_names=["\u202e\x00"] * CLASSES), "names-text": config(label_names="abcdefghij"),
        "descriptions": config(label_names=list("abcdefghij"), label_descriptions=[1]),
        "first-conv": config(first_conv="../../x"), "classifier": config(classifier=["a", 3]), "file": config(file="/etc/passwd"),
        "url": config(url="http://127.0.0.1:1/x.pth"),
        "hub-id": config(hf_hub_id="../../x"), "custom-load": config(custom_load=True),
        "tag": config(tag={"a": 1}), "architecture-in": config(architecture="test_resnet", label_names=None),
        "model-args": config() | {"model_args": {"num_classes": 3, "width": 10**9}}, "args-text": config() | {"model_args": "x"},
        "args-code": config() | {"model_args": {"act_layer": "__import__('os').system", "block": "x"}},
        "args-deep": config() | {"model_args": {"layers": [10**6] * 4}},
    }  # fmt: skip
    for field in (
        "input_size",
        "mean",
        "std",
        "crop_pct",
        "interpolation",
        "crop_mode",
        "num_classes",
        "label_names",
        "pool_size",
    ):
        found |= {
            f"{field.replace('_', '-')}-{i}": config(**{field: value})
            for i, value in enumerate(wrong)
            if field != "num_classes"
        }
    return found | {f"classes-{i}": config(num_classes=value) for i, value in enumerate(wrong)}


def _weights(state: dict, weights: bytes) -> dict[str, dict[str, bytes]]:
    def changed(change: Callable[[dict], Any]) -> bytes:
        other = {name: value.clone() for name, value in state.items()}
        return save(change(other))

    def headed(header: Any, body: bytes = bytes(100)) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + body

    class Runs:
        def __reduce__(self):
            return exec, ("open('/tmp/lsd-hostile-pickle', 'w')",)

    pickled, first = io.BytesIO(), next(iter(state))
    torch.save({"a": Runs()}, pickled)
    tensor = {"dtype": "F32", "shape": [10], "data_offsets": [0, 40]}
    safe = {
        "none": b"", "cut": weights[: len(weights) // 2], "cut-header": weights[:20],
        "header-huge": struct.pack("<Q", 2**63) + b"{}",
        "header-no-json": headed(b"{{{"), "offsets-beyond": headed({"a": tensor | {"data_offsets": [0, 2**60]}}),
        "offsets-back": headed({"a": tensor | {"data_offsets": [40, 0]}}), "shape-huge": headed({"a": tensor | {"shape": [2**40]}}),
        "shape-negative": headed({"a": tensor | {"shape": [-1]}}), "dtype": headed({"a": tensor | {"dtype": MARKUP}}),
        "overlap": headed({"a": tensor, "b": tensor}), "missing": changed(lambda s: {k: v for k, v in s.items() if k != first}),
        "extra": changed(lambda s: s | {MARKUP: torch.zeros(3)}),
        "shapes": changed(lambda s: {k: v.flatten() for k, v in s.items()}),
        "nan": changed(lambda s: {k: v * float("nan") if v.is_floating_point() else v for k, v in s.items()}),
        "huge": changed(lambda s: {k: v * 1e38 if v.is_floating_point() else v for k, v in s.items()}),
        "integers": changed(lambda s: {k: v.to(torch.int8) for k, v in s.items()}), "pickle-in-it": pickled.getvalue(),
        "plain-pickle": pickle.dumps(Runs()),
    }  # fmt: skip
    found = {name: {"model.safetensors": content} for name, content in safe.items()}
    return found | {f"only-{name}": {name: pickled.getvalue()} for name in ("pytorch_model.bin", "model.pth")}
