"""Which programs may run on which tables, so that versions N and N+1 run side by side.

A schema release is a number. This program makes release `CURRENT`, and its tables still carry programs of
release `FLOOR` and later; both are kept in the database. Migrations therefore only expand (a table, an
index, a column that may be empty or has a default in the database). What they replaced is taken away by a
later release, which raises the floor. Rules and recipe: docs/develop/schema.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mainstay.foundation.errors import Conflict
from mainstay.storage.database import Database, Transaction

RELEASES: Final[Mapping[int, Mapping[str, str]]] = {
    1: {
        "accounts": "0001_initial",
        "cluster": "0004_sites",
        "instance": "0001_initial",
        "jobs": "0001_initial",
        "ledger": "0001_initial",
        "projects": "0001_initial",
    },
}
"""The last migration of each room, by release. A release that is out is not changed any more."""

CURRENT: Final = max(RELEASES)
FLOOR: Final = 1

_ROW = 1
_TABLE_EXISTS = {
    "sqlite": "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'cluster_schema_floor'",
    "postgresql": "SELECT 1 WHERE to_regclass('cluster_schema_floor') IS NOT NULL",
}


class SchemaTooNew(Conflict):
    """The tables have moved on, and this program cannot work on them any more."""


@dataclass(frozen=True, slots=True)
class Release:
    """Of a program, or of the tables."""

    current: int
    floor: int


@dataclass(frozen=True, slots=True)
class Migrate:
    """The tables are older than the program."""

    because: str


@dataclass(frozen=True, slots=True)
class RunOn:
    """The program works on the tables as they are."""

    because: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """The program does not know enough to work on the tables."""

    because: str


PROGRAM: Final = Release(CURRENT, FLOOR)


def decide(tables: Release | None, *, program: Release = PROGRAM) -> Migrate | RunOn | Refuse:
    """Say what a program does that finds these tables (None: there are none, or from before releases)."""
    if tables is None:
        return Migrate(f"the tables have no release yet, this program makes {program.current}")
    if tables.floor > program.current:
        return Refuse(
            f"the tables of the database need a program of schema release {tables.floor} or later, and this"
            f" one knows {program.current}: install the version that the other nodes run"
        )
    if tables.current < program.current:
        return Migrate(f"the tables have release {tables.current}, this program makes {program.current}")
    if tables.current > program.current:
        return RunOn(f"the tables have release {tables.current} and carry {tables.floor} and later")
    return RunOn(f"the tables have release {tables.current}, as this program makes them")


def release_of(database: Database) -> Release | None:
    """The release of the tables; None when there are none, or from before releases."""
    with database.read() as tx:
        if tx.row(_TABLE_EXISTS[tx.dialect]) is None:
            return None
        return _release_in(tx)


def record(database: Database, *, program: Release = PROGRAM) -> None:
    """Write down what a migration has made. Neither number ever falls."""
    with database.write() as tx:
        tx.execute(
            "INSERT INTO cluster_schema_floor (id, release, current) VALUES (?, ?, ?)"
            " ON CONFLICT (id) DO NOTHING",
            (_ROW, program.floor, program.current),
        )
        for column, value in (("release", program.floor), ("current", program.current)):
            tx.execute(
                f"UPDATE cluster_schema_floor SET {column} = ? WHERE id = ? AND {column} < ?",  # noqa: S608 - two constants
                (value, _ROW, value),
            )


def _release_in(tx: Transaction) -> Release | None:
    row = tx.row("SELECT current, release FROM cluster_schema_floor WHERE id = ?", (_ROW,))
    return None if row is None else Release(current=int(row[0]), floor=int(row[1]))
