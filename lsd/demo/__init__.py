"""What makes LSD useful without a network: drawn pictures with known truth, and small models trained on them.

Importing this package does not import PyTorch.
"""

from pathlib import Path

from lsd.demo.dataset import CLASS_NAMES, IMAGE_SIZE, SPLIT_SEEDS, TAG_MODES, Sample, demo_set, render

__all__ = [
    "CLASS_NAMES",
    "IMAGE_SIZE",
    "MODELS_DIR",
    "SPLIT_SEEDS",
    "TAG_MODES",
    "Sample",
    "demo_models",
    "demo_set",
    "render",
]

MODELS_DIR = Path(__file__).parent / "models"
"""Holds one folder per demo model, each in timm's layout: `config.json` and `model.safetensors`."""


def demo_models() -> list[str]:
    """The names of the demo models that are there, in alphabetical order; each is a folder of `MODELS_DIR`."""
    return sorted(config.parent.name for config in MODELS_DIR.glob("*/config.json"))
