"""SQLite: one file in WAL mode, synced at every commit; or `:memory:`.

One connection writes, guarded by a lock, so that threads queue instead of busy-waiting on each other;
other processes are waited for by SQLite's busy timeout. Readers have their own connections, which cannot
write, and hardly ever wait; those of `without_waiting` have no busy timeout and never do. In memory one
connection does all, one transaction at a time.

A COMMIT that fails while syncing raises `OutcomeUnknown`: the frames are in the log, and a power cut
could still bring them back.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from mainstay.foundation.errors import OutcomeUnknown, Unavailable
from mainstay.storage.database import ConstraintBroken, Dialect, WouldWait
from mainstay.storage.database.fence import NO_FENCE, Fence

_READERS_MAX = 32
_CACHE_KIB = 16 * 1024
_JOURNAL_BYTES_KEPT = 64 * 1024 * 1024

_LOCKED = {
    sqlite3.SQLITE_BUSY: "stayed locked by another process",
    sqlite3.SQLITE_LOCKED: "stayed locked",
}
_AWAY = {
    sqlite3.SQLITE_FULL: "found the disk full",
    sqlite3.SQLITE_IOERR: "met an input/output error",
    sqlite3.SQLITE_CANTOPEN: "could not be opened",
    sqlite3.SQLITE_READONLY: "is read-only",
    sqlite3.SQLITE_PERM: "may not be opened by this user",
}


class StayedLocked(Unavailable):
    """Somebody else kept a lock for as long as the connection waits for one."""


class SqliteTransaction:
    """One open transaction on one connection."""

    dialect: Dialect = "sqlite"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        try:
            return self._connection.execute(sql, parameters).rowcount
        except sqlite3.Error as error:
            raise_family(error)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise_family(error)

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        # All rows are fetched: a statement with RETURNING left half-read would block the COMMIT.
        found = self.rows(sql, parameters)
        return found[0] if found else None

    def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        try:
            self._connection.executemany(sql, parameters)
        except sqlite3.Error as error:
            raise_family(error)


def raise_family(error: sqlite3.Error) -> NoReturn:
    """Raise `error` as the family the caller can act on; an error of ours (bad SQL) goes on as it is."""
    if isinstance(error, sqlite3.IntegrityError):
        raise ConstraintBroken(str(error)) from error
    if (reason := _LOCKED.get(_code(error))) is not None:
        raise StayedLocked(f"the database {reason}: {error}") from error
    if (reason := _AWAY.get(_code(error))) is not None:
        raise Unavailable(f"the database {reason}: {error}") from error
    raise error


def _code(error: sqlite3.Error) -> int:
    """The primary result code, or 0 for errors that the Python module raises itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


class _Snapshot(threading.local):
    """What a thread reads from while it is in `without_waiting`."""

    transaction: SqliteTransaction | None = None


class SqliteDatabase:
    """`path` may be ":memory:"; the schema is put there by the migrations, not by this class."""

    dialect: Dialect = "sqlite"

    def __init__(self, path: Path | str, *, busy_timeout_s: float = 30, fence: Fence = NO_FENCE) -> None:
        self.path = str(path)
        self._fence = fence
        self._busy_timeout_s = busy_timeout_s
        self._is_memory = self.path == ":memory:"
        self._writing = threading.Lock()
        self._writing_thread: int | None = None
        self._writer: sqlite3.Connection | None = None
        self._reader_slots = threading.BoundedSemaphore(_READERS_MAX)
        self._idle_readers: list[sqlite3.Connection] = []
        self._idle_hasty_readers: list[sqlite3.Connection] = []
        self._snapshot = _Snapshot()
        self._is_closed = False

    @contextmanager
    def write(self) -> Iterator[SqliteTransaction]:
        if self._snapshot.transaction is not None:
            raise WouldWait("a write waits for its turn and for the disk")
        self._fence.check()
        with self._writer_connection() as connection:
            self._begin(connection, "BEGIN IMMEDIATE")
            try:
                yield SqliteTransaction(connection)
                self._fence.check()
            except BaseException:
                _roll_back(connection)
                raise
            _commit(connection)
        self._fence.confirm()

    @contextmanager
    def read(self) -> Iterator[SqliteTransaction]:
        if self._snapshot.transaction is not None:
            yield self._snapshot.transaction
            return
        with self._reader_connection() as connection:
            self._begin(connection, "BEGIN")
            try:
                yield SqliteTransaction(connection)
            finally:
                _roll_back(connection)

    @contextmanager
    def without_waiting(self) -> Iterator[None]:
        if self._is_memory:
            raise WouldWait("in memory one transaction waits for the other")
        assert self._snapshot.transaction is None, "one block of `without_waiting` in a thread at a time"
        try:
            with self._reader_of(self._idle_hasty_readers, busy_timeout_s=0) as connection:
                self._begin(connection, "BEGIN")
                self._snapshot.transaction = SqliteTransaction(connection)
                try:
                    yield
                finally:
                    self._snapshot.transaction = None
                    _roll_back(connection)
        except StayedLocked as error:
            raise WouldWait(str(error)) from error

    def close(self) -> None:
        """Close idle connections; those in use are closed when their transaction ends."""
        self._is_closed = True
        if not self._is_memory:
            for idle in (self._idle_readers, self._idle_hasty_readers):
                while idle:
                    idle.pop().close()
        with self._exclusive():
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def shared_connection(self) -> sqlite3.Connection:
        """The writing connection itself, for a backup or to load a schema; nobody else may be using it."""
        if self._writer is None:
            self._writer = self._connect(self._busy_timeout_s)
        return self._writer

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        if self._writing_thread == threading.get_ident():
            raise RuntimeError("a transaction of this database is already open in this thread")
        if not self._writing.acquire(timeout=self._busy_timeout_s):
            raise Unavailable(f"other writers kept the database for {self._busy_timeout_s:.0f} s")
        self._writing_thread = threading.get_ident()
        try:
            yield
        finally:
            self._writing_thread = None
            self._writing.release()

    @contextmanager
    def _writer_connection(self) -> Iterator[sqlite3.Connection]:
        with self._exclusive():
            self._refuse_if_closed()
            yield self.shared_connection()

    @contextmanager
    def _reader_connection(self) -> Iterator[sqlite3.Connection]:
        if self._is_memory:
            with self._writer_connection() as connection, _query_only(connection):
                yield connection
            return
        if not self._reader_slots.acquire(timeout=self._busy_timeout_s):
            raise Unavailable(f"all {_READERS_MAX} readers stayed busy for {self._busy_timeout_s:.0f} s")
        try:
            with self._reader_of(self._idle_readers, busy_timeout_s=self._busy_timeout_s) as connection:
                yield connection
        finally:
            self._reader_slots.release()

    @contextmanager
    def _reader_of(
        self, idle: list[sqlite3.Connection], *, busy_timeout_s: float
    ) -> Iterator[sqlite3.Connection]:
        """One of the idle readers, or a new one; idle again afterwards."""
        self._refuse_if_closed()
        try:
            connection = idle.pop()  # popping and appending are atomic under the GIL
        except IndexError:
            connection = self._connect(busy_timeout_s)
            connection.execute("PRAGMA query_only = ON")
        try:
            yield connection
        finally:
            if self._is_closed:
                connection.close()
            else:
                idle.append(connection)

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise Unavailable("the database is closed: this process is stopping")

    def _begin(self, connection: sqlite3.Connection, statement: str) -> None:
        try:
            connection.execute(statement)
        except sqlite3.Error as error:
            raise_family(error)

    def _connect(self, busy_timeout_s: float) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self.path,
                timeout=busy_timeout_s,
                isolation_level=None,  # transactions are begun and ended here, by name
                check_same_thread=False,  # one thread at a time, but not always the same
                cached_statements=256,
            )
            _configure(connection)
        except sqlite3.Error as error:
            raise_family(error)
        return connection


def _configure(connection: sqlite3.Connection) -> None:
    # Asked before it is set, because setting it takes a lock even when nothing changes.
    if connection.execute("PRAGMA journal_mode").fetchone()[0] not in {"wal", "memory"}:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES_KEPT}")


@contextmanager
def _query_only(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("PRAGMA query_only = ON")
    try:
        yield
    finally:
        connection.execute("PRAGMA query_only = OFF")


def _roll_back(connection: sqlite3.Connection) -> None:
    # A full disk or an I/O error makes SQLite roll back by itself.
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _commit(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        _roll_back(connection)
        if _code(error) == sqlite3.SQLITE_IOERR:
            raise OutcomeUnknown(f"the commit could not be synced: {error}") from error
        raise_family(error)
