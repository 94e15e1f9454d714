import pytest

from lsd import labels
from lsd.errors import UndefinedError
from lsd.groups import class_synsets, find_group, groups, imagenets, telling
from lsd.layers import as_said
from lsd.models import load_model
from lsd.said import Said
from lsd.wordnet import ancestors

CLASSES = labels.synsets(1000)


@pytest.fixture(scope="module")
def model():
    return load_model("tf_efficientnet_lite0.in1k")


def test_the_dogs_are_those_that_stand_together_in_imagenet(model):
    """Classes 151 to 268 are the breeds, and 269 to 275 their wild kin; no member is looked up by the code under test."""
    dogs = find_group(model, "dog")
    assert dogs.members == tuple(range(151, 269)) and dogs.name == "dog" and dogs.synset == "n02084071"


@pytest.mark.parametrize("query", ["dogs", " Dog ", "domestic dog", "domestic_dog", "n02084071"])
def test_a_group_goes_by_all_its_names(model, query):
    assert find_group(model, query) == find_group(model, "dog")


@pytest.mark.parametrize(
    "name, count", [("dog", 118), ("bird", 59), ("vehicle", 67), ("terrier", 26), ("big cat", 6), ("monkey", 13)]
)
def test_members_are_the_classes_that_have_it_above_them(model, name, count):
    """From below, by another way through the tree; none of these is a class itself."""
    members = tuple(i for i, synset in enumerate(CLASSES) if name in ancestors(synset))
    assert find_group(model, name).members == members and len(members) == count


def test_every_group_is_found_by_what_tells_it(model):
    offered = groups(CLASSES)
    assert len(offered) == 471 and all(1 < len(group.members) < 1000 for group in offered)
    for group in offered:
        assert find_group(model, telling(group, CLASSES)).members == group.members


@pytest.mark.parametrize(
    "query, why",
    [
        (
            "cat",
            r"means several groups of classes; say “true cat” \(7 classes, such as tabby\) or “big cat” \(6 classes",
        ),
        ("dish", r"say “n07557434” \(8 classes, such as consomme\) or “n03206908” \(3 classes"),
        ("crane", "is one class of tf_efficientnet_lite0.in1k, and a group has two or more; ask for the class itself"),
        ("tabby", "is one class of"),
        ("bass", "No two classes of tf_efficientnet_lite0.in1k are kinds of “bass”"),
        ("no such thing", "No two classes"),
        ("", "No two classes"),
        ("n99999999", "No two classes"),
    ],
)
def test_what_is_no_one_group_is_refused_with_what_to_say_instead(model, query, why):
    with pytest.raises(UndefinedError, match=why):
        find_group(model, query)


def test_networks_without_imagenets_classes_have_none():
    with pytest.raises(UndefinedError, match="The classes of demo:vit are not ImageNet's"):
        find_group(load_model("demo:vit"), "dog")
    assert class_synsets(load_model("demo:vit")) == () and imagenets(("cat", "dog")) == ()


def test_a_network_without_classes_says_so(model):
    with pytest.raises(UndefinedError, match="puts out an embedding and no classes"):
        find_group(as_said(model, Said("embedding")), "dog")
