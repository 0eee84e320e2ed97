"""A heart that nothing stops but its own end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mainstay.cluster import nodes
from mainstay.cluster.heart import Heart
from mainstay.cluster.nodes import Introduction, NodeRow
from mainstay.foundation.clock import ManualClock
from mainstay.foundation.errors import OutcomeUnknown, Unavailable
from mainstay.storage.database import Transaction
from mainstay.storage.database.sqlite import SqliteDatabase

_TABLE = """
CREATE TABLE cluster_node (id TEXT PRIMARY KEY, name TEXT, http TEXT, ssh TEXT, rpc TEXT, health TEXT,
roles TEXT, labels TEXT, version TEXT, state TEXT, started_ms BIGINT, beat_ms BIGINT, lag_ms BIGINT,
skew_ms BIGINT, drain_asked_ms BIGINT, facts TEXT)
"""
ME = Introduction(
    id="01ME", name="me", http="h:1", ssh="", rpc="", health="h:1",
    roles=frozenset({"web"}), labels=(), version="1",
)  # fmt: skip


class BreakableLine:
    """A database that fails when it is told to."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self.failure: Exception | None = None

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        with self._database.read() as tx:
            yield tx

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        if self.failure:
            raise self.failure
        with self._database.write() as tx:
            yield tx

    def close(self) -> None:
        self._database.close()


class Patient:
    """A heart, driven turn by turn."""

    def __init__(self) -> None:
        database = SqliteDatabase(":memory:")
        database.shared_connection().execute(_TABLE)
        self.line = BreakableLine(database)
        self.clock = ManualClock()
        self.drains = 0
        self.heart = Heart(
            line=self.line, me=ME, state=lambda: "ready", facts=dict, drain=self._drain, clock=self.clock
        )

    def _drain(self) -> None:
        self.drains += 1

    def row(self) -> NodeRow:
        return nodes.find(self.line, "me")

    def sql(self, statement: str, *parameters: Any) -> None:
        with self.line.write() as tx:
            tx.execute(statement, parameters)


@pytest.fixture
def patient() -> Iterator[Patient]:
    patient = Patient()
    yield patient
    patient.line.close()


def test_the_first_turn_registers_and_every_turn_beats(patient: Patient) -> None:
    patient.heart.turn("starting")
    assert patient.row().state == "starting"
    patient.heart.turn("ready")
    assert patient.row().state == "ready"


@pytest.mark.parametrize("failure", [Unavailable("away"), OutcomeUnknown("lost"), ValueError("a bug")])
def test_a_database_that_fails_is_survived(patient: Patient, failure: Exception) -> None:
    patient.heart.turn("ready")
    patient.line.failure = failure
    for _ in range(3):
        patient.heart.turn("ready")
    patient.line.failure = None
    patient.heart.turn("draining")
    assert patient.row().state == "draining"


def test_a_database_that_is_away_at_first_is_waited_for(patient: Patient) -> None:
    patient.line.failure = Unavailable("away")
    patient.heart.turn("starting")
    patient.line.failure = None
    patient.heart.turn("ready")
    assert patient.row().state == "ready"


def test_a_wish_to_drain_is_passed_on_once(patient: Patient) -> None:
    patient.heart.turn("ready")
    nodes.ask_to_drain(patient.line, "me")
    patient.heart.turn("ready")
    patient.heart.turn("draining")
    assert patient.drains == 1


def test_a_node_that_was_forgotten_comes_back(patient: Patient) -> None:
    patient.heart.turn("ready")
    patient.sql("DELETE FROM cluster_node")
    patient.heart.turn("ready")
    patient.heart.turn("ready")
    assert patient.row().state == "ready"


def test_the_clock_is_compared_with_the_databases(patient: Patient) -> None:
    patient.heart.turn("ready")
    patient.heart.turn("ready")  # what was measured is told by the next beat
    assert patient.row().skew_ms < -3_600_000, "the clock of this test stands at 2023"
