"""PostgreSQL when it is away: what is certain, what is not, and what goes on by itself."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from mainstay.foundation.errors import Conflict, OutcomeUnknown, Unavailable
from mainstay.storage.database import Transaction
from mainstay.storage.database.postgresql import PostgresqlDatabase
from support.postgres import PostgresServer

WAIT_S_MAX = 30
INSERT = "INSERT INTO ledger_event (topic, payload, at_ms, attempts, due_ms) VALUES ('x', '{}', 1, 0, 1)"


@pytest.fixture
def database(postgres_url: str) -> Iterator[PostgresqlDatabase]:
    opened = PostgresqlDatabase(postgres_url, connections_max=4, wait_s=10)
    yield opened
    opened.close()


@pytest.fixture
def admin(postgres_server: PostgresServer) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
        yield connection


@pytest.fixture
def waiting_for_a_standby(admin: psycopg.Connection, database: PostgresqlDatabase) -> Iterator[None]:
    """Every commit waits for a synchronous standby that will never come.

    After `database`, because making one commits, too.
    """
    assert events(database) == 0
    _set_standby(admin, "nobody")
    yield
    _set_standby(admin, "")


def _set_standby(admin: psycopg.Connection, name: str) -> None:
    admin.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'".encode())
    admin.execute("SELECT pg_reload_conf()")
    wait_until(lambda: admin.execute("SHOW synchronous_standby_names").fetchone() == (name,))
    # What commits look at follows a moment later; one that waits proves that it has.
    if name:
        wait_until(lambda: _a_commit_waits(admin))


def _a_commit_waits(admin: psycopg.Connection) -> bool:
    with psycopg.connect(admin.info.dsn) as probe, ThreadPoolExecutor(1) as threads:
        probe.execute("SELECT pg_logical_emit_message(true, 'probe', '')")
        pid = probe.info.backend_pid
        committing = threads.submit(probe.commit)
        wait_until(lambda: committing.done() or waits_for_standby(admin, pid))
        waits = not committing.done()
        admin.execute("SELECT pg_cancel_backend(%s)", (pid,))
    return waits


def waits_for_standby(admin: psycopg.Connection, pid: int) -> bool:
    found = admin.execute(
        "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'SyncRep'", (pid,)
    ).fetchone()
    return found is not None


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not is_so():
        assert time.monotonic() < deadline, "it did not become so"
        time.sleep(0.01)


def backend_of(tx: Transaction) -> int:
    found = tx.row("SELECT pg_backend_pid()")
    assert found is not None
    return int(found[0])


def events(database: PostgresqlDatabase) -> int:
    with database.read() as tx:
        found = tx.row("SELECT COUNT(*) FROM ledger_event")
        assert found is not None
        return int(found[0])


@pytest.mark.usefixtures("waiting_for_a_standby")
@pytest.mark.parametrize(
    ("interruption", "message"),
    [("pg_cancel_backend", "may not be replicated"), ("pg_terminate_backend", "lost during COMMIT")],
)
def test_a_commit_that_was_interrupted_is_unknown(
    database: PostgresqlDatabase, admin: psycopg.Connection, interruption: str, message: str
) -> None:
    pids: list[int] = []
    written = threading.Event()

    def write() -> None:
        with database.write() as tx:
            pids.append(backend_of(tx))
            tx.execute(INSERT)
            written.set()

    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(write)
        assert written.wait(WAIT_S_MAX)
        wait_until(lambda: waits_for_standby(admin, pids[0]))
        admin.execute(f"SELECT {interruption}(%s)".encode(), pids)
        with pytest.raises(OutcomeUnknown, match=message):
            writing.result(timeout=WAIT_S_MAX)


def _write_and_lose(database: PostgresqlDatabase, admin: psycopg.Connection) -> None:
    with database.write() as tx:
        tx.execute(INSERT)
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", (backend_of(tx),))
        tx.execute(INSERT)


def test_a_connection_lost_before_commit_is_unavailable_and_nothing_happened(
    database: PostgresqlDatabase, admin: psycopg.Connection
) -> None:
    with pytest.raises(Unavailable):
        _write_and_lose(database, admin)
    assert events(database) == 0


def test_pooled_connections_that_died_are_replaced_unnoticed(
    database: PostgresqlDatabase, admin: psycopg.Connection
) -> None:
    with database.read() as one, database.read() as two, database.read() as three:
        pids = [backend_of(tx) for tx in (one, two, three)]
    for pid in pids:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    assert events(database) == 0
    with database.write() as tx:
        tx.execute(INSERT)
    assert events(database) == 1


def test_a_server_that_is_away_is_unavailable() -> None:
    database = PostgresqlDatabase("postgresql://mainstay@127.0.0.1:1/none", wait_s=0.2)
    try:
        with pytest.raises(Unavailable), database.read():
            pass
    finally:
        database.close()


def _swallow_an_error(database: PostgresqlDatabase) -> None:
    with database.write() as tx:
        tx.execute(INSERT)
        with pytest.raises(psycopg.errors.UndefinedTable):
            tx.execute("SELECT * FROM nothing")


def test_a_transaction_that_failed_inside_is_never_taken_for_committed(
    database: PostgresqlDatabase,
) -> None:
    with pytest.raises(Conflict, match="rolled back"):
        _swallow_an_error(database)
    assert events(database) == 0
