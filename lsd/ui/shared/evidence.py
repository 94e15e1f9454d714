"""Where the evidence for each choice is on the page: its address, the links to it, and how a link is followed.

?tab=choices&factor=sign

The links are real ones, so that a middle click opens a new page; `choices.js` follows a plain click within the page,
where nothing of what a visitor has made is lost.
"""

from collections.abc import Mapping
from urllib.parse import urlencode

from lsd.evaluation.choices import CHOICES

TAB = "choices"
FIRST = next(iter(CHOICES))


def address(factor: str) -> str:
    """From the “?” on."""
    return f"?{urlencode({'tab': TAB, 'factor': factor})}"


def read(query: Mapping) -> str | None:
    """The factor that an address asks for, `FIRST` where it names none that there is; None if it is another tab's."""
    return known(query.get("factor")) if query.get("tab") == TAB else None


def known(factor: object) -> str:
    """`factor`, or `FIRST` where there is none of that name."""
    return factor if isinstance(factor, str) and factor in CHOICES else FIRST


def why(factor: str) -> str:
    """A link from a control to the evidence for its default, as Markdown for the control's `info`."""
    return f"[why?]({address(factor)})"
