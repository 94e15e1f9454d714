import pytest

from lsd.ui.shared.rates import Rate


def test_so_many_at_once_and_then_as_time_passes():
    now = [0.0]
    rate = Rate(lambda: now[0])
    assert [rate.take("a", 3) for _ in range(4)] == [0, 0, 0, pytest.approx(20)]
    assert rate.take("b", 3) == 0  # another's is another's
    now[0] = 15
    assert rate.take("a", 3) == pytest.approx(5)
    now[0] = 20
    assert rate.take("a", 3) == 0 and rate.take("a", 3) == pytest.approx(20)
    now[0] = 10_000
    assert [rate.take("a", 3) > 0 for _ in range(4)] == [False, False, False, True]  # no more than a minute's


def test_being_refused_costs_nothing():
    now = [0.0]
    rate = Rate(lambda: now[0])
    rate.take("a", 1)
    for second in range(60):
        now[0] = second
        assert rate.take("a", 1) == pytest.approx(60 - second)
    now[0] = 60.0
    assert rate.take("a", 1) == pytest.approx(0)


def test_clients_without_number_fill_no_memory(monkeypatch):
    monkeypatch.setattr("lsd.ui.shared.rates._CLIENTS", 3)
    rate = Rate(lambda: 0.0)
    for name in "abcdef":
        rate.take(name, 1)
    assert list(rate._left) == ["d", "e", "f"]
