"""Is this cluster highly available, and what is still single in it? Pure: from what was seen to what is said.

A part that nobody here can look into (a balancer, a managed database, the machines behind an object store) is
never called verified. The operator may declare it (`declared_ha`); then it is shown as declared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from mainstay.cluster.nodes import NodeRow
from mainstay.ops.checkup import Finding
from mainstay.ops.standbys import Replication

_ROLES = ("web", "git", "ssh", "worker")
_SKEW_MS_MAX = 5_000
_LEVEL = {"ok": 0, "warning": 1, "failed": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was found out about the cluster."""

    database_url: str
    object_store: str
    declared: frozenset[str]
    nodes: Sequence[NodeRow]
    """Those that are alive."""
    replication: Replication | None = None
    """None: the database is no PostgreSQL."""


def exit_code_of(findings: Sequence[Finding]) -> int:
    """0: all is well; 1: something should be looked after; 2: something is broken, or missing for HA."""
    return max((_LEVEL[finding.verdict] for finding in findings), default=0)


def single_points_of(findings: Sequence[Finding]) -> list[str]:
    """The parts whose loss stops the service, or loses what was acknowledged."""
    return [finding.name for finding in findings if finding.name in _SINGLE and finding.verdict != "ok"]


_SINGLE = frozenset({"database", "database address", "nodes", "hosts", "roles", "object store", "balancer"})


def judge_agreement(nodes: Sequence[NodeRow]) -> list[Finding]:
    """Do the nodes fit together? Asked with and without `--ha`."""
    return [_versions(nodes), _secrets(nodes), _settings(nodes), _clocks(nodes)] if nodes else []


def judge_redis(redis_url: str, problem: str) -> Finding:
    """Never worse than a warning: it is soft state."""
    if not redis_url:
        return Finding("redis", "ok", "not used, not needed")
    if problem:
        return Finding("redis", "warning", f"does not answer: {problem}; nothing fails or is lost without it")
    return Finding("redis", "ok", "answers; soft state only: nothing fails or is lost without it")


def judge_ha(seen: Seen) -> list[Finding]:
    """Everything that is needed to lose any one part."""
    return [
        _database(seen),
        _database_address(seen),
        _nodes(seen.nodes),
        _hosts(seen.nodes),
        _roles(seen.nodes),
        _object_store(seen),
        _balancer(seen.declared),
    ]


def _database(seen: Seen) -> Finding:
    replication = seen.replication
    if replication is None:
        return _failed(
            "database", "SQLite is one file on one machine; use PostgreSQL with a synchronous standby"
        )
    if replication.commit in ("off", "local"):
        return _failed(
            "database",
            f"synchronous_commit is {replication.commit}: an acknowledged push can be lost; set it to on",
        )
    if not replication.wanted:
        return _without_standby(seen.declared)
    if replication.commits is False:
        return _failed("database", "it waits for a synchronous standby and has none: no commit is confirmed")
    if replication.confirming == 0:
        return _failed("database", "a synchronous standby is asked for and none is connected")
    return _with_standby(replication)


def _without_standby(declared: frozenset[str]) -> Finding:
    if "database" in declared:
        return Finding(
            "database", "ok", "declared to be highly available; that is not verified, and cannot be from here"
        )
    return _failed(
        "database",
        "no synchronous standby: the loss of its server stops everything and loses acknowledged pushes"
        " (set synchronous_standby_names; for a managed service that replicates out of sight, declare it)",
    )


def _with_standby(replication: Replication) -> Finding:
    if replication.confirming is None:
        if not replication.commits:
            says = "its standbys cannot be seen: grant the role pg_monitor to the user of database_url"
            return Finding("database", "warning", says)
        says = (
            "a commit was confirmed by the synchronous standby (grant pg_monitor to see how many there are)"
        )
        return Finding("database", "ok", says)
    says = f"{replication.confirming} synchronous standby, synchronous_commit {replication.commit}"
    if replication.commit == "remote_write":
        says += ": a standby that loses power together with the primary can lose a push"
        return Finding("database", "warning", says)
    return Finding("database", "ok", says)


def _database_address(seen: Seen) -> Finding:
    """How nodes find the next primary."""
    name = "database address"
    if seen.replication is None:
        return Finding(name, "ok", "on this machine")
    if "," in urlsplit(seen.database_url).netloc:
        return Finding(name, "ok", "several hosts in database_url: the primary is looked for among them")
    if "database" in seen.declared:
        return Finding(
            name, "ok", "one host in database_url, declared to move with the primary; not verified"
        )
    return Finding(
        name,
        "warning",
        "one host in database_url: name all servers there, or declare that it moves with the primary",
    )


def _nodes(nodes: Sequence[NodeRow]) -> Finding:
    if len(nodes) < 2:  # noqa: PLR2004 - one is single
        count = "no node lives" if not nodes else f"only node {nodes[0].name} lives"
        return _failed("nodes", f"{count}: its loss stops the service; `mainstay join` adds one")
    return Finding("nodes", "ok", f"{len(nodes)} live nodes")


def _hosts(nodes: Sequence[NodeRow]) -> Finding:
    hosts = sorted({node.http.rpartition(":")[0] for node in nodes})
    if len(nodes) > 1 and len(hosts) == 1:
        return _failed("hosts", f"all nodes are on one machine, {hosts[0]}")
    return Finding("hosts", "ok", f"nodes on {len(hosts)} machine{'s' if len(hosts) != 1 else ''}")


def _roles(nodes: Sequence[NodeRow]) -> Finding:
    having = {role: [node.name for node in nodes if role in node.roles] for role in _ROLES}
    missing = [role for role, names in having.items() if not names]
    if missing:
        return _failed("roles", f"no live node has the role {', '.join(missing)}")
    single = [f"{role} ({names[0]})" for role, names in having.items() if len(names) == 1]
    if single:
        return _failed("roles", f"only one node each for: {', '.join(single)}")
    return Finding("roles", "ok", "every role is on two nodes or more")


def _object_store(seen: Seen) -> Finding:
    kind = seen.object_store.partition("://")[0]
    if "object_store" in seen.declared:
        return Finding("object store", "ok", f"{kind}, declared to be highly available; not verified")
    if kind in ("file", "") or seen.object_store.startswith("/"):
        return _failed(
            "object store",
            "a directory: whoever serves it is single, and every node must see the same one"
            " (use S3, or declare a replicated file system)",
        )
    return Finding(
        "object store", "warning", f"{kind}: whether it survives a loss cannot be seen from here; declare it"
    )


def _balancer(declared: frozenset[str]) -> Finding:
    if "balancer" in declared:
        return Finding("balancer", "ok", "declared to be highly available; not verified")
    return Finding(
        "balancer",
        "warning",
        "what stands in front of the nodes cannot be seen from here: have two balancers with a floating"
        " address, or a managed one; then declare it",
    )


def _versions(nodes: Sequence[NodeRow]) -> Finding:
    versions = sorted({node.version for node in nodes})
    if len(versions) > 1:
        says = f"nodes run {', '.join(versions)}: fine during an upgrade, finish it"
        return Finding("versions", "warning", says)
    return Finding("versions", "ok", f"every node runs {versions[0]}")


def _secrets(nodes: Sequence[NodeRow]) -> Finding:
    differing = _differing(nodes, "secrets")
    if differing:
        return _failed("secrets", f"nodes have different secrets: {', '.join(differing)}; join them again")
    return Finding("secrets", "ok", "every node has the same")


def _settings(nodes: Sequence[NodeRow]) -> Finding:
    differing = _differing(nodes, "settings")
    if differing:
        return Finding("settings", "warning", f"nodes disagree about: {', '.join(differing)}")
    return Finding("settings", "ok", "nodes agree where they should")


def _differing(nodes: Sequence[NodeRow], group: str) -> list[str]:
    """Names of marks that two nodes have and that are not the same."""
    marks: dict[str, set[str]] = {}
    for node in nodes:
        for name, mark in dict(node.facts.get(group, {})).items():
            if mark:
                marks.setdefault(name, set()).add(str(mark))
    return sorted(name for name, values in marks.items() if len(values) > 1)


def _clocks(nodes: Sequence[NodeRow]) -> Finding:
    worst = max(nodes, key=lambda node: abs(node.skew_ms))
    if abs(worst.skew_ms) > _SKEW_MS_MAX:
        says = f"the clock of {worst.name} is {worst.skew_ms / 1000:+.1f} s off the database's; run NTP"
        return Finding("clocks", "warning", says)
    return Finding("clocks", "ok", f"within {abs(worst.skew_ms) / 1000:.1f} s of the database's")


def _failed(name: str, says: str) -> Finding:
    return Finding(name, "failed", says)
