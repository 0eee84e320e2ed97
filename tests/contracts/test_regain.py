"""What the journal knows and a database that was left behind does not: brought back exactly, or named."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mainstay.ops.sites import incomplete
from mainstay.storage.ahead import ahead, unknown
from mainstay.storage.database.sqlite import SqliteDatabase
from mainstay.storage.journal import commit_key
from mainstay.storage.ledger import Repository
from mainstay.storage.ledger.check import verify_chain
from mainstay.storage.ledger.regain import NotRegained, regain
from mainstay.storage.ledger.sql import SqlLedger
from mainstay.storage.records import encode_change
from support.repositories import MAIN, Shelf, oid_of


@dataclass
class Pair:
    """A primary, and the database of a replica that was left behind; the objects have all come over."""

    primary: Shelf
    repository: Repository
    behind: SqliteDatabase

    @property
    def ledger(self) -> SqlLedger:
        return SqlLedger(self.behind, self.primary.clock)


@pytest.fixture
def pair(sqlite_template: Path, tmp_path: Path) -> Iterator[Pair]:
    file, copy = tmp_path / "primary.db", tmp_path / "replica.db"
    shutil.copy(sqlite_template, file)
    database = SqliteDatabase(str(file))
    shelf = Shelf(database)
    repository = shelf.create({"full_path": "ada/engine"})
    shelf.push(repository, {MAIN: ("", "1")})
    database.close()
    shutil.copy(file, copy)
    primary = Shelf(SqliteDatabase(str(file)), shelf.objects)
    primary.push(repository, {MAIN: ("1", "2"), b"refs/heads/more": ("", "2")})
    primary.push(repository, {MAIN: ("2", "3")})
    behind = SqliteDatabase(str(copy))
    yield Pair(primary, repository, behind)
    primary.database.close()
    behind.close()


def test_pushes_that_only_the_journal_has_are_found_and_come_back_as_they_were(pair: Pair) -> None:
    (found,) = ahead(pair.ledger, pair.behind, pair.primary.objects)
    assert [change.version for change in found.changes] == [3, 4]
    assert found.regainable == found.changes
    assert regain(pair.behind, found.repository_id, found.regainable) == 4
    assert pair.ledger.snapshot(pair.repository.id) == pair.primary.ledger.snapshot(pair.repository.id)
    assert list(verify_chain(pair.behind, pair.repository.id)) == []
    assert ahead(pair.ledger, pair.behind, pair.primary.objects) == []


def test_what_came_back_can_be_pushed_upon_and_the_journal_goes_on(pair: Pair) -> None:
    (found,) = ahead(pair.ledger, pair.behind, pair.primary.objects)
    regain(pair.behind, found.repository_id, found.regainable)
    promoted = Shelf(pair.behind, pair.primary.objects)
    outcome = promoted.push(pair.repository, {MAIN: ("3", "4")})
    assert outcome.version == 5
    assert pair.ledger.refs_named(pair.repository.id, [MAIN])[1][0].oid == oid_of("4")


def test_a_push_whose_packs_did_not_come_is_named_and_not_brought_back(pair: Pair) -> None:
    (change,) = pair.primary.ledger.changes(pair.repository.id, after=3, limit=1)
    pair.primary.objects.delete(f"{change.packs_added[0].key}.pack")
    (found,) = ahead(pair.ledger, pair.behind, pair.primary.objects)
    assert [each.version for each in found.changes] == [3, 4]
    assert [each.version for each in found.regainable] == [3]


def test_a_history_that_went_on_differently_is_left_alone(pair: Pair) -> None:
    (found,) = ahead(pair.ledger, pair.behind, pair.primary.objects)
    pair.ledger.set_head(pair.repository.id, found.changes[0].refs[1].name, actor="user:1")
    with pytest.raises(NotRegained):
        regain(pair.behind, pair.repository.id, found.regainable)
    (again,) = ahead(pair.ledger, pair.behind, pair.primary.objects)
    assert [each.version for each in again.changes] == [4]
    assert again.regainable == []


def test_the_intents_of_what_came_back_are_gone_so_that_no_sweep_takes_its_packs(pair: Pair) -> None:
    change = pair.primary.ledger.changes(pair.repository.id, after=2, limit=1)[0]
    pair.ledger.begin_upload(pair.repository.id, [f"{change.packs_added[0].key}.pack"], expires_ms=1)
    regain(pair.behind, pair.repository.id, [change])
    assert pair.ledger.claim_uploads(expired_at_ms=2) == []


def test_prepared_pushes_and_unborn_repositories_are_found_by_listing(pair: Pair) -> None:
    other = pair.primary.create({"full_path": "ada/other"})
    (birth,) = pair.primary.ledger.changes(other.id, after=0, limit=1)
    pair.primary.objects.put_bytes(commit_key(other.uid, 1), encode_change(birth))
    found = unknown(pair.ledger, pair.primary.objects)
    assert found.is_complete
    assert [change.uid for change in found.born] == [other.uid]
    assert {each.push.push_id for each in found.prepared} == {
        change.push_id for change in pair.primary.ledger.changes(pair.repository.id, after=2, limit=9)
    }


def test_a_repository_that_lacks_packs_is_closed_named_and_comes_back(pair: Pair) -> None:
    (_, _, packs) = pair.ledger.packs(pair.repository.id)
    key = f"{packs[0].key}.pack"
    content = pair.primary.objects.get_bytes(key)
    pair.primary.objects.delete(key)
    missing = incomplete.missing_objects(pair.behind, pair.primary.objects)
    assert missing == {pair.repository.id: [key]}
    behind = incomplete.behind_journal(pair.ledger, pair.primary.objects)
    assert behind == [pair.repository.id]
    (listed,) = incomplete.listed(missing, behind, {pair.repository.id: "ada/engine"})
    assert incomplete.sentence(listed).startswith(f"ada/engine is read-only: {key} not here; the journal")
    assert incomplete.close(pair.ledger, missing) == [pair.repository.id]
    assert incomplete.close(pair.ledger, missing) == []
    assert pair.ledger.repository(pair.repository.id).write_state == "read_only"
    pair.primary.objects.put_bytes(key, content)
    assert incomplete.missing_objects(pair.behind, pair.primary.objects) == {}
    assert incomplete.reopen(pair.ledger, [pair.repository.id]) == [pair.repository.id]
    assert pair.ledger.repository(pair.repository.id).write_state == "writable"


def test_who_was_read_only_before_stays_so(pair: Pair) -> None:
    pair.ledger.set_write_state(pair.repository.id, "read_only", actor="user:1")
    assert incomplete.close(pair.ledger, [pair.repository.id]) == []
    assert incomplete.reopen(pair.ledger, [pair.repository.id]) == []
