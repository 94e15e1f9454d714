"""How much of a picture a network is shown."""

import contextlib
import operator
from dataclasses import dataclass

from lsd.errors import LSDError

WHOLE = ("evaluated", "squashed", "padded")


@dataclass(frozen=True)
class View:
    """What of a picture goes into the network, and how it is brought to the network's input.

    Attributes:
        what: "evaluated": resized and cropped as the network is evaluated; "squashed": the whole picture, resized to the input
            without keeping its aspect; "padded": the whole picture inside the input, and the mean that the network subtracts
            around it; or a square (left, top, side) in pixels of the upright picture, resized to the input, which distorts it
            where the input is no square.

    Raises:
        LSDError: none of these.
    """

    what: str | tuple[int, int, int] = "evaluated"

    def __post_init__(self):
        if isinstance(self.what, str):
            if self.what not in WHOLE:
                raise _no_view(self.what)
            return
        try:
            left, top, side = map(operator.index, self.what)
        except (TypeError, ValueError):
            raise _no_view(self.what) from None
        if left < 0 or top < 0:
            raise LSDError(
                f"The square {left},{top},{side} begins outside of the picture: left and top are at least 0."
            )
        if side < 1:
            raise LSDError(f"The square {left},{top},{side} has no area: its side is at least 1 pixel.")
        object.__setattr__(self, "what", (left, top, side))

    @classmethod
    def parse(cls, view: "str | tuple[int, int, int] | View") -> "View":
        """The view that is written as `str` writes it, "padded" or "40,0,300", or given as `what` or whole.

        Raises:
            LSDError: no such view.
        """
        if isinstance(view, View):
            return view
        if isinstance(view, str):
            view = view.strip()
            if view.count(",") == 2:
                with contextlib.suppress(ValueError):
                    view = tuple(int(number) for number in view.split(","))
        return cls(view)

    def __str__(self) -> str:
        return self.what if isinstance(self.what, str) else ",".join(map(str, self.what))

    def part(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """The part of a (width, height) picture that is cut out before anything else: (left, top, right, bottom).

        Raises:
            LSDError: a square that reaches beyond the picture.
        """
        if isinstance(self.what, str):
            return 0, 0, *size
        left, top, side = self.what
        if left + side > size[0] or top + side > size[1]:
            raise LSDError(f"The square {self} reaches beyond the picture, which has {size[0]} × {size[1]} pixels.")
        return left, top, left + side, top + side


def _no_view(view: object) -> LSDError:
    return LSDError(f"“{view}” is no view: give {', '.join(WHOLE)}, or a square as LEFT,TOP,SIDE in whole pixels.")


EVALUATED = View()
