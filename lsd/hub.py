"""One file of the Hugging Face Hub, within a time: its client alone waits for minutes where the Hub accepts and then is silent."""

import threading
import time
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

BEGINNING = 60.0  # seconds within which something must come, …
SILENCE = 300.0  # … and between two times that something does: the client writes ten megabytes at a time
_GLANCE = 1.0  # seconds between two looks at what has come


def download(repo: str, filename: str, **settings: Any) -> Path:
    """The path of a file of a repository, fetched unless it is there; whoever else fetches it is waited for.

    Args:
        settings: as `huggingface_hub.hf_hub_download` takes them.

    Raises:
        TimeoutError: nothing comes any more. What has come stays, and the next time goes on from there.
        Exception: whatever the client raises.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.file_download import repo_folder_name

    kind = settings.get("repo_type") or "model"
    blobs = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type=kind) / "blobs"
    found: Future[str] = Future()

    def fetch() -> None:
        try:
            found.set_result(hf_hub_download(repo, filename, **settings))
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=fetch, name="lsd-download", daemon=True).start()
    seen, since, patience = _arriving(blobs), time.monotonic(), BEGINNING
    while not wait([found], _GLANCE).done:
        now = time.monotonic()
        if (state := _arriving(blobs)) != seen:
            seen, since, patience = state, now, SILENCE
        elif now - since > patience:
            raise TimeoutError(f"Nothing of {filename} has come for {patience:.0f} seconds.")
    return Path(found.result())


def reason(error: Exception) -> str:
    """Why a download failed, for the brackets of a sentence."""
    late = isinstance(error, TimeoutError) or "Timeout" in type(error).__name__
    return "the Hugging Face Hub does not answer" if late else type(error).__name__


def _arriving(blobs: Path) -> dict[str, tuple[int, int]]:
    """What differs whenever some part of a file has come."""
    found = {}
    for path in blobs.glob("*.incomplete"):
        try:
            state = path.stat()
        except OSError:  # complete by now
            continue
        if state.st_size:
            found[path.name] = state.st_size, state.st_mtime_ns
    return found
