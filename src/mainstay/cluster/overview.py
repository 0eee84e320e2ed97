"""How the nodes are, together: a line for each, and what is wrong. Pure: from what was read to what is said.

`mainstay status`, the API and whoever else shows nodes use the same words, so they never disagree.
"""

from collections.abc import Sequence
from typing import Any, Literal

from mainstay.cluster.nodes import Listing, NodeRow, condition_of
from mainstay.foundation.clock import iso8601

ROLES = ("web", "git", "ssh", "worker")
Verdict = Literal["ok", "degraded", "down"]

_SKEW_MS_MAX = 5_000
"""Nothing compares clocks so finely; a clock that is off this far is off further tomorrow."""
_LAG_MS_MAX = 1_000


def verdict_of(listing: Listing, problems: Sequence[str]) -> Verdict:
    """`down` when nobody serves, `degraded` with problems, else `ok`."""
    if not any(condition_of(node, listing.now_ms) == "ready" for node in listing.nodes):
        return "down"
    return "degraded" if problems else "ok"


def problems_of(listing: Listing) -> list[str]:
    """What an operator should know of, in sentences. A node that stopped in order is no problem by itself."""
    named = [(node, condition_of(node, listing.now_ms)) for node in listing.nodes]
    ready = [node for node, condition in named if condition == "ready"]
    return [
        *(_about(node, condition, listing.now_ms) for node, condition in named if condition in _TROUBLED),
        *_missing_roles(ready),
        *_versions(ready),
        *(_slow(node) for node in ready if node.lag_ms > _LAG_MS_MAX),
        *(_skewed(node) for node in ready if abs(node.skew_ms) > _SKEW_MS_MAX),
    ]


_TROUBLED = ("dead", "draining", "starting")


def _about(node: NodeRow, condition: str, now_ms: int) -> str:
    if condition == "dead":
        age_s = (now_ms - node.beat_ms) / 1000
        return f"node {node.name} is dead: its last heartbeat was {age_s:.0f} s ago"
    return f"node {node.name} is {condition}"


def _missing_roles(ready: Sequence[NodeRow]) -> list[str]:
    """One node alone has everything once; of several, no role should hang on one."""
    if not ready:
        return ["no node is ready"]
    found = []
    for role in ROLES:
        having = [node for node in ready if role in node.roles]
        if not having:
            found.append(f"no ready node has the role {role}")
        elif len(having) == 1 and len(ready) > 1:
            found.append(f"only node {having[0].name} has the role {role}")
    return found


def _versions(ready: Sequence[NodeRow]) -> list[str]:
    versions = sorted({node.version for node in ready})
    return [f"nodes run different versions: {', '.join(versions)}"] if len(versions) > 1 else []


def _slow(node: NodeRow) -> str:
    return f"the heartbeats of node {node.name} take {node.lag_ms / 1000:.1f} s"


def _skewed(node: NodeRow) -> str:
    return f"the clock of node {node.name} is {node.skew_ms / 1000:+.1f} s off that of the database"


def shape_of(node: NodeRow, now_ms: int) -> dict[str, Any]:
    """A node as JSON."""
    return {
        "id": node.id,
        "name": node.name,
        "state": condition_of(node, now_ms),
        "roles": sorted(node.roles),
        "labels": list(node.labels),
        "version": node.version,
        "http": node.http or None,
        "ssh": node.ssh or None,
        "rpc": node.rpc or None,
        "health": node.health or None,
        "started_at": iso8601(node.started_ms),
        "last_heartbeat_at": iso8601(node.beat_ms),
        "heartbeat_age_ms": max(0, now_ms - node.beat_ms),
        "lag_ms": node.lag_ms,
        "clock_skew_ms": node.skew_ms,
        "drain_asked": node.drain_asked_ms > 0,
        "facts": dict(node.facts),
    }
