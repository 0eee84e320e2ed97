"""Two sites and a witness on hosts of their own, whose cables are cut while people push at both sites.

At most one of them acknowledges, and when the cables are whole again, everything acknowledged is there.
"""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mainstay.boot.replica import Wish, add
from mainstay.cluster.joining import parse_token
from support.certificates import make_certificate
from support.chaos import network as networks
from support.chaos.load import fresh_commit
from support.chaos.network import Host, Network
from support.long import only_long
from support.managed import require_postgresql, roomy_path
from support.node import Node
from support.raw_push import RawPusher
from support.replicas import ReplicaNode, is_superseded
from support.servers import end, skip_missing, wait_until

__all__ = ["roomy_path"]

pytestmark = [only_long, pytest.mark.timeout(600), pytest.mark.xdist_group("managed-postgresql")]

_ABSENT = "0" * 40
_S_MAX = 90
_PORT = 7443
_CUT_S = 25.0
"""Longer than a term and what a takeover takes."""


@dataclass
class Scene:
    """Three hosts, and what runs there."""

    network: Network
    hosts: dict[str, Host]
    paris: Node
    berlin: Node
    password: str
    witness: Sequence[str]

    def primary(self) -> Node | None:
        for node in (self.paris, self.berlin):
            if _status(node) == 200:
                return node
        return None


@dataclass
class Pusher:
    """Pushes a branch of its own at one site, and remembers what was acknowledged."""

    raw: RawPusher
    ref: str
    stop: threading.Event
    acknowledged: str = _ABSENT
    possible: set[str] = field(default_factory=set)
    """Sent on top of what was acknowledged, and never answered."""
    count: int = 0

    def run(self) -> None:
        while not self.stop.is_set():
            new, objects = fresh_commit(self.acknowledged, f"{self.ref} {time.monotonic()}")
            self.possible.add(new)
            report = self.raw.push([(self.ref, self.acknowledged, new)], objects)
            if (report or {}).get(self.ref) == "ok":
                self.acknowledged, self.possible = new, set()
                self.count += 1
            else:
                self._look()
                self.stop.wait(0.2)
        self.raw.close()

    def _look(self) -> None:
        """One that was not answered may have been made."""
        try:
            found = self.raw.refs().get(self.ref, _ABSENT)
        except (OSError, AssertionError):
            self.raw.close()
            return
        if found in self.possible:
            self.acknowledged, self.possible = found, set()


@pytest.fixture
def scene(roomy_path: Path) -> Iterator[Scene]:
    require_postgresql()
    if reason := networks.why_not():
        skip_missing("network namespaces", reason)
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        hosts = {name: network.host(name) for name in ("paris", "berlin", "witness")}
        witness = stack.enter_context(_witness(roomy_path / "witness", hosts["witness"]))
        paris = stack.enter_context(_primary(roomy_path / "paris", hosts["paris"]))
        berlin = _added(paris, roomy_path / "berlin", hosts["berlin"])
        stack.enter_context(berlin)
        made = Scene(network, hosts, paris, berlin, paris.root_password(), witness)
        _switch_on(made)
        yield made


@contextmanager
def _witness(data: Path, host: Host) -> Iterator[Sequence[str]]:
    """The options by which a site is told of it."""
    certificate, key = make_certificate(data.with_name("witness-tls"), address=host.address)
    listen = f"{host.address}:{_PORT}"
    files = ["--data", str(data), "--certificate", str(certificate), "--key", str(key)]
    command = [*host.prefix, sys.executable, "-m", "mainstay", "witness", "serve", "--listen", listen, *files]
    with data.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        wait_until((data / "token").exists, timeout_s=_S_MAX, what="the token of the witness")
        yield [
            *("--witness", f"https://{listen}"),
            *("--token-file", str(data / "token"), "--authority", str(certificate)),
        ]
    finally:
        end(process)


def _primary(data: Path, host: Host) -> Node:
    environment = {"MAINSTAY_SITES": f"{host.address}:{_PORT}", "MAINSTAY_NODE_NAME": data.name}
    options = ["--database-url", "managed"]
    return ReplicaNode(
        data, options=options, environment=environment, prefix=host.prefix, address=host.address
    )


def _added(paris: Node, data: Path, host: Host) -> Node:
    token = parse_token(paris.run("replica", "token").stdout.strip(), "replica")
    url = f"https://{paris.environment['MAINSTAY_SITES']}"
    local = {"sites": f"{host.address}:{_PORT}", "node_name": data.name}
    add(url, token, data, local, Wish(name=data.name, mode="sync"), tell=lambda _line: None)
    return ReplicaNode(data, prefix=host.prefix, address=host.address)


def _switch_on(scene: Scene) -> None:
    done = scene.paris.run("failover", "--automatic", *scene.witness, check=False)
    assert done.returncode == 0, done.stderr
    wait_until(
        lambda: "may take over: berlin" in scene.paris.run("failover", check=False).stdout,
        timeout_s=_S_MAX,
        what="berlin is named",
    )


def _status(node: Node) -> int:
    try:
        return node.get("/status")[0]
    except OSError:
        return 0


Cut = Callable[[Scene, ExitStack], None]


def between_the_sites(scene: Scene, cuts: ExitStack) -> None:
    cuts.enter_context(scene.network.cut(scene.hosts["paris"], scene.hosts["berlin"]))


def what_the_replica_answers(scene: Scene, cuts: ExitStack) -> None:
    cuts.enter_context(scene.network.cut(scene.hosts["paris"], scene.hosts["berlin"], both=False))


def what_the_primary_sends(scene: Scene, cuts: ExitStack) -> None:
    cuts.enter_context(scene.network.cut(scene.hosts["berlin"], scene.hosts["paris"], both=False))


def the_primary_alone(scene: Scene, cuts: ExitStack) -> None:
    for other in ("berlin", "witness"):
        cuts.enter_context(scene.network.cut(scene.hosts["paris"], scene.hosts[other]))


def the_witness_alone(scene: Scene, cuts: ExitStack) -> None:
    for other in ("paris", "berlin"):
        cuts.enter_context(scene.network.cut(scene.hosts["witness"], scene.hosts[other]))


def the_primary_and_the_witness(scene: Scene, cuts: ExitStack) -> None:
    cuts.enter_context(scene.network.cut(scene.hosts["paris"], scene.hosts["witness"]))


CUTS: list[Cut] = [
    between_the_sites,
    what_the_replica_answers,
    what_the_primary_sends,
    the_primary_alone,
    the_witness_alone,
    the_primary_and_the_witness,
]


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
def test_at_most_one_acknowledges_and_nothing_is_dropped(scene: Scene, cut: Cut) -> None:
    _suffer(scene, [cut])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_one_after_the_other(scene: Scene, seed: int) -> None:
    _suffer(scene, random.Random(seed).sample(CUTS, 3))


def _suffer(scene: Scene, cuts: Sequence[Cut]) -> None:
    stop = threading.Event()
    pushers = [
        Pusher(
            RawPusher(f"{node.url}/root/engine.git", "root", scene.password, timeout_s=100),
            f"refs/heads/at-{node.data.name}-{number}",
            stop,
        )
        for node in (scene.paris, scene.berlin)
        for number in range(2)
    ]
    threads = [threading.Thread(target=pusher.run) for pusher in pushers]
    for thread in threads:
        thread.start()
    try:
        for cut in cuts:
            wait_until(lambda: all(p.count for p in pushers[:2]), timeout_s=_S_MAX, what="pushes")
            with ExitStack() as cables:
                cut(scene, cables)
                stop.wait(_CUT_S)
            _heal(scene)
            before = sum(pusher.count for pusher in pushers)
            wait_until(
                lambda before=before: sum(p.count for p in pushers) > before + 3,
                timeout_s=_S_MAX,
                what="pushes",
            )
    finally:
        stop.set()
        for thread in threads:
            thread.join(2 * _S_MAX)
    _check(scene, pushers)


def _heal(scene: Scene) -> None:
    """One leads, the other follows; who was superseded rejoins."""
    wait_until(lambda: scene.primary() is not None, timeout_s=_S_MAX, what="somebody leads")
    leader = scene.primary()
    assert leader is not None
    follower = scene.berlin if leader is scene.paris else scene.paris
    if is_superseded(follower):
        done = follower.run("replica", "rejoin", check=False)
        assert done.returncode == 0, done.stderr
    wait_until(
        lambda: f"may take over: {follower.data.name}" in leader.run("failover", check=False).stdout,
        timeout_s=_S_MAX,
        what=f"{follower.data.name} is named again",
    )


def _check(scene: Scene, pushers: Sequence[Pusher]) -> None:
    leader = scene.primary()
    assert leader is not None
    looking = RawPusher(f"{leader.url}/root/engine.git", "root", scene.password)
    found = looking.refs()
    looking.close()
    for pusher in pushers:
        assert found.get(pusher.ref, _ABSENT) in {pusher.acknowledged, *pusher.possible}, pusher.ref
    assert leader.run("fsck", check=False).returncode == 0
