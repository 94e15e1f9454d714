"""Numbers from the environment."""

import pytest

from lsd.environment import number


@pytest.mark.parametrize(("said", "meant"), [
    ("5000000000", 5e9), (" 1.5 ", 1.5), ("0", 0), ("", None), (".", None), ("-1", None), ("1e3", None), ("²", None), ("nan", None),
    ("1.2.3", None), ("many", None),
])  # fmt: skip
def test_a_variable_says_a_number_or_none(monkeypatch, said, meant):
    monkeypatch.setenv("LSD_JOB_SECONDS", said)
    assert number("LSD_JOB_SECONDS") == meant


def test_a_variable_that_is_not_there_says_none(monkeypatch):
    monkeypatch.delenv("LSD_JOB_SECONDS", raising=False)
    assert number("LSD_JOB_SECONDS") is None
