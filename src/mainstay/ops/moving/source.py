"""The SQLite file: read under a lock that keeps everybody from writing."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from mainstay.foundation.errors import Conflict, NotFound, Unavailable
from mainstay.ops.moving.rows import Column

_WAIT_S = 10.0
_ROWS_AT_ONCE = 1000
_SIDES = ("", "-wal", "-shm")
_INSTANCE = "SELECT value FROM instance_setting WHERE key = 'instance_id'"


class NoSource(NotFound):
    """There is no SQLite database with an instance in it."""


class SourceInUse(Conflict):
    """Somebody writes to it."""


class Source:
    """Open for reading, and shut for writers."""

    def __init__(self, connection: sqlite3.Connection, file: Path) -> None:
        self.file = file
        self._connection = connection

    def tables(self) -> set[str]:
        """But those that SQLite keeps for itself."""
        rows = self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name for (name,) in rows if not name.startswith("sqlite_")}

    def columns(self, table: str) -> set[str]:
        return {row[1] for row in self._connection.execute(f'PRAGMA table_info("{table}")')}

    def count(self, table: str) -> int:
        return int(self._connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0])  # noqa: S608 - a name from the catalog

    def rows(self, table: str, columns: Sequence[Column]) -> Iterator[tuple[Any, ...]]:
        names = ", ".join(f'"{column.name}"' for column in columns)
        cursor = self._connection.execute(f'SELECT {names} FROM "{table}"')  # noqa: S608 - names from the catalog
        while found := cursor.fetchmany(_ROWS_AT_ONCE):
            yield from found

    def highest_id(self, table: str, column: str) -> int:
        """The highest number ever given out, also to a row that is gone: none is given out twice."""
        (highest,) = self._connection.execute(f'SELECT max("{column}") FROM "{table}"').fetchone()  # noqa: S608 - as above
        has = "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"
        kept = None
        if self._connection.execute(has).fetchone():
            kept = self._connection.execute(
                "SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)
            ).fetchone()
        return max(int(highest or 0), int(kept[0]) if kept else 0)

    def migrations(self) -> set[tuple[str, str]]:
        return set(self._connection.execute("SELECT app, name FROM django_migrations"))

    def instance(self) -> str:
        """Raises `NoSource`."""
        try:
            row = self._connection.execute(_INSTANCE).fetchone()
        except sqlite3.OperationalError as error:
            raise NoSource(f"{self.file} has no tables of Mainstay: {error}") from error
        if row is None:
            raise NoSource(f"{self.file} has no instance: its first start has not come to its end")
        return str(row[0])

    def size_bytes(self) -> int:
        return sum(each.stat().st_size for each in files_of(self.file) if each.exists())


@contextmanager
def opened_source(file: Path, *, shut: bool = True) -> Iterator[Source]:
    """`shut`: nobody else can write in the block. Raises `NoSource`, `SourceInUse`."""
    if not file.exists():
        raise NoSource(f"{file} is not there")
    with closing(sqlite3.connect(file, timeout=_WAIT_S, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE" if shut else "BEGIN")
            yield Source(connection, file)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise SourceInUse(f"{file} is being written to by somebody else: {error}") from error
            raise Unavailable(f"{file}: {error}") from error
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def files_of(file: Path) -> list[Path]:
    """The database and what SQLite keeps beside it."""
    return [file.with_name(file.name + side) for side in _SIDES]
