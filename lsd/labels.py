"""Class names, and the search for a class by its name.

ImageNet's names come from timm's own tables, everything else from the model's configuration. A name is a comma-separated
list of synonyms ("tabby, tabby cat"), as WordNet gives them; the first is the one that is shown where room is short.

A table is chosen by its length alone. Whether the network's classes are those of the table is another question: the tag of
its weights says so ("augreg_in21k_ft_in1k"), or nothing does, and the names are assumed.
"""

import csv
import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from lsd.errors import UndefinedError


class _Subset(NamedTuple):
    """A part of ImageNet that networks are trained on."""

    dataset: str
    file: str  # timm's, with the classes' ids in their order
    in_tags: frozenset[str]  # how a weights' tag calls it


_LARGE = frozenset({"in21k", "in22k"})
_SUBSETS = {  # by their number of classes
    1000: _Subset("ImageNet-1k", "imagenet_synsets.txt", frozenset({"in1k"})),
    11221: _Subset("ImageNet-21k", "imagenet21k_miil_synsets.txt", _LARGE),
    11821: _Subset("ImageNet-12k", "imagenet12k_synsets.txt", frozenset({"in12k"})),
    21841: _Subset("ImageNet-22k", "imagenet22k_synsets.txt", _LARGE),
    21842: _Subset("ImageNet-22k", "imagenet22k_ms_synsets.txt", _LARGE),
    21843: _Subset("ImageNet-21k", "imagenet21k_goog_synsets.txt", _LARGE),
}


@functools.cache
def _imagenet(num_classes: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(WordNet ids, names) of one of timm's ImageNet subsets, in class order."""
    ids = tuple(_timms(_SUBSETS[num_classes].file))
    names = _lemmas()
    return ids, tuple(names[id] for id in ids)


def _timms(file: str) -> list[str]:
    """The lines of one of timm's tables. `timm.data.ImageNetInfo` reads the same ones, but takes seconds to import, and a page
    names classes before anybody asks for a network."""
    timm = find_spec("timm")  # found without importing it
    return (Path(timm.origin).parent / "data" / "_info" / file).read_text("utf-8").splitlines()


@dataclass(frozen=True)
class ClassNames:
    """What a network's classes are called.

    Attributes:
        names: one for each class.
        assumed: whether only their number speaks for them.
        note: one sentence where they are assumed, or where the configuration's own could not be used; "" elsewhere.
    """

    names: tuple[str, ...]
    assumed: bool = False
    note: str = ""


def named(num_classes: int, config: dict | None = None) -> ClassNames:
    """The names of a model's classes, and whether they are known to be.

    Args:
        num_classes: width of the model's output.
        config: the model's pretrained configuration; its `label_names` (list, or dict index → name) and
            `label_descriptions` (dict name → text) win over the tables, and its `tag` says of which data set the classes are.

    Returns:
        `num_classes` names. Models whose classes nobody named, or not one for each, get "class 0", "class 1", ….
    """
    config = config or {}
    labels = config.get("label_names")
    if labels and num_classes:
        if isinstance(labels, dict) and len(labels) == num_classes:
            labels = [labels.get(i, labels.get(str(i))) for i in range(num_classes)]
        if not isinstance(labels, list | tuple) or len(labels) != num_classes or not all(labels):
            note = f"The class names in its configuration are not used: they are not one for each of its {num_classes} classes."
            return ClassNames(_numbered(num_classes), note=note)
        texts = config.get("label_descriptions") or {}
        known = _lemmas() if all(_is_synset(str(label)) for label in labels) else {}
        return ClassNames(tuple(str(texts.get(label) or known.get(label) or label) for label in labels))
    subset = _SUBSETS.get(num_classes)
    if subset is None:
        return ClassNames(_numbered(num_classes))
    names = _imagenet(num_classes)[1]
    trained_on = str(config.get("tag") or "").rpartition("_ft_")[2].split("_")
    if subset.in_tags.intersection(trained_on):
        return ClassNames(names)
    as_it = f"it has {num_classes} classes as {subset.dataset} has"
    note = f"The class names are assumed: {as_it}, and nothing says that they are the same."
    return ClassNames(names, assumed=True, note=note)


def class_names(num_classes: int, config: dict | None = None) -> tuple[str, ...]:
    """The names alone, of `named`."""
    return named(num_classes, config).names


def _numbered(num_classes: int) -> tuple[str, ...]:
    return tuple(f"class {i}" for i in range(num_classes))


def synsets(num_classes: int) -> tuple[str, ...] | None:
    """The WordNet ids (n02123045, …) of an ImageNet head with that many classes, else None."""
    return _imagenet(num_classes)[0] if num_classes in _SUBSETS else None


def _is_synset(label: str) -> bool:
    return len(label) == 9 and label[0] == "n" and label[1:].isdigit()


@functools.cache
def _lemmas() -> dict[str, str]:
    """WordNet id → name."""
    return dict(csv.reader(_timms("imagenet_synset_to_lemma.txt"), delimiter="\t"))


def short(name: str) -> str:
    """The first synonym: "tabby, tabby cat" → "tabby"."""
    return name.split(",")[0].strip()


def search(names: Sequence[str], query: str, limit: int = 50) -> list[int]:
    """Class indices whose name matches `query`, best first.

    A number matches that index; a text matches as a whole synonym, then the beginning of a synonym, then the beginning
    of a word, then anywhere. An empty query lists the first classes.
    """
    query = query.strip().lower()
    if query.isdecimal():  # not isdigit, which takes “²” for a number
        return [int(query)] if int(query) < len(names) else []
    ranked = []
    for index, name in enumerate(names):
        lowered = name.lower()
        if query not in lowered:
            continue
        synonyms = [s.strip() for s in lowered.split(",")]
        rank = (
            0
            if query in synonyms
            else 1
            if any(s.startswith(query) for s in synonyms)
            else 2
            if any(word.startswith(query) for word in lowered.replace("-", " ").split())
            else 3
        )
        ranked.append((rank, index))
    return [index for _, index in sorted(ranked)[:limit]]


def _called(name: str) -> set[str]:
    """All that a class is called: its whole name and each synonym."""
    return {name.strip().lower(), *(synonym.strip().lower() for synonym in name.split(","))}


@functools.lru_cache(64)
def telling(names: tuple[str, ...]) -> tuple[bool, ...]:
    """Of each class, whether its whole name means it alone, so that `find_class` finds it by that."""
    classes = Counter(text for name in names for text in _called(name))
    return tuple(classes[name.strip().lower()] == 1 for name in names)


def find_class(names: tuple[str, ...], query: str | int) -> int:
    """The one class meant by `query`: one of its names, else an index, else the beginning or a part of a name.

    Raises:
        UndefinedError: no such index, no such name, or a name that fits several classes equally well.
    """
    text = str(query).strip()
    # A name first: of a network that reads digits, “2” is a class before it is an index.
    exact = (
        [i for i, name in enumerate(names) if text.lower() in _called(name)] if isinstance(query, str) and text else []
    )
    if not exact and text.removeprefix("-").isdecimal():
        index = int(text)
        if not 0 <= index < len(names):
            raise UndefinedError(
                f"Class {index} is out of range: this model has {len(names)} classes, 0 to {len(names) - 1}."
            )
        return index
    candidates = exact or (search(names, text) if text else [])
    if not candidates:
        raise UndefinedError(
            f"No class of this model is called “{text}”; search with a shorter word or give its index."
        )
    if len(candidates) > 1:
        some = ", ".join(f"{i} ({short(names[i])})" for i in candidates[:5])
        more = f" and {len(candidates) - 5} more" if len(candidates) > 5 else ""
        raise UndefinedError(f"“{text}” fits several classes: {some}{more}; give the index of the one you mean.")
    return candidates[0]
