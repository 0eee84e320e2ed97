"""The journal follows the ledger: nothing is missing after a catch-up, and nothing is ever overwritten."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from mainstay.foundation.errors import Unavailable
from mainstay.git.objectnames import RefName
from mainstay.storage import journal
from mainstay.storage.database import Database
from mainstay.storage.journal import (
    CaughtUp,
    SplitBrain,
    catch_up,
    is_behind_journal,
    write_commit,
    write_up_to,
)
from mainstay.storage.ledger import Repository
from mainstay.storage.records import decode_change, decode_prepared, decode_snapshot
from support.object_stores import FlakyStore
from support.repositories import MAIN, Shelf


@pytest.fixture
def shelf(database: Database) -> Iterator[Shelf]:
    return Shelf(database)


def keys(shelf: Shelf, repository: Repository) -> set[str]:
    return {found.key for found in shelf.objects.list(journal.folder(repository.uid))}


def test_a_catch_up_writes_every_record_and_drops_the_prepared_ones(shelf: Shelf) -> None:
    repository = shelf.create()
    shelf.push(repository, {MAIN: ("", "one")})
    shelf.push(repository, {MAIN: ("one", "two")}, journaled=False)
    assert catch_up(shelf.ledger, shelf.objects) == CaughtUp(changes=3, checkpoints=0)
    assert keys(shelf, repository) == {journal.commit_key(repository.uid, n) for n in (1, 2, 3)}
    for change in shelf.ledger.changes(repository.id, after=0):
        record = shelf.objects.get_bytes(journal.commit_key(repository.uid, change.version))
        assert decode_change(record) == change
    assert catch_up(shelf.ledger, shelf.objects) == CaughtUp(0, 0)


def test_a_push_leaves_no_gap_before_it(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """The birth of a repository and a push whose process died are recorded by the next push at the latest."""
    monkeypatch.setattr(journal, "_PAGE", 2)
    repository = shelf.create()
    for old, new in [("", "a"), ("a", "b"), ("b", "c"), ("c", "d")]:
        shelf.push(repository, {MAIN: (old, new)}, journaled=False)
    write_up_to(shelf.objects, shelf.ledger, repository, 4)
    commits = {journal.commit_key(repository.uid, n) for n in (1, 2, 3, 4)}
    assert {key for key in keys(shelf, repository) if "prepared" not in key} == commits
    write_up_to(shelf.objects, shelf.ledger, repository, 5)
    assert journal.commit_key(repository.uid, 5) in keys(shelf, repository)


def test_a_repository_whose_log_begins_late_is_recorded_from_there(shelf: Shelf) -> None:
    repository = shelf.create()
    shelf.push(repository, {MAIN: ("", "one")}, journaled=False)
    with shelf.database.write() as transaction:
        transaction.execute(
            "DELETE FROM ledger_change WHERE repository_id = ? AND version = 1", (repository.id,)
        )
    write_up_to(shelf.objects, shelf.ledger, repository, 2)
    assert journal.commit_key(repository.uid, 2) in keys(shelf, repository)


def test_a_catch_up_is_bounded(shelf: Shelf) -> None:
    shelf.push(shelf.create(), {MAIN: ("", "one")})
    shelf.push(shelf.create(), {MAIN: ("", "one")})
    assert [catch_up(shelf.ledger, shelf.objects, limit=3).changes for _ in range(3)] == [3, 1, 0]


def test_the_prepared_record_says_what_the_push_will_do(shelf: Shelf) -> None:
    repository = shelf.create()
    push = shelf.prepare(repository, [])
    record = shelf.objects.get_bytes(journal.prepared_key(repository.uid, push.push_id))
    prepared = decode_prepared(record)
    assert prepared.push == replace(push, intents=())
    assert (prepared.uid, prepared.at_ms) == (repository.uid, shelf.clock.now_ms())


def test_checkpoints_are_written_where_they_are_due(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "CHECKPOINT_VERSIONS", 3)
    repository = shelf.create()
    for old, new in [("", "a"), ("a", "b"), ("b", "c")]:
        shelf.push(repository, {MAIN: (old, new), b"refs/heads/\xff" + new.encode(): ("", new)})
    assert catch_up(shelf.ledger, shelf.objects).checkpoints == 1
    record = shelf.objects.get_bytes(journal.checkpoint_key(repository.uid, 4))
    assert decode_snapshot(record) == shelf.ledger.snapshot(repository.id)


def test_a_deleted_repository_has_a_log_but_no_checkpoint(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "CHECKPOINT_VERSIONS", 1)
    repository = shelf.create()
    shelf.ledger.set_write_state(repository.id, "deleted", actor="user:1")
    assert catch_up(shelf.ledger, shelf.objects) == CaughtUp(changes=2, checkpoints=0)
    assert len(keys(shelf, repository)) == 2


def test_a_store_that_is_away_only_delays(database: Database) -> None:
    objects = FlakyStore()
    shelf = Shelf(database, objects)
    repository = shelf.create()
    objects.away = True
    with pytest.raises(Unavailable):
        catch_up(shelf.ledger, objects)
    objects.away = False
    assert catch_up(shelf.ledger, objects).changes == 1
    assert keys(shelf, repository) == {journal.commit_key(repository.uid, 1)}


def test_a_second_ledger_is_found_out(shelf: Shelf) -> None:
    """As after a failover gone wrong: another history is under our version."""
    ours, theirs = shelf.create(), shelf.create()
    shelf.push(ours, {MAIN: ("", "one")}, journaled=False)
    (change,) = shelf.ledger.changes(ours.id, after=1)
    write_commit(shelf.objects, replace(change, hash="f" * 64))
    with pytest.raises(SplitBrain, match=f"{ours.uid} version 2"):
        write_commit(shelf.objects, change)
    with pytest.raises(SplitBrain):
        catch_up(shelf.ledger, shelf.objects)
    # The others are not held up, and the quarrel is not forgotten.
    assert keys(shelf, theirs) == {journal.commit_key(theirs.uid, 1)}
    with pytest.raises(SplitBrain):
        catch_up(shelf.ledger, shelf.objects)


def test_a_record_in_other_words_is_the_same_history(shelf: Shelf) -> None:
    repository = shelf.create()
    (change,) = shelf.ledger.changes(repository.id, after=0)
    write_commit(shelf.objects, replace(change, at_ms=change.at_ms + 1))
    write_commit(shelf.objects, change)
    assert catch_up(shelf.ledger, shelf.objects).changes == 1


def test_a_ledger_that_lost_its_end_is_behind(shelf: Shelf) -> None:
    repository = shelf.create()
    shelf.push(repository, {RefName(MAIN): ("", "one")})
    assert not is_behind_journal(shelf.ledger, shelf.objects, repository.id)
    (change,) = shelf.ledger.changes(repository.id, after=1)
    write_commit(shelf.objects, replace(change, version=3))
    assert is_behind_journal(shelf.ledger, shelf.objects, repository.id)
