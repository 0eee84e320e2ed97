"""A primary and its synchronous standby, real servers both: what is found, what is believed, what is held."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from uuid import uuid4

import pytest

from mainstay.foundation.errors import OutcomeUnknown, Unavailable
from mainstay.storage.database import DatabaseAway
from mainstay.storage.database.postgresql import PostgresqlDatabase
from support.postgres_pair import Pair

pytestmark = pytest.mark.xdist_group("postgres-pair")

WAIT_S_MAX = 60
Open = Callable[..., PostgresqlDatabase]


@pytest.fixture
def name(pair: Pair) -> str:
    """A database with one register in it, on the primary and the standby."""
    name = f"test_{uuid4().hex[:12]}"
    pair.primary.do(f'CREATE DATABASE "{name}"')
    database = PostgresqlDatabase(pair.primary.url(name))
    with database.write() as tx:
        tx.execute("CREATE TABLE register (value integer)")
        tx.execute("INSERT INTO register VALUES (0)")
        tx.execute("CREATE TABLE cluster_lease (id varchar(64) PRIMARY KEY, beat_ms bigint)")
    database.close()
    return name


@pytest.fixture
def opened() -> Iterator[Open]:
    with ExitStack() as stack:

        def open_(url: str, **options: float) -> PostgresqlDatabase:
            database = PostgresqlDatabase(url, connections_max=4, **options)
            stack.callback(database.close)
            return database

        yield open_


def value(database: PostgresqlDatabase) -> int:
    with database.read() as tx:
        row = tx.row("SELECT value FROM register")
        assert row is not None
        return int(row[0])


def put(database: PostgresqlDatabase, new: int) -> None:
    with database.write() as tx:
        tx.execute("UPDATE register SET value = ?", (new,))


def eventually(attempt: Callable[[], object], *, within_s: float = WAIT_S_MAX) -> float:
    """Repeat while the database is away; how long it took."""
    started_s = time.monotonic()
    while True:
        try:
            attempt()
        except (DatabaseAway, OutcomeUnknown):
            assert time.monotonic() - started_s < within_s, f"away for more than {within_s} s"
            time.sleep(0.05)
        else:
            return time.monotonic() - started_s


@pytest.mark.parametrize("primary_first", [True, False])
def test_the_primary_is_found_wherever_it_stands_in_the_url(
    pair: Pair, name: str, opened: Open, primary_first: bool
) -> None:
    database = opened(pair.url(name, primary_first=primary_first))
    put(database, 1)
    assert value(database) == 1


def test_after_a_kill_every_connection_finds_the_new_primary(pair: Pair, name: str, opened: Open) -> None:
    database = opened(pair.url(name))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: value(database), range(40)))
        pair.primary.kill()
        with pytest.raises(Unavailable):
            put(database, 1)
        pair.promote()
        assert eventually(lambda: put(database, 2), within_s=20) < 10
        assert list(threads.map(lambda _: value(database), range(40))) == [2] * 40


def test_a_frozen_primary_is_left_for_the_promoted_standby(pair: Pair, name: str, opened: Open) -> None:
    """Its connections are open and silent: nothing but our own limits ends them."""
    database = opened(pair.url(name))
    assert value(database) == 0
    pair.primary.freeze()
    with ThreadPoolExecutor(4) as threads:
        stuck = [threads.submit(value, database) for _ in range(4)]
        pair.promote()
        assert eventually(lambda: put(database, 1), within_s=30) < 20
        for each in stuck:
            error = each.exception(timeout=WAIT_S_MAX)
            assert isinstance(error, DatabaseAway) or each.result() in (0, 1)
    assert value(database) == 1


def test_a_zombie_primary_does_not_serve_the_past(pair: Pair, name: str, opened: Open) -> None:
    """The standby is promoted while the old primary lives, takes writes, and stands first in the URL.

    Reads go on at full speed on the old one while the new one commits. No read that began after that commit
    was confirmed may answer with what was true before; in the end the new one is found.
    """
    on_zombie, elsewhere = opened(pair.url(name)), opened(pair.standby.url(name))
    confirmed_s: list[float] = []
    stale_s: list[float] = []
    stop = threading.Event()

    def read_on() -> int:
        reads = 0
        while not stop.is_set():
            asked_s = time.monotonic()
            try:
                found = value(on_zombie)
            except DatabaseAway:
                continue
            reads += 1
            if found == 0 and confirmed_s and asked_s > confirmed_s[0]:
                stale_s.append(asked_s - confirmed_s[0])
        return reads

    with ThreadPoolExecutor(3) as threads:
        readers = [threads.submit(read_on) for _ in range(3)]
        eventually(lambda: value(on_zombie))
        pair.promote()
        eventually(lambda: put(elsewhere, 1))
        confirmed_s.append(time.monotonic())
        eventually(lambda: value(on_zombie), within_s=30)
        stop.set()
        assert sum(reader.result(timeout=WAIT_S_MAX) for reader in readers) > 0
    assert stale_s == []
    assert value(on_zombie) == 1
    put(on_zombie, 2)
    assert value(elsewhere) == 2


def test_no_commit_is_confirmed_while_the_standby_is_away(pair: Pair, name: str, opened: Open) -> None:
    database = opened(pair.url(name))
    put(database, 1)
    pair.standby.freeze()
    started_s = time.monotonic()
    with pytest.raises((OutcomeUnknown, DatabaseAway)):
        put(database, 2)
    assert time.monotonic() - started_s < 30
    with pytest.raises(Unavailable):
        value(database)
    pair.standby.thaw()
    eventually(lambda: put(database, 3))
    assert value(database) == 3
