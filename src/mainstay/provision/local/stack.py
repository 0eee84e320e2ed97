"""A whole cluster on one machine, from real programs: nodes, database, object store, Redis, balancer.

    with LocalStack(directory, database="patroni", store="rgw") as stack:
        stack.balancer.url, stack.balancer.ssh_address      what clients use
        stack.node("node2").kill(); ….start()               a member: kill, freeze, thaw, stop, start, is_up
        stack.database.kill_primary()                       the database: see `database.Database`
        stack.store.freeze(); stack.redis.kill()
        stack.member("lb").restart()

Everything is started in parallel, each start waits for an answer and has a deadline, and a failure shows the
end of the log. Ports and data are kept over `kill` and `start`. At the end nothing is left: no process, no
port, no file outside `directory`.

`places` put members into own networks: `{"node1": Place("10.9.0.11", ("ip", "netns", "exec", "n1"))}`;
names are node1…, database1…, etcd, store, redis, lb. Without root, `links=True` puts a TCP proxy between each
node and each thing it needs: `stack.link("node1", "database2").cut()`.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from mainstay.foundation.clock import SYSTEM
from mainstay.foundation.errors import NotFound
from mainstay.provision import processes
from mainstay.provision.accounts import server_account
from mainstay.provision.local.database import Database
from mainstay.provision.local.haproxy import Haproxy
from mainstay.provision.local.links import Link, Wire
from mainstay.provision.local.member import HERE, Member, Place
from mainstay.provision.local.node import Invitation, Node
from mainstay.provision.local.pair import PairDatabase
from mainstay.provision.local.patroni import PatroniDatabase
from mainstay.provision.local.redis import Redis
from mainstay.provision.local.rgw import Rgw
from mainstay.provision.local.single import SingleDatabase
from mainstay.provision.local.store import Moto, S3Member, SharedDirectory

DatabaseKind = Literal["patroni", "pair", "single"]
StoreKind = Literal["rgw", "moto", "directory"]

_FIRST = "node1"


class NoSuchMember(NotFound):
    """The stack has no part of this name."""


class _Places(dict[str, Place]):
    """Who was given no place of his own is here."""

    def __missing__(self, name: str) -> Place:
        return HERE


class _Needs:
    """What one node needs to know of its stack; see `node.Needs`."""

    def __init__(self, stack: "LocalStack", node: str) -> None:
        self._stack = stack
        self._node = node

    def of_all(self) -> Mapping[str, str]:
        stack = self._stack
        shared = self._reached(by_links=stack.has_links)
        if stack.has_balancer:
            shared |= _told_of(stack.balancer)
        return {**shared, **stack.node_settings}

    def of_joined(self) -> Mapping[str, str]:
        own = self._reached(by_links=True) if self._stack.has_links else {}
        return {**own, **self._stack.node_settings}

    def addresses(self) -> Mapping[str, str]:
        own = self.of_joined()
        return {name: own[name] for name in ("database_url", "object_store") if name in own}

    def credentials(self) -> Mapping[str, str]:
        return self._stack.store.environment

    def _reached(self, *, by_links: bool) -> dict[str, str]:
        stack = self._stack

        def way(member: Member) -> str:
            return stack.link(self._node, member.name).address if by_links else member.address

        hosts = [way(each) for each in stack.database.members]
        found = {"database_url": stack.database.url(hosts)}
        store, redis = stack.store, stack.redis
        found["object_store"] = store.url(way(store)) if isinstance(store, Member) else store.url()
        if redis is not None:
            found["redis_url"] = redis.url(way(redis))
        return found


class LocalStack:
    """See the module. A context manager, or `start()` and `stop()`."""

    def __init__(
        self,
        directory: Path,
        *,
        nodes: int = 3,
        database: DatabaseKind = "patroni",
        store: StoreKind = "rgw",
        redis: bool = True,
        balancer: bool = True,
        database_members: int = 3,
        durable: bool = False,
        places: Mapping[str, Place] | None = None,
        links: bool = False,
        node_settings: Mapping[str, str] | None = None,
        balancer_ports: tuple[int | None, int | None] = (None, None),
        tell: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """Nothing is started yet.

        `durable=False` spares the databases their fsync: fine for SIGKILL, not for a power cut.
        `node_settings` are of all nodes, by their names in the settings file. `balancer_ports` are for HTTP
        and SSH, by default any. `tell` hears what is done.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory.resolve()
        self.node_settings = dict(node_settings or {})
        self._places = _Places(places or {})
        self._tell = tell
        self._wire = Wire() if links else None
        self._links: dict[tuple[str, str], Link] = {}
        self.database = self._make_database(database, members=database_members, durable=durable)
        self.store = self._make_store(store)
        self.redis = Redis(place=self._places["redis"], directory=self.directory) if redis else None
        self.nodes = [self._make_node(f"node{number}") for number in range(1, nodes + 1)]
        self._balancer = self._make_balancer(balancer_ports) if balancer else None

    # Starting and ending
    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def start(self) -> None:
        """Start what does not run. Returns when every node is ready and the database could fail over."""
        started_s = SYSTEM.monotonic_s()
        self.start_services()
        self.start_nodes()
        self.database.wait_for_sync_standby()
        self._tell(f"everything is up after {SYSTEM.monotonic_s() - started_s:.0f} s")

    def start_services(self) -> None:
        """Everything but the nodes."""
        jobs: list[Callable[[], None]] = [lambda: self._start_told("database", self.database.start)]
        for member in (self.store, self.redis, self._balancer):
            if isinstance(member, Member):
                jobs.append(self._starter(member))  # noqa: PERF401 - the test narrows the type
        _in_parallel(jobs)

    def start_nodes(self) -> None:
        """The first node alone, because it makes the instance; then the others side by side."""
        first, *others = self.nodes
        self._starter(first)()
        _in_parallel([self._starter(node) for node in others])

    def end(self) -> None:
        """Kill everything and remove what lies outside `directory`. Nothing is left running."""
        for member in self.members():
            member.forbid_starts()
        processes.kill([identity for member in self.members() for identity in member.identities()])
        for member in self.members():
            member.kill()
        self._clean()

    def stop(self) -> None:
        """Let the nodes finish what is under way; then end everything."""
        _in_parallel([self._stopper(node) for node in self.nodes])
        self.end()

    # What is in it
    @property
    def has_links(self) -> bool:
        return self._wire is not None

    @property
    def has_balancer(self) -> bool:
        return self._balancer is not None

    @property
    def balancer(self) -> Haproxy:
        if self._balancer is None:
            raise NoSuchMember("this stack was made without a balancer")
        return self._balancer

    def members(self) -> list[Member]:
        """Every part, in start order."""
        services = [*self.database.parts, self.store, self.redis, *self.nodes, self._balancer]
        return [each for each in services if isinstance(each, Member)]

    def member(self, name: str) -> Member:
        for each in self.members():
            if each.name == name:
                return each
        known = ", ".join(each.name for each in self.members())
        raise NoSuchMember(f"{name!r} is none of {known}")

    def node(self, name: str) -> Node:
        member = self.member(name)
        if not isinstance(member, Node):
            raise NoSuchMember(f"{name!r} is not a node")
        return member

    def add_node(self) -> Node:
        """One more, not started yet, and not known to the balancer before its `reload`."""
        node = self._make_node(f"node{len(self.nodes) + 1}")
        self.nodes.append(node)
        return node

    def root_password(self) -> str:
        return self.nodes[0].root_password()

    def link(self, node: str, to: str) -> Link:
        """The way from a node to a database member, `store` or `redis`. Only with `links=True`."""
        if self._wire is None:
            raise NoSuchMember("this stack was made without links")
        if (node, to) not in self._links:
            member = self.member(to)
            host, _, port = member.address.rpartition(":")
            self._links[node, to] = self._wire.link(f"{node} to {to}", (host, int(port)))
        return self._links[node, to]

    def links_of(self, node: str) -> list[Link]:
        return [self.link(node, to) for to in self._ways()]

    # Inside
    def _ways(self) -> list[str]:
        """Names of what a node has links to."""
        others = [each.name for each in (self.store, self.redis) if isinstance(each, Member)]
        return [*(each.name for each in self.database.members), *others]

    def _make_node(self, name: str) -> Node:
        return Node(
            name,
            place=self._places[name],
            directory=self.directory,
            needs=_Needs(self, name),
            invite=self._invitation if name != _FIRST else None,
        )

    def _invitation(self) -> Invitation:
        """From any node that is up."""
        for node in self.nodes:
            if node.is_up():
                return node.invitation()
        raise NoSuchMember("no node is up that could let another one in")

    def _make_balancer(self, ports: tuple[int | None, int | None]) -> Haproxy:
        return Haproxy(
            place=self._places["lb"],
            directory=self.directory,
            nodes=self.nodes,
            http_port=ports[0],
            ssh_port=ports[1],
        )

    def _make_database(self, kind: DatabaseKind, *, members: int, durable: bool) -> Database:
        account = server_account()
        if kind == "patroni":
            return PatroniDatabase(
                self.directory, places=self._places, account=account, members=members, durable=durable
            )
        make = PairDatabase if kind == "pair" else SingleDatabase
        return make(self.directory, places=self._places, account=account, durable=durable)

    def _make_store(self, kind: StoreKind) -> S3Member | SharedDirectory:
        if kind == "directory":
            return SharedDirectory(self.directory)
        make = Rgw if kind == "rgw" else Moto
        return make(place=self._places["store"], directory=self.directory)

    def _starter(self, member: Member) -> Callable[[], None]:
        return lambda: self._start_told(member.name, member.start)

    def _start_told(self, name: str, start: Callable[[], None]) -> None:
        started_s = SYSTEM.monotonic_s()
        start()
        self._tell(f"{name} is up after {SYSTEM.monotonic_s() - started_s:.1f} s")

    def _stopper(self, member: Member) -> Callable[[], None]:
        def stop() -> None:
            if not member.stop():
                self._tell(f"{member.name} had to be killed")

        return stop

    def _clean(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        for member in self.members():
            member.close()
        self._links.clear()
        for directory in self.foreign_directories():
            shutil.rmtree(directory, ignore_errors=True)

    def foreign_directories(self) -> Iterator[Path]:
        """Made outside ours, because the account of the database may not enter ours."""
        for directory in self.database.directories:
            if not directory.is_relative_to(self.directory):
                yield directory


def _told_of(balancer: Haproxy) -> dict[str, str]:
    """What nodes must know of who stands before them."""
    told = {
        "trusted_proxies": f"{balancer.place.host}/32",
        "monitoring_allowlist": f"127.0.0.0/8,{balancer.place.host}/32",
        "external_url": balancer.url,
        "external_ssh": balancer.ssh_address,
        "drain_notice_seconds": "2",  # its checks come every second
    }
    if balancer.proxy_protocol != "off":
        told |= {"proxy_protocol": f"{balancer.place.host}/32", "proxy_protocol_on": "ssh"}
    return told


def _in_parallel(jobs: Sequence[Callable[[], None]]) -> None:
    """Do all to their end; the first failure is raised."""
    with ThreadPoolExecutor(max(1, len(jobs)), thread_name_prefix="stack") as threads:
        for done in [threads.submit(job) for job in jobs]:
            done.result()
