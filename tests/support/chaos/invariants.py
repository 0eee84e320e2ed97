"""What must hold whatever went wrong, looked at when all faults are healed and all clients have stopped.

I1 I4 I5 I8  every register is linearizable, with what is there now as its last read (`registers`)
I6           an atomic push happened whole or not at all
I2           git finds every object that a ref reaches, from the store alone
I3 I4        manifest, store and log agree; the hash chain is whole (`mainstay.storage.check`, deep)
I7           every committed push has left the outbox, and left it once for each who listens
I9           after the sweeper came by nothing is in the store that nothing names; no half push on a disk
I10          no node wrote of an error that nobody planned, and none wrote a secret
I11          soon after, every node shows the same refs
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mainstay.foundation.clock import SYSTEM, ManualClock
from mainstay.storage.sweep import audit, sweep
from support.chaos.history import ABSENT, Operation, Read, Write
from support.chaos.registers import check, half_pushes
from support.crash.checker import log_findings, object_findings, refs_of
from support.crash.world import Truth

_MONTH_S = 30 * 24 * 3600
_POLL_S = 0.1
_CONVERGED_S_MAX = 5.0
_CLEANED_S_MAX = 20.0
_DELIVERED_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Watched:
    """What is looked at of one node."""

    name: str
    refs: Callable[[], Mapping[str, str]]
    """What it shows of the repository now."""
    quarantine: Path
    log: Path


def history_findings(operations: Sequence[Operation], name: str, refs: Mapping[str, str]) -> list[str]:
    """I1, I4, I5, I6, I8 for one repository. `refs` is the truth now."""
    mine = [each for each in operations if each.register.repository == name]
    registers = {each.register for each in mine}
    final = {register: refs.get(register.ref, ABSENT) for register in registers}
    seen = {each.value for each in mine if isinstance(each, Read)}
    found = check(mine, final=final)
    found += half_pushes([each for each in mine if isinstance(each, Write)], final, seen)
    strangers = sorted(set(refs) - {register.ref for register in registers} - {"refs/heads/main"})
    return [*map(str, found), *(f"{ref} is there, and nobody pushed it" for ref in strangers)]


def store_findings(truth: Truth, number: int) -> list[str]:
    """I2, I3, I4: reads every byte of every pack."""
    return [*object_findings(truth, number, refs_of(truth, number)), *log_findings(truth, number)]


def outbox_findings(truth: Truth, *, within_s: float = _DELIVERED_S_MAX) -> list[str]:
    """I7, where a worker runs: nothing stays behind."""
    until_s = time.monotonic() + within_s
    while (left := _undelivered(truth)) and time.monotonic() < until_s:
        time.sleep(_POLL_S)
    return [f"{left} events are still in the outbox"] if left else []


def _undelivered(truth: Truth) -> int:
    with truth.database.read() as tx:
        row = tx.row("SELECT COUNT(*) FROM ledger_event")
    return int(row[0]) if row else 0


def orphan_findings(truth: Truth) -> list[str]:
    """I9 in the store, as it will be a month from now."""
    later = ManualClock(SYSTEM.now_ms())
    later.advance(_MONTH_S)
    sweep(truth.ledger, truth.objects, clock=later)
    return [f"orphan {each.key}" for each in audit(truth.ledger, truth.objects, clock=later).examples]


def node_findings(nodes: Iterable[Watched], truth_refs: Mapping[str, str]) -> list[str]:
    """I9 on the disks of nodes, and I11."""
    found = []
    for node in nodes:
        if not _comes_true(lambda node=node: dict(node.refs()) == dict(truth_refs), _CONVERGED_S_MAX):  # type: ignore[misc]
            found.append(f"{node.name} does not show the refs that are true")
        if not _comes_true(lambda node=node: not list(node.quarantine.glob("*")), _CLEANED_S_MAX):  # type: ignore[misc]
            found.append(f"{node.name} keeps half pushes: {len(list(node.quarantine.glob('*')))}")
    return found


def log_line_findings(
    nodes: Iterable[Watched], secrets: Sequence[str], *, expected: Sequence[str] = ()
) -> list[str]:
    """I10. `expected` are events that the faults of the run must cause."""
    found = []
    for node in nodes:
        for line in node.log.read_text(errors="replace").splitlines():
            if any(secret in line for secret in secrets):
                found.append(f"{node.name} wrote a secret into its log")
            elif "Traceback (most recent call last)" in line and not line.startswith("{"):
                found.append(f"{node.name} wrote a traceback that is no log line")
            elif (event := _error_of(line)) and event not in expected:
                found.append(f"{node.name}: {line[:300]}")
    return found


def _error_of(line: str) -> str:
    try:
        facts = json.loads(line)
    except ValueError:
        return ""
    return str(facts.get("event", "?")) if facts.get("level") in {"error", "critical"} else ""


def _comes_true(what: Callable[[], bool], within_s: float) -> bool:
    until_s = time.monotonic() + within_s
    while not what():
        if time.monotonic() > until_s:
            return False
        time.sleep(_POLL_S)
    return True
