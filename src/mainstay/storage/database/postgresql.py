"""PostgreSQL, through psycopg and a bounded pool.

Writes run READ COMMITTED: whoever changes a repository locks its row first, so writers of one repository
queue there and see what the one before them did. Reads run REPEATABLE READ, READ ONLY: one snapshot.

Whether a COMMIT happened is unknown when the connection is lost while it runs, and also when the server
stopped waiting for its synchronous standby: it then answers COMMIT with a warning, although the loss of
the primary would lose the transaction. Both raise `OutcomeUnknown`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import chain, islice
from typing import Any, LiteralString, NoReturn

import psycopg
from psycopg import conninfo, errors
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from mainstay.foundation.errors import Conflict, Invalid, OutcomeUnknown, Unavailable
from mainstay.storage.database import ConstraintBroken, Dialect

_WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_COPY_FROM_ROWS = 500
_INSERT = re.compile(r"INSERT INTO (\w+) \(([\w, ]+)\) VALUES \(\?(?:, \?)*\)\Z")
_SYNC_WAIT_CANCELLED = {"01000", "57P01"}

_CONNECTION_DEFAULTS: dict[str, Any] = {
    "connect_timeout": 5,
    "application_name": "mainstay",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_SESSION_LIMITS = (
    "SET lock_timeout = '30s'",
    "SET statement_timeout = '120s'",
    "SET idle_in_transaction_session_timeout = '120s'",
)

Connection = psycopg.Connection[tuple[Any, ...]]


class PostgresqlTransaction:
    """One open transaction on one connection."""

    dialect: Dialect = "postgresql"

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        with self._cursor() as cursor:
            self._run(cursor, sql, parameters)
            return cursor.rowcount

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._cursor() as cursor:
            self._run(cursor, sql, parameters)
            return cursor.fetchall()

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        with self._cursor() as cursor:
            self._run(cursor, sql, parameters)
            return cursor.fetchone()

    def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Many plain inserts go by COPY, which takes a tenth of the time; all else by a pipeline."""
        rows = iter(parameters)
        first = list(islice(rows, _COPY_FROM_ROWS))
        insert = _INSERT.match(sql) if len(first) == _COPY_FROM_ROWS else None
        try:
            with self._cursor() as cursor:
                if insert is None:
                    cursor.executemany(_translated(sql), chain(first, rows))
                else:
                    _copy(cursor, insert[1], insert[2], chain(first, rows))
        except psycopg.Error as error:
            raise_family(error)

    def _cursor(self) -> psycopg.Cursor[tuple[Any, ...]]:
        # Named here and not taken from the connection, because Django's makes its own kind; binary,
        # because object names would otherwise travel as hexadecimal text.
        cursor = psycopg.Cursor(self._connection)
        cursor.format = psycopg.pq.Format.BINARY
        return cursor

    def _run(self, cursor: psycopg.Cursor[tuple[Any, ...]], sql: str, parameters: Sequence[Any]) -> None:
        try:
            cursor.execute(_translated(sql), parameters)
        except psycopg.Error as error:
            raise_family(error)


@lru_cache(maxsize=1024)
def _translated(sql: str) -> bytes:
    """`?` to `%s`. No statement of ours holds a question mark in a literal."""
    return sql.replace("%", "%%").replace("?", "%s").encode()


def _copy(
    cursor: psycopg.Cursor[tuple[Any, ...]], table: str, columns: str, rows: Iterable[Sequence[Any]]
) -> None:
    with cursor.copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as copy:
        for row in rows:
            copy.write_row(row)


def raise_family(error: psycopg.Error) -> NoReturn:
    """Raise `error` as the family the caller can act on; an error of ours (bad SQL) goes on as it is."""
    if isinstance(error, psycopg.IntegrityError):
        raise ConstraintBroken(str(error)) from error
    if isinstance(error, errors.SerializationFailure | errors.DeadlockDetected):
        raise Conflict(f"the database asks to try again: {error}") from error
    if isinstance(error, psycopg.DataError):
        raise Invalid(f"the database cannot hold this: {error}") from error
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        raise Unavailable(f"the database is away: {error}") from error
    raise error


class PostgresqlDatabase:
    """`url` is a libpq URL; several hosts in it are tried in turn until one takes writes."""

    dialect: Dialect = "postgresql"

    def __init__(self, url: str, *, connections_max: int = 16, wait_s: float = 30) -> None:
        self.url = url
        self._pool = ConnectionPool(
            url,
            kwargs={**_missing_from(conninfo.conninfo_to_dict(url)), "autocommit": True},
            min_size=1,
            max_size=connections_max,
            max_waiting=1000,
            timeout=wait_s,
            configure=_configure,
            open=False,
        )
        self._pool.open(wait=False)

    @contextmanager
    def write(self) -> Iterator[PostgresqlTransaction]:
        with self._transaction(_WRITE) as (connection, transaction):
            yield transaction
            commit(connection)

    @contextmanager
    def read(self) -> Iterator[PostgresqlTransaction]:
        with self._transaction(_READ) as (_, transaction):
            yield transaction

    def close(self) -> None:
        self._pool.close()

    @contextmanager
    def _transaction(self, begin: LiteralString) -> Iterator[tuple[Connection, PostgresqlTransaction]]:
        connection = self._begun(begin)
        try:
            yield connection, PostgresqlTransaction(connection)
        finally:
            _roll_back(connection)
            self._pool.putconn(connection)

    def _begun(self, begin: LiteralString) -> Connection:
        """A connection with its transaction open.

        After a failover every pooled connection is dead, and the first statement finds out. Nothing has
        happened yet then, so the pool is cleaned and the statement sent once more.
        """
        connection = self._connection()
        try:
            connection.execute(begin)
        except psycopg.OperationalError:
            self._pool.putconn(connection)
            self._pool.check()
            connection = self._connection()
            self._begin_or_give_back(connection, begin)
        return connection

    def _begin_or_give_back(self, connection: Connection, begin: LiteralString) -> None:
        try:
            connection.execute(begin)
        except psycopg.Error as error:
            self._pool.putconn(connection)
            raise_family(error)

    def _connection(self) -> Connection:
        try:
            return self._pool.getconn()
        except (PoolTimeout, TooManyRequests) as error:
            raise Unavailable(f"no connection to the database: {error}") from error
        except PoolClosed as error:
            raise Unavailable("the database is closed: this process is stopping") from error


def connection_arguments(url: str) -> dict[str, Any]:
    """All that libpq is told to reach `url`: what it says, several hosts included, and our defaults."""
    given = conninfo.conninfo_to_dict(url)
    return {**_missing_from(given), **given}


def _missing_from(given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults for what a URL does not say itself."""
    arguments = {name: value for name, value in _CONNECTION_DEFAULTS.items() if name not in given}
    if "," in str(given.get("host", "")) and "target_session_attrs" not in given:
        arguments["target_session_attrs"] = "read-write"
    return arguments


def _configure(connection: Connection) -> None:
    for statement in _SESSION_LIMITS:
        connection.execute(statement)


def commit(connection: Connection) -> None:
    """Send COMMIT, and raise unless it is certain that it happened."""
    with refusing_unreplicated(connection):
        try:
            answer = connection.execute("COMMIT").statusmessage
        except (errors.SerializationFailure, errors.DeadlockDetected) as error:
            raise_family(error)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise OutcomeUnknown(f"the connection was lost during COMMIT: {error}") from error
        except psycopg.Error as error:
            raise_family(error)
    if answer != "COMMIT":
        raise Conflict("the transaction had already failed and was rolled back")


@contextmanager
def refusing_unreplicated(connection: Connection) -> Iterator[None]:
    """Raise at the end if the server said that it gave up waiting for its synchronous standby."""
    warnings: list[str] = []

    def listen(notice: errors.Diagnostic) -> None:
        # Read at once: a notice is empty as soon as this returns.
        if notice.severity_nonlocalized == "WARNING" and notice.sqlstate in _SYNC_WAIT_CANCELLED:
            warnings.append(str(notice.message_primary))

    connection.add_notice_handler(listen)
    try:
        yield
    finally:
        connection.remove_notice_handler(listen)
    if warnings:
        raise OutcomeUnknown(f"the commit may not be replicated: {warnings[0]}")


def _roll_back(connection: Connection) -> None:
    # A lost connection has nothing to roll back; the pool replaces it.
    if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        with suppress(psycopg.Error):
            connection.execute("ROLLBACK")
