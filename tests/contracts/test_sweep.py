"""The sweeper deletes what nobody can need any more, and never anything else."""

import pytest

from mainstay.foundation.errors import Unavailable
from mainstay.storage import journal
from mainstay.storage.database import Database
from mainstay.storage.journal import write_commit
from mainstay.storage.ledger import UploadReaped
from mainstay.storage.sweep import SweepReport, SweepSettings, audit, keys_of, sweep
from support.object_stores import FlakyStore
from support.repositories import MAIN, Shelf, ref_changes

DAY_S = 24 * 3600
HOUR_S = 3600


@pytest.fixture
def shelf(database: Database) -> Shelf:
    return Shelf(database)


def swept(shelf: Shelf, settings: SweepSettings | None = None) -> SweepReport:
    return sweep(shelf.ledger, shelf.objects, clock=shelf.clock, settings=settings)


def stored(shelf: Shelf) -> set[str]:
    return {found.key for found in shelf.objects.list("")}


class TestUploads:
    def test_an_abandoned_upload_goes_with_its_prepared_record(self, shelf: Shelf) -> None:
        repository = shelf.create()
        shelf.prepare(repository, ref_changes({MAIN: ("", "one")}))
        assert len(stored(shelf)) == 3
        shelf.clock.advance(DAY_S + HOUR_S - 1)
        assert swept(shelf) == SweepReport(0, 0, 0, 0)
        assert len(stored(shelf)) == 3
        shelf.clock.advance(1)
        assert swept(shelf) == SweepReport(intents=1, packs=0, objects=3, bytes=0)
        assert stored(shelf) == set()
        assert swept(shelf) == SweepReport(0, 0, 0, 0)

    def test_a_committed_push_keeps_its_objects(self, shelf: Shelf) -> None:
        shelf.push(shelf.create(), {MAIN: ("", "one")})
        before = stored(shelf)
        shelf.clock.advance(365 * DAY_S)
        assert swept(shelf) == SweepReport(0, 0, 0, 0)
        assert stored(shelf) == before

    def test_a_push_that_comes_too_late_cannot_commit(self, shelf: Shelf) -> None:
        repository = shelf.create()
        push = shelf.prepare(repository, ref_changes({MAIN: ("", "one")}))
        shelf.clock.advance(2 * DAY_S)
        swept(shelf)
        with pytest.raises(UploadReaped):
            shelf.ledger.push(push)
        assert shelf.ledger.refs(repository.id) == (1, [])

    def test_a_sweeper_that_dies_half_way_is_followed_by_another(self, database: Database) -> None:
        objects = FlakyStore()
        shelf = Shelf(database, objects)
        push = shelf.prepare(shelf.create(), ref_changes({MAIN: ("", "one")}))
        shelf.clock.advance(2 * DAY_S)
        objects.away = True
        with pytest.raises(Unavailable):
            swept(shelf)
        with pytest.raises(UploadReaped):
            shelf.ledger.push(push)
        objects.away = False
        assert swept(shelf).intents == 1
        assert stored(shelf) == set()

    def test_a_restored_database_deletes_nothing_that_was_acknowledged(self, shelf: Shelf) -> None:
        """Its intents are of pushes that committed in the time that was lost; the journal knows that."""
        repository = shelf.create()
        push = shelf.prepare(repository, ref_changes({MAIN: ("", "one")}))
        other = Shelf(shelf.database, shelf.objects)
        acknowledged = shelf.create()
        other.push(acknowledged, {MAIN: ("", "one")})
        (change,) = shelf.ledger.changes(acknowledged.id, after=1)
        lost = journal.commit_key(repository.uid, 2)
        shelf.objects.put_bytes(lost, b"the record of the commit that the database forgot")
        shelf.clock.advance(2 * DAY_S)
        assert swept(shelf).intents == 0
        assert {f"{push.packs[0].key}.pack", f"{push.packs[0].key}.idx"} <= stored(shelf)
        write_commit(shelf.objects, change)
        shelf.objects.delete(lost)
        assert swept(shelf).intents == 1

    def test_uploads_of_a_deleted_repository_go(self, shelf: Shelf) -> None:
        repository = shelf.create()
        shelf.prepare(repository, [])
        shelf.ledger.set_write_state(repository.id, "deleted", actor="user:1")
        shelf.clock.advance(2 * DAY_S)
        assert swept(shelf).intents == 1
        assert stored(shelf) == set()

    def test_one_sweep_is_bounded(self, shelf: Shelf) -> None:
        repository = shelf.create()
        for _ in range(5):
            shelf.prepare(repository, [])
        shelf.clock.advance(2 * DAY_S)
        settings = SweepSettings(batch=2, batches_max=2)
        assert [swept(shelf, settings).intents for _ in range(3)] == [4, 1, 0]


class TestPacks:
    def test_a_compacted_pack_stays_for_the_retention(self, shelf: Shelf) -> None:
        repository = shelf.create()
        shelf.push(repository, {MAIN: ("", "one")})
        (old,) = shelf.ledger.packs(repository.id)[2]
        new = shelf.store_pack(repository)
        shelf.ledger.swap_packs(repository.id, remove=[old.id], add=[new], intents=[], actor="system:0")
        shelf.clock.advance(7 * DAY_S)
        assert swept(shelf).packs == 0
        shelf.clock.advance(1)
        assert swept(shelf) == SweepReport(intents=0, packs=1, objects=2, bytes=old.size_bytes)
        assert not set(keys_of(old)) & stored(shelf)
        assert set(keys_of(new)) <= stored(shelf)
        assert swept(shelf).packs == 0

    def test_a_pack_that_a_fork_still_has_stays(self, shelf: Shelf) -> None:
        repository = shelf.create()
        shelf.push(repository, {MAIN: ("", "one")})
        (pack,) = shelf.ledger.packs(repository.id)[2]
        fork = shelf.ledger.fork(repository.id, uid="0" * 26, identity={}, actor="user:1")
        shelf.ledger.set_write_state(repository.id, "deleted", actor="user:1")
        shelf.clock.advance(30 * DAY_S)
        assert swept(shelf).packs == 0
        assert set(keys_of(pack)) <= stored(shelf)
        shelf.ledger.set_write_state(fork.id, "deleted", actor="user:1")
        shelf.clock.advance(30 * DAY_S)
        assert swept(shelf).packs == 1
        assert not set(keys_of(pack)) & stored(shelf)


class TestAudit:
    def test_it_reports_orphans_and_deletes_nothing(self, shelf: Shelf) -> None:
        repository = shelf.create()
        shelf.push(repository, {MAIN: ("", "one")})
        (doomed,) = shelf.ledger.packs(repository.id)[2]
        shelf.ledger.swap_packs(
            repository.id, remove=[doomed.id], add=[shelf.store_pack(repository)], intents=[], actor="user:1"
        )
        shelf.objects.put_bytes("repositories/gone/packs/x.pack", b"12345")
        shelf.clock.advance(3 * DAY_S)
        shelf.objects.put_bytes("repositories/young/packs/x.pack", b"1")
        before = stored(shelf)
        report = audit(shelf.ledger, shelf.objects, clock=shelf.clock)
        assert (report.objects, report.orphans, report.orphan_bytes) == (5, 1, 5)
        assert [found.key for found in report.examples] == ["repositories/gone/packs/x.pack"]
        assert stored(shelf) == before
