"""What a push is refused for before its pack is looked at."""

import pytest

from mainstay.access.actors import Actor, Kind
from mainstay.access.policy import ProtectedRef, PushRules
from mainstay.access.roles import Role
from mainstay.cache.refs import RefListing
from mainstay.git.objectnames import ZERO_OID, Oid, RefName
from mainstay.repository.judgement import first_head, refusals
from mainstay.storage.ledger import Ref, RefChange, Repository

ONE, TWO, SIX = Oid("1" * 40), Oid("2" * 40), Oid("6" * 40)
MAIN, TOPIC = RefName(b"refs/heads/main"), RefName(b"refs/heads/topic")
ADA = Actor(kind=Kind.USER, id=7, name="ada")
RULES = PushRules(actor=ADA, role=Role.DEVELOPER)


def a_listing(*refs: tuple[RefName, Oid], head: RefName = MAIN) -> RefListing:
    repository = Repository(
        id=1, uid="U", network_id=1, object_format="sha1", head=head, version=3, manifest_version=1,
        prune_epoch=0, write_state="writable", identity={},
    )  # fmt: skip
    return RefListing(repository, tuple(Ref(name, oid) for name, oid in refs))


def judged(
    *changes: RefChange, listing: RefListing, rules: PushRules = RULES, atomic: bool = False
) -> dict[RefName, str]:
    return refusals(changes, listing=listing, rules=rules, atomic=atomic)


def test_an_honest_push_is_not_refused() -> None:
    listing = a_listing((MAIN, ONE))
    assert judged(RefChange(MAIN, ONE, TWO), RefChange(TOPIC, ZERO_OID, TWO), listing=listing) == {}


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (RefChange(MAIN, TWO, SIX), f"cannot lock ref 'refs/heads/main': is at {ONE} but expected {TWO}"),
        (RefChange(MAIN, ZERO_OID, TWO), "reference already exists"),
        (RefChange(TOPIC, ZERO_OID, ZERO_OID), "'refs/heads/topic' does not exist"),
        (RefChange(MAIN, ONE, ZERO_OID), "refusing to delete the default branch refs/heads/main"),
        (RefChange(RefName(b"refs/heads/a..b"), ZERO_OID, TWO), "funny refname: it holds '..'"),
        (RefChange(RefName(b"refs/merge-requests/1/head"), ZERO_OID, TWO), "deny updating a hidden ref"),
    ],
)
def test_a_ref_that_cannot_move_says_why(change: RefChange, because: str) -> None:
    assert judged(change, listing=a_listing((MAIN, ONE))) == {change.name: because}


@pytest.mark.parametrize(
    "change",
    [RefChange(MAIN, TWO, ONE), RefChange(MAIN, ZERO_OID, ONE), RefChange(TOPIC, TWO, ZERO_OID)],
)
def test_what_a_repeated_push_did_the_first_time_is_no_reason_to_refuse_it(change: RefChange) -> None:
    assert judged(change, listing=a_listing((MAIN, ONE))) == {}


def test_two_updates_of_one_ref_are_both_refused() -> None:
    changes = [RefChange(TOPIC, ZERO_OID, ONE), RefChange(TOPIC, ZERO_OID, TWO)]
    assert judged(*changes, listing=a_listing()) == {
        TOPIC: "multiple updates for ref 'refs/heads/topic' not allowed"
    }


def test_a_reporter_may_not_push() -> None:
    rules = PushRules(actor=ADA, role=Role.REPORTER)
    assert TOPIC in judged(RefChange(TOPIC, ZERO_OID, ONE), listing=a_listing(), rules=rules)


def test_the_rule_of_one_ref_is_not_applied_to_the_next() -> None:
    rules = PushRules(actor=ADA, role=Role.DEVELOPER, branches=[ProtectedRef("main", Role.MAINTAINER)])
    changes = [RefChange(TOPIC, ZERO_OID, ONE), RefChange(MAIN, ZERO_OID, ONE)]
    for order in (changes, changes[::-1]):
        assert list(judged(*order, listing=a_listing(), rules=rules)) == [MAIN]


def test_an_atomic_push_with_one_refusal_is_refused_whole() -> None:
    changes = [RefChange(TOPIC, ZERO_OID, TWO), RefChange(MAIN, TWO, SIX)]
    refused = judged(*changes, listing=a_listing((MAIN, ONE)), atomic=True)
    assert refused[TOPIC] == "atomic push failure"
    assert refused[MAIN].startswith("cannot lock ref")


@pytest.mark.parametrize(
    ("pushed", "head"),
    [
        ([b"refs/heads/main", b"refs/heads/a"], None),
        ([b"refs/heads/a", b"refs/heads/master"], RefName(b"refs/heads/master")),
        ([b"refs/heads/b", b"refs/heads/a"], RefName(b"refs/heads/b")),
        ([b"refs/tags/v1"], None),
    ],
)
def test_head_follows_the_first_push(pushed: list[bytes], head: RefName | None) -> None:
    changes = [RefChange(RefName(name), ZERO_OID, ONE) for name in pushed]
    assert first_head(a_listing(), changes) == head


def test_head_stays_once_its_branch_exists() -> None:
    assert first_head(a_listing((MAIN, ONE)), [RefChange(TOPIC, ZERO_OID, TWO)]) is None
