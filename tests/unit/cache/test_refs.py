"""A listing advanced by the log equals one read afresh."""

from hypothesis import given
from hypothesis import strategies as st

from mainstay.cache.refs import replayed, visible
from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.storage.ledger import Ref, RefChange

NAMES = st.sampled_from([RefName(b"refs/heads/%c" % letter) for letter in b"abcdef"]) | st.just(
    RefName(b"refs/merge-requests/1/head")
)
OIDS = st.sampled_from([Oid(digit * 40) for digit in "123"])


@given(
    st.dictionaries(NAMES, OIDS),
    st.lists(st.tuples(NAMES, st.one_of(OIDS, st.just(ZERO_OID))), max_size=12),
)
def test_replaying_the_tail_equals_reading_again(
    start: dict[RefName, Oid], moves: list[tuple[RefName, Oid]]
) -> None:
    listed = tuple(visible(Ref(name, start[name]) for name in sorted(start)))
    now = dict(start)
    for name, new in moves:
        if new == ZERO_OID:
            now.pop(name, None)
        else:
            now[name] = new
    afresh = tuple(visible(Ref(name, now[name]) for name in sorted(now)))
    assert replayed(listed, [RefChange(name, ZERO_OID, new) for name, new in moves]) == afresh
