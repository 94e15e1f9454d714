"""Numbers that whoever runs a process sets in its environment."""

import os


def number(variable: str) -> float | None:
    """What an environment variable says, from 0 up; None where it is not there, or is no such number."""
    said = os.environ.get(variable, "").strip()
    return float(said) if said.replace(".", "", 1).isdecimal() else None
