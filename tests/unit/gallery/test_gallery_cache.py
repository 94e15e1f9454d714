from hypothesis import given
from hypothesis import strategies as st

from gallery.cache import Recent


@given(st.lists(st.integers(0, 8)), st.integers(0, 20))
def test_what_was_asked_for_last_is_kept_within_the_limit(keys, limit):
    cache: Recent[int] = Recent(limit, lambda value: value)
    kept: list[int] = []  # the same, with a list, oldest first
    for key in keys:
        made = []
        assert cache.get(key, lambda key=key, made=made: made.append(key) or key) == key
        assert bool(made) == (key not in kept)
        kept = [other for other in kept if other != key] + [key]
        while sum(kept) > limit:
            kept.pop(0)
