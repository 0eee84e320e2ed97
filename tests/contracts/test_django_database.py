"""A service that writes by ORM and the ledger commit together, or not at all."""

from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile

import pytest

from mainstay.foundation.clock import ManualClock
from mainstay.storage.database import ConstraintBroken
from mainstay.storage.database.django import DjangoDatabase
from mainstay.storage.ledger.check import verify_chain
from mainstay.storage.ledger.sql import SqlLedger
from support.ledgers import MAIN, a_push, a_repository, create, refs_of, update
from support.product import on_url


@pytest.fixture(params=["sqlite", "postgresql", "pgbouncer"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DjangoDatabase]:
    """Django's default connection of this thread, pointed at a fresh database."""
    if request.param == "sqlite":
        copyfile(request.getfixturevalue("sqlite_template"), tmp_path / "mainstay.db")
        url = f"sqlite://{tmp_path}/mainstay.db"
    else:
        kind = {"postgresql": "postgres_url", "pgbouncer": "pgbouncer_url"}[request.param]
        url = request.getfixturevalue(kind)
    with on_url(url):
        yield DjangoDatabase()


@pytest.fixture
def ledger(database: DjangoDatabase) -> SqlLedger:
    return SqlLedger(database, ManualClock())


def _uids() -> list[str]:
    from mainstay.storage.ledger.models import Repository

    return [row.uid for row in Repository.objects.order_by("id")]


def test_alone_each_block_is_a_transaction(ledger: SqlLedger, database: DjangoDatabase) -> None:
    repository = a_repository(ledger)
    ledger.push(a_push(repository, create(MAIN)))
    assert ledger.push(a_push(repository, update(MAIN, 9, 2))).version is None
    assert _uids() == [repository.uid]
    assert refs_of(ledger, repository).keys() == {MAIN}
    assert verify_chain(database, repository.id) == []


def test_what_a_service_and_the_ledger_write_commits_together(ledger: SqlLedger) -> None:
    from django.db import transaction

    with transaction.atomic():
        repository = a_repository(ledger)
        ledger.push(a_push(repository, create(MAIN)))
        assert _uids() == [repository.uid], "the service sees what the ledger did"
        assert ledger.repository(repository.id).version == 2
    assert _uids() == [repository.uid]


def _create_and_fail(ledger: SqlLedger) -> None:
    from django.db import transaction

    with transaction.atomic():
        a_repository(ledger)
        raise ZeroDivisionError


def test_a_service_that_fails_takes_the_ledger_back_with_it(ledger: SqlLedger) -> None:
    with pytest.raises(ZeroDivisionError):
        _create_and_fail(ledger)
    assert _uids() == []


def test_a_ledger_that_refuses_undoes_only_itself(ledger: SqlLedger) -> None:
    from django.db import transaction

    with transaction.atomic():
        repository = a_repository(ledger)
        with pytest.raises(ConstraintBroken):
            ledger.create_repository(uid=repository.uid, head=MAIN, identity={}, actor="user:1")
        ledger.push(a_push(repository, create(MAIN)))
    assert _uids() == [repository.uid]
    assert refs_of(ledger, repository).keys() == {MAIN}


def test_a_broken_constraint_found_by_the_commit_is_a_conflict(database: DjangoDatabase) -> None:
    naming = "INSERT INTO ledger_repository_pack (repository_id, pack_id, added_version) VALUES (?, ?, ?)"
    with pytest.raises(ConstraintBroken), database.write() as tx:
        tx.execute(naming, (99, "nothing", 1))
    with database.read() as tx:
        assert tx.rows("SELECT * FROM ledger_repository_pack") == []
