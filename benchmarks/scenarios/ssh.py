"""Clone and small push over SSH, against OpenSSH."""

from benchmarks.measure import Measurement
from benchmarks.scenarios import Bench
from benchmarks.scenarios.full_clone import clones
from benchmarks.scenarios.small_push import pushes
from benchmarks.servers import Server


def measure(bench: Bench) -> list[Measurement]:
    servers = [bench.over_ssh, bench.ours]
    return [*clones(bench, "over SSH", servers, _url), *pushes(bench, "over SSH", servers, _url)]


def _url(server: Server) -> str:
    if server.ssh_url is None:
        message = f"{server.name} does not speak SSH"
        raise RuntimeError(message)
    return server.ssh_url
