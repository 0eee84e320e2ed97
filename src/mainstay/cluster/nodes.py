"""The list of nodes: who there is, where to reach them, what they last said, and when.

Every time in the list is by the clock of the database, so that nodes whose clocks differ agree about who is
alive. A node that has said nothing for `LIVE_MS` is dead to the others; it says so itself only when it
stops in order. The list is for people, for warmth and for blame: no push depends on it.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mainstay.cluster.line import Line
from mainstay.foundation.errors import Conflict, NotFound, Unavailable
from mainstay.foundation.ids import new_ulid
from mainstay.storage.database import Transaction

LIVE_MS = 10_000
"""Five beats of a node (`heart`)."""

State = Literal["starting", "ready", "draining", "stopped"]
Condition = Literal["starting", "ready", "draining", "stopped", "dead"]
"""What a node last said, or `dead` when that is too long ago to be believed."""

_STOPPED_KEPT_MS = 24 * 3600 * 1000
_DEAD_KEPT_MS = 30 * 24 * 3600 * 1000
"""Where nodes come and go by themselves, nobody forgets them by hand."""
_FACTS_BYTES_MAX = 32_768
_NODES_MAX = 1_000
_SELECT = (
    "SELECT id, name, http, ssh, rpc, health, roles, labels, version, state, started_ms, beat_ms, lag_ms,"
    " skew_ms, drain_asked_ms, facts FROM cluster_node"
)
_NOW_MS = {
    "sqlite": "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    "postgresql": "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
}


class NoSuchNode(NotFound):
    """Nobody of that name or id is on the list."""


class AmbiguousNode(Conflict):
    """Several nodes have that name; their ids differ."""


class NodeStillLives(Conflict):
    """A node that beats puts itself on the list again."""


class NodeIdUnusable(Unavailable):
    """The file with the id of this node cannot be read or made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """What a node says about itself when it comes."""

    id: str
    name: str
    http: str
    """HOST:PORT at which other nodes reach it; likewise `ssh`, `rpc` and `health`. Empty: it has none."""
    ssh: str
    rpc: str
    health: str
    roles: frozenset[str]
    labels: tuple[str, ...]
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow(Introduction):
    """One node, as it last described itself."""

    state: State
    started_ms: int = 0
    beat_ms: int = 0
    lag_ms: int = 0
    skew_ms: int = 0
    drain_asked_ms: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What a node says about itself with every beat."""

    state: State
    lag_ms: int
    skew_ms: int
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the list answers to a beat."""

    now_ms: int
    """By the clock of the database."""
    drain_asked: bool
    listed: bool
    """False: somebody has forgotten this node, or another runs under its id since. It must register again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All nodes at one moment."""

    now_ms: int
    nodes: Sequence[NodeRow]


def node_id(data: Path) -> str:
    """The id of the node on this data directory (`DATA/node_id`); made when there is none yet.

    Of several processes that ask first at the same moment, all get the same.
    """
    file = data / "node_id"
    try:
        if not file.exists():
            _make_id(file)
        return file.read_text().strip()
    except OSError as error:
        raise NodeIdUnusable(f"cannot use {file}: {error.strerror}") from error


def _make_id(file: Path) -> None:
    """Written whole under another name first: nobody ever reads half an id."""
    fresh = file.with_name(f"node_id.{new_ulid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as out:
            out.write(f"{new_ulid()}\n")
            out.flush()
            os.fsync(out.fileno())
        os.link(fresh, file)
    except FileExistsError:
        return
    finally:
        fresh.unlink()


def now_ms(tx: Transaction) -> int:
    """The clock of the database."""
    row = tx.row(_NOW_MS[tx.dialect])
    assert row is not None, "a clock always answers"
    return int(row[0])


def register(database: Line, me: Introduction, *, state: State = "starting") -> int:
    """Put a node on the list, in the place of what it said in an earlier life. Returns its start time.

    Whoever asked it to drain before has been obeyed: it ended. Who stopped a day ago, or was last heard of a
    month ago, is forgotten on this occasion.
    """
    with database.write() as tx:
        at_ms = now_ms(tx)
        tx.execute(
            "DELETE FROM cluster_node WHERE id <> ? AND (beat_ms < ? OR (state = 'stopped' AND beat_ms < ?))",
            (me.id, at_ms - _DEAD_KEPT_MS, at_ms - _STOPPED_KEPT_MS),
        )
        tx.execute(
            "INSERT INTO cluster_node (id, name, http, ssh, rpc, health, roles, labels, version, state,"
            " started_ms, beat_ms, lag_ms, skew_ms, drain_asked_ms, facts)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, '{}')"
            " ON CONFLICT (id) DO UPDATE SET name = excluded.name, http = excluded.http,"
            " ssh = excluded.ssh, rpc = excluded.rpc, health = excluded.health, roles = excluded.roles,"
            " labels = excluded.labels, version = excluded.version, state = excluded.state,"
            " started_ms = excluded.started_ms, beat_ms = excluded.beat_ms, lag_ms = 0, skew_ms = 0,"
            " drain_asked_ms = 0",
            (
                me.id,
                me.name,
                me.http,
                me.ssh,
                me.rpc,
                me.health,
                ",".join(sorted(me.roles)),
                ",".join(me.labels),
                me.version,
                state,
                at_ms,
                at_ms,
            ),
        )
    return at_ms


def beat(database: Line, node: str, pulse: Pulse, *, started_ms: int) -> Heard:
    """Say that the node of this id, which registered at `started_ms`, lives, and hear what is wished."""
    with database.write() as tx:
        at_ms = now_ms(tx)
        row = tx.row(
            "UPDATE cluster_node SET state = ?, beat_ms = ?, lag_ms = ?, skew_ms = ?, facts = ?"
            " WHERE id = ? AND started_ms = ? RETURNING drain_asked_ms",
            (
                pulse.state,
                at_ms,
                pulse.lag_ms,
                pulse.skew_ms,
                _facts_text(pulse.facts),
                node,
                started_ms,
            ),
        )
    return Heard(now_ms=at_ms, drain_asked=row is not None and int(row[0]) > 0, listed=row is not None)


def list_nodes(database: Line) -> Listing:
    """Every node that was not forgotten, by name."""
    with database.read() as tx:
        rows = tx.rows(f"{_SELECT} ORDER BY name, id LIMIT ?", (_NODES_MAX,))
        return Listing(now_ms=now_ms(tx), nodes=[_node_of(row) for row in rows])


def live_nodes(database: Line) -> list[NodeRow]:
    """Those that beat within the last ten seconds and did not say that they stopped."""
    listing = list_nodes(database)
    return [node for node in listing.nodes if is_live(node, listing.now_ms)]


def is_live(node: NodeRow, at_ms: int) -> bool:
    """Whether a node still counts at `at_ms` (clock of the database). One that drains does."""
    return condition_of(node, at_ms) in ("starting", "ready", "draining")


def condition_of(node: NodeRow, at_ms: int) -> Condition:
    """What to believe about a node at `at_ms`. A node that stopped in order is not dead: it said so."""
    if node.state != "stopped" and at_ms - node.beat_ms > LIVE_MS:
        return "dead"
    return node.state


def ask_to_drain(database: Line, name_or_id: str) -> NodeRow:
    """Wish that a node drains and ends; its heart hears it with the next beat. Asking twice is fine."""
    with database.write() as tx:
        node = _find(tx, name_or_id)
        tx.execute(
            "UPDATE cluster_node SET drain_asked_ms = ? WHERE id = ? AND drain_asked_ms = 0",
            (now_ms(tx), node.id),
        )
    return node


def forget(database: Line, name_or_id: str) -> NodeRow:
    """Take a node off the list that will not come back. Raises `NodeStillLives`."""
    with database.write() as tx:
        node = _find(tx, name_or_id)
        if is_live(node, now_ms(tx)):
            raise NodeStillLives(f"node {node.name!r} is {node.state}: stop it first")
        tx.execute("DELETE FROM cluster_node WHERE id = ?", (node.id,))
    return node


def find(database: Line, name_or_id: str) -> NodeRow:
    """The node of this id or name. Raises `NoSuchNode`, `AmbiguousNode`."""
    with database.read() as tx:
        return _find(tx, name_or_id)


def _find(tx: Transaction, name_or_id: str) -> NodeRow:
    rows = tx.rows(f"{_SELECT} WHERE id = ? OR name = ? LIMIT 3", (name_or_id, name_or_id))
    if not rows:
        raise NoSuchNode(f"there is no node {name_or_id!r}")
    found = [_node_of(row) for row in rows]
    if len(found) > 1:
        raise AmbiguousNode(f"several nodes are called {name_or_id!r}: use an id, {_ids_of(found)}")
    return found[0]


def _ids_of(nodes: Iterable[NodeRow]) -> str:
    return " or ".join(node.id for node in nodes)


def _facts_text(facts: Mapping[str, Any]) -> str:
    """Facts are for the eye; too many of them are said to be too many, and never stop a heart."""
    text = json.dumps(facts)
    return text if len(text) <= _FACTS_BYTES_MAX else json.dumps({"too_long": len(text)})


def _node_of(row: Sequence[Any]) -> NodeRow:
    return NodeRow(
        id=str(row[0]),
        name=str(row[1]),
        http=str(row[2]),
        ssh=str(row[3]),
        rpc=str(row[4]),
        health=str(row[5]),
        roles=frozenset(part for part in str(row[6]).split(",") if part),
        labels=tuple(part for part in str(row[7]).split(",") if part),
        version=str(row[8]),
        state=row[9],
        started_ms=int(row[10]),
        beat_ms=int(row[11]),
        lag_ms=int(row[12]),
        skew_ms=int(row[13]),
        drain_asked_ms=int(row[14]),
        facts=json.loads(row[15]),
    )
