"""Look at what the node depends on. Each check asks one thing, within a time limit, and never raises a
known error: a dependency that is away is an answer.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mainstay.doors.health.decisions import Check, skew_problem
from mainstay.foundation.clock import Clock
from mainstay.foundation.errors import MainstayError
from mainstay.storage.database import Database
from mainstay.storage.identity import KEY as MARKER
from mainstay.storage.objects import ObjectStore

_NOW_MS = {
    "sqlite": "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    "postgresql": "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """What is looked at."""

    database: Database
    objects: ObjectStore
    schema_is_current: Callable[[], bool]
    clock: Clock
    soft_state_problem: Callable[[], str] = lambda: ""
    """Why Redis is not there; known already, so that nobody waits for it."""


def database_check(on: Dependencies) -> Check:
    def ask() -> str:
        with on.database.read() as tx:
            row = tx.row(_NOW_MS[tx.dialect])
        assert row is not None
        return skew_problem(int(row[0]) - on.clock.now_ms())

    return _timed("db_check", ask, away="Unable to connect to database")


def object_store_check(on: Dependencies) -> Check:
    def ask() -> str:
        return "" if on.objects.size_bytes(MARKER) is not None else f"{MARKER} is missing"

    return _timed("object_store_check", ask, away="Unable to reach the object store")


def schema_check(on: Dependencies) -> Check:
    def ask() -> str:
        return "" if on.schema_is_current() else "the tables do not fit this program; restart the node"

    return _timed("schema_check", ask, away="Unable to connect to database")


def soft_state_check(on: Dependencies) -> Check:
    """Told to who asks for it, and no part of the others: without soft state nothing fails."""
    problem = on.soft_state_problem()
    return Check(name="redis_check", problem=f"Redis does not answer: {problem}" if problem else "")


Look = Callable[[Dependencies], Check]
ALL: Sequence[Look] = (database_check, object_store_check, schema_check)


def _timed(name: str, ask: Callable[[], str], *, away: str) -> Check:
    started_s = time.monotonic()
    try:
        problem = ask()
    except MainstayError as error:
        problem = f"{away}: {error}"
    return Check(name=name, problem=problem, latency_ms=(time.monotonic() - started_s) * 1000)
