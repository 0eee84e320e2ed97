"""The PostgreSQL database: whether it may be filled, its tables, and the numbers it gives out next."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from mainstay.foundation.errors import Conflict, Unavailable
from mainstay.ops.moving.rows import Column

MARK: Final = "mainstay_move"
"""A table that is there while a move into this database has begun and the node does not use it yet."""
_ROWS_AT_ONCE = 2000
_CONNECT_S_MAX = 10
_OLDEST = 130_000
_TABLES = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
"""


class NotEmpty(Conflict):
    """The target has tables, and not those of an unfinished move of the same instance."""


class UnusableTarget(Conflict):
    """A server that is too old, a standby, or a database in another encoding."""


class TargetAway(Unavailable):
    """The target was not reached, or went away."""


class Refused(Conflict):
    """PostgreSQL did not take a row."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What numbers the rows of a table."""

    name: str
    table: str
    column: str


class Target:
    """One connection; `transaction` makes several steps one."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self.connection = connection

    def check(self, instance: str) -> bool:
        """Whether a move of this instance is unfinished here. Raises `NotEmpty`, `UnusableTarget`."""
        version, encoding, is_standby = self._row(
            "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),"
            " pg_is_in_recovery()"
        )
        if version < _OLDEST or encoding != "UTF8" or is_standby:
            raise UnusableTarget(
                "the target must be a primary of PostgreSQL 13 or later in UTF8;"
                f" it has version {version // 10_000}, {encoding}{', and is a standby' if is_standby else ''}"
            )
        tables = self.tables(with_mark=True)
        if not tables:
            return False
        if MARK not in tables:
            raise NotEmpty(f"the target is not empty: it has {len(tables)} tables, such as {min(tables)}")
        row = self.connection.execute(f"SELECT instance FROM {MARK}".encode()).fetchone()  # noqa: S608 - a constant
        if row is not None and row[0] != instance:
            raise NotEmpty(f"a move of another instance, {row[0]}, into the target is unfinished")
        return True

    def mark(self, instance: str) -> None:
        """From now on a repeated move finds its own beginning."""
        with self.connection.transaction():
            self.connection.execute(f"CREATE TABLE IF NOT EXISTS {MARK} (instance text NOT NULL)".encode())
            self.connection.execute(f"DELETE FROM {MARK}".encode())  # noqa: S608 - a constant
            self.connection.execute(f"INSERT INTO {MARK} VALUES (%s)".encode(), (instance,))  # noqa: S608 - same

    def unmark(self) -> None:
        """The node uses it from now on."""
        self.connection.execute(f"DROP TABLE IF EXISTS {MARK}".encode())

    def tables(self, *, with_mark: bool = False) -> set[str]:
        names = {row[0] for row in self.connection.execute(_TABLES.encode())}
        return names if with_mark else names - {MARK}

    def columns(self, table: str) -> list[Column]:
        rows = self.connection.execute(
            "SELECT column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = current_schema() AND table_name = %s ORDER BY ordinal_position",
            (table,),
        )
        return [Column(name, kind) for name, kind in rows]

    def migrations(self) -> set[tuple[str, str]]:
        return {
            (app, name) for app, name in self.connection.execute("SELECT app, name FROM django_migrations")
        }

    def sequences(self) -> list[Numbers]:
        """All there are, with the column that each belongs to."""
        rows = self.connection.execute(
            "SELECT s.oid::regclass::text, t.relname, a.attname FROM pg_class s"
            " LEFT JOIN pg_depend d ON d.objid = s.oid AND d.classid = 'pg_class'::regclass"
            "  AND d.deptype IN ('a', 'i') AND d.refclassid = 'pg_class'::regclass"
            " LEFT JOIN pg_class t ON t.oid = d.refobjid"
            " LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid"
            " WHERE s.relkind = 'S' AND s.relnamespace = current_schema()::regnamespace"
        )
        return [Numbers(*row) for row in rows]

    def empty(self, tables: Iterable[str]) -> None:
        """What migrations, or an earlier move, put there."""
        names = sql.SQL(", ").join(map(sql.Identifier, sorted(tables)))
        self.connection.execute(sql.SQL("TRUNCATE {}").format(names))

    def fill(self, table: str, columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> None:
        """Raises `Refused`."""
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
        try:
            with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
                for row in rows:
                    copy.write_row(row)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise Refused(f"{table}: {' '.join(str(error).split())}") from error

    def rows(self, table: str, columns: Sequence[Column]) -> Iterator[tuple[Any, ...]]:
        """Read back, a few at a time."""
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
        with self.connection.cursor("moved") as cursor:
            cursor.itersize = _ROWS_AT_ONCE
            yield from cursor.execute(sql.SQL("SELECT {} FROM {}").format(names, sql.Identifier(table)))

    def continue_numbers(self, sequence: Numbers, highest: int) -> None:
        """The next row gets a number that no row ever had."""
        if highest > 0:
            self.connection.execute("SELECT setval(%s::regclass, %s)", (sequence.name, highest))
        else:
            self.connection.execute("SELECT setval(%s::regclass, 1, false)", (sequence.name,))

    def check_constraints(self) -> None:
        """Foreign keys that would be looked at by the commit. Raises `Refused`."""
        try:
            self.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except psycopg.IntegrityError as error:
            raise Refused(" ".join(str(error).split())) from error

    def analyze(self) -> None:
        """The planner knows the tables from the first query on."""
        self.connection.execute("ANALYZE")

    def _row(self, question: str) -> tuple[Any, ...]:
        row = self.connection.execute(question.encode()).fetchone()
        assert row is not None, "the question has an answer"
        return row


@contextmanager
def opened_target(url: str) -> Iterator[Target]:
    """Raises `TargetAway`."""
    try:
        with psycopg.connect(
            url,
            autocommit=True,
            connect_timeout=_CONNECT_S_MAX,
            application_name="mainstay-move",
            target_session_attrs="read-write",
        ) as connection:
            yield Target(connection)
    except psycopg.OperationalError as error:
        raise TargetAway(f"the target: {' '.join(str(error).split())}") from error
