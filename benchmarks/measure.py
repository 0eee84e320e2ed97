"""Alternating rounds, medians, ratios, and what was promised about them."""

import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.servers import Server

Better = Literal["less", "more"]


@dataclass(frozen=True, slots=True)
class Promise:
    """What must hold: a ratio of medians to the peer, or a number that is Mainstay's own."""

    words: str
    at_most: float | None = None
    at_least: float | None = None

    def is_kept_by(self, value: float) -> bool:
        return (self.at_most is None or value <= self.at_most) and (
            self.at_least is None or value >= self.at_least
        )


@dataclass(slots=True)
class Measurement:
    """One row of the table."""

    name: str
    unit: str
    values: dict[str, list[float]] = field(default_factory=dict)
    """By server, one value per round."""
    promise: Promise | None = None
    note: str = ""

    def add(self, server: Server, value: float | None) -> None:
        if value is not None:
            self.values.setdefault(server.name, []).append(value)

    def median(self, name: str) -> float | None:
        values = self.values.get(name)
        return statistics.median(values) if values else None

    @property
    def judged(self) -> float | None:
        """The ratio ours : peer, or our own median when there is no peer."""
        medians = [self.median(name) for name in self.values]
        ours = self.median("Mainstay")
        peer = next((self.median(name) for name in self.values if name != "Mainstay"), None)
        if ours is None or None in medians:
            return None
        return ours / peer if peer else ours

    @property
    def is_kept(self) -> bool | None:
        """None when nothing was promised or nothing could be measured."""
        judged = self.judged
        return None if self.promise is None or judged is None else self.promise.is_kept_by(judged)


def alternate(servers: Sequence[Server], rounds: int, once: Callable[[Server], None]) -> None:
    """A B A B …: the machine's speed drifts, and must drift under all alike."""
    for number in range(rounds):
        order = servers if number % 2 == 0 else list(reversed(servers))
        for server in order:
            once(server)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one piece of work took."""

    wall_s: float
    server_cpu_s: float | None


def cost_of(server: Server, work: Callable[[], object], *, times: int = 1) -> Cost:
    """The mean cost of `times` repetitions."""
    cpu_before, before = server.group.cpu_s(), time.perf_counter()
    for _ in range(times):
        work()
    wall_s = (time.perf_counter() - before) / times
    cpu_after = server.group.cpu_s()
    if cpu_before is None or cpu_after is None:
        return Cost(wall_s, None)
    return Cost(wall_s, (cpu_after - cpu_before) / times)


def run(argv: Sequence[str], environment: dict[str, str]) -> str:
    """Run a client to its end and return its output; raises with its complaint when it fails."""
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        message = f"{' '.join(argv)}: exit {done.returncode}: {done.stderr[-2000:]}"
        raise RuntimeError(message)
    return done.stdout
