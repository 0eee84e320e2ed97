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
from support.postgres_pair import Pair, running_pair

pytestmark = pytest.mark.xdist_group("postgres-pair")

WAIT_S_MAX = 60
Open = Callable[..., PostgresqlDatabase]


@pytest.fixture(scope="module")
def servers() -> Iterator[Pair]:
    with running_pair() as pair:
        yield pair


@pytest.fixture
def pair(servers: Pair) -> Iterator[Pair]:
    """One primary, `servers[0]`, and its synchronous standby; put right again after the test."""
    yield servers
    first, second = servers.servers
    for server in servers.servers:
        server.thaw() if server.is_running else None
    if not first.is_running or second.is_primary():
        servers.make_primary(0)


@pytest.fixture
def name(pair: Pair) -> str:
    """A database with one register in it, on the primary and the standby."""
    name = f"test_{uuid4().hex[:12]}"
    pair.servers[0].do(f'CREATE DATABASE "{name}"')
    database = PostgresqlDatabase(pair.servers[0].url(name))
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


@pytest.mark.parametrize("first", [0, 1])
def test_the_primary_is_found_wherever_it_stands_in_the_url(
    pair: Pair, name: str, opened: Open, first: int
) -> None:
    database = opened(pair.url(name, first=first))
    put(database, 1)
    assert value(database) == 1


def test_after_a_kill_every_connection_finds_the_new_primary(pair: Pair, name: str, opened: Open) -> None:
    database = opened(pair.url(name))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: value(database), range(40)))
        pair.servers[0].kill()
        with pytest.raises(Unavailable):
            put(database, 1)
        pair.servers[1].promote()
        assert eventually(lambda: put(database, 2), within_s=20) < 10
        assert list(threads.map(lambda _: value(database), range(40))) == [2] * 40


def test_a_frozen_primary_is_left_for_the_promoted_standby(pair: Pair, name: str, opened: Open) -> None:
    """Its connections are open and silent: nothing but our own limits ends them."""
    database = opened(pair.url(name))
    assert value(database) == 0
    pair.servers[0].freeze()
    with ThreadPoolExecutor(4) as threads:
        stuck = [threads.submit(value, database) for _ in range(4)]
        pair.servers[1].promote()
        assert eventually(lambda: put(database, 1), within_s=30) < 20
        for each in stuck:
            error = each.exception(timeout=WAIT_S_MAX)
            assert isinstance(error, DatabaseAway) or each.result() in (0, 1)
    assert value(database) == 1


def test_a_zombie_primary_does_not_serve_the_past(pair: Pair, name: str, opened: Open) -> None:
    """The standby is promoted while the old primary lives; the node that is connected to the old one must
    not answer with what was true before, and then finds the new one, although the old one still stands
    first in its URL and takes writes.
    """
    on_zombie, elsewhere = opened(pair.url(name)), opened(pair.servers[1].url(name))
    assert value(on_zombie) == 0
    pair.servers[1].promote()
    eventually(lambda: put(elsewhere, 1))
    committed_s = time.monotonic()
    seen: list[tuple[float, int]] = []

    def look() -> None:
        found = value(on_zombie)
        seen.append((time.monotonic() - committed_s, found))
        assert found == 1, "the past"

    assert eventually(look, within_s=30) < 20
    assert [found for _, found in seen] == [1], "the past was served after a commit elsewhere"
    put(on_zombie, 2)
    assert value(elsewhere) == 2


def test_readers_that_never_rest_see_no_past_during_a_promotion(pair: Pair, name: str, opened: Open) -> None:
    """Reads go on at full speed on the old primary while the new one commits: the lease must end first."""
    on_zombie, elsewhere = opened(pair.url(name)), opened(pair.servers[1].url(name))
    confirmed_s: list[float] = []
    stale: list[float] = []
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
                stale.append(asked_s - confirmed_s[0])
        return reads

    with ThreadPoolExecutor(3) as threads:
        readers = [threads.submit(read_on) for _ in range(3)]
        while not all(reader.running() for reader in readers):
            time.sleep(0.01)
        time.sleep(0.5)
        pair.servers[1].promote()
        eventually(lambda: put(elsewhere, 1))
        confirmed_s.append(time.monotonic())
        eventually(lambda: value(on_zombie), within_s=30)
        stop.set()
        assert sum(reader.result(timeout=WAIT_S_MAX) for reader in readers) > 0
    assert stale == []


def test_no_commit_is_confirmed_while_the_standby_is_away(pair: Pair, name: str, opened: Open) -> None:
    database = opened(pair.url(name))
    put(database, 1)
    pair.servers[1].freeze()
    started_s = time.monotonic()
    with pytest.raises((OutcomeUnknown, DatabaseAway)):
        put(database, 2)
    assert time.monotonic() - started_s < 30
    with pytest.raises(Unavailable):
        value(database)
    pair.servers[1].thaw()
    eventually(lambda: put(database, 3))
    assert value(database) == 3
