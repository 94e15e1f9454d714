"""The errors that a user is meant to read.

Every one carries a single sentence that says what is wrong and what to do about it; the command line and the page
print that sentence and nothing else. Anything that is not an `LSDError` is a defect of the program.
"""


class LSDError(ValueError):
    """Base of all errors whose message is written for the user."""


class ImageError(LSDError):
    """A picture cannot be read: damaged, too large, not a picture."""


class ModelError(LSDError):
    """A model cannot be had: unknown, offline, too large, unsafe weights."""


class UndefinedError(LSDError):
    """A combination (method, model, target, layer, map option) has no meaning, so no map is made."""
