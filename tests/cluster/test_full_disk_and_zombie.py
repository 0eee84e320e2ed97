"""A node whose disk is full, database and all; a PostgreSQL whose disk is full; a node that slept while its
upload was given up.
"""

import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from mainstay.foundation.clock import SYSTEM, ManualClock
from mainstay.storage.database import Database
from mainstay.storage.database.opening import open_database
from mainstay.storage.ledger.sql import SqlLedger
from mainstay.storage.objects.directory import DirectoryStore
from mainstay.storage.sweep import sweep
from support.chaos import power
from support.chaos.load import fresh_commit
from support.long import only_long
from support.node import Node
from support.postgres import find_binaries, unprivileged_user
from support.postgres_pair import PairServer
from support.raw_push import ZERO, RawPusher
from support.servers import skip_missing, wait_until
from support.small_disk import fill, small_disk

MAIN, SIDE = "refs/heads/main", "refs/heads/side"
FULL = b"cannot write to the local disk: No space left"
PUSHES_MAX = 200
DAYS_MS = 3 * 24 * 3600 * 1000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[power.Disk]:
    if reason := power.why_not():
        skip_missing("a small disk", reason)
    with power.Disk(tmp_path / "disk", size_mib=64) as disk:
        yield disk


def pusher_of(node: Node) -> RawPusher:
    token = node.token(scopes="api,write_repository")
    return RawPusher(f"{node.url}/root/ledger.git", "root", token)


def announced_keys(database: Database) -> set[str]:
    """Objects of uploads that are not committed yet."""
    with database.read() as tx:
        rows = tx.rows("SELECT keys FROM ledger_upload_intent")
    return {key for row in rows for key in json.loads(row[0])}


def readiness(node: Node) -> tuple[int, bytes]:
    return node.get("/-/readiness")


@pytest.mark.timeout(240)
def test_a_node_whose_disk_is_full_refuses_in_words_and_comes_back(disk: power.Disk) -> None:
    with Node(disk.directory / "node", environment={"MAINSTAY_DATA_PROCESSES": "1"}) as node:
        pusher = pusher_of(node)
        first, objects = fresh_commit(ZERO, "the beginning")
        assert pusher.push([(MAIN, ZERO, first)], objects) == {MAIN: "ok"}
        fillings = [fill(disk.directory)]
        wait_until(
            lambda: FULL in readiness(node)[1], timeout_s=60, what="the node says that it is not ready"
        )
        for number in range(3):
            fillings.append(fill(disk.directory, f"more-{number}"))
            second, more = fresh_commit(first, f"attempt {number}")
            assert (pusher.push([(SIDE, ZERO, second)], more) or {SIDE: "no report"})[SIDE] != "ok"
        assert pusher.refs() == {MAIN: first}, "reads go on"
        for filling in fillings:
            filling.unlink()
        wait_until(lambda: readiness(node)[0] == 200, timeout_s=60, what="the node is ready again by itself")
        second, more = fresh_commit(first, "after it")
        assert pusher.push([(SIDE, ZERO, second)], more) == {SIDE: "ok"}
        assert pusher.refs() == {MAIN: first, SIDE: second}
        pusher.close()
        assert node.run("fsck").returncode == 0


@pytest.fixture
def crowded() -> Iterator[tuple[PairServer, Path]]:
    """A PostgreSQL server, and its disk of its own, which is small."""
    binaries = find_binaries()
    if binaries is None:
        skip_missing("PostgreSQL", "apt-get install postgresql, or `make servers` as root")
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="mst-full-", ignore_cleanup_errors=True))
        )
        user = unprivileged_user(directory)
        server = PairServer("data", directory, binaries, user)
        stack.enter_context(small_disk(server.data, size_kib=160 << 10))
        if user:
            shutil.chown(server.data, user)
        server.initialize()
        server.start()
        stack.callback(server.stop)
        yield server, server.data


@only_long
@pytest.mark.timeout(240)
def test_a_postgresql_whose_disk_is_full_loses_nothing_and_comes_back(
    crowded: tuple[PairServer, Path], tmp_path: Path
) -> None:
    """First its tables cannot grow; then its log of changes cannot, and it ends. Nobody restarts the node."""
    server, small = crowded
    environment = {
        "MAINSTAY_DATABASE_URL": server.url(),
        "MAINSTAY_DATA_PROCESSES": "1",
        "MAINSTAY_PUSH_HOLD_SECONDS": "2",
    }
    with Node(tmp_path / "node", environment=environment, ready_s_max=120) as node:
        pusher = pusher_of(node)
        kept = Kept(pusher)
        assert kept.push("the beginning") == "ok"
        filling = fill(small)
        said = [kept.push("while its tables have room")]
        while said[-1] == "ok" and len(said) < PUSHES_MAX:
            said.append(kept.push("until they have none"))
        assert "the database has no room" in said[-1]
        assert pusher.refs() == kept.refs, "reads go on"

        with pytest.raises(psycopg.Error):
            fill_the_log(server.url())
        wait_until(lambda: not server.answers(), timeout_s=60, what="PostgreSQL has ended")
        assert kept.push("into what has ended") != "ok"
        assert readiness(node)[0] == 200, "it is nobody's fault here"

        server.kill()
        filling.unlink()
        server.start()
        wait_until(
            lambda: kept.push("after it") == "ok", timeout_s=60, what="pushes work again by themselves"
        )
        assert pusher.refs() == kept.refs
        pusher.close()
        assert node.run("fsck").returncode == 0


def fill_the_log(url: str) -> None:
    """Until the server gives up. Raises `psycopg.Error`."""
    with psycopg.connect(url, autocommit=True) as connection:
        while True:
            connection.execute("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 400000))")


class Kept:
    """Pushes a new branch at a time, and keeps in mind which were acknowledged."""

    def __init__(self, pusher: RawPusher) -> None:
        self._pusher = pusher
        self._count = 0
        self.refs: dict[str, str] = {}

    def push(self, message: str) -> str:
        """What was said: `ok`, a reason, or that there was no report."""
        self._count += 1
        name = f"refs/heads/branch-{self._count}"
        new, objects = fresh_commit(ZERO, message)
        said = (self._pusher.push([(name, ZERO, new)], objects) or {name: "no report"})[name]
        if said == "ok":
            self.refs[name] = new
        return said


@only_long
@pytest.mark.timeout(240)
def test_a_zombie_whose_upload_was_swept_commits_nothing(tmp_path: Path) -> None:
    """Stopped between upload and commit, as a virtual machine may be for a night."""
    environment = {"MAINSTAY_FAILPOINTS": "push.objects_stored=sleep:5", "MAINSTAY_DATA_PROCESSES": "1"}
    with Node(tmp_path / "node", environment=environment) as node:
        pusher = pusher_of(node)
        first, objects = fresh_commit(ZERO, "the beginning")
        assert pusher.push([(MAIN, ZERO, first)], objects) == {MAIN: "ok"}
        database = open_database(f"sqlite://{node.data}/mainstay.db")
        ledger, store = SqlLedger(database, SYSTEM), DirectoryStore(node.data / "objects")
        second, more = fresh_commit(first, "too late")
        said: list[dict[str, str] | None] = []
        pushing = threading.Thread(target=lambda: said.append(pusher.push([(SIDE, ZERO, second)], more)))
        pushing.start()
        wait_until(
            lambda: (
                (announced := announced_keys(database)) != set()
                and all(store.size_bytes(key) is not None for key in announced)
            ),
            timeout_s=60,
            what="the objects are stored",
        )
        zombie = node.pids()["data"]
        os.kill(zombie, signal.SIGSTOP)
        try:
            later = ManualClock(SYSTEM.now_ms() + DAYS_MS)
            swept = sweep(ledger, store, clock=later)
        finally:
            os.kill(zombie, signal.SIGCONT)
        pushing.join(60)
        assert swept.intents == 1
        assert said[0] is not None
        assert said[0][SIDE].endswith("uploads were given up as too old; nothing changed")
        assert pusher.refs() == {MAIN: first}
        pusher.close()
        database.close()
        assert node.run("fsck").returncode == 0
