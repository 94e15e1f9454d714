"""Makes the tree of `lsd.wordnet` from WordNet 3.0's database: `python -m lsd.wordnet_build DICT_FOLDER`.

The folder is `/usr/share/wordnet` with Debian's package wordnet-base, `dict` in Princeton's archive WordNet-3.0. Of it
`data.noun` (the synsets), `index.noun` (how frequent the meanings of a word are) and `noun.exc` (irregular plurals) are
read. Only version 3.0 fits, for ImageNet's ids are places in its `data.noun`.

The file is compressed JSON, all synsets in the order of their ids:

- `steps`: how much each id, as a number, is larger than the one before;
- `lemmas`: the synonyms of each, separated by spaces;
- `parents`: the places, in this order, of what is directly above each (hypernyms and instance hypernyms);
- `first`: of each lemma with several meanings, unless it is the lowest id, the place of the one that
  `lsd.wordnet.below` takes;
- `plurals`: irregular plural → singular.
"""

import gzip
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from lsd import labels
from lsd.wordnet import DATA

TABLES = (1000, 11821, 21841, 21843)
"""The numbers of classes of timm's ImageNet tables."""


def build(folder: Path) -> tuple[bytes, list[str]]:
    """The file to ship, and the ImageNet ids that WordNet lacks.

    Args:
        folder: holds WordNet 3.0's `data.noun`, `index.noun` and `noun.exc`.

    Returns:
        What `lsd.wordnet.DATA` should hold, the same every time (another zlib may compress it to other bytes), and the
        sorted ids that had to be left out of it: none with WordNet 3.0.

    Raises:
        FileNotFoundError: one of the three files is not there.
    """
    synsets = dict(_synsets(folder / "data.noun"))
    classes = {synset for count in TABLES for synset in labels.synsets(count)}
    above = {synset: _above(synset, synsets) for synset in classes & synsets.keys()}
    ids = sorted(set().union(*above.values()))
    place = {synset: i for i, synset in enumerate(ids)}
    lemmas = {lemma.lower() for synset in ids for lemma in synsets[synset][0]}

    large, small = (_counts(above[s] for s in labels.synsets(n) if s in above) for n in (21841, 1000))
    first = {}
    for lemma, senses in _index(folder / "index.noun"):
        kept = [synset for synset in senses if synset in place]
        if lemma in lemmas and len(kept) > 1:
            # of equals `max` takes the first, which is the most frequent
            best = max(kept, key=lambda synset: (large.get(synset, 0), small.get(synset, 0)))
            if best != min(kept):
                first[lemma] = place[best]

    offsets = [0, *(int(synset[1:]) for synset in ids)]
    data = {
        "steps": [b - a for a, b in pairwise(offsets)],
        "lemmas": [" ".join(synsets[synset][0]) for synset in ids],
        "parents": [[place[parent] for parent in synsets[synset][1]] for synset in ids],
        "first": first,
        "plurals": {plural: one for plural, one in _plurals(folder / "noun.exc") if one in lemmas},
    }
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return gzip.compress(text.encode(), 9, mtime=0), sorted(classes - synsets.keys())


def _synsets(path: Path) -> Iterator[tuple[str, tuple[list[str], list[str]]]]:
    """(id, (lemmas, ids directly above)) of each line of `data.noun`; the notice at the top is indented."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            continue
        fields = line.split("|")[0].split()
        end = 4 + 2 * int(fields[3], 16)  # a lemma and a number that we do not need, per synonym
        pointers = fields[end + 1 : end + 1 + 4 * int(fields[end])]
        parents = [
            f"n{offset}" for symbol, offset in zip(pointers[::4], pointers[1::4], strict=True) if symbol in ("@", "@i")
        ]
        yield f"n{fields[0]}", (fields[4:end:2], parents)


def _index(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(lemma in lower case, ids of its synsets, the most frequent first)."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):
            fields = line.split()
            yield fields[0], [f"n{offset}" for offset in fields[-int(fields[2]) :]]


def _plurals(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        plural, singular, *_ = line.split()
        yield plural, singular


def _above(synset: str, synsets: dict[str, tuple[list[str], list[str]]]) -> set[str]:
    """The synset and everything above it."""
    found: set[str] = set()
    todo = [synset]
    while todo:
        last = todo.pop()
        if last not in found:
            found.add(last)
            todo += synsets[last][1]
    return found


def _counts(groups: Iterable[set[str]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for group in groups:
        for synset in group:
            counts[synset] = counts.get(synset, 0) + 1
    return counts


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m lsd.wordnet_build DICT_FOLDER")
    made, missing = build(Path(sys.argv[1]))
    DATA.write_bytes(made)
    print(f"{DATA}: {len(made)} bytes; {len(missing)} ImageNet ids are not in this WordNet {' '.join(missing)}".strip())
