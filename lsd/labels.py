"""Class names, and the search for a class by its name.

ImageNet's names come from timm's own tables, everything else from the model's configuration. A name is a comma-separated
list of synonyms ("tabby, tabby cat"), as WordNet gives them; the first is the one that is shown where room is short.

A table is chosen by its length alone. Whether the network's classes are those of the table is another question: the tag of
its weights says so ("augreg_in21k_ft_in1k"), or nothing does, and the names are assumed.
"""

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lsd.errors import UndefinedError

_IN_TAGS = {"imagenet-1k": {"in1k"}, "imagenet-12k": {"in12k"}}  # timm's table → how tags call it
_LARGE_IN_TAGS = {"in21k", "in22k"}  # all the others


@functools.cache
def _imagenet(subset: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(WordNet ids, names) of one of timm's ImageNet subsets, in class order."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo(subset)
    return tuple(info.label_names()), tuple(info.label_descriptions())


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
    subset = _subset(num_classes)
    if subset is None:
        return ClassNames(_numbered(num_classes))
    trained_on = str(config.get("tag") or "").rpartition("_ft_")[2].split("_")
    if _IN_TAGS.get(subset, _LARGE_IN_TAGS).intersection(trained_on):
        return ClassNames(_imagenet(subset)[1])
    dataset = "ImageNet-" + subset.split("-")[1]
    note = f"The class names are assumed: it has {num_classes} classes as {dataset} has, and nothing says that they are the same."
    return ClassNames(_imagenet(subset)[1], assumed=True, note=note)


def class_names(num_classes: int, config: dict | None = None) -> tuple[str, ...]:
    """The names alone, of `named`."""
    return named(num_classes, config).names


def _numbered(num_classes: int) -> tuple[str, ...]:
    return tuple(f"class {i}" for i in range(num_classes))


def synsets(num_classes: int) -> tuple[str, ...] | None:
    """The WordNet ids (n02123045, …) of an ImageNet head with that many classes, else None."""
    subset = _subset(num_classes)
    return _imagenet(subset)[0] if subset else None


def _subset(num_classes: int) -> str | None:
    from timm.data import infer_imagenet_subset

    return infer_imagenet_subset({"num_classes": num_classes})


def _is_synset(label: str) -> bool:
    return len(label) == 9 and label[0] == "n" and label[1:].isdigit()


@functools.cache
def _lemmas() -> dict[str, str]:
    """WordNet id → name, for the 22k tables (which hold the smaller ones)."""
    ids, names = _imagenet("imagenet-22k")
    return dict(zip(ids, names, strict=True))


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
