"""Memory of the node's own processes (git's aside): idle, and with many clones under way at once."""

from benchmarks.measure import Measurement, Promise
from benchmarks.processes import Process, without_git
from benchmarks.protocol import Clone, list_refs, wanted
from benchmarks.scenarios import Bench

_CLONES = 20
_MIB = 1 << 20


def measure(bench: Bench) -> list[Measurement]:
    server = bench.ours
    largest = Measurement(
        "memory, largest process, idle", "MiB resident", promise=Promise("at most 200 MiB", at_most=200)
    )
    total = Measurement("memory, whole node, idle", "MiB anonymous")
    each = Measurement(
        f"memory, per clone more, {_CLONES} at once",
        "MiB anonymous",
        promise=Promise("at most 4 MiB", at_most=4),
        note="all clones are held in the middle of their pack by a client that does not read on",
    )
    wants = wanted(list_refs(server.remote))
    for _ in range(bench.rounds):
        idle = without_git(server.tree())
        largest.add(server, max(process.resident_bytes for process in idle) / _MIB)
        total.add(server, _anonymous_mib(idle))
        clones = [Clone(server.remote, wants) for _ in range(_CLONES)]
        busy = without_git(server.tree())
        each.add(server, (_anonymous_mib(busy) - _anonymous_mib(idle)) / _CLONES)
        for clone in clones:
            clone.finish()
    return [largest, total, each]


def _anonymous_mib(processes: list[Process]) -> float:
    return sum(process.anonymous_bytes for process in processes) / _MIB
