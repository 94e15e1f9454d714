"""What a person says of several networks, as texts."""

import pytest

from lsd.errors import LSDError
from lsd.said import Said
from lsd.sayings import Sayings


def test_what_is_said_of_one_goes_before_what_is_said_of_all():
    sayings = Sayings.read(
        ["demo:vit=embedding", "sigmoid"], ["a.b=nchw", "demo:vit=a.b=tokens:1", "demo:*=c=nhwc"],
    )  # fmt: skip
    assert sayings.of("demo:vit") == Said("embedding", {"a.b": "tokens:1", "c": "nhwc"})
    assert sayings.of("demo:resnet") == Said("sigmoid", {"a.b": "nchw", "c": "nhwc"})
    assert sayings.of("other") == Said("sigmoid", {"a.b": "nchw"})


def test_what_is_said_of_all_is_not_said_of_those_who_only_judge():
    sayings = Sayings.read(["sigmoid", "judge=classes"], ["a=nchw"])
    assert sayings.of("judge", asked=False) == Said("classes") and not sayings.of("other", asked=False)
    assert not Sayings().of("anything")


def test_a_model_that_is_not_there_is_told():
    sayings = Sayings.read(["sigmoid", "demo:*=classes"])
    sayings.check(["demo:vit"])
    with pytest.raises(LSDError, match=r"Something is said of demo:\*, which is not asked; asked are resnet18, vit\."):
        sayings.check(["resnet18", "vit"])


@pytest.mark.parametrize(
    ("outputs", "layouts", "sentence"),
    [
        (["demo:vit="], [], "“demo:vit=” does not say what outputs are"),
        (["=sigmoid"], [], "“=sigmoid” does not say what outputs are"),
        ([""], [], "“” does not say what outputs are"),
        ([], ["a"], "“a” is not a layout"),
        ([], ["a="], "“a=” is not a layout"),
        ([], ["=nchw"], "“=nchw” is not a layout"),
        ([], ["=a=nchw"], "“=a=nchw” is not a layout"),
        ([], ["model==nchw"], "“model==nchw” is not a layout"),
        ([], [""], "“” is not a layout"),
    ],
)
def test_texts_that_say_nothing(outputs, layouts, sentence):
    with pytest.raises(LSDError, match=sentence):
        Sayings.read(outputs, layouts)
