"""The judge of chaos is able to fail: what a cluster does that lost or hid pushes on purpose, it finds.

The clients and the judge are those of `make chaos`. What is wrong is only this: a standby that is not a
synchronous one takes over, or a node believes any server that says it is the primary.
"""

import random
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from support.chaos.history import ABSENT, Recorder, Write
from support.chaos.invariants import history_findings
from support.chaos.load import Desk, Load, RawClient, fresh_commit
from support.chaos.tally import Tally
from support.crash.checker import refs_of
from support.crash.history import MAIN
from support.crash.world import World, repository_id
from support.crash.worlds import Worlds
from support.long import only_long
from support.postgres_pair import Pair, running_pair
from support.raw_push import RawPusher
from support.servers import wait_until

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("judge")]

REFS = [f"refs/heads/line-{number}" for number in range(2)]
CLIENTS = 2
ENOUGH = 5
WAIT_S_MAX = 90
STALE = ("stale or future read", "stale read")


@dataclass
class Site:
    """Two database servers and a node that knows both."""

    pair: Pair
    name: str
    node: World

    def project(self, path: str) -> None:
        """With main, which the judge expects."""
        first, objects = fresh_commit(ABSENT, "the beginning")
        with closing(_pusher(self.node, path)) as pusher:
            assert pusher.push([(MAIN, ABSENT, first)], objects) == {MAIN: "ok"}

    def findings(self, recorder: Recorder, path: str) -> list[str]:
        with self.node.opened() as truth:
            number = repository_id(truth, path)
            assert number is not None
            return history_findings(recorder.operations, path, refs_of(truth, number))


def _pusher(node: World, path: str) -> RawPusher:
    return RawPusher(f"http://127.0.0.1:{node.running().port}/{path}.git", "root", node.token, timeout_s=60)


@pytest.fixture(scope="module")
def site(worlds: Worlds) -> Iterator[Site]:
    with running_pair() as pair:
        pair.primary.do("CREATE DATABASE judged TEMPLATE template0")
        node = worlds.on_database("judged", pair.url("judged"))
        yield Site(pair, "judged", node)
        node.kill()


def client(node: World, path: str, desk: Desk, seed: int) -> RawClient:
    return RawClient(f"client-{seed}", _pusher(node, path), path, REFS, desk, random.Random(seed))


def acknowledged(recorder: Recorder) -> int:
    return sum(isinstance(each, Write) and each.verdict == "ok" for each in recorder.operations)


def wait_until_acknowledged(recorder: Recorder, more: int = ENOUGH) -> None:
    wanted = acknowledged(recorder) + more
    wait_until(
        lambda: acknowledged(recorder) >= wanted, timeout_s=WAIT_S_MAX, what=f"{more} acknowledged pushes"
    )


@pytest.mark.parametrize("synchronous", [pytest.param(True, marks=only_long), False])
def test_a_failover_that_loses_acknowledged_pushes_is_found(site: Site, *, synchronous: bool) -> None:
    """The standby hears of nothing any more, pushes go on or wait, and then it takes over."""
    pair, path = site.pair, f"root/failover-{synchronous}"
    pair.restore()
    site.project(path)
    if not synchronous:
        wait_for_nobody(pair)
    recorder = Recorder()
    desk = Desk(recorder, Tally(), threading.Event())
    load = Load([client(site.node, path, desk, seed) for seed in range(CLIENTS)], desk)
    load.begin()
    try:
        wait_until_acknowledged(recorder)
        stop_hearing(pair)
        if not synchronous:
            wait_until_acknowledged(recorder)
        pair.fail_over()
        wait_until_acknowledged(recorder)
    finally:
        load.end()
    found = site.findings(recorder, path)
    assert (found == []) == synchronous, found
    assert synchronous or any(kind in each for each in found for kind in ("lost update", *STALE)), found


def wait_for_nobody(pair: Pair) -> None:
    """From now on a commit is acknowledged before the standby has it."""
    pair.primary.do("ALTER SYSTEM SET synchronous_standby_names = ''")
    pair.primary.do("SELECT pg_reload_conf()")
    wait_until(
        lambda: pair.primary.ask("SHOW synchronous_standby_names") == "", timeout_s=30, what="no standby"
    )


def stop_hearing(pair: Pair) -> None:
    """The standby has what it has."""
    pair.standby.do("ALTER SYSTEM SET primary_conninfo = ''")
    pair.standby.do("SELECT pg_reload_conf()")
    wait_until(
        lambda: pair.standby.ask("SELECT count(*) FROM pg_stat_wal_receiver") == "0",
        timeout_s=30,
        what="the standby is deaf",
    )


@pytest.mark.parametrize("broken", [pytest.param("", marks=only_long), "no_lease"])
def test_a_primary_that_was_replaced_and_is_read_is_found(site: Site, worlds: Worlds, broken: str) -> None:
    """One node knows only the old primary, which lives; a push through the other reaches the new one."""
    pair, path = site.pair, f"root/zombie-{broken or 'well'}"
    pair.restore()
    site.project(path)
    old_only = worlds.beside(
        site.node,
        f"old-{broken or 'well'}",
        MAINSTAY_DATABASE_URL=pair.primary.url(site.name),
        MAINSTAY_PUSH_HOLD_SECONDS="1",
    )
    old_only.start(broken=broken)
    recorder = Recorder()
    desk = Desk(recorder, Tally(), threading.Event())
    site.node.kill()
    behind = client(old_only, path, desk, 1)
    ahead = None
    try:
        assert behind.look() is not None
        pair.promote()
        ahead = client(site.node, path, desk, 2)
        wait_until(lambda: pushed(ahead), timeout_s=WAIT_S_MAX, what="a push through the new primary")
        shown = behind.look()
    finally:
        for each in filter(None, [behind, ahead]):
            each.pusher.close()
        old_only.kill()
        pair.standby.kill()
    found = site.findings(recorder, path)
    assert (shown is not None) == bool(broken), "a node with leases answers nothing"
    assert any(kind in each for each in found for kind in STALE) == bool(broken), found


def pushed(ahead: RawClient) -> bool:
    values = ahead.look()
    return values is not None and ahead.swap(REFS[0], values) == "ok"
