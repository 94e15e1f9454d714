"""What a label means to a model: from the words, WordNet ids and numbers of a data set to the index of a class."""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from lsd import labels
from lsd.errors import UndefinedError
from lsd.groups import class_synsets
from lsd.models import ImageModel


@dataclass(frozen=True)
class Label:
    """What a picture is said to show.

    Attributes:
        name: comma-separated synonyms, as the set gives them.
        synset: WordNet id, or None.
        number: the label's place in `space`, or None.
        space: all names of the set's label space, in order; digits alone where the classes have no names.
    """

    name: str
    synset: str | None = None
    number: int | None = None
    space: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @property
    def text(self) -> str:
        """The first synonym."""
        return labels.short(self.name)


class ClassIndex:
    """What labels mean to one model. The first of these rules that applies decides:

    1. The label has a WordNet id, and the model's classes have theirs: the class of that id.
    2. The label has a number, and its label space is the model's: as many classes, nine in ten of whose names agree
       with the model's at the same number, or names on one side only. So a file `0207_….jpg` counts as class 207 of an
       ImageNet-1k head, and elsewhere only by its WordNet id or its name.
    3. The class of the same name or else with a synonym in common, whatever the case, with `_` and `-` as spaces.
    """

    def __init__(self, model: ImageModel):
        self.model = model
        self._nameless = all(name == f"class {i}" for i, name in enumerate(model.class_names))
        self._by_synset = {synset: i for i, synset in enumerate(class_synsets(model))}
        self._synonyms = [_synonyms(name) for name in model.class_names]
        self._by_name = _positions([_plain(name)] for name in model.class_names)
        self._by_synonym = _positions(self._synonyms)
        self._agreement: dict[tuple[str, ...], bool] = {}

    def candidates(self, label: Label) -> list[int]:
        """The model's classes that `label` may mean, ascending: none, one, or several by the same name."""
        if label.synset and self._by_synset:
            return [self._by_synset[label.synset]] if label.synset in self._by_synset else []
        if label.number is not None and self._agrees(label.space):
            return [label.number]
        similar = {i for synonym in _synonyms(label.name) for i in self._by_synonym.get(synonym, ())}
        return self._by_name.get(_plain(label.name)) or sorted(similar)

    def find(self, label: Label) -> int:
        """The one class that `label` means.

        Raises:
            UndefinedError: none, or several by the same name.
        """
        found = self.candidates(label)
        if not found:
            raise UndefinedError(f"“{label.text}” is not a class of {self.model.name}; choose a model trained on it.")
        if len(found) > 1:
            some = ", ".join(str(i) for i in found[:5])
            raise UndefinedError(
                f"“{label.text}” fits several classes of {self.model.name} ({some}); name its folder by WordNet id."
            )
        return found[0]

    def _agrees(self, space: tuple[str, ...]) -> bool:
        if space not in self._agreement:
            self._agreement[space] = len(space) == self.model.num_classes and (
                self._nameless
                or all(name.isdecimal() for name in space)
                or np.mean([bool(_synonyms(a) & b) for a, b in zip(space, self._synonyms, strict=True)]) >= 0.9
            )
        return self._agreement[space]


def label_index(label: Label, model: ImageModel) -> int:
    """The class of `model` that `label` means, by the rules of `ClassIndex`; for many labels, keep a `ClassIndex`.

    Raises:
        UndefinedError: none, or several by the same name.
    """
    return ClassIndex(model).find(label)


def _positions(names: Iterable[Iterable[str]]) -> dict[str, list[int]]:
    """Name → the ascending positions of those that go by it."""
    found: dict[str, list[int]] = {}
    for i, own in enumerate(names):
        for name in own:
            found.setdefault(name, []).append(i)
    return found


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", name.casefold())).strip()


@functools.cache
def _synonyms(name: str) -> frozenset[str]:
    return frozenset(filter(None, map(_plain, name.split(","))))
