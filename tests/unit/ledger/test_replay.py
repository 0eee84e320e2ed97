"""A replay refuses a log that does not hang together."""

from dataclasses import replace
from typing import Any

import pytest

from mainstay.git.objectnames import RefName
from mainstay.storage.ledger import Change, Ref
from mainstay.storage.ledger.chain import FIRST, sealed
from mainstay.storage.ledger.replay import BrokenLog, replay
from support.ledgers import ADA, MAIN, an_oid, create, update


def a_change(version: int, before: Change | None = None, **fields: Any) -> Change:
    plain = Change(
        repository_id=7,
        uid="U",
        version=version,
        kind="push",
        push_id=None,
        actor=ADA,
        at_ms=version,
        refs=[],
        packs_added=[],
        packs_removed=[],
        head=None,
        identity=None,
        details={},
        hash="",
        previous_hash=FIRST if before is None else before.hash,
    )
    return sealed(replace(plain, **fields))


BIRTH = a_change(
    1, kind="create", head=MAIN, identity={"p": 1}, details={"network_id": 7, "object_format": "sha1"}
)
PUSH = a_change(2, BIRTH, refs=[create(MAIN)])


def test_the_sum_of_the_log_is_the_state() -> None:
    state = replay([BIRTH, PUSH])
    assert (state.repository.version, state.repository.head, state.hash) == (2, MAIN, PUSH.hash)
    assert list(state.refs) == [Ref(MAIN, an_oid(1))]
    moved = replay([a_change(3, PUSH, refs=[update(MAIN, 1, 2)])], state)
    assert list(moved.refs) == [Ref(MAIN, an_oid(2))]


@pytest.mark.parametrize(
    ("third", "why"),
    [
        (a_change(4, PUSH), "version 4 follows version 2"),
        (a_change(3, BIRTH), "the hash of the change before it is another"),
        (replace(a_change(3, PUSH), actor="user:66"), "does not give its hash"),
        (a_change(3, PUSH, refs=[create(MAIN)]), "moves refs/heads/main from 0000"),
        (a_change(3, PUSH, refs=[update(RefName(b"refs/heads/x"), 1, 2)]), "but it is 0000"),
        (a_change(3, PUSH, packs_removed=["gone"]), "takes out pack gone, which is not there"),
    ],
)
def test_a_change_that_does_not_continue_the_log_is_refused(third: Change, why: str) -> None:
    with pytest.raises(BrokenLog, match=why):
        replay([BIRTH, PUSH, third])


def test_a_log_begins_with_a_birth() -> None:
    with pytest.raises(BrokenLog, match="no change to begin with"):
        replay([])
    with pytest.raises(BrokenLog, match="cannot be the first"):
        replay([a_change(1)])
