"""PostgreSQL, through psycopg and a bounded pool.

Writes run READ COMMITTED: whoever changes a repository locks its row first, so writers of one repository
queue there and see what the one before them did. Reads run REPEATABLE READ, READ ONLY: one snapshot, from a
server that was shown to be the primary when it took it (`lease`).

On a replica (`fence`) nothing is written, and what is read is what its server has replayed: there is no
commit that could prove more. Whether that is new enough knows who asks the primary.

No transaction relies on anything that was set in its session before, so a pooler in transaction mode may be
in between: limits are set by each BEGIN, in the same round trip that asks which server answers.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import chain, islice
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGresult

from mainstay.foundation.errors import MainstayError
from mainstay.storage.database import DatabaseAway, DatabaseCutOff, Dialect
from mainstay.storage.database.commits import COMMIT_S_MAX, commit
from mainstay.storage.database.dialing import WRITER_REST_MS, Dialer, is_pooled, limits, rest_limit
from mainstay.storage.database.faults import Connection, raise_family, run_plain
from mainstay.storage.database.fence import NO_FENCE, Fence
from mainstay.storage.database.heart import Heart
from mainstay.storage.database.lease import Leases, Server
from mainstay.storage.database.newcomers import Newcomers
from mainstay.storage.database.pool import Pool, Taken
from mainstay.storage.database.watch import Wait, Watch

_WHO = b"SELECT pg_is_in_recovery(), pg_postmaster_start_time(), inet_server_addr(), inet_server_port()"
WHO = _WHO + b", " + limits(for_session=False)


class Begin(NamedTuple):
    """How a transaction begins: it says who answers, and behind a pooler it sets its own limits."""

    direct: bytes
    pooled: bytes


def _begin_write(rest_ms: int) -> Begin:
    begin = b"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; " + _WHO + b", "
    return Begin(begin + rest_limit(rest_ms), begin + limits(for_session=False, rest_ms=rest_ms))


def _begin_read() -> Begin:
    begin = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
    return Begin(begin + _WHO, begin + WHO)


def who_writes(rest_ms: int) -> bytes:
    """As `WHO`, in a transaction that may hold locks."""
    return _WHO + b", " + limits(for_session=False, rest_ms=rest_ms)


BEGIN_WRITE = _begin_write(WRITER_REST_MS)
BEGIN_READ = _begin_read()
_STANDBY = "the server that answered is a standby"
BEGIN_S_MAX = 5.0
ANSWER_S_MAX = 130.0
"""A little more than the server's own limit for a statement."""
_COPY_FROM_ROWS = 500
_INSERT = re.compile(r"INSERT INTO (\w+) \(([\w, ]+)\) VALUES \(\?(?:, \?)*\)\Z")

_OPENED: WeakValueDictionary[str, "PostgresqlDatabase"] = WeakValueDictionary()
_KEPT: dict[str, "PostgresqlDatabase"] = {}


class NotPrimary(DatabaseAway):
    """A standby answered."""


class PostgresqlTransaction:
    """One open transaction on one connection."""

    dialect: Dialect = "postgresql"

    def __init__(self, connection: Connection, wait: Wait | None = None) -> None:
        """`wait` is told of each statement, so that a server that stops answering is noticed."""
        self._connection = connection
        self._wait = wait

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        with self._asking(), self._cursor() as cursor:
            self._run(cursor, sql, parameters)
            return cursor.rowcount

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._asking(), self._cursor() as cursor:
            self._run(cursor, sql, parameters)
            return cursor.fetchall()

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        with self._asking(), self._cursor() as cursor:
            self._run(cursor, sql, parameters)
            return cursor.fetchone()

    def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Many plain inserts go by COPY, which takes a tenth of the time; all else by a pipeline."""
        rows = iter(parameters)
        first = list(islice(rows, _COPY_FROM_ROWS))
        insert = _INSERT.match(sql) if len(first) == _COPY_FROM_ROWS else None
        try:
            with self._asking(), self._cursor() as cursor:
                if insert is None:
                    cursor.executemany(_translated(sql), chain(first, rows))
                else:
                    _copy(cursor, insert[1], insert[2], chain(first, rows))
        except psycopg.Error as error:
            raise_family(error)

    def _asking(self) -> "_Asking":
        return _Asking(self._wait)

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


class _Asking:
    """While the server owes an answer. A class, because `contextmanager` costs ten times as much."""

    __slots__ = ("_wait",)

    def __init__(self, wait: Wait | None) -> None:
        self._wait = wait

    def __enter__(self) -> None:
        if self._wait is not None:
            Watch.extend(self._wait, ANSWER_S_MAX)

    def __exit__(self, *_: object) -> None:
        if self._wait is not None:
            Watch.rest(self._wait)


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


class PostgresqlDatabase:
    """`url` is a libpq URL; of several hosts in it the one that takes writes is found (`dialing`)."""

    dialect: Dialect = "postgresql"

    def __init__(
        self, url: str, *, connections_max: int = 16, wait_s: float = 30, fence: Fence = NO_FENCE
    ) -> None:
        self.url = url
        self._fence = fence
        self.is_closed = False
        self.watch = Watch(when_silent=self._doubt)
        self.dialer = Dialer(url, self.watch, may_follow=fence.follows)
        self._pool = Pool(self.dialer.dial, connections_max=connections_max, wait_s=wait_s)
        self._newcomers = Newcomers()
        self._heart = Heart(self.dialer, self.watch, self._newcomers, lost=self._lose, moved=self._leave)
        self.leases = Leases(self._heart.beat)
        _OPENED[url] = self

    @contextmanager
    def write(self) -> Iterator[PostgresqlTransaction]:
        self._fence.check()
        taken, wait, server = self._begun_or_cut_off(BEGIN_WRITE, prove=False)
        try:
            self.admit(wait.connection, server)
            try:
                yield PostgresqlTransaction(wait.connection, wait)
            except errors.ReadOnlySqlTransaction as error:
                self._lose(server)
                raise NotPrimary(f"the database takes no writes any more: {error}") from error
            except MainstayError as refused:
                self._raise_if_cut_off(refused)
                # It was refused because of what was read, and no commit will prove that.
                self._prove_without_commit(wait.connection, server, refused)
                raise
            wait.may_be_cut = False
            Watch.extend(wait, COMMIT_S_MAX)
            self._fence.check()
            commit(wait.connection)
            self._fence.confirm()
        finally:
            self._end(taken, wait)

    @contextmanager
    def read(self) -> Iterator[PostgresqlTransaction]:
        taken, wait, _ = self._begun_or_cut_off(BEGIN_READ, prove=True)
        try:
            yield PostgresqlTransaction(wait.connection, wait)
        except DatabaseAway as away:
            self._raise_if_cut_off(away)
            raise
        finally:
            self._end(taken, wait)

    def cut_off(self, because: str | None) -> None:
        """See `SharedDatabase`. Said again and again, it also ends waits that began meanwhile."""
        self.dialer.cut_off_because = because
        if because is not None:
            self.watch.cut(because)
            self.leases.interrupt(because)

    def close(self) -> None:
        self.is_closed = True
        self._pool.close()
        self.leases.close()
        self._heart.close()
        self.watch.close()

    def admit(self, connection: Connection, server: Server) -> None:
        """Let a writer in to a server; the first on one not seen before waits (`lease`)."""
        if not self._newcomers.knows(server):
            self._newcomers.meet(server, connection)

    def _accept(self, server: Server, *, is_standby: bool, prove: bool) -> None:
        if prove:
            self.prove(server, is_standby=is_standby)
        elif is_standby:
            raise NotPrimary(_STANDBY)

    def prove(self, server: Server, *, is_standby: bool) -> None:
        """Return when a snapshot that `server` has just taken may be read. Raises `DatabaseAway`."""
        if not is_standby:
            self.leases.prove(server)
        elif not self._fence.follows():
            raise NotPrimary(_STANDBY)

    def _begun_or_cut_off(self, begin: Begin, *, prove: bool) -> tuple[Taken, Wait, Server]:
        self.dialer.refuse_if_cut_off()
        try:
            return self._begun(begin, prove=prove)
        except DatabaseAway as away:
            self._raise_if_cut_off(away)
            raise

    def _raise_if_cut_off(self, away: MainstayError) -> None:
        """Raises `DatabaseCutOff` in the place of `away` where that is what it means."""
        because = self.dialer.cut_off_because
        if because is not None and isinstance(away, DatabaseAway) and not isinstance(away, DatabaseCutOff):
            raise DatabaseCutOff(because) from away

    def _begun(self, begin: Begin, *, prove: bool) -> tuple[Taken, Wait, Server]:
        """A connection with its transaction open.

        After a failover every pooled connection is dead, or goes to the old primary, and the first statement
        finds out. Nothing has happened yet then, so all are dropped and it is sent once more.
        """
        taken = self._pool.take()
        try:
            return self._begin(taken, begin, prove=prove)
        except DatabaseAway:
            if taken.is_fresh:
                raise
        self._pool.forget()
        return self._begin(self._pool.take(), begin, prove=prove)

    def _begin(self, taken: Taken, begin: Begin, *, prove: bool) -> tuple[Taken, Wait, Server]:
        wait = self.watch.begin(taken.connection, BEGIN_S_MAX, may_be_cut=True)
        try:
            server, is_standby = begin_on(taken.connection, begin)
            wait.server = server
            Watch.rest(wait)
            self._accept(server, is_standby=is_standby, prove=prove)
        except BaseException as error:
            if isinstance(error, NotPrimary):
                self.dialer.forget()
            taken.connection.close()
            self._end(taken, wait)
            raise
        return taken, wait, server

    def _end(self, taken: Taken, wait: Wait) -> None:
        Watch.extend(wait, BEGIN_S_MAX)
        _roll_back(taken.connection)
        self.watch.end(wait)
        self._pool.give_back(taken)

    def _prove_without_commit(self, connection: Connection, server: Server, refused: MainstayError) -> None:
        if isinstance(refused, DatabaseAway) or connection.closed:
            return
        _roll_back(connection)  # nobody is kept waiting by our locks meanwhile
        self.leases.prove(server)

    def _doubt(self) -> None:
        """Somebody has waited long for an answer: is the server still the primary?"""
        if not self._fence.follows():
            self.leases.ask()

    def _lose(self, server: Server | None) -> None:
        """The server in use could not commit, or was not reached: look for another."""
        self.dialer.distrust()
        self._pool.forget()
        if server is not None:
            self.watch.doubt(server)

    def _leave(self, server: Server) -> None:
        """Another is the primary now: drop what goes to `server`."""
        self._pool.forget()
        self.watch.doubt(server)


def opened(url: str, *, fence: Fence = NO_FENCE) -> PostgresqlDatabase:
    """The database that this process has open under `url`, opened when there is none.

    So Django's connections share what others of the process know of the primary.
    """
    found = _OPENED.get(url)
    if found is None or found.is_closed:
        found = _KEPT[url] = PostgresqlDatabase(url, fence=fence)
    return found


def forget(url: str) -> None:
    """Close what `opened` opened by itself."""
    kept = _KEPT.pop(url, None)
    if kept is not None:
        kept.close()


def begin_on(connection: Connection, begin: Begin) -> tuple[Server, bool]:
    """Begin a transaction; which server answers, and whether it is a standby. Raises `DatabaseAway`."""
    try:
        said = run_plain(connection, begin.pooled if is_pooled(connection) else begin.direct)
    except errors.ReadOnlySqlTransaction as error:
        raise NotPrimary(f"the database takes no writes: {error}") from error
    except psycopg.Error as error:
        raise_family(error)
    return answerer_in(said)


def server_in(said: PGresult) -> Server:
    """Who answered to `WHO`. Raises `NotPrimary`."""
    server, is_standby = answerer_in(said)
    if is_standby:
        raise NotPrimary(_STANDBY)
    return server


def answerer_in(said: PGresult) -> tuple[Server, bool]:
    """Who answered to `WHO`, and whether it is a standby."""
    started = said.get_value(0, 1)
    assert started is not None, "a server that answers has started"
    return Server(started, said.get_value(0, 2), said.get_value(0, 3)), said.get_value(0, 0) != b"f"


def _roll_back(connection: Connection) -> None:
    # A lost connection has nothing to roll back; the pool drops it.
    if connection.pgconn.transaction_status not in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN):
        with suppress(psycopg.Error):
            run_plain(connection, b"ROLLBACK")
