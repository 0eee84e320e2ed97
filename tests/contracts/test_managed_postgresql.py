"""A PostgreSQL server of ours: it comes back from anything, and two of them change roles without a loss."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from mainstay.foundation.clock import SYSTEM, SystemClock
from mainstay.provision.postgresql import (
    CannotStart,
    HasData,
    Listen,
    PortRefused,
    Primary,
    PrimaryAway,
    RunElsewhere,
    Server,
    Standby,
    Upstream,
    slot_of,
)
from mainstay.provision.postgresql.tools import ToolFailed
from support import managed
from support.long import only_long
from support.managed import SiteAuthority, roomy_directory, roomy_path
from support.ports import free_port
from support.servers import wait_until

__all__ = ["roomy_path"]

pytestmark = pytest.mark.xdist_group("managed-postgresql")

_S_MAX = 60


@dataclass
class Site:
    """One server with its certificate."""

    name: str
    server: Server
    authority: SiteAuthority
    port: int

    @property
    def primary(self) -> Primary:
        return Primary(self.server)

    @property
    def standby(self) -> Standby:
        return Standby(self.server)

    @property
    def credentials(self) -> managed.Credentials:
        return self.authority.credentials(self.name)

    def open(self) -> None:
        self.primary.open_for_replicas(Listen(host="127.0.0.1", port=self.port), self.credentials)

    def upstream_of(self, follower: "Site") -> Upstream:
        return Upstream(host="127.0.0.1", port=self.port, site=follower.name, name=self.name)

    def run(self, statement: str) -> None:
        with psycopg.connect(self.server.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def numbers(self) -> list[int]:
        with psycopg.connect(self.server.url(), autocommit=True) as connection:
            return [row[0] for row in connection.execute("SELECT number FROM numbers ORDER BY 1")]

    def crash(self) -> None:
        pid = self.server.pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.server.exit_code() is not None, timeout_s=_S_MAX, what="the end")


@pytest.fixture
def sites(roomy_path: Path) -> Iterator[Callable[[str], Site]]:
    authority = SiteAuthority(roomy_path / "tls")
    with ExitStack() as stack:

        def make(name: str) -> Site:
            server = managed.server(roomy_path / name)
            stack.callback(server.retire, "immediate")
            return Site(name, server, authority, free_port())

        yield make


@pytest.fixture(scope="module")
def first_data() -> Iterator[Path]:
    """The data of a server with a row, which is not running: `initdb` takes longest of all."""
    with roomy_directory() as directory:
        server = managed.server(directory / "site-a")
        server.create()
        server.start()
        site = Site("site-a", server, SiteAuthority(directory / "tls"), 0)
        site.run("CREATE TABLE numbers (number bigint PRIMARY KEY)")
        site.run("INSERT INTO numbers VALUES (1)")
        server.retire()
        yield server.places.data


@pytest.fixture
def pair(sites: Callable[[str], Site], first_data: Path) -> tuple[Site, Site]:
    """A primary with a row, and its standby, streaming."""
    first, second = alone(sites, first_data), sites("site-b")
    first.open()
    follow_anew(first, second)
    return first, second


def alone(sites: Callable[[str], Site], first_data: Path) -> Site:
    """A server with a row that runs."""
    site = sites("site-a")
    site.server.prepare()
    subprocess.run(["cp", "-a", first_data, site.server.places.data], check=True, timeout=_S_MAX)
    site.server.start()
    return site


def follow_anew(first: Site, second: Site) -> None:
    first.primary.create_slot(second.name)
    second.standby.base_backup_from(first.upstream_of(second), second.credentials)
    second.server.start()
    wait_until_streaming(first)


def wait_until_streaming(primary: Site) -> None:
    wait_until(
        lambda: all(each.is_streaming for each in primary.primary.followers()),
        timeout_s=_S_MAX,
        what="the standby streams",
    )


def wait_until_same(primary: Site, standby: Site) -> None:
    at = primary.primary.lsn()
    wait_until(lambda: standby.standby.lag().replayed >= at, timeout_s=_S_MAX, what="the standby has it all")


def test_it_keeps_what_was_committed_over_any_end(sites: Callable[[str], Site], roomy_path: Path) -> None:
    site = sites("site-a")
    site.server.create()
    site.server.start()
    site.run("CREATE TABLE numbers (number bigint PRIMARY KEY)")
    site.run("INSERT INTO numbers VALUES (1)")
    identity = site.server.system_identifier()

    with pytest.raises(RunElsewhere):
        managed.server(roomy_path / "site-a").start()
    site.crash()
    site.server.start()
    site.run("INSERT INTO numbers VALUES (2)")
    assert site.server.stop("fast")
    assert not site.server.is_running()
    site.server.create()  # once more: it is there
    site.server.start()

    assert site.numbers() == [1, 2]
    assert site.server.system_identifier() == identity
    assert site.server.ask("SHOW data_checksums") == ("on",)
    with psycopg.connect(site.server.url()) as connection:
        assert connection.execute("SELECT usesuper FROM pg_user WHERE usename = current_user").fetchone() == (
            False,
        )
    assert site.server.retire()


def test_a_half_made_directory_is_made_again_and_a_bad_setting_is_told(sites: Callable[[str], Site]) -> None:
    site = sites("site-a")
    site.server.prepare()
    site.server.places.making.mkdir()
    (site.server.places.making / "PG_VERSION").write_text("15\n")
    site.server.create()
    site.server.places.own_configuration.write_text("shared_buffers = 'many'\n")
    site.server.places.own_configuration.chmod(0o644)

    with pytest.raises(CannotStart, match="shared_buffers"):
        site.server.start()
    site.server.places.own_configuration.unlink()
    site.server.start()
    site.run("CREATE TABLE numbers (number bigint PRIMARY KEY)")

    assert site.numbers() == []


class WaitedFor(SystemClock):
    """Knows that somebody has begun to wait by it."""

    def __init__(self) -> None:
        self.was_asked = threading.Event()

    def monotonic_s(self) -> float:
        self.was_asked.set()
        return super().monotonic_s()


def test_a_standby_is_promoted_and_the_old_primary_rewound_without_a_copy(pair: tuple[Site, Site]) -> None:
    first, second = pair
    second.open()
    first.run("INSERT INTO numbers SELECT generate_series(1000, 50000)")  # work for a checkpoint
    wait_until_same(first, second)
    first.crash()
    started_s = time.monotonic()
    second.standby.promote()
    assert time.monotonic() - started_s < 20
    second.run("INSERT INTO numbers VALUES (2)")
    first.server.start()  # a primary that does not know
    first.run("INSERT INTO numbers VALUES (666)")
    first.server.stop("fast")

    second.primary.create_slot(first.name)
    said: list[str] = []
    first.server.tell = said.append
    clock = WaitedFor()
    with ThreadPoolExecutor(1) as beside:  # before its first checkpoint a promotion cannot be seen
        standby = Standby(first.server, clock=clock)
        rewound = beside.submit(standby.rewind_from, second.upstream_of(first), first.credentials)
        assert clock.was_asked.wait(_S_MAX)
        second.primary.settle()
        rewound.result()
    wait_until_streaming(second)
    second.run("INSERT INTO numbers VALUES (3)")
    wait_until_same(second, first)

    assert first.server.is_in_recovery()
    assert first.numbers() == second.numbers() == [1, 2, 3, *range(1000, 50_001)]
    assert second.primary.timeline() == first.standby.timeline() == 2
    assert any("Done" in line for line in said)


def test_who_lets_a_site_in_or_shuts_it_out_at_once_with_others_is_not_in_their_way(
    sites: Callable[[str], Site], first_data: Path
) -> None:
    """The process that redeems a token, and the process of the site, which goes by the list."""
    site = alone(sites, first_data)
    site.open()
    with ThreadPoolExecutor(8) as all_at_once:
        for _ in range(2):
            made = [all_at_once.submit(site.primary.create_slot, "site-b") for _ in range(8)]
            assert {each.result() for each in made} == {slot_of("site-b")}
            gone = [all_at_once.submit(site.primary.drop_slot, "site-b") for _ in range(8)]
            assert [each.result() for each in gone] == [None] * 8
    assert site.primary.followers() == []


@only_long
def test_roles_change_by_plan_and_back_without_a_rewind(pair: tuple[Site, Site]) -> None:
    first, second = pair
    second.open()
    for old, new, number in ((first, second, 2), (second, first, 3)):
        old.server.stop("fast")
        new.standby.promote()
        new.primary.create_slot(old.name)
        old.standby.follow(new.upstream_of(old), old.credentials)
        if not old.server.is_running():
            old.server.start()
        new.run(f"INSERT INTO numbers VALUES ({number})")
        wait_until_same(new, old)

    assert first.numbers() == second.numbers() == [1, 2, 3]
    assert first.primary.timeline() == 3


def test_a_copy_that_was_killed_is_made_again(pair: tuple[Site, Site], sites: Callable[[str], Site]) -> None:
    first, _ = pair
    first.run("INSERT INTO numbers SELECT generate_series(2, 50000)")
    third = sites("site-c")
    first.primary.create_slot(third.name)
    begun = threading.Event()

    def hear(line: str) -> None:
        begun.set()
        if "%" in line:
            raise KeyboardInterrupt  # as if it were killed here: nothing is tidied

    third.server.tell = hear
    with pytest.raises(KeyboardInterrupt):
        third.standby.base_backup_from(first.upstream_of(third), third.credentials)
    assert begun.is_set()
    assert third.server.places.making.exists()
    assert not third.server.exists

    third.server.tell = lambda _line: None
    follow_anew(first, third)
    wait_until_same(first, third)
    assert len(third.numbers()) == 50_000
    with pytest.raises(HasData):
        first.standby.base_backup_from(first.upstream_of(first), first.credentials)


def test_a_synchronous_commit_waits_for_its_standby_and_for_nobody_else(pair: tuple[Site, Site]) -> None:
    first, second = pair
    first.primary.set_synchronous([second.name])
    wait_until(lambda: first.primary.followers()[0].is_synchronous, timeout_s=_S_MAX, what="synchronous")
    first.run("INSERT INTO numbers VALUES (2)")
    second.server.stop("immediate")

    waits = threading.Thread(target=first.run, args=("INSERT INTO numbers VALUES (3)",), daemon=True)
    waits.start()
    wait_until(
        lambda: (
            first.server.ask("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == (1,)
        ),
        timeout_s=_S_MAX,
        what="the commit waits",
    )
    assert waits.is_alive()
    second.server.start()
    waits.join(_S_MAX)

    assert not waits.is_alive()
    assert first.numbers() == second.numbers() == [1, 2, 3]
    first.primary.set_synchronous([])
    second.server.stop()
    first.run("INSERT INTO numbers VALUES (4)")


def test_a_site_without_a_place_is_not_let_in_and_one_that_is_dropped_stays_out(
    pair: tuple[Site, Site], sites: Callable[[str], Site], roomy_path: Path
) -> None:
    first, second = pair
    third = sites("site-c")
    with pytest.raises(PrimaryAway, match="does not answer"):
        third.standby.base_backup_from(first.upstream_of(third), third.credentials)
    stranger = SiteAuthority(roomy_path / "stranger").credentials(second.name)
    with pytest.raises(PrimaryAway):
        third.standby.base_backup_from(first.upstream_of(second), stranger)

    first.primary.drop_slot(second.name)
    assert first.primary.followers() == []
    first.run("INSERT INTO numbers VALUES (2)")
    with pytest.raises(PrimaryAway):
        third.standby.base_backup_from(first.upstream_of(second), second.credentials)
    wait_until(lambda: not second.standby.lag().is_streaming, timeout_s=_S_MAX, what="shut out")
    assert second.numbers() == [1]


@only_long
def test_what_is_kept_for_a_replica_has_a_bound(pair: tuple[Site, Site]) -> None:
    first, second = pair
    second.server.stop("fast")
    first.primary.set_wal_kept(16 * 1024**2)
    first.server.places.own_configuration.write_text("wal_keep_size = 0\nmax_wal_size = '64MB'\n")
    first.server.places.own_configuration.chmod(0o644)
    first.server.reload()
    with first.server.connected() as connection:
        for _ in range(5):
            connection.execute("SELECT pg_logical_emit_message(false, 'x', 'y')")
            connection.execute("SELECT pg_switch_wal()")
        connection.execute("CHECKPOINT")

    wait_until(lambda: first.primary.followers()[0].needs_a_copy, timeout_s=_S_MAX, what="the slot is lost")
    first.primary.create_slot(second.name)
    second.standby.base_backup_from(first.upstream_of(second), second.credentials, replace_data=True)
    second.server.start()
    wait_until_streaming(first)


def test_a_taken_port_is_told_and_changes_nothing(pair: tuple[Site, Site]) -> None:
    first, second = pair
    with pytest.raises(PortRefused):
        first.primary.open_for_replicas(Listen(host="127.0.0.1", port=second_port(second)), first.credentials)
    first.run("INSERT INTO numbers VALUES (2)")
    wait_until_same(first, second)


def second_port(second: Site) -> int:
    second.open()
    return second.port


@only_long
def test_a_delayed_replica_is_promoted_at_a_chosen_moment(pair: tuple[Site, Site]) -> None:
    first, second = pair
    wait_until_same(first, second)
    second.standby.set_delay(3600)
    first.run("INSERT INTO numbers VALUES (2)")
    time.sleep(0.05)  # between two moments there must be one
    moment_ms = SYSTEM.now_ms()
    time.sleep(0.05)
    first.run("INSERT INTO numbers VALUES (3)")
    at = first.primary.lsn()
    wait_until(lambda: second.standby.lag().received >= at, timeout_s=_S_MAX, what="it is received")
    assert second.numbers() == [1]
    assert second.standby.lag().bytes > 0

    reached = second.standby.replay_until(moment_ms, within_s=_S_MAX)
    second.standby.promote()

    assert reached.is_exact
    assert second.numbers() == [1, 2]
    second.run("INSERT INTO numbers VALUES (4)")


def test_a_tool_that_fails_says_its_own_words(sites: Callable[[str], Site]) -> None:
    site = sites("site-a")
    site.server.prepare()
    with pytest.raises(ToolFailed, match="unrecognized option"):
        site.server.tools().run("initdb", "--no-such", log=site.server.places.tool_log, silent_s_max=20)
