"""Which mistakes are listed, and in what order. No Gradio here."""

from collections import Counter
from dataclasses import dataclass, fields, replace
from functools import partial

from lsd.catalogue import common_name
from lsd.evaluation.fooled_cases import CAUSES
from lsd.evaluation.mistakes import Prediction, ScanResult, select

ALL = "*"  # a filter that lets everything through
WRONG_BY = {"all": None, "one": {1}, "several": range(2, 100)}
ORDERS = {
    "confidence": "confidence", "margin": "margin", "true probability": "probability of the true class",
    "wrong by": "number of models wrong", "set": "none",
}  # fmt: skip


@dataclass(frozen=True)
class Filters:
    """Which mistakes are listed, and in what order; `ALL` in the first four sets no condition."""

    model: str = ALL
    true: str = ALL
    predicted: str = ALL
    cause: str = ALL
    wrong_by: str = "all"
    sort: str = "confidence"


NAMES = tuple(field.name for field in fields(Filters))


def find(result: ScanResult, filters: Filters) -> list[Prediction]:
    """The mistakes that pass the filters, in order."""
    fitting = select(
        result, None if filters.model == ALL else filters.model, sort=filters.sort, wrong_by=WRONG_BY[filters.wrong_by]
    )
    return [
        p for p in fitting
        if filters.true in (ALL, _class(result, p, "true")) and filters.predicted in (ALL, _class(result, p, "predicted"))
        and filters.cause in (ALL, cause_of(p))
    ]  # fmt: skip


def _class(result: ScanResult, p: Prediction, which: str) -> str:
    return result.class_names[result.row(p.model)][getattr(p, which)]


def cause_of(p: Prediction) -> str:
    """ "" where none was found."""
    return p.evidence.cause if p.evidence else ""


def choices(result: ScanResult, filters: Filters) -> dict[str, list[tuple[str, str]]]:
    """(text with a count, value) for every filter but the order; each counts what the others let through."""
    found = {}
    words = {"model": common_name, "cause": CAUSES.__getitem__}
    values = {"model": lambda p: p.model, "cause": cause_of}
    for name in ("model", "true", "predicted", "cause"):
        others = find(result, replace(filters, **{name: ALL}))
        value_of = values.get(name, partial(_class, result, which=name))
        counts = Counter(filter(None, map(value_of, others)))
        chosen = getattr(filters, name)
        if chosen != ALL:
            counts.setdefault(chosen, 0)
        found[name] = [
            (f"all ({len(others)})", ALL),
            *((f"{words.get(name, str)(value)} ({n})", value) for value, n in counts.most_common()),
        ]
    counts = {name: len(find(result, replace(filters, wrong_by=name))) for name in WRONG_BY}
    words = {"all": "any", "one": "just one", "several": "several"}
    found["wrong_by"] = [(f"{words[name]} ({n})", name) for name, n in counts.items()]
    return found
