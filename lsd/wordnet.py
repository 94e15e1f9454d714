"""What lies below a word: the dogs, birds or vehicles among ImageNet's classes, by WordNet's tree of nouns.

The tree is a file beside this module, made by `lsd.wordnet_build` from WordNet 3.0, whose notice is `WORDNET_LICENSE`
("WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved."). It holds every class of timm's ImageNet
tables and everything above those; no id of the tables is missing from WordNet 3.0. A synset (a set of synonyms, one
meaning) is known by its ImageNet id, such as n02084071 for the dog.
"""

import functools
import gzip
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).with_name("wordnet.json.gz")
"""The tree; `lsd.wordnet_build` says what is in it."""

_ENDINGS = (("s", ""), ("es", ""), ("ies", "y"), ("men", "man"))


class _Tree(NamedTuple):
    lemmas: dict[str, tuple[str, ...]]  # of each synset, the usual one first
    parents: dict[str, tuple[str, ...]]
    children: dict[str, list[str]]
    senses: dict[str, list[str]]  # of each lemma in lower case, the one that `below` takes first
    plurals: dict[str, str]  # the irregular ones


def named(query: str) -> frozenset[str]:
    """The ids of all synsets that bear the name `query`, whatever they mean.

    Args:
        query: a name as WordNet has it. Upper case and underscores for spaces make no difference, and a plural is taken
            for its singular unless it is a name itself: "dogs", but not "glasses", which are not several tumblers.

    Returns:
        Ids such as n02084071: classes of ImageNet and synsets above classes; empty for an unknown name.
    """
    return frozenset(_senses(query))


@functools.lru_cache(maxsize=256)
def below(query: str) -> frozenset[str]:
    """The ids of all synsets at or below one meaning of `query`: "dog" gives the dog and all its breeds.

    Of several meanings the one with most ImageNet-22k classes at or below it counts, then with most ImageNet-1k classes,
    then the one that WordNet finds most frequent. A question for everything below is thus taken to mean the kind that
    has most below it: "dog" not the andiron, "seal" and "turtle" the animals, though WordNet has sealing wax and
    turtlenecks first. The price is that other meanings are left out with all that is below them: "crane" is the
    machine, "mouse" the animal, "bass" the instrument, "cat" the small cats without the big ones, "food" dishes and
    drinks without produce. `named` still has these meanings themselves, and a more exact word ("big cat", "produce")
    has what is below them.

    Args:
        query: a name, read as `named` reads it.

    Returns:
        Ids such as n02099601; empty for an unknown name.
    """
    return frozenset().union(*map(within, _senses(query)[:1]))


@functools.lru_cache(maxsize=1024)
def within(synset: str) -> frozenset[str]:
    """The ids of a synset and of all below it; `below` is the same by a name.

    Args:
        synset: an id such as n02084071.

    Returns:
        Ids; empty for an unknown one.
    """
    children = _tree().children
    found = {synset} & _tree().lemmas.keys()
    level = found
    while level:
        level = {child for above in level for child in children.get(above, ())} - found
        found = found | level
    return frozenset(found)


def names(synset: str) -> tuple[str, ...]:
    """What a synset is called, with spaces, the usual name first: ("dog", "domestic dog", …); () for an unknown id."""
    return tuple(lemma.replace("_", " ") for lemma in _tree().lemmas.get(synset, ()))


def above(synsets: Iterable[str]) -> frozenset[str]:
    """The ids of all that some of the synsets are kinds of, themselves included, whatever is known of them."""
    parents = _tree().parents
    found = set(synsets) & parents.keys()
    level = found
    while level:
        level = {parent for below in level for parent in parents[below]} - found
        found = found | level
    return frozenset(found)


def ancestors(synset: str) -> tuple[str, ...]:
    """The names of all synsets above one, level by level from the nearest up to "entity".

    What is reached on several ways comes after the longest of them, so that nothing stands before a kind of itself: the
    dog is a domestic animal, yet "animal" comes after "mammal".

    Args:
        synset: an id such as n02084071.

    Returns:
        The first lemma of each, with spaces and no name twice. () for an unknown id and for the entity itself.
    """
    tree = _tree()
    names: dict[str, None] = {}
    level = tree.parents.get(synset, ())
    while level:
        for above in level:
            name = tree.lemmas[above][0].replace("_", " ")
            names.pop(name, None)
            names[name] = None
        level = tuple(dict.fromkeys(parent for above in level for parent in tree.parents[above]))
    return tuple(names)


def _senses(query: str) -> list[str]:
    """The synsets called `query`, or called its singular where none is."""
    tree = _tree()
    lemma = "_".join(query.lower().replace("_", " ").split())
    if lemma in tree.senses:
        return tree.senses[lemma]
    start, space, last = lemma.rpartition("_")
    singulars = [tree.plurals.get(last, "")]
    if len(last) > 2 and not last.endswith("ss"):  # "princess" is no plural, nor is a chemist's "Es"
        singulars += [last.removesuffix(end) + ending for end, ending in _ENDINGS if last.endswith(end)]
    for singular in filter(None, singulars):
        if start + space + singular in tree.senses:
            return tree.senses[start + space + singular]
    return []


@functools.cache
def _tree() -> _Tree:
    data = json.loads(gzip.decompress(DATA.read_bytes()))
    ids = [f"n{offset:08d}" for offset in itertools.accumulate(data["steps"])]
    lemmas = {synset: tuple(words.split(" ")) for synset, words in zip(ids, data["lemmas"], strict=True)}
    parents = {s: tuple(ids[i] for i in rows) for s, rows in zip(ids, data["parents"], strict=True)}
    children: dict[str, list[str]] = {}
    senses: dict[str, list[str]] = {}
    for synset in ids:
        for parent in parents[synset]:
            children.setdefault(parent, []).append(synset)
        for lemma in {lemma.lower() for lemma in lemmas[synset]}:
            senses.setdefault(lemma, []).append(synset)
    for lemma, row in data["first"].items():
        senses[lemma].remove(ids[row])
        senses[lemma].insert(0, ids[row])
    return _Tree(lemmas, parents, children, senses, data["plurals"])
