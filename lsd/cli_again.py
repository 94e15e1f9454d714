"""What the commands have in common that make the results of a manifest again: its file, its picture, its threads, its weights."""

from collections.abc import Callable
from pathlib import Path

from lsd.errors import LSDError


def read(manifest: Path, parse: Callable[[bytes], dict]) -> dict:
    """A manifest's record, and as many threads as it was made with: another number splits the sums differently.

    Args:
        parse: what checks its content.

    Raises:
        LSDError: a file that cannot be read, or what `parse` raises.
    """
    import torch

    try:
        record = parse(manifest.read_bytes())
    except OSError as error:
        raise LSDError(f"{manifest} cannot be read: {error.strerror}.") from error
    torch.set_num_threads(record["environment"]["threads"])
    return record


def find_file(file: dict, given: Path | None, manifest: Path, what: str, how: str) -> Path:
    """Where a file of a manifest lies now: where the caller says, beside the manifest, or where it was.

    Args:
        file: "file" (its name), "path" (where it was) and "sha256".
        what, how: what it is, and how the caller says where it lies, for people.

    Raises:
        LSDError: it is not there, or it is another one.
    """
    from lsd.images import file_sha256, picture_path

    candidates = [picture_path(given)] if given else [manifest.parent / file["file"], Path(file.get("path") or "")]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise LSDError(f"The {what} {file['file']} is not where it was; give its path {how}.")
    if file_sha256(path) != file["sha256"]:
        raise LSDError(f"{path} is not the {what} of this manifest: its SHA-256 differs; give the right one {how}.")
    return path


def check_weights(model, weights: dict) -> None:
    """Raises LSDError unless the model's weights are those of a manifest."""
    if not model.identity.is_told_by(weights):
        raise LSDError(f"The weights of {model.name} are not those of the manifest: their digests differ.")


def difference(new, arrays: Path, name: str) -> str:
    """By how much values (a tensor) differ from those of that name in an .npz file beside the manifest, in words."""
    import numpy as np
    import torch

    from lsd.saliency.crosscheck import relative_difference

    if not arrays.is_file():
        return f"different values ({arrays.name} is not beside the manifest, so by how much is not known)"
    with np.load(arrays) as stored:
        old = torch.from_numpy(stored[name])
    new = new.cpu()
    if old.shape != new.shape:
        return "different shapes: the model or its input size has changed"
    return f"different by {relative_difference(new, old):.1e} of the largest value; another machine or version?"
