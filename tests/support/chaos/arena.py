"""A cluster under load in which things go wrong.

    with Arena(directory, seed=7) as arena:
        with arena.load():
            arena.suffer(FAULTS["node killed"])
        assert arena.judge() == []

Every part is a host of its own where root allows networks, so that cables can be pulled; elsewhere all is on
loopback, and the faults that need a network say so (`Fault.needs_network`). One seed decides everything that
is left to chance.
"""

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self

from mainstay.foundation.clock import SYSTEM
from mainstay.provision.local import LocalStack
from mainstay.provision.local.member import Place, http_request
from mainstay.storage.database.opening import open_database
from mainstay.storage.ledger.sql import SqlLedger
from mainstay.storage.objects.opening import open_object_store
from support.chaos import network
from support.chaos.history import ABSENT, Operation, Recorder
from support.chaos.invariants import (
    Watched,
    history_findings,
    log_line_findings,
    node_findings,
    orphan_findings,
    outbox_findings,
    store_findings,
)
from support.chaos.load import Desk, GitClient, Load, RawClient, fresh_commit
from support.chaos.tally import Tally
from support.crash.world import Truth, repository_id
from support.raw_push import RawPusher

REPOSITORY = "root/chaos"
REFS = [f"refs/heads/line-{number}" for number in range(4)]
SETTLED_S_MAX = 60.0

Injection = Callable[["Arena"], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong, for a while."""

    name: str
    rows: str
    """Of the fault matrix."""
    inject: Injection
    """Heals at the end of the block."""
    hold_s: float
    """How long it lasts."""
    gap_s_max: float
    """The longest time in which no client may succeed, on a machine that is not slow."""
    needs_network: bool = False
    needs: Sequence[str] = ()
    """Kinds of database or store, such as `patroni`; empty: any."""


@dataclass(frozen=True, slots=True)
class Suffered:
    """What one fault cost."""

    fault: Fault
    began_s: float
    ended_s: float
    gap_s: float
    operations: int
    failed: int


@dataclass
class Arena:
    """One cluster, one repository, a crowd of clients, one history."""

    directory: Path
    seed: int
    nodes: int = 3
    database: str = "patroni"
    store: str = "rgw"
    raw_clients: int = 4
    rest_s: float = 0.0
    """Of each client between two operations."""
    use_network: bool = True
    chance: random.Random = field(init=False)
    recorder: Recorder = field(init=False)
    tally: Tally = field(init=False, default_factory=Tally)
    suffered: list[Suffered] = field(init=False, default_factory=list)
    started_in_s: float = field(init=False, default=0.0)
    copied_anew: list[str] = field(init=False, default_factory=list)
    """Members of the database that did not find back by themselves."""

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.recorder = Recorder(self.directory / "history.jsonl")
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()
        self.recorder.close()

    # Load and faults
    @contextmanager
    def load(self) -> Iterator[None]:
        """Clients work until the end of the block. A client that crashed fails the run."""
        desk = Desk(self.recorder, self.tally, Event(), rest_s=self.rest_s)
        load = Load(self._clients(desk), desk)
        load.begin()
        try:
            yield
        finally:
            load.end()

    def suffer(self, fault: Fault) -> Suffered:
        """Let it happen, heal it, and wait until pushes flow again."""
        began_s = time.monotonic()
        before = (self.tally.operations, self.tally.failed.total())
        with fault.inject(self):
            self.rest_until(began_s + fault.hold_s)
        self.wait_until_pushed()
        ended_s = time.monotonic()
        result = Suffered(
            fault=fault,
            began_s=began_s,
            ended_s=ended_s,
            gap_s=self.tally.longest_gap_s(began_s, ended_s),
            operations=self.tally.operations - before[0],
            failed=self.tally.failed.total() - before[1],
        )
        self.suffered.append(result)
        return result

    def wait_until_pushed(self, *, within_s: float = SETTLED_S_MAX) -> None:
        """Until a push that begins after now has succeeded, and no member is missing."""
        done = self.tally.done["push"]
        enough = done + self.raw_clients + 1
        until_s = time.monotonic() + within_s
        while self.tally.done["push"] < enough:
            assert time.monotonic() < until_s, (
                f"no push for {within_s} s: {self.tally.reasons.most_common(5)}"
            )
            time.sleep(0.05)

    # Judgement
    def judge(self, *, expected_errors: Sequence[str] = ()) -> list[str]:
        """Everything that is wrong, when the faults are healed and the clients have stopped."""
        with self.truth() as truth:
            number = repository_id(truth, REPOSITORY)
            assert number is not None
            refs = {ref.name.decode(): ref.oid for ref in truth.ledger.refs(number)[1]}
            found = history_findings(self.operations, REPOSITORY, refs)
            found += node_findings(self._watched(), refs)
            found += outbox_findings(truth)
            found += store_findings(truth, number)
            found += orphan_findings(truth)
        return [*found, *log_line_findings(self._watched(), [self.token], expected=expected_errors)]

    @property
    def operations(self) -> Sequence[Operation]:
        return self.recorder.operations

    @contextmanager
    def truth(self) -> Iterator[Truth]:
        """The stores themselves, past all nodes."""
        settings = self.stack.nodes[0].all_settings()
        for name, value in self.stack.store.environment.items():
            os.environ[name] = value
        database = open_database(settings["database_url"])
        try:
            yield Truth(
                database=database,
                ledger=SqlLedger(database, SYSTEM),
                objects=open_object_store(settings["object_store"]),
            )
        finally:
            database.close()
            for name in self.stack.store.environment:
                os.environ.pop(name, None)

    # Making
    def _build(self) -> None:
        began_s = time.monotonic()
        self.network = self._network()
        self.stack = self._exits.enter_context(
            LocalStack(
                self.directory / "stack",
                nodes=self.nodes,
                database=self.database,  # type: ignore[arg-type]
                store=self.store,  # type: ignore[arg-type]
                places=self._places(),
                node_settings={"monitoring_allowlist": ",".join(self._watchers())},
            )
        )
        self.token = self._token()
        self._prepare_repository()
        self.started_in_s = time.monotonic() - began_s

    def _network(self) -> network.Network | None:
        if not self.use_network or network.why_not():
            return None
        return self._exits.enter_context(network.Network())

    def _places(self) -> dict[str, Place]:
        if self.network is None:
            return {}
        names = [f"node{number}" for number in range(1, self.nodes + 2)]
        names += [f"database{number}" for number in range(1, 4)]
        hosts = {name: self.network.host(name) for name in [*names, "etcd", "store", "redis", "lb"]}
        return {name: Place(host.address, tuple(host.prefix)) for name, host in hosts.items()}

    def _watchers(self) -> list[str]:
        """Who may ask a node how it is: the balancer, and we."""
        here = ["127.0.0.0/8"]
        return here if self.network is None else [*here, self.network.block]

    def _token(self) -> str:
        scopes = "api,read_repository,write_repository"
        arguments = ("token", "create", "--user", "root", "--name", "chaos", "--scopes", scopes)
        return self.stack.nodes[0].run(*arguments).strip()

    def _prepare_repository(self) -> None:
        first, objects = fresh_commit(ABSENT, "the beginning")
        pusher = self.pusher()
        assert pusher.push([("refs/heads/main", ABSENT, first)], objects) == {"refs/heads/main": "ok"}
        pusher.close()

    def api(self, method: str, path: str, body: dict[str, object] | None = None) -> int:
        """The status of an API request through the balancer, as root."""
        answer = http_request(
            method,
            self.stack.balancer.place.host,
            self.stack.balancer.http_port,
            f"/api/v4{path}",
            body=json.dumps(body).encode() if body is not None else None,
            headers={"PRIVATE-TOKEN": self.token, "Content-Type": "application/json"},
            within_s=30,
        )
        return answer[0] if answer else 0

    def pusher(self, url: str = "", *, timeout_s: float = 90) -> RawPusher:
        return RawPusher(f"{url or self.stack.balancer.url}/{REPOSITORY}.git", "root", self.token, timeout_s)

    def _clients(self, desk: Desk) -> list[RawClient | GitClient]:
        tag = f"{self.chance.getrandbits(32):x}"
        clients: list[RawClient | GitClient] = [
            RawClient(
                f"raw-{tag}-{number}",
                self.pusher(),
                REPOSITORY,
                REFS,
                desk,
                random.Random(self.chance.getrandbits(64)),
            )
            for number in range(self.raw_clients)
        ]
        return [*clients, self._git_http(f"http-{tag}", desk), self._git_ssh(f"ssh-{tag}", desk)]

    def _git_http(self, name: str, desk: Desk) -> GitClient:
        url = self.stack.balancer.url.replace("://", f"://root:{self.token}@")
        return GitClient(
            name, "git http", f"{url}/{REPOSITORY}.git", REPOSITORY, self.directory / name, _plain(), desk
        )

    def _git_ssh(self, name: str, desk: Desk) -> GitClient:
        environment = {**_plain(), "GIT_SSH_COMMAND": self._ssh_command()}
        url = f"ssh://git@{self.stack.balancer.ssh_address}/{REPOSITORY}.git"
        return GitClient(name, "git ssh", url, REPOSITORY, self.directory / name, environment, desk)

    def _ssh_command(self) -> str:
        key = self.directory / "key"
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
            answer = self.api(
                "POST", "/user/keys", {"title": "chaos", "key": key.with_suffix(".pub").read_text()}
            )
            assert answer == HTTPStatus.CREATED, answer
        options = [
            "StrictHostKeyChecking=accept-new",
            f"UserKnownHostsFile={self.directory / 'known_hosts'}",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "ServerAliveInterval=5",
            "ServerAliveCountMax=6",
            "ConnectTimeout=10",
        ]
        return " ".join(["ssh", "-F", "none", "-i", str(key), *(f"-o {each}" for each in options)])

    def _watched(self) -> list[Watched]:
        return [
            Watched(
                name=node.name,
                refs=lambda node=node: _refs(self.pusher(node.url)),  # type: ignore[misc]
                quarantine=node.data / "quarantine",
                log=node.log,
            )
            for node in self.stack.nodes
            if node.is_running()
        ]

    @staticmethod
    def rest_until(moment_s: float) -> None:
        """A time without faults, by the monotonic clock."""
        Event().wait(max(0.0, moment_s - time.monotonic()))


def _refs(pusher: RawPusher) -> dict[str, str]:
    try:
        return pusher.refs()
    finally:
        pusher.close()


def _plain() -> dict[str, str]:
    """The environment of a person without a configuration of his own."""
    who = {
        f"GIT_{kind}_{what}": value
        for kind in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "Ada"), ("EMAIL", "ada@example.org"))
    }
    quiet = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C", **who, **quiet}
