"""The folder in which timm keeps a model: `config.json` and `model.safetensors`."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save as to_bytes
from torch import nn

from lsd.demo.dataset import CLASS_NAMES
from lsd.demo.recipes import Recipe


def save(model: nn.Module, recipe: Recipe, folder: Path, measured: dict[str, Any]) -> None:
    """Write a model so that `timm.create_model("local-dir:FOLDER", pretrained=True)` gives it back.

    Args:
        model: a model that the recipe built.
        recipe: its recipe.
        folder: made if it does not exist; files of an earlier model are replaced.
        measured: kept in the configuration under "lsd_demo"; timm passes over it.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    # Not `save_file`, whose files only their owner may read.
    (folder / "model.safetensors").write_bytes(to_bytes(weights, metadata={"format": "pt"}))
    (folder / "config.json").write_text(json.dumps(_config(model, recipe, measured), indent=2) + "\n", encoding="utf-8")


def _config(model: nn.Module, recipe: Recipe, measured: dict[str, Any]) -> dict[str, Any]:
    known = model.pretrained_cfg
    pool_side = recipe.input_size[1] // recipe.model_args.get("output_stride", 32)
    return {
        "architecture": recipe.architecture,
        "num_classes": len(CLASS_NAMES),
        "num_features": model.num_features,
        "model_args": recipe.model_args,
        "pretrained_cfg": {
            "tag": "lsd_demo",
            "custom_load": False,
            "input_size": list(recipe.input_size),
            "fixed_input_size": known["fixed_input_size"],
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": list(recipe.mean),
            "std": list(recipe.std),
            "num_classes": len(CLASS_NAMES),
            "pool_size": None if known["pool_size"] is None else [pool_side, pool_side],
            "first_conv": known["first_conv"],
            "classifier": known["classifier"],
            "license": "apache-2.0",
            "description": recipe.description,
        },
        "label_names": list(CLASS_NAMES),
        "lsd_demo": measured,
    }
