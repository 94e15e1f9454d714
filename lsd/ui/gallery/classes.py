"""How the gallery's addresses call a class: by its name, and by its WordNet id where two classes share a name (crane)."""

from collections import Counter
from dataclasses import dataclass

from gallery.queries import Gallery
from lsd.labels import short
from lsd.recent import remembered


@dataclass(frozen=True)
class Classes:
    """All classes of a gallery.

    Attributes:
        names: all synonyms of each, by its key: what addresses and `Gallery.compare` call it.
        keys: of what somebody may write, in lower case: the key, all synonyms or the first of them.
        shared: the names that several classes have.
    """

    names: dict[str, str]
    keys: dict[str, str]
    shared: frozenset[str]

    def key(self, class_name: str, synset: str) -> str:
        """The key of a class."""
        return synset if synset and class_name in self.shared else class_name

    def find(self, written: str) -> str | None:
        """The key of what somebody wrote; None if there is no such class."""
        return self.keys.get(written.strip().lower())


@remembered
def classes_of(gallery: Gallery) -> Classes:
    """The classes of a gallery."""
    hits = gallery.classes(limit=10**6)
    shared = frozenset(name for name, times in Counter(hit.class_name for hit in hits).items() if times > 1)
    found = Classes({}, {}, shared)
    for hit in hits:
        key = found.key(hit.class_name, hit.synset)
        found.names[key] = hit.class_name
        for written in (key, hit.class_name, short(hit.class_name)):
            found.keys.setdefault(written.lower(), key)
    found.keys.update((key.lower(), key) for key in found.names)  # a whole name before another's first synonym
    return found
