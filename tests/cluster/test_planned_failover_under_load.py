"""People push and fetch at both sites, over HTTP and SSH, while the primary changes: nobody sees an error."""

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.chaos.load import fresh_commit
from support.git_client import GitClient
from support.long import only_long
from support.managed import roomy_path
from support.node import Node
from support.raw_push import RawPusher
from support.replicas import Sites, two_sites
from support.servers import wait_until

__all__ = ["roomy_path"]

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("managed-postgresql")]

OPERATIONS_MIN = 2000
_ABSENT = "0" * 40
_S_MAX = 60
_LOAD_S_MAX = 400
_SLOWEST_S_MAX = 40.0
"""A push is held for 30 s at most, and then goes on where the primary is."""


@dataclass
class Tally:
    """What all clients together saw."""

    done: int = 0
    slowest_s: float = 0.0
    failures: list[str] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, what: str, began_s: float, *, is_well: bool, ref: str = "", oid: str = "") -> None:
        with self.lock:
            self.done += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
            if not is_well:
                self.failures.append(what)
            elif ref:
                self.acknowledged[ref] = oid


@dataclass
class Raw:
    """Lists and pushes a branch of its own by HTTP, as fast as it is answered."""

    name: str
    pusher: RawPusher
    tally: Tally
    stop: threading.Event

    def run(self) -> None:
        ref, old = f"refs/heads/raw-{self.name}", _ABSENT
        while not self.stop.is_set():
            began_s = time.monotonic()
            new, objects = fresh_commit(old, f"{self.name} {began_s}")
            report = self.pusher.push([(ref, old, new)], objects)
            is_well = (report or {}).get(ref) == "ok"
            self.tally.note(f"push by {self.name}: {report}", began_s, is_well=is_well, ref=ref, oid=new)
            old = new if is_well else old
            began_s = time.monotonic()
            seen = self._seen(ref)
            self.tally.note(f"{self.name} saw {seen} and not {old}", began_s, is_well=seen == old)
        self.pusher.close()

    def _seen(self, ref: str) -> str:
        try:
            return self.pusher.refs().get(ref, _ABSENT)
        except (OSError, AssertionError) as error:
            self.pusher.close()
            return repr(error)


@dataclass
class Real:
    """git itself, on a branch of its own."""

    name: str
    git: GitClient
    work: Path
    url: str
    tally: Tally
    stop: threading.Event

    def run(self) -> None:
        ref = f"refs/heads/real-{self.name}"
        while not self.stop.is_set():
            self.git("commit", "--quiet", "--allow-empty", "-m", "more", cwd=self.work)
            oid = self.git("rev-parse", "HEAD", cwd=self.work)
            for arguments in (
                ("push", "--quiet", self.url, f"HEAD:{ref}"),
                ("fetch", "--quiet", self.url, ref),
            ):
                began_s = time.monotonic()
                done = self.git.try_(*arguments, cwd=self.work)
                self.tally.note(f"{arguments[0]} by {self.name}: {done.err}", began_s, is_well=bool(done))
            self.tally.acknowledged[ref] = oid


@pytest.fixture
def sites(roomy_path: Path) -> Iterator[Sites]:
    with two_sites(roomy_path, mode="sync") as sites:
        yield sites


@only_long
def test_three_planned_failovers_fail_no_operation(sites: Sites, tmp_path: Path) -> None:
    paris, berlin = sites.paris, sites.berlin
    password, tally, stop = paris.root_password(), Tally(), threading.Event()
    key = _key_of_root(paris, tmp_path / "key")
    first = RawPusher(f"{paris.url}/root/engine.git", "root", password)
    oid, objects = fresh_commit(_ABSENT, "first")
    assert first.push([("refs/heads/main", _ABSENT, oid)], objects) == {"refs/heads/main": "ok"}
    first.close()
    clients: list[Raw | Real] = [
        Raw(
            f"{node.data.name}-{number}",
            RawPusher(f"{node.url}/root/engine.git", "root", password),
            tally,
            stop,
        )
        for node in (paris, berlin)
        for number in range(2)
    ]
    for node in (paris, berlin):
        for how, url in (
            ("http", node.clone_url("root/engine", secret=password)),
            ("ssh", node.ssh_url("root/engine")),
        ):
            name = f"{node.data.name}-{how}"
            git = GitClient(tmp_path / name, key)
            git("init", "--quiet", str(tmp_path / name / "work"))
            clients.append(Real(name, git, tmp_path / name / "work", url, tally, stop))
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    try:
        for giver, taker in ((paris, berlin), (berlin, paris), (paris, berlin)):
            _wait_for_operations(tally, more=OPERATIONS_MIN // 8)
            wait_until(_is_well(giver), timeout_s=_S_MAX, what=f"{taker.data.name} is synchronous")
            done = giver.run("failover", "--to", taker.data.name, "--yes", check=False)
            assert done.returncode == 0, done.stderr
            print(done.stdout.strip())
        _wait_for_operations(tally, more=max(OPERATIONS_MIN // 8, OPERATIONS_MIN - tally.done))
    finally:
        stop.set()
        for thread in threads:
            thread.join(_S_MAX)
    print(f"{tally.done} operations, slowest {tally.slowest_s:.1f} s, {len(tally.failures)} failed")
    assert tally.failures == []
    assert tally.done >= OPERATIONS_MIN
    assert tally.slowest_s < _SLOWEST_S_MAX
    for node in (paris, berlin):
        looking = RawPusher(f"{node.url}/root/engine.git", "root", password)
        found = looking.refs()
        looking.close()
        assert {ref: found.get(ref) for ref in tally.acknowledged} == tally.acknowledged


def _wait_for_operations(tally: Tally, *, more: int) -> None:
    wanted = tally.done + more
    wait_until(lambda: tally.done >= wanted, timeout_s=_LOAD_S_MAX, what=f"{more} operations")


def _is_well(primary: Node) -> Callable[[], bool]:
    return lambda: primary.run("replica", "status", check=False).returncode == 0


def _key_of_root(node: Node, home: Path) -> Path:
    key = GitClient(home).new_key()
    body = json.dumps({"title": "load", "key": key.with_suffix(".pub").read_text().strip()}).encode()
    headers = {"PRIVATE-TOKEN": node.token(), "Content-Type": "application/json"}
    request = urllib.request.Request(f"{node.url}/api/v4/user/keys", body, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 201
    return key
