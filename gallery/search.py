"""What somebody who types into the search box means, in terms of the few classes, models, layers, kinds and recipes.

Pure: nothing here reads the gallery's rows. A gallery has hundreds of models and thousands of classes however many rows
it has, so words are looked up among those, and rows are found by what was found.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lsd import wordnet
from lsd.catalogue import common_name

LENGTH = 200  # characters that are read; more is no search but a file dropped into the box
WORDS = 12


@dataclass(frozen=True)
class Meaning:
    """What one word can stand for; a row fits if any of it fits.

    Attributes:
        classes: places in the vocabulary's list of classes.
        models, layers, kinds, recipes: their names.
        index: the first number of a unit: class 207, channel 207; None for words that are no number.
        path: part of a unit's id, in lower case, such as "layer3/channel/12"; "" for words without a slash.
        text: the word, in lower case, to be looked for where units are spelled out (contrasts, sums); "" for none.
    """

    classes: frozenset[int] = frozenset()
    models: frozenset[str] = frozenset()
    layers: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    recipes: frozenset[str] = frozenset()
    index: int | None = None
    path: str = ""
    text: str = ""


class Vocabulary:
    """Everything that a word can name.

    Args:
        classes: (all synonyms, WordNet id or "") of each distinct class.
        models, layers, kinds, recipes: their names.
    """

    def __init__(
        self,
        classes: Sequence[tuple[str, str]],
        models: Iterable[str],
        layers: Iterable[str],
        kinds: Iterable[str],
        recipes: Iterable[str],
    ):
        self.classes = list(classes)
        self._names = [name.lower() for name, _ in classes]
        self._synsets = [synset for _, synset in classes]
        self._models, self._layers = sorted(set(models)), sorted(set(layers))
        self._called = {model: f"{model} {common_name(model)}".lower() for model in self._models}
        self._kinds, self._recipes = sorted(set(kinds)), sorted(set(recipes))

    def find_classes(self, phrase: str) -> frozenset[int]:
        """The classes that `phrase` names: a part of a name, a WordNet id, or something that WordNet has above them.

        A part of a name has to begin a word; inside a word it counts only if nothing else is named.
        """
        phrase = phrase.lower()
        above = wordnet.below(phrase) | wordnet.named(phrase) | {phrase}
        begins = re.compile(rf"(?<!\w){re.escape(phrase)}")
        inside = [i for i, name in enumerate(self._names) if phrase in name]
        found = {i for i, synset in enumerate(self._synsets) if synset and synset in above}
        found.update(i for i in inside if begins.search(self._names[i]))
        return frozenset(found or inside)

    def meanings(self, search: str) -> list[Meaning]:
        """What every row must fit, each of it; nothing for an empty search.

        Several words that name a class as they stand together mean that class and nothing else.
        """
        words = split(search)
        if len(words) > 1 and (classes := self.find_classes(" ".join(words))):
            return [Meaning(classes)]
        return [self._meaning(word) for word in words]

    def find_all_classes(self, search: str) -> list[int]:
        """The classes that the words of `search` name together, or each of them; all for an empty search."""
        words = split(search)
        found = self.find_classes(" ".join(words)) if words else frozenset(range(len(self.classes)))
        if not found and len(words) > 1:
            found = frozenset.intersection(*(self.find_classes(word) for word in words))
        return sorted(found, key=lambda i: (self._names[i], self._synsets[i]))

    def _meaning(self, word: str) -> Meaning:
        if word.isdecimal():
            number = re.compile(rf"(?<!\d){word}(?!\d)")
            return Meaning(
                models=frozenset(m for m in self._models if number.search(m)),
                index=int(word) if len(word) < 10 else None,
            )
        return Meaning(
            classes=self.find_classes(word),
            models=frozenset(m for m, called in self._called.items() if word in called),
            layers=frozenset(layer for layer in self._layers if word in layer.lower()),
            kinds=frozenset(k for k in self._kinds if k.lower().startswith(word)),
            recipes=frozenset(r for r in self._recipes if r.lower().startswith(word)),
            path=word if "/" in word else "",
            text=word,
        )


def split(search: str) -> list[str]:
    """The words of a search, in lower case; of very much text only the beginning."""
    text = search[:LENGTH].encode(errors="ignore").decode()  # half a surrogate pair is no text for a database
    return text.replace("\0", " ").lower().split()[:WORDS]
