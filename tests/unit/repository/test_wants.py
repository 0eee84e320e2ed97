"""Looking an object name up among sorted ones."""

from hypothesis import given
from hypothesis import strategies as st

from mainstay.repository.wants import contains

NAMES = st.binary(min_size=20, max_size=20)


@given(st.sets(NAMES, max_size=50), NAMES)
def test_a_name_is_found_exactly_when_it_is_there(names: set[bytes], asked: bytes) -> None:
    listed = b"".join(sorted(names))
    assert contains(listed, asked) == (asked in names)
    assert all(contains(listed, name) for name in names)
