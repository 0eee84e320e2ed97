"""Two sites on hosts of their own, whose cables can be cut, and people who push at both.

with pair_on_hosts(roomy_path) as scene, pushing(scene) as pushers:
    with scene.network.isolated(scene.hosts["paris"]): ...
scene.check(scene.berlin, pushers)
"""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from support.chaos import network as networks
from support.chaos.load import fresh_commit
from support.chaos.network import Host, Network
from support.managed import require_postgresql
from support.node import Node
from support.raw_push import RawPusher
from support.replicas import ReplicaNode
from support.servers import skip_missing, wait_until

PORT: Final = 7443
_ABSENT = "0" * 40
_S_MAX = 90
_BETWEEN_S = 0.1
"""A load, not all that the machine can bear: other tests run beside it."""
_NOT_LEADING = ((503, "passive"), (503, "superseded"))


@dataclass
class Scene:
    """The hosts, and the sites that are there: `berlin` is a synchronous replica of `paris`."""

    network: Network
    hosts: dict[str, Host]
    paris: Node
    berlin: Node
    password: str

    def leader_and_follower(self) -> tuple[Node, Node]:
        """When one of them says to a balancer that it serves people, and the other that it does not lead."""
        found: list[tuple[Node, Node]] = []

        def look() -> bool:
            for one, other in ((self.paris, self.berlin), (self.berlin, self.paris)):
                if _told(one) == (200, "active") and _told(other) in _NOT_LEADING:
                    found.append((one, other))
            return bool(found)

        wait_until(look, timeout_s=_S_MAX, what="one leads, the other knows")
        return found[0]

    def check(self, leader: Node, pushers: Sequence["Pusher"]) -> None:
        """Everything acknowledged is there, and nothing that nobody sent."""
        looking = RawPusher(f"{leader.url}/root/engine.git", "root", self.password)
        found = looking.refs()
        looking.close()
        for pusher in pushers:
            assert found.get(pusher.ref, _ABSENT) in {pusher.acknowledged, *pusher.possible}, pusher.ref
        assert leader.run("fsck", check=False).returncode == 0


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
            self.stop.wait(_BETWEEN_S)
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


@contextmanager
def pair_on_hosts(directory: Path) -> Iterator[Scene]:
    """A third host, `witness`, is empty. Skips loudly where there are no namespaces or no PostgreSQL."""
    require_postgresql()
    if reason := networks.why_not():
        skip_missing("network namespaces", reason)
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        hosts = {name: network.host(name) for name in ("paris", "berlin", "witness")}
        paris = stack.enter_context(_primary(directory / "paris", hosts["paris"]))
        berlin = stack.enter_context(_added(paris, directory / "berlin", hosts["berlin"]))
        yield Scene(network, hosts, paris, berlin, paris.root_password())


@contextmanager
def pushing(scene: Scene, *, at_each: int = 2) -> Iterator[Sequence[Pusher]]:
    """For the length of the block, `at_each` people at each site; those at `paris` come first."""
    stop = threading.Event()
    pushers = [
        Pusher(
            RawPusher(f"{node.url}/root/engine.git", "root", scene.password, timeout_s=100),
            f"refs/heads/at-{node.data.name}-{number}",
            stop,
        )
        for node in (scene.paris, scene.berlin)
        for number in range(at_each)
    ]
    threads = [threading.Thread(target=pusher.run) for pusher in pushers]
    for thread in threads:
        thread.start()
    try:
        yield pushers
    finally:
        stop.set()
        for thread in threads:
            thread.join(2 * _S_MAX)


def _primary(data: Path, host: Host) -> Node:
    environment = {"MAINSTAY_SITES": f"{host.address}:{PORT}", "MAINSTAY_NODE_NAME": data.name}
    options = ["--database-url", "managed"]
    return ReplicaNode(
        data, options=options, environment=environment, prefix=host.prefix, address=host.address
    )


def _added(paris: Node, data: Path, host: Host) -> Node:
    """By the command, on its host."""
    berlin = ReplicaNode(data, prefix=host.prefix, address=host.address)
    token = paris.run("replica", "token").stdout.strip()
    url = f"https://{paris.environment['MAINSTAY_SITES']}"
    ports = ["--sites", f"{host.address}:{PORT}", "--http", f"{host.address}:0", "--ssh", f"{host.address}:0"]
    how = ["--mode", "sync", "--name", data.name, "--token", token]
    done = berlin.run("replica", "add", url, *how, *ports, check=False, timeout_s=_S_MAX)
    assert done.returncode == 0, done.stderr
    return berlin


def _told(node: Node) -> tuple[int, str]:
    """Status and role, as a balancer hears them."""
    try:
        code, body = node.get("/status")
    except OSError:
        return 0, ""
    return code, str(json.loads(body)["role"])
