import gzip
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd import labels, wordnet, wordnet_build

DICT = Path("/usr/share/wordnet")
SMALL, LARGE = frozenset(labels.synsets(1000)), frozenset(labels.synsets(21841))
DOG, CRANE_BIRD, CRANE_MACHINE = "n02084071", "n02012849", "n03126707"


@pytest.fixture
def database() -> Path:
    """WordNet's own files."""
    if not (DICT / "data.noun").exists():
        pytest.skip(f"no WordNet in {DICT}: install Debian's wordnet-base to compare the shipped file with it")
    return DICT


def test_the_118_dogs():
    """ImageNet-1k has its dogs in one run, 151 (Chihuahua) to 268 (Mexican hairless)."""
    dogs = wordnet.below("dog") & SMALL
    assert dogs == set(labels.synsets(1000)[151:269])
    assert len(dogs) == 118


@pytest.mark.parametrize("query, members, count", [
    ("bird", {"n01514668", "n01530575"}, 59),  # cock, brambling
    ("vehicle", {"n04285008", "n02701002"}, 67),  # sports car, ambulance
    ("musical instrument", {"n02672831", "n03452741"}, 26),  # accordion, grand piano
    ("fruit", {"n07742313", "n07753592"}, 16),  # Granny Smith, banana
    ("cat", {"n02123045", "n02123597"}, 7),  # tabby, Siamese
    ("big cat", {"n02129165", "n02129604"}, 6),  # lion, tiger
    ("seal", {"n02077923"}, 1),  # sea lion
    ("turtle", {"n01664065"}, 5),  # loggerhead
    ("tench", {"n01440764"}, 1),  # a class without classes below it
    ("entity", SMALL, 1000),
])  # fmt: skip
def test_known_members(query, members, count):
    found = wordnet.below(query) & SMALL
    assert members <= found and len(found) == count


def test_below_takes_one_meaning_and_named_takes_all():
    assert wordnet.named("crane") == {CRANE_BIRD, CRANE_MACHINE}
    assert CRANE_MACHINE in wordnet.below("crane") and CRANE_BIRD not in wordnet.below("crane")
    assert wordnet.named("dog") == {DOG, "n02710044"}  # and the andiron
    assert "n02710044" not in wordnet.below("dog")


def test_the_meaning_with_most_classes_is_taken():
    for query in ("dog", "crane", "bat", "cat", "bird", "boat", "bass", "mouse", "seal", "turtle", "plant", "plane"):
        most = max(len(_descendants(synset) & LARGE) for synset in wordnet.named(query))
        assert len(wordnet.below(query) & LARGE) == most, query


def _descendants(synset: str) -> set[str]:
    """By the other direction than `below` goes."""
    parents = wordnet._tree().parents
    found, size = {synset}, 0
    while size < len(found):
        size = len(found)
        found |= {child for child, above in parents.items() if not found.isdisjoint(above)}
    return found


@pytest.mark.parametrize("plural, singular", [
    ("dogs", "dog"), ("birds", "bird"), ("dishes", "dish"), ("berries", "berry"), ("potatoes", "potato"),
    ("mice", "mouse"), ("wolves", "wolf"), ("firemen", "fireman"), ("musical instruments", "musical instrument"),
    ("musk oxen", "musk ox"),
])  # fmt: skip
def test_plurals(plural, singular):
    assert wordnet.named(plural) == wordnet.named(singular) != frozenset()
    assert wordnet.below(plural) == wordnet.below(singular)


def test_a_plural_with_a_meaning_of_its_own_keeps_it():
    assert wordnet.named("glasses") == {"n04272054"}  # spectacles
    assert not wordnet.named("glasses") & wordnet.named("glass")


@pytest.mark.parametrize(
    "query", ["Musical Instrument", "musical_instrument", "  musical   instrument ", "MUSICAL_instrumentS"]
)
def test_case_spaces_and_underscores_do_not_matter(query):
    assert wordnet.named(query) == {"n03800933"}


@pytest.mark.parametrize(
    "query", ["", " ", "_", "s", "es", "ies", "dogx", "dog's", "n02084071", "xyzzy", "犬", "_dog s"]
)
def test_unknown_names_give_nothing(query):
    assert wordnet.named(query) == wordnet.below(query) == frozenset()


@given(st.text(max_size=12))
def test_any_text_can_be_asked_for(query):
    assert wordnet.named(query) == wordnet.named(query.replace(" ", "_"))
    assert bool(wordnet.named(query)) == bool(wordnet.below(query))


def test_ancestors_of_the_dog():
    names = wordnet.ancestors(DOG)
    assert names[:2] == ("canine", "domestic animal") and names[-2:] == ("physical entity", "entity")
    assert names.index("mammal") < names.index("animal")


@pytest.mark.parametrize("synset", ["", "dog", "n99999999", "02084071", "n00001740"])
def test_nothing_is_above_the_unknown_nor_above_the_entity(synset):
    assert wordnet.ancestors(synset) == ()


def test_every_class_is_known_and_under_the_entity():
    for synset in {synset for count in wordnet_build.TABLES for synset in labels.synsets(count)}:
        names = wordnet.ancestors(synset)
        assert names[-1] == "entity" and len(set(names)) == len(names) and not any("_" in name for name in names)


def test_lemmas_are_the_names_that_timm_gives():
    """WordNet 3.0 is the version that ImageNet was named by."""
    for synset, name in zip(labels.synsets(21841), labels.class_names(21841), strict=True):
        assert name == ", ".join(wordnet._tree().lemmas[synset]).replace("_", " ")


def test_the_shipped_file_is_what_the_script_makes(database):
    made, missing = wordnet_build.build(database)
    assert missing == []
    # not the bytes, which depend on the version of zlib
    assert gzip.decompress(made) == gzip.decompress(wordnet.DATA.read_bytes())
    assert made == wordnet_build.build(database)[0]
    assert b"tench Tinca_tinca" in gzip.decompress(made)


def test_ids_that_wordnet_lacks_are_left_out_and_returned(database, tmp_path):
    for name in ("index.noun", "noun.exc"):
        (tmp_path / name).symlink_to(database / name)
    lines = (database / "data.noun").read_text().splitlines(keepends=True)
    (tmp_path / "data.noun").write_text("".join(line for line in lines if not line.startswith("01440764")))
    made, missing = wordnet_build.build(tmp_path)
    assert missing == ["n01440764"]
    assert b"tench Tinca_tinca" not in gzip.decompress(made)


def test_the_notice_is_wordnets_own(database):
    top = [line for line in (database / "data.noun").read_text().splitlines()[:40] if line.startswith(" ")]
    notice = " ".join(re.sub(r"^ +\d+", "", line) for line in top)
    assert (wordnet.DATA.parent / "WORDNET_LICENSE").read_text().split() == notice.split()


def test_the_file_is_small_and_read_only_when_asked():
    assert wordnet.DATA.stat().st_size < 400_000
    code = "import sys, lsd.wordnet as w; print(w._tree.cache_info().currsize, 'torch' in sys.modules, 'timm' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert answer.split() == ["0", "False", "False"]
