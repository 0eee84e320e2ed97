"""A `Line` to PostgreSQL: one connection, made when it is needed, cut when a transaction takes too long."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from mainstay.foundation.errors import Unavailable
from mainstay.storage.database import Transaction
from mainstay.storage.database.postgresql import Connection, PostgresqlTransaction, connection_arguments

_CONNECT_S = 2
"""For each host of the URL; libpq knows no shorter time."""
_READ = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_WRITE = b"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = off"


class PostgresqlLine:
    """For one thread at a time; others wait for their turn."""

    def __init__(self, url: str, *, limit_s: float) -> None:
        self._url = url
        self._limit_s = limit_s
        self._turn = threading.Lock()
        self._connection: Connection | None = None
        self._is_closed = False

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        with self._transaction(_READ) as connection:
            yield PostgresqlTransaction(connection)
            _run(connection, b"ROLLBACK")

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        with self._transaction(_WRITE) as connection:
            yield PostgresqlTransaction(connection)
            _run(connection, b"COMMIT")

    def close(self) -> None:
        """Also cuts what is under way."""
        self._is_closed = True
        if (connection := self._connection) is not None:
            _cut(connection)
        with self._turn:
            self._hang_up()

    @contextmanager
    def _transaction(self, begin: bytes) -> Iterator[Connection]:
        """After an error the connection is not believed any more: a new one costs little."""
        with self._turn:
            self._begin(begin)
            assert self._connection is not None, "a transaction has begun on it"
            try:
                with _time_limit(self._connection, self._limit_s):
                    yield self._connection
            except BaseException:
                self._hang_up()
                raise

    def _begin(self, begin: bytes) -> None:
        """A kept connection may have died; nothing has happened on it yet, so a new one is tried."""
        if self._connection is not None:
            with suppress(Unavailable):
                self._begin_on(self._connection, begin)
                return
        self._connection = self._connected()
        self._begin_on(self._connection, begin)

    def _begin_on(self, connection: Connection, begin: bytes) -> None:
        try:
            with _time_limit(connection, self._limit_s):
                _run(connection, begin)
        except BaseException:
            self._hang_up()
            raise

    def _connected(self) -> Connection:
        if self._is_closed:
            raise Unavailable("the database is closed: this process is stopping")
        ours = {"connect_timeout": _CONNECT_S, "tcp_user_timeout": int(self._limit_s * 1000)}
        arguments = {**connection_arguments(self._url), **ours}
        try:
            return psycopg.Connection.connect(**arguments, autocommit=True, prepare_threshold=None)
        except psycopg.OperationalError as error:
            raise Unavailable(f"the database is away: {error}") from error

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


@contextmanager
def _time_limit(connection: Connection, limit_s: float) -> Iterator[None]:
    alarm = threading.Timer(limit_s, _cut, [connection])
    alarm.daemon = True
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()


def _cut(connection: Connection) -> None:
    """From another thread: whoever waits for an answer on it hears that the line is dead."""
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


def _run(connection: Connection, statement: bytes) -> None:
    try:
        connection.execute(statement)
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise Unavailable(f"the database is away: {error}") from error
