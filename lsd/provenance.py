"""What every bundle of results shares: where it was made, by what, and how its files are called and written."""

import io
import json
import os
import platform
import re
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from PIL import Image

import lsd
from lsd import precision
from lsd.errors import LSDError

_PACKAGES = ("torch", "timm", "captum", "numpy", "pillow")


def slug(name: str) -> str:
    """A model's name as part of a file name: letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._") or "model"


def free_name(name: str, taken: Collection[str]) -> str:
    """A file name that is not taken, upper or lower case: `name` itself, or one made from it."""
    used = {other.lower() for other in taken}
    path, number = Path(name), 1
    while name.lower() in used:
        number += 1
        name = f"{path.stem}-{number}{path.suffix}"
    return name


def environment(device: torch.device) -> dict:
    """What numbers can depend on besides the request: versions, device, number of CPU threads."""
    return {
        "lsd": lsd.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        **{package: version(package) for package in _PACKAGES},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        **(_of_a_gpu() if device.type == "cuda" else {}),
    }


def _of_a_gpu() -> dict:
    return {"precision": precision.chosen(), "deterministic": precision.is_deterministic()}


def read_manifest(
    data: bytes | str, *, kind: str | None, format: int, is_whole: Callable[[dict], bool], otherwise: str
) -> dict:
    """A manifest's JSON, checked for what is needed to make its contents again.

    Args:
        kind, format: what it says of itself.
        is_whole: whether all that is needed is there; it may stumble over what is not.
        otherwise: a sentence on one of another kind, or that is not whole.

    Raises:
        LSDError: not JSON, not such a manifest, or of another format.
    """
    try:
        record = json.loads(data)
        own, known = record.get("kind") == kind, record.get("format") == format
        whole = own and (not known or is_whole(record))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LSDError("That file is not a manifest of this program: it is damaged, or some other JSON.") from error
    if not whole:
        raise LSDError(otherwise)
    if not known:
        raise LSDError(f"That manifest has format {record.get('format')}, and this program reads format {format}.")
    return record


def png(image: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(image: Image.Image) -> bytes:
    """A picture as the bytes of a JPEG file, for showing: an eighth of a PNG's size."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write every file, each whole or not at all; the folder is made if need be.

    Raises:
        LSDError: the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            temporary = folder / f".{name}.part"  # so that no file is ever half there under its own name
            temporary.write_bytes(data)
            os.replace(temporary, folder / name)
    except OSError as error:
        raise LSDError(f"Nothing can be written to {folder}: {error.strerror}; choose another --output.") from error
