import pytest
from hypothesis import given
from hypothesis import strategies as st

from gallery.search import LENGTH, WORDS, Meaning, Vocabulary, split
from lsd import labels, wordnet

NAMES, IDS = labels.class_names(1000), labels.synsets(1000)
VOCABULARY = Vocabulary(
    list(zip(NAMES, IDS, strict=True)),
    ["resnet50.a1_in1k", "resmlp_12_224.fb_in1k", "mobilenetv2_100.ra_in1k"],
    ["layer1.0.conv2", "layer3", ""],
    ["class", "channel", "head"],
    ["lucid", "maco", "lucid-0123abcd"],
)


def _found(phrase: str) -> set[str]:
    return {labels.short(NAMES[i]) for i in VOCABULARY.find_classes(phrase)}


def test_a_dog_is_every_breed():
    dogs = {i for i, synset in enumerate(IDS) if synset in wordnet.below("dog")}
    assert len(dogs) == 118 and dogs <= VOCABULARY.find_classes("dog")
    assert _found("dog") - {labels.short(NAMES[i]) for i in dogs} == {
        "dogsled",
        "hotdog",
        "African hunting dog",
    }  # by name


def test_parts_of_names():
    assert {"tabby", "tiger cat", "Egyptian cat", "catamaran"} <= _found("cat")
    assert "lynx" in _found("catamount") and "bobsled" not in _found("cat")
    assert "education" not in _found("cat") and "fox squirrel" not in _found("ox")
    assert _found("tamara") == {"catamaran"}  # inside a word, since nothing else is called so
    assert _found("n02123045") == {"tabby"} and _found("qwertz") == set()


@given(st.sampled_from(range(1000)))
def test_every_class_is_found_by_each_of_its_names(number):
    for name in NAMES[number].split(","):
        assert number in VOCABULARY.find_classes(name.strip())
        assert number in VOCABULARY.find_all_classes(name.upper())


def test_words_that_name_a_class_together_mean_it_alone():
    (meaning,) = VOCABULARY.meanings("  Tiger   CAT ")
    assert meaning == Meaning(VOCABULARY.find_classes("tiger cat")) and len(meaning.classes) == 1
    assert [m.models for m in VOCABULARY.meanings("dog resnet")] == [frozenset(), frozenset({"resnet50.a1_in1k"})]


def test_a_model_is_found_by_the_name_that_people_use():
    (meaning,) = VOCABULARY.meanings("ResNet-50")
    assert meaning.models == {"resnet50.a1_in1k"}


@pytest.mark.parametrize("word, index, models", [
    ("12", 12, {"resmlp_12_224.fb_in1k"}), ("50", 50, {"resnet50.a1_in1k"}), ("5", 5, set()), ("9" * 30, None, set()),
])  # fmt: skip
def test_numbers(word, index, models):
    (meaning,) = VOCABULARY.meanings(word)
    assert (meaning.index, meaning.models, meaning.classes) == (index, models, frozenset())


def test_layers_kinds_recipes_and_units():
    (layer,) = VOCABULARY.meanings("LAYER3")
    assert layer.layers == {"layer3"} and not layer.path
    (kind,) = VOCABULARY.meanings("chan")
    assert kind.kinds == {"channel"}
    (recipe,) = VOCABULARY.meanings("lucid")
    assert recipe.recipes == {"lucid", "lucid-0123abcd"}
    (unit,) = VOCABULARY.meanings("layer3/channel/12")
    assert unit.path == "layer3/channel/12" and not unit.layers


@given(st.text())
def test_splitting_is_bounded(text):
    words = split(text * 30)
    assert len(words) <= WORDS and sum(map(len, words)) <= 3 * LENGTH  # a capital may be three letters when small
    assert not any("\0" in word for word in words)
    "".join(words).encode()
