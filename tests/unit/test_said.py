"""What a person says of a network, as values."""

import pytest

from lsd.errors import LSDError
from lsd.said import Said


def test_the_later_word_counts_and_order_does_not():
    before, later = Said("classes", {"b": "nchw", "a": "tokens"}), Said(layouts={"a": "nhwc"})
    assert before | later == Said("classes", {"a": "nhwc", "b": "nchw"}) == later | Said("classes", {"b": "nchw"})
    assert hash(before) == hash(Said("classes", {"a": "tokens", "b": "nchw"}))
    assert before and not Said() and Said(layouts={"a": "nchw"})


@pytest.mark.parametrize(
    "said", [Said(), Said("sigmoid"), Said(layouts={"a": "nchw"}), Said("classes", {"a.b": "tokens:1"})]
)
def test_it_comes_back_from_plain_values(said):
    assert Said.from_dict(said.to_dict()) == said


def test_what_is_not_said_is_not_written():
    assert Said().to_dict() == {} and Said("sigmoid").to_dict() == {"outputs": "sigmoid"}


def test_a_function_leaves_its_name():
    def by_columns(tokens):
        return tokens

    assert Said(layouts={"a": by_columns}).to_dict() == {"layouts": {"a": "function by_columns"}}


@pytest.mark.parametrize("values", [None, [], "sigmoid", {"outputs": 3}, {"layouts": ["a"]}, {"layouts": {"a": 1}}])
def test_other_values_are_refused(values):
    with pytest.raises(LSDError, match="What is said of a network is a text"):
        Said.from_dict(values)
