"""What every database does with a fence: plain transactions, Django's, and Django's without one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest

from mainstay.foundation.errors import OutcomeUnknown
from mainstay.storage.database import Database
from mainstay.storage.database.django import DjangoDatabase
from mainstay.storage.database.fence import SiteFenced
from mainstay.storage.database.postgresql import PostgresqlDatabase
from support.databases import migrated_sqlite
from support.product import on_url

ADD = "INSERT INTO ledger_event (topic, payload, at_ms, attempts, due_ms) VALUES (?, '{}', 1, 0, 1)"
KINDS = ["sqlite-file", "sqlite-memory", "postgresql", "django-sqlite", "django-postgresql"]


class FallingFence:
    """Lets `passes` questions pass and refuses all that come after."""

    def __init__(self) -> None:
        self.passes = 1_000_000
        self.asked = 0

    def refusal(self) -> str | None:
        self.asked += 1
        return "this site was superseded by berlin at epoch 5" if self.asked > self.passes else None

    def check(self) -> None:
        if because := self.refusal():
            raise SiteFenced(because, is_final=True)

    def confirm(self) -> None:
        if because := self.refusal():
            raise OutcomeUnknown(because)

    def follows(self) -> bool:
        """It is a primary's."""
        return False

    def fall_after(self, passes: int) -> None:
        self.asked, self.passes = 0, passes


@pytest.fixture
def fence() -> FallingFence:
    return FallingFence()


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path, fence: FallingFence) -> Iterator[Database]:
    kind = request.param
    if kind.startswith("django"):
        yield from _django(kind, request.getfixturevalue, tmp_path, fence)
        return
    if kind == "postgresql":
        opened: Database = PostgresqlDatabase(request.getfixturevalue("postgres_url"), fence=fence)
    else:
        path = ":memory:" if kind == "sqlite-memory" else tmp_path / "mainstay.db"
        opened = migrated_sqlite(request.getfixturevalue("sqlite_template"), path)
        opened._fence = fence
    yield opened
    opened.close()


def _django(
    kind: str, fixture: Callable[[str], Any], tmp_path: Path, fence: FallingFence
) -> Iterator[Database]:
    from django import db

    if kind == "django-sqlite":
        copyfile(fixture("sqlite_template"), tmp_path / "mainstay.db")
        url = f"sqlite://{tmp_path}/mainstay.db"
    else:
        url = fixture("postgres_url")
    with on_url(url):
        wrapper: Any = db.connection
        wrapper._fence = fence
        from mainstay.storage.database.orm.fencing import asking_in_autocommit

        wrapper.execute_wrappers[0] = asking_in_autocommit(fence)
        yield DjangoDatabase()


def topics(database: Database) -> list[str]:
    with database.read() as tx:
        return [topic for (topic,) in tx.rows("SELECT topic FROM ledger_event ORDER BY id")]


def add(database: Database, topic: str) -> None:
    with database.write() as tx:
        tx.execute(ADD, (topic,))


def test_an_open_fence_is_asked_three_times(database: Database, fence: FallingFence) -> None:
    fence.fall_after(1_000_000)
    add(database, "one")
    assert fence.asked == 3
    assert topics(database) == ["one"]


def test_a_fenced_database_refuses_writes_before_they_begin_and_leaves_reads_alone(
    database: Database, fence: FallingFence
) -> None:
    add(database, "one")
    fence.fall_after(0)
    begun = False
    with pytest.raises(SiteFenced, match="superseded by berlin"), database.write():
        begun = True
    assert not begun
    assert topics(database) == ["one"]


def test_a_fence_that_falls_during_a_transaction_undoes_it(database: Database, fence: FallingFence) -> None:
    fence.fall_after(1)
    with pytest.raises(SiteFenced):
        add(database, "one")
    fence.fall_after(1_000_000)
    assert topics(database) == []
    add(database, "two")
    assert topics(database) == ["two"], "the connection is as good as before"


def test_a_fence_that_falls_during_the_commit_leaves_it_unknown(
    database: Database, fence: FallingFence
) -> None:
    fence.fall_after(2)
    with pytest.raises(OutcomeUnknown):
        add(database, "one")
    fence.fall_after(1_000_000)
    assert topics(database) == ["one"], "it is there, and was not acknowledged"
    add(database, "two")


@pytest.mark.parametrize("database", ["django-sqlite", "django-postgresql"], indirect=True)
def test_djangos_own_writes_ask_too(database: Database, fence: FallingFence) -> None:
    from django.db import transaction

    from mainstay.storage.ledger.models import Event

    fields = {"topic": "one", "payload": "{}", "at_ms": 1, "attempts": 0, "due_ms": 1}
    fence.fall_after(0)
    with pytest.raises(SiteFenced):
        Event.objects.bulk_create([Event(**fields)])
    with pytest.raises(SiteFenced):
        Event.objects.filter(topic="one").update(attempts=3)
    with pytest.raises(SiteFenced), transaction.atomic():
        pytest.fail("nothing begins")
    fence.fall_after(1)
    with pytest.raises(OutcomeUnknown):
        Event.objects.filter(topic="one").update(attempts=3)
    fence.fall_after(0)
    assert list(Event.objects.all()) == []
