"""One line of JSON for each job, for whoever runs the page: what it was, of which networks, how long it waited and ran, and how it
ended. It says nothing of who asked, nor of what picture; a network of a folder has no name in it.

    LSD_LOG     json or off; by default json on a public page, else off
"""

import json
import logging
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lsd.errors import LSDError
from lsd.public import is_public

_jobs = logging.getLogger("lsd.jobs")


def start() -> None:
    """Write the lines to stderr from now on, if they are wanted."""
    if os.environ.get("LSD_LOG", "json" if is_public() else "off").strip().lower() != "json":
        return
    if not _jobs.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        _jobs.addHandler(handler)
    _jobs.setLevel(logging.INFO)
    _jobs.propagate = False


@dataclass
class Account:
    """Of one job.

    Attributes:
        kind: what it is: a tab's work or an endpoint.
        models: that were loaded for it.
        method: or recipe, or what else it was about.
        waited: seconds in the line, or for its place to come back.
        refused, failed: the kinds of its errors: those with a sentence for the visitor, and all others.
    """

    kind: str
    models: dict[str, None] = field(default_factory=dict)
    method: str = ""
    waited: float = 0.0
    refused: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    def about(self, *models: str, method: str = "") -> None:
        """What it turns out to be about."""
        self.models |= {"local-dir" if name.startswith("local-dir:") else name: None for name in models}
        self.method = method or self.method

    def trouble(self, error: BaseException) -> None:
        """Something went wrong, of which the visitor is told."""
        (self.refused if isinstance(error, LSDError) else self.failed).append(type(error).__name__)

    def close(self, *, stopped: bool = False) -> None:
        """Write the line. The outcome is the worst that happened: of several models one that fails is enough."""
        errors = self.failed or self.refused
        outcome = "stopped" if stopped else "failed" if self.failed else "refused" if self.refused else "done"
        line = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"), "kind": self.kind, "models": list(self.models),
            "method": self.method, "waited": round(self.waited, 2),
            "ran": round(time.monotonic() - self.begun - self.waited, 2), "outcome": outcome,
            "error": errors[0] if errors else None,
        }  # fmt: skip
        _jobs.info("%s", json.dumps(line, ensure_ascii=False))
