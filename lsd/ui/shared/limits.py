"""How much one visitor may ask for at a time; the command line knows no such limits."""

from collections.abc import Mapping, Sequence
from typing import Any

from lsd.environment import number
from lsd.errors import LSDError
from lsd.public import is_public

MAX_MODELS = 4  # explained side by side
MAX_LANES = 3  # visualized side by side
MAX_STEPS, MAX_SIDE, MAX_SEEDS, MAX_VIEWS = 1024, 512, 8, 32  # of an ascent on the page
MAX_BATCH = 32  # pictures in one pass of a method: 1.4 GB of a ResNet-50
MAX_OTHERS = 3  # networks that a unit names besides its own: each is loaded
MAX_PROGRAM_STEPS = 512  # of an ascent by the endpoint
MAX_UPLOAD = "24mb"
MAX_SESSION_EVENTS = 32  # that one page has asked for and that are not done; a browser has a handful
MAX_CLIENT_EVENTS = (
    128  # and all pages and programs of one address together, on a public page: a class may sit behind it
)
_JOB_SECONDS = 120  # on a public page
_REQUESTS_A_MINUTE = 60  # of the programs of one address, on a public page


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raises LSDError where a method's settings ask for more than everybody may have: too many pictures in one pass, or files."""
    if settings.get("batch_size", 0) > MAX_BATCH:
        raise LSDError(f"batch_size is at most {MAX_BATCH} here: it bounds the memory, and changes nothing else.")
    if settings.get("photos"):
        raise LSDError("A folder of photos is for the command line and the library; here the example photos serve.")


def check_others(models: Sequence[str]) -> None:
    """Raises LSDError where a unit names too many networks besides its own."""
    if len(models) > MAX_OTHERS:
        raise LSDError(
            f"The unit names {len(models)} networks besides its own, and at most {MAX_OTHERS} are loaded here."
        )


def job_seconds() -> float | None:
    """How long one job may hold a place: `LSD_JOB_SECONDS`, by default two minutes on a public page and no limit elsewhere."""
    return _limit("LSD_JOB_SECONDS", _JOB_SECONDS)


def requests_a_minute() -> float | None:
    """How many requests of one client's programs are answered: `LSD_REQUESTS_A_MINUTE`, by default 60 on a public page and any
    number elsewhere."""
    return _limit("LSD_REQUESTS_A_MINUTE", _REQUESTS_A_MINUTE)


def _limit(variable: str, default: float) -> float | None:
    asked = number(variable)
    if asked is not None:
        return asked or None
    return default if is_public() else None
