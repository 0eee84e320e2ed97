"""A full clone over HTTP: by a client that throws the pack away, and by git."""

import itertools
import shutil
from collections.abc import Callable

from benchmarks.measure import Measurement, Promise, alternate, cost_of, run
from benchmarks.protocol import Clone, list_refs, wanted
from benchmarks.scenarios import Bench, environment
from benchmarks.servers import Server

_RAW_CLONES = 5


def measure(bench: Bench) -> list[Measurement]:
    servers = [bench.over_http, bench.ours]
    wants = {server.name: wanted(list_refs(server.remote)) for server in servers}
    first = _raw(bench, servers, "full clone, client discards the pack", _rotated(wants))
    herd = _raw(bench, servers, "the same clone again and again", wants.__getitem__)
    return [*first, *herd, *clones(bench, "over HTTP", servers, lambda server: server.remote.url)]


def _rotated(wants: dict[str, list[bytes]]) -> Callable[[str], list[bytes]]:
    """The same wants in another order each time: the same work, but never the same request.

    A server that keeps answers cannot use one here; what it gains by keeping them is the herd's row.
    """
    turns = {name: itertools.count(1) for name in wants}

    def next_of(name: str) -> list[bytes]:
        turn = next(turns[name]) % len(wants[name])
        return wants[name][turn:] + wants[name][:turn]

    return next_of


def _raw(
    bench: Bench, servers: list[Server], what: str, wants_of: Callable[[str], list[bytes]]
) -> list[Measurement]:
    promise = Promise("within 1.1 times the peer", at_most=1.1)
    wall = Measurement(what, "ms", promise=promise)
    cpu = Measurement(f"{what}, server CPU", "ms", promise=promise)
    size = Measurement(f"{what}, bytes sent", "MB")

    def once(server: Server) -> None:
        sizes: list[int] = []

        def work() -> None:
            sizes.append(Clone(server.remote, wants_of(server.name)).finish())

        cost = cost_of(server, work, times=_RAW_CLONES)
        wall.add(server, cost.wall_s * 1000)
        cpu.add(server, None if cost.server_cpu_s is None else cost.server_cpu_s * 1000)
        size.add(server, sizes[-1] / 1e6)

    alternate(servers, bench.rounds, once)
    return [wall, cpu, size]


def clones(
    bench: Bench, how: str, servers: list[Server], url_of: Callable[[Server], str]
) -> list[Measurement]:
    """`git clone --bare` over any transport; the client's own work hides most of the server's."""
    promise = Promise("within 1.1 times the peer", at_most=1.1)
    wall = Measurement(f"git clone --bare {how}", "ms", promise=promise)
    cpu = Measurement(f"git clone --bare {how}, server CPU", "ms")

    def once(server: Server) -> None:
        target = bench.scratch("clone")
        argv = ["git", "clone", "--quiet", "--bare", url_of(server), str(target)]
        cost = cost_of(server, lambda: run(argv, environment(server)))
        wall.add(server, cost.wall_s * 1000)
        cpu.add(server, None if cost.server_cpu_s is None else cost.server_cpu_s * 1000)
        shutil.rmtree(target)

    alternate(servers, bench.rounds, once)
    return [wall, cpu]
