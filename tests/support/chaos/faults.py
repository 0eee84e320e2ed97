"""What can go wrong, one entry each: how it is done, how it is healed, how long people may notice.

The figures are those of the issue for this machine; `slack` of the runner scales them where a machine is
slow. Rows are those of the fault matrix in `docs/design/faults.md`.
"""

import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from mainstay.provision.local.database import PostgresMember
from mainstay.provision.local.member import Member
from mainstay.provision.local.node import Node
from mainstay.provision.local.patroni import PatroniDatabase
from support.chaos.arena import Arena, Fault
from support.chaos.network import Host

TWO_PRIMARIES_S = 5.0


def victim(arena: Arena) -> Node:
    """Some node. Never all of them at once, unless a fault says so."""
    return arena.chance.choice(arena.stack.nodes)


@contextmanager
def killed(member: Member) -> Iterator[None]:
    member.kill()
    try:
        yield
    finally:
        member.start()


@contextmanager
def frozen(member: Member) -> Iterator[None]:
    member.freeze()
    try:
        yield
    finally:
        member.thaw()
        member.wait_until_up()


@contextmanager
def node_killed(arena: Arena) -> Iterator[None]:
    with killed(victim(arena)):
        yield


@contextmanager
def two_nodes_killed(arena: Arena) -> Iterator[None]:
    """At once; the third goes on alone."""
    with ExitStack() as kills:
        for node in arena.chance.sample(arena.stack.nodes, 2):
            kills.enter_context(killed(node))
        yield


@contextmanager
def node_and_database_killed(arena: Arena) -> Iterator[None]:
    with node_killed(arena), database_killed(arena):
        yield


@contextmanager
def node_frozen(arena: Arena) -> Iterator[None]:
    with frozen(victim(arena)):
        yield


@contextmanager
def all_nodes_killed(arena: Arena) -> Iterator[None]:
    """And their caches with them: nothing on a node is needed."""
    for node in arena.stack.nodes:
        node.kill()
    for node in arena.stack.nodes:
        for name in ("cache", "quarantine", "scratch"):
            remove(node, name)
    arena.stack.start_nodes()
    yield


def remove(node: Node, name: str) -> None:
    shutil.rmtree(node.data / name, ignore_errors=True)


@contextmanager
def node_rolled(arena: Arena) -> Iterator[None]:
    """Every node in turn: SIGTERM, finish, start."""
    for node in arena.stack.nodes:
        node.restart()
    yield


@contextmanager
def database_killed(arena: Arena) -> Iterator[None]:
    """The server process; who watches over it decides what comes."""
    primary = arena.stack.database.kill_primary()
    yield
    heal_database(arena, primary)


@contextmanager
def database_member_killed(arena: Arena) -> Iterator[None]:
    """The whole machine of the primary."""
    primary = arena.stack.database.kill_primary_member()
    try:
        arena.stack.database.wait_for_primary(other_than=primary)
        yield
    finally:
        heal_database(arena, primary)


@contextmanager
def database_member_frozen(arena: Arena) -> Iterator[None]:
    """It answers nobody and holds every connection; then it comes back and believes it is the primary."""
    primary = arena.stack.database.wait_for_primary()
    primary.freeze()
    try:
        arena.stack.database.wait_for_primary(other_than=primary)
        yield
    finally:
        primary.thaw()
        heal_database(arena, primary)


@contextmanager
def database_switched(arena: Arena) -> Iterator[None]:
    database = arena.stack.database
    assert isinstance(database, PatroniDatabase)
    database.switchover()
    yield
    database_whole(arena)


@contextmanager
def agent_frozen(arena: Arena) -> Iterator[None]:
    """Two servers take writes for a while, one of them without a standby that answers."""
    database = arena.stack.database
    assert isinstance(database, PatroniDatabase)
    old = database.freeze_agent()
    try:
        database.wait_for_primary(other_than=old)
        arena.rest_until(time.monotonic() + TWO_PRIMARIES_S)
        yield
    finally:
        old.thaw_agent()
        heal_database(arena, old)


@contextmanager
def standbys_gone(arena: Arena) -> Iterator[None]:
    """Strictly synchronous: nothing may be acknowledged until one is back."""
    database = arena.stack.database
    primary = database.wait_for_primary()
    others = [each for each in database.members if each is not primary]
    with ExitStack() as back:
        for each in others:
            each.freeze()
            back.callback(each.thaw)
        yield
    database_whole(arena)


def heal_database(arena: Arena, member: PostgresMember) -> None:
    member.heal()
    database_whole(arena)


def database_whole(arena: Arena) -> None:
    """All members, so that the next fault finds what this one found."""
    database = arena.stack.database
    if isinstance(database, PatroniDatabase):
        arena.copied_anew += database.wait_until_whole()
    else:
        database.wait_for_sync_standby()


def of(
    name: str, how: Callable[[Member], AbstractContextManager[None]]
) -> Callable[[Arena], AbstractContextManager[None]]:
    """The same done to one part of the stack by its name."""
    return lambda arena: how(arena.stack.member(name))


@contextmanager
def redis_flushed(arena: Arena) -> Iterator[None]:
    host, port = arena.stack.member("redis").address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        assert connection.recv(16).startswith(b"+OK")
    yield


@contextmanager
def balancer_reloaded(arena: Arena) -> Iterator[None]:
    arena.stack.balancer.reload()
    yield


@contextmanager
def cut_from(arena: Arena, names: Sequence[str], *, both: bool = True) -> Iterator[None]:
    """One node and some parts of the stack no longer hear each other; or only the node does not."""
    node = host(arena, victim(arena).name)
    assert arena.network is not None
    with ExitStack() as cuts:
        for name in names:
            cuts.enter_context(arena.network.cut(node, host(arena, name), both=both))
        yield


def cut(*names: str, both: bool = True) -> Callable[[Arena], AbstractContextManager[None]]:
    return lambda arena: cut_from(arena, names, both=both)


@contextmanager
def unplugged(arena: Arena) -> Iterator[None]:
    assert arena.network is not None
    with arena.network.isolated(host(arena, victim(arena).name)):
        yield


@contextmanager
def lossy(arena: Arena) -> Iterator[None]:
    assert arena.network is not None
    with arena.network.lossy(host(arena, victim(arena).name), share=0.2):
        yield


@contextmanager
def slow_database(arena: Arena) -> Iterator[None]:
    assert arena.network is not None
    primary = arena.stack.database.wait_for_primary()
    with arena.network.slow(host(arena, primary.name), kbit=2000):
        yield


def host(arena: Arena, name: str) -> Host:
    assert arena.network is not None
    return arena.network.host(name)


_DATABASES = ("database1", "database2", "database3")
CUT_OFF_S = 5.0
"""Two seconds until a node knows that it is cut off, and three until the database ends what it has begun, if
it was cut off in the middle of a push (`dialing.WRITER_REST_MS`); until then nobody else can push there."""
FOREVER_S = 1000.0
"""For faults that stop everybody while they last: only the time after counts, which `suffer` waits for."""

FAULTS = {
    fault.name: fault
    for fault in [
        Fault(name="node killed", rows="1-3", inject=node_killed, hold_s=3, gap_s_max=1),
        Fault(name="two nodes killed", rows="1-3", inject=two_nodes_killed, hold_s=2, gap_s_max=2),
        Fault(name="node and database killed", rows="1-3, 5", inject=node_and_database_killed, hold_s=2,
              gap_s_max=10),
        Fault(name="node frozen", rows="17, 20", inject=node_frozen, hold_s=8, gap_s_max=5),
        Fault(name="nodes rolled", rows="29, 30", inject=node_rolled, hold_s=0, gap_s_max=1),
        Fault(name="all nodes killed", rows="39", inject=all_nodes_killed, hold_s=0, gap_s_max=30),
        Fault(name="database killed", rows="5", inject=database_killed, hold_s=2, gap_s_max=10),
        Fault(name="database machine killed", rows="5, 9", inject=database_member_killed, hold_s=2,
              gap_s_max=35, needs=("patroni",)),
        Fault(name="database machine frozen", rows="5, 9", inject=database_member_frozen, hold_s=2,
              gap_s_max=40, needs=("patroni",)),
        Fault(name="database switched", rows="5", inject=database_switched, hold_s=1, gap_s_max=10,
              needs=("patroni",)),
        Fault(name="failover agent frozen", rows="8", inject=agent_frozen, hold_s=0, gap_s_max=35,
              needs=("patroni",)),
        Fault(name="standbys gone", rows="6, 7", inject=standbys_gone, hold_s=5, gap_s_max=FOREVER_S,
              needs=("patroni",)),
        Fault(name="store killed", rows="13", inject=of("store", killed), hold_s=5, gap_s_max=FOREVER_S,
              needs=("rgw",)),
        Fault(name="store frozen", rows="14", inject=of("store", frozen), hold_s=5, gap_s_max=FOREVER_S),
        Fault(name="redis killed", rows="15", inject=of("redis", killed), hold_s=5, gap_s_max=1),
        Fault(name="redis frozen", rows="15", inject=of("redis", frozen), hold_s=5, gap_s_max=2),
        Fault(name="redis flushed", rows="15", inject=redis_flushed, hold_s=1, gap_s_max=1),
        Fault(name="balancer reloaded", rows="16", inject=balancer_reloaded, hold_s=2, gap_s_max=1),
        Fault(name="balancer killed", rows="16", inject=of("lb", killed), hold_s=1, gap_s_max=5),
        Fault(name="node cut from database", rows="17", inject=cut(*_DATABASES), hold_s=8,
              gap_s_max=CUT_OFF_S, needs_network=True),
        Fault(name="node cut from store", rows="17", inject=cut("store"), hold_s=8, gap_s_max=3,
              needs_network=True),
        Fault(name="node cut from redis", rows="17", inject=cut("redis"), hold_s=5, gap_s_max=2,
              needs_network=True),
        Fault(name="node cut from nodes", rows="17", inject=cut("node1", "node2", "node3"), hold_s=5,
              gap_s_max=2, needs_network=True),
        Fault(name="answers of the database lost", rows="18", inject=cut(*_DATABASES, both=False), hold_s=8,
              gap_s_max=CUT_OFF_S, needs_network=True),
        Fault(name="node unplugged", rows="17", inject=unplugged, hold_s=8, gap_s_max=5, needs_network=True),
        Fault(name="lossy line", rows="19", inject=lossy, hold_s=8, gap_s_max=5, needs_network=True),
        Fault(name="slow line to the database", rows="19", inject=slow_database, hold_s=8, gap_s_max=5,
              needs_network=True),
    ]
}  # fmt: skip
