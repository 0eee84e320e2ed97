"""What is noted beside the work, for the time when the database is away."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstay.cache.fallback import FallbackLedger
from mainstay.cache.known import KnownFile
from mainstay.cache.outage import Outage
from mainstay.foundation.clock import ManualClock
from mainstay.storage.database import Database, DatabaseAway
from mainstay.storage.ledger.sql import SqlLedger
from support.ledgers import MAIN, a_push, a_repository, create, refs_of, update


class Node:
    """Its ledger, and whether the database is away for it."""

    def __init__(self, database: Database, known: KnownFile) -> None:
        self.clock = ManualClock()
        self.is_away = False
        outage = Outage(
            last_failed=lambda: self.is_away,
            seen_ago_s=lambda: 30.0 if self.is_away else 0.0,
            window_s=600,
            clock=self.clock,
            is_certain=lambda: True,
        )
        self.ledger = FallbackLedger(database, self.clock, known=known, outage=outage)


@pytest.fixture
def node(database: Database, tmp_path: Path) -> Iterator[Node]:
    known = KnownFile(tmp_path / "known.db", ManualClock())
    yield Node(database, known)
    known.close()


def test_what_another_node_pushed_is_known_here_too(node: Node, database: Database) -> None:
    elsewhere = SqlLedger(database, ManualClock())
    repository = a_repository(elsewhere)
    elsewhere.push(a_push(repository, create(MAIN)))
    node.ledger.packs(repository.id)
    node.ledger.note_round()
    first = refs_of(elsewhere, repository)
    elsewhere.push(a_push(repository, update(MAIN, 1, 2)))
    second = refs_of(elsewhere, repository)

    node.clock.advance(1)
    node.ledger.note_round()
    node.is_away = True
    assert refs_of(node.ledger, repository) == first, "not looked again so soon"
    node.is_away = False
    node.clock.advance(10)
    node.ledger.note_round()
    node.is_away = True
    assert refs_of(node.ledger, repository) == second


def test_nothing_is_asked_about_what_nobody_fetched(node: Node, database: Database) -> None:
    repository = a_repository(SqlLedger(database, ManualClock()))
    node.ledger.note_round()
    node.is_away = True
    with pytest.raises(DatabaseAway):
        node.ledger.refs(repository.id)
