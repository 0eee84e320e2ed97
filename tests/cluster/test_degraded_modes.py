"""What two nodes do when the database or the object store is away, for one of them or for both."""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from mainstay.cache.fallback import decoded
from support.git_client import fsck
from support.long import only_long
from support.pair import Pair, Wired, seconds_until
from support.people import Person, person
from support.servers import wait_until

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("pair")]

OUT_S_MAX = 3.0
SLACK_S = 5.0
"""This machine does other things, too."""
REFUSED_S_MAX = 30.0


@pytest.fixture(scope="module")
def eve(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Person:
    return person(pair.a.node, tmp_path_factory.mktemp("eve"), "eve")


@pytest.fixture(autouse=True)
def healed(pair: Pair) -> Iterator[None]:
    pair.heal()
    yield
    pair.heal()


@pytest.fixture(scope="module")
def work(ada: Person, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working copy of `ada/engine`, pushed."""
    work = ada.git.repository(tmp_path_factory.mktemp("work") / "engine")
    ada.git("push", ada.url("ada/engine"), "main", cwd=work)
    return work


def at_b(pair: Pair, who: Person) -> Person:
    return replace(who, node=pair.b.node)


@pytest.mark.parametrize("how", ["cut", "stall"])
def test_the_node_that_alone_lost_the_database_leaves_the_rotation_and_comes_back(
    pair: Pair, how: str
) -> None:
    getattr(pair.a.database, how)()
    out_s = seconds_until(lambda: pair.a.readiness() == 503, within_s=OUT_S_MAX + SLACK_S, what="a is out")
    said = json.loads(pair.a.node.get("/-/readiness")[1])["master_check"][0]["message"]
    assert said == "the database answers b but not this node"
    assert pair.b.readiness() == 200
    print(f"{how}: out of rotation after {out_s:.1f} s")
    pair.a.database.heal()
    wait_until(lambda: pair.a.readiness() == 200, timeout_s=30, what="a is back")


def test_a_database_that_is_away_for_all_takes_nobody_out_and_known_reads_go_on(
    pair: Pair, ada: Person, eve: Person, work: Path, tmp_path: Path
) -> None:
    for who in (ada, at_b(pair, ada)):
        ada.git("clone", "-q", who.url("ada/engine"), tmp_path / f"before-{who.node.data.name}")
    ada.git("clone", "-q", ada.ssh_url("ada/engine"), tmp_path / "before-ssh")
    assert not eve.git.try_("ls-remote", eve.url("ada/engine")), "it is private"
    wait_until(lambda: is_noted(pair, "ada/engine"), timeout_s=30, what="both nodes note what they serve")
    unpushed = ada.git.commit(work, "unpushed", "unpushed\n")

    for each in (pair.a, pair.b):
        each.database.cut()
    wait_until(lambda: goes_on(ada), timeout_s=30, what="fetches go on")
    done = ada.git.try_("clone", ada.url("ada/engine"), tmp_path / "after")
    assert done, done.err
    assert "The database is away: this is what was known" in done.err
    fsck(ada.git, tmp_path / "after")
    at_ssh = ada.git.try_("clone", ada.ssh_url("ada/engine"), tmp_path / "after-ssh")
    assert at_ssh, at_ssh.err
    assert "The database is away" in at_ssh.err

    assert not eve.git.try_("ls-remote", eve.url("ada/engine")), "who was not let in before is not now"
    wrong = ada.git.try_("ls-remote", ada.url("ada/engine", secret="wrong-password"))
    assert not wrong
    push = ada.git.try_("push", ada.url("ada/engine"), "main", cwd=work)
    assert not push
    assert "503" in push.err or "away" in push.err
    assert (pair.a.readiness(), pair.b.readiness()) == (200, 200)
    status = pair.a.node.run("status", "--json", check=False)
    assert status.returncode == 2
    shown = json.loads(status.stdout)
    assert shown["node"]["phase"] == "ready"
    assert "away" in shown["dependencies"]["database"]["problem"]

    pair.heal()
    wait_until(
        lambda: bool(ada.git.try_("push", ada.url("ada/engine"), "main", cwd=work)),
        timeout_s=30,
        what="pushes work again",
    )
    wait_until(lambda: shows_the_truth(pair, ada), timeout_s=30, what="both nodes see the database again")
    assert ada.git.refs(ada.url("ada/engine"))["refs/heads/main"] == unpushed


@pytest.mark.parametrize("cut", ["a", "ab"])
def test_memory_ends_with_the_first_push_that_is_acknowledged(
    pair: Pair, ada: Person, work: Path, tmp_path: Path, cut: str
) -> None:
    """Node `a` is cut off, or both are; `b` takes a push as soon as it can. `a` then shows it, or fails."""
    there = at_b(pair, ada)
    ada.git("clone", "-q", ada.url("ada/engine"), tmp_path / "before")
    wait_until(lambda: is_noted(pair, "ada/engine", at="a"), timeout_s=30, what="it is noted")
    reader, doubts = Reader(ada), Doubts(pair.a)
    for number in range(2):
        new = ada.git.commit(work, f"round-{cut}-{number}", "x\n")
        for each in cut:
            getattr(pair, each).database.cut()
        if cut == "ab":
            wait_until(lambda: goes_on(ada), timeout_s=30, what="fetches go on")
        else:
            wait_until(lambda: doubts.grew(ada), timeout_s=60, what="a would answer if b were not there")
            assert not goes_on(ada), "b may be taking pushes"
        reader.begin()
        if cut == "ab":
            pair.a.database.heal()
            pair.b.database.heal()
        wait_until(
            lambda: bool(ada.git.try_("push", "-q", there.url("ada/engine"), "main", cwd=work)),
            timeout_s=30,
            what="b takes the push",
        )
        acknowledged_s = time.monotonic()
        if cut == "a":
            pair.a.database.heal()
        wait_until(
            lambda since_s=acknowledged_s: reader.answered_since(since_s), timeout_s=60, what="a answers"
        )
        shown = reader.end()
        assert {oid for began_s, oid in shown if began_s > acknowledged_s} == {new}
        pair.heal()


def test_who_is_shut_out_before_an_outage_stays_shut_out_in_it(
    pair: Pair, ada: Person, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bob = person(pair.a.node, tmp_path_factory.mktemp("bob"), "bob")
    work = bob.git.repository(bob.git.home / "work")
    bob.git("push", bob.url("bob/own"), "main", cwd=work)
    bob.git("clone", "-q", bob.url("bob/own"), bob.git.home / "before")
    wait_until(lambda: is_noted(pair, "bob/own", at="a"), timeout_s=30, what="it is noted")
    pair.a.node.run("user", "block", "bob")
    assert not bob.git.try_("ls-remote", bob.url("bob/own"))
    for each in (pair.a, pair.b):
        each.database.cut()
    wait_until(lambda: goes_on(ada), timeout_s=30, what="fetches go on")
    assert not bob.git.try_("ls-remote", bob.url("bob/own"))


@pytest.mark.parametrize("how", ["cut", pytest.param("stall", marks=only_long)])
def test_without_the_object_store_warm_fetches_go_on_and_pushes_fail_soon(
    pair: Pair, ada: Person, work: Path, tmp_path: Path, how: str
) -> None:
    wait_until(lambda: shows_the_truth(pair, ada), timeout_s=30, what="both nodes see the database again")
    ada.git("clone", "-q", ada.url("ada/engine"), tmp_path / "warm")
    before = ada.git.refs(ada.url("ada/engine"))
    new = ada.git.commit(work, f"while-{how}", how)
    getattr(pair.a.objects, how)()
    getattr(pair.b.objects, how)()

    done = ada.git.try_("clone", "-q", ada.url("ada/engine"), tmp_path / "again")
    assert done, done.err
    pushes: list[str] = []

    def push_fails() -> bool:
        push = ada.git.try_("push", ada.url("ada/engine"), "main", cwd=work)
        pushes.append(push.err)
        return not push

    took_s = seconds_until(push_fails, within_s=REFUSED_S_MAX + SLACK_S, what="a refused push")
    assert len(pushes) == 1
    assert took_s < REFUSED_S_MAX + SLACK_S
    assert "object store" in pushes[0], pushes[0]
    print(f"{how}: push refused after {took_s:.1f} s")
    assert ada.git.refs(ada.url("ada/engine")) == before, "nothing changed"
    assert pair.a.readiness() == 200

    pair.heal()
    wait_until(
        lambda: bool(ada.git.try_("push", ada.url("ada/engine"), "main", cwd=work)),
        timeout_s=60,
        what="pushes work again, without a restart",
    )
    assert ada.git.refs(ada.url("ada/engine"))["refs/heads/main"] == new


class Doubts:
    """How often a node did not answer from memory because another might be taking pushes."""

    def __init__(self, wired: Wired) -> None:
        self._log = wired.node.log
        self._seen = self._count()

    def _count(self) -> int:
        return self._log.read_text().count("absence.doubted")

    def grew(self, who: Person) -> bool:
        """Ask once more."""
        goes_on(who)
        before, self._seen = self._seen, self._count()
        return self._seen > before


class Reader:
    """Asks for the refs again and again, and notes what it was shown."""

    def __init__(self, who: Person) -> None:
        self._who = who
        self._stop = threading.Event()
        self._thread = threading.Thread()
        self._shown: list[tuple[float, str]] = []

    def begin(self) -> None:
        self._stop.clear()
        self._shown = []
        self._thread = threading.Thread(target=self._ask_until_stopped, daemon=True)
        self._thread.start()

    def answered_since(self, since_s: float) -> bool:
        """Whether a question that was asked after that was answered."""
        return any(began_s > since_s for began_s, _ in list(self._shown))

    def end(self) -> list[tuple[float, str]]:
        """When each question was asked, and the answer."""
        self._stop.set()
        self._thread.join(60)
        return self._shown

    def _ask_until_stopped(self) -> None:
        while not self._stop.is_set():
            began_s = time.monotonic()
            done = self._who.git.try_("ls-remote", self._who.url("ada/engine"), "refs/heads/main")
            if done:
                self._shown.append((began_s, done.out.split()[0]))


def goes_on(who: Person) -> bool:
    """Whether a fetch is answered while the database is away; before that is noticed it may be refused."""
    return bool(who.git.try_("ls-remote", who.url("ada/engine")))


def shows_the_truth(pair: Pair, ada: Person) -> bool:
    """Whether both nodes show of `ada/engine` what the database holds, and nothing that was known before."""
    with psycopg.connect(pair.a.node.environment["MAINSTAY_DATABASE_URL"]) as connection:
        row = connection.execute(
            "SELECT encode(oid, 'hex') FROM ledger_ref JOIN projects_project USING (repository_id)"
            " WHERE full_path = 'ada/engine' AND ledger_ref.name = 'refs/heads/main'"
        ).fetchone()
    assert row is not None
    shown = [ada.git.refs(who.url("ada/engine")) for who in (ada, at_b(pair, ada))]
    return all(refs["refs/heads/main"] == row[0] for refs in shown)


def is_noted(pair: Pair, path: str, *, at: str = "ab") -> bool:
    """The nodes wrote down beside their work what they would need in an outage, as it is now."""
    repository, version = project_repository(pair, path)
    return all(
        noted_version(each, repository) == version for each in (pair.a, pair.b) if each.node.data.name in at
    )


def noted_version(wired: Wired, repository: str) -> int | None:
    with closing(sqlite3.connect(wired.node.data / "cache" / "known.db", timeout=10)) as known:
        row = known.execute(
            "SELECT value FROM known WHERE kind = 'repository' AND key = ?", (repository,)
        ).fetchone()
    return decoded(row[0]).repository.version if row else None


def project_repository(pair: Pair, path: str) -> tuple[str, int]:
    """Its number, and its version in the ledger."""
    with psycopg.connect(pair.a.node.environment["MAINSTAY_DATABASE_URL"]) as connection:
        row = connection.execute(
            "SELECT repository_id, version FROM projects_project JOIN ledger_repository"
            " ON ledger_repository.id = repository_id WHERE full_path = %s",
            (path,),
        ).fetchone()
    assert row is not None
    return str(row[0]), int(row[1])
