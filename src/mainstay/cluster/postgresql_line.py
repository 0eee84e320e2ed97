"""A `Line` to PostgreSQL: one connection, made when it is needed, cut when a transaction takes too long."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from mainstay.foundation.errors import MainstayError
from mainstay.storage.database import DatabaseAway, Transaction
from mainstay.storage.database.dialing import Dialer
from mainstay.storage.database.faults import Connection, raise_family, run_plain
from mainstay.storage.database.postgresql import PostgresqlTransaction
from mainstay.storage.database.watch import Watch

_READ = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_WRITE = b"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit = off"


class PostgresqlLine:
    """For one thread at a time; others wait for their turn."""

    def __init__(self, url: str, *, limit_s: float, may_follow: Callable[[], bool] = lambda: False) -> None:
        self._may_follow = may_follow
        self._limit_s = limit_s
        self._watch = Watch()
        self._url = url
        self._dialer = Dialer(url, self._watch, may_follow=may_follow)
        self._turn = threading.Lock()
        self._connection: Connection | None = None
        self._is_closed = False

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        with self._transaction(_READ, end=b"ROLLBACK") as transaction:
            yield transaction

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        with self._transaction(_WRITE, end=b"COMMIT") as transaction:
            yield transaction

    def close(self) -> None:
        """What is under way ends by itself, within the limit."""
        self._is_closed = True
        with self._turn:
            self._hang_up()
        self._watch.close()

    @contextmanager
    def _transaction(self, begin: bytes, *, end: bytes) -> Iterator[Transaction]:
        with self._turn:
            connection = self._begun(begin)
            try:
                with self._watch.limited(connection, self._limit_s):
                    yield PostgresqlTransaction(connection)
                    run_plain(connection, end)
            except BaseException as error:
                self._give_up()
                if isinstance(error, psycopg.Error):
                    _raise_away(error)
                raise

    def _begun(self, begin: bytes) -> Connection:
        """A kept connection may have died; nothing has happened on it yet, so another one is tried."""
        kept, self._connection = self._connection, None
        if kept is not None:
            try:
                return self._begin_on(kept, begin)
            except MainstayError:
                self._dialer.forget()
        return self._begin_on(self._dial(), begin)

    def _begin_on(self, connection: Connection, begin: bytes) -> Connection:
        try:
            with self._watch.limited(connection, self._limit_s):
                run_plain(connection, begin)
        except BaseException as error:
            connection.close()
            if isinstance(error, psycopg.Error):
                _raise_away(error)
            raise
        self._connection = connection
        return connection

    def _dial(self) -> Connection:
        if self._is_closed:
            raise DatabaseAway("the database is closed: this process is stopping")
        try:
            return self._dialer.dial()
        except MainstayError:
            # It would say the same for a while without looking. Who asks here wants to know how it is now.
            self._dialer = Dialer(self._url, self._watch, may_follow=self._may_follow)
            raise

    def _give_up(self) -> None:
        """After an error neither the connection nor the choice of the server is believed any more."""
        self._hang_up()
        self._dialer.forget()

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _raise_away(error: psycopg.Error) -> None:
    """A server that has become a standby is not the database any more."""
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        raise DatabaseAway(f"the database takes no writes: {error}") from error
    raise_family(error)
