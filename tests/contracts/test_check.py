"""`check` is silent about a sound instance, and names each kind of damage."""

from dataclasses import replace

import pytest

from mainstay.foundation.ids import new_ulid
from mainstay.storage.check import Finding, check
from mainstay.storage.database import Database
from mainstay.storage.journal import catch_up, commit_key, write_commit
from mainstay.storage.ledger import NoSuchRepository, Repository
from mainstay.storage.records import encode_change
from support.object_stores import FlakyStore
from support.repositories import MAIN, Shelf


@pytest.fixture
def shelf(database: Database) -> Shelf:
    return Shelf(database, FlakyStore())


@pytest.fixture
def repository(shelf: Shelf) -> Repository:
    repository = shelf.create()
    shelf.push(repository, {MAIN: ("", "one")})
    shelf.push(repository, {MAIN: ("one", "two")})
    catch_up(shelf.ledger, shelf.objects)
    return repository


def found(shelf: Shelf, *, deep: bool = False, repository: int | None = None) -> list[Finding]:
    return list(check(shelf.ledger, shelf.objects, database=shelf.database, repository=repository, deep=deep))


def replaced(shelf: Shelf, key: str, content: bytes) -> None:
    shelf.objects.delete(key)
    shelf.objects.put_bytes(key, content)


@pytest.mark.parametrize("deep", [False, True])
def test_a_sound_instance_has_no_findings(shelf: Shelf, repository: Repository, deep: bool) -> None:
    shelf.create()
    shelf.ledger.fork(repository.id, uid=new_ulid(), identity={}, actor="user:1")
    catch_up(shelf.ledger, shelf.objects)
    assert found(shelf, deep=deep) == []
    assert found(shelf, deep=deep, repository=repository.id) == []


@pytest.mark.parametrize("ending", ["pack", "idx"])
def test_a_missing_file(shelf: Shelf, repository: Repository, ending: str) -> None:
    pack = shelf.ledger.packs(repository.id)[2][0]
    shelf.objects.delete(f"{pack.key}.{ending}")
    (finding,) = found(shelf)
    assert finding == Finding("error", repository.id, f"{pack.key}.{ending} is not in the object store")


def test_a_missing_extra_is_only_a_warning(shelf: Shelf, repository: Repository) -> None:
    pack = shelf.ledger.packs(repository.id)[2][0]
    shelf.ledger.add_artefacts(repository.id, pack.id, ["rev"], intents=[], actor="system:0")
    catch_up(shelf.ledger, shelf.objects)
    (finding,) = found(shelf)
    assert (finding.severity, finding.message) == ("warning", f"{pack.key}.rev is not in the object store")


def test_a_shortened_pack(shelf: Shelf, repository: Repository) -> None:
    pack = shelf.ledger.packs(repository.id)[2][0]
    replaced(shelf, f"{pack.key}.pack", b"short")
    (finding,) = found(shelf)
    assert finding.severity == "error"
    assert f"has 5 bytes instead of {pack.size_bytes}" in finding.message


def test_the_index_of_another_pack(shelf: Shelf, repository: Repository) -> None:
    one, other = shelf.ledger.packs(repository.id)[2]
    replaced(shelf, f"{one.key}.idx", shelf.objects.get_bytes(f"{other.key}.idx"))
    (finding,) = found(shelf)
    assert finding == Finding("error", repository.id, f"{one.key}.idx is the index of another pack")


@pytest.mark.parametrize("ending", ["pack", "idx"])
def test_a_flipped_bit_is_found_by_a_deep_check(shelf: Shelf, repository: Repository, ending: str) -> None:
    pack = shelf.ledger.packs(repository.id)[2][0]
    content = bytearray(shelf.objects.get_bytes(f"{pack.key}.{ending}"))
    content[4] ^= 1
    replaced(shelf, f"{pack.key}.{ending}", bytes(content))
    assert found(shelf) == []
    (finding,) = found(shelf, deep=True)
    assert finding.severity == "error"
    assert f"{pack.key}.{ending}" in finding.message


def test_a_shared_pack_is_read_once(shelf: Shelf, repository: Repository) -> None:
    for _ in range(3):
        shelf.ledger.fork(repository.id, uid=new_ulid(), identity={}, actor="user:1")
    catch_up(shelf.ledger, shelf.objects)
    assert isinstance(shelf.objects, FlakyStore)
    shelf.objects.asked.clear()
    assert found(shelf, deep=True) == []
    sizes = [key for what, key in shelf.objects.asked if what == "size_bytes" and key.endswith(".pack")]
    assert len(sizes) == 2


def test_a_ref_that_nobody_moved(shelf: Shelf, repository: Repository) -> None:
    with shelf.database.write() as tx:
        tx.execute("UPDATE ledger_ref SET oid = ? WHERE repository_id = ?", (b"\1" * 20, repository.id))
    (finding,) = found(shelf)
    assert finding.severity == "error"
    assert "refs/heads/main" in finding.message


class TestJournal:
    def test_records_not_yet_written_are_a_warning(self, shelf: Shelf, repository: Repository) -> None:
        shelf.push(repository, {MAIN: ("two", "three")}, journaled=False)
        (finding,) = found(shelf)
        assert finding.severity == "warning"
        assert "1 journal records from version 4" in finding.message
        catch_up(shelf.ledger, shelf.objects)
        assert found(shelf) == []

    def test_a_journal_that_goes_on_is_an_error(self, shelf: Shelf, repository: Repository) -> None:
        (change,) = shelf.ledger.changes(repository.id, after=2)
        write_commit(shelf.objects, replace(change, version=4))
        (finding,) = found(shelf)
        assert finding.severity == "error"
        assert "goes on after version 3" in finding.message

    def test_another_history_at_the_end(self, shelf: Shelf, repository: Repository) -> None:
        (change,) = shelf.ledger.changes(repository.id, after=2)
        replaced(shelf, commit_key(repository.uid, 3), encode_change(replace(change, hash="f" * 64)))
        (finding,) = found(shelf)
        assert finding.severity == "error"
        assert "tells another history" in finding.message

    def test_an_old_broken_record_is_found_by_a_deep_check(
        self, shelf: Shelf, repository: Repository
    ) -> None:
        replaced(shelf, commit_key(repository.uid, 2), b"{")
        assert found(shelf) == []
        (finding,) = found(shelf, deep=True)
        assert commit_key(repository.uid, 2) in finding.message


def test_one_repository_is_not_judged_by_another(shelf: Shelf, repository: Repository) -> None:
    other = shelf.create()
    shelf.push(other, {MAIN: ("", "one")})
    catch_up(shelf.ledger, shelf.objects)
    shelf.objects.delete(f"{shelf.ledger.packs(other.id)[2][0].key}.pack")
    assert found(shelf, repository=repository.id) == []
    assert len(found(shelf, repository=other.id)) == 1


def test_a_repository_that_is_not_there(shelf: Shelf) -> None:
    with pytest.raises(NoSuchRepository):
        found(shelf, repository=99)
