"""Real weights and photos for the tests that need them; where there are none, those tests are skipped and say so."""

import json
import os
import sys
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import settings
from safetensors.torch import save_file

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for `benchmarks.families`, however pytest is started

settings.register_profile("lsd", deadline=None)  # a loaded machine is no failure
settings.load_profile("lsd")
torch.set_num_threads(1)  # the networks of the tests are too small to share out


def _folder(variable: str, beside: str, wanted: str) -> Path:
    """The first folder, of those in the environment variable or else beside the repository, that holds `wanted`."""
    given = [Path(folder) for folder in os.environ.get(variable, "").split(os.pathsep) if folder]
    for folder in given or [ROOT.parent / "shared" / beside]:
        if any(folder.glob(wanted)):
            return folder
    pytest.skip(f"no real {beside} here: set {variable} to a folder with {wanted}")


@pytest.fixture(scope="session")
def real_models() -> Path:
    """A folder of trained models in timm's layout."""
    return _folder("LSD_MODEL_PATH", "models", "*/model.safetensors")


@pytest.fixture(scope="session")
def real_images() -> list[Path]:
    """ImageNet photos, their class index in the first four letters of the file's name."""
    return sorted(_folder("LSD_IMAGE_PATH", "images", "[0-9]*_*.jpg").glob("[0-9]*_*.jpg"))


@pytest.fixture(scope="session")
def small_vit(tmp_path_factory) -> str:
    """The name of a small transformer whose attention can be read: two heads of four layers over 10 × 10 places."""
    torch.manual_seed(0)
    net, folder = timm.create_model("test_vit", num_classes=10), tmp_path_factory.mktemp("small_vit")
    about = {"architecture": "test_vit", "num_classes": 10, "pretrained_cfg": net.pretrained_cfg | {"tag": None}}
    (folder / "config.json").write_text(json.dumps(about))
    save_file(net.state_dict(), folder / "model.safetensors")
    return f"local-dir:{folder}"
