"""What the page says of an error."""

import logging
from textwrap import shorten

from lsd.disk import is_full
from lsd.errors import LSDError
from lsd.memory import is_out_of_memory

_LONGEST = 2000  # characters of a sentence

log = logging.getLogger("lsd")


def told(error: BaseException) -> str:
    """Its own sentence if it was written for users, that memory or the disk is short, else that we failed; the log has the rest."""
    if isinstance(error, LSDError):
        return shorten(str(error), _LONGEST, placeholder=" …")  # names of any length are repeated in them
    if is_out_of_memory(error):
        log.warning("out of memory: %s", shorten(str(error), 200))
        return "There is not enough memory for that here: ask for less at a time, or for a smaller model."
    if is_full(error):
        log.warning("the disk is full: %s", error)
        return "The disk is full here; please try again in a few minutes."
    log.error("unexpected error", exc_info=error)
    return f"Something went wrong on our side ({type(error).__name__}); please try other settings."
