"""A listing advanced by the log equals one read afresh."""

from dataclasses import dataclass, replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.cache.refs import RefListings, RestlessRefs, replayed, visible
from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.storage.ledger import Ledger, Ref, RefChange, Repository

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


@dataclass
class RestlessLedger:
    """Somebody pushes again and again: before each answer but `quiet_after` of them, one ref moves."""

    quiet_after: int
    version: int = 1
    answers: int = 0
    refs_read: int = 0

    def _push(self) -> None:
        self.answers += 1
        if self.answers <= self.quiet_after:
            self.version += 1

    def oid(self) -> Oid:
        return Oid(f"{self.version:040x}")

    def repository(self, repository_id: int) -> Repository:
        self._push()
        return Repository(
            repository_id, "uid", 1, "sha1", RefName(b"refs/heads/a"), self.version, 0, 0, "writable", {}
        )

    def refs(self, _repository_id: int) -> tuple[int, list[Ref]]:
        self.refs_read += 1
        self._push()
        return self.version, [Ref(RefName(b"refs/heads/a"), self.oid())]

    def ref_changes(
        self, _repository_id: int, *, after: int, limit: int
    ) -> tuple[int, list[tuple[int, RefChange]]]:
        assert after <= self.version
        assert limit > 0
        self._push()
        change = RefChange(RefName(b"refs/heads/a"), ZERO_OID, self.oid())
        return self.version, [(self.version, change)] if after < self.version else []


def test_a_repository_that_does_not_rest_is_caught_up_with() -> None:
    ledger = RestlessLedger(quiet_after=41)
    listings = RefListings(cast("Ledger", ledger), refs_max=10)
    listing = listings.latest(7)
    assert listing.version == listing.repository.version == ledger.version == 42
    assert [ref.oid for ref in listing.refs] == [ledger.oid()]
    assert ledger.refs_read == 1, "all refs are read once, then only what moved"
    assert listings.latest(7) is listing


def test_one_that_never_rests_is_given_up() -> None:
    with pytest.raises(RestlessRefs):
        RefListings(cast("Ledger", RestlessLedger(quiet_after=1 << 30)), refs_max=10).latest(7)


def test_another_head_at_another_version_is_seen() -> None:
    ledger = RestlessLedger(quiet_after=0)
    listings = RefListings(cast("Ledger", ledger), refs_max=10)
    before = listings.latest(7)
    ledger.version += 1
    assert listings.latest(7).repository == replace(before.repository, version=2)


def test_unmoved_refs_are_known_at_once_and_others_are_not_read() -> None:
    ledger = RestlessLedger(quiet_after=0)
    listings = RefListings(cast("Ledger", ledger), refs_max=10)
    assert listings.unmoved(7) is None
    listing = listings.latest(7)
    assert listings.unmoved(7) is listing
    ledger.version += 1
    assert listings.unmoved(7) is None
    assert ledger.refs_read == 1
