"""`mainstay status`: how is this node, and how are all of them together?"""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from mainstay.boot.layout import Layout
from mainstay.boot.settings import NodeSettings, load_for_command
from mainstay.boot.state import NodeState, read_state
from mainstay.cli.frame import NoDataDirectory, data_option, json_option, quiet, show, table
from mainstay.foundation.errors import MainstayError

_LOOK_S_MAX = 8.0
_EXIT = {"ok": 0, "degraded": 1, "down": 2}


@dataclass(slots=True)
class Seen:
    """What this command found out."""

    state: NodeState | None
    """Of the node on this data directory; None when none runs."""
    verdict: str = "down"
    maintenance: str = "unknown"
    """The mode in force, as the database says."""
    problems: list[str] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    dependencies: dict[str, dict[str, Any]] = field(default_factory=dict)


@click.command
@data_option
@json_option
def command(data: Path | None, as_json: bool) -> int:
    """Show all nodes, what they depend on, and what is wrong.

    Works beside any node, running or not. Exit code 0: all is well; 1: degraded, such as a dead node, a role
    that only one of several nodes has, or different versions; 2: down, that is, no node is ready or the
    database is away.
    """
    quiet()
    settings = load_for_command(data)
    if not settings.data.is_dir():
        raise NoDataDirectory(
            f"{settings.data} is not there: name the data directory of the node with --data"
        )
    seen = Seen(_running_state(settings))
    if seen.state is None:
        seen.problems.append(f"no node runs on {settings.data}")
    _look_at_all(settings, seen)
    show(_as_json(seen), as_json=as_json, text=_text(seen))
    return _EXIT[seen.verdict]


def _running_state(settings: NodeSettings) -> NodeState | None:
    state = read_state(Layout(settings.data).state)
    return state if state is not None and _runs(state) else None


def _runs(state: NodeState) -> bool:
    """Whether the supervisor that wrote this is still there; a killed one leaves its last words behind."""
    try:
        os.kill(state.processes["serve"].pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _look_at_all(settings: NodeSettings, seen: Seen) -> None:
    """Each look has its time; what does not answer is away, and the rest is still shown."""
    seen.dependencies["database"] = _within_time("database", lambda: _look_at_database(settings, seen))
    seen.dependencies["object_store"] = _within_time("object store", lambda: _look_at_objects(settings))
    seen.problems += [str(each["problem"]) for each in seen.dependencies.values() if each.get("problem")]
    if seen.verdict == "ok" and seen.problems:
        seen.verdict = "degraded"


def _within_time(name: str, look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    answers: list[dict[str, Any]] = []

    def try_once() -> None:
        try:
            answers.append(look())
        except MainstayError as error:
            answers.append({"status": "failed", "problem": f"the {name} is away: {error}"})

    looking = threading.Thread(target=try_once, daemon=True)
    looking.start()
    looking.join(_LOOK_S_MAX)
    return answers[0] if answers else {"status": "failed", "problem": f"the {name} does not answer"}


def _look_at_database(settings: NodeSettings, seen: Seen) -> dict[str, Any]:
    from mainstay.cluster import nodes  # noqa: PLC0415 - `--help` does not pay for a database driver
    from mainstay.cluster.line import open_line  # noqa: PLC0415 - same
    from mainstay.cluster.overview import problems_of, shape_of, verdict_of  # noqa: PLC0415 - same
    from mainstay.ops.database_facts import database_facts  # noqa: PLC0415 - same
    from mainstay.ops.maintenance import switch  # noqa: PLC0415 - same

    line = open_line(settings.database_url, limit_s=_LOOK_S_MAX / 2)
    try:
        listing = nodes.list_nodes(line)
        facts = database_facts(line)
        decree = switch.look(line)
    finally:
        line.close()
    seen.problems += problems_of(listing)
    seen.verdict = verdict_of(listing, seen.problems)
    seen.maintenance = decree.state.mode_at(decree.now_ms).value
    seen.nodes = [shape_of(node, listing.now_ms) for node in listing.nodes]
    return facts


def _look_at_objects(settings: NodeSettings) -> dict[str, Any]:
    from mainstay.storage.identity import KEY as MARKER  # noqa: PLC0415 - same
    from mainstay.storage.objects.opening import open_object_store  # noqa: PLC0415 - same

    kind = settings.object_store.partition("://")[0]
    if open_object_store(settings.object_store).size_bytes(MARKER) is None:
        return {
            "status": "failed",
            "kind": kind,
            "problem": f"the object store has no {MARKER}: is it mounted?",
        }
    return {"status": "ok", "kind": kind}


def _as_json(seen: Seen) -> dict[str, Any]:
    return {
        "verdict": seen.verdict,
        "problems": seen.problems,
        "maintenance": seen.maintenance,
        "node": asdict(seen.state) if seen.state else None,
        "nodes": seen.nodes,
        "dependencies": seen.dependencies,
    }


def _text(seen: Seen) -> str:
    parts = [f"Mainstay is {seen.verdict}.", *(f"  ! {problem}" for problem in seen.problems)]
    if seen.maintenance not in ("off", "unknown"):
        parts.append(f"  Maintenance mode is {seen.maintenance}: see `mainstay maintenance status`.")
    if seen.nodes:
        parts += ["", table(_HEAD, [_row(node) for node in seen.nodes])]
    parts += ["", table(["dependency", "state", ""], _dependency_rows(seen.dependencies))]
    if seen.state:
        parts += ["", f"This node is {seen.state.phase}.", "", _processes(seen.state)]
    return "\n".join(parts)


_HEAD = ["node", "id", "roles", "version", "state", "heard", "lag", "skew", "http", "ssh"]


def _row(node: Mapping[str, Any]) -> Sequence[Any]:
    return [
        node["name"],
        node["id"],
        ",".join(node["roles"]),
        node["version"],
        node["state"] + (" (drain asked)" if node["drain_asked"] and node["state"] == "ready" else ""),
        f"{node['heartbeat_age_ms'] / 1000:.0f} s ago",
        f"{node['lag_ms']} ms",
        f"{node['clock_skew_ms']} ms",
        node["http"] or "-",
        node["ssh"] or "-",
    ]


def _dependency_rows(dependencies: Mapping[str, Mapping[str, Any]]) -> list[Sequence[Any]]:
    rows: list[Sequence[Any]] = []
    for name, facts in dependencies.items():
        shown = [
            f"{key.replace('_', ' ')}: {value}"
            for key, value in facts.items()
            if key not in ("status", "problem", "standbys") and value is not None
        ]
        rows.append([name.replace("_", " "), facts["status"], ", ".join(shown)])
        rows += [
            [f"  standby {each['name']}", each["state"], each["sync"]] for each in facts.get("standbys", [])
        ]
    return rows


def _processes(state: NodeState) -> str:
    rows = [
        (name, each.pid, "ready" if each.ready else "starting", each.restarts)
        for name, each in state.processes.items()
    ]
    return table(["process", "pid", "state", "restarts"], rows)
