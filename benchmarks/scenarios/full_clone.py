"""A full clone over HTTP: by a client that throws the pack away, and by git."""

import shutil
from collections.abc import Callable

from benchmarks.measure import Measurement, Promise, alternate, cost_of, run
from benchmarks.protocol import Clone, list_refs, wanted
from benchmarks.scenarios import Bench, environment
from benchmarks.servers import Server

_RAW_CLONES = 5


def measure(bench: Bench) -> list[Measurement]:
    servers = [bench.over_http, bench.ours]
    promise = Promise("within 1.1 times the peer", at_most=1.1)
    raw = Measurement("full clone, client discards the pack", "ms", promise=promise)
    raw_cpu = Measurement("the same, server CPU", "ms", promise=promise)
    size = Measurement("the same, bytes sent", "MB")
    wants = {server.name: wanted(list_refs(server.remote)) for server in servers}

    def once(server: Server) -> None:
        remote = server.remote
        sizes: list[int] = []

        def work() -> None:
            sizes.append(Clone(remote, wants[server.name]).finish())

        cost = cost_of(server, work, times=_RAW_CLONES)
        raw.add(server, cost.wall_s * 1000)
        raw_cpu.add(server, None if cost.server_cpu_s is None else cost.server_cpu_s * 1000)
        size.add(server, sizes[-1] / 1e6)

    alternate(servers, bench.rounds, once)
    return [raw, raw_cpu, size, *clones(bench, "over HTTP", servers, lambda server: server.remote.url)]


def clones(
    bench: Bench, how: str, servers: list[Server], url_of: Callable[[Server], str]
) -> list[Measurement]:
    """`git clone --bare` over any transport."""
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
