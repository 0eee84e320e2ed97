"""What the supervisor knows about the node, for the processes and commands beside it.

One small file, replaced whole. It is worthless when the supervisor is not running; `pid_lock` tells that.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

DATABASE = "postgresql"
"""The process that runs the node's own PostgreSQL."""
SITES = "sites"
"""The process that knows of other sites."""


def data_names(count: int) -> list[str]:
    """What the data processes are called: `data`, `data-2`, `data-3`, …"""
    return ["data", *(f"data-{number}" for number in range(2, count + 1))]


def process_names(
    data_processes: int,
    roles: Collection[str],
    *,
    rpc: bool = False,
    database: bool = False,
    sites: bool = False,
) -> list[str]:
    """Every process of a node with these roles; `rpc`, `sites`: for others; `database`: its own."""
    by_role = [name for name in ("web", "ssh", "worker") if name in roles]
    to_others = ["rpc"] if rpc and "git" in roles else []
    own = [DATABASE] if database else []
    to_sites = [SITES] if sites else []
    return ["serve", *own, *data_names(data_processes), *by_role, *to_others, *to_sites]


"""`serve` is the supervisor; the others are its children."""

Phase = Literal["starting", "ready", "draining"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    pid: int
    restarts: int = 0
    ready: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    phase: Phase
    http: str
    ssh: str
    """The real addresses, when a port of 0 left the choice to the kernel. A node without the role `ssh` has
    an empty one."""
    processes: Mapping[str, ProcessState] = field(default_factory=dict)
    """Those that run, by name."""


def write_state(file: Path, state: NodeState) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(state)))
    fresh.replace(file)


def read_state(file: Path) -> NodeState | None:
    """None when there is no such file. A broken one is our bug, and raises."""
    try:
        facts = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    processes = {name: ProcessState(**each) for name, each in facts.pop("processes").items()}
    return NodeState(**facts, processes=processes)
