"""A ledger made again from the object store alone is the ledger that was lost; what is not, is said."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstay.foundation.ids import new_ulid
from mainstay.git.objectnames import RefName
from mainstay.storage import journal
from mainstay.storage.database import Database
from mainstay.storage.journal import catch_up, checkpoint_key, commit_key, write_checkpoint
from mainstay.storage.ledger import NoSuchRepository, Repository
from mainstay.storage.ledger.check import verify_chain
from mainstay.storage.ledger.sql import SqlLedger
from mainstay.storage.rebuild import rebuild
from support.databases import migrated_sqlite
from support.repositories import MAIN, Shelf, oid_of, ref_changes

ODD = RefName(b"refs/tags/\xff\xfe")


@pytest.fixture
def lost(sqlite_template: Path) -> Iterator[Shelf]:
    """The instance whose database will be lost."""
    database = migrated_sqlite(sqlite_template, ":memory:")
    yield Shelf(database)
    database.close()


@pytest.fixture
def fresh(database: Database, lost: Shelf) -> SqlLedger:
    """An empty ledger in each kind of database."""
    return SqlLedger(database, lost.clock)


def journal_all(shelf: Shelf) -> None:
    while catch_up(shelf.ledger, shelf.objects).changes:
        pass


def grown(shelf: Shelf, pushes: int = 3) -> Repository:
    """A repository of version 1 + `pushes`."""
    repository = shelf.create({"path": f"ada/{new_ulid()}", "visibility": "private"})
    for n in range(pushes):
        old = str(n - 1) if n else ""
        shelf.push(repository, {MAIN: (old, str(n)), ODD + b"%d" % n: ("", "tag")})
    return repository


def broken(shelf: Shelf, key: str, content: bytes = b"broken") -> None:
    shelf.objects.delete(key)
    shelf.objects.put_bytes(key, content)


class TestEqual:
    def test_refs_manifest_log_and_identity_come_back(self, lost: Shelf, fresh: SqlLedger) -> None:
        repositories = [grown(lost), grown(lost, pushes=0), grown(lost)]
        first = repositories[0].id
        lost.ledger.set_head(first, RefName(b"refs/heads/trunk"), actor="user:1")
        lost.ledger.set_identity(first, {"path": "ada/renamed"}, actor="user:1")
        lost.ledger.set_write_state(first, "read_only", actor="user:1")
        journal_all(lost)
        report = rebuild(lost.objects, fresh)
        assert report.findings == []
        assert report.prepared == []
        for repository in repositories:
            assert fresh.snapshot(repository.id) == lost.ledger.snapshot(repository.id)
            before = lost.ledger.changes(repository.id, after=0)
            assert fresh.changes(repository.id, after=0) == before
            assert verify_chain(fresh.database, repository.id) == []
        assert {found.id for found in report.repositories} == {each.id for each in repositories}
        told = {found.id: found for found in report.repositories}[first]
        assert (told.identity, told.refs, told.packs) == ({"path": "ada/renamed"}, 4, 3)
        assert not told.deleted

    def test_forks_and_compactions_come_back(self, lost: Shelf, fresh: SqlLedger) -> None:
        source = grown(lost)
        fork = lost.ledger.fork(source.id, uid=new_ulid(), identity={"path": "bob/engine"}, actor="user:2")
        lost.push(fork, {b"refs/heads/mine": ("", "mine")})
        old = [pack.id for pack in lost.ledger.packs(source.id)[2]]
        lost.ledger.swap_packs(
            source.id, remove=old, add=[lost.store_pack(source)], intents=[], actor="system:0"
        )
        journal_all(lost)
        assert rebuild(lost.objects, fresh).findings == []
        for each in (source, fork):
            assert fresh.snapshot(each.id) == lost.ledger.snapshot(each.id)
            assert verify_chain(fresh.database, each.id) == []

    def test_life_goes_on_afterwards(self, lost: Shelf, fresh: SqlLedger) -> None:
        repository = grown(lost)
        journal_all(lost)
        rebuild(lost.objects, fresh)
        again = Shelf(fresh.database, lost.objects)
        assert again.push(repository, {MAIN: ("2", "3")}).version == 5
        assert again.create().id > repository.id
        journal_all(again)
        assert verify_chain(fresh.database, repository.id) == []

    def test_deleted_repositories_stay_deleted(self, lost: Shelf, fresh: SqlLedger) -> None:
        repository = grown(lost)
        lost.ledger.set_write_state(repository.id, "deleted", actor="user:1")
        journal_all(lost)
        report = rebuild(lost.objects, fresh)
        assert [(found.id, found.deleted) for found in report.repositories] == [(repository.id, True)]
        with pytest.raises(NoSuchRepository):
            fresh.repository(repository.id)
        assert Shelf(fresh.database, lost.objects).create().id > repository.id

    def test_running_it_again_changes_nothing(self, lost: Shelf, fresh: SqlLedger) -> None:
        repository, gone = grown(lost), grown(lost)
        lost.ledger.set_write_state(gone.id, "deleted", actor="user:1")
        journal_all(lost)
        first = rebuild(lost.objects, fresh)
        second = rebuild(lost.objects, fresh)
        assert second == first
        assert fresh.snapshot(repository.id) == lost.ledger.snapshot(repository.id)

    def test_looking_first_changes_nothing(self, lost: Shelf, fresh: SqlLedger) -> None:
        repository, incomplete = grown(lost), grown(lost)
        journal_all(lost)
        lost.objects.delete(f"{lost.ledger.packs(incomplete.id)[2][0].key}.idx")
        lost.prepare(repository, ref_changes({MAIN: ("2", "3")}))
        before = {found.key for found in lost.objects.list("")}
        report = rebuild(lost.objects, None)
        assert {found.key for found in lost.objects.list("")} == before
        assert report == rebuild(lost.objects, fresh)
        assert len(report.prepared) == 1
        assert report.findings != []

    def test_an_empty_store_gives_an_empty_ledger(self, lost: Shelf, fresh: SqlLedger) -> None:
        lost.objects.put_bytes("journal/README", b"not a repository")
        assert rebuild(lost.objects, fresh).repositories == []
        assert fresh.repositories() == []


class TestDamage:
    @pytest.mark.parametrize("damage", ["missing", "broken", "other"])
    def test_a_gap_is_bridged_by_a_checkpoint(self, lost: Shelf, fresh: SqlLedger, damage: str) -> None:
        repository = grown(lost, pushes=4)
        journal_all(lost)
        write_checkpoint(lost.objects, lost.ledger, repository.id)
        lost.push(repository, {MAIN: ("3", "4")})
        journal_all(lost)
        key = commit_key(repository.uid, 3)
        lost.objects.delete(key)
        if damage != "missing":
            other = lost.objects.get_bytes(commit_key(repository.uid, 2)) if damage == "other" else b"{"
            lost.objects.put_bytes(key, other)
        report = rebuild(lost.objects, fresh)
        assert fresh.snapshot(repository.id) == lost.ledger.snapshot(repository.id)
        assert verify_chain(fresh.database, repository.id) == []
        assert any("come from a checkpoint" in found.message for found in report.findings)
        assert {found.severity for found in report.findings} == {"error"}

    def test_a_gap_without_a_checkpoint_ends_the_history(self, lost: Shelf, fresh: SqlLedger) -> None:
        repository = grown(lost, pushes=4)
        journal_all(lost)
        broken(lost, commit_key(repository.uid, 4))
        report = rebuild(lost.objects, fresh)
        assert fresh.repository(repository.id).version == 3
        assert fresh.refs_named(repository.id, [MAIN])[1][0].oid == oid_of("1")
        assert any("versions 4 to 5 are lost" in found.message for found in report.findings)

    def test_a_forged_record_is_not_believed(self, lost: Shelf, fresh: SqlLedger) -> None:
        repository = grown(lost)
        journal_all(lost)
        key = commit_key(repository.uid, 4)
        forged = lost.objects.get_bytes(key).replace(oid_of("2").encode(), oid_of("evil").encode())
        broken(lost, key, forged)
        report = rebuild(lost.objects, fresh)
        assert fresh.refs_named(repository.id, [MAIN])[1][0].oid == oid_of("1")
        assert any("does not give its hash" in found.message for found in report.findings)

    def test_a_broken_checkpoint_is_passed_over(self, lost: Shelf, fresh: SqlLedger) -> None:
        repository = grown(lost)
        journal_all(lost)
        write_checkpoint(lost.objects, lost.ledger, repository.id)
        lost.push(repository, {MAIN: ("2", "3")})
        journal_all(lost)
        write_checkpoint(lost.objects, lost.ledger, repository.id)
        broken(lost, commit_key(repository.uid, 2))
        broken(lost, checkpoint_key(repository.uid, 5))
        report = rebuild(lost.objects, fresh)
        assert fresh.snapshot(repository.id) == lost.ledger.snapshot(repository.id)
        assert any(checkpoint_key(repository.uid, 5) in found.message for found in report.findings)

    def test_a_repository_of_which_nothing_is_left_is_named(self, lost: Shelf, fresh: SqlLedger) -> None:
        repository, other = grown(lost, pushes=0), grown(lost)
        journal_all(lost)
        broken(lost, commit_key(repository.uid, 1))
        report = rebuild(lost.objects, fresh)
        assert [found.id for found in report.repositories] == [other.id]
        assert any(f"{repository.uid} cannot be rebuilt" in found.message for found in report.findings)

    def test_missing_packs_make_it_read_only(self, lost: Shelf, fresh: SqlLedger) -> None:
        repository, whole = grown(lost), grown(lost)
        journal_all(lost)
        pack = lost.ledger.packs(repository.id)[2][1]
        lost.objects.delete(f"{pack.key}.pack")
        report = rebuild(lost.objects, fresh)
        assert fresh.repository(repository.id).write_state == "read_only"
        assert fresh.repository(whole.id).write_state == "writable"
        assert any(pack.key in found.message for found in report.findings)
        assert rebuild(lost.objects, fresh).findings == report.findings

    def test_another_repository_under_that_id_is_left_alone(self, lost: Shelf, fresh: SqlLedger) -> None:
        repository = grown(lost)
        journal_all(lost)
        stranger = Shelf(fresh.database).create()
        assert stranger.id == repository.id
        report = rebuild(lost.objects, fresh)
        assert report.repositories == []
        assert any("left alone" in found.message for found in report.findings)
        assert fresh.repository(repository.id).uid == stranger.uid


class TestPreparedPushes:
    def prepared(self, lost: Shelf, changes: dict[bytes, tuple[str, str]]) -> tuple[Repository, str]:
        """A push of which the store knows that it was about to commit, and no more."""
        repository = grown(lost)
        journal_all(lost)
        push = lost.prepare(repository, ref_changes(changes))
        return repository, push.push_id

    def test_they_are_listed_and_not_applied(self, lost: Shelf, fresh: SqlLedger) -> None:
        repository, push_id = self.prepared(lost, {MAIN: ("2", "3"), b"refs/heads/new": ("", "n")})
        (found,) = rebuild(lost.objects, fresh).prepared
        assert (found.repository, found.push_id, found.actor) == (repository.id, push_id, "user:1")
        assert (found.applied, list(found.refs)) == (False, ["refs/heads/main", "refs/heads/new"])
        assert fresh.snapshot(repository.id) == lost.ledger.snapshot(repository.id)

    def test_they_are_applied_on_demand(self, lost: Shelf, fresh: SqlLedger) -> None:
        repository, push_id = self.prepared(lost, {MAIN: ("2", "3"), b"refs/heads/new": ("", "n")})
        (found,) = rebuild(lost.objects, fresh, apply_prepared=True).prepared
        assert (found.applied, found.reason) == (True, "")
        assert fresh.refs_named(repository.id, [MAIN])[1][0].oid == oid_of("3")
        assert len(fresh.packs(repository.id)[2]) == 4
        assert fresh.outcome_of(push_id) is not None
        assert verify_chain(fresh.database, repository.id) == []

    def test_a_ref_that_moved_on_stops_the_whole_push(self, lost: Shelf, fresh: SqlLedger) -> None:
        repository, _ = self.prepared(lost, {MAIN: ("1", "3"), b"refs/heads/new": ("", "n")})
        (found,) = rebuild(lost.objects, fresh, apply_prepared=True).prepared
        assert not found.applied
        assert "refs/heads/main" in found.reason
        assert fresh.snapshot(repository.id) == lost.ledger.snapshot(repository.id)

    def test_a_push_without_its_pack_is_not_applied(self, lost: Shelf, fresh: SqlLedger) -> None:
        repository = grown(lost)
        journal_all(lost)
        push = lost.prepare(repository, ref_changes({MAIN: ("2", "3")}))
        lost.objects.delete(f"{push.packs[0].key}.pack")
        (found,) = rebuild(lost.objects, fresh, apply_prepared=True).prepared
        assert not found.applied
        assert "is not in the object store" in found.reason

    def test_a_committed_push_is_not_listed(self, lost: Shelf, fresh: SqlLedger) -> None:
        repository = grown(lost)
        assert any("/prepared/" in found.key for found in lost.objects.list(journal.folder(repository.uid)))
        assert catch_up(lost.ledger, lost.objects, limit=1).changes == 1
        assert rebuild(lost.objects, fresh, apply_prepared=True).prepared == []
        assert fresh.snapshot(repository.id) == lost.ledger.snapshot(repository.id)

    def test_a_broken_prepared_record_is_reported(self, lost: Shelf, fresh: SqlLedger) -> None:
        repository, push_id = self.prepared(lost, {MAIN: ("2", "3")})
        broken(lost, journal.prepared_key(repository.uid, push_id))
        report = rebuild(lost.objects, fresh)
        assert report.prepared == []
        assert [found.severity for found in report.findings] == ["warning"]
