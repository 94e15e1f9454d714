"""Groups of a network's classes: all that are dogs, birds or vehicles, by WordNet's tree of nouns (`lsd.wordnet`).

Only a network whose classes are ImageNet's has any: of others it is not known where in the tree their classes are.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lsd import labels, wordnet
from lsd.errors import UndefinedError
from lsd.models import ImageModel

_SOME = 4  # of the meanings of a name that are told


@dataclass(frozen=True)
class Group:
    """Two classes or more that are kinds of one thing.

    Attributes:
        name: as people say it: "dog".
        members: the classes' indices, ascending.
        synset: WordNet's id of the thing; "" of a group that somebody has put together.
    """

    name: str
    members: tuple[int, ...]
    synset: str = ""


def class_synsets(model: ImageModel) -> tuple[str, ...]:
    """The WordNet ids of a model's classes, from its configuration or, for ImageNet's heads, from timm's tables; () elsewhere."""
    names = (getattr(model.net, "pretrained_cfg", None) or {}).get("label_names") or ()
    if isinstance(names, dict):
        names = [names.get(i, names.get(str(i), "")) for i in range(model.num_classes)]
    if len(names) == model.num_classes and all(re.fullmatch("n[0-9]{8}", str(name)) for name in names):
        return tuple(names)
    return imagenets(model.class_names)


def imagenets(class_names: Sequence[str]) -> tuple[str, ...]:
    """The WordNet ids of classes that are called as one of timm's ImageNet tables calls them; () of others."""
    count = len(class_names)
    return (tuple(class_names) == labels.class_names(count) and labels.synsets(count)) or ()


def find_group(model: ImageModel, query: str) -> Group:
    """The one group of a model's classes that `query` means.

    Args:
        query: a name as WordNet has it, singular or plural, or an id such as n02084071.

    Raises:
        UndefinedError: a network without classes, or with others than ImageNet's, a name that no two of its classes are kinds
            of, or one that means several groups.
    """
    if model.outputs == "embedding":
        model.refuse_classes()
    synsets = class_synsets(model)
    if not synsets:
        raise UndefinedError(
            f"The classes of {model.name} are not ImageNet's, so it is not known which of them are one group; ask for a class, or "
            "for a class rather than another."
        )
    text = query.strip()
    known = _groups(synsets)
    meant = {text} if wordnet.names(text) else wordnet.named(text)
    found = {known[synset].members: known[synset] for synset in sorted(meant & known.keys())}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        some = sorted(found.values(), key=lambda group: -len(group.members))[:_SOME]
        told = " or ".join(f"“{telling(group, synsets)}” ({_examples(group, model)})" for group in some)
        raise UndefinedError(f"“{text}” means several groups of classes; say {told}.")
    if meant & set(synsets):
        raise UndefinedError(
            f"“{text}” is one class of {model.name}, and a group has two or more; ask for the class itself."
        )
    raise UndefinedError(
        f"No two classes of {model.name} are kinds of “{text}”; name a thing that WordNet has, such as dog, bird or vehicle."
    )


def telling(group: Group, synsets: tuple[str, ...]) -> str:
    """What `find_group` finds a group by: the first of its names that means it alone, or its id.

    Args:
        synsets: of the network's classes.
    """
    known = _groups(synsets)
    for name in wordnet.names(group.synset):
        if {known[synset].members for synset in wordnet.named(name) & known.keys()} == {group.members}:
            return name
    return group.synset


def groups(synsets: tuple[str, ...]) -> list[Group]:
    """All groups of classes with these WordNet ids, but for those of all classes, by name."""
    found = (group for group in _groups(synsets).values() if len(group.members) < len(synsets))
    return sorted(found, key=lambda group: (group.name.lower(), -len(group.members)))


@functools.lru_cache(maxsize=8)
def _groups(synsets: tuple[str, ...]) -> dict[str, Group]:
    """Of two members or more, by their own WordNet ids."""
    index = {synset: i for i, synset in enumerate(synsets)}
    found = {}
    for synset in wordnet.above(synsets):
        members = sorted(index[below] for below in wordnet.within(synset) & index.keys())
        if len(members) > 1:
            found[synset] = Group(wordnet.names(synset)[0], tuple(members), synset)
    return found


def _examples(group: Group, model: ImageModel) -> str:
    first = labels.short(model.class_names[group.members[0]])
    return f"{len(group.members)} classes, such as {first}"
