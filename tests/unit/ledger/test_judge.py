"""Which refs of a push may move."""

import pytest

from mainstay.git.objectnames import ZERO_OID, RefName
from mainstay.storage.ledger import RefChange
from mainstay.storage.ledger.judge import directories_of, judge
from support.ledgers import MAIN, an_oid, create, delete, update

PRESENT = {MAIN: an_oid(1), RefName(b"refs/heads/dir/x"): an_oid(2)}


def test_what_is_as_expected_moves_in_the_order_of_the_push() -> None:
    changes = [update(MAIN, 1, 5), create(b"refs/heads/a"), delete(b"refs/heads/dir/x", 2)]
    judgement = judge(changes, PRESENT, atomic=False)
    assert list(judgement.moves) == changes
    assert judgement.refused == {}


def test_what_already_is_so_is_neither_moved_nor_refused() -> None:
    judgement = judge([update(MAIN, 1, 1)], PRESENT, atomic=True)
    assert (list(judgement.moves), judgement.refused) == ([], {})


@pytest.mark.parametrize(
    "change", [update(MAIN, 7, 1), RefChange(MAIN, ZERO_OID, an_oid(1)), delete(b"refs/heads/none", 7)]
)
def test_a_repeated_push_is_neither_refused_nor_moves_again(change: RefChange) -> None:
    fine = create(b"refs/heads/fine")
    judgement = judge([change, fine], PRESENT, atomic=True, repeatable=True)
    assert (list(judgement.moves), judgement.refused) == ([fine], {})
    assert change.name in judge([change, fine], PRESENT, atomic=True).refused


def test_a_repeatable_push_that_would_change_something_is_judged_as_any() -> None:
    changes = [update(MAIN, 7, 8), create(b"refs/heads/dir"), RefChange(MAIN, an_oid(7), an_oid(1))]
    judgement = judge(changes, PRESENT, atomic=False, repeatable=True)
    assert not judgement.moves
    assert judgement.refused == {
        MAIN: "multiple updates for this reference",
        RefName(b"refs/heads/dir"): "'refs/heads/dir/x' exists",
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (create(MAIN), "reference already exists"),
        (delete(MAIN, 9), "expected 000000000000, found 000000000000"),
        (delete(b"refs/heads/none", 1), "reference does not exist"),
        (RefChange(RefName(b"refs/heads/none"), ZERO_OID, ZERO_OID), "reference does not exist"),
        (create(b"refs/heads/dir"), "'refs/heads/dir/x' exists"),
        (create(b"refs/heads/main/deep/er"), "'refs/heads/main' exists"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(change: RefChange, reason: str) -> None:
    fine = create(b"refs/heads/fine")
    judgement = judge([change, fine], PRESENT, atomic=False)
    assert (list(judgement.moves), judgement.refused) == ([fine], {change.name: reason})
    judgement = judge([change, fine], PRESENT, atomic=True)
    assert (list(judgement.moves), judgement.refused) == (
        [],
        {change.name: reason, fine.name: "atomic push failed"},
    )


def test_three_doubles_are_one_refusal() -> None:
    judgement = judge([create(b"refs/heads/a", n) for n in (1, 2, 3)], PRESENT, atomic=False)
    assert judgement.refused == {b"refs/heads/a": "multiple updates for this reference"}
    assert list(judgement.moves) == []


def test_the_directories_of_a_name() -> None:
    assert list(directories_of(RefName(b"refs/heads/a/b"))) == [b"refs", b"refs/heads", b"refs/heads/a"]
    assert list(directories_of(RefName(b"main"))) == []
