"""What a person says of several networks at once, as texts: the same grammar on the command line and in a plan's file."""

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass

from lsd.errors import LSDError
from lsd.said import NOTHING, Said

ALL = ""  # in place of a model's name


@dataclass(frozen=True)
class Sayings:
    """Something said of all models, and something of some; nothing, by default.

    Attributes:
        pairs: (a model's name or a wildcard, or `ALL`; what is said of it), in the order in which they were said.
    """

    pairs: tuple[tuple[str, Said], ...] = ()

    @classmethod
    def read(cls, outputs: Iterable[str] = (), layouts: Iterable[str] = ()) -> "Sayings":
        """What the texts say; `lsd.said.Said` has the words.

        Args:
            outputs: "WHAT" of all models, or "MODEL=WHAT" of one.
            layouts: "NAME=HOW" or "MODEL=NAME=HOW".

        Raises:
            LSDError: a text that says nothing.
        """
        pairs = []
        for text in outputs:
            model, equals, what = text.rpartition("=")
            if not what or (equals and not model):
                raise LSDError(
                    f"“{text}” does not say what outputs are; write sigmoid, or MODEL=sigmoid for one model."
                )
            pairs.append((model, Said(what)))
        for text in layouts:
            *of, name, how = ["", *text.rsplit("=", 2)][-3:]
            if not (name and how) or (text.count("=") > 1 and not all(of)):
                raise LSDError(
                    f"“{text}” is not a layout; write NAME=HOW, such as blocks.3=tokens:1, or MODEL=NAME=HOW for one model."
                )
            pairs.append((of[0], Said(layouts={name: how})))
        return cls(tuple(pairs))

    def of(self, name: str, *, asked: bool = True) -> Said:
        """What is said of the model of that name: of it alone goes before what is said of all.

        Args:
            asked: whether it is one that everything is asked of; what is said of all is not said of those that only judge.
        """
        told = NOTHING
        for model, said in sorted(self.pairs, key=lambda pair: pair[0] != ALL):
            if fnmatch.fnmatchcase(name, model) or (model == ALL and asked):
                told |= said
        return told

    def check(self, names: Iterable[str]) -> None:
        """Raises LSDError where something is said of a model that is none of these."""
        names = list(dict.fromkeys(names))
        for model, _ in self.pairs:
            if model != ALL and not fnmatch.filter(names, model):
                raise LSDError(f"Something is said of {model}, which is not asked; asked are {', '.join(names)}.")


def texts(said: Said, model: str = ALL) -> dict[str, list[str]]:
    """What `Sayings.read` makes that of again, by the options' names: {"outputs": […], "layout": […]}.

    Args:
        model: of which it is said; `ALL` for all.
    """
    of = f"{model}=" if model else ""
    return {
        "outputs": [f"{of}{said.outputs}"] if said.outputs else [],
        "layout": [f"{of}{name}={how}" for name, how in said.layouts],
    }


NOTHING_OF_ANY = Sayings()
