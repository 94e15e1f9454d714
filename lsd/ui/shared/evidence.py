"""Where the evidence for each choice is on the page: its address, and the links to it.

?tab=choices&factor=sign                                          a choice
?tab=choices&factor=sign&model=demo:resnet&example=plain+circle   and its levels on one of the page's pictures
"""

from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from lsd.evaluation.choices import CHOICES
from lsd.ui.shared.examples import examples

TAB = "choices"
FIRST = next(iter(CHOICES))

_LENGTH = 200  # characters of a value that are read


@dataclass(frozen=True)
class Asked:
    """What an address asks for; "" for what it does not name.

    Attributes:
        factor: the choice.
        model, example: on which network and which of the page's pictures its levels are shown.
    """

    factor: str = FIRST
    model: str = ""
    example: str = ""


def write(asked: Asked) -> str:
    """The query that shows the same again."""
    pairs = {"tab": TAB, "factor": asked.factor, "model": asked.model, "example": asked.example}
    return urlencode({name: value for name, value in pairs.items() if value}, safe="/:")


def read(query: QueryParams) -> tuple[Asked, str]:
    """The inverse of `write`; and a sentence on each thing that the address names and that is not there, "" if all is."""
    wrong = []

    def one_of(name: str, known: object, what: str, instead: str) -> str:
        value = (query.get(name) or "").strip()[:_LENGTH]
        if not value or value in known:
            return value or instead
        wrong.append(f"There is no {what} “{value}”" + (", so here is the first." if instead else "."))
        return instead

    factor = one_of("factor", CHOICES, "choice", FIRST)
    example = one_of("example", examples(), "example", "")
    return Asked(factor, (query.get("model") or "").strip()[:_LENGTH], example), " ".join(wrong)


def address(factor: str) -> str:
    """From the “?” on."""
    return f"?{write(Asked(factor))}"


def why(factor: str) -> str:
    """A link from a control to the evidence for its default, as Markdown for the control's `info`."""
    return f"[why?]({address(factor)})"
