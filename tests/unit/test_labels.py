import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsd import labels
from lsd.catalogue import CURATED
from lsd.errors import UndefinedError
from lsd.models import load_model

ANIMALS = (
    "tabby, tabby cat",
    "tiger cat",
    "catamaran",
    "crane",
    "bobcat, lynx",
    "crane, lifting device",
    "black-cat fox",
)
IMAGENET = labels.class_names(1000)
QUERIES = st.text(max_size=8) | st.text(string.digits + "-+²٣ ", max_size=6) | st.sampled_from(["cat", "a", ",", "281"])


@pytest.mark.parametrize("count, index, name", [
    (1000, 281, "tabby, tabby cat"), (1000, 0, "tench"), (11821, 0, None), (21841, 0, None), (21843, 0, None),
])  # fmt: skip
def test_imagenet_is_known_by_its_number_of_classes(count, index, name):
    names = labels.class_names(count)
    assert len(names) == count and not names[index].startswith("class ")
    assert name is None or names[index].startswith(name)
    ids = labels.synsets(count)
    assert len(ids) == count and all(len(i) == 9 and i[0] == "n" for i in ids[:50])


def test_the_tables_are_those_that_timm_knows():
    from timm.data import ImageNetInfo, imagenet_info

    for count, subset in imagenet_info._NUM_CLASSES_TO_SUBSET.items():
        known = ImageNetInfo(subset)
        assert labels.synsets(count) == tuple(known.label_names())
        assert labels.class_names(count) == tuple(known.label_descriptions())


def test_the_tables_agree_with_each_other():
    """A synset has one name, whichever table it is in."""
    small = dict(zip(labels.synsets(1000), IMAGENET, strict=True))
    large = dict(zip(labels.synsets(21841), labels.class_names(21841), strict=True))
    shared = small.keys() & large.keys()
    assert len(shared) > 900
    assert sum(small[i] == large[i] for i in shared) > 0.95 * len(shared)


@pytest.mark.parametrize("count", [0, 1, 10, 365])
def test_classes_that_nobody_named_have_numbers(count):
    assert labels.class_names(count) == tuple(f"class {i}" for i in range(count))
    assert labels.synsets(count) is None


@pytest.mark.parametrize("given_names", [
    ["cat", "dog", "cow"], {0: "cat", 1: "dog", 2: "cow"}, {"0": "cat", "1": "dog", "2": "cow"}, ("cat", "dog", "cow"),
])  # fmt: skip
def test_names_in_the_configuration_win(given_names):
    assert labels.class_names(3, {"label_names": given_names}) == ("cat", "dog", "cow")


def test_synsets_in_the_configuration_become_names():
    assert labels.class_names(2, {"label_names": ["n02123045", "n01440764"]}) == (IMAGENET[281], IMAGENET[0])


def test_descriptions_in_the_configuration_win_over_synsets():
    config = {"label_names": ["n02123045", "n01440764"], "label_descriptions": {"n02123045": "my cat"}}
    assert labels.class_names(2, config) == ("my cat", IMAGENET[0])


FOUR = ["cat", "dog", "cow", "crow"]


@pytest.mark.parametrize("wrong", [["cat"], {0: "cat"}, "cat", ["cat", None, ""], 5, FOUR, dict(enumerate(FOUR))])
def test_names_that_do_not_fit_are_not_used_and_that_is_said(wrong):
    named = labels.named(3, {"label_names": wrong})
    assert named.names == ("class 0", "class 1", "class 2") and not named.assumed
    assert (
        named.note == "The class names in its configuration are not used: they are not one for each of its 3 classes."
    )


def test_who_names_other_classes_does_not_get_imagenets():
    named = labels.named(1000, {"label_names": ["cat"] * 999, "tag": "in1k"})
    assert named.names[281] == "class 281" and "not used" in named.note


@pytest.mark.parametrize("config", [{}, {"label_names": []}, {"label_names": ["cat", "dog"]}])
def test_a_network_without_classes_has_no_names_to_speak_of(config):
    assert labels.named(0, config) == labels.ClassNames(())


@pytest.mark.parametrize("count, tag, assumed", [
    (1000, "a1_in1k", False), (1000, "in1k", False), (1000, "augreg_in21k_ft_in1k", False),
    (1000, "sail_in22k_ft_in1k_384", False), (1000, "clip_laion2b_soup_ft_in12k_in1k_320", False),
    (1000, None, True), (1000, "", True), (1000, "fb_dino", True), (1000, "in1k_ft_plants", True),
    (1000, "augreg_in21k", True), (1000, "pain1k", True), (11821, "sw_in12k", False), (11821, "sw_in1k", True),
    (21843, "augreg_in21k", False), (21841, "fb_in22k", False), (21841, None, True),
])  # fmt: skip
def test_imagenets_names_are_assumed_where_no_tag_says_imagenet(count, tag, assumed):
    named = labels.named(count, {"tag": tag})
    assert named.assumed is assumed and named.names == labels.class_names(count)
    what = {1000: "ImageNet-1k", 11821: "ImageNet-12k", 21841: "ImageNet-22k"}.get(count)
    assert named.note == (
        f"The class names are assumed: it has {count} classes as {what} has, and nothing says that they are the same."
        if assumed else ""
    )  # fmt: skip


def test_given_names_and_numbers_are_not_assumed():
    assert labels.named(1000, {"label_names": [f"kind {i}" for i in range(1000)]}).note == ""
    assert labels.named(10).note == "" and not labels.named(10).assumed


def test_of_what_timm_offers_only_networks_without_classes_of_their_own_have_assumed_names():
    import timm

    configs = {name: timm.get_pretrained_cfg(name) for name in timm.list_pretrained()}
    assumed = [name for name, c in configs.items() if labels.named(c.num_classes, c.to_dict()).note]
    assert assumed == ["resmlp_12_224.fb_dino", "resmlp_24_224.fb_dino"]  # trained without labels
    assert {network.name for network in CURATED} <= configs.keys() - set(assumed)


def test_the_real_birds_have_their_names(real_models):
    model = load_model(f"local-dir:{real_models / 'mobilenetv2_100.tflite_qat_inat_bird'}", device="cpu")
    assert len(model.class_names) == 965 and "Cyanocitta cristata (Blue Jay)" in model.class_names


def test_short_is_the_first_synonym():
    assert labels.short("tabby, tabby cat") == "tabby" and labels.short("tench") == "tench"


def test_whole_synonyms_come_first_then_beginnings_then_words_then_the_rest():
    names = ("bobcat", "a cat", "catfish", "lynx, cat")
    assert labels.search(names, "cat") == [3, 2, 1, 0]


def test_a_hyphen_divides_words():
    assert labels.search(("concatenate", "black-cat"), "cat") == [1, 0]


def test_search_knows_no_case_and_no_outer_blanks():
    assert labels.search(ANIMALS, "  TABBY ") == [0]


def test_a_number_is_an_index():
    assert labels.search(IMAGENET, "281") == [281]
    assert labels.search(IMAGENET, "1000") == []


def test_an_empty_query_lists_the_first_classes():
    assert labels.search(ANIMALS, "", limit=3) == [0, 1, 2]


@given(QUERIES, st.integers(0, 10))
def test_search_never_fails_and_gives_valid_indices(query, limit):
    found = labels.search(ANIMALS, query, limit)
    assert len(found) <= max(limit, 1) and len(set(found)) == len(found)
    assert all(0 <= i < len(ANIMALS) for i in found)


@given(QUERIES)
def test_find_class_gives_a_class_or_a_sentence(query):
    try:
        assert 0 <= labels.find_class(ANIMALS, query) < len(ANIMALS)
    except UndefinedError as error:
        assert str(error).endswith(".") or str(error).endswith("mean.")


@given(st.integers(0, 999))
def test_every_index_finds_its_class(index):
    assert labels.find_class(IMAGENET, index) == labels.find_class(IMAGENET, f" {index} ") == index


@pytest.mark.parametrize(
    "query, index", [("tabby", 281), ("Tabby Cat", 281), ("goldfish", 1), ("great white shark", 2)]
)
def test_a_name_finds_its_class(query, index):
    assert labels.find_class(IMAGENET, query) == index


def test_a_whole_synonym_wins_over_longer_names():
    assert labels.find_class(("cattle", "tom, cat", "catfish"), "cat") == 1


@pytest.mark.parametrize("names, query, which", [
    (("crane, lifting device", "crane"), "crane", "0 .crane., 1 .crane."),
    (IMAGENET, "maillot", "638 .maillot., 639 .maillot."),  # one of them is called nothing else
    (("Maillot", "suit, MAILLOT"), "maillot", "0 .Maillot., 1 .suit."),
])  # fmt: skip
def test_a_name_of_two_classes_is_refused_with_both(names, query, which):
    with pytest.raises(UndefinedError, match=f"fits several classes: {which}; give the index"):
        labels.find_class(names, query)


def test_a_whole_name_of_several_synonyms_means_one_class():
    assert labels.find_class(IMAGENET, "maillot, tank suit") == 639


def test_what_a_list_of_choices_may_offer_as_a_name():
    told = labels.telling(IMAGENET)
    assert not told[638] and told[639] and not told[134] and not told[517] and told[281]
    assert all(labels.find_class(IMAGENET, name) == i for i, name in enumerate(IMAGENET) if told[i])


def test_digits_are_a_name_before_they_are_an_index():
    digits = ("7", "2", "ten, 10")
    assert [labels.find_class(digits, text) for text in ("2", "7", "10", "1", 2)] == [1, 0, 2, 1, 2]


def test_a_name_that_fits_several_classes_names_them():
    with pytest.raises(UndefinedError, match=r"“crane” fits several classes: 134 \(crane\), 517 \(crane\)"):
        labels.find_class(IMAGENET, "crane")


def test_of_many_that_fit_five_are_named():
    with pytest.raises(UndefinedError, match=r"fits several classes: (\d+ \([^)]*\), ){4}\d+ \([^)]*\) and \d+ more"):
        labels.find_class(IMAGENET, "terrier")


@pytest.mark.parametrize("index", [1000, -1, "1000", "-1"])
def test_an_index_out_of_range_brings_the_range(index):
    with pytest.raises(UndefinedError, match="out of range: this model has 1000 classes, 0 to 999"):
        labels.find_class(IMAGENET, index)


@pytest.mark.parametrize("query", ["", "  ", "zzzz", "²", "+-5", "1.5"])
def test_what_no_class_is_called(query):
    with pytest.raises(UndefinedError, match="No class of this model is called"):
        labels.find_class(IMAGENET, query)
