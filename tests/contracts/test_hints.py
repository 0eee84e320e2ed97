"""Hints over a real Redis: they arrive, and whatever happens to Redis nobody waits for it."""

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mainstay.cluster.hints import Listener, Sender
from mainstay.cluster.softstate import location_of, problem_of
from mainstay.foundation.clock import SYSTEM
from mainstay.jobs.worker import Worker
from mainstay.storage.database import Database
from mainstay.storage.ledger.sql import SqlLedger
from support.certificates import make_certificate
from support.ledgers import MAIN, a_push, a_repository, create
from support.ports import free_port
from support.redis_servers import (
    RedisServer,
    running_cluster,
    running_redis,
    running_sentinel,
    running_tls_redis,
)
from support.servers import wait_until

CHANNEL = "mainstay:test:outbox"
PATIENCE_S = 45.0
TELL_S_MAX = 0.1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as server:
        yield server


class Ears:
    """Counts the times it was woken."""

    def __init__(self) -> None:
        self.times = 0
        self.rang = threading.Event()

    def __call__(self) -> None:
        self.times += 1
        self.rang.set()


@contextmanager
def sender_and_ears(url: str) -> Iterator[tuple[Sender, Ears]]:
    """Both ends; the listener has subscribed."""
    ears = Ears()
    sender = Sender(location_of(url), channel=CHANNEL)
    listener = Listener(location_of(url), channel=CHANNEL, wake=ears)
    listener.start()
    sender.start()
    try:
        yield sender, ears
    finally:
        listener.close()
        sender.close()


def until_heard(sender: Sender, ears: Ears) -> None:
    """Tell until somebody hears of it: a hint may be lost, such as while Redis comes back."""
    ears.rang.clear()

    def heard() -> bool:
        sender.tell()
        return ears.rang.is_set()

    wait_until(heard, timeout_s=PATIENCE_S, what="a hint is heard")


def until_subscribed(ears: Ears) -> None:
    """A new subscription wakes once."""
    assert ears.rang.wait(PATIENCE_S)
    ears.rang.clear()


def tell_often(sender: Sender) -> float:
    """The longest of some calls."""
    longest_s = 0.0
    for _ in range(50):
        began_s = time.monotonic()
        sender.tell()
        longest_s = max(longest_s, time.monotonic() - began_s)
        time.sleep(0.001)
    return longest_s


def test_a_hint_arrives_and_many_at_once_are_few(server: RedisServer) -> None:
    with sender_and_ears(server.url) as (sender, ears):
        until_subscribed(ears)
        woken = ears.times
        for _ in range(1000):
            sender.tell()
        assert ears.rang.wait(PATIENCE_S)
        wait_until(lambda: not sender.problem, timeout_s=PATIENCE_S, what="Redis is found")
        assert ears.times - woken < 10


@pytest.mark.parametrize("kind", ["sentinel", "cluster", "unix"])
def test_it_may_be_behind_sentinel_or_a_cluster_or_a_local_socket(tmp_path: Path, kind: str) -> None:
    with ExitStack() as stack:
        if kind == "cluster":
            _, url = stack.enter_context(running_cluster(tmp_path))
        elif kind == "sentinel":
            master = stack.enter_context(running_redis(tmp_path))
            url = stack.enter_context(running_sentinel(tmp_path, master))
        else:
            stack.enter_context(running_redis(tmp_path, "--unixsocket", "redis.sock"))
            url = f"unix://{tmp_path}/redis.sock"
        sender, ears = stack.enter_context(sender_and_ears(url))
        until_heard(sender, ears)
        wait_until(lambda: not sender.problem, timeout_s=PATIENCE_S, what="Redis is found")


def test_a_password_is_used(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        server.direct.config_set("requirepass", "opensesame")
        with sender_and_ears(server.url.replace("//", "//:opensesame@")) as (sender, ears):
            until_heard(sender, ears)
        with sender_and_ears(server.url) as (stranger, _):
            wait_until(lambda: "uthentication" in stranger.problem, timeout_s=PATIENCE_S, what="it is told")
            assert tell_often(stranger) < TELL_S_MAX


def test_over_tls_hints_arrive_from_a_server_that_is_trusted(tmp_path: Path) -> None:
    with running_tls_redis(tmp_path) as (server, certificate):
        url = f"rediss://127.0.0.1:{server.port}/0?ssl_ca_certs={certificate}"
        with sender_and_ears(url) as (sender, ears):
            until_heard(sender, ears)
        assert problem_of(location_of(url)) == ""


@pytest.mark.parametrize("authority", ["another", "those of the machine"])
def test_a_server_that_is_not_trusted_is_told_in_one_sentence_and_costs_nobody_time(
    tmp_path: Path, authority: str
) -> None:
    other, _ = make_certificate(tmp_path / "other")
    with running_tls_redis(tmp_path) as (server, _):
        url = f"rediss://127.0.0.1:{server.port}/0"
        if authority == "another":
            url += f"?ssl_ca_certs={other}"
        told = problem_of(location_of(url))
        assert re.fullmatch(r"its certificate is not trusted \([^()]+\): see ssl_ca_certs in redis_url", told)
        with sender_and_ears(url) as (sender, _ears):
            wait_until(lambda: sender.problem == told, timeout_s=PATIENCE_S, what="it is told")
            assert tell_often(sender) < TELL_S_MAX


def kill(server: RedisServer) -> Callable[[], None]:
    server.kill()
    return server.start


def freeze(server: RedisServer) -> Callable[[], None]:
    server.signal(signal.SIGSTOP)
    return lambda: server.signal(signal.SIGCONT)


@pytest.mark.parametrize("fault", [kill, freeze])
def test_a_redis_that_is_away_costs_nobody_time_and_is_found_when_it_is_back(
    server: RedisServer, fault: Callable[[RedisServer], Callable[[], None]]
) -> None:
    with sender_and_ears(server.url) as (sender, ears):
        until_heard(sender, ears)
        heal = fault(server)
        assert tell_often(sender) < TELL_S_MAX
        wait_until(lambda: bool(sender.problem), timeout_s=PATIENCE_S, what="it is noticed")
        assert tell_often(sender) < TELL_S_MAX
        heal()
        until_heard(sender, ears)
        wait_until(lambda: not sender.problem, timeout_s=PATIENCE_S, what="it is found again")


def test_flushing_it_loses_nothing(server: RedisServer) -> None:
    with sender_and_ears(server.url) as (sender, ears):
        until_heard(sender, ears)
        server.direct.flushall()
        assert server.direct.dbsize() == 0, "there was nothing in it"
        until_heard(sender, ears)


def test_where_nothing_listens_a_hint_is_dropped() -> None:
    sender = Sender(location_of(f"redis://127.0.0.1:{free_port()}"), channel=CHANNEL)
    try:
        assert tell_often(sender) < TELL_S_MAX
        wait_until(lambda: "not asked" not in sender.problem, timeout_s=PATIENCE_S, what="it was tried")
        assert sender.problem
    finally:
        sender.close()


@contextmanager
def working(database: Database, url: str | None, *, poll_s: float) -> Iterator[tuple[SqlLedger, Ears]]:
    """A worker that runs, a ledger that tells it, and what hears of pushes."""
    ears, ready, stop = Ears(), Ears(), threading.Event()
    channel = CHANNEL
    sender = Sender(location_of(url), channel=channel) if url else None
    worker = Worker(
        database=database,
        ledger=SqlLedger(database, SYSTEM),
        handlers={},
        event_handlers={"push": {"hear": lambda _payload: ears()}},
        clock=SYSTEM,
        poll_s=poll_s,
    )

    def wake() -> None:
        worker.wake()
        ready()

    listener = Listener(location_of(url), channel=channel, wake=wake) if url else None
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    try:
        if listener:
            listener.start()
            assert ready.rang.wait(PATIENCE_S)
        yield SqlLedger(database, SYSTEM, tell=sender.tell if sender else lambda: None), ears
    finally:
        stop.set()
        worker.wake()
        thread.join()
        for each in (listener, sender):
            if each:
                each.close()


def test_a_worker_acts_on_a_push_at_once_instead_of_at_its_next_look(
    database: Database, server: RedisServer
) -> None:
    """It looks once in ten minutes here: nothing but a hint can be the reason."""
    with working(database, server.url, poll_s=600.0) as (ledger, ears):
        repository = a_repository(ledger)
        ledger.push(a_push(repository, create(MAIN)))
        assert ears.rang.wait(PATIENCE_S)


def test_without_redis_it_acts_at_its_next_look(database: Database) -> None:
    with working(database, None, poll_s=0.2) as (ledger, ears):
        repository = a_repository(ledger)
        ledger.push(a_push(repository, create(MAIN)))
        assert ears.rang.wait(PATIENCE_S)
