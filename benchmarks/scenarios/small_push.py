"""One commit of one file, pushed by git over HTTP, one after the other."""

import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import Measurement, Promise, alternate, cost_of, run
from benchmarks.scenarios import Bench, environment
from benchmarks.servers import Server

_PUSHES = 5
"""Per round and server; their mean counts as one value."""
_AS_FAST = Promise("no slower than the peer", at_most=1.0)


def measure(bench: Bench) -> list[Measurement]:
    servers = [bench.over_http, bench.ours]
    return pushes(bench, "over HTTP", servers, lambda server: server.remote.url)


def pushes(
    bench: Bench,
    how: str,
    servers: list[Server],
    url_of: Callable[[Server], str],
    *,
    promise: Promise = _AS_FAST,
) -> list[Measurement]:
    """The same over any transport, and between any two."""
    wall = Measurement(f"small git push {how}", "ms", promise=promise)
    cpu = Measurement(f"small git push {how}, server CPU", "ms")
    senders = {server.name: Sender(bench, how, server, url_of(server)) for server in servers}

    def once(server: Server) -> None:
        cost = cost_of(server, senders[server.name].push, times=_PUSHES)
        wall.add(server, cost.wall_s * 1000)
        cpu.add(server, None if cost.server_cpu_s is None else cost.server_cpu_s * 1000)

    alternate(servers, bench.rounds, once)
    for sender in senders.values():
        sender.close()
    return [wall, cpu]


class Sender:
    """A clone with commits made beforehand, so that only the push is timed."""

    def __init__(self, bench: Bench, how: str, server: Server, url: str) -> None:
        self._environment = environment(server)
        self._clone = bench.scratch("sender")
        self._branch = f"refs/heads/bench-{how.replace(' ', '-').lower()}"
        run(["git", "clone", "--quiet", url, str(self._clone)], self._environment)
        self._commits = [self._commit(number) for number in range(_PUSHES * bench.rounds)]

    @property
    def has_more(self) -> bool:
        return bool(self._commits)

    def _git(self, *arguments: str) -> str:
        return run(["git", "-C", str(self._clone), *arguments], self._environment)

    def _commit(self, number: int) -> str:
        name = f"bench-{number:04}.txt"
        Path(self._clone, name).write_text(f"{number}\n" * 20)
        self._git("add", name)
        self._git("commit", "--quiet", "--message", f"Add {name}")
        return self._git("rev-parse", "HEAD").strip()

    def push(self) -> None:
        self._git("push", "--quiet", "origin", f"{self._commits.pop(0)}:{self._branch}")

    def close(self) -> None:
        shutil.rmtree(self._clone)
